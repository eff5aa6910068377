"""Which objects and points of the DSX contract a pod has, worked out from its roles and the ``[dsx]`` table (pure).

NVIDIA DSX Exchange, BMS event bus 1.0.0: object types, point types, closed units and the rules of named and
associated objects. A value is published under a point type only where it means exactly that; the rest is a
GenericPoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from controller.config.adapters import DsxObject, DsxSettings
from controller.config.plan import DevicePlan, Plan
from controller.core.alarm_states import AlarmState
from controller.core.commands import CODES
from controller.core.modes import STATES
from controller.core.pod import alarm_rows, pod_points
from controller.core.points import Kind
from controller.core.power import Rack
from controller.northbound.snapshot import GOOD, GOOD_LOCAL_OVERRIDE, Sample

UNITS: Final = {"Cel": "C", "L/min": "LPM", "{rpm}": "RPM", "{count}": "count"}
VALVE_CLOSED_PCT: Final = 2.0
Texts = tuple[str, ...]
OFF_ON: Final = ("Off", "On")
NO_YES: Final = ("NotAvailable", "Available")
NO_LEAK: Final = ("NoLeak", "Leak")
AI_STATES: Final[Texts] = ("NotEnabled", "Enabled", "KickedOut")
AI_REASONS: Final[Texts] = ("none", *CODES[1:])
ALARM_TEXTS: Final = {state.value: state.name.title().replace("_", "") for state in AlarmState}


class Found(NamedTuple):
    """What the sources of a tag say together; ``value`` is None where nothing can be said."""

    value: float | int | None
    good: bool
    at: float


Combine = Callable[[Sequence[Sample]], Found]


@dataclass(frozen=True, slots=True)
class Tag:
    """One point of the contract.

    Attributes:
        path: tag path, the same in the topics of value and metadata.
        metadata: its document, whole.
        sources: ids of the points it is made of; empty where ``key`` names what the adapter knows, or where the value
            comes from an integration.
        key: name of a value that the adapter works out.
        integration: who writes the value; empty where it is the pod.
    """

    object_type: str
    point_type: str
    path: str
    metadata: dict[str, Any]
    sources: tuple[str, ...] = ()
    combine: Combine | None = None
    key: str = ""
    integration: str = ""
    deadband: float = 0.0
    target: str = ""

    @property
    def tail(self) -> str:
        return f"{self.object_type}/{self.point_type}/{self.path}"


def mode_names() -> list[str]:
    """Return every mode; its place in the list is its number in ``Status``."""
    names: list[str] = []
    for state in STATES:
        if isinstance(state, str):
            names.append(str(state))
        else:
            names += [f"{state['name']}.{child}" for child in state["children"]]
    return names


def usable(sample: Sample) -> bool:
    return sample.status in (GOOD, GOOD_LOCAL_OVERRIDE)


def one(samples: Sequence[Sample]) -> Found:
    value = samples[0].value
    number = value if isinstance(value, int | float) else None
    return Found(int(number) if isinstance(number, bool) else number, usable(samples[0]), samples[0].at)


def total(samples: Sequence[Sample]) -> Found:
    values = [sample.value for sample in samples if usable(sample) and isinstance(sample.value, int | float)]
    whole = len(values) == len(samples)
    return Found(sum(values) if whole else None, whole, min(sample.at for sample in samples))


def any_on(samples: Sequence[Sample]) -> Found:
    """One that is on is enough; "none" needs all of them to be known."""
    at = max(sample.at for sample in samples)
    if any(usable(sample) and sample.value for sample in samples):
        return Found(1, True, at)
    known = all(map(usable, samples))
    return Found(0 if known else None, known, at)


def none_on(samples: Sequence[Sample]) -> Found:
    found = any_on(samples)
    return found._replace(value=None if found.value is None else 1 - int(found.value))


def first_and_rest_off(samples: Sequence[Sample]) -> Found:
    """The first must be on and all others off: a device that answers and has no fault."""
    answers, at = samples[0], max(sample.at for sample in samples)
    if usable(answers) and not answers.value:
        return Found(0, True, at)
    if any(usable(sample) and sample.value for sample in samples[1:]):
        return Found(0, True, at)
    known = all(map(usable, samples))
    return Found(1 if known else None, known, at)


def fault(samples: Sequence[Sample]) -> Found:
    """A leak detector that is broken, or does not answer (first source)."""
    found = first_and_rest_off(samples)
    return found._replace(value=None if found.value is None else 1 - int(found.value))


def closed(samples: Sequence[Sample]) -> Found:
    found = one(samples)
    return found if found.value is None else found._replace(value=int(found.value <= VALVE_CLOSED_PCT))


class Row(NamedTuple):
    """A standard point of a device class in the contract; ``texts`` for states, ``phase`` of a meter."""

    point: str
    type: str
    area: tuple[str, ...] = ()
    texts: Texts = ()
    setpoint: bool = False
    phase: str = ""


def _phases(point: str, kind: str, area: tuple[str, ...] = ()) -> tuple[Row, ...]:
    return tuple(Row(f"phase_{n}_{point}", kind, area, phase=letter) for n, letter in zip("123", "ABC", strict=True))


GENERIC: Final = "GenericPoint"
_METER: Final = (
    Row("power", "ActivePower"),
    Row("apparent_power", "ApparentPower"),
    Row("power_factor", "PowerFactor"),
    Row("frequency", "Frequency"),
    *_phases("current", "PhaseCurrent"),
    *_phases("voltage", GENERIC, ("Voltage",)),
    *_phases("power", GENERIC, ("ActivePower",)),
)
CLASS_ROWS: Final[dict[str, tuple[str, tuple[Row, ...]]]] = {
    "pump": ("Pump", (
        Row("motor_speed", "PumpSpeed"), Row("speed", GENERIC, ("Speed",)),
        Row("speed_cmd", GENERIC, ("Speed", "Command"), setpoint=True),
        Row("running", GENERIC, ("Running",), OFF_ON), Row("power", GENERIC, ("Power",)),
    )),
    "valve": ("Valve", (
        Row("position", "ValvePosition"), Row("position_cmd", GENERIC, ("Position", "Command"), setpoint=True),
        Row("flow", GENERIC, ("Flow",)),
    )),
    "chiller": ("Chiller", (
        Row("supply_temp", "LiquidTemperature", ("Supply",)), Row("return_temp", "LiquidTemperature", ("Return",)),
        Row("active_supply_sp", "LiquidTemperature", ("Supply",), setpoint=True),
        Row("running", "Status", (), ("NotOperating", "Operating")),
        Row("compressor_utilisation", GENERIC, ("Compressor",)),
    )),
    "meter": ("PowerMeter", _METER),
    "pdu": ("PowerMeter", _METER),
    "battery": ("BESS", (
        Row("state", "Status"), Row("soc", GENERIC, ("StateOfCharge",)), Row("power", GENERIC, ("Power",)),
        Row("voltage", GENERIC, ("Voltage",)), Row("current", GENERIC, ("Current",)),
    )),
    "sensor": ("Sensor", (Row("temperature", "AirTemperature"), Row("humidity", "AirRelativeHumidity"))),
    "leak_detector": ("Sensor", (
        Row("leak", "LeakDetect", (), NO_LEAK), Row("distance", GENERIC, ("LeakDistance",)),
        Row("fault", GENERIC, ("Fault",), ("NoFault", "Fault")),
    )),
}  # fmt: skip


def states(texts: Sequence[str] | dict[int, str]) -> dict[str, Any]:
    pairs = enumerate(texts) if not isinstance(texts, dict) else sorted(texts.items())
    return {"stateText": [{"value": value, "text": text} for value, text in pairs]}


@dataclass
class Catalogue:
    """Every tag of one pod."""

    plan: Plan
    settings: DsxSettings
    tags: list[Tag] = field(default_factory=list)

    def __post_init__(self) -> None:
        plan = self.plan
        self.prefix = self.settings.prefix or f"{plan.site}/{plan.name}"
        self.cdu = self.settings.cdu or f"{plan.name}-CDU"
        self.points = {**plan.pod.points, **pod_points(plan.pod)}
        self._system()
        self._cdu()
        for rack in plan.pod.racks:
            self._rack(rack)
        for device in plan.devices:
            self._device(device)
        for point, row in self.settings.points.items():
            if point not in self.points:
                raise ValueError(f"[dsx.points]: there is no point {point}")
            identity = (
                self._cdu_identity() if row.object == self.cdu else {"objectName": row.object, "objectId": row.object}
            )
            self._add(row.type, row.point_type, f"{row.object}/{point.replace('.', '/')}", identity, (point,), one,
                      row.area, setpoint=row.setpoint)  # fmt: skip

    def _add(
        self, object_type: str, point_type: str, path: str, identity: dict[str, Any], sources: tuple[str, ...] = (),
        combine: Combine | None = None, area: Sequence[str] = (), *, texts: Any = (), setpoint: bool = False,
        unit: str = "", **more: Any,
    ) -> None:  # fmt: skip
        """Add one tag; one whose point the pod lacks, or that can only be written, is left out."""
        known = [self.points.get(source) for source in sources]
        points = [point for point in known if point is not None and point.readable]
        if len(points) < len(sources):
            return
        given = points[0] if points else None
        metadata = {"objectType": object_type, "pointType": point_type, **identity}
        if texts:
            metadata |= states(texts)
        elif given is not None and given.kind is Kind.CODE and given.texts:
            metadata |= states(dict(given.texts))
        elif unit or (given is not None and given.unit):
            metadata["engUnit"] = _unit(point_type, unit or (given.unit if given else ""))
        if area and object_type != "Rack":
            metadata["processArea"] = list(area)
        if setpoint:
            metadata["isSetpoint"] = True
        metadata |= {key: value for key, value in more.items() if key in ("phase", "integration", "scope") and value}
        tag = Tag(
            object_type, point_type, f"{self.prefix}/{path}", metadata, sources, combine, more.get("key", ""),
            more.get("integration", ""), max((p.deadband for p in points), default=0.0), more.get("target", ""),
        )  # fmt: skip
        self.tags.append(tag)

    def _object(self, name: str) -> DsxObject:
        return self.settings.objects.get(name) or DsxObject()

    def _cdu_identity(self) -> dict[str, Any]:
        racks = [self._rack_id(rack.name) for rack in self.plan.pod.racks]
        return {"objectName": self.cdu, "objectId": self.cdu, "servesId": racks}

    def _rack_id(self, rack: str) -> str:
        return self._object(rack).id or f"{self.plan.name}-{rack}"

    def _identity(self, name: str, object_type: str, serves: Sequence[str], associate: str) -> dict[str, Any]:
        """Return who an object is: named, with what it serves, or a part of another one, never both."""
        given = self._object(name)
        part_of = given.associate or (associate if given.id is None and given.serves is None else "")
        if part_of and object_type != "PowerMeter":
            return {"associateId": part_of}
        identity = given.id or f"{self.plan.name}-{name}"
        body: dict[str, Any] = {"objectName": given.name or identity, "objectId": identity}
        found = list(given.serves if given.serves is not None else serves)
        return body | ({"servesId": found} if found or object_type == "PowerMeter" else {})

    def _device(self, device: DevicePlan) -> None:
        object_type, rows = CLASS_ROWS.get(device.profile.device_class, ("", ()))
        if not object_type:
            return
        name = device.name
        serves, associate, place = self._place(name)
        identity = self._identity(name, object_type, serves, associate)
        place = tuple(self._object(name).area) or place
        for row in rows:
            area = (*place, *row.area)
            if row.type == GENERIC and not area:
                area = (row.point,)
            self._add(object_type, row.type, f"{name}/{row.point}", identity, (f"{name}.{row.point}",), one, area,
                      texts=row.texts, setpoint=row.setpoint, phase=row.phase)  # fmt: skip
        if object_type == "PowerMeter":
            for point, kind in (("power", "ActivePower"), ("apparent_power", "ApparentPower")):
                if f"{name}.{point}" not in self.points:
                    phases = tuple(f"{name}.phase_{n}_{point}" for n in "123")
                    self._add(object_type, kind, f"{name}/{point}", identity, phases, total)
            self._add(object_type, GENERIC, f"{name}/available", identity, (f"{name}.comms",), one,
                      ("Available",), texts=NO_YES)  # fmt: skip
            return
        faults = tuple(f"{name}.{p}" for p in ("fault",) if f"{name}.{p}" in self.points)
        self._add(object_type, "Available", f"{name}/available", identity, (f"{name}.comms", *faults),
                  first_and_rest_off, place, texts=NO_YES)  # fmt: skip

    def _place(self, name: str) -> tuple[list[str], str, tuple[str, ...]]:
        """Return what a device serves, what it is a part of, and where in it, from its roles."""
        pod = self.plan.pod
        for rack in pod.racks:
            if rack.valve == name:
                return [], self._rack_id(rack.name), ("Liquid",)
            if any(outlet.split(".")[0] == name for outlet in rack.outlets):
                return [self._rack_id(rack.name)], "", ()
        if name == pod.tcs.valve:
            return [], self.cdu, ("Primary", "Inlet")
        if name in pod.tcs.pumps:
            return [self.cdu], "", ("Secondary",)
        if name in pod.fws.pumps:
            return [self.cdu], "", ("Primary",)
        if name in pod.fws.chillers:
            return [self.cdu], "", ()
        if any(feed.split(".")[0] == name for feed in pod.power.feeds):
            return [self._rack_id(rack.name) for rack in pod.racks], "", ()
        return [], "", ()

    def _rack(self, rack: Rack) -> None:
        identifier = self._rack_id(rack.name)
        name = self._object(rack.name).name or identifier
        identity = {  # rackName and rackId are what a consumer older than the contract looks for
            "rackLocationName": name, "rackLocationId": identifier, "rackName": name, "rackId": identifier,
        }  # fmt: skip
        here, valve = rack.name, rack.valve

        def add(kind: str, path: str, sources: tuple[str, ...], combine: Combine, texts: Texts = ()) -> None:
            self._add("Rack", kind, f"{here}/{path}", identity, sources, combine, texts=texts)

        for kind, point in (
            ("RackLiquidSupplyTemperature", self.settings.rack_supply_temp),
            ("RackLiquidReturnTemperature", self.settings.rack_return_temp),
            ("RackLiquidFlow", "flow"),
            ("RackControlValvePosition", "position"),
        ):
            if point and valve:
                add(kind, f"{valve}/{point}", (f"{valve}.{point}",), one)
        add("RackPower", "power", rack.power, total)
        if rack.leak:
            add("RackLeakDetect", "leak", rack.leak, any_on, NO_LEAK)
            add("RackLeakSensorFault", "leak_sensor_fault", self._leak_faults(rack), fault, ("NoFault", "Fault"))
        isolated = ("NotIsolated", "Isolated")
        if valve:
            add("RackLiquidIsolationStatus", "liquid_isolation", (f"{valve}.position",), closed, isolated)
        if rack.outlets:
            add("RackElectricalIsolationStatus", "electrical_isolation", rack.outlets, none_on, isolated)
        asked = self.settings.isolation_integration
        if asked:
            requests: tuple[tuple[str, dict[int, str]], ...] = (
                ("RackLiquidIsolationRequest", {-1: "Unknown", 0: "NoIsolationRequested", 1: "IsolationRequested"}),
                ("RackElectricalIsolationRequest", {0: "NoIsolationRequested", 1: "IsolationRequested"}),
                ("RackLeakDetectTray", {0: "NoLeak", 1: "Leak"}),
            )
            for kind, texts in requests:
                path = f"{here}/{kind}"
                self._add("Rack", kind, path, identity, texts=texts, integration=asked, target=rack.name)

    def _leak_faults(self, rack: Rack) -> tuple[str, ...]:
        device = rack.leak[0].split(".")[0]
        stems = [leak.removesuffix("_leak") for leak in rack.leak if leak.endswith("_leak")]
        named = [f"{stem}_{what}" for stem in stems for what in ("cable_break", "comm_loss")]
        return (f"{device}.comms", *(point for point in named if point in self.points))

    def _cdu(self) -> None:
        tcs, fws, identity = self.plan.pod.tcs, self.plan.pod.fws, self._cdu_identity()

        def add(kind: str, point: str, *area: str, setpoint: bool = False) -> None:
            self._add("CDU", kind, f"cdu/{point.replace('.', '/')}", identity, (point,), one, area, setpoint=setpoint)

        supply, back, inlet = ("Secondary", "Supply"), ("Secondary", "Return"), ("Primary", "Inlet")
        temperature = "LiquidTemperature"
        for point, area in (("supply_temp", supply), ("return_temp", back), ("fws_supply_temp", inlet)):
            add(temperature, f"pod.{point}", *area)
        for role, area in ((tcs.supply_temps, supply), (tcs.return_temps, back), (fws.supply_temps, inlet)):
            for number, point in enumerate(role, 1):
                add(temperature, point, *area, f"Sensor{number}")
        add(temperature, "pod.supply_temp_sp", *supply, setpoint=True)
        add("LiquidFlow", "pod.flow", *supply)
        if tcs.suction_pressure:
            add("LiquidPressure", tcs.suction_pressure, *back)
        add("ValvePosition", f"{tcs.valve}.position", *inlet)
        for number, pump in enumerate(tcs.pumps, 1):
            add("PumpSpeed", f"{pump}.motor_speed", "Secondary", f"Pump{number}")
        for point, place in (
            ("flow_needed", ("Flow", "Needed")), ("flow_ratio", ("Flow", "Ratio")), ("it_power", ("ItPower",)),
            ("dew_point", ("DewPoint",)), ("dew_margin", ("DewPoint", "Margin")),
        ):  # fmt: skip
            add(GENERIC, f"pod.{point}", *place)
        leaks = self.plan.pod.protection.cdu_leak
        if leaks:
            self._add("CDU", "LeakDetect", "cdu/leak", identity, leaks, any_on, texts=NO_LEAK)
        self._add("CDU", "Status", "cdu/mode", identity, texts=mode_names(), key="mode")
        self._add("CDU", "Available", "cdu/available", identity, texts=NO_YES, key="available")
        asked = self.settings.setpoint_integration
        if asked:
            self._add("CDU", "LiquidTemperatureSpRequest", "cdu/supply_temp_sp_request", identity, area=supply,
                      unit="Cel", integration=asked, target="pod.supply_temp_sp")  # fmt: skip

    def _system(self) -> None:
        name = self.plan.name
        identity = {"objectName": name, "objectId": name}
        self._add("System", "HeartbeatTimestampBms", "system/heartbeat", identity, scope=f"{self.prefix}/#")
        settings = self.settings
        for writer in dict.fromkeys((settings.setpoint_integration, settings.isolation_integration)):
            if writer:
                named = {"objectName": writer, "objectId": writer}
                self._add("System", "HeartbeatTimestampIntegration", f"system/{writer}/heartbeat", named,
                          integration=writer)  # fmt: skip
        if settings.setpoint_integration:
            for key, texts in (("State", AI_STATES), ("Reason", AI_REASONS)):
                self._add("System", GENERIC, f"system/ai_control/{key.lower()}", identity, area=("AiControl", key),
                          texts=texts, key=f"ai_{key.lower()}")  # fmt: skip
        for key in ("active", "unacknowledged", "critical", "high", "medium", "low"):
            self._add("System", GENERIC, f"system/alarms/{key}", identity, area=("Alarms", key.title()),
                      unit="count", key=f"alarms_{key}")  # fmt: skip
        for row in alarm_rows(self.plan.pod):
            self._add("System", GENERIC, f"system/alarm/{row.id}", identity, area=("Alarm", row.id),
                      texts=ALARM_TEXTS, key=f"alarm:{row.id}")  # fmt: skip


def _unit(point_type: str, unit: str) -> str:
    return "%RH" if point_type == "AirRelativeHumidity" else UNITS.get(unit, unit)
