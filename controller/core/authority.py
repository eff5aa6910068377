"""Who may change what, and what became of it: judges commands, guards isolation, follows each command to its effect."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from controller.core import modes
from controller.core.alarms import Alarms
from controller.core.commands import Code, Command, Outcome, State, is_local, refused, rejected
from controller.core.fault_rows import isolation_id, power_isolation_id
from controller.core.image import Image
from controller.core.interlocks import Bypass, Interlocks
from controller.core.pod import Pod, setpoint_rows
from controller.core.points import record
from controller.core.power import Rack
from controller.core.slots import Floor, Slots

ISOLATION_SPACING_S = 5.0  # between two racks, where no leak is seen here
ISOLATIONS_MAX = 3  # within ISOLATION_WINDOW_S, where no leak is seen here
ISOLATION_WINDOW_S = 60.0
CLOSED_PCT = 5.0  # a valve that stands no wider than this is shut
ARRIVAL_S = 10.0  # how long a device may take to show a setpoint once it is in force
RESET_S = 5.0
MOVE_MAX_S = 120.0  # how long a mode may take to begin to change
FOLLOWED_MAX_S = 4 * 3600.0
NEAR = 1e-6
BYPASS_DEFAULT_S = 1800.0
ISOLATIONS: Mapping[str, Callable[[str], str]] = {"isolate": isolation_id, "isolate_power": power_isolation_id}


@dataclass(frozen=True, slots=True)
class Goal:
    """What the mode must become for an operation to be under way, done, or lost. Entries are beginnings of modes."""

    under_way: tuple[str, ...]
    done: tuple[str, ...]
    lost: tuple[str, ...] = ()


FINAL: frozenset[State] = frozenset(("confirmed", "failed", "expired", "superseded"))


GOALS: Mapping[str, Goal] = {
    "start": Goal(("STARTUP",), (modes.NORMAL,), (modes.OFF, modes.COOLDOWN, modes.TRIPPED)),
    "stop": Goal((modes.COOLDOWN,), (modes.OFF,), (modes.TRIPPED,)),
    "maintain": Goal((), (modes.MAINTENANCE,)),
    "release": Goal((), (modes.OFF,)),
    "energise": Goal(("STARTUP.energise",), (modes.NORMAL,), (modes.OFF, modes.COOLDOWN, modes.TRIPPED)),
}


@record
class Scene:
    """What judging and following look at. ``latched`` names the interlock rows that hold a trip.

    ``interlocks`` is where a bypass is put.
    """

    image: Image
    mode: str
    cause: str
    latched: Sequence[str]
    now: float
    interlocks: Interlocks


@dataclass(slots=True)
class Verdict:
    """What the accepted commands of one scan ask: operations, rows of racks to isolate; and all outcomes."""

    operations: set[str] = field(default_factory=set)
    isolate: set[str] = field(default_factory=set)
    outcomes: list[Outcome] = field(default_factory=list)


@dataclass(slots=True)
class _Followed:
    """A command that was accepted and whose effect is awaited."""

    command: Command
    mode: str
    since: float
    told: State = "accepted"
    in_force_at: float | None = None


class Authority:
    """Slots, local control, isolation guard, and the commands whose effect has not been seen yet."""

    def __init__(self, pod: Pod, saved: Mapping[str, Any], now: float, epoch_s: float | None) -> None:
        self.slots = Slots(setpoint_rows(pod), saved, now, epoch_s)
        self.isolation_held = bool(saved.get("isolation_held"))
        self._pod = pod
        self._racks = {rack.name: rack for rack in pod.racks}
        recent = _recent(saved.get("isolated_at"), now, epoch_s)
        self._isolated_at: deque[float] = deque(recent, maxlen=ISOLATIONS_MAX)
        self._followed: dict[tuple[str, str, int], _Followed] = {}

    def saved(self, epoch_s: float | None) -> dict[str, Any]:
        kept = {**self.slots.saved(epoch_s), "isolation_held": self.isolation_held}
        if epoch_s is not None and self._isolated_at:
            kept["isolated_at"] = [round(at + epoch_s) for at in self._isolated_at]
        return kept

    def judge(self, commands: Sequence[Command], scene: Scene, alarms: Alarms) -> Verdict:
        """Judge the commands of one scan in their order; every one gets at least one outcome."""
        verdict = Verdict()
        for command in commands:
            lock = self.slots.lock
            refusal = refused(command, scene.mode, scene.now, lock.owner if lock else "")
            if refusal:
                verdict.outcomes.append(refusal)
                continue
            told = self._act(command, scene, alarms, verdict)
            verdict.outcomes += told
            if told[0].accepted:
                verdict.operations.add(command.operation)
                verdict.outcomes += self._follow(command, scene)
        return verdict

    def step(self, floors: Mapping[str, Floor], now: float) -> list[Outcome]:
        """Advance the slots by one scan; return what became of the commands behind leases that ended."""
        return self.slots.step(floors, now)

    def follow(self, scene: Scene) -> list[Outcome]:
        """Return what this scan shows of the commands that were accepted in it or earlier."""
        told: list[Outcome] = []
        for key, followed in list(self._followed.items()):
            for outcome in self._progress(followed, scene):
                followed.told = outcome.state
                told.append(outcome)
            if followed.told in FINAL:
                del self._followed[key]
        return told

    # ------------------------------------------------------------------ judging

    def _act(self, command: Command, scene: Scene, alarms: Alarms, verdict: Verdict) -> list[Outcome]:
        """Act on a command that may act; its own outcome comes first."""
        operation, now = command.operation, scene.now
        if operation == "set":
            return self.slots.set(command, now)
        if operation == "relinquish":
            return self.slots.relinquish(command, now)
        if operation in ISOLATIONS:
            return [self._isolate(command, scene, verdict)]
        if operation in ("bypass", "unbypass"):
            return [_about_rows(command, scene)]
        accepted = Outcome(command.id, command.principal, "accepted")
        if operation == "heartbeat":
            self.slots.beat(command.principal, now)
        elif operation == "lock":
            return [accepted, *self.slots.lock_out(command.principal, command.reason, now)]
        elif operation == "unlock":
            self.slots.unlock()
        elif operation == "reset":
            self.isolation_held = False
            self._isolated_at.clear()
            alarms.reset(command.principal, now)
        elif operation not in GOALS:
            return [_about_alarms(command, alarms, now)]
        return [accepted]

    def _isolate(self, command: Command, scene: Scene, verdict: Verdict) -> Outcome:
        """Take a rack off by its interlock row: outlets first, then its valve. Only a reset at the pod undoes it.

        Where only its power is asked off, its valve stays open: it may have to be cooled, or be dry.
        """
        rack = self._racks.get(command.target)
        if rack is None:
            return rejected(command, "unknown_target", f"no such rack; there are: {', '.join(self._racks)}")
        rows = {row_of(rack.name) for row_of in ISOLATIONS.values()}
        isolated = not rows.isdisjoint((*scene.latched, *verdict.isolate))
        wet = any(scene.image.flag(point, otherwise=False) for point in rack.leak)
        if not isolated and not wet and not is_local(command.principal):
            guarded = self._guarded(scene.now)
            if guarded:
                return rejected(command, *guarded)
            self._isolated_at.append(scene.now)
        verdict.isolate.add(ISOLATIONS[command.operation](rack.name))
        return Outcome(command.id, command.principal, "accepted")

    def _guarded(self, now: float) -> tuple[Code, str] | None:
        """Return why no further rack may be isolated from outside now: a bad publisher must not take the pod down."""
        recent = [at for at in self._isolated_at if now - at < ISOLATION_WINDOW_S]
        if len(recent) >= ISOLATIONS_MAX:
            self.isolation_held = True
        if self.isolation_held:
            return "interlock", "too many racks asked for where no leak is seen here: held until a reset at the console"
        if recent and now - recent[-1] < ISOLATION_SPACING_S:
            return "rate", f"one rack each {ISOLATION_SPACING_S:.0f} s, where no leak is seen here"
        return None

    # ------------------------------------------------------------------ following

    def _follow(self, command: Command, scene: Scene) -> Iterator[Outcome]:
        """Begin to follow an accepted command; yield what becomes of an earlier one whose place it takes."""
        operation = command.operation
        if operation in GOALS:
            key = ("mode", "", 0)
        elif operation == "set":
            key = (operation, command.target, command.slot)
        elif operation in (*ISOLATIONS, "reset"):
            key = (operation, command.target, 0)
        else:
            if operation != "heartbeat":
                yield Outcome(command.id, command.principal, "confirmed", effective=self._wanted(command))
            return
        before = self._followed.pop(key, None)
        if before and operation != "set":  # slots tell themselves what a lease gave way to
            old = before.command
            yield Outcome(old.id, old.principal, "superseded", "", f"{operation} by {command.principal}")
        self._followed[key] = _Followed(command, scene.mode, scene.now)

    def _wanted(self, command: Command) -> float | None:
        array = self.slots.array(command.target) if command.operation == "relinquish" else None
        return array.wanted if array else None

    def _progress(self, followed: _Followed, scene: Scene) -> Iterator[Outcome]:
        operation = followed.command.operation
        if operation in GOALS:
            return self._mode_progress(followed, GOALS[operation], scene)
        if operation == "set":
            return self._set_progress(followed, scene)
        if operation in ISOLATIONS:
            return self._isolation_progress(followed, self._racks[followed.command.target], scene)
        return _reset_progress(followed, scene)

    @staticmethod
    def _mode_progress(followed: _Followed, goal: Goal, scene: Scene) -> Iterator[Outcome]:
        moved = followed.told == "applied" or scene.mode != followed.mode
        if moved and scene.mode.startswith(goal.done):
            yield _told(followed, "confirmed", message=scene.cause)
        elif moved and goal.lost and scene.mode.startswith(goal.lost):
            yield _told(followed, "failed", "interlock", f"{scene.mode}: {scene.cause}")
        elif goal.under_way and scene.mode.startswith(goal.under_way):
            if followed.told == "accepted":
                yield _told(followed, "applied", message=scene.mode)
            elif scene.now - followed.since > FOLLOWED_MAX_S:
                yield _told(followed, "failed", "readback", f"still {scene.mode}")
        elif scene.now - followed.since > MOVE_MAX_S:
            yield _told(followed, "failed", "readback", f"still {scene.mode}")

    def _set_progress(self, followed: _Followed, scene: Scene) -> Iterator[Outcome]:
        command, now = followed.command, scene.now
        array = self.slots.array(command.target)
        lease = array.leases.get(command.slot) if array else None
        if array is None or lease is None or lease.command != command.id:
            followed.told = "superseded"  # told by the slots already
            return
        if followed.told == "accepted":
            why = ""
            if array.winner != command.slot:
                winner = array.leases[array.winner]
                why = f"masked by slot {array.winner} of {winner.principal}: {winner.reason or 'no reason given'}"
            yield _told(followed, "applied", "", why, array.wanted, lease.until)
        in_force = self.slots.value(command.target)
        if array.winner != command.slot or abs(in_force - lease.value) > NEAR:
            followed.in_force_at = None
            return
        followed.in_force_at = now if followed.in_force_at is None else followed.in_force_at
        seen = [scene.image.number(point, otherwise=None) for point in array.setpoint.seen_at]
        if all(value is not None and abs(value - lease.value) <= array.setpoint.tolerance for value in seen):
            yield _told(followed, "confirmed", "", "", in_force, lease.until)
        elif now - followed.in_force_at > ARRIVAL_S:
            code: Code = "comms" if None in seen else "readback"
            why = f"{' and '.join(array.setpoint.seen_at)} did not show it within {ARRIVAL_S:.0f} s; it is still asked"
            yield _told(followed, "failed", code, why, in_force, lease.until)

    def _isolation_progress(self, followed: _Followed, rack: Rack, scene: Scene) -> Iterator[Outcome]:
        image = scene.image
        off = not rack.energised(image)
        position = image.number(f"{rack.valve}.position", otherwise=None)
        patience_s = self._pod.protection.rack_off_before_valve_s + MOVE_MAX_S
        operation = followed.command.operation
        power_only = operation == "isolate_power"
        if scene.now > followed.since and ISOLATIONS[operation](rack.name) not in scene.latched:
            yield _told(followed, "superseded", "", "reset")
        elif off and power_only:
            yield _told(followed, "confirmed", message="outlets off")
        elif off and position is not None and position <= CLOSED_PCT:
            yield _told(followed, "confirmed", message="outlets off, valve shut")
        elif scene.now - followed.since > patience_s:
            code: Code = "comms" if position is None else "readback"
            yield _told(followed, "failed", code, f"outlets {'off' if off else 'not off'}, valve at {position} %")
        elif off and followed.told == "accepted":
            yield _told(followed, "applied", message="outlets off")


def _about_rows(command: Command, scene: Scene) -> Outcome:
    """Bypass an interlock for a time, or end that."""
    if command.operation == "unbypass":
        if scene.interlocks.unbypass(command.target):
            return Outcome(command.id, command.principal, "accepted")
        return rejected(command, "unknown_target", "no such bypass")
    until = scene.now + (command.ttl_s or BYPASS_DEFAULT_S)
    refusal = scene.interlocks.bypass(command.target, Bypass(command.principal, command.reason, until), scene.now)
    if refusal:
        return rejected(command, "interlock", refusal)
    return Outcome(command.id, command.principal, "accepted", until=until)


def _recent(saved: object, now: float, epoch_s: float | None) -> list[float]:
    """Return when an earlier run isolated racks, as far as it still matters: a restart does not clear the count."""
    if epoch_s is None or not isinstance(saved, list):
        return []
    times = [float(at) - epoch_s for at in saved if isinstance(at, int | float)]
    return [min(at, now) for at in times if now - at < ISOLATION_WINDOW_S]


def _about_alarms(command: Command, alarms: Alarms, now: float) -> Outcome:
    answer = alarms.operate(
        command.operation, command.target, command.principal, now, duration_s=command.ttl_s, reason=command.reason,
        local=is_local(command.principal),
    )  # fmt: skip
    if answer.code:
        return rejected(command, answer.code, answer.message)
    return Outcome(command.id, command.principal, "accepted", message=answer.message, until=answer.until)


def _reset_progress(followed: _Followed, scene: Scene) -> Iterator[Outcome]:
    if not scene.latched and scene.mode != modes.TRIPPED:
        yield _told(followed, "confirmed")
    elif scene.now - followed.since > RESET_S:
        held = ", ".join(scene.latched)
        yield _told(followed, "failed", "interlock", f"still held: {held}" if held else f"still {scene.mode}")


def _told(
    followed: _Followed,
    state: State,
    code: Code = "",
    message: str = "",
    effective: float | None = None,
    until: float | None = None,
) -> Outcome:
    return Outcome(followed.command.id, followed.command.principal, state, code, message, effective, until)
