"""What a virtual bus has worked out beforehand of the reads that it makes over and over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from controller.config.profile import Row
from controller.core.points import Reading
from controller.fieldbus.bus import TIE_S
from controller.fieldbus.planner import Span
from controller.fieldbus.units import SLOWEST_FADES, Due, Unit
from hil.devices.emulator import Emulator


class VirtualUnit(Unit):
    """A unit that knows when nothing is out of the ordinary with it."""

    @property
    def steady(self) -> bool:
        """Whether it has answered of late, and the last time too."""
        return self.answering is True and self._failures == 0

    def learn(self, own_s: float) -> None:
        """Learn as ``took`` does from an answer that took the unit itself so long."""
        self._answers += 1
        fading_s = self._slowest_s * SLOWEST_FADES
        self._slowest_s = own_s if own_s > fading_s else fading_s


@dataclass(slots=True)
class Held:
    """What a span held when it was read last, and where among its words each point has its own."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    parts: tuple[slice, ...]
    words: Sequence[int] = ()
    readings: list[Reading] = field(default_factory=list)


def held(span: Span) -> Held:
    """Return a span of which nothing has been read yet."""
    rows = tuple(plan.row for plan in span.points)
    starts = [row.address - span.address for row in rows]
    parts = tuple(slice(start, start + row.width) for start, row in zip(starts, rows, strict=True))
    return Held(tuple(plan.point.id for plan in span.points), rows, parts)


@dataclass(slots=True)
class Lane:
    """A span whose reads are worked out beforehand.

    Attributes:
        look: returns its words while the device is plain; None where each read must go through the device's rules.
        wait_s: until its deadline from when it is due. cost_s: of an exchange; own_s: the unit's part of it.
        quick: its answer comes within any timeout.
    """

    due: Due
    unit: VirtualUnit
    emulator: Emulator
    look: Callable[[], tuple[int, ...]] | None
    wait_s: float
    cost_s: float
    own_s: float
    quick: bool
    seen: Held


Ready = tuple[float, Lane]  # with its deadline


def first(ready: Sequence[Ready]) -> int:
    """Return the place of the read that goes first; of those whose deadlines are equal, the first."""
    place, earliest = 0, float("inf")
    for index, (deadline, _) in enumerate(ready):
        if deadline < earliest - TIE_S:
            place, earliest = index, deadline
    return place


def tied(ready: Sequence[Ready]) -> bool:
    """Return whether all deadlines are equal, so that the reads go in their order."""
    low = high = ready[0][0] if ready else 0.0
    for deadline, _ in ready:
        if deadline < low:
            low = deadline
        elif deadline > high:
            high = deadline
    return high - low < TIE_S / 2
