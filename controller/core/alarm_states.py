"""What an alarm is: its row, its states after ISA-18.2, when its condition holds, and what can be told of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

from controller.core.alarm_load import Priority
from controller.core.points import Reading, Value

Test = Literal["above", "below", "on", "off", "differs", "unusable"]
What = Literal[
    "came", "returned", "acknowledged", "reset", "shelved", "unshelved", "shelf_expired", "suppressed", "unsuppressed",
    "out_of_service", "returned_to_service", "realarmed", "escalated", "chattering", "chattering_ended",
]  # fmt: skip
Source = Literal["condition", "operator", "timer", "rule"]
Code = Literal["", "unknown_target", "forbidden", "bad_request", "out_of_range", "not_in_mode", "busy"]

DIFFERS_TOLERANCE = 1e-3
NEVER = float("-inf")


class AlarmState(Enum):
    """ISA-18.2 states, numbered as in northbound documents."""

    NORMAL = 1
    UNACK = 2
    ACKED = 3
    RTN_UNACK = 4
    SHELVED = 5
    SUPPRESSED = 6
    OUT_OF_SERVICE = 7

    @property
    def letter(self) -> str:
        return "ABCDEFG"[self.value - 1]


HIDDEN = (AlarmState.SHELVED, AlarmState.SUPPRESSED, AlarmState.OUT_OF_SERVICE)
UNACKNOWLEDGED = (AlarmState.UNACK, AlarmState.RTN_UNACK)


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm: when it comes, when it goes, and what a person is to do about it.

    Attributes:
        limit: number for above and below, expected value for differs.
        hysteresis: how far back inside the limit a number must come before the alarm goes.
        unless: points any of which, while on, suppresses this alarm because it tells the cause already. Suppression
            lasts ``on_delay_s`` longer than they do: what they caused has that long to go.
        action: operator action; an alarm without one would be an event.
        safety: leak and safety alarms; they can be shelved or taken out of service at the pod only.
        latched: stays until ``reset`` after its condition has gone.
        realarm_s: an acknowledged alarm asks again after this time; 0 means never.
        further: second limit, further out; crossing it makes an acknowledged alarm ask again.
        group: alarms of one group may have one cause; the first of an incident is told apart.
    """

    id: str
    point: str
    test: Test
    title: str
    priority: Priority
    consequence: str
    action: str
    limit: Value = 0.0
    hysteresis: float = 0.0
    on_delay_s: float = 0.0
    off_delay_s: float = 1.0
    unless: tuple[str, ...] = ()
    safety: bool = False
    latched: bool = False
    realarm_s: float = 0.0
    further: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """The state of one alarm that is not NORMAL. Times are monotonic seconds of the scan.

    Attributes:
        value: of its point when it came.
        active_at: when it came; minus infinity for one that was put aside before it ever did.
        returned_at: when its condition went; None while it is there.
        count: how often it came within this occurrence.
        occurrence, boot: number of this occurrence, and of the start of the controller in which it began.
        until: when shelving ends.
        by, reason: who put it aside and why; of a suppressed alarm the points that suppress it.
        cause: id of the alarm that came first in the same incident; empty for the first itself.
        first_out: whether it is the first of its group.
    """

    row: AlarmRow
    state: AlarmState
    value: Value | None
    active_at: float
    returned_at: float | None = None
    acked_at: float | None = None
    acked_by: str = ""
    count: int = 1
    occurrence: int = 0
    boot: int = 0
    until: float | None = None
    by: str = ""
    reason: str = ""
    cause: str = ""
    first_out: bool = False
    chattering: bool = False

    @property
    def active(self) -> bool:
        """Whether its condition is there."""
        return self.returned_at is None and self.active_at > NEVER

    @property
    def latched(self) -> bool:
        """Whether it waits for a reset: its condition has gone."""
        return self.row.latched and self.returned_at is not None and self.state is not AlarmState.RTN_UNACK

    @property
    def annunciated(self) -> bool:
        """Whether it asks for a person now."""
        return self.state in UNACKNOWLEDGED


class AlarmEvent(NamedTuple):
    """One transition, for the journal. ``alarm`` is what it is after; its state is NORMAL when it is gone."""

    at: float
    what: What
    alarm: Alarm
    before: AlarmState
    source: Source
    user: str = ""
    comment: str = ""


class Answer(NamedTuple):
    """What became of an operation; ``code`` is empty when it was done, else why not."""

    code: Code = ""
    message: str = ""
    until: float | None = None

    @property
    def ok(self) -> bool:
        return not self.code


def holds(row: AlarmRow, reading: Reading, active: bool, *, booting: bool = False) -> bool:
    """Return whether the row's condition holds.

    What can't be trusted holds only for ``unusable``; an on/off alarm stays as it is, and while the controller boots
    every alarm does: not to have been read yet is no proof of anything.
    """
    if not reading.usable or reading.value is None:
        if booting:
            return active
        return row.test == "unusable" or (active and row.test in ("on", "off", "differs"))
    if row.test == "unusable":
        return False
    if row.test in ("on", "off"):
        return bool(reading.value) is (row.test == "on")
    if row.test == "differs":
        if isinstance(reading.value, bool | str) or isinstance(row.limit, bool | str):
            return reading.value != row.limit
        return abs(reading.value - row.limit) > DIFFERS_TOLERANCE * max(1.0, abs(row.limit))
    value, limit = float(reading.value), float(row.limit)
    back = row.hysteresis if active else 0.0
    return value > limit - back if row.test == "above" else value < limit + back
