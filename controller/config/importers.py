"""Maps of other projects -> our profile tables, and tables -> TOML. Pure.

rackmon (facebook/openbmc), phosphor-modbus (openbmc) and SunSpec model JSON. What a map does not say is marked OPEN and
listed; what our rows can't express is listed with its reason. Nothing is dropped without a word, except a map's
descriptive texts and how it groups and files: a profile has words of its own.

Sources of the formats: rackmon's ``Register.cpp`` (value = shift + scale x raw / 2^precision; a little-endian integer
has its words and its bytes turned round; a flag's bit counts in the registers taken together), phosphor-modbus'
``device_profile.schema.json``, and the SunSpec Device Information Model specification (sentinels, scale factors).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from controller.config.profile import OPEN, READ_WORDS_MAX, type_limits

NAME_MAX = 44  # of 48, for a number that tells like names apart
SPAN_WORDS = 32  # a cautious read where the map names no limit
DEVICE_TIME_MS = 50
SUNSPEC_BASE = 40000
FLOAT_RANGE = [-1.0e9, 1.0e9]
NO_WRITES = "written by the other project; the controller writes nothing on its own account"

Json = Mapping[str, Any]
Keys = dict[str, Any]


class MapError(ValueError):
    """The file is none of the three formats, or breaks its own; the text says where."""


class Left(NamedTuple):
    """Something of the map that is not in the tables, and why; ``register`` when it is a whole register of the map."""

    what: str
    why: str
    register: bool = False


@dataclass(slots=True)
class Imported:
    """A map as tables of a profile.

    Attributes:
        tables: what ``ProfileTables`` takes.
        left: what could not be mapped.
        open: what only a person can find out.
        read: how many registers the map describes.
    """

    tables: Keys
    left: list[Left] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    read: int = 0

    @property
    def mapped(self) -> int:
        return self.read - sum(item.register for item in self.left)

    def row(self, name: str, address: int, source: str, keys: Callable[[], Keys]) -> None:
        """Add a row, or the reason (ValueError of ``keys``) why there is none."""
        points = self.tables["points"]
        try:
            row = {"table": "holding", "address": address, **keys(), "source": source, "description": name}
        except ValueError as error:
            self.left.append(Left(f"register {address} {name}", str(error), register=True))
            return
        points[to_name(name, points)] = row

    def unknown(self, data: Json, known: str) -> None:
        self.left += [Left(f'key "{key}"', "not known") for key in data if key not in known.split()]

    def finished(self) -> Imported:
        """Return itself with what is open in every import, and the units that the map does not give."""
        bare = [name for name, row in self.tables["points"].items() if "range" in row and not row.get("unit")]
        self.open += [
            "vendor and model, from the nameplate",
            "comm_loss: what the device does when the bus falls silent",
            f"standard points of class {self.tables['class']}: name the rows that are them",
            "ranges: each is all that its register can hold",
            "device_time_ms and max_read_words, from the manual or a measurement",
            "golden vectors, by hand",
            *([f"unit of {', '.join(bare)}"] if bare else []),
        ]
        return self


def import_map(data: Json, source: str, device_class: str, base: int = SUNSPEC_BASE) -> Imported:
    """Return the map in ``data`` (one parsed JSON file) as a profile.

    Args:
        source: what to name as the source, as "orv3_psu.json".
        base: address of SunSpec's first register ("SunS"); the model is taken to follow at once. Only for SunSpec.

    Raises:
        MapError: the format is not known, or a required key is missing.
    """
    tables = {
        "vendor": OPEN, "model": OPEN, "class": device_class, "tier": "bronze", "sources": [source], "notes": "",
        "link": {"max_read_words": SPAN_WORDS, "device_time_ms": DEVICE_TIME_MS}, "probe": {},
        "comm_loss": {"reaction": f"Not stated in the map. {OPEN}"}, "points": {},
    }  # fmt: skip
    done = Imported(tables)
    try:
        if "registers" in data:
            _rackmon(data, source, done)
        elif "DeviceModel" in data:
            _phosphor(data, source, done)
        elif "group" in data:
            _sunspec(data, source, base + 2, done)
        else:
            raise MapError(f'{source}: not rackmon ("registers"), phosphor-modbus ("DeviceModel") or SunSpec ("group")')
    except (KeyError, TypeError, AttributeError) as error:
        raise MapError(f"{source}: breaks its own format: {type(error).__name__} {error}") from None
    return done.finished()


def to_name(text: str, taken: Iterable[str] = ()) -> str:
    """Return ``text`` as a point's name, different from those in ``taken``."""
    plain = re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", text).lower()).strip("_")
    name = plain[:NAME_MAX].rstrip("_") or "point"
    name = name if name[0].isalpha() else f"p_{name}"
    used, unique, number = set(taken), name, 1
    while unique in used:
        number += 1
        unique = f"{name}_{number}"
    return unique


