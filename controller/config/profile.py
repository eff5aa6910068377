"""A device model as rows: registers, the standard points of its class, limits, comm-loss, golden vectors.

A profile is one TOML file, ``profiles/devices/<vendor>_<model>.toml``; docs/profiles.md tells how to write one.
Addresses are the 0-based numbers that go into the Modbus PDU.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from controller.config.problems import ConfigError, Document, Problem, misplaced, read_toml
from controller.core.points import Kind

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,47}$"
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Word = Annotated[int, Field(ge=0, le=0xFFFF)]
Address = Annotated[int, Field(ge=0, le=0xFFFF)]

UNITS = (
    "", "%", "Cel", "K", "kPa", "L/min", "kW", "kVA", "kvar", "kWh", "kvarh", "V", "A", "mA", "uA", "Hz", "{rpm}",
    "h", "min", "s", "ms", "L", "m", "Ohm", "Pa", "deg", "Nm", "{count}", "{pH}", "uS/cm",
    "kVAh", "A.h", "m3/h", "%/s",
)  # fmt: skip
DeviceClass = Literal[
    "pump", "valve", "chiller", "fan", "cdu", "pdu", "meter", "battery", "leak_detector", "sensor", "remote_io", "rack"
]
WORDS = {
    "int8l": 1, "int8h": 1, "uint8l": 1, "uint8h": 1, "int16": 1, "uint16": 1, "int24": 2, "uint24": 2,
    "int32": 2, "uint32": 2, "int48": 3, "uint48": 3, "int64": 4, "uint64": 4,
    "float16": 1, "float32": 2, "float64": 4, "bcd16": 1, "bcd32": 2, "bcd64": 4, "bool": 1,
}  # fmt: skip
READ_WORDS_MAX = 125
EXPONENT_MAX = 10  # largest power of ten that a scale-factor register may hold (SunSpec: -10 to 10)
OPEN = "Find out and state it before use."  # what an importer writes where only a person can know
WRITABLE_TABLES = ("holding", "coil")


class ClassPoint(NamedTuple):
    """A standard point of a device class: what control may rely on, whoever made the device.

    ``falls_back`` is true of an output that has a safe direction; a switched outlet has none and stays as it is.
    """

    kind: Kind
    unit: str
    writable: bool
    required: bool
    falls_back: bool = False


def _read(kind: Kind, unit: str = "", *, required: bool = True) -> ClassPoint:
    return ClassPoint(kind, unit, writable=False, required=required)


def _write(kind: Kind, unit: str = "", *, falls_back: bool = True) -> ClassPoint:
    return ClassPoint(kind, unit, writable=True, required=True, falls_back=falls_back)


CLASS_POINTS: Mapping[str, Mapping[str, ClassPoint]] = {
    "pump": {
        "run_cmd": _write(Kind.FLAG), "speed_cmd": _write(Kind.NUMBER, "%"), "running": _read(Kind.FLAG),
        "speed": _read(Kind.NUMBER, "%"), "fault": _read(Kind.FLAG), "power": _read(Kind.NUMBER, "kW", required=False),
    },
    "fan": {
        "speed_cmd": _write(Kind.NUMBER, "%"), "speed": _read(Kind.NUMBER, "{rpm}"), "fault": _read(Kind.FLAG),
    },
    "valve": {
        "position_cmd": _write(Kind.NUMBER, "%"), "position": _read(Kind.NUMBER, "%"),
        "fault": _read(Kind.FLAG, required=False),
    },
    "chiller": {
        "run_cmd": _write(Kind.FLAG), "supply_temp_sp": _write(Kind.NUMBER, "Cel"), "running": _read(Kind.FLAG),
        "supply_temp": _read(Kind.NUMBER, "Cel"), "fault": _read(Kind.FLAG),
        "return_temp": _read(Kind.NUMBER, "Cel", required=False),
    },
    "cdu": {
        "supply_temp": _read(Kind.NUMBER, "Cel"), "return_temp": _read(Kind.NUMBER, "Cel"),
        "flow": _read(Kind.NUMBER, "L/min"),
    },
    "pdu": {"outlet_1": _write(Kind.FLAG, falls_back=False), "power": _read(Kind.NUMBER, "kW", required=False)},
    "meter": {"power": _read(Kind.NUMBER, "kW")},
    "battery": {"soc": _read(Kind.NUMBER, "%"), "power": _read(Kind.NUMBER, "kW")},
    "leak_detector": {"leak": _read(Kind.FLAG), "fault": _read(Kind.FLAG)},
    "sensor": {},
    "remote_io": {},
    "rack": {},
}  # fmt: skip


class Strict(BaseModel):
    """A table: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Repeat(Strict):
    """``count`` like rows, ``{n}`` in the name counting from ``first``, addresses ``step`` apart."""

    count: Annotated[int, Field(ge=2, le=128)]
    step: Annotated[int, Field(ge=1, le=4096)] = 1
    first: Annotated[int, Field(ge=0, le=128)] = 1


