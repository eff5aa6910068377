"""What a bus worker knows of one unit: its spans and when each is due, how quick it is, whether it answers. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from controller.config.enclosure import Bus
from controller.config.plan import DevicePlan, PointPlan
from controller.fieldbus import frames
from controller.fieldbus.frames import Request
from controller.fieldbus.planner import Span, character_s, plan_spans, read_s, usual_s

SILENT_AFTER = 3  # failures in a row until a device counts as silent
PROBE_FIRST_S = 2.0
PROBE_MAX_S = 60.0
PROBE_SHARE = 0.05  # of the bus's time, for all probes together
RETRY_ONCE_S = 5.0
ONCE_DEADLINE_S = 3.0
RTU_OVERHEAD_BYTES = 3  # unit and check sum
SLOWEST_FADES = 0.999  # a slow answer is remembered for about a thousand answers
TIMEOUT_FACTOR = 4.0  # of the slowest answer seen
TIMEOUT_LEAST_S = 0.03
ANSWERS_KNOWN = 20  # after so many answers a unit's quickness is known
PATIENCE_S = 30.0  # how often one of the units that do not answer is given more time than it used to need
NEVER = float("inf")


@dataclass(slots=True)
class Due:
    """A span, the request that reads it, when it is to be read next (monotonic seconds), and how long that takes."""

    span: Span
    request: Request
    at: float
    cost_s: float

    @property
    def deadline(self) -> float:
        """What is read often goes before what is read seldom, and that before what is read once."""
        return self.at + (ONCE_DEADLINE_S if self.span.period_s is None else self.span.period_s)

    def next(self, now: float) -> None:
        """Set the next release: whole periods after the first one, however late this read is; missed ones are left out.

        So two spans whose deadlines are equal once stay equal, and the order that the timetable foresees is kept.
        """
        period = self.span.period_s
        self.at = NEVER if period is None else self.at + period * max(1, (now - self.at) // period)

    def retry(self, now: float) -> None:
        if self.span.period_s is None:
            self.at = now + RETRY_ONCE_S


def _due(span: Span, at: float, settings: Bus) -> Due:
    request = frames.read(span.device.unit, span.table, span.address, span.count)
    return Due(span, request, at, usual_s(settings, read_s(settings, span)))


def on_wire_s(settings: Bus, request: Request) -> float:
    """Return the time that a request and its reply take on the wire, in seconds; 0 for TCP."""
    if not settings.serial:
        return 0.0
    return (len(request.pdu) + request.reply_bytes + 2 * RTU_OVERHEAD_BYTES) * character_s(settings)


class Unit:
    """One device on a bus.

    Attributes:
        answering: None before its first answer.
        patient_at: when it was last given more time than it used to need.
    """

    def __init__(self, device: DevicePlan, settings: Bus, now: float) -> None:
        self.device = device
        self.name = device.name
        self.answering: bool | None = None
        self.spans = [_due(span, now, settings) for span in plan_spans(device, settings)]
        self._settings = settings
        self.patient_at = 0.0
        self._failures = 0
        self._answers = 0
        self._probe_s = PROBE_FIRST_S
        self._probe_at = 0.0
        self._slowest_s = device.profile.link.device_time_ms / 1000

    def candidates(self, probe_at: float) -> list[Due]:
        """Return what may be read: all spans, or of a silent unit the cheapest one as a probe, within the budget."""
        if self.answering is not False or not self.spans:
            return self.spans
        cheapest = min(self.spans, key=lambda due: due.span.count)
        return [replace(cheapest, at=max(self._probe_at, probe_at))]

    def together(self, first: Due, now: float) -> list[Due]:
        """Return the reads to make at once: ``first``, and those due next if the device takes several by TCP.

        All of them together are planned to take no longer than the bus's write budget, so that a write waits no longer
        than it may.
        """
        most = self.device.profile.link.pipeline if self._settings.kind == "tcp" else 1
        if most == 1 or not self.answering:
            return [first]
        chosen, left_s = [first], self._settings.write_budget_ms / 1000 - read_s(self._settings, first.span)
        due = (other for other in self.spans if other.at <= now and other is not first)
        for other in sorted(due, key=lambda other: other.deadline)[: most - 1]:
            left_s -= read_s(self._settings, other.span)
            if left_s < 0:
                break
            chosen.append(other)
        return chosen

    def begin(self, now: float) -> None:
        """Release at once, and together, what fell due while the link was not open: the timetable starts here."""
        for due in self.spans:
            due.at = max(due.at, now)

    @property
    def failing(self) -> bool:
        return self._failures > 0

    def timeout_s(self, request: Request, *, patient: bool = False) -> float:
        """Return how long to wait: what the wire takes, and a multiple of the slowest answer seen.

        The bus's own timeout is the limit. It is given in full while the unit is not known yet, and to a ``patient``
        try, so that a unit that has become slower is not taken for a silent one for ever. A silent unit gets no more
        than a write may have to wait.
        """
        most = self._settings.timeout_ms / 1000
        if self.answering is not False and (patient or self._answers < ANSWERS_KNOWN):
            return on_wire_s(self._settings, request) + most
        used = TIMEOUT_FACTOR * self._slowest_s
        if patient:
            used = max(used, self._settings.write_budget_ms / 1000)
        return on_wire_s(self._settings, request) + min(most, max(TIMEOUT_LEAST_S, used))

    def took(self, request: Request, seconds: float) -> None:
        """Learn how quick the unit is."""
        self._answers += 1
        own = max(0.0, seconds - on_wire_s(self._settings, request))
        self._slowest_s = max(own, self._slowest_s * SLOWEST_FADES)

    def answered(self, now: float) -> bool:
        """Note an answer; return True when the unit was not known to answer before. One that was silent is read now."""
        self._failures = 0
        if self.answering is True:
            return False
        returned = self.answering is False
        self.answering, self._probe_s = True, PROBE_FIRST_S
        if returned:
            for due in self.spans:
                due.at = min(due.at, now)
        return True

    def failed(self, now: float) -> bool:
        """Note a failure; return True when the unit has just become silent."""
        self._failures += 1
        if self._failures < SILENT_AFTER:
            return False
        self.answering, self._probe_at = False, now + self._probe_s
        return True

    def probed(self, now: float, silent: int) -> float:
        """Note a probe without answer; return when the next probe of any of ``silent`` units may be made.

        Units are probed as often as the budget of the bus allows, but each at most every 2 s and at least every 60 s.
        """
        cheapest = min(self.spans, key=lambda due: due.span.count)
        cost_s = self.timeout_s(cheapest.request)
        share_s = cost_s / PROBE_SHARE
        self._probe_s = min(max(PROBE_FIRST_S, silent * share_s), PROBE_MAX_S)
        self._probe_at = now + self._probe_s
        return now + share_s - cost_s

    def split(self, due: Due) -> bool:
        """Read a refused span in two halves from now on; return False when it is one value, which can't be split."""
        values = sorted({(plan.row.address, plan.row.width) for plan in due.span.points})
        if len(values) < 2:
            return False
        middle = values[len(values) // 2][0]
        halves = [[p for p in due.span.points if (p.row.address < middle) is low] for low in (True, False)]
        if not all(halves):
            return False
        self.spans.remove(due)
        for points in halves:
            first = min(plan.row.address for plan in points)
            end = max(plan.row.address + plan.row.width for plan in points)
            half = replace(due.span, address=first, count=end - first, points=tuple(points))
            self.spans.append(_due(half, 0.0, self._settings))
        return True

    def read_back(self, plan: PointPlan, at: float) -> None:
        """Read a point back soon after it was written; a run of writes is read back once for all."""
        for due in self.spans:
            if due.span.period_s is not None and plan in due.span.points:
                due.at = min(due.at, at)


class Patience:
    """Whole timeouts for units that do not answer, at most one each ``PATIENCE_S`` on a bus, by turns.

    Several units that fall silent at once would otherwise hold up the others for the sum of their timeouts.
    """

    def __init__(self, units: Collection[Unit]) -> None:
        self._units = units
        self._free_at = 0.0

    def allows(self, unit: Unit, now: float) -> bool:
        return (
            now >= self._free_at
            and unit.failing
            and unit is min((u for u in self._units if u.failing), key=lambda u: u.patient_at)
        )

    def spent(self, unit: Unit, now: float) -> None:
        """Note that ``unit`` did not answer in the time it was given."""
        unit.patient_at, self._free_at = now, now + PATIENCE_S
