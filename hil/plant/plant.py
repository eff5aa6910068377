"""The physics of one pod: first plant model.

Fixed step, explicit Euler with the outlet temperatures of before the step (so energy is conserved), the flow lag
implicit. Deterministic for a seed. What devices command is a plain attribute of a part; so is what they measure.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hil.plant.facility import Facility
from hil.plant.hydraulics import DESIGN_FLOW, Drive, Loop, Valve, pump_power_kw
from hil.plant.room import DOOR_FLOW, Room
from hil.plant.sensors import Sensor
from hil.plant.thermal import EXCHANGER_WATER_FLOW, PG25, WATER, Pipe, RackWater, diverted, exchanger_kw

STEP_S = 0.05
RACK_KW = 130.0
LIQUID_SHARE = 0.85
EXCHANGER_STROKE_S, RACK_STROKE_S = 30.0, 15.0  # fast data-centre actuators
RESERVOIR_LITRES, LEVEL_SWITCH_LITRES = 60.0, 20.0
STILL_SUCTION_KPA, SUCTION_DROP_KPA = 150.0, 30.0
START_C, ROOM_C = 22.0, 24.0
WATER_SHARE = EXCHANGER_WATER_FLOW / (EXCHANGER_WATER_FLOW + DOOR_FLOW)


@dataclass(slots=True)
class Rack:
    """Inputs: ``outlets`` (on or off, in the enclosure file's order), ``load`` (share of 130 kW), ``valve``."""

    outlets: list[bool]
    load: float
    valve: Valve
    water: RackWater
    feeds: tuple[int, ...]

    def outlet_kw(self, index: int) -> float:
        return RACK_KW * self.load / len(self.outlets) if self.outlets[index] else 0.0

    @property
    def power_kw(self) -> float:
        return RACK_KW * self.load * sum(self.outlets) / len(self.outlets)


@dataclass(slots=True)
class Energy:
    """Running sums in kJ since the start, for the energy balance."""

    racks: float = 0.0
    chillers: float = 0.0


class Plant:
    """Three TCS pumps, heat exchanger with valve, racks, facility water with two chillers, room, reservoir.

    Args:
        racks: for each rack, the feed (0, 1, ...) that each of its outlets hangs on.
    """

    def __init__(
        self,
        racks: list[tuple[int, ...]],
        *,
        pumps: int = 3,
        fws_pumps: int = 2,
        chillers: int = 2,
        load: float = 0.6,
        seed: int = 1,
        start_c: float = START_C,
    ) -> None:
        self.now = 0.0
        self.tcs_pumps = [Drive() for _ in range(pumps)]
        self.valve = Valve(EXCHANGER_STROKE_S)
        rated = DESIGN_FLOW / len(racks)
        self.racks = [
            Rack([False] * len(feeds), load, Valve(RACK_STROKE_S, 1.0, 1.0), RackWater(start_c, rated), feeds)
            for feeds in racks
        ]
        self.facility = Facility(fws_pumps, chillers, start_c)
        self.room = Room(ROOM_C, ROOM_C)
        self.loop = Loop(len(racks))
        self.exchanger = Pipe(25.0, 1, start_c, PG25)
        self.exchanger_water = Pipe(25.0, 1, start_c, WATER)
        self.supply = Pipe(150.0, 8, start_c, PG25)
        self.back = Pipe(150.0, 8, start_c, PG25)
        self.tank = Pipe(60.0, 1, start_c, PG25)
        self.ambient_c = 30.0
        self.fouling = 1.0
        self.level_litres = 57.0
        self.leak_lps = 0.0
        self.exchanger_kw = 0.0
        self.feed_kwh = [0.0] * (1 + max((feed for feeds in racks for feed in feeds), default=0))
        self.energy = Energy()
        self._random = random.Random(seed)
        self.sensors = self._sensors()

    # ------------------------------------------------------------ what is measured

    @property
    def supply_c(self) -> float:
        """TCS supply, at the outlet of the heat exchanger."""
        return self.exchanger.outlet

    @property
    def return_c(self) -> float:
        """TCS return, at the inlet of the heat exchanger."""
        return self.tank.outlet

    @property
    def flow_lpm(self) -> float:
        return 60 * self.loop.flow

    @property
    def it_kw(self) -> float:
        return sum(rack.power_kw for rack in self.racks)

    @property
    def level_pct(self) -> float:
        return 100 * self.level_litres / RESERVOIR_LITRES

    @property
    def level_made(self) -> bool:
        return self.level_litres > LEVEL_SWITCH_LITRES

    @property
    def suction_kpa(self) -> float:
        """Pressure before the pumps: of the expansion vessel less the return's friction; gone when the tank is."""
        held = min(1.0, self.level_litres / 5.0)
        return max(0.0, held * STILL_SUCTION_KPA - SUCTION_DROP_KPA * (self.loop.flow / DESIGN_FLOW) ** 2)

    def feed_kw(self, feed: int) -> float:
        return sum(
            rack.outlet_kw(index) for rack in self.racks for index, where in enumerate(rack.feeds) if where == feed
        )

    def pump_kw(self, index: int) -> float:
        flow = self.loop.pump_flows[index] if self.loop.pump_flows else 0.0
        return pump_power_kw(self.tcs_pumps[index].speed, flow)

    @property
    def stored_kj(self) -> float:
        """Heat in all water, metal and air above 0 degrees."""
        pipes = (self.exchanger, self.exchanger_water, self.supply, self.back, self.tank)
        racks = sum(rack.water.energy for rack in self.racks)
        return sum(pipe.energy for pipe in pipes) + racks + self.facility.energy + self.room.energy

    # ------------------------------------------------------------ time

    def step(self, dt: float = STEP_S) -> None:
        """Advance by ``dt`` seconds."""
        for pump in self.tcs_pumps:
            pump.step(dt)
        self.valve.step(dt)
        for rack in self.racks:
            rack.valve.step(dt)
        self.facility.step_pumps(dt)
        self.loop.step([pump.speed for pump in self.tcs_pumps], [rack.valve.position for rack in self.racks], dt)
        self._heat(dt)
        self.level_litres = max(0.0, self.level_litres - self.leak_lps * dt)
        for feed in range(len(self.feed_kwh)):
            self.feed_kwh[feed] += self.feed_kw(feed) * dt / 3600
        self.now += dt
        self._measure(dt)

    def _heat(self, dt: float) -> None:
        flow, facility = self.loop.flow, self.facility
        supply, rack_supply = self.supply_c, self.supply.outlet
        hot, mixed, back = self.return_c, self._mixed(rack_supply), self.back.outlet
        door_water = facility.flow * (1 - WATER_SHARE)
        through = facility.flow * WATER_SHARE * diverted(self.valve.position)
        cold = facility.supply_c
        self.exchanger_kw = exchanger_kw(flow, hot, through, cold, self.fouling)
        doors = self.room.cooled_kw(cold, door_water)
        returned = self._returned(cold, through, doors)
        for rack, rack_flow in zip(self.racks, self.loop.rack_flows, strict=True):
            rack.water.step(rack_flow, rack_supply, LIQUID_SHARE * rack.power_kw, dt)
        self.tank.step(flow, back, dt)
        self.back.step(flow, mixed, dt)
        self.supply.step(flow, supply, dt)
        self.exchanger.step(flow, hot, dt, -self.exchanger_kw)
        self.exchanger_water.step(through, cold, dt, self.exchanger_kw)
        it_kw = self.it_kw
        self.room.step((1 - LIQUID_SHARE) * it_kw, doors, dt)
        facility.step_water(returned, self.ambient_c, dt)
        self.energy.racks += it_kw * dt
        self.energy.chillers += facility.removed_kw * dt

    def _mixed(self, otherwise: float) -> float:
        """Return what comes out of all racks together."""
        flow = self.loop.flow
        if flow < 1e-9:
            return otherwise
        parts = zip(self.racks, self.loop.rack_flows, strict=True)
        return sum(rack.water.outlet * rack_flow for rack, rack_flow in parts) / flow

    def _returned(self, cold: float, through: float, doors: float) -> float:
        """Return the facility water's temperature where exchanger, bypass and rear doors come together."""
        flow = self.facility.flow
        if flow < 1e-9:
            return cold
        return cold + (through * (self.exchanger_water.outlet - cold) + doors / WATER) / flow

    # ------------------------------------------------------------ transmitters

    def _sensors(self) -> dict[str, Sensor]:
        pt100 = {"supply_temp": 3, "return_temp": 2, "fws_supply_temp": 2, "fws_return_temp": 1}
        found = {
            f"{name}_{index + 1}": Sensor(3.0, 0.03, self._random.uniform(-0.1, 0.1), self._random)
            for name, count in pt100.items()
            for index in range(count)
        }
        found["tcs_flow"] = Sensor(0.5, 2.0, 0.0, self._random)
        found["fws_flow"] = Sensor(0.5, 3.0, 0.0, self._random)
        found["suction_pressure"] = Sensor(0.3, 0.5, 0.0, self._random)
        found["rack_pressure_drop"] = Sensor(0.3, 0.5, 0.0, self._random)
        found["reservoir_level"] = Sensor(1.0, 0.2, 0.0, self._random)
        return found

    def _measure(self, dt: float) -> None:
        truths = {
            "supply_temp": self.supply_c,
            "return_temp": self.return_c,
            "fws_supply_temp": self.facility.supply_c,
            "fws_return_temp": self.facility.return_c,
            "tcs_flow": self.flow_lpm,
            "fws_flow": 60 * self.facility.flow,
            "suction_pressure": self.suction_kpa,
            "rack_pressure_drop": self.loop.rack_drop,
            "reservoir_level": self.level_pct,
        }
        for name, sensor in self.sensors.items():
            sensor.step(truths[name.rstrip("_0123456789")], dt)
