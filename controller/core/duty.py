"""Which machines of a group are to run: duty and standby, even hours, exercise, lock-out, one start after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from controller.core.alarm_states import AlarmRow
from controller.core.blocks import DutyStandby
from controller.core.points import Reading, good
from controller.core.sequences import RunSequence, RunState

HOUR_S = 3600.0
ACTIVE = (RunState.RUNNING, RunState.STARTING)
UNHEARD_S = 3.0  # a frame or two may be lost before another machine is started; a loss of flow does that at once
RUNS_UP_S = 5.0  # from where a machine says it runs until it carries what another one gives up
FLAPS, FLAP_S = 2, 60.0  # so often it may not return by itself in this time while another machine runs on


@dataclass(frozen=True, slots=True)
class Rotation:
    """The table ``[rotation]``: how machines of a group take turns.

    Attributes:
        swap_h: by how many run hours a machine on duty may be ahead of an idle one.
        overlap_s: how long both run at a change.
        exercise_h, exercise_s: a machine that stood still for so long runs for so short; 0 h for never.
        starts_max, starts_window_s: more starts of one machine than that in this time lock it out until they are over.
        start_stagger_s: between two starts of one group, as after power has come back.
        stop_gap_s: between two stops of one group.
    """

    swap_h: float
    overlap_s: float
    exercise_h: float
    exercise_s: float
    starts_max: int
    starts_window_s: float
    start_stagger_s: float
    stop_gap_s: float


class Duty:
    """One group of machines that do the same.

    Attributes:
        wanted: who is to run, as of the last scan.
        locked_out: who was started too often.
    """

    def __init__(
        self, machines: Sequence[RunSequence], rotation: Rotation, run_s: Mapping[str, float], *,
        stagger: bool, exercise: bool,
    ) -> None:  # fmt: skip
        self._machines = {machine.device: machine for machine in machines}
        self._rotation = rotation
        self._stagger_s = rotation.start_stagger_s if stagger else 0.0
        self._exercise_after_s = rotation.exercise_h * HOUR_S if exercise else 0.0
        self._block = DutyStandby(tuple(self._machines), rotation.swap_h * HOUR_S, rotation.overlap_s, dict(run_s))
        self._starts: dict[str, deque[float]] = {name: deque(maxlen=rotation.starts_max + 1) for name in self._machines}
        self._active: set[str] = set()
        self._carry: set[str] = set()  # who has run for long enough to be relied on
        self._failed: set[str] = set()
        self._returns: dict[str, deque[float]] = {name: deque(maxlen=FLAPS) for name in self._machines}
        self._idle_since: dict[str, float] = {}
        self._exercising, self._exercised_at = "", 0.0
        self._started_at = self._stopped_at = float("-inf")
        self._count = 0
        self.wanted: frozenset[str] = frozenset()
        self.locked_out: set[str] = set()

    def step(self, count: int, now: float, *, may_rotate: bool) -> frozenset[str]:
        """Return who is to run, at least ``count`` while there are so many. Machines that don't answer are among them.

        Args:
            may_rotate: whether hours may be evened out now, and idle machines exercised.
        """
        self._watch(now)
        able = {name for name, machine in self._machines.items() if machine.state is not RunState.FAILED}
        unheard = [machine for machine in self._machines.values() if machine.state is RunState.UNKNOWN]
        unknown = {machine.device for machine in unheard if now - machine.since >= UNHEARD_S}
        rested = {name for name in able - unknown if self._rested(self._machines[name], now)}
        fresh = rested - self.locked_out
        available = fresh if len(fresh) >= count else rested if len(rested) >= count else able - unknown
        running = {name for name in available if self._machines[name].proven}
        duty = self._block.step(count, available, running, now, may_rotate=may_rotate and self._quiet(now))
        duty |= self._exercise(available - duty, now, may=may_rotate and duty <= running)
        self.wanted = self._in_turn(duty, now) | unknown
        self._count = count
        return self.wanted

    @property
    def spare(self) -> frozenset[str]:
        """Who runs and may stop: those on duty are enough without it, and have run for long enough."""
        proven = {name for name, machine in self._machines.items() if machine.proven}
        return frozenset(proven - self.wanted) if len(self._carry & self.wanted) >= max(1, self._count) else frozenset()

    def run_h(self) -> Mapping[str, float]:
        """Return the run hours of each machine."""
        return {name: seconds / HOUR_S for name, seconds in self._block.run_s.items()}

    def _watch(self, now: float) -> None:
        """Take note of starts and stops. A machine that only ceases to answer, or does so again, does neither."""
        before, self._active = self._active, set()
        self._carry = {n for n, one in self._machines.items() if one.proven and now - one.since >= RUNS_UP_S}
        for name, machine in self._machines.items():
            if name in self._failed and machine.proven:
                self._returned(machine, now)
            if machine.state in ACTIVE or (machine.state is RunState.UNKNOWN and name in before):
                self._active.add(name)
                if self._idle_since.pop(name, None) is not None:
                    self._starts[name].append(now)
                    self._started_at = now
            elif machine.state is not RunState.UNKNOWN:
                self._idle_since.setdefault(name, now)
        self._failed = {name for name, machine in self._machines.items() if machine.state is RunState.FAILED}
        if before - self._active:
            self._stopped_at = now
        limit = self._rotation.starts_max
        self.locked_out = {
            name
            for name, starts in self._starts.items()
            if len(starts) >= limit and name not in self._active
            if sum(now - at < self._rotation.starts_window_s for at in starts) >= limit
        }

    def _returned(self, machine: RunSequence, now: float) -> None:
        """Take back a machine that had stopped by itself; one that flaps while another runs on is left off."""
        returns = self._returns[machine.device]
        returns.append(now)
        steady = any(other.proven and now - other.since >= FLAP_S for other in self._machines.values())
        if steady and len(returns) == FLAPS and now - returns[0] < FLAP_S:
            machine.fail(now)

    @staticmethod
    def _rested(machine: RunSequence, now: float) -> bool:
        """Whether the machine runs, or may be started now."""
        return machine.state in ACTIVE or now - machine.stopped_at >= machine.min_off_s

    def _quiet(self, now: float) -> bool:
        return not self._exercising and now - self._stopped_at >= self._rotation.stop_gap_s

    def _exercise(self, idle: AbstractSet[str], now: float, *, may: bool) -> frozenset[str]:
        """Return who runs for a short while only because it has stood still for long."""
        if self._exercising:
            if now - self._exercised_at >= self._rotation.exercise_s or self._exercising not in idle:
                self._exercising = ""
        elif may and self._exercise_after_s:
            due = [name for name in idle if now - self._idle_since.get(name, now) >= self._exercise_after_s]
            if due:
                self._exercising, self._exercised_at = min(due, key=self._idle_since.__getitem__), now
        return frozenset({self._exercising} if self._exercising else ())

    def _in_turn(self, duty: frozenset[str], now: float) -> frozenset[str]:
        """Return ``duty`` less starts that come too soon, and who may not stop: too soon, or not all are proven."""
        kept = set(duty)
        starting = sorted(kept - self._active)
        if starting:
            first = 0 if now - self._started_at < self._stagger_s else 1
            kept -= set(starting[first:] if self._stagger_s else ())
        proven = {name for name in self._active if self._machines[name].proven}
        leaving = sorted(proven - duty)
        if leaving:
            first = 0 if now - self._stopped_at < self._rotation.stop_gap_s or not duty <= self._carry else 1
            kept |= set(leaving[first:])
        return frozenset(kept)


def readings(groups: Iterable[Duty], at: float) -> dict[str, Reading]:
    """Return what is published of the groups."""
    known = tuple(groups)
    found = {f"{name}.duty_hours": good(hours, at) for group in known for name, hours in group.run_h().items()}
    found["pod.locked_out"] = good(float(sum(len(group.locked_out) for group in known)), at)
    return found


def alarm_rows() -> Iterable[AlarmRow]:
    """Return the alarm of machines that were started too often."""
    yield AlarmRow(
        "pod_machine_locked_out", "pod.locked_out", "above", "Machine started too often", "medium",
        "It is left alone for a while, and only started again if no other of its group can run.",
        "See which machine starts and stops again and again; look at its supply, its flow proof and its load.",
        limit=0.5,
    )  # fmt: skip


def saved_hours(groups: Iterable[Duty]) -> dict[str, float]:
    """Return run hours for the store, in tenths of an hour: a restart costs the last few minutes."""
    return {name: int(10 * hours) / 10 for group in groups for name, hours in group.run_h().items()}
