"""What a technician does with single points and registers, on an Access: read, write with an outcome, dump, compare."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controller.config.enclosure import Bus
from controller.config.plan import DevicePlan, Plan, PointPlan
from controller.config.profile import Row
from controller.core.points import Kind, Quality, Reading, Value, bad
from controller.fieldbus import frames
from controller.fieldbus.access import Access
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.frames import NoReply, Refused, WrongReply
from controller.fieldbus.planner import wire_s

WRITE_MAX_S = 20.0  # from the order to the end of its read-back; later it counts as expired
READ_BACK_S = 0.3
BUDGET_SHARE = 0.5  # of the write budget, that the frames of a block may take; the rest is for the device
BLOCK_WORDS = 16  # registers read at once where no profile says what the device bears
NOT_MAPPED = (2, 3)
ACCEPTED, WRITTEN, VERIFIED, MISMATCH, EXPIRED = "accepted", "written", "verified", "mismatch", "expired"


class ToolError(Exception):
    """What was asked can't be done; the text says where and what is allowed."""


def device_of(plan: Plan, name: str) -> DevicePlan:
    """Return a device of the plan; raises ToolError with the nearest name."""
    known = {device.name: device for device in plan.devices}
    if name not in known:
        raise ToolError(f"no such device: {name}; nearest is {_nearest(name, known)}")
    return known[name]


def point_of(plan: Plan, name: str) -> tuple[DevicePlan, PointPlan]:
    """Return a point, written ``device.point``, with its device; raises ToolError with the nearest name."""
    device = device_of(plan, name.partition(".")[0])
    known = {point.point.id: point for point in device.points}
    if name not in known:
        raise ToolError(f"no such point: {name}; nearest is {_nearest(name, known)}")
    return device, known[name]


def _nearest(name: str, known: Mapping[str, object]) -> str:
    return difflib.get_close_matches(name, known, 1, cutoff=0.0)[0]


# ---------------------------------------------------------------- one point


@dataclass(frozen=True, slots=True)
class Seen:
    """What a point read: its value with quality, and the raw words; none where the device did not give them."""

    device: DevicePlan
    plan: PointPlan
    reading: Reading
    words: tuple[int, ...] = ()

    def line(self) -> str:
        """Return the point, its value, its quality, its words and where they are from."""
        reading, row, device = self.reading, self.plan.row, self.device
        value = "-" if reading.value is None else worded(self.plan, reading.value)
        why = f" ({reading.reason})" if reading.reason else ""
        raw = " ".join(f"0x{word:04X}" for word in self.words) or "-"
        return (
            f"{self.plan.point.id}  {value}  {reading.quality.name}{why}  words {raw}  "
            f"[{described(row)}; {device.profile.name}, {device.bus} unit {device.unit}]"
        )


def described(row: Row) -> str:
    """Return a profile's row in short: ``holding 12 uint16 x 0.1 Cel``."""
    parts = [row.table, str(row.address), row.type]
    parts += [f"bit {row.bit}"] if row.bit is not None else []
    parts += [f"x {row.scale:g}"] if row.scale != 1 else []
    parts += [f"{row.offset:+g}"] if row.offset else []
    return " ".join([*parts, row.unit]).strip()


