"""Will a bus keep up? Utilisation, feasibility, worst staleness, worst write latency, head-room. Pure.

The discipline is the bus worker's: one exchange at a time; writes first; then, among the spans released, the one with
the earliest deadline, which is its release plus its period. The conditions are those of Jeffay, Stanat and Martel
(1991) for non-preemptive EDF, with refreshed writes as load above all reads and read-backs as reads of their own. Times
are whole microseconds, costs rounded up, so that floors and ceilings are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from controller.config.plan import BusPlan, DevicePlan, PointPlan
from controller.fieldbus.pace import BEHIND_S
from controller.fieldbus.planner import Span, gap_s, plan_spans, read_s, usual_s, wire_s, write_s
from controller.fieldbus.timetable import US, Read, Refresh, timetable, us
from controller.fieldbus.units import (
    ONCE_DEADLINE_S,
    PATIENCE_S,
    PROBE_FIRST_S,
    PROBE_SHARE,
    SILENT_AFTER,
    TIMEOUT_FACTOR,
    TIMEOUT_LEAST_S,
)
from controller.fieldbus.writes import BACK_S

HORIZON_S = 3600.0  # a bus so nearly full that its demand must be looked at for longer counts as full
RATES = ("fast", "normal", "slow")


@dataclass(frozen=True, slots=True)
class Task:
    """Something the bus does again and again, in microseconds.

    Attributes:
        cost: exchange and the silence after it.
        deadline: from its release.
    """

    cost: int
    period: int
    deadline: int


@dataclass(frozen=True)
class Load:
    """What a bus has to do.

    Attributes:
        reads: spans and, with the deadline of their span, the read-backs of refreshed outputs; probes of silent units.
        writes: refreshed outputs, ahead of all reads; their deadline means nothing.
        once: reads that are made at start only; they can still be in the way.
        together: the longest that reads sent at once to one device take; 0 where none are.
        lag: so much later than it is released a read may be seen by the worker, which goes by the timetable's time.
    """

    reads: tuple[Task, ...]
    writes: tuple[Task, ...] = ()
    once: tuple[Task, ...] = ()
    together: int = 0
    lag: int = 0

    @property
    def utilisation(self) -> float:
        return sum(task.cost / task.period for task in (*self.reads, *self.writes))

    def blocking(self, length: int) -> int:
        """Return the longest exchange with a deadline later than ``length`` that may just have begun."""
        longest = max((task.cost for task in (*self.reads, *self.once) if task.deadline > length), default=0)
        return max(longest, self.together) + self.lag if longest else 0

    def interference(self, length: int) -> int:
        """Return the most work of writes that may come within ``length``."""
        return sum(-(-length // task.period) * task.cost for task in self.writes)

    def demand(self, length: int) -> int:
        """Return the most work that must be done within ``length``: all writes that come, all reads that must end."""
        reads = sum(t.cost * ((length - t.deadline) // t.period + 1) for t in self.reads if length >= t.deadline)
        return self.interference(length) + reads

    @cached_property
    def sums(self) -> Load:
        """The same work with the tasks of one period and deadline added up. Not for ``blocking``."""
        return Load(merged(self.reads), merged(self.writes))


def merged(tasks: Iterable[Task]) -> tuple[Task, ...]:
    """Return ``tasks`` with those of one period and deadline added up."""
    sums: dict[tuple[int, int], int] = {}
    for task in tasks:
        sums[task.period, task.deadline] = sums.get((task.period, task.deadline), 0) + task.cost
    return tuple(Task(cost, period, deadline) for (period, deadline), cost in sorted(sums.items()))


def overrun(load: Load) -> int | None:
    """Return the shortest time, in microseconds, in which ``load`` asks more than the bus can do; None if never.

    Enough for feasibility whatever the phases. Without writes and read-backs it is also necessary (Jeffay et al.):
    there are phases then for which a deadline is missed.
    """
    every = (*load.reads, *load.writes)
    if not load.reads:
        return None if load.utilisation <= 1 else max(task.period for task in every)
    least = min(task.deadline for task in load.reads)
    longest = max(task.deadline for task in (*load.reads, *load.once))
    slack = 1 - load.utilisation
    carried = sum(float(task.cost) for task in load.writes)
    carried += sum(task.cost * max(0.0, 1 - task.deadline / task.period) for task in load.reads)
    if carried and slack > 0:
        longest = max(longest, math.ceil(min(carried / slack, HORIZON_S * US)))
    points = {
        *(at for t in load.sums.reads for at in range(t.deadline, longest + 1, t.period)),
        *(at + 1 for t in load.sums.writes for at in range(0, longest + 1, t.period) if at >= least),
    }
    for length in sorted(points):
        if load.blocking(length) + load.sums.demand(length) > length:
            return length
    if slack < -1e-9 or (carried and (slack <= 0 or carried / slack > HORIZON_S * US)):
        return longest
    return None


def response(load: Load, deadline: int) -> int | None:
    """Return the longest time from release to end of a read with this deadline, in any phase; None if unbounded.

    George, Rivierre and Spuri (1996): the job is released at each instant of the longest busy period at which its
    deadline coincides with another's.
    """
    if load.utilisation >= 1:
        return None
    sums = load.sums

    def everything(at: int) -> int:
        return load.blocking(0) + sums.interference(at) + sum(-(-at // t.period) * t.cost for t in sums.reads)

    busy = _fixed(everything)
    if busy is None:
        return None
    releases = {0}
    for task in sums.reads:
        first = task.deadline - deadline
        releases |= set(range(first % task.period if first < 0 else first, busy, task.period))
    worst = 0
    for release in releases:
        end = release + deadline
        before = [(t, (end - t.deadline) // t.period + 1) for t in sums.reads if end >= t.deadline]
        blocking = load.blocking(end)

        def ahead(at: int, before: list[tuple[Task, int]] = before, blocking: int = blocking) -> int:
            reads = sum(task.cost * min(-(-at // task.period), most) for task, most in before)
            return blocking + sums.interference(at) + reads

        worst = max(worst, (_fixed(ahead) or busy) - release)
    return worst


def _fixed(work: Callable[[int], int]) -> int | None:
    """Return the least time that equals the work to be done in it; None beyond the horizon."""
    at, ahead = 0, work(1)
    while ahead > at:
        at = ahead
        if at > HORIZON_S * US:
            return None
        ahead = work(at)
    return at


# ---------------------------------------------------------------- one bus


@dataclass(frozen=True, slots=True)
class Staleness:
    """How old the value of a rate group gets, from the request that brought it to the end of the next one, in seconds.

    Attributes:
        worst_s: as the bus runs from its start, every exchange taking the time it mostly takes.
        bound_s: whatever the phases, however writes fall; None when there is no bound.
    """

    worst_s: float | None
    bound_s: float | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is expected of one bus.

    Attributes:
        utilisation: share of the time the bus is busy with reads, refreshed outputs, read-backs; 1.0 is all of it.
        overrun_s: shortest time in which more would have to be done than can be; None when the plan is feasible.
        work_s: what would have to be done in that time, in seconds of the bus.
        staleness: by rate group; that of a group is its slowest point's.
        blocking_s: the longest exchange of a read with the silence after it: what a write may have to wait for.
        write_s: longest time from the order to the end of one write, without faults; 0 without outputs.
        writes_s: the same of the last one when all outputs are written at once.
        transient_s: how long the bus waits for the dead units before they count as silent.
    """

    bus: str
    devices: int
    points: int
    spans: tuple[Span, ...]
    polls_per_s: float
    utilisation: float
    overrun_s: float | None
    work_s: float
    staleness: Mapping[str, Staleness]
    blocking_s: float
    write_s: float
    writes_s: float
    transient_s: float = 0.0

    @property
    def feasible(self) -> bool:
        return self.overrun_s is None

    @property
    def words(self) -> int:
        return sum(span.count for span in self.spans)


