"""Single points on an Access: read, and write with an outcome."""

from __future__ import annotations

import asyncio
import difflib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.config.plan import DevicePlan, Plan, PointPlan
from controller.config.profile import Row
from controller.core.points import Kind, Quality, Reading, Value, bad
from controller.fieldbus import frames
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.frames import NoReply, Refused, WrongReply
from controller.fieldbus.writes import BACK_S, Fate
from controller.tools.access import Access

WRITE_MAX_S = 20.0  # from the order to the end of its read-back; later it counts as expired


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
        value = "-" if reading.value is None else worded(self.plan.row, reading.value)
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


def worded(row: Row, value: Value) -> str:
    """Return a value with its unit, or with what its number means."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return f'"{value}"'
    if row.kind is Kind.CODE:
        return f"{row.texts.get(int(value), 'unknown code')} ({int(value)})"
    if row.kind is Kind.BITS:
        names = [row.texts.get(bit, f"bit {bit}") for bit in range(64) if int(value) >> bit & 1]
        return ", ".join(names) or "none"
    return f"{value:.10g} {row.unit}".rstrip()


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
        outcome: how far it came.
        words: as written last, shared bits of the register included; found: as read back.
    """

    plan: PointPlan
    outcome: Fate = Fate.ACCEPTED
    words: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    why: str = ""

    def line(self) -> str:
        raw = " ".join(f"0x{word:04X}" for word in self.words)
        found = " ".join(f"0x{word:04X}" for word in self.found) or "-"
        outcome = f"{self.outcome.value}: {self.why}" if self.why else self.outcome.value
        return f"{self.plan.point.id}  {outcome}  words {raw}  read back {found}"


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
        written.outcome, written.why = Fate.EXPIRED, f"not done within {WRITE_MAX_S:.0f} s"
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
        except Refused as error:
            written.outcome, written.why = Fate.REFUSED, str(error)
            return
    else:
        written.outcome = Fate.WRITTEN
    if row.access == "w":
        if written.why:
            written.outcome = Fate.EXPIRED
        return
    await asyncio.sleep(BACK_S)
    try:
        words = await access.ask(frames.read(device.unit, row.table, row.address, row.value_words))
    except (NoReply, WrongReply, Refused) as error:
        written.outcome = written.outcome if written.outcome == Fate.WRITTEN else Fate.EXPIRED
        written.why = f"{written.why}; " * bool(written.why) + f"not read back: {error}"
        return
    written.found = words
    mask = row.mask if row.table == "holding" else 1
    same = all((a ^ b) & mask == 0 for a, b in zip(written.words, words, strict=True))
    written.outcome = Fate.VERIFIED if same else Fate.MISMATCH if written.outcome == Fate.WRITTEN else Fate.EXPIRED
    if written.outcome == Fate.MISMATCH:
        reading = decode(row, words, time.monotonic())
        held = worded(row, reading.value) if reading.quality is Quality.GOOD and reading.value is not None else ""
        written.why = f"the device holds {held or 'no usable value'}"
