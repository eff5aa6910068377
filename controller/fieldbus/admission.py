"""Which plan is let in: every bus must keep up, best-effort groups are stretched where that is enough. And its page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from controller.config.plan import AGE_PERIODS, BusPlan, Plan, PointPlan, without
from controller.config.problems import ConfigError, Problem
from controller.core.pod import outputs
from controller.fieldbus.planner import BIT_TABLES, Span, read_s
from controller.fieldbus.schedule import RATES, Schedule, analyse

DEAD = (1, 3)  # silent units that the head-room is told for
STRETCH_MAX = 60.0
STRETCH_STEP = 1.01  # the least factor is found to within this
PERIOD_STEP_S = 0.1
NAMED_MAX = 5  # spans of a refused bus that are named


@dataclass(frozen=True, slots=True)
class Admitted:
    """A plan that its buses can carry.

    Attributes:
        plan: with the periods that are kept.
        schedules: of every bus, in the order of the plan.
        dead: of every bus, by the number of silent units.
        notes: what was stretched, a line for each bus.
    """

    plan: Plan
    schedules: tuple[Schedule, ...]
    dead: Mapping[int, tuple[Schedule, ...]]
    notes: tuple[str, ...]


def admitted(plan: Plan, file: str) -> Admitted:
    """Return ``plan`` as its buses can carry it.

    Raises:
        ConfigError: a bus can't keep up, with the rows that break it.
    """
    written, refresh_s = [output.point for output in outputs(plan.pod)], plan.pod.protection.refresh_s
    buses: list[BusPlan] = []
    schedules: list[Schedule] = []
    notes: list[str] = []
    problems: list[Problem] = []
    for bus in plan.buses:
        schedule = analyse(bus, written, refresh_s)
        factor = 1.0
        if not schedule.feasible:
            factor = _least_factor(plan, bus, written, refresh_s)
        if factor > 1.0:
            bus = stretched(bus, plan.best_effort, factor)
            schedule = analyse(bus, written, refresh_s)
            periods = sorted({f"{p.row.rate} every {p.period_s:g} s" for p in _best_effort(bus, plan.best_effort)})
            notes.append(f"{bus.name}: too full for its rates; best effort: {', '.join(periods)}")
        problems += _problems(bus, schedule, file)
        buses.append(bus)
        schedules.append(schedule)
    if problems:
        raise ConfigError(problems)
    points = {p.point.id: p.point for bus in buses for device in bus.devices for p in device.points}
    kept = dataclasses.replace(plan, buses=tuple(buses), pod=dataclasses.replace(plan.pod, points=points))
    dead = {number: tuple(analyse(bus, written, refresh_s, number) for bus in buses) for number in DEAD}
    return Admitted(kept, tuple(schedules), dead, tuple(notes))


def _best_effort(bus: BusPlan, groups: Iterable[str]) -> Iterator[PointPlan]:
    """Return the points whose period may be stretched; never a safety point."""
    for device in bus.devices:
        for plan in device.points:
            if plan.row.rate in groups and plan.period_s is not None and not plan.point.safety:
                yield plan


def _least_factor(plan: Plan, bus: BusPlan, written: Iterable[str], refresh_s: float) -> float:
    """Return the least factor on the periods of best-effort groups with which ``bus`` keeps up; 1 if there is none."""

    def enough(factor: float) -> bool:
        return analyse(stretched(bus, plan.best_effort, factor), written, refresh_s).feasible

    if next(_best_effort(bus, plan.best_effort), None) is None or not enough(STRETCH_MAX):
        return 1.0
    low, high = 1.0, STRETCH_MAX
    while high / low > STRETCH_STEP:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def stretched(bus: BusPlan, groups: Iterable[str], factor: float) -> BusPlan:
    """Return ``bus`` with the points of ``groups`` read less often by ``factor``, and as much longer before STALE."""
    chosen = {plan.point.id for plan in _best_effort(bus, groups)}

    def slower(plan: PointPlan) -> PointPlan:
        if plan.point.id not in chosen or plan.period_s is None:
            return plan
        period_s = round(math.ceil(plan.period_s * factor / PERIOD_STEP_S - 1e-6) * PERIOD_STEP_S, 3)
        return PointPlan(dataclasses.replace(plan.point, max_age_s=AGE_PERIODS * period_s), plan.row, period_s)

    devices = (dataclasses.replace(device, points=tuple(map(slower, device.points))) for device in bus.devices)
    return dataclasses.replace(bus, devices=tuple(devices))


# ---------------------------------------------------------------- refusals


def _problems(bus: BusPlan, schedule: Schedule, file: str) -> Iterator[Problem]:
    table, budget_ms = f"buses.{bus.name}", bus.settings.write_budget_ms
    cost_s = {id(span): read_s(bus.settings, span) for span in schedule.spans}
    longest = max(schedule.spans, key=lambda span: cost_s[id(span)], default=None)
    if longest is not None and 1000 * cost_s[id(longest)] > budget_ms:
        least = math.ceil(1000 * cost_s[id(longest)])
        remedy = f"{_named(longest)}, which can't be split, takes {least} ms to read; allow at least that"
        yield Problem(file, table, "write_budget_ms", str(budget_ms), remedy)
    if schedule.overrun_s is None:
        return
    quicker = "at a higher baud rate" if bus.settings.serial else "from quicker devices"
    work = f"up to {schedule.work_s:.2f} s of work in {schedule.overrun_s:g} s"
    remedy = f"{work}; read less often ([rates]), {quicker}, or on two buses. What takes most:"
    yield Problem(file, table, "load", f"{100 * schedule.utilisation:.0f} %", remedy)
    cyclic = [span for span in schedule.spans if span.period_s is not None]
    inside = [span for span in cyclic if (span.period_s or 0.0) <= schedule.overrun_s]
    shares = {id(span): cost_s[id(span)] / (span.period_s or 1.0) for span in cyclic}
    for span in sorted(inside or cyclic, key=lambda span: -shares[id(span)])[:NAMED_MAX]:
        size = f"{span.count} {'bit' if span.table in BIT_TABLES else 'register'}{'s' if span.count > 1 else ''}"
        remedy = f"{size}, {1000 * cost_s[id(span)]:.0f} ms each time, {100 * shares[id(span)]:.1f} % of the bus"
        yield Problem(file, table, _named(span), f"every {span.period_s:g} s", remedy)
    late = [span for span in cyclic if (span.period_s or 0.0) > schedule.overrun_s]
    if inside and late:
        blocker = max(late, key=lambda span: cost_s[id(span)])
        remedy = f"may just have begun and takes {1000 * cost_s[id(blocker)]:.0f} ms; a lower write_budget_ms splits it"
        yield Problem(file, table, _named(blocker), f"every {blocker.period_s:g} s", remedy)


def _named(span: Span) -> str:
    first = next((plan for plan in span.points if plan.period_s == span.period_s), span.points[0])
    more = len(span.points) - 1
    return first.point.id + (f" and {more} more" if more else "")


# ---------------------------------------------------------------- the page


def page(taken: Admitted) -> str:
    """Return the plan on one page: the pod, then a line for each bus."""
    plan, devices = taken.plan, list(taken.plan.devices)
    points = sum(len(device.points) for device in devices)
    lines = [
        f"{plan.name} at {plan.site}, revision {plan.revision}",
        f"scan every {1000 * plan.scan_s:.0f} ms; {len(plan.buses)} buses, {len(devices)} devices, "
        f"{points} points, {len(plan.pod.racks)} racks",
        "",
        f"{'':<84}{'worst staleness, s':^20}{'  write, ms':<14}{'use with dead':>14}",
        f"{'bus':<12}{'link':<28}{'devices':>8}{'points':>7}{'spans':>6}{'words':>6}{'polls/s':>8}{'use':>7}"
        f"{'fast':>8}{'normal':>7}{'slow':>7}{'one':>7}{'all':>7}{'1':>8}{'3':>7}",
    ]
    for index, (bus, schedule) in enumerate(zip(plan.buses, taken.schedules, strict=True)):
        settings = bus.settings
        link = f"{settings.host}:{settings.port}" if settings.networked else str(settings.port)
        link += f" {settings.baud}" if settings.serial else ""
        stale = [_staleness(schedule, name) for name in RATES]
        late = [_writing(schedule.write_s), _writing(schedule.writes_s)]
        dead = [_headroom(taken.dead[number][index]) for number in DEAD]
        lines.append(
            f"{schedule.bus:<12}{link:<28}{schedule.devices:>8}{schedule.points:>7}{len(schedule.spans):>6}"
            f"{schedule.words:>6}{schedule.polls_per_s:>8.1f}{100 * schedule.utilisation:>6.1f}%"
            f"{stale[0]:>8}{stale[1]:>7}{stale[2]:>7}{late[0]:>7}{late[1]:>7}{dead[0]:>8}{dead[1]:>7}"
        )
    spans, words = sum(len(one.spans) for one in taken.schedules), sum(one.words for one in taken.schedules)
    polls = sum(one.polls_per_s for one in taken.schedules)
    lines.append(f"{'all':<12}{'':<28}{len(devices):>8}{points:>7}{spans:>6}{words:>6}{polls:>8.1f}")
    return "\n".join([*lines, "", *LEGEND, *without(plan.pod), *taken.notes])


LEGEND = (
    "use: share of the bus's time. worst staleness: age of a value when the next one comes, as the bus runs from its",
    "start; at most twice the period while nothing fails or switches. write: longest from order to end: one, all.",
    "use with dead: with 1 or 3 units silent; * some reads come late while a probe waits; - no unit is left.",
)


def _staleness(schedule: Schedule, name: str) -> str:
    known = schedule.staleness.get(name)
    return "-" if known is None or known.worst_s is None else f"{known.worst_s:.2f}"


def _writing(seconds: float) -> str:
    return f"{1000 * seconds:.0f}" if seconds else "-"


def _headroom(schedule: Schedule) -> str:
    if not schedule.devices:
        return "-"
    return f"{100 * schedule.utilisation:.0f}%" + ("" if schedule.feasible else "*")
