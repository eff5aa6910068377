"""Setpoints that may be asked from outside: for each an array of 16 priorities, held by leases that end by themselves.

The lowest live slot wins, as in BACnet; with none, the configured default. Whatever wins, the value in force stays
inside the setpoint's range and moves no faster than its slew, so taking, losing and returning a slot is free of bumps.
Protection is slot 5: a floor that control needs now (dew point) beats every person and system.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.core.blocks import Ramp, clamp
from controller.core.commands import Code, Command, Outcome, State, is_local, number, rejected

PROTECTION, CONSOLE, OPERATOR, AUTOMATIC, OPTIMISER = 5, 7, 8, 10, 13
LOCKED_FROM = 8  # the local lock-out empties and blocks this slot and all that follow
HEARTBEAT_S = 30.0  # three beats of 10 s missed
HOUR_S = 3600.0
APPLIED_PLACES = 1  # of the value in force as the store keeps it: each change is a write to its disk


@dataclass(frozen=True, slots=True)
class SlotRule:
    """Who a slot belongs to and how long it may be held; without a heartbeat, only if ``heartbeat`` is false."""

    owner: str
    default_s: float
    longest_s: float
    heartbeat: bool = False


ASKED: Mapping[int, SlotRule] = {
    CONSOLE: SlotRule("technician at the console", HOUR_S, 8 * HOUR_S),
    OPERATOR: SlotRule("BMS operator", HOUR_S, 24 * HOUR_S),
    AUTOMATIC: SlotRule("BMS automatic", HOUR_S, 24 * HOUR_S),
    OPTIMISER: SlotRule("optimiser", 900.0, 900.0, heartbeat=True),
}
REMOTE = tuple(slot for slot in ASKED if slot >= LOCKED_FROM)


@dataclass(frozen=True, slots=True)
class Setpoint:
    """One setpoint and what may be asked of it.

    Attributes:
        point: id of the derived point that shows the value in force.
        default: in force while nobody asks.
        low, high: allowed values; nothing outside is ever in force.
        slew_per_s: fastest move of the value in force.
        rescue_per_s: fastest rise while the value in force is below what protection needs.
        clamps: a value outside the range is taken as the nearest inside, instead of being rejected.
        seen_at: points of devices that show it once it has arrived there.
        tolerance: how far these may be off.
    """

    point: str
    unit: str
    default: float
    low: float
    high: float
    slew_per_s: float
    rescue_per_s: float
    clamps: bool = False
    seen_at: tuple[str, ...] = ()
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Floor:
    """The lowest value that protection allows now, and why."""

    value: float
    reason: str


@dataclass(frozen=True, slots=True)
class Lease:
    """One slot, held for a time. ``until`` is monotonic seconds, infinite for protection."""

    value: float
    principal: str
    command: str
    reason: str
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The last lease of a slot that ended otherwise than by being replaced, and why."""

    slot: int
    principal: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Array:
    """The priority array of one setpoint as others see it; a new object whenever something in it changed.

    Attributes:
        leases: by slot, lowest first.
        winner: the slot that wins; 0 for the default.
        wanted: the winner's value, which the value in force moves to.
        ended: by slot.
    """

    setpoint: Setpoint
    leases: Mapping[int, Lease]
    winner: int
    wanted: float
    ended: Mapping[int, Ended]


@dataclass(frozen=True, slots=True)
class Lock:
    """Local control: who took it, why, and since when (monotonic seconds)."""

    owner: str
    reason: str
    since: float


@dataclass(slots=True)
class _Held:
    """One setpoint at work."""

    row: Setpoint
    ramp: Ramp = field(init=False)
    usual: float = field(init=False)  # the default, which is inside the range whatever the file says
    leases: dict[int, Lease] = field(default_factory=dict)
    ended: dict[int, Ended] = field(default_factory=dict)
    array: Array | None = None

    def __post_init__(self) -> None:
        self.ramp = Ramp(self.row.slew_per_s, self.row.slew_per_s)
        self.usual = clamp(self.row.default, self.row.low, self.row.high)

    @property
    def winner(self) -> int:
        return min(self.leases, default=0)

    @property
    def wanted(self) -> float:
        return self.leases[self.winner].value if self.leases else self.usual

    @property
    def applied(self) -> float:
        return self.wanted if self.ramp.value is None else self.ramp.value

    def put(self, slot: int, lease: Lease | None) -> Lease | None:
        """Fill or empty a slot; return what was in it."""
        before = self.leases.pop(slot, None)
        if lease:
            self.leases[slot] = lease
        if lease != before:
            self.array = None
        return before

    def seen(self) -> Array:
        if self.array is None:
            leases = dict(sorted(self.leases.items()))
            self.array = Array(self.row, leases, self.winner, self.wanted, dict(self.ended))
        return self.array


