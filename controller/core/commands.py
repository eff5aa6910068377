"""Commands from outside, and how they are judged. No command writes to a device: it changes what the core asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Operation = Literal["start", "stop", "reset", "ack", "maintain", "release", "energise"]
OPERATIONS: tuple[Operation, ...] = ("start", "stop", "reset", "ack", "maintain", "release", "energise")


@dataclass(frozen=True, slots=True)
class Command:
    """One wish of a person or a system.

    Attributes:
        id: chosen by the sender; its answer carries it.
        principal: who asks (``console:name``).
        target: alarm id for ``ack`` ("*" for all); empty otherwise.
        expires: monotonic seconds after which it must not act.
    """

    id: str
    principal: str
    operation: Operation
    target: str
    expires: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command: accepted, or rejected with a reason from northbound's closed list."""

    id: str
    principal: str
    accepted: bool
    code: str = ""
    message: str = ""


ALLOWED_MODES: dict[str, tuple[str, ...]] = {
    "start": ("OFF",),
    "stop": ("STARTUP", "NORMAL", "FAULT.limiting", "FAULT.cooling_lost"),
    "reset": ("",),
    "ack": ("",),
    "maintain": ("OFF",),
    "release": ("MAINTENANCE",),
    "energise": ("NORMAL",),
}


def judge(command: Command, mode: str, now: float, alarms: frozenset[str]) -> Outcome:
    """Return whether ``command`` may act in ``mode``."""
    if now > command.expires:
        return _rejected(command, "expired", "came too late")
    if not any(mode.startswith(allowed) for allowed in ALLOWED_MODES[command.operation]):
        return _rejected(command, "not_in_mode", f"{command.operation} is not possible in {mode}")
    if command.operation == "ack" and command.target != "*" and command.target not in alarms:
        return _rejected(command, "unknown_target", f"no such alarm: {command.target}")
    return Outcome(command.id, command.principal, accepted=True)


def _rejected(command: Command, code: str, message: str) -> Outcome:
    return Outcome(command.id, command.principal, accepted=False, code=code, message=message)