def worded(plan: PointPlan, value: Value) -> str:
    """Return a value with its unit, or with what its number means."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return f'"{value}"'
    if plan.row.kind is Kind.CODE:
        return f"{plan.row.texts.get(int(value), 'unknown code')} ({int(value)})"
    if plan.row.kind is Kind.BITS:
        names = [plan.row.texts.get(bit, f"bit {bit}") for bit in range(64) if int(value) >> bit & 1]
        return ", ".join(names) or "none"
    return f"{value:g} {plan.row.unit}".rstrip()


async def read_point(access: Access, device: DevicePlan, plan: PointPlan) -> Seen:
    """Read one point; what the device refuses is a BAD reading with the reason.

    Raises:
        LinkError, NoReply, WrongReply, Denied: as ``access`` does.
        ToolError: the point can only be written.
    """
    row = plan.row
    if row.access == "w":
        raise ToolError(f"{plan.point.id} can only be written")
    try:
        words = await access.ask(frames.read(device.unit, row.table, row.address, row.width))
    except Refused as error:
        return Seen(device, plan, bad(str(error), time.monotonic()))
    return Seen(device, plan, decode(row, words, time.monotonic()), tuple(words))


def value_of(plan: PointPlan, text: str) -> Value:
    """Return the value that ``text`` means for a point: on or off, a number, or the name of a code.

    Raises:
        ToolError: it means none.
    """
    row = plan.row
    if row.kind is Kind.FLAG:
        flags = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
        if text.lower() not in flags:
            raise ToolError(f"{plan.point.id} = {text}: allowed: on, off")
        return flags[text.lower()]
    codes = {name: code for code, name in row.texts.items()} if row.kind is Kind.CODE else {}
    if text in codes:
        return codes[text]
    try:
        return int(text, 0) if text.lower().startswith("0x") else float(text)
    except ValueError:
        allowed = f"one of {', '.join(map(repr, codes))}, or its number" if codes else "a number"
        raise ToolError(f"{plan.point.id} = {text}: allowed: {allowed}") from None


@dataclass(slots=True)
class Written:
    """What became of a write.

    Attributes:
        outcome: accepted, written, verified, mismatch or expired: how far it came.
        words: as written last, shared bits of the register included; found: as read back.
    """

    plan: PointPlan
    outcome: str = ACCEPTED
    words: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    why: str = ""

    def line(self) -> str:
        raw = " ".join(f"0x{word:04X}" for word in self.words)
        found = " ".join(f"0x{word:04X}" for word in self.found) or "-"
        return (
            f"{self.plan.point.id}  {self.outcome}{f': {self.why}' if self.why else ''}  words {raw}  read back {found}"
        )


async def write_point(access: Access, device: DevicePlan, plan: PointPlan, value: Value) -> Written:
    """Write one point and read it back; compared are the bits of the raw words that are the point's own.

    Raises:
        ToolError: it can't be written, or not this value.
        LinkError, NoReply, WrongReply, Refused, Denied: before anything was written.
    """
    row = plan.row
    if row.access == "r":
        raise ToolError(f"{plan.point.id} can only be read")
    try:
        steps = encode(row, value)
    except EncodeError as error:
        raise ToolError(f"{plan.point.id}: {error}") from None
    written = Written(plan, words=steps[-1])
    try:
        async with asyncio.timeout(WRITE_MAX_S):
            await _carry_out(access, device, written, steps)
    except TimeoutError:
        written.outcome, written.why = EXPIRED, f"not done within {WRITE_MAX_S:.0f} s"
    return written


async def _carry_out(access: Access, device: DevicePlan, written: Written, steps: list[list[int]]) -> None:
    row = written.plan.row
    if row.table == "holding" and row.access == "rw" and (len(steps) > 1 or row.mask != 0xFFFF):
        (current,) = await access.ask(frames.read(device.unit, row.table, row.address, 1))
        if row.mask != 0xFFFF:
            steps = [[current & ~row.mask & 0xFFFF | word & row.mask] for (word,) in steps]
        elif current == steps[-1][0]:
            steps = steps[-1:]  # a sequence whose last word stands already must not run again
    for number, words in enumerate(steps):
        if number:
            await asyncio.sleep(row.step_wait_s)
        written.words = words
        request = frames.write(device.unit, row.table, row.address, words, multiple=device.profile.link.write_multiple)
        try:
            await access.ask(request)
        except (NoReply, WrongReply) as error:  # it may have arrived all the same
            written.why = f"no echo: {error}"
            break
    else:
        written.outcome = WRITTEN
    if row.access == "w":
        if written.why:
            written.outcome = EXPIRED
        return
    await asyncio.sleep(READ_BACK_S)
    try:
        words = await access.ask(frames.read(device.unit, row.table, row.address, row.value_words))
    except (NoReply, WrongReply, Refused) as error:
        written.outcome = written.outcome if written.outcome == WRITTEN else EXPIRED
        written.why = f"{written.why}; " * bool(written.why) + f"not read back: {error}"
        return
    written.found = words
    mask = row.mask if row.table == "holding" else 1
    same = all((a ^ b) & mask == 0 for a, b in zip(written.words, words, strict=True))
    written.outcome = VERIFIED if same else MISMATCH if written.outcome == WRITTEN else EXPIRED
    if written.outcome == MISMATCH:
        reading = decode(row, words, time.monotonic())
        held = (
            worded(written.plan, reading.value) if reading.quality is Quality.GOOD and reading.value is not None else ""
        )
        written.why = f"the device holds {held or 'no usable value'}"


# ---------------------------------------------------------------- many registers


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
            if error.code in NOT_MAPPED and count > 1:
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
    return f"{reading.value} {row.unit}".rstrip()
