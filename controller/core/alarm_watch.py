"""What one alarm remembers from scan to scan, and what of it survives a restart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from controller.core.alarm_load import Chatter
from controller.core.alarm_states import NEVER, Alarm, AlarmRow, AlarmState
from controller.core.blocks import Delay
from controller.core.points import Reading

SHELVE_MAX_S = 8 * 3600.0


class Aside(NamedTuple):
    """Who put an alarm aside, why, and until when (infinite: until somebody brings it back)."""

    by: str
    reason: str
    until: float


@dataclass(slots=True)
class Watch:
    """One row, its place among the rows, and everything that one alarm remembers."""

    row: AlarmRow
    place: int
    delay: Delay = field(init=False)
    rule: Delay = field(init=False)
    chatter: Chatter = field(init=False)
    alarm: Alarm | None = None
    seen: Reading | None = None
    further: AlarmRow | None = field(init=False)  # the same row with its further limit
    beyond: bool = False  # it
    shelf: Aside | None = None
    service: Aside | None = None
    entry: tuple[object, dict[str, Any]] | None = None  # what was saved last, and of what

    def __post_init__(self) -> None:
        self.delay = Delay(self.row.on_delay_s, self.row.off_delay_s)
        self.rule = Delay(0.0, self.row.on_delay_s)
        self.chatter = Chatter(self.row.off_delay_s)
        self.further = None if self.row.further is None else replace(self.row, limit=self.row.further)

    def hiding(self, alarm: Alarm | None) -> AlarmState | None:
        """Return the state that keeps ``alarm`` from being annunciated; of several, the one hardest to leave.

        A rule suppresses only what came: of alarms that are not there none would be worth listing.
        """
        if self.service:
            return AlarmState.OUT_OF_SERVICE
        if self.shelf:
            return AlarmState.SHELVED
        return AlarmState.SUPPRESSED if self.rule.state and alarm and alarm.occurrence else None

    def asks_again(self, now: float) -> bool:
        """Return whether an acknowledgement is older than the row lets it be."""
        acked_at = self.alarm.acked_at if self.alarm and self.alarm.state is AlarmState.ACKED else None
        return self.row.realarm_s > 0 and acked_at is not None and now - acked_at >= self.row.realarm_s

    @property
    def restless(self) -> bool:
        timed = self.delay.since is not None or self.rule.since is not None
        again = self.row.realarm_s > 0 and self.alarm is not None and self.alarm.state is AlarmState.ACKED
        return timed or again or self.shelf is not None or self.chatter.flagged


def saved_watch(watch: Watch, offset_s: float | None) -> dict[str, Any]:
    """Return one alarm as JSON, its times by the wall clock."""

    def wall(at: float | None) -> float | None:
        return round(at + offset_s, 3) if at is not None and offset_s is not None and math.isfinite(at) else None

    alarm = watch.alarm
    assert alarm is not None
    value = alarm.value
    return {
        "state": alarm.state.name,
        "value": None if isinstance(value, float) and not math.isfinite(value) else value,
        "active": alarm.active,
        "times": [wall(alarm.active_at), wall(alarm.returned_at), wall(alarm.acked_at)],
        "acked_by": alarm.acked_by,
        "count": alarm.count,
        "occurrence": [alarm.boot, alarm.occurrence],
        "first": [alarm.cause, alarm.first_out],
        "reason": alarm.reason,
        "shelf": watch.shelf and [watch.shelf.by, watch.shelf.reason, wall(watch.shelf.until)],
        "service": watch.service and [watch.service.by, watch.service.reason],
    }


def restore_watch(watch: Watch, entry: Mapping[str, Any], now: float, offset_s: float | None) -> None:
    """Make ``watch`` what ``saved_watch`` was given; raises KeyError, TypeError or ValueError for anything else."""

    def mono(at: float | None) -> float:
        return now if at is None or offset_s is None else min(now, float(at) - offset_s)

    state = AlarmState[entry["state"]]
    came, went, acked = entry["times"]
    boot, occurrence = entry["occurrence"]
    cause, first_out = entry["first"]
    active = bool(entry["active"])
    if entry["shelf"]:
        by, reason, until = entry["shelf"]
        left_s = 0.0 if until is None or offset_s is None else min(float(until) - offset_s - now, SHELVE_MAX_S)
        watch.shelf = Aside(str(by), str(reason), now + max(0.0, left_s))
    if entry["service"]:
        by, reason = entry["service"]
        watch.service = Aside(str(by), str(reason), math.inf)
    alarm = Alarm(
        watch.row,
        state,
        entry["value"],
        mono(came) if occurrence else NEVER,
        returned_at=None if active or not occurrence else mono(went),
        acked_at=mono(acked) if state is AlarmState.ACKED else None,
        acked_by=str(entry["acked_by"]),
        count=int(entry["count"]),
        occurrence=int(occurrence),
        boot=int(boot),
        cause=str(cause),
        first_out=bool(first_out),
        reason=str(entry["reason"]),
    )
    aside = watch.service or watch.shelf
    if aside:
        until = aside.until if math.isfinite(aside.until) else None
        alarm = replace(alarm, by=aside.by, reason=aside.reason, until=until)
    watch.alarm = alarm
    watch.delay.state = active
    watch.rule.state = state is AlarmState.SUPPRESSED
