"""Commands from outside, and how they are judged. No command writes to a device: it changes what the core asks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from controller.core.points import Value

Operation = Literal[
    "start", "stop", "reset", "energise", "maintain", "release",
    "ack", "shelve", "unshelve", "out_of_service", "return_to_service",
    "set", "relinquish", "heartbeat", "isolate", "isolate_power", "lock", "unlock", "bypass", "unbypass",
]  # fmt: skip
State = Literal["accepted", "applied", "confirmed", "rejected", "failed", "expired", "superseded"]
Code = Literal[
    "", "bad_request", "forbidden", "unknown_target", "out_of_range", "bad_unit", "interlock", "not_in_mode",
    "local_lockout", "expired", "id_reuse", "rate", "busy", "readback", "comms", "internal",
]  # fmt: skip

OPERATIONS: tuple[Operation, ...] = get_args(Operation)
CODES: tuple[Code, ...] = get_args(Code)
MODE_OPERATIONS: tuple[Operation, ...] = ("start", "stop", "reset", "maintain", "release", "energise")


@dataclass(frozen=True, slots=True)
class Command:
    """One wish of a person or a system.

    Attributes:
        id: chosen by the sender; every answer carries it.
        principal: who asks (``console:name``, or the name of a principal of the enclosure file).
        operation: what to do.
        target: what to do it to: an alarm (``*`` for all, of ``ack``), a setpoint, a rack, an interlock; else empty.
        expires: monotonic seconds after which it must not act.
        value: the setpoint asked for by ``set``, in the point's unit.
        slot: of ``set`` and ``relinquish``.
        ttl_s: how long a setpoint, a shelving or a bypass is to last; 0 takes the longest time that needs no question.
        reason: why, in the sender's words.
    """

    id: str
    principal: str
    operation: Operation
    target: str
    expires: float
    value: Value | None = None
    slot: int = 0
    ttl_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command so far. A command may have several, in this order.

    ``accepted`` (judged, acts), ``applied`` (in force, or masked by a lower slot), then ``confirmed`` (its effect was
    seen), ``failed``, ``expired`` or ``superseded``. Or ``rejected``, which changes nothing.

    Attributes:
        code: why not, from a closed list; empty where nothing is wrong.
        message: the same in words, with what is allowed.
        effective: what is in force now, in the point's unit.
        until: monotonic seconds at which it ends by itself.
    """

    id: str
    principal: str
    state: State
    code: Code = ""
    message: str = ""
    effective: Value | None = None
    until: float | None = None

    @property
    def accepted(self) -> bool:
        return self.state in ("accepted", "applied", "confirmed")


ALLOWED_MODES: Mapping[Operation, tuple[str, ...]] = {
    "start": ("OFF",),
    "stop": ("STARTUP", "NORMAL", "FAULT.limiting", "FAULT.cooling_lost"),
    "reset": ("",),
    "maintain": ("OFF",),
    "release": ("MAINTENANCE",),
    "energise": ("NORMAL",),
}
# What a person must stand at the pod for: a latch is reset after somebody has looked; who takes control gives it back.
LOCAL_ONLY: frozenset[Operation] = frozenset(
    ("reset", "maintain", "release", "lock", "unlock", "out_of_service", "return_to_service", "bypass", "unbypass")
)
# What the local lock-out takes from everybody who is not at the pod. A wet rack may still be isolated.
LOCKED_OUT: frozenset[Operation] = frozenset(("start", "stop", "energise", "set"))


def is_local(principal: str) -> bool:
    """Return whether ``principal`` stands at the pod. Names of principals of the enclosure file have no colon."""
    return principal.startswith("console:")


def number(value: object) -> float | None:
    """Return ``value`` as a finite float; None for whatever is not a number, flags and text too."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def refused(command: Command, mode: str, now: float, locked_by: str) -> Outcome | None:
    """Return the refusal of ``command`` that needs no look at its target, or nothing.

    Args:
        locked_by: who has taken local control; empty if nobody has.
    """
    operation = command.operation
    if not now <= command.expires:
        return rejected(command, "expired", "came too late")
    if not is_local(command.principal):
        if operation in LOCAL_ONLY:
            return rejected(command, "forbidden", f"{operation} is only for the console of the pod")
        if locked_by and operation in LOCKED_OUT:
            return rejected(command, "local_lockout", f"local control taken by {locked_by}")
    allowed = ALLOWED_MODES.get(operation)
    if allowed is not None and not any(mode.startswith(prefix) for prefix in allowed):
        return rejected(command, "not_in_mode", f"{operation} is not possible in {mode}")
    return None


def rejected(command: Command, code: Code, message: str) -> Outcome:
    return Outcome(command.id, command.principal, "rejected", code, message)
