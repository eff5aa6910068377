"""A device without an enclosure: its registers, and what its class does in front of a pod of one rack."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

from controller.config.plan import DevicePlan, PointPlan
from controller.config.profile import Profile
from controller.core.points import Point
from hil.devices.build import chiller_card, exchanger_valve, feed_meter, pump
from hil.devices.emulator import Behaviour, Emulator
from hil.devices.power import OUTLET_NAME, BatteryCard, Pdu
from hil.devices.sensing import LeakPanel, RemoteIo, Transmitters
from hil.plant.plant import STEP_S, Layout, Plant
from hil.plant.settled import settled
from hil.record import Record

ONE_RACK = ((0, 0, 0, 0, 1, 1, 1, 1),)
LOAD = 0.6
AT_REST_S = 30.0  # after which the pump has coasted out
BUS = "alone"
CDU_CHANNELS = {"supply_temp": "supply_temp_1", "return_temp": "return_temp_1", "flow": "tcs_flow"}
ROOM_CHANNELS = {"temperature": "room_temp_1", "humidity": "room_humidity_1"}


@dataclass(slots=True)
class Alone:
    """A device and the plant that it shows and moves."""

    emulator: Emulator
    plant: Plant

    def step(self) -> None:
        """Let 50 ms pass in the plant."""
        self.plant.step()
        self.emulator.tick()

    @property
    def step_s(self) -> float:
        return STEP_S


def alone(profile: Profile, unit: int = 1, seed: int = 1, clock: Callable[[], float] = time.monotonic) -> Alone:
    """Return a device of ``profile`` as it is after power came on, its machine at rest in a pod that runs."""
    plant = deepcopy(_settled(seed))
    record = Record(clock)
    return Alone(Emulator(device_plan(profile, unit), _behaviour(profile, plant, record), record, clock), plant)


@cache
def _settled(seed: int) -> Plant:
    plant = settled(Layout(ONE_RACK), load=LOAD, seed=seed)
    plant.tcs_pumps[0].run, plant.facility.chillers[0].run = False, False
    plant.advance(AT_REST_S)
    return plant


def device_plan(profile: Profile, unit: int = 1) -> DevicePlan:
    """Return the plan of a device that belongs to no enclosure, with its profile's own points."""
    points = [
        PointPlan(Point(profile.name, name, row.kind, row.unit, readable=row.access != "w"), row, None)
        for name, row in profile.rows.items()
    ]
    return DevicePlan(profile.name, profile, BUS, unit, "", tuple(points))


def _behaviour(profile: Profile, plant: Plant, record: Record) -> Behaviour:
    name, sensors = profile.name, plant.sensors
    makers: Mapping[str, Callable[[], Behaviour]] = {
        "pump": lambda: pump(name, plant, 0, record),
        "valve": lambda: exchanger_valve(plant),
        "chiller": lambda: chiller_card(name, plant, 0, record),
        "meter": lambda: feed_meter(plant, 0),
        "pdu": lambda: Pdu(
            name, plant.racks[0], _wiring(profile), record, lambda: plant.now, sensors["branch_power_1_1"]
        ),
        "battery": lambda: BatteryCard(plant.battery),
        "leak_detector": lambda: LeakPanel(plant, {"leak": (0, 1)}),
        "sensor": lambda: Transmitters({point: sensors[channel] for point, channel in ROOM_CHANNELS.items()}),
        "cdu": lambda: Transmitters({point: sensors[channel] for point, channel in CDU_CHANNELS.items()}),
        "remote_io": lambda: RemoteIo({point: sensors[point] for point in profile.rows if point in sensors}, plant),
    }
    return makers.get(profile.device_class, Behaviour)()


def _wiring(profile: Profile) -> dict[int, int]:
    """Return the rack's outlet behind each of the unit's first outlets; those of feed A come first in the rack."""
    numbers = [int(found[1]) for name in profile.rows if (found := OUTLET_NAME.fullmatch(name))]
    on_feed = [index for index, feed in enumerate(ONE_RACK[0]) if feed == 0]
    return dict(zip(sorted(numbers), on_feed, strict=False))