class Slots:
    """Every setpoint of one pod that may be asked from outside."""

    def __init__(self, rows: Iterable[Setpoint], saved: Mapping[str, Any], now: float, epoch_s: float | None) -> None:
        """Take up what ``saved`` holds.

        Args:
            saved: what ``Slots.saved`` returned in an earlier run.
            epoch_s: Unix seconds at monotonic 0; None while the clock can't be trusted, and then no lease is taken up,
                because nobody knows whether it has run out.
        """
        self._held = {row.point: _Held(row) for row in rows}
        self._beats: dict[str, float] = {}
        self.lock: Lock | None = None
        _restore(self, self._held, saved, now, epoch_s)

    @property
    def names(self) -> Iterable[str]:
        return self._held

    @property
    def arrays(self) -> Mapping[str, Array]:
        return {name: held.seen() for name, held in self._held.items()}

    def array(self, point: str) -> Array | None:
        held = self._held.get(point)
        return held.seen() if held else None

    def value(self, point: str, otherwise: float = math.nan) -> float:
        """Return the value in force, in the setpoint's unit; ``otherwise`` where nobody may ask for another."""
        held = self._held.get(point)
        return held.applied if held else otherwise

    def beat(self, principal: str, now: float) -> None:
        """Note that ``principal`` is alive. One that has beaten once loses its slots when it falls silent."""
        if principal in self._beats or any(
            lease.principal == principal for held in self._held.values() for lease in held.leases.values()
        ):
            self._beats[principal] = now

    def set(self, command: Command, now: float) -> list[Outcome]:
        """Judge a ``set`` and act on it; return its outcome, and that of the lease it took the place of."""
        held = self._held.get(command.target)
        if held is None:
            return [rejected(command, "unknown_target", f"no such setpoint; there are: {', '.join(self._held)}")]
        if refusal := self._refused(command):
            return [rejected(command, *refusal)]
        value = number(command.value)
        if value is None:
            return [rejected(command, "bad_request", "value must be a finite number")]
        row, rule = held.row, ASKED[command.slot]
        if not row.clamps and not row.low <= value <= row.high:
            return [rejected(command, "out_of_range", f"allowed: {row.low:g} to {row.high:g} {row.unit}")]
        if not 0 <= command.ttl_s <= rule.longest_s:
            return [rejected(command, "out_of_range", f"ttl_s allowed in slot {command.slot}: to {rule.longest_s:g}")]
        until = now + (command.ttl_s or rule.default_s)
        value = clamp(value, row.low, row.high)
        before = held.put(command.slot, Lease(value, command.principal, command.id, command.reason, now, until))
        held.ended.pop(command.slot, None)
        told = [Outcome(command.id, command.principal, "accepted", effective=value, until=until)]
        if before and before.command:
            why = f"replaced by {command.principal}"
            told.append(Outcome(before.command, before.principal, "superseded", "", why, held.wanted))
        return told

    def relinquish(self, command: Command, now: float) -> list[Outcome]:
        """Judge a ``relinquish`` and act on it. Emptying an empty slot is no mistake."""
        held = self._held.get(command.target)
        if held is None:
            return [rejected(command, "unknown_target", f"no such setpoint; there are: {', '.join(self._held)}")]
        allowed = (*ASKED,) if is_local(command.principal) else REMOTE
        if command.slot not in allowed:
            return [rejected(command, "forbidden", f"slots that {command.principal} may empty: {_listed(allowed)}")]
        why = f"relinquished by {command.principal}" + (f": {command.reason}" if command.reason else "")
        told = self._end(held, command.slot, "superseded", "", why, now)
        return [Outcome(command.id, command.principal, "accepted", effective=held.wanted), *told]

    def lock_out(self, owner: str, reason: str, now: float) -> list[Outcome]:
        """Take local control: every slot from LOCKED_FROM on is emptied and stays blocked; return what that ended."""
        self.lock = Lock(owner, reason, now)
        why = f"local control taken by {owner}"
        return [
            told
            for held in self._held.values()
            for slot in [slot for slot in held.leases if slot >= LOCKED_FROM]
            for told in self._end(held, slot, "superseded", "local_lockout", why, now)
        ]

    def unlock(self) -> None:
        """Give up local control. Nothing comes back by itself: who was put out must ask again."""
        self.lock = None

    def step(self, floors: Mapping[str, Floor], now: float) -> list[Outcome]:
        """End what is over, lay protection's floors over the rest, and move every value in force.

        Args:
            floors: by setpoint; one without a floor has none.
        """
        told: list[Outcome] = []
        for name, held in self._held.items():
            for slot, lease in list(held.leases.items()) if held.leases else ():
                if why := self._over(slot, lease, now):
                    told += self._end(held, slot, "expired", *why, now)
            floor = floors.get(name)
            self._protect(held, floor, now)
            below = floor is not None and held.applied < floor.value
            held.ramp.up_per_s = held.row.rescue_per_s if below else held.row.slew_per_s
            held.ramp.step(held.wanted, now)
        return told

    def saved(self, epoch_s: float | None) -> dict[str, Any]:
        """Return what must survive a restart; leases only where ``epoch_s`` tells when they end."""
        kept: dict[str, Any] = {"applied": {n: round(held.applied, APPLIED_PLACES) for n, held in self._held.items()}}
        if self.lock:
            kept["lock"] = [self.lock.owner, self.lock.reason]
        if epoch_s is not None:
            kept["leases"] = [
                [name, slot, it.value, it.principal, it.command, it.reason, round(it.until + epoch_s)]
                for name, held in self._held.items()
                for slot, it in held.leases.items()
                if slot != PROTECTION
            ]
        return kept

    def _refused(self, command: Command) -> tuple[Code, str] | None:
        """Return why this principal may not write this slot now."""
        allowed: Sequence[int] = (CONSOLE,) if is_local(command.principal) else REMOTE
        if command.slot not in allowed:
            return "forbidden", f"slots that {command.principal} may write: {_listed(allowed)}"
        if self.lock and command.slot >= LOCKED_FROM:
            return "local_lockout", f"local control taken by {self.lock.owner}"
        return None

    def _over(self, slot: int, lease: Lease, now: float) -> tuple[Code, str] | None:
        """Return why a lease is over."""
        if now >= lease.until:
            return "expired", "its time is over"
        rule = ASKED.get(slot)
        beaten = self._beats.get(lease.principal)
        if rule and slot != CONSOLE and (rule.heartbeat or beaten is not None):
            quiet_s = now - max(lease.since, beaten or lease.since)
            if quiet_s >= HEARTBEAT_S:
                return "comms", f"no heartbeat of {lease.principal} for {quiet_s:.0f} s"
        return None

    def _end(self, held: _Held, slot: int, state: State, code: Code, why: str, now: float) -> list[Outcome]:
        lease = held.leases.get(slot)
        if lease is None:
            return []
        held.ended[slot] = Ended(slot, lease.principal, why, now)
        held.put(slot, None)
        return [Outcome(lease.command, lease.principal, state, code, why, held.wanted)]

    @staticmethod
    def _protect(held: _Held, floor: Floor | None, now: float) -> None:
        """Fill slot 5 while what would win without it is below the floor, else empty it."""
        row, before = held.row, held.leases.get(PROTECTION)
        if floor is None and before is None:
            return
        others = min((slot for slot in held.leases if slot != PROTECTION), default=0)
        would = held.leases[others].value if others else held.usual
        if floor is None or math.isnan(floor.value) or floor.value <= would:
            held.put(PROTECTION, None)
            return
        value = clamp(floor.value, row.low, row.high)
        since = before.since if before else now
        held.put(PROTECTION, Lease(value, "protection", "", floor.reason, since, math.inf))


