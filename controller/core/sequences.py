"""Start, prove, run, fail and stop of one piece of equipment, and which of a duty/standby group is wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from controller.core.blocks import Delay
from controller.core.image import Image
from controller.core.points import Value, record

RUN_LOST_S = 1.0  # how long a running proof may be missing before the equipment counts as failed
STOPS_S = 10.0  # what has just been told to stop may show as running for so long


class RunState(Enum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    FAILED = "failed"
    UNKNOWN = "unknown"  # its device does not answer: no capacity is counted on it, and it is not commanded off


@record
class Demand:
    """What a sequence or loop asks of one output; only the gate turns it into a Write.

    ``urgent`` lets a number move as fast as its equipment may, in place of the rate that is kindest to the loop.
    """

    point: str
    value: Value
    reason: str
    urgent: bool = False


@dataclass(slots=True)
class RunSequence:
    """One machine with ``run_cmd``, ``running`` and ``fault``.

    Attributes:
        prove_s: how long it may take from the command until it says it runs.
        min_on_s, min_off_s: least times between commands; a machine found running or stopped starts neither.
        running_id and so on: ids of its points.
    """

    device: str
    prove_s: float
    min_on_s: float = 0.0
    min_off_s: float = 0.0
    state: RunState = RunState.UNKNOWN
    since: float = 0.0
    started_at: float = float("-inf")
    stopped_at: float = float("-inf")
    lost: Delay = field(default_factory=lambda: Delay(RUN_LOST_S))
    faulty: bool = False  # failed by more than having stopped: it stays failed though it may run again
    running_id: str = field(init=False)
    fault_id: str = field(init=False)
    run_cmd_id: str = field(init=False)
    speed_id: str = field(init=False)
    speed_cmd_id: str = field(init=False)
    power_id: str = field(init=False)
    failed_id: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("running", "fault", "run_cmd", "speed", "speed_cmd", "power", "failed"):
            setattr(self, f"{name}_id", f"{self.device}.{name}")

    def step(self, wanted: bool | None, now: float) -> list[Demand]:
        """Return the run command wanted now; None leaves the machine as it stands. ``observe`` comes first."""
        if wanted is None:
            return []
        if wanted and self.state is RunState.STOPPED and now - self.stopped_at >= self.min_off_s:
            self._go(RunState.STARTING, now)
            self.started_at = now
        active = self.state in (RunState.RUNNING, RunState.STARTING)
        if active and now - self.started_at < self.min_on_s:
            wanted = True
        if self.state is RunState.STARTING and not wanted:
            self.stopped_at = now
            self._go(RunState.STOPPED, now)
        if self.state is RunState.RUNNING and not wanted:
            self.stopped_at = now
        elif self.state is RunState.RUNNING and self._stopping(now):
            return []
        if self.state is RunState.FAILED:
            return [Demand(self.run_cmd_id, False, "failed: locked until reset")]
        if self.state is RunState.UNKNOWN or (wanted and not active and self.state is RunState.STOPPED):
            return []
        return [Demand(self.run_cmd_id, wanted, "sequence" if wanted else "not needed")]

    def reset(self, now: float) -> None:
        """Forget a failure, on the operator's order."""
        self.faulty = False
        if self.state is RunState.FAILED:
            self._go(RunState.STOPPED, now)

    def fail(self, now: float) -> None:
        """Count no capacity on it any more, whatever it says of itself."""
        self.faulty = True
        self._go(RunState.FAILED, now)

    @property
    def proven(self) -> bool:
        return self.state is RunState.RUNNING

    def observe(self, image: Image, now: float) -> None:
        """Take the machine's state from what its device says."""
        said = image.reading(self.running_id)
        running_known = said.usable
        running = running_known and bool(said.value)
        fault = image.flag(self.fault_id, otherwise=False)
        lost = self.lost.step(running_known and not running and self.state is RunState.RUNNING, now)
        self.faulty = self.faulty or fault
        if self.faulty:
            self._go(RunState.FAILED, now)
        elif self.state is RunState.FAILED and (not running or self._stopping(now)):
            return
        elif not running_known:
            if self.state is not RunState.STARTING:
                self._go(RunState.UNKNOWN, now)
        elif running and self.state is not RunState.RUNNING:
            self._go(RunState.RUNNING, now)
        elif self.state is RunState.UNKNOWN:
            self._go(RunState.STOPPED, now)
        elif lost:
            self._stopped_by_itself(image, now)
        elif self.state is RunState.STARTING and now - self.since > self.prove_s:
            self.stopped_at = now
            self._go(RunState.FAILED, now)

    def _stopping(self, now: float) -> bool:
        """Whether it was told to stop a moment ago: it must not be told to run again, whatever it still shows."""
        return self.min_off_s > 0 and now - self.stopped_at < STOPS_S

    def _stopped_by_itself(self, image: Image, now: float) -> None:
        """A machine that stopped while it was told to run has failed; one told to stop has stopped."""
        told_to_run = image.flag(self.run_cmd_id, otherwise=True)
        self.stopped_at = now
        self._go(RunState.FAILED if told_to_run else RunState.STOPPED, now)

    def _go(self, state: RunState, now: float) -> None:
        if state is not self.state:
            self.state, self.since = state, now
