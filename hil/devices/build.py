"""Plan -> emulators: which device is which part of the plant follows from the enclosure's roles, not from vendors."""

from __future__ import annotations

import math

from controller.config.plan import Plan
from controller.core.power import Rack as RackPlan
from hil.devices.emulator import Behaviour, Emulator
from hil.devices.machines import (
    ENERGY_VALVE_NOMINAL_LPM,
    RACK_VALVE_NOMINAL_LPM,
    ChillerCard,
    DoorValve,
    Positioner,
    Pump,
)
from hil.devices.power import OUTLET_NAME, BatteryCard, Meter, Pdu
from hil.devices.sensing import LeakPanel, RemoteIo, Transmitters
from hil.plant.plant import WATER_SHARE, Layout, Plant
from hil.plant.reservoir import LEAK_AT_KPA
from hil.plant.thermal import diverted
from hil.record import Record

SHUT = 0.01  # a valve that stands no wider than this lets nothing run out


def split(point: str) -> tuple[str, str]:
    """Return device and name of a point id."""
    device, _, name = point.partition(".")
    return device, name


def feeds_of(rack: RackPlan) -> tuple[int, ...]:
    """Return the feed of each of a rack's outlets: its first power unit hangs on feed 0, the next on feed 1."""
    units = list(dict.fromkeys(split(outlet)[0] for outlet in rack.outlets))
    return tuple(units.index(split(outlet)[0]) for outlet in rack.outlets)


def plant_of(plan: Plan, load: float, seed: int) -> Plant:
    """Return a plant with as many pumps, chillers and racks as the plan has, of the plan's size."""
    pod = plan.pod
    racks, rack_kw = [feeds_of(rack) for rack in pod.racks], pod.rated_kw / len(pod.racks)
    movers, water = len(pod.tcs.pumps), (len(pod.fws.pumps), len(pod.fws.chillers))
    if pod.tcs.coolant == "air":
        layout = Layout(racks, 0, *water, cooling="air", rack_kw=rack_kw, fans=movers)
    else:
        layout = Layout(racks, movers, *water, rack_kw=rack_kw)
    plant = Plant(layout, load=load, seed=seed)
    if not pod.fws.pumps:
        plant.facility.external_c = pod.fws.supply_temp_sp_c  # what the building promises
    return plant


def emulators_of(plan: Plan, plant: Plant, record: Record) -> dict[str, Emulator]:
    """Return an emulator for every device of the plan, by name."""
    behaviours = _behaviours(plan, plant, record)
    return {
        device.name: Emulator(device, behaviours.get(device.name) or Behaviour(), record) for device in plan.devices
    }


def _behaviours(plan: Plan, plant: Plant, record: Record) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    found |= _machines(plan, plant, record)
    found |= _racks(plan, plant, record)
    for feed, point in enumerate(plan.pod.power.feeds):
        found[split(point)[0]] = feed_meter(plant, feed)
    for place, point in enumerate(plan.pod.room.temperatures):
        temperature, humidity = (plant.sensors[f"room_{what}_{place + 1}"] for what in ("temp", "humidity"))
        found[split(point)[0]] = Transmitters({"temperature": temperature, "humidity": humidity})
    for device in plan.devices:
        if device.profile.device_class == "remote_io":
            names = [point.point.name for point in device.points]
            found[device.name] = RemoteIo({name: plant.sensors[name] for name in names if name in plant.sensors}, plant)
        elif device.profile.device_class == "battery":
            found[device.name] = BatteryCard(plant.battery)
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
        found[name] = pump(name, plant, index, record)
    for name, drive in zip(plan.pod.fws.pumps, plant.facility.pumps, strict=True):
        found[name] = Pump(name, drive, lambda drive=drive: 15.0 * drive.speed**3, record)  # type: ignore[misc]
    for index, name in enumerate(plan.pod.fws.chillers):
        found[name] = chiller_card(name, plant, index, record)
    found[plan.pod.tcs.valve] = exchanger_valve(plant)
    return found | {name: door_valve(plant) for name in plan.pod.room.door_valves}


def pump(name: str, plant: Plant, index: int, record: Record) -> Pump:
    """Return the drive of a pump of the technology loop."""
    return Pump(name, plant.tcs_pumps[index], lambda: plant.pump_kw(index), record)


def chiller_card(name: str, plant: Plant, index: int, record: Record) -> ChillerCard:
    chiller = plant.facility.chillers[index]
    return ChillerCard(name, chiller, record, lambda: plant.ambient_c, lambda: plant.facility.return_c)


def door_valve(plant: Plant) -> DoorValve:
    """Return the valve of the rear doors' water."""
    return DoorValve(plant.room, lambda: 60 * (1 - WATER_SHARE) * plant.facility.flow, ENERGY_VALVE_NOMINAL_LPM)


def exchanger_valve(plant: Plant) -> Positioner:
    """Return the valve that leads facility water through the exchanger, or through the coil of a room cooled by air."""
    air = plant.layout.cooling == "air"
    share = 1.0 if air else WATER_SHARE
    return Positioner(
        plant.valve,
        ENERGY_VALVE_NOMINAL_LPM,
        lambda: 60 * plant.facility.flow * share * diverted(plant.valve.position),
        lambda: plant.facility.supply_c,
        lambda: plant.facility.return_c if air else plant.exchanger_water.outlet,
    )


def _racks(plan: Plan, plant: Plant, record: Record) -> dict[str, Behaviour]:
    found: dict[str, Behaviour] = {}
    for number, rack in enumerate(plan.pod.racks):
        wirings: dict[str, dict[int, int]] = {}
        for index, outlet in enumerate(rack.outlets):
            device, name = split(outlet)
            match = OUTLET_NAME.fullmatch(name)
            assert match is not None, f"{outlet} is not an outlet by its name"
            wirings.setdefault(device, {})[int(match[1])] = index
        feeds = feeds_of(rack)
        for device, wiring in wirings.items():
            feed = feeds[next(iter(wiring.values()))]
            power = plant.sensors[f"branch_power_{number + 1}_{feed + 1}"]
            found[device] = Pdu(device, plant.racks[number], wiring, record, lambda: plant.now, power)
        if rack.valve:
            found[rack.valve] = _rack_valve(plant, number)
    return found


def _rack_valve(plant: Plant, number: int) -> Positioner:
    """The valve sits in the supply of its rack: what runs out of the rack has gone through its meter."""
    rack = plant.racks[number]

    def flow_lpm() -> float:
        if not plant.loop.rack_flows:
            return 0.0
        leak = rack.leak_lps * math.sqrt(plant.loop.head / LEAK_AT_KPA) if plant.level_litres > 0 else 0.0
        return 60 * (plant.loop.rack_flows[number] + (leak if rack.valve.position > SHUT else 0.0))

    return Positioner(
        rack.valve,
        RACK_VALVE_NOMINAL_LPM,
        flow_lpm,
        lambda: plant.supply.outlet,
        lambda: plant.sensors[f"rack_outlet_temp_{number + 1}"].value,
        {"remote_temp": plant.sensors[f"rack_outlet_temp_{number + 1}"]},
    )


def feed_meter(plant: Plant, feed: int) -> Meter:
    return Meter(plant.sensors[f"feed_power_{feed + 1}"], lambda: plant.feed_kwh[feed])
