"""What is wrong or doubtful in a profile that loads: overlaps, sentinels, ranges, units, what was left open. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from controller.config.profile import CLASS_POINTS, OPEN, Profile, Row, type_limits
from controller.core.points import Kind

PHYSICAL = ("Cel", "K", "kPa", "Pa", "L/min", "m3/h", "kW", "kVA", "kvar", "V", "A", "mA", "Hz", "{rpm}", "%")
NAMED_UNITS = {  # the last word of a number's name, and the units it may have
    "temp": ("Cel", "K"), "temperature": ("Cel", "K"), "voltage": ("V", "%"), "current": ("A", "mA", "uA", "%"),
    "power": ("kW", "kVA", "kvar", "%"), "pressure": ("kPa", "Pa"), "flow": ("L/min", "m3/h", "%"), "soc": ("%",),
    "frequency": ("Hz", "%"), "speed": ("{rpm}", "%"), "position": ("%", "deg"), "duty": ("%",), "hours": ("h",),
    "humidity": ("%",),
}  # fmt: skip


class Finding(NamedTuple):
    """One thing found. An error keeps the profile from use; a note is for a person to judge."""

    error: bool
    point: str
    what: str
    remedy: str

    def line(self, file: str) -> str:
        return f"{file}: {'error' if self.error else 'note'}: {self.point}: {self.what}: {self.remedy}"


def lint(profile: Profile) -> list[Finding]:
    """Return what was found, errors first, in the order of the file."""
    found = [*_whole(profile), *_overlaps(profile)]
    for name, row in profile.rows.items():
        found += [Finding(True, name, what, remedy) for wrong, what, remedy in _row_errors(row, profile) if wrong]
        found += [Finding(False, name, what, remedy) for wrong, what, remedy in _row_notes(name, row, profile) if wrong]
    return sorted(dict.fromkeys(found), key=lambda finding: not finding.error)


def _whole(profile: Profile) -> Iterator[Finding]:
    tables = profile.tables
    for key, text in (("vendor", tables.vendor), ("model", tables.model), ("comm_loss", tables.comm_loss.reaction)):
        if OPEN in text or not text.strip():
            yield Finding(True, key, "left open", "find out and state it")
    if not tables.golden:
        yield Finding(True, "golden", "none", "work out at least one by hand from the source")
    outputs = [name for name, row in profile.rows.items() if row.access != "r"]
    if outputs and not tables.comm_loss.expect and not any(row.fail_value is not None for row in profile.rows.values()):
        remedy = "name a parameter in comm_loss.expect, or make sure that the reaction holds without one"
        yield Finding(False, "comm_loss", "it has outputs, and nothing that proves its reaction", remedy)


def _overlaps(profile: Profile) -> Iterator[Finding]:
    """Values that share registers without being the same registers, and two outputs that write over each other."""
    for (one, a), (other, b) in combinations(profile.rows.items(), 2):
        if a.table != b.table or a.address >= b.address + b.value_words or b.address >= a.address + a.value_words:
            continue
        if (a.address, a.value_words) != (b.address, b.value_words):
            yield Finding(
                True, one, f"overlaps {other}", "correct an address or a type: neither holds the whole of both"
            )
        elif a.access != "r" and b.access != "r" and a.mask & b.mask:
            yield Finding(
                True, one, f"writes the register of {other}", "make one of them read only, or give them masks"
            )


def _row_errors(row: Row, profile: Profile) -> Iterator[tuple[bool, str, str]]:
    link = profile.link
    numbers = row.type not in ("text", "bool")
    low, high = type_limits(row.type) if numbers else (0.0, 0.0)
    bits = 16 * row.value_words
    for sentinel in row.sentinels:
        never = not (low <= sentinel <= high or 0 <= sentinel < 1 << bits)
        yield never, f"sentinel {sentinel} never occurs", f"a {row.type} holds {low:g} to {high:g}"
    yield (
        row.table in ("holding", "input") and row.width > link.max_read_words,
        "longer than one read",
        "max_read_words",
    )
    split = any(row.address < barrier < row.address + row.width for barrier in link.barriers)
    yield split, "a barrier stands inside it", "correct the barrier or the address"
    yield row.safety and row.rate in ("slow", "once"), "safety, but read seldom", 'rate "fast" or "normal"'
    yield OPEN in row.source + row.description, "left open", "find out and state it"
    if row.range is None or row.kind is not Kind.NUMBER:
        return
    yield row.deadband > row.range[1] - row.range[0], "deadband wider than the range", "a smaller deadband"
    fail = row.fail_value
    outside = fail is not None and not row.range[0] <= fail <= row.range[1]
    yield outside, "fail_value outside the range", "a value that can be written"
    if row.scale_from is None and row.field is None:
        ends = sorted((low * row.scale + row.offset, high * row.scale + row.offset))
        missed = row.range[0] > ends[1] or row.range[1] < ends[0]
        yield missed, f"the register holds {ends[0]:g} to {ends[1]:g}, never the range", "correct scale, type or range"
        beyond = row.access != "r" and (
            row.range[0] < ends[0] - abs(row.scale) or row.range[1] > ends[1] + abs(row.scale)
        )
        yield (
            beyond,
            f"can't be written over all its range: the register ends at {ends[0]:g} and {ends[1]:g}",
            "a range",
        )


def _row_notes(name: str, row: Row, profile: Profile) -> Iterator[tuple[bool, str, str]]:
    standard = name in CLASS_POINTS[profile.device_class]
    doubted = row.confidence == "uncertain" and (standard or row.safety)
    yield doubted, "control may rely on it, and it is uncertain", "prove it at commissioning"
    if row.kind is not Kind.NUMBER or row.range is None:
        return
    units = NAMED_UNITS.get(name.rstrip("0123456789_").rsplit("_", 1)[-1])
    strange = units is not None and row.unit not in units
    yield strange, f'unit "{row.unit}" is unusual for this name', f"expected: {', '.join(units or ())}"
    if row.unit in PHYSICAL and not row.type.startswith("float"):
        low, high = sorted(limit * row.scale + row.offset for limit in type_limits(row.type))
        whole = row.range[0] <= low + abs(row.scale) / 2 and row.range[1] >= high - abs(row.scale) / 2
        yield whole and not row.sentinels, "its range rules nothing out", "what the equipment can really do"
