"""Enclosure file and device profiles -> one frozen Plan, with every reference checked."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from controller.config.adapters import DsxSettings, HomeAssistantSettings, SparkplugSettings
from controller.config.enclosure import (
    Bus,
    Console,
    Device,
    Enclosure,
    LinkSettings,
    NativeSettings,
    Principal,
    read_enclosure,
)
from controller.config.problems import ConfigError, Document, Location, Problem
from controller.config.profile import Profile, Row, load_profile
from controller.core import capacity, loops, modes
from controller.core.fault_rows import DEVICE as PROTECTION_DEVICE
from controller.core.pod import LINK_DEVICE, Expected, Heartbeat, Pod, interlock_rows
from controller.core.points import Kind, Point
from controller.core.power import Power, Rack
from controller.core.protection import Protection

ONCE_MAX_AGE_S = float("inf")
CONTROL_MAX_AGE_S = 5.0  # no control decision rests on anything older (plant facts, invariant 9)
AGE_PERIODS = 3.0
RESERVED_DEVICES = ("pod", "controller", PROTECTION_DEVICE)
ROLE_TABLES: Mapping[str, type] = {
    "tcs": loops.Tcs,
    "fws": loops.Fws,
    "room": loops.Room,
    "cooling": capacity.Cooling,
    "power": Power,
    "protection": Protection,
    "startup": modes.StartupTimes,
}


WITH_A_ROLE = ("pump", "fan", "valve", "chiller", "leak_detector", "battery")
NEEDED = ("tcs.pumps", "tcs.supply_temps", "tcs.return_temps", "fws.supply_temps")


@dataclass(frozen=True, slots=True)
class PointPlan:
    """One point, its register, and how often it is read (None: once, at boot and after its device returns)."""

    point: Point
    row: Row
    period_s: float | None


@dataclass(frozen=True, slots=True)
class DevicePlan:
    name: str
    profile: Profile
    bus: str
    unit: int
    description: str
    points: tuple[PointPlan, ...]


@dataclass(frozen=True, slots=True)
class BusPlan:
    name: str
    settings: Bus
    devices: tuple[DevicePlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the service needs, resolved. ``revision`` changes with any setting."""

    name: str
    site: str
    revision: str
    scan_s: float
    best_effort: tuple[str, ...]  # rate groups that may be stretched
    state_dir: Path
    buses: tuple[BusPlan, ...]
    pod: Pod
    native: NativeSettings
    links: Mapping[str, LinkSettings]
    principals: Mapping[str, Principal]
    console: Console
    dsx: DsxSettings | None = None
    sparkplug: SparkplugSettings | None = None
    homeassistant: HomeAssistantSettings | None = None

    @property
    def devices(self) -> Iterator[DevicePlan]:
        return (device for bus in self.buses for device in bus.devices)


def load_plan(path: Path) -> Plan:
    """Return the plan of the enclosure or site file at ``path``.

    Raises:
        ConfigError: with every mistake in the file, its bases and the profiles it names.
    """
    document = read_enclosure(path)
    problems: list[Problem] = []
    enclosure: Enclosure | None = None
    try:
        enclosure = document.parse(Enclosure)
    except ConfigError as error:
        problems += error.problems
    profiles = _profiles(document, problems)
    rows = dict(_rows(document, profiles))
    problems += _reference_problems(document, profiles, rows)
    problems += _absence_problems(document)
    problems += _device_problems(document, profiles)
    problems += _dsx_problems(document, rows)
    if not problems:  # a role that names something else leaves what it should have named without one
        problems += _idle_problems(document, profiles)
    if problems or enclosure is None:
        raise ConfigError(problems)
    return _build(document, enclosure, profiles)


def without(pod: Pod) -> Iterator[str]:
    """Return a line for each role that nothing plays, with the interlocks that the enclosure does without for it."""
    found: dict[str, dict[str, set[str]]] = {}  # by role and row, the racks that it is about
    for row in interlock_rows(pod, absent=True):
        for need in (need for need in row.needs if need not in pod.roles):
            role, name = (text.replace(row.rack, "*") if row.rack else text for text in (need, row.id))
            found.setdefault(role, {}).setdefault(name, set()).add(row.rack)
    for role, rows in found.items():
        racks = {rack for those in rows.values() for rack in those} if role.startswith("*") else ()
        where = f" at {len(racks)} of {len(pod.racks)} racks" if racks else ""
        yield f"without {role}{where}, so without: {', '.join(rows)}"