def _listed(slots: Iterable[int]) -> str:
    return ", ".join(map(str, slots))


def _restore(
    slots: Slots, held: Mapping[str, _Held], saved: Mapping[str, Any], now: float, epoch_s: float | None
) -> None:
    """Take up an earlier run; what no longer fits the settings, or is no longer readable, is left out."""
    for name, value in _mapping(saved.get("applied")).items():
        found = number(value)
        if name in held and found is not None:
            row = held[name].row
            held[name].ramp.value, held[name].ramp.at = clamp(found, row.low, row.high), now
    lock = saved.get("lock")
    if isinstance(lock, list) and len(lock) == 2:
        slots.lock = Lock(str(lock[0]), str(lock[1]), now)
    leases = saved.get("leases") if epoch_s is not None else None
    for lease in leases if isinstance(leases, list) else ():
        if isinstance(lease, list) and len(lease) == 7 and epoch_s is not None:
            _take_up(held, lease, now, epoch_s)


def _take_up(held: Mapping[str, _Held], lease: list[Any], now: float, epoch_s: float) -> None:
    name, slot, value, principal, command, reason, ends = lease
    found, until = number(value), number(ends)
    if not isinstance(name, str) or not isinstance(slot, int) or found is None or until is None:
        return
    if name not in held or slot not in ASKED:
        return
    row = held[name].row
    left_s = min(until - epoch_s - now, ASKED[slot].longest_s)
    if left_s > 0 and row.low <= found <= row.high:
        held[name].put(slot, Lease(found, str(principal), str(command), str(reason), now, now + left_s))


def _mapping(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, dict) else {}