def _number(kind: str, scale: float = 1.0, offset: float = 0.0, unit: str = "", **keys: Any) -> Keys:
    """Return a number's keys; its range is all that the register can hold, until a person narrows it."""
    scale, offset = (float(f"{number:.12g}") for number in (scale, offset))  # products of decimals leave digits behind
    ends = FLOAT_RANGE if kind.startswith("float") else sorted(end * scale + offset for end in type_limits(kind))
    return {"type": kind, **keys, "scale": scale, "offset": offset, "unit": unit, "range": ends}


def _whole(words: int, signed: bool = False) -> str:
    if words > 4:
        raise ValueError(f"{words} registers are no number")
    return f"{'' if signed else 'u'}int{16 * words}"


def _text(words: int) -> Keys:
    return {"type": "text", "words": words, "rate": "once"}


def _named(flags: Iterable[tuple[int, str]]) -> dict[str, str]:
    bits: dict[str, str] = {}
    for number, text in sorted(flags):
        bits[str(number)] = to_name(text, bits.values())
    return bits


# rackmon: its names end in the unit, or say none

RACKMON_UNITS = {
    "c": ("Cel", 1.0), "v": ("V", 1.0), "a": ("A", 1.0), "w": ("kW", 0.001), "rpm": ("{rpm}", 1.0), "kpa": ("kPa", 1.0),
    "lpm": ("L/min", 1.0), "pct": ("%", 1.0), "rh": ("%", 1.0), "hz": ("Hz", 1.0),
}  # fmt: skip
RACKMON_KEYS = "begin length format name sign endian precision scale shift flags"


def _rackmon(data: Json, source: str, done: Imported) -> None:
    units = ", ".join(f"{low} to {high}" if low != high else str(low) for low, high in data["address_range"])
    parity = str(data.get("parity", "EVEN")).lower()
    done.tables["notes"] = f"{data['name']}: {data['baudrate']} baud, {parity} parity, unit {units}.\n"
    done.tables["link"]["max_read_words"] = min(data.get("max_span_length", SPAN_WORDS), READ_WORDS_MAX)
    done.tables["probe"] = {"address": data["probe_register"]}
    done.read = len(data["registers"])
    for register in data["registers"]:
        begin = register["begin"]
        done.row(register["name"], begin, f"{source} {begin}", partial(_rackmon_keys, register))
    kept = Counter(key for register in data["registers"] for key in register if key not in RACKMON_KEYS.split())
    done.left += [Left(f'key "{key}" of {n} registers', "rackmon's own record keeping") for key, n in kept.items()]
    for handler in data.get("special_handlers", ()):
        done.left.append(Left(f"{handler['action']} to {handler['reg']} every {handler.get('period')} s", NO_WRITES))
    known = "name address_range probe_register baudrate parity max_span_length registers special_handlers"
    done.unknown(data, known)


def _rackmon_keys(register: Json) -> Keys:
    length, form = register["length"], register.get("format", "RAW")
    if form == "STRING":
        return _text(length)
    if form == "FLAGS":
        return {"type": _whole(length), "bits": _named(map(tuple, register["flags"]))}
    if form not in ("INTEGER", "LONG", "FLOAT"):
        raise ValueError(f"format {form} has no meaning but its bytes")
    kind = _whole(length, bool(register.get("sign")))
    unit, factor = RACKMON_UNITS.get(register["name"].lower().rpartition("_")[2], ("", 1.0))
    if form == "FLOAT":
        scale = register.get("scale", 1.0) * 2.0 ** -register["precision"]
        return _number(kind, scale * factor, register.get("shift", 0.0) * factor, unit)
    little = {"word_order": "little", "byte_order": "little"} if register.get("endian") == "L" else {}
    return _number(kind, factor, 0.0, unit, **little)


# phosphor-modbus: OpenBMC's sensor units, and our count of each

PHOSPHOR_UNITS = {
    "Temperature": ("Cel", 1.0), "Voltage": ("V", 1.0), "Current": ("A", 1.0), "Power": ("kW", 0.001),
    "FanTach": ("{rpm}", 1.0), "LiquidFlow": ("L/min", 1.0), "Frequency": ("Hz", 1.0), "Utilization": ("%", 1.0),
    "Humidity": ("%", 1.0), "Pressure": ("Pa", 1.0), "Altitude": ("m", 1.0), "Valve": ("%", 1.0),
    "RotationalPosition": ("deg", 57.2957795131), "ValveClosedDuration": ("s", 1.0), "ValveOpenDuration": ("s", 1.0),
}  # fmt: skip
PHOSPHOR_ROWS = "InventoryRegisters FirmwareRegisters SensorRegisters MetricRegisters"