def analyse(
    bus: BusPlan,
    outputs: Iterable[str],
    refresh_s: float,
    dead: int = 0,
    device_times_s: Mapping[str, float] | None = None,
) -> Schedule:
    """Return what is expected of ``bus``.

    Args:
        outputs: points that are written, each every ``refresh_s`` and read back soon after.
        dead: how many units do not answer: those whose silence costs the bus most.
        device_times_s: time each device takes to answer, as learned; its profile's otherwise.
    """
    work = _Work(bus, frozenset(outputs), refresh_s, device_times_s or {})
    silent = sorted((d for d in bus.devices if work.spans[d.name]), key=work.relief)[:dead]
    return work.schedule([device for device in bus.devices if device not in silent], silent)


class _Work:
    """The work of one bus, device by device, in seconds and as tasks."""

    def __init__(
        self, bus: BusPlan, outputs: frozenset[str], refresh_s: float, device_times_s: Mapping[str, float]
    ) -> None:
        self._bus = bus
        self._settings = bus.settings
        self._refresh_s = refresh_s
        self._own_s = {d.name: device_times_s.get(d.name) for d in bus.devices}
        self.spans = {d.name: plan_spans(d, bus.settings, None, self._own_s[d.name]) for d in bus.devices}
        self._outputs = {
            d.name: [plan for plan in d.points if plan.point.id in outputs and plan.row.access != "r"]
            for d in bus.devices
        }

    def _read_s(self, span: Span) -> float:
        return read_s(self._settings, span, self._own_s[span.device.name])

    def _span_of(self, device: DevicePlan, plan: PointPlan) -> Span | None:
        """Return the cyclic span that reads an output back, if writing it makes that any sooner."""
        for span in self.spans[device.name]:
            if span.period_s is not None and span.period_s > BACK_S and plan in span.points:
                return span
        return None

    def _written_each_s(self, device: DevicePlan, plan: PointPlan) -> float:
        """Return how often an output is written: as it is refreshed, and a heartbeat as it beats."""
        beat = device.profile.tables.heartbeat
        return self._refresh_s if beat is None or beat.point != plan.point.name else beat.period_s

    def _write_s(self, device: DevicePlan, plan: PointPlan, *, refresh: bool) -> float:
        own_s = self._own_s[device.name]
        return write_s(self._settings, device, plan.row, refresh=refresh, device_time_s=own_s)

    def load(self, alive: Sequence[DevicePlan], silent: Sequence[DevicePlan] = ()) -> Load:
        """Return the work of the ``alive`` devices and the probes of the ``silent`` ones."""
        reads: list[Task] = []
        writes: list[Task] = []
        once: list[Task] = []
        for device in alive:
            for span in self.spans[device.name]:
                task = _task(self._read_s(span), span.period_s or math.inf, span.period_s or ONCE_DEADLINE_S)
                (once if span.period_s is None else reads).append(task)
            for plan in self._outputs[device.name]:
                cost_s = self._write_s(device, plan, refresh=True)
                period_s = self._written_each_s(device, plan)
                writes.append(_task(cost_s, period_s, period_s))
                back = self._span_of(device, plan)
                if back is not None and back.period_s is not None:
                    reads.append(_task(self._read_s(back), period_s, back.period_s))
        reads += [self._probe(device, len(silent)) for device in silent]
        if silent:
            reads.append(self._patient_probe(silent))
        together_s = max(map(self._together_s, alive), default=0.0)
        lag = 0 if self._settings.networked else us(BEHIND_S)
        return Load(tuple(reads), tuple(writes), tuple(once), us(together_s), lag)

    def _together_s(self, device: DevicePlan) -> float:
        """Return how long the reads take that a device of a TCP connection may be sent at once (Unit.together)."""
        most = device.profile.link.pipeline
        if self._settings.kind != "tcp" or most == 1:
            return 0.0
        longest = sorted(map(self._read_s, self.spans[device.name]), reverse=True)[:most]
        return min(sum(longest), self._settings.write_budget_ms / 1000)

    def _probe(self, device: DevicePlan, silent: int) -> Task:
        """Return the probe of a silent unit: its cheapest read, as often as the share of all probes allows."""
        probe = min(self.spans[device.name], key=lambda span: span.count)
        own_s = self._own_s[device.name]
        own_s = device.profile.link.device_time_ms / 1000 if own_s is None else own_s
        timeout_s = min(self._settings.timeout_ms / 1000, max(TIMEOUT_LEAST_S, TIMEOUT_FACTOR * own_s))
        cost_s = wire_s(self._settings, probe.table, probe.count) + timeout_s
        period_s = max(PROBE_FIRST_S, silent * cost_s / PROBE_SHARE)
        cost_s += gap_s(self._settings, device.profile.link)
        return _task(cost_s, period_s, probe.period_s or ONCE_DEADLINE_S)

    def _patient_probe(self, silent: Iterable[DevicePlan]) -> Task:
        """Return the probe that now and then waits longer, for the costliest of the silent units."""
        probes = (min(self.spans[device.name], key=lambda span: span.count) for device in silent)
        wire = max(wire_s(self._settings, probe.table, probe.count) for probe in probes)
        wait_s = min(self._settings.timeout_ms, self._settings.write_budget_ms) / 1000
        return _task(wire + wait_s, PATIENCE_S, PATIENCE_S)

    def relief(self, device: DevicePlan) -> float:
        """Return how much less the bus has to do when ``device`` falls silent."""
        return self.load([device]).utilisation - self.load([], [device]).utilisation

    def _transient_s(self, silent: Iterable[DevicePlan]) -> float:
        waits = (
            max(wire_s(self._settings, s.table, s.count) for s in self.spans[device.name])
            + self._settings.timeout_ms / 1000
            + gap_s(self._settings, device.profile.link)
            for device in silent
        )
        return SILENT_AFTER * sum(waits)

    def schedule(self, alive: Sequence[DevicePlan], silent: Sequence[DevicePlan]) -> Schedule:
        spans = tuple(span for device in alive for span in self.spans[device.name])
        outputs = [(device, plan) for device in alive for plan in self._outputs[device.name]]
        load = self.load(alive, silent)
        over = overrun(load)
        blocking_s = max((*map(self._read_s, spans), load.together / US), default=0.0)
        writes = [self._write_s(device, plan, refresh=False) for device, plan in outputs]
        polls, use = self._expected(spans, outputs)
        probes = [self._probe(device, len(silent)) for device in silent]
        return Schedule(
            bus=self._bus.name,
            devices=len(alive),
            points=sum(len(device.points) for device in alive),
            spans=spans,
            polls_per_s=polls + sum(US / probe.period for probe in probes),
            utilisation=use + sum(probe.cost / probe.period for probe in probes),
            overrun_s=None if over is None else over / US,
            work_s=0.0 if over is None else (load.blocking(over) + load.demand(over)) / US,
            staleness=self._staleness(load, spans, outputs, feasible=over is None),
            blocking_s=blocking_s,
            write_s=blocking_s + max(writes) if writes else 0.0,
            writes_s=blocking_s + sum(writes) if writes else 0.0,
            transient_s=self._transient_s(silent),
        )

    def _expected(self, spans: Sequence[Span], outputs: Sequence[tuple[DevicePlan, PointPlan]]) -> tuple[float, float]:
        """Return the exchanges a second and the share of the bus they take, as they are expected.

        A read-back resets the rhythm of its span, so a span of 10 s with an output that is refreshed every 2 s is read
        every 2 s, and one of 1 s no more often than before.
        """
        backs = [self._span_of(device, plan) for device, plan in outputs]
        polls, use = sum(1 / self._written_each_s(*output) for output in outputs), 0.0
        for span in spans:
            if span.period_s is None:
                continue
            often = 1 / span.period_s
            if any(span is back for back in backs):
                each_s = min(self._written_each_s(*o) for o, back in zip(outputs, backs, strict=True) if back is span)
                often = math.ceil(each_s / span.period_s - 1e-9) / each_s
            polls += often
            use += self._read_s(span) * often
        use += sum(self._write_s(*output, refresh=True) / self._written_each_s(*output) for output in outputs)
        return polls, use

    def _staleness(
        self, load: Load, spans: Sequence[Span], outputs: Sequence[tuple[DevicePlan, PointPlan]], *, feasible: bool
    ) -> dict[str, Staleness]:
        reads = tuple(
            Read(
                us(usual_s(self._settings, self._read_s(s))),
                us(gap_s(self._settings, s.device.profile.link)),
                us(s.period_s) if s.period_s else None,
            )
            for s in spans
        )
        refreshes = []
        for device, plan in outputs:
            back = self._span_of(device, plan)
            index = next((i for i, span in enumerate(spans) if span is back), None)
            cost_s = usual_s(self._settings, self._write_s(device, plan, refresh=True))
            refreshes.append(Refresh(us(cost_s), us(self._written_each_s(device, plan)), index))
        seen = timetable(reads, tuple(refreshes))
        groups: dict[str, Staleness] = {}
        for name in RATES:
            mine = [i for i, span in enumerate(spans) if any(plan.row.rate == name for plan in span.points)]
            if not mine:
                continue
            periods = {period for index in mine if (period := reads[index].period)}
            bounds = [_bound(load, period) for period in periods] if feasible else [None]
            groups[name] = Staleness(
                worst_s=max(seen[index] for index in mine) / US,
                bound_s=None if None in bounds else max(bound for bound in bounds if bound is not None) / US,
            )
        return groups


def _bound(load: Load, period: int) -> int | None:
    late = response(load, period)
    return None if late is None else period + late


def _task(cost_s: float, period_s: float, deadline_s: float) -> Task:
    """Return the task in microseconds; what is done once only has no period that matters."""
    return Task(us(cost_s), us(period_s if math.isfinite(period_s) else HORIZON_S), us(deadline_s))
