"""Which holes of its map a device bears to be read over, found out by reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from controller.config.plan import DevicePlan
from controller.config.profile import Row
from controller.fieldbus import frames
from controller.fieldbus.frames import NoReply, Refused, WrongReply
from controller.tools.access import Access

GOOD, REFUSED, SILENT, SHIFTED, NEXT_WRONG, UNSTEADY = (
    "good", "refused", "no answer", "other values", "the next answer is wrong", "values don't stand still",
)  # fmt: skip

TRIES = 4  # while values move


@dataclass(frozen=True, slots=True)
class Hole:
    """Registers ``first`` to ``last`` that no row describes, between two rows; none of them where the rows touch."""

    table: str
    before: Row
    after: Row

    @property
    def first(self) -> int:
        return self.before.address + self.before.width

    @property
    def width(self) -> int:
        return self.after.address - self.first

    @property
    def count(self) -> int:
        """Registers of a read from the row before to the row after."""
        return self.after.address + self.after.width - self.before.address


@dataclass(slots=True)
class Holes:
    """What a device made of reads across its holes."""

    device: str
    results: list[tuple[Hole, str, str]] = field(default_factory=list)  # hole, outcome, detail

    def lines(self) -> list[str]:
        """Return a line for each hole, then the lines of [link] that follow from them."""
        lines = []
        for hole, outcome, detail in self.results:
            place = f"{hole.first} to {hole.after.address - 1}" if hole.width else f"border {hole.first}"
            lines.append(f"{hole.table} {place:<20}{hole.width:>4} words  {outcome}{f': {detail}' if detail else ''}")
        return [*lines, "", "[link]", *self.settings()]

    def settings(self) -> list[str]:
        """Return max_hole_words, barriers and forbidden as they follow: what was not proven good is not crossed."""
        good = max((hole.width for hole, outcome, _ in self.results if outcome == GOOD), default=0)
        failed = [hole for hole, outcome, _ in self.results if outcome != GOOD and hole.width <= good]
        barriers = sorted({hole.after.address for hole in failed if not hole.width})
        forbidden = sorted({(hole.first, hole.after.address - 1) for hole in failed if hole.width})
        lines = [f"max_hole_words = {good}"]
        if barriers:
            lines.append(f"barriers = {barriers}")
        if forbidden:
            lines.append(f"forbidden = {[list(pair) for pair in forbidden]}")
        return lines


def holes_of(device: DevicePlan, most_words: int) -> Iterator[Hole]:
    """Return the holes between neighbouring rows that one read can cross, and the borders where rows touch.

    Args:
        most_words: longest read that the bus has time for.
    """
    link = device.profile.link
    most = min(most_words, link.max_read_words)
    for table in ("holding", "input"):
        rows = sorted(
            (plan.row for plan in device.points if plan.row.table == table and plan.row.access != "w"),
            key=lambda row: (row.address, row.width),
        )
        reach: Row | None = None
        for row in rows:
            if reach is not None and row.address >= reach.address + reach.width:
                hole = Hole(table, reach, row)
                first, end = hole.first, row.address
                forbidden = any(low < end and first <= last for low, last in link.forbidden)
                if hole.count <= most and not forbidden:
                    yield hole
            if reach is None or row.address + row.width > reach.address + reach.width:
                reach = row


async def probe_holes(access: Access, device: DevicePlan, most_words: int) -> Holes:
    """Read across every hole of a device's profile and compare with single reads, the next answer too.

    Some devices give other registers' values for a read across a hole, or answer the request after it wrongly. So each
    hole takes: both rows alone, the block, a row alone again, and both rows alone at last: did they stand still?

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    holes = Holes(device.name)
    for hole in holes_of(device, most_words):
        for _ in range(TRIES):
            outcome, detail = await _crossed(access, device.unit, hole)
            if outcome != UNSTEADY:
                break
        holes.results.append((hole, outcome, detail))
    return holes


async def _crossed(access: Access, unit: int, hole: Hole) -> tuple[str, str]:
    before = await _alone(access, unit, hole.before), await _alone(access, unit, hole.after)
    if isinstance(before[0], str) or isinstance(before[1], str):
        return SILENT, "a row alone does not answer either"
    try:
        block = await access.ask(frames.read(unit, hole.table, hole.before.address, hole.count))
        outcome, detail = GOOD, ""
    except Refused as error:
        block, outcome, detail = [], REFUSED, str(error)
    except (NoReply, WrongReply) as error:
        block, outcome, detail = [], SILENT, str(error)
    following = await _alone(access, unit, hole.after)
    after = await _alone(access, unit, hole.before), await _alone(access, unit, hole.after)
    steady = [a == b for a, b in zip(before, after, strict=True)]
    if following not in (before[1], after[1]):
        if not steady[1]:
            return UNSTEADY, f"{_shown(before[1])}, {_shown(following)}, {_shown(after[1])}"
        return NEXT_WRONG, f"{_shown(following)} instead of {_shown(after[1])}"
    if outcome != GOOD:
        return outcome, detail
    parts = block[: hole.before.width], block[hole.count - hole.after.width :]
    for part, was, now, still in zip(parts, before, after, steady, strict=True):
        if still and part != now:
            return SHIFTED, f"{_shown(part)} instead of {_shown(now)}"
        if not still and part not in (was, now):
            return UNSTEADY, f"{_shown(was)}, {_shown(part)}, {_shown(now)}"
    return GOOD, ""


async def _alone(access: Access, unit: int, row: Row) -> list[int] | str:
    try:
        return await access.ask(frames.read(unit, row.table, row.address, row.width))
    except (NoReply, WrongReply, Refused) as error:
        return str(error)


def _shown(words: Sequence[int] | str) -> str:
    return words if isinstance(words, str) else " ".join(f"0x{word:04X}" for word in words)