Rules = tuple[tuple[bool, str, str], ...]  # what is wrong when true, at which key, and its remedy


class Row(Strict):
    """One point of a device and the register it lives in. Engineering value = raw x scale + offset."""

    table: Literal["holding", "input", "coil", "discrete"]
    address: Address
    type: Literal[
        "int8l", "int8h", "uint8l", "uint8h", "int16", "uint16", "int24", "uint24", "int32", "uint32", "int48",
        "uint48", "int64", "uint64", "float16", "float32", "float64", "bcd16", "bcd32", "bcd64", "text", "bool",
    ] = "uint16"  # fmt: skip
    words: Annotated[int, Field(ge=1, le=64)] | None = None
    word_order: Literal["big", "little", "swapped_pairs", "swapped_halves"] = "big"
    byte_order: Literal["big", "little"] = "big"
    lane: Literal["both", "low", "high"] = "both"
    field: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None
    scale: float = 1.0
    scale_from: Address | None = None
    offset: float = 0.0
    unit: str = ""
    access: Literal["r", "rw", "w"] = "r"
    bit: Annotated[int, Field(ge=0, le=15)] | None = None
    on: Word | list[Word] | None = None
    off: Word | list[Word] | None = None
    mask: Word = 0xFFFF
    step_wait_s: Annotated[float, Field(ge=0, le=10)] = 0.0
    enum: dict[str, str] = {}
    bits: dict[str, Name] = {}
    sentinels: list[int] = []
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    rate: Literal["fast", "normal", "slow", "once"] = "normal"
    deadband: Annotated[float, Field(ge=0)] = 0.0
    safety: bool = False
    fail_value: float | bool | None = None
    confidence: Literal["two sources agree", "one source", "uncertain"] = "one source"
    source: str = ""
    description: str = ""
    repeat: Repeat | None = None

    @cached_property
    def kind(self) -> Kind:
        """What the point's value is in Python."""
        if self.table in ("coil", "discrete") or self.bit is not None or self.on is not None:
            return Kind.FLAG
        if self.type == "text":
            return Kind.TEXT
        if self.enum:
            return Kind.CODE
        return Kind.BITS if self.bits else Kind.NUMBER

    @cached_property
    def value_words(self) -> int:
        """How many registers (or bits of a bit table) the value itself takes."""
        return self.words if self.type == "text" and self.words else WORDS.get(self.type, 1)

    @cached_property
    def width(self) -> int:
        """How many registers are read for it: up to its scale factor, so that both always come from one answer."""
        return self.value_words if self.scale_from is None else self.scale_from - self.address + 1

    @cached_property
    def on_words(self) -> tuple[int, ...]:
        """Words written one after another to switch on; the last is the one that stays."""
        return tuple(self.on) if isinstance(self.on, list) else (self.on or 0,)

    @cached_property
    def off_words(self) -> tuple[int, ...]:
        return tuple(self.off) if isinstance(self.off, list) else (self.off or 0,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for wrong, key, remedy in (*self._kind_rules(), *self._layout_rules(), *self._number_rules()):
            if wrong:
                raise misplaced(key, remedy)
        return self

    def _kind_rules(self) -> Rules:
        bits_table, flag = self.table in ("coil", "discrete"), self.bit is not None or self.on is not None
        return (
            (self.unit not in UNITS, "unit", f"allowed: {', '.join(filter(None, UNITS))}"),
            (self.access != "r" and self.table not in WRITABLE_TABLES, "access", f'a {self.table} is read-only: "r"'),
            (self.type == "text" and not self.words, "words", "required with type text: its number of registers"),
            (self.words is not None and self.type != "text", "words", f"only for type text; {self.type} has its width"),
            (bits_table != (self.type == "bool"), "type", 'coils and discretes have "bool", registers another type'),
            (self.bit is not None and self.access != "r", "access", "one bit can't be written; use on, off and mask"),
            (flag and self.type != "uint16", "type", "a flag with bit or on is one uint16 register"),
            (bool(self.bits) and not self.type.startswith("uint"), "type", "named bits need an unsigned type"),
            (self.bit is not None and self.on is not None, "bit", "give either bit, or on and off"),
            (self.on is not None and self.access != "r" and self.off is None, "off", "required to write a flag"),
        )

    def _layout_rules(self) -> Rules:
        flag, bits = self.bit is not None or self.on is not None, 16 * self.value_words
        low, size = self.field or (0, bits)
        shared = self.field is not None or self.type.startswith(("int8", "uint8"))
        wide = self.word_order.startswith("swapped") and self.value_words != WORDS["uint64"]
        return (
            (wide, "word_order", "only a value of four registers has halves and pairs"),
            (
                self.byte_order != "big" and (flag or self.type == "bool"),
                "byte_order",
                "count bits in the word as sent",
            ),
            (self.lane != "both" and self.type != "text", "lane", "only for type text; int8l and uint8h are numbers"),
            (self.field is not None and not self.type.startswith("uint"), "field", "bits of an unsigned type only"),
            (self.field is not None and (flag or bool(self.bits)), "field", "give either a field, or bits or a flag"),
            (not 0 <= low < low + size <= bits, "field", f"allowed: [lowest bit, how many bits] of {bits}"),
            (shared and self.access != "r", "access", "a part of a register can't be written"),
        )

    def _number_rules(self) -> Rules:
        near = self.scale_from is None or self.value_words < self.width <= READ_WORDS_MAX
        plain = self.scale_from is None or (self.kind is Kind.NUMBER and self.access == "r")
        return (
            (not near, "scale_from", f"allowed: a register after the value, {READ_WORDS_MAX} in all with it"),
            (not plain, "scale_from", "only for a number that is read"),
            (self.kind is Kind.NUMBER and self.range is None, "range", "required for a number: [low, high]"),
            (self.range is not None and not self.range[0] < self.range[1], "range", "allowed: [low, high], low < high"),
            (not math.isfinite(self.scale) or self.scale == 0, "scale", "allowed: a finite number other than 0"),
            (not all(map(math.isfinite, (self.offset, *(self.range or ())))), "range", "allowed: finite numbers"),
            (self.address + self.width > 0x10000, "address", f"{self.width} registers from here run past 65535"),
            (not all(map(_is_int, self.enum)), "enum", "its keys are whole numbers"),
            (
                not all(_is_int(n) and 0 <= int(n) < 16 * self.value_words for n in self.bits),
                "bits",
                "bit numbers only",
            ),
        )

    @property
    def texts(self) -> dict[int, str]:
        return {int(key): text for key, text in (self.enum or self.bits).items()}


def _is_int(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def type_limits(kind: str) -> tuple[float, float]:
    """Return the lowest and the highest raw number that a register type holds."""
    if kind.startswith("float"):
        high = {"float16": 65504.0, "float32": 3.4028234663852886e38, "float64": sys.float_info.max}[kind]
        return -high, high
    size = int("".join(filter(str.isdigit, kind)))
    if kind.startswith("bcd"):
        return 0, 10 ** (size // 4) - 1
    return (-(1 << size - 1), (1 << size - 1) - 1) if kind.startswith("int") else (0, (1 << size) - 1)


class Probe(Strict):
    """The registers that tell whether the device answers, and what they hold when it is this model."""

    table: Literal["holding", "input"] = "holding"
    address: Address
    words: Annotated[int, Field(ge=1, le=READ_WORDS_MAX)] = 1
    expect: Word | str | None = None


class Link(Strict):
    """What the device bears on the wire."""

    max_read_words: Annotated[int, Field(ge=1, le=125)]
    max_hole_words: Annotated[int, Field(ge=0, le=124)] = 0
    barriers: list[Address] = []
    forbidden: list[Annotated[list[Address], Field(min_length=2, max_length=2)]] = []
    min_gap_ms: Annotated[float, Field(ge=0, le=1000)] = 0.0
    device_time_ms: Annotated[float, Field(ge=0, le=5000)]
    write_multiple: bool = False
    pipeline: Annotated[int, Field(ge=1, le=8)] = 1

    def refusal(self, row: Row) -> str:
        """Return why the device can't be asked for ``row`` in one read, or nothing."""
        if row.access == "w":
            return ""
        if any(first < row.address + row.width and row.address <= last for first, last in self.forbidden):
            return "lies in a range of [link] forbidden; correct one of them"
        if row.width > self.max_read_words and row.table not in ("coil", "discrete"):
            return f"{row.width} registers long; [link] max_read_words = {self.max_read_words}"
        return ""


class Expectation(Strict):
    """A parameter of the device that decides what it does when the bus falls silent."""

    point: Name
    value: float | bool


class CommLoss(Strict):
    """What the device does when nobody talks to it. Stated for every device; asserted at every boot where readable."""

    reaction: Annotated[str, StringConstraints(min_length=10)]
    expect: list[Expectation] = []


class Heartbeat(Strict):
    """A register that the controller must keep changing, or the device takes it for dead: counts up by 1 and wraps."""

    point: Name
    period_s: Annotated[float, Field(ge=0.2, le=60)]


class Golden(Strict):
    """Raw words worked out by hand from the source, and the values they mean ("bad": no usable value)."""

    note: str = ""
    holding: dict[str, list[Word]] = {}
    input: dict[str, list[Word]] = {}
    coil: dict[str, list[bool]] = {}
    discrete: dict[str, list[bool]] = {}
    values: dict[str, float | bool | str]


class ProfileTables(Strict):
    """The tables of a profile file as written."""

    vendor: str
    model: str
    device_class: DeviceClass = Field(alias="class")
    tier: Literal["bronze", "silver", "gold", "platinum"]
    sources: Annotated[list[str], Field(min_length=1)]
    notes: str = ""
    site_points: bool = False
    link: Link
    probe: Probe | None = None
    comm_loss: CommLoss
    heartbeat: Heartbeat | None = None
    points: dict[str, Row] = {}
    golden: list[Golden] = []


class Profile:
    """A device model: its file's tables with repeated rows written out.

    Attributes:
        name: the file's stem.
        rows: every point by name.
    """

    def __init__(self, name: str, tables: ProfileTables) -> None:
        self.name = name
        self.tables = tables
        self.device_class = tables.device_class
        self.link = tables.link
        self.comm_loss = tables.comm_loss
        self.rows = dict(expanded(tables.points))


def expanded(rows: Mapping[str, Row]) -> Iterator[tuple[str, Row]]:
    """Return the rows with each ``repeat`` written out."""
    for name, row in rows.items():
        if row.repeat is None:
            yield name, row
            continue
        for index in range(row.repeat.count):
            address = row.address + index * row.repeat.step
            yield name.replace("{n}", str(row.repeat.first + index)), _moved(row, address)


def _moved(row: Row, address: int) -> Row:
    moved = row.model_copy(update={"address": address, "repeat": None})
    moved.__dict__.pop("width", None)  # copied as it was computed, but it reaches from the address to the scale factor
    return moved


def load_profile(path: Path) -> Profile:
    """Return the profile in the file at ``path``.

    Raises:
        ConfigError: with every mistake in the file.
    """
    document = read_toml(path)
    tables = document.parse(ProfileTables)
    profile = Profile(path.stem, tables)
    problems = [
        *_name_problems(document, tables),
        *class_problems(document, profile),
        *_reference_problems(document, profile),
    ]
    if problems:
        raise ConfigError(problems)
    return profile


def _name_problems(document: Document, tables: ProfileTables) -> Iterator[Problem]:
    for name, row in tables.points.items():
        here = ("points", name)
        if (row.repeat is not None) != ("{n}" in name):
            yield document.problem(
                (*here, "repeat"), row.repeat and row.repeat.count, 'a repeated row has "{n}" in its name'
            )
        plain = name.replace("{n}", "1")
        if not plain.isidentifier() or not plain.islower() or len(plain) > 48:
            yield document.problem(
                (*here, "name"), name, f"allowed: text matching {NAME_PATTERN}, with {{n}} in a repeated row"
            )
        last = row.address + (row.repeat.count - 1) * row.repeat.step if row.repeat else row.address
        if last + row.value_words > 0x10000:
            yield document.problem(
                (*here, "repeat"), row.repeat and row.repeat.count, "the last row runs past address 65535"
            )
        if row.repeat and row.scale_from is not None and last + row.value_words > row.scale_from:
            yield document.problem((*here, "repeat"), row.repeat.count, "the last row runs past its scale factor")


def class_problems(document: Document, profile: Profile) -> Iterator[Problem]:
    """Return where the profile does not offer what its class promises."""
    for name, standard in CLASS_POINTS[profile.device_class].items():
        row = profile.rows.get(name)
        here = ("points", name)
        if row is None:
            if standard.required:
                yield document.problem((*here, "name"), None, f"required: every {profile.device_class} has {name}")
            continue
        if row.kind is not standard.kind:
            yield document.problem(
                (*here, "type"), row.type, f"{name} of a {profile.device_class} is a {standard.kind.value}"
            )
        if row.unit != standard.unit:
            yield document.problem((*here, "unit"), row.unit, f'allowed: "{standard.unit}" (scale to it)')
        if standard.writable and row.access == "r":
            yield document.problem((*here, "access"), row.access, 'allowed: "rw" or "w"; control writes this point')


def _reference_problems(document: Document, profile: Profile) -> Iterator[Problem]:
    for index, expectation in enumerate(profile.comm_loss.expect):
        if expectation.point not in profile.rows:
            yield document.problem(
                ("comm_loss", "expect", index, "point"), expectation.point, "no such point in this profile"
            )
    beat = profile.tables.heartbeat
    if beat is not None:
        row = profile.rows.get(beat.point)
        if row is None or row.access == "r" or row.kind is not Kind.NUMBER or (row.scale, row.offset) != (1.0, 0.0):
            remedy = "allowed: a number of this profile that can be written, without scale or offset"
            yield document.problem(("heartbeat", "point"), beat.point, remedy)
    for index, golden in enumerate(profile.tables.golden):
        for name in golden.values:
            if name not in profile.rows:
                yield document.problem(("golden", index, "values", name), None, "no such point in this profile")
    for name, row in profile.rows.items():
        if refusal := profile.link.refusal(row):
            yield document.problem(("points", name, "address"), row.address, refusal)
    for name, row in profile.tables.points.items():
        if not row.source:
            yield document.problem(
                ("points", name, "source"), None, "required: which document and table the row is from"
            )
        standard = CLASS_POINTS[profile.device_class].get(name)
        if row.fail_value is None and row.access != "r" and standard is not None and standard.falls_back:
            yield document.problem(
                ("points", name, "fail_value"), None, "required: what this output falls back to, towards cooling"
            )
