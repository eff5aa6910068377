"""A device without an enclosure: its registers, and what its class does in front of a pod of one rack."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

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
    plant = settled(Layout(ONE_RACK), load=LOAD, seed=seed)
    plant.tcs_pumps[0].run, plant.facility.chillers[0].run = False, False
    record = Record(clock)
    plan = DevicePlan(profile.name, profile, BUS, unit, "", tuple(_points(profile)))
    return Alone(Emulator(plan, _behaviour(profile, plant, record), record, clock), plant)


def _points(profile: Profile) -> list[PointPlan]:
    return [
        PointPlan(Point(profile.name, name, row.kind, row.unit, readable=row.access != "w"), row, None)
        for name, row in profile.rows.items()
    ]


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
