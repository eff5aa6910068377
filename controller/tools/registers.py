"""Raw registers on an Access: dump them, compare dumps, and tell what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from controller.config.enclosure import Bus
from controller.config.plan import DevicePlan
from controller.config.profile import Row
from controller.core.points import Quality, Reading
from controller.fieldbus import frames
from controller.fieldbus.codec import decode
from controller.fieldbus.frames import NoReply, Refused, WrongReply
from controller.fieldbus.planner import wire_s
from controller.tools.access import Access
from controller.tools.points import ToolError, worded

BUDGET_SHARE = 0.5  # of the write budget, that the frames of a block may take; the rest is for the device
BLOCK_WORDS = 16  # registers read at once where no profile says what the device bears


@dataclass(frozen=True, slots=True)
class Block:
    """Which registers of a unit, how many at a time, and where no read may go or cross."""

    unit: int
    table: str
    first: int
    last: int
    most_words: int = BLOCK_WORDS
    barriers: Sequence[int] = ()
    forbidden: Sequence[Sequence[int]] = ()

    def reads(self) -> Iterator[tuple[int, int]]:
        """Return (address, count) of the reads."""
        start = self.first
        while start <= self.last:
            inside = next((last for low, last in self.forbidden if low <= start <= last), None)
            if inside is not None:
                start = inside + 1
                continue
            walls = [*(b for b in self.barriers if b > start), *(low for low, _ in self.forbidden if low > start)]
            end = min([self.last + 1, start + self.most_words, *walls])
            yield start, end - start
            start = end


def block_of(settings: Bus, unit: int, device: DevicePlan | None, table: str, first: int, last: int) -> Block:
    """Return how to read registers of a unit of a bus: within what its profile says, or cautiously without one.

    Raises:
        ToolError: the range is none.
    """
    if not 0 <= first <= last <= 0xFFFF:
        raise ToolError(f"registers {first} to {last}: allowed: 0 to 65535, the lower first")
    if table not in frames.READ_FUNCTIONS:
        raise ToolError(f"table {table}: allowed: {', '.join(frames.READ_FUNCTIONS)}")
    link = device.profile.link if device else None
    most = link.max_read_words if link else BLOCK_WORDS
    while most > 1 and wire_s(settings, table, most) > BUDGET_SHARE * settings.write_budget_ms / 1000:
        most -= 1
    if link is None:
        return Block(unit, table, first, last, most)
    return Block(unit, table, first, last, most, link.barriers, link.forbidden)


Dumped = dict[int, int | str]  # a register's word, or why there is none


async def dump(access: Access, block: Block) -> Dumped:
    """Read a range of registers; one that the device does not give stands with the reason.

    A block that the device refuses is halved until the registers that it has are found.

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    found: Dumped = {}
    left = list(block.reads())[::-1]
    while left:
        address, count = left.pop()
        try:
            words = await access.ask(frames.read(block.unit, block.table, address, count))
        except Refused as error:
            if error.not_mapped and count > 1:
                left += [(address + count // 2, count - count // 2), (address, count // 2)]
                continue
            found.update(dict.fromkeys(range(address, address + count), str(error)))
        except (NoReply, WrongReply) as error:
            found.update(dict.fromkeys(range(address, address + count), str(error)))
        else:
            found.update(zip(range(address, address + count), words, strict=True))
    return found


HEADER = "# podkeeper dump 1"


def dump_text(about: Mapping[str, str], dumped: Dumped) -> str:
    """Return a dump as tab-separated text: lines of ``# key value``, then address, hexadecimal word or "-", reason."""
    lines = [HEADER, *(f"# {key}\t{value}" for key, value in about.items()), "address\tword\treason"]
    for address, word in sorted(dumped.items()):
        lines.append(f"{address}\t0x{word:04X}\t" if isinstance(word, int) else f"{address}\t-\t{word}")
    return "\n".join(lines) + "\n"


def parse_dump(text: str, name: str) -> tuple[dict[str, str], Dumped]:
    """Return the header and the registers of a dump; raises ToolError with the line that is none."""
    lines = text.splitlines()
    if not lines or lines[0] != HEADER:
        raise ToolError(f'{name}: no dump; its first line is "{HEADER}"')
    about: dict[str, str] = {}
    dumped: Dumped = {}
    for number, line in enumerate(lines[1:], 2):
        key, _, value = line.partition("\t")
        if line.startswith("# "):
            about[key[2:]] = value
        elif key != "address":
            word, _, reason = value.partition("\t")
            try:
                dumped[int(key)] = reason if word == "-" else int(word, 16)
            except ValueError:
                raise ToolError(f"{name}, line {number}: allowed: address, 0x and a word or -, reason") from None
    return about, dumped


def meanings(rows: Mapping[str, Row], table: str, dumped: Dumped) -> dict[str, tuple[Row, Reading]]:
    """Return what a dump says of each point of a profile whose registers it holds in full."""
    found = {}
    for name, row in rows.items():
        words = [dumped.get(address) for address in range(row.address, row.address + row.width)]
        numbers = [word for word in words if isinstance(word, int)]
        if row.table == table and row.access != "w" and len(numbers) == len(words):
            found[name] = row, decode(row, numbers, 0.0)
    return found


def changes(before: Dumped, after: Dumped, rows: Mapping[str, Row], table: str) -> list[str]:
    """Return a line for each register that differs, then one for each point of ``rows`` that means something else."""
    addresses = [at for at in sorted(before.keys() | after.keys()) if before.get(at) != after.get(at)]
    lines = [f"{at}\t{_raw(before.get(at))} -> {_raw(after.get(at))}" for at in addresses]
    old, new = meanings(rows, table, before), meanings(rows, table, after)
    for name in rows:
        was, now = _meant(old.get(name)), _meant(new.get(name))
        if was != now:
            lines.append(f"{name}\t{was} -> {now}")
    return lines


def unusable(dumped: Dumped, rows: Mapping[str, Row], table: str) -> list[str]:
    """Return a line for each point of ``rows`` whose registers the dump holds, and that has no usable value there."""
    return [
        f"{name}\t{reading.reason}"
        for name, (_, reading) in meanings(rows, table, dumped).items()
        if reading.quality is not Quality.GOOD
    ]


def _raw(word: int | str | None) -> str:
    if word is None:
        return "not read"
    return f"0x{word:04X}" if isinstance(word, int) else word


def _meant(found: tuple[Row, Reading] | None) -> str:
    if found is None:
        return "-"
    row, reading = found
    if reading.value is None:
        return f"no value ({reading.reason})"
    return worded(row, reading.value)
