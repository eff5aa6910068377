"""Plan -> emulators: which device is which part of the plant follows from the enclosure's roles, not from vendors."""

from __future__ import annotations

from collections.abc import Mapping

from controller.config.plan import DevicePlan, Plan
from controller.core.power import Rack as RackPlan
from hil.devices.emulator import Behaviour, Emulator
from hil.devices.machines import ENERGY_VALVE_NOMINAL_LPM, RACK_VALVE_NOMINAL_LPM, ChillerCard, Positioner, Pump
from hil.devices.power import OUTLET_NAME, Battery, Meter, Pdu
from hil.devices.sensing import LeakPanel, RemoteIo, RoomSensor
from hil.plant.plant import WATER_SHARE, Layout, Plant
from hil.plant.thermal import diverted
from hil.record import Record


def split(point: str) -> tuple[str, str]:
    """Return device and name of a point id."""
    device, _, name = point.partition(".")
    return device, name


def feeds_of(rack: RackPlan) -> tuple[int, ...]:
    """Return the feed of each of a rack's outlets: its first power unit hangs on feed 0, the next on feed 1."""
    units = list(dict.fromkeys(split(outlet)[0] for outlet in rack.outlets))
    return tuple(units.index(split(outlet)[0]) for outlet in rack.outlets)


def plant_of(plan: Plan, load: float, seed: int) -> Plant:
    """Return a plant with as many pumps, chillers and racks as the plan has."""
    pod = plan.pod
    racks = [feeds_of(rack) for rack in pod.racks]
    return Plant(Layout(racks, len(pod.tcs.pumps), len(pod.fws.pumps), len(pod.fws.chillers)), load=load, seed=seed)


def emulators_of(plan: Plan, plant: Plant, record: Record) -> dict[str, Emulator]:
    """Return an emulator for every device of the plan, by name."""
    behaviours = _behaviours(plan, plant, record)
    return {device.name: Emulator(device, _behaviour(device, behaviours), record) for device in plan.devices}


def _behaviour(device: DevicePlan, behaviours: Mapping[str, Behaviour]) -> Behaviour:
    fixed: Behaviour = Battery() if device.profile.device_class == "battery" else Behaviour()
    return behaviours.get(device.name, fixed)


def _behaviours(plan: Plan, plant: Plant, record: Record) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    found |= _machines(plan, plant, record)
    found |= _racks(plan, plant, record)
    for feed, point in enumerate(plan.pod.power.feeds):
        found[split(point)[0]] = _meter(plant, feed)
    for place, point in enumerate(plan.pod.room.temperatures):
        found[split(point)[0]] = _room_sensor(plant, cold=place == 0)
    for device in plan.devices:
        if device.profile.device_class == "remote_io":
            found[device.name] = RemoteIo(plant)
    return found | _leak_panels(plan, plant)


def _leak_panels(plan: Plan, plant: Plant) -> dict[str, Behaviour]:
    """Return the devices that tell of leaks. One that stands for the whole CDU hears every rope it has a zone for."""
    ropes: dict[str, dict[str, tuple[int, ...]]] = {}
    for number, rack in enumerate(plan.pod.racks):
        for point in rack.leak:
            device, name = split(point)
            ropes.setdefault(device, {})[name] = (number + 1,)
    for point in plan.pod.protection.cdu_leak:
        device, name = split(point)
        zones = ropes.setdefault(device, {})
        zones[name] = (0, *(rope for heard in zones.values() for rope in heard))
    return {device: LeakPanel(plant, zones) for device, zones in ropes.items()}


def _machines(plan: Plan, plant: Plant, record: Record) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    for index, name in enumerate(plan.pod.tcs.pumps):
        found[name] = _pump(name, plant, index, record)
    for name, drive in zip(plan.pod.fws.pumps, plant.facility.pumps, strict=True):
        found[name] = Pump(name, drive, lambda drive=drive: 15.0 * drive.speed**3, record)  # type: ignore[misc]
    for name, chiller in zip(plan.pod.fws.chillers, plant.facility.chillers, strict=True):
        found[name] = ChillerCard(name, chiller, record, lambda: plant.ambient_c, lambda: plant.facility.return_c)
    found[plan.pod.tcs.valve] = Positioner(
        plant.valve,
        ENERGY_VALVE_NOMINAL_LPM,
        lambda: 60 * plant.facility.flow * WATER_SHARE * diverted(plant.valve.position),
        lambda: plant.facility.supply_c,
        lambda: plant.exchanger_water.outlet,
    )
    return found


def _pump(name: str, plant: Plant, index: int, record: Record) -> Pump:
    return Pump(name, plant.tcs_pumps[index], lambda: plant.pump_kw(index), record)


def _racks(plan: Plan, plant: Plant, record: Record) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    for number, rack in enumerate(plan.pod.racks):
        wirings: dict[str, dict[int, int]] = {}
        for index, outlet in enumerate(rack.outlets):
            device, name = split(outlet)
            match = OUTLET_NAME.fullmatch(name)
            assert match is not None, f"{outlet} is not an outlet by its name"
            wirings.setdefault(device, {})[int(match[1])] = index
        for device, wiring in wirings.items():
            found[device] = Pdu(device, plant.racks[number], wiring, record, lambda: plant.now)
        found[rack.valve] = _rack_valve(plant, number)
    return found


def _rack_valve(plant: Plant, number: int) -> Positioner:
    rack = plant.racks[number]
    return Positioner(
        rack.valve,
        RACK_VALVE_NOMINAL_LPM,
        lambda: 60 * plant.loop.rack_flows[number] if plant.loop.rack_flows else 0.0,
        lambda: plant.supply.outlet,
        lambda: rack.water.outlet,
    )


def _meter(plant: Plant, feed: int) -> Meter:
    return Meter(lambda: plant.feed_kw(feed), lambda: plant.feed_kwh[feed])


def _room_sensor(plant: Plant, *, cold: bool) -> RoomSensor:
    room = plant.room
    return RoomSensor(lambda: room.cold_side_c(plant.facility.supply_c) if cold else room.air_c, room.humidity_pct)