def _phosphor(data: Json, source: str, done: Imported) -> None:
    model, probe = data["DeviceModel"], data["ProbeRegister"]
    done.tables["notes"] = f"{data['DeviceType']} {model}: {data['BaudRate']} baud, {data['Parity'].lower()} parity.\n"
    done.tables["probe"] = {"address": _at(probe), "words": probe["Size"], "expect": probe["ExpectedValue"]}
    for section in PHOSPHOR_ROWS.split():
        for item in data.get(section, ()):
            done.read += 1
            name, text = item.get("Name", item["Type"]), section in PHOSPHOR_ROWS.split()[:2]
            done.row(name, _at(item), f"{source} {item['Offset']}", partial(_phosphor_keys, item, text))
    for item in data.get("StatusRegisters", ()):
        done.read += 1
        _phosphor_status(item, source, done)
    for item in data.get("ConfigRegisters", ()):
        done.read += 1
        default = f" ({item['Default']} at start)" if "Default" in item else ""
        what = f"register {_at(item)} {item.get('Name', item['Type'])}{default}"
        done.left.append(Left(what, NO_WRITES, register=True))
    known = f"DeviceType DeviceModel Parity BaudRate ProbeRegister StatusRegisters ConfigRegisters {PHOSPHOR_ROWS}"
    done.unknown(data, known)


def _at(item: Json) -> int:
    return int(item["Offset"], 16)


def _phosphor_keys(item: Json, text: bool) -> Keys:
    if item["Type"] == "Update":
        raise ValueError("a firmware update, not a value")
    if text:
        return _text(item["Size"]) if item.get("Format") != "Integer" else _number(_whole(item["Size"]), rate="once")
    unit, factor = PHOSPHOR_UNITS.get(item["Type"], ("", 1.0))
    scale = item.get("Scale", 1.0) * 2.0 ** -item.get("Precision", 0)
    kind = "float32" if item["Format"] == "Float32" else _whole(item["Size"], bool(item.get("IsSigned")))
    return _number(kind, scale * factor, item.get("Shift", 0.0) * factor, unit)


def _phosphor_status(item: Json, source: str, done: Imported) -> None:
    address, title, origin = _at(item), item.get("Name", f"status_{_at(item)}"), f"{source} {item['Offset']}"
    high = [(bit["BitPosition"], bit["Name"]) for bit in item["Bits"] if bit["Value"]]
    if high:
        done.row(title, address, origin, partial(dict, bits=_named(high)))
    for bit in item["Bits"]:
        if not bit["Value"]:  # active while 0: named bits speak only of ones, so it is a flag of its own
            mask = 1 << bit["BitPosition"]
            done.row(bit["Name"], address, origin, partial(dict, on=0, off=mask, mask=mask))
    kinds = ", ".join(sorted({bit["Type"] for bit in item["Bits"]}))
    done.left.append(
        Left(f"severity of the bits of {title}", f"{kinds}: which of them alarm is the enclosure's to say")
    )


# SunSpec: units and our count of each; types, ours and the pattern that says "not implemented"

SUNSPEC_UNITS = {
    "W": ("kW", 0.001), "VA": ("kVA", 0.001), "VAR": ("kvar", 0.001), "WH": ("kWh", 0.001), "VAH": ("kVAh", 0.001),
    "VARH": ("kvarh", 0.001), "A": ("A", 1.0), "V": ("V", 1.0), "HZ": ("Hz", 1.0), "C": ("Cel", 1.0), "PCT": ("%", 1.0),
    "%": ("%", 1.0), "SECS": ("s", 1.0), "AH": ("A.h", 1.0), "%WHRTG": ("%", 1.0), "VNOMPCT": ("%", 1.0),
    "%MAX/SEC": ("%/s", 1.0),
}  # fmt: skip
SUNSPEC_TYPES = {
    "int16": ("int16", 0x8000), "uint16": ("uint16", 0xFFFF), "count": ("uint16", 0xFFFF), "raw16": ("uint16", 0xFFFF),
    "int32": ("int32", 0x8000_0000), "uint32": ("uint32", 0xFFFF_FFFF), "acc16": ("uint16", 0), "acc32": ("uint32", 0),
    "int64": ("int64", 0x8000_0000_0000_0000), "uint64": ("uint64", 0xFFFF_FFFF_FFFF_FFFF), "acc64": ("uint64", 0),
    "enum16": ("uint16", 0xFFFF), "enum32": ("uint32", 0xFFFF_FFFF), "bitfield16": ("uint16", 0xFFFF),
    "bitfield32": ("uint32", 0xFFFF_FFFF), "bitfield64": ("uint64", 0xFFFF_FFFF_FFFF_FFFF),
    "float32": ("float32", 0x7FC0_0000), "float64": ("float64", 0x7FF8_0000_0000_0000),
}  # fmt: skip


