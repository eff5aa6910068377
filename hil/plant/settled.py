"""A plant in its steady state, found by running it under simple hand control."""

from __future__ import annotations

from hil.plant import slots as at
from hil.plant.facility import LEAST_LOAD
from hil.plant.layout import Layout
from hil.plant.plant import Plant

LPM_PER_KW = 1.47  # of liquid heat: 1300 L/min for 884 kW
LEAST_FLOW, MOST_FLOW = 0.45, 1.08
CHUNK_S, STILL_CHUNKS, LONGEST_S = 60.0, 5, 6 * 3600.0
STILL_K = 0.004  # in a chunk
SPEED_GAIN, VALVE_GAIN, VALVE_INTEGRAL_S = 0.15, 0.02, 40.0
BOOKS = (at.BOOK_IT, at.BOOK_DRY_FAN + 1)


class Hand:
    """An operator's hand on pumps and valve: looks once a second at the truth, and moves a little."""

    def __init__(self, plant: Plant, supply_c: float) -> None:
        self.plant, self.supply_c, self.integral = plant, supply_c, plant.valve.position

    def act(self) -> None:
        plant, x = self.plant, self.plant.x
        design = 60 * float(x[at.DESIGN_LPS])
        need = LPM_PER_KW * float(x[at.LIQUID_SHARE]) * plant.it_kw
        if plant.layout.cooling == "air":
            need = design * plant.it_kw / (plant.layout.rack_kw * len(plant.racks))
        need = min(MOST_FLOW * design, max(LEAST_FLOW * design, need))
        for pump in plant.tcs_pumps:
            if pump.run:
                pump.command = min(1.0, max(0.3, pump.command + SPEED_GAIN * (need - plant.flow_lpm) / design))
        error = plant.supply_c - self.supply_c
        self.integral = min(1.0, max(0.0, self.integral + VALVE_GAIN / VALVE_INTEGRAL_S * error))
        plant.valve.command = min(1.0, max(0.0, self.integral + VALVE_GAIN * error))

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            if self.plant.tcs_pumps:
                self.act()
            self.plant.advance(1.0)


def settled(
    layout: Layout,
    *,
    load: float = 1.0,
    ambient_c: float = 30.0,
    supply_c: float = 30.0,
    facility_c: float = 20.0,
    pumps: int | None = None,
    chillers: int | None = None,
    dew_point_c: float = 12.0,
    seed: int = 1,
    soc_pct: float = 70.0,
) -> Plant:
    """Return a plant that stands still at this load; the commands that hold it there are in its parts.

    Time, energy books and starts count from 0; chillers have been on, or off, for long. ``pumps`` and ``chillers`` say
    how many run: all, but no more chillers than the load keeps above their least load.

    Raises:
        RuntimeError: it does not come to rest within six hours, such as when its chillers cycle at a low load.
    """
    plant = Plant(layout, load=load, seed=seed, start_c=(supply_c + facility_c) / 2)
    _switch_on(plant, load, pumps, chillers, facility_c)
    plant.ambient_c, plant.outdoor_dew_point_c, plant.room.dew_point_c = ambient_c, dew_point_c, dew_point_c
    plant.throttle = False
    plant.valve.deadband = 0.0  # with it the valve would hunt for ever
    hand = Hand(plant, supply_c)
    still, watched = 0, _watched(plant)
    for _ in range(round(LONGEST_S / CHUNK_S)):
        hand.run(CHUNK_S)
        before, watched = watched, _watched(plant)
        plant.room.structure_c = plant.room.air_c  # it would take hours by itself
        close = all(abs(now - then) < STILL_K for now, then in zip(watched, before, strict=True))
        still = still + 1 if close and abs(plant.supply_c - supply_c) < 0.1 else 0
        if still == STILL_CHUNKS or (close and _cannot_reach(plant, supply_c)):
            break
    else:
        raise RuntimeError(f"not at rest after {LONGEST_S / 3600:g} h at {load:.0%} load: TCS {plant.supply_c:.2f} °C")
    _start_of_time(plant, load, soc_pct)
    return plant


def _switch_on(plant: Plant, load: float, pumps: int | None, chillers: int | None, facility_c: float) -> None:
    for index, pump in enumerate(plant.tcs_pumps):
        pump.run, pump.command = pumps is None or index < pumps, 0.8
    for index, pump in enumerate(plant.facility.pumps):
        pump.run, pump.command = index == 0, 0.85
    least_kw = LEAST_LOAD * float(plant.x[at.CHILLER_KW])
    kept = max(1, int(load * plant.layout.rack_kw * len(plant.racks) / least_kw)) if plant.facility.chillers else 0
    running = min(kept, len(plant.facility.chillers)) if chillers is None else chillers
    for index, chiller in enumerate(plant.facility.chillers):
        chiller.run, chiller.setpoint_c = index < running, facility_c
    for unit in plant.room.units:
        unit.run, unit.command = True, 1.0
    if not plant.facility.chillers:
        plant.facility.external_c = facility_c
    for slot in (at.CHILLER_START_S, at.CHILLER_LEAST_IDLE_S, at.CHILLER_CYCLE_S):
        plant.x[slot : slot + at.CHILLERS_MAX] = 0.0
    plant.valve.command = plant.valve.position = 0.7
    for rack in plant.racks:
        rack.outlets = [True] * len(rack.feeds)


def _watched(plant: Plant) -> list[float]:
    water = [plant.supply_c, plant.return_c, plant.facility.supply_c, plant.flow_lpm / 50]
    return [*water, plant.room.air_c, plant.hottest_c]


def _cannot_reach(plant: Plant, supply_c: float) -> bool:
    """Whether the valve is at an end, or there is none, so that standing still is all one can ask."""
    warm, cold = plant.supply_c > supply_c, plant.supply_c < supply_c
    at_end = (warm and plant.valve.position >= 1) or (cold and plant.valve.position <= 0)
    return at_end or not plant.tcs_pumps


def _start_of_time(plant: Plant, load: float, soc_pct: float) -> None:
    """Let time and books begin, with real times of the chillers."""
    fresh = Plant(plant.layout, load=load).x
    x, count = plant.x, at.CHILLERS_MAX
    for slot in (at.CHILLER_START_S, at.CHILLER_LEAST_IDLE_S, at.CHILLER_CYCLE_S, at.CHILLER_STARTS):
        x[slot : slot + count] = fresh[slot : slot + count]
    for slot in (at.CHILLER_ON_S, at.CHILLER_IDLE_S, at.CHILLER_SINCE_START_S):
        x[slot : slot + count] = 1e9
    x[at.VALVE_DEADBAND] = fresh[at.VALVE_DEADBAND]
    x[BOOKS[0] : BOOKS[1]] = 0.0
    x[at.FEED_KWH : at.FEED_KWH + at.FEEDS] = 0.0
    x[at.THROTTLED_S : at.THROTTLED_S + at.RACKS_MAX] = 0.0
    x[at.CONDENSATE_KG], x[at.NOW_S], x[at.THROTTLES] = 0.0, 0.0, 1.0
    plant.soc_pct = soc_pct