def _tables(data: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    found = data.get(key)
    return {name: table for name, table in found.items() if isinstance(table, dict)} if isinstance(found, dict) else {}


def _profiles(document: Document, problems: list[Problem]) -> dict[str, Profile]:
    """Return every profile that the devices name and that can be loaded; add the mistakes of the others."""
    given = document.data.get("profiles_dir")
    folder = document.origin(("profiles_dir",)).parent / (given if isinstance(given, str) else ".")
    profiles: dict[str, Profile] = {}
    failed: set[str] = set()
    for device, table in _tables(document.data, "devices").items():
        name = table.get("profile")
        if not isinstance(name, str) or name in profiles or name in failed:
            continue
        path = folder / f"{name}.toml"
        if not path.is_file():
            known = sorted(found.stem for found in folder.glob("*.toml"))
            remedy = f"no such profile in {folder}; there are: {', '.join(known) or 'none'}"
            problems.append(document.problem(("devices", device, "profile"), name, remedy))
            failed.add(name)
            continue
        try:
            profiles[name] = load_profile(path)
        except ConfigError as error:
            problems += error.problems
            failed.add(name)
    return profiles


def _rows(document: Document, profiles: Mapping[str, Profile]) -> Iterator[tuple[str, Row]]:
    """Return the row of every point of every device, as far as the file can be understood."""
    for device, table in _tables(document.data, "devices").items():
        profile = profiles.get(str(table.get("profile")))
        if profile:
            yield from ((f"{device}.{name}", row) for name, row in profile.rows.items())
        for name, row in _tables(table, "points").items():
            try:
                yield f"{device}.{name}", Row.model_validate(row)
            except ValidationError:
                continue


def _device_problems(document: Document, profiles: Mapping[str, Profile]) -> Iterator[Problem]:
    buses = document.data.get("buses")
    names = set(buses) if isinstance(buses, dict) else set()
    racks = _tables(document.data, "racks")
    seen: dict[tuple[str, int], str] = {}
    for device, table in _tables(document.data, "devices").items():
        here: Location = ("devices", device)
        bus, unit = table.get("bus"), table.get("unit")
        if device in names or device in RESERVED_DEVICES or device.startswith(LINK_DEVICE):
            yield document.problem((*here, "profile"), device, "this name is taken by a bus, a link or the pod itself")
        if device in racks:
            yield document.problem((*here, "profile"), device, "this name is taken by a rack")
        if isinstance(bus, str) and bus not in names:
            yield document.problem((*here, "bus"), bus, f"no such bus; there are: {', '.join(sorted(names))}")
        if isinstance(bus, str) and isinstance(unit, int):
            other = seen.setdefault((bus, unit), device)
            if other != device:
                yield document.problem((*here, "unit"), unit, f"{other} has this unit id on bus {bus} already")
            if names and _is_serial(buses, bus) and not 1 <= unit <= 247:
                yield document.problem((*here, "unit"), unit, "allowed on a serial line: 1 to 247")
        profile = profiles.get(str(table.get("profile")))
        if profile and not profile.tables.site_points and table.get("points"):
            remedy = f"only for profiles with site_points = true; {profile.name} has its own registers"
            yield document.problem((*here, "points"), None, remedy)
        for name, row in _tables(table, "points").items():
            if profile and name in profile.rows:
                yield document.problem((*here, "points", name), None, f"{profile.name} has a point of this name")
            if not row.get("source"):
                remedy = "required: which terminal of which module it is wired to"
                yield document.problem((*here, "points", name, "source"), None, remedy)


def _dsx_problems(document: Document, rows: Mapping[str, Row]) -> Iterator[Problem]:
    """Return what ``[dsx]`` names and the pod does not have."""
    table = document.data.get("dsx")
    if not isinstance(table, dict):
        return
    racks = _tables(document.data, "racks")
    for name in _tables(table, "points"):
        if name not in rows:
            remedy = "no such point; points are written device.point"
            yield document.problem(("dsx", "points", name, "object"), name, remedy)
    for name in _tables(table, "objects"):
        if name not in racks and name not in _tables(document.data, "devices"):
            yield document.problem(("dsx", "objects", name, "id"), name, "no such device or rack")
    for key in ("rack_supply_temp", "rack_return_temp"):
        point = table.get(key)
        for rack in racks.values():
            if isinstance(point, str) and point and rack.get("valve") and f"{rack['valve']}.{point}" not in rows:
                yield document.problem(("dsx", key), point, f"{rack.get('valve')} has no such point")
                break


def _is_serial(buses: Any, name: str) -> bool:
    table = buses.get(name)
    return isinstance(table, dict) and table.get("kind") != "tcp"


def _reference_problems(
    document: Document, profiles: Mapping[str, Profile], rows: Mapping[str, Row]
) -> Iterator[Problem]:
    """Return the roles that name what is not there or is of another sort."""
    classes = {
        device: profiles[str(table.get("profile"))].device_class
        for device, table in _tables(document.data, "devices").items()
        if str(table.get("profile")) in profiles
    }
    unknown = set(_tables(document.data, "devices")) - set(classes)  # their profile's own mistake is told already
    tables: list[tuple[Location, type, Any]] = [((n,), of, document.data.get(n)) for n, of in ROLE_TABLES.items()]
    tables += [(("racks", name), Rack, table) for name, table in _tables(document.data, "racks").items()]
    for here, of, table in tables:
        if not isinstance(table, dict):
            continue
        for item in dataclasses.fields(of):
            given = table.get(item.name)
            names = given if isinstance(given, list) else [given]
            for name in names if item.metadata else ():
                if isinstance(name, str):
                    if name.split(".")[0] in unknown:
                        continue
                    remedy = _mismatch(name, item.metadata, classes, rows)
                    if remedy:
                        yield document.problem((*here, item.name), name, remedy)


def _absence_problems(document: Document) -> Iterator[Problem]:
    """Return the figures that are missing though something plays their role, and those of what is not there."""
    racks = _tables(document.data, "racks").values()

    def given(role: str) -> Any:
        """Return what plays ``role`` (table.key); None where the file does not say, which is told elsewhere."""
        table, _, key = role.partition(".")
        if table == "racks":
            return [rack[key] for rack in racks if rack.get(key)]
        found = document.data.get(table)
        return found.get(key) if isinstance(found, dict) else None

    for name, table in _tables({"": document.data}, "").items():
        for item in dataclasses.fields(ROLE_TABLES[name]) if name in ROLE_TABLES else ():
            role = item.metadata.get("of", "")
            plays = given(role) if role else None
            if plays and item.name not in table:
                yield document.problem((name, item.name), None, f"required, and not given: {role} is not empty")
            elif (plays == [] or plays is False) and item.name in table:
                remedy = f"not for an enclosure without {role}; remove it"
                yield document.problem((name, item.name), table[item.name], remedy)
    if given("fws.pumps") == [] and not given("protection.fws_flow"):
        remedy = "required without fws.pumps: nothing else tells that facility water flows"
        yield document.problem(("protection", "fws_flow"), given("protection.fws_flow"), remedy)
    for role in NEEDED:
        if given(role) == []:
            yield document.problem(tuple(role.split(".")), [], "at least one: no enclosure can be run without")


def _idle_problems(document: Document, profiles: Mapping[str, Profile]) -> Iterator[Problem]:
    """Return the machines, detectors and safety points that no role names: left out of the loops by mistake."""
    tables: list[Any] = [document.data.get(name) for name in ROLE_TABLES]
    tables += _tables(document.data, "racks").values()
    given = [value for table in tables if isinstance(table, dict) for value in table.values()]
    named = {name for value in given for name in (value if isinstance(value, list) else [value])}
    used = {str(name).partition(".")[0] for name in named}
    for device, table in _tables(document.data, "devices").items():
        profile = profiles.get(str(table.get("profile")))
        if profile and profile.device_class in WITH_A_ROLE and device not in used:
            remedy = f"a {profile.device_class} that no table of the loops names; name it there or remove it"
            yield document.problem(("devices", device, "profile"), table["profile"], remedy)
        for name, row in _tables(table, "points").items():
            if row.get("safety") is True and f"{device}.{name}" not in named:
                remedy = "a safety point that nothing looks at; name it where it belongs, or in protection.watched"
                yield document.problem(("devices", device, "points", name, "safety"), True, remedy)


def _mismatch(name: str, wanted: Mapping[str, Any], classes: Mapping[str, str], rows: Mapping[str, Row]) -> str:
    if "class" in wanted:
        if name not in classes:
            return "no such device"
        return "" if classes[name] == wanted["class"] else f"{name} is a {classes[name]}; allowed: a {wanted['class']}"
    row = rows.get(name)
    if row is None:
        return "no such point; points are written device.point"
    if row.kind is not wanted["kind"]:
        return f"{name} is a {row.kind.value}; allowed: a {wanted['kind'].value}"
    if row.kind is Kind.NUMBER and row.unit != wanted["unit"]:
        return f'{name} is in "{row.unit}"; allowed: "{wanted["unit"]}"'
    return ""


def _build(document: Document, enclosure: Enclosure, profiles: Mapping[str, Profile]) -> Plan:
    periods = {"fast": enclosure.rates.fast_s, "normal": enclosure.rates.normal_s, "slow": enclosure.rates.slow_s}
    devices = [_device(name, device, profiles, periods) for name, device in enclosure.devices.items()]
    buses = tuple(
        BusPlan(name, bus, tuple(device for device in devices if device.bus == name))
        for name, bus in enclosure.buses.items()
    )
    points = {plan.point.id: plan.point for device in devices for plan in device.points}
    expected = tuple(
        Expected(f"{device.name}.{item.point}", item.value)
        for device in devices
        for item in device.profile.comm_loss.expect
    )
    pod = Pod(
        name=enclosure.name,
        tcs=enclosure.tcs,
        fws=enclosure.fws,
        room=enclosure.room,
        cooling=enclosure.cooling,
        rotation=enclosure.rotation,
        power=enclosure.power,
        racks=tuple(dataclasses.replace(rack, name=name) for name, rack in enclosure.racks.items()),
        protection=enclosure.protection,
        startup=enclosure.startup,
        autostart=enclosure.operation.autostart,
        expected=expected,
        heartbeats=tuple(_heartbeats(devices)),
        device_bus={device.name: device.bus for device in devices},
        device_class={device.name: device.profile.device_class for device in devices},
        points=points,
        links=tuple(enclosure.links),
    )
    return Plan(
        name=enclosure.name,
        site=enclosure.site,
        revision=_revision(document, profiles),
        scan_s=enclosure.scan.period_ms / 1000,
        best_effort=tuple(enclosure.rates.best_effort),
        state_dir=Path(enclosure.state_dir),
        buses=buses,
        pod=pod,
        native=enclosure.native,
        links=enclosure.links,
        principals=enclosure.principals,
        console=enclosure.console,
        dsx=enclosure.dsx,
        sparkplug=enclosure.sparkplug,
        homeassistant=enclosure.homeassistant,
    )


def _heartbeats(devices: Iterable[DevicePlan]) -> Iterator[Heartbeat]:
    for device in devices:
        beat = device.profile.tables.heartbeat
        if beat is not None:
            _, top = device.profile.rows[beat.point].range or (0, 0)
            yield Heartbeat(f"{device.name}.{beat.point}", beat.period_s, int(top))


def _device(name: str, device: Device, profiles: Mapping[str, Profile], periods: Mapping[str, float]) -> DevicePlan:
    profile = profiles[device.profile]
    rows: Iterable[tuple[str, Row]] = [*profile.rows.items(), *device.points.items()]
    points = tuple(_point(name, point, row, periods.get(row.rate)) for point, row in rows)
    return DevicePlan(name, profile, device.bus, device.unit, device.description, points)


def _point(device: str, name: str, row: Row, period_s: float | None) -> PointPlan:
    low, high = row.range or (None, None)
    max_age = ONCE_MAX_AGE_S if period_s is None else AGE_PERIODS * period_s
    point = Point(
        device=device,
        name=name,
        kind=row.kind,
        unit=row.unit,
        low=low,
        high=high,
        readable=row.access != "w",
        writable=row.access != "r",
        safety=row.safety,
        max_age_s=min(max_age, CONTROL_MAX_AGE_S) if row.safety else max_age,
        fail_value=row.fail_value,
        texts=row.texts,
        deadband=row.deadband,
        description=row.description,
    )
    return PointPlan(point, row, period_s)


def _revision(document: Document, profiles: Mapping[str, Profile]) -> str:
    """Return a hash of everything that was configured."""
    settings = [document.data, {name: profile.tables.model_dump(mode="json") for name, profile in profiles.items()}]
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
