"""Names for the numbers: parts of the plant are views on its flat array, with an attribute for each slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from hil.plant.kernel import Numbers


class Part:
    """A view on the plant's numbers; ``i`` is its place among parts of its kind. It has no attributes of its own."""

    __slots__ = ("i", "x")

    def __init__(self, x: Numbers, i: int = 0) -> None:
        self.x, self.i = x, i


class Number:
    """An attribute that is one slot."""

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __get__(self, part: Part, kind: type[Part]) -> float:
        return float(part.x[self.slot + part.i])

    def __set__(self, part: Part, value: float) -> None:
        part.x[self.slot + part.i] = value


class Flag:
    """An attribute that is one slot and either on or off."""

    def __init__(self, slot: int) -> None:
        self.slot = slot

    def __get__(self, part: Part, kind: type[Part]) -> bool:
        return bool(part.x[self.slot + part.i] > 0)

    def __set__(self, part: Part, value: bool) -> None:
        part.x[self.slot + part.i] = 1.0 if value else 0.0


class Pct(Number):
    """An attribute in per cent of a slot that is a share."""

    def __get__(self, part: Part, kind: type[Part]) -> float:
        return 100 * float(part.x[self.slot + part.i])

    def __set__(self, part: Part, value: float) -> None:
        part.x[self.slot + part.i] = value / 100


class Row(Sequence[float]):
    """Neighbouring slots, read as a sequence of numbers."""

    __slots__ = ("first", "length", "x")

    def __init__(self, x: Numbers, first: int, length: int) -> None:
        self.x, self.first, self.length = x, first, length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> list[float]: ...
    def __getitem__(self, index: int | slice) -> float | list[float]:
        if isinstance(index, slice):
            return list(self)[index]
        return float(self.x[self.first + range(self.length)[index]])

    def __iter__(self) -> Iterator[float]:
        return (float(self.x[slot]) for slot in range(self.first, self.first + self.length))


class Flags(Sequence[bool]):
    """Neighbouring slots, read and set as a sequence of flags."""

    __slots__ = ("first", "length", "x")

    def __init__(self, x: Numbers, first: int, length: int) -> None:
        self.x, self.first, self.length = x, first, length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> bool: ...
    @overload
    def __getitem__(self, index: slice) -> list[bool]: ...
    def __getitem__(self, index: int | slice) -> bool | list[bool]:
        if isinstance(index, slice):
            return list(self)[index]
        return bool(self.x[self.first + range(self.length)[index]] > 0)

    def __setitem__(self, index: int, value: bool) -> None:
        self.x[self.first + range(self.length)[index]] = 1.0 if value else 0.0

    def __iter__(self) -> Iterator[bool]:
        return (bool(self.x[slot] > 0) for slot in range(self.first, self.first + self.length))

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]
