"""The priority arrays as a document: who asks what of each setpoint, what wins, what is in force, who was put out."""

from __future__ import annotations

import math
from json import JSONEncoder
from typing import Any, Final

from controller.core.slots import Array, Lock
from controller.northbound.publisher import STATE, Message
from controller.northbound.snapshot import Snapshot

SPACING_S: Final = 1.0  # while a setpoint moves
REFRESH_S: Final = 98.0
PLACES: Final = 2
encode: Final = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class Override:
    """Says the document on each connection, when an array changes, while a setpoint moves, and every REFRESH_S."""

    def __init__(self, root: str) -> None:
        self._topic = f"{root}/override"
        self.reset()

    def reset(self) -> None:
        """Say it again at the next ``messages``: the connection is new."""
        self._at = -math.inf
        self._arrays: tuple[Array, ...] = ()
        self._lock: Lock | None = None
        self._in_force: dict[str, float | None] = {}

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        view = snapshot.view
        arrays = tuple(view.slots.values())
        in_force = {name: _rounded(view.image.number(name, otherwise=None)) for name in view.slots}
        elapsed = now - self._at
        same = arrays == self._arrays and view.lock == self._lock
        if not arrays or (same and (elapsed < SPACING_S or (in_force == self._in_force and elapsed < REFRESH_S))):
            return []
        self._at, self._arrays, self._lock, self._in_force = now, arrays, view.lock, in_force
        lock = view.lock
        body = {
            "ts": snapshot.wall_ms,
            "boot": snapshot.boot,
            "clk": snapshot.clock,
            "local": lock and {"by": lock.owner, "why": lock.reason, "since": snapshot.ms(lock.since)},
            "pts": {
                name.replace(".", "/", 1): _described(array, in_force[name], snapshot)
                for name, array in view.slots.items()
            },
        }
        return [Message(self._topic, encode(body).encode(), kind=STATE)]


def _described(array: Array, in_force: float | None, snapshot: Snapshot) -> dict[str, Any]:
    row = array.setpoint
    return {
        "unit": row.unit,
        "range": [row.low, row.high],
        "default": row.default,
        "clamps": row.clamps,
        "eff": in_force,
        "win": array.winner,
        "wanted": _rounded(array.wanted),
        "slots": {
            str(slot): {
                "v": _rounded(lease.value), "by": lease.principal, "why": lease.reason, "id": lease.command,
                "since": snapshot.ms(lease.since), "until": snapshot.ms(lease.until),
            }
            for slot, lease in array.leases.items()
        },
        "ended": {
            str(slot): {"by": ended.principal, "why": ended.reason, "t": snapshot.ms(ended.at)}
            for slot, ended in array.ended.items()
        },
    }  # fmt: skip


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, PLACES)