def _sunspec(data: Json, source: str, start: int, done: Imported) -> None:
    model = data["id"]
    done.tables["notes"] = (
        f"SunSpec model {model}, its first register at {start}: read the model's number to be sure.\n"
    )
    done.tables["link"]["max_read_words"] = READ_WORDS_MAX
    done.tables["probe"] = {"address": start, "expect": model}
    placed = list(_placed(data["group"], start, done))
    factors = {point["name"]: address for address, point in placed if point["type"] == "sunssf"}
    for address, point in placed:
        done.read += 1
        if point["type"] in ("sunssf", "pad"):
            continue  # a scale factor is in the rows it scales; padding says nothing
        name = {"ID": "model_id", "L": "model_length"}.get(point["name"]) or point.get("label", point["name"])
        done.row(name, address, f"{source} {point['name']}", partial(_sunspec_keys, point, address, factors))
        if point.get("access") == "RW" and (point["type"] == "string" or "sf" in point):
            why = "read only here: texts are not written, and a scale factor would have to be read first"
            done.left.append(Left(f"writing {point['name']}", why))


def _placed(group: Json, start: int, done: Imported) -> Iterator[tuple[int, Json]]:
    """Yield the points that stand still, with their addresses, in order; list all from the first repeating group on."""
    for point in group["points"]:
        yield start, point
        start += point["size"]
    still = True
    for inner in group.get("groups", ()):
        still = still and inner.get("count", 1) == 1
        if not still:
            _repeating(inner, done)
            continue
        yield from _placed(inner, start, done)
        start += sum(point["size"] for point in inner["points"])


def _repeating(group: Json, done: Imported) -> None:
    for point in group["points"]:
        done.read += 1
        why = f"its group repeats {group.get('count') or 'to the end of the model'} times, which only the device knows"
        done.left.append(Left(f"register {group['name']}.{point['name']}", why, register=True))
    for inner in group.get("groups", ()):
        _repeating(inner, done)


def _sunspec_keys(point: Json, address: int, factors: Mapping[str, int]) -> Keys:
    if point["type"] == "string":
        return _text(point["size"])
    if point["type"] not in SUNSPEC_TYPES:
        raise ValueError(f"type {point['type']} is not one of ours")
    kind, sentinel = SUNSPEC_TYPES[point["type"]]
    keys: Keys = {"sentinels": [sentinel]}
    if point.get("access") == "RW" and "sf" not in point:
        keys["access"] = "rw"
    symbols = point.get("symbols", ())
    if symbols and point["type"].startswith("enum"):
        return {"type": kind, "enum": {str(s["value"]): s.get("label", s["name"]) for s in symbols}, **keys}
    if symbols and point["type"].startswith("bitfield"):
        return {"type": kind, "bits": _named((symbol["value"], symbol["name"]) for symbol in symbols), **keys}
    unit, factor = SUNSPEC_UNITS.get(point.get("units", "").upper(), ("", 1.0))
    scale = point.get("sf", 0)
    if isinstance(scale, int):
        return _number(kind, factor * 10.0**scale, 0.0, unit, **keys)
    if scale not in factors:
        raise ValueError(f"its scale factor {scale} is not in this part of the model")
    if not address + point["size"] <= factors[scale] < address + READ_WORDS_MAX:
        raise ValueError(f"its scale factor at {factors[scale]} is not behind it within the reach of one read")
    return _number(kind, factor, 0.0, unit, scale_from=factors[scale], **keys)


# TOML

DEFAULTS: Json = {"type": "uint16", "scale": 1.0, "offset": 0.0, "unit": "", "access": "r"}


def toml(tables: Json) -> str:
    """Return the tables of a profile as TOML: one row a line, keys in the order they came in, no defaults."""
    named = {key: value for key, value in tables.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}" for key, value in tables.items() if key not in named]
    for table, keys in named.items():
        lines += ["", f"[{table}]"]
        for key, value in keys.items():
            row = table == "points"
            told = {k: v for k, v in value.items() if v != DEFAULTS.get(k)} if row else value
            lines.append(f"{key} = {_value(told)}")
    return "\n".join(lines) + "\n"


def _value(value: Any, key: str = "") -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        keys = (name if name.isidentifier() else json.dumps(name) for name in value)
        return f"{{ {', '.join(f'{k} = {_value(v, k)}' for k, v in zip(keys, value.values(), strict=True))} }}"
    if isinstance(value, list):
        return f"[{', '.join(_value(item, key) for item in value)}]"
    if key in ("sentinels", "mask", "on", "off"):
        return f"0x{value:X}"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return json.dumps(value, ensure_ascii=False)
