"""The analysis of a bus against a plain simulation of the bus worker's discipline, written apart from it."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controller.config.enclosure import Bus
from controller.config.plan import BusPlan
from controller.core.pod import outputs
from controller.fieldbus.planner import gap_s, read_s, usual_s, write_s
from controller.fieldbus.schedule import Load, Schedule, Task, analyse, overrun, response
from controller.fieldbus.writes import BACK_S
from tests.core.model import reference_plan
from tests.fieldbus.planner_test import device

MS = 1000
READ_BACK = round(BACK_S * 1_000_000)


@dataclass
class Span:
    """A span of the simulated worker, in microseconds."""

    cost: int
    silence: int
    period: int
    at: int = 0
    started: int | None = None
    worst: int = 0
    longest: int = 0
    missed: bool = False


@dataclass
class Worker:
    """One exchange at a time: writes first, then the released span with the earliest deadline, the first of equals."""

    spans: list[Span]
    writes: list[tuple[int, int, int | None]] = field(default_factory=list)  # (when, cost, span to read back)
    waits: list[int] = field(default_factory=list)

    def run(self, until: int) -> None:
        now = min([0, *(span.at for span in self.spans)])
        self.writes.sort(key=lambda write: write[0])
        while now < until:
            if self.writes and self.writes[0][0] <= now:
                when, cost, back = self.writes.pop(0)
                now += cost
                self.waits.append(now - when)
                if back is not None:
                    self.spans[back].at = min(self.spans[back].at, now + READ_BACK)
                continue
            due = [span for span in self.spans if span.at <= now]
            if due:
                now = self.read(min(due, key=lambda span: span.at + span.period), now)
            else:
                now = min([span.at for span in self.spans] + [write[0] for write in self.writes])

    @staticmethod
    def read(span: Span, now: int) -> int:
        release, end = span.at, now + span.cost
        span.at = max(span.at + span.period, now)
        if span.started is not None:
            span.worst = max(span.worst, end - span.silence - span.started)
        span.started = now
        span.longest = max(span.longest, end - release)
        span.missed = span.missed or end > release + span.period
        return end


def spans_of(load: Load, phases: list[int]) -> list[Span]:
    return [Span(task.cost, 0, task.period, phase) for task, phase in zip(load.reads, phases, strict=True)]


tasks = st.lists(
    st.tuples(st.integers(1, 150), st.sampled_from([200, 300, 500, 700, 1000, 2000, 5000])), min_size=1, max_size=8
).map(lambda rows: Load(tuple(Task(cost * MS, period * MS, period * MS) for cost, period in rows)))
phases = st.lists(st.integers(0, 5_000_000), min_size=8, max_size=8)


@given(tasks, phases)
@settings(max_examples=300, deadline=None)
def test_a_feasible_bus_misses_nothing_in_any_phase(load: Load, starts: list[int]) -> None:
    assume(overrun(load) is None)
    worker = Worker(spans_of(load, starts[: len(load.reads)]))
    worker.run(30_000_000)
    assert not any(span.missed for span in worker.spans)
    for span in worker.spans:
        bound = response(load, span.period)
        assert bound is None or span.longest <= bound
        assert bound is None or bound <= span.period


@given(tasks)
@settings(max_examples=300, deadline=None)
def test_an_infeasible_bus_misses_a_deadline(load: Load) -> None:
    """Jeffay et al.: the condition is necessary. The longest later read has just begun when all others are released."""
    length = overrun(load)
    assume(length is not None)
    assert length is not None
    later = [index for index, task in enumerate(load.reads) if task.deadline > length]
    starts = [1] * len(load.reads)
    if later and load.utilisation <= 1:
        starts[max(later, key=lambda index: load.reads[index].cost)] = 0
    worker = Worker(spans_of(load, starts))
    worker.run(2_000_000_000 if load.utilisation > 1 else 2 * length)
    assert any(span.missed for span in worker.spans)


refreshed = st.lists(st.tuples(st.integers(1, 30), st.sampled_from([500, 1000, 2000]), st.integers(0, 7)), max_size=4)


@given(tasks, refreshed, st.integers(0, 1 << 30))
@settings(max_examples=300, deadline=None)
def test_bounds_hold_with_writes_and_read_backs_wherever_they_fall(
    load: Load, rows: list[tuple[int, int, int]], seed: int
) -> None:
    writes, backs, orders = [], [], []
    chance = random.Random(seed)
    for cost, period, index in rows:
        back = index % len(load.reads)
        task = load.reads[back]
        writes.append(Task(cost * MS, period * MS, period * MS))
        backs.append(Task(task.cost, period * MS, task.deadline))
        when = chance.randrange(2_000_000)
        while when < 20_000_000:
            orders.append((when, cost * MS, back))
            when += period * MS + chance.choice((0, 0, 1, chance.randrange(300_000)))
    full = Load(load.reads + tuple(backs), tuple(writes))
    assume(overrun(full) is None)
    worker = Worker(spans_of(load, [chance.choice((0, chance.randrange(3_000_000))) for _ in load.reads]), orders)
    worker.run(20_000_000)
    assert not any(span.missed for span in worker.spans)
    for span in worker.spans:
        bound = response(full, span.period)
        assert bound is None or span.worst <= span.period + bound
    longest = max(task.cost for task in load.reads)
    assert max(worker.waits, default=0) <= longest + sum(task.cost for task in writes)


def bus_of(chance: random.Random) -> BusPlan:
    """Return a bus of made-up devices: few or many registers, quick or slow to answer, at one of four speeds."""
    serial = next(bus for bus in reference_plan().buses if bus.settings.kind == "rtu")
    baud = chance.choice((9600, 19200, 38400, 115200))
    settings = serial.settings.model_copy(update={"baud": baud, "write_budget_ms": 400})
    periods = {"fast": chance.choice((0.2, 0.5, 1.0)), "normal": chance.choice((1.0, 1.5, 2.0)), "slow": 10.0}
    devices = []
    for number in range(chance.randrange(1, 9)):
        rows = []
        for _ in range(chance.randrange(1, 16)):
            rows.append({"address": chance.randrange(60), "rate": chance.choice(list(periods))})
        made = device(rows, device_time_ms=chance.choice((2.0, 10.0, 30.0)), max_read_words=chance.choice((4, 20, 125)))
        points = tuple(dataclasses.replace(plan, period_s=periods[plan.row.rate]) for plan in made.points)
        devices.append(dataclasses.replace(made, name=f"d{number}", unit=number + 1, points=points))
    return BusPlan("made_up", settings, tuple(devices))


def simulated(bus: Bus, schedule: Schedule, seconds: float) -> dict[str, float]:
    """Return the worst staleness of each rate group as the simulation has it, everything being due at the start."""
    cyclic = [span for span in schedule.spans if span.period_s is not None]
    spans = [
        Span(
            round(1e6 * usual_s(bus, read_s(bus, span))),
            round(1e6 * gap_s(bus, span.device.profile.link)),
            round(1e6 * (span.period_s or 0)),
        )
        for span in cyclic
    ]
    worker = Worker(spans)
    worker.run(round(1e6 * seconds))
    worst: dict[str, float] = {}
    for planned, span in zip(cyclic, worker.spans, strict=True):
        for group in {plan.row.rate for plan in planned.points}:
            worst[group] = max(worst.get(group, 0.0), span.worst / 1e6)
    return worst


def test_predicted_staleness_is_what_a_simulation_sees() -> None:
    """200 buses, feasible or not: never below, and within 10 %; and never above the bound."""
    chance = random.Random(7)
    feasible = 0
    for _ in range(200):
        bus = bus_of(chance)
        schedule = analyse(bus, [], 2.0)
        feasible += schedule.feasible
        if not schedule.feasible:
            continue
        for group, seen_s in simulated(bus.settings, schedule, 60.0).items():
            predicted = schedule.staleness[group]
            assert predicted.worst_s is not None
            assert seen_s - 1e-4 <= predicted.worst_s <= 1.1 * seen_s
            assert predicted.bound_s is None or seen_s <= predicted.bound_s + 1e-4
    assert 40 < feasible < 180


def test_a_write_waits_for_one_span_and_its_silence() -> None:
    """The bound of one write is the longest read, with the silence after it, and the write itself."""
    plan = reference_plan()
    names = [output.point for output in outputs(plan.pod)]
    for bus in plan.buses:
        schedule = analyse(bus, names, plan.pod.protection.refresh_s)
        written = [(d, p) for d in bus.devices for p in d.points if p.point.id in names]
        longest = max((write_s(bus.settings, d, p.row) for d, p in written), default=None)
        if longest is None:
            assert schedule.write_s == 0
            continue
        assert schedule.write_s == pytest.approx(max(read_s(bus.settings, s) for s in schedule.spans) + longest)
        assert schedule.blocking_s <= bus.settings.write_budget_ms / 1000
        assert schedule.writes_s >= schedule.write_s


def test_the_reference_pod_fits_its_buses() -> None:
    plan = reference_plan()
    names = [output.point for output in outputs(plan.pod)]
    for bus in plan.buses:
        schedule = analyse(bus, names, plan.pod.protection.refresh_s)
        assert schedule.feasible, bus.name
        assert schedule.utilisation < 0.9, bus.name
        for staleness in schedule.staleness.values():
            assert staleness.worst_s is not None
            assert staleness.bound_s is not None
            assert staleness.worst_s <= staleness.bound_s


def test_outputs_and_silent_units_count() -> None:
    plan = reference_plan()
    cooling = next(bus for bus in plan.buses if bus.name == "cooling")
    names = [output.point for output in outputs(plan.pod)]
    quiet, busy = analyse(cooling, [], 2.0), analyse(cooling, names, 2.0)
    assert busy.utilisation > quiet.utilisation
    assert busy.polls_per_s > quiet.polls_per_s
    one, three = analyse(cooling, names, 2.0, dead=1), analyse(cooling, names, 2.0, dead=3)
    assert (one.devices, three.devices) == (3, 1)
    assert 0 < one.transient_s < three.transient_s
    everybody = analyse(cooling, names, 2.0, dead=9)
    assert everybody.devices == 0
    assert everybody.write_s == 0


def test_a_device_that_answers_more_slowly_than_its_profile_says_costs_more() -> None:
    cooling = next(bus for bus in reference_plan().buses if bus.name == "cooling")
    learned = analyse(cooling, [], 2.0, device_times_s={"pump_1": 0.05})
    assert learned.utilisation > analyse(cooling, [], 2.0).utilisation
