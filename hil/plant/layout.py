"""What a plant consists of, and the numbers that follow from its size beside the reference pod of 1040 kW."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from hil.plant import facility, hydraulics, reservoir, thermal
from hil.plant import slots as at
from hil.plant.electrical import HOLD_UP_S
from hil.plant.kernel import Numbers
from hil.plant.room import DOOR_FLOW, humidity_of
from hil.plant.streams import seed_of

REFERENCE_KW, LIQUID_SHARE = 1040.0, 0.85
EXCHANGER_STROKE_S = 30.0  # of a fast data-centre actuator
RACK_STROKE_S = 9.0  # of an actuator such as SRQ24A (Belimo, data sheet)
START_C, ROOM_C, DEW_C = 22.0, 24.0, 12.0
LEVEL_AT_START = 0.95
NEVER = 1e9
PT100, ROUGH = (3.0, 0.03, 0.0, 0.1, 0.5), (3.0, 0.1, 0.0, 0.1, 1.0)  # lag s, noise, noise of value, quantum, period s
SMALL_FLOW, PRESSURE = (0.5, 0.0, 0.0025, 1.0, 0.5), (0.3, 0.8, 0.0, 0.5, 0.25)
POWER, LEVEL, ROPE = (0.2, 0.0, 0.003, 0.1, 1.0), (1.0, 0.5, 0.0, 0.5, 0.5), (0.0, 0.0, 0.0, 1.0, 0.5)
ROOM_T, ROOM_RH = (30.0, 0.1, 0.0, 0.1, 2.0), (30.0, 0.5, 0.0, 0.1, 2.0)


@dataclass(frozen=True)
class Layout:
    """A plant's parts.

    Attributes:
        racks: for each rack, the feed (0 = A, 1 = B) of each of its outlets.
        pumps, fws_pumps, chillers: how many; without chillers and FWS pumps the water comes from outside.
        cooling: "liquid", or "air": no liquid loop, ``fans`` units with coils carry all heat.
        rack_kw: rated power of a rack.

    Raises:
        ValueError: more of something than the plant's table holds, or parts that don't go together.
    """

    racks: Sequence[Sequence[int]]
    pumps: int = 3
    fws_pumps: int = 2
    chillers: int = 2
    cooling: str = "liquid"
    rack_kw: float = 130.0
    fans: int = 0

    def __post_init__(self) -> None:
        most = {
            "racks": at.RACKS_MAX, "pumps": at.TCS_PUMPS_MAX, "fws_pumps": at.FWS_PUMPS_MAX,
            "chillers": at.CHILLERS_MAX, "fans": at.FANS_MAX,
        }  # fmt: skip
        for name, limit in most.items():
            given = getattr(self, name)
            count = len(given) if name == "racks" else given
            if not (name == "racks") <= count <= limit:
                raise ValueError(f"layout: {count} {name}; allowed are {int(name == 'racks')} to {limit}")
        for number, feeds in enumerate(self.racks, 1):
            if not 1 <= len(feeds) <= at.OUTLETS_MAX or not set(feeds) <= set(range(at.FEEDS)):
                raise ValueError(
                    f"layout: rack {number} has outlets on {feeds}; 1 to {at.OUTLETS_MAX} on feeds 0 and 1"
                )
        if self.cooling not in ("liquid", "air"):
            raise ValueError(f"layout: cooling {self.cooling!r}; allowed are liquid, air")
        if self.cooling == "liquid" and self.pumps == 0:
            raise ValueError("layout: a liquid loop needs pumps")
        if self.chillers and not self.fws_pumps:
            raise ValueError("layout: chillers need FWS pumps")

    @classmethod
    def reference(cls) -> Self:
        """Return the reference pod: 8 racks, three TCS pumps, two chillers."""
        return cls([(0, 0, 0, 0, 1, 1, 1, 1)] * 8)

    @classmethod
    def box(cls) -> Self:
        """Return a box of two racks with one CDU; its facility water comes from outside."""
        return cls([(0, 0, 1, 1)] * 2, pumps=2, fws_pumps=0, chillers=0)

    @classmethod
    def container(cls) -> Self:
        """Return a container of eight racks cooled by air."""
        return cls([(0, 1)] * 8, pumps=0, cooling="air", rack_kw=20.0, fans=3)


def numbers_of(layout: Layout, load: float, seed: int, start_c: float) -> Numbers:
    """Return the plant's numbers before its first step: everything off, at ``start_c``."""
    x = np.zeros(at.SIZE)
    chance = random.Random(seed_of(seed, "plant"))
    _size(x, layout)
    _temperatures(x, start_c)
    _neutral(x, layout)
    _wire(x, layout, load, chance)
    _transmitters(x, layout, seed)
    return x


def _size(x: Numbers, layout: Layout) -> None:
    racks, air = len(layout.racks), layout.cooling == "air"
    scale = racks * layout.rack_kw / REFERENCE_KW
    x[at.RACKS], x[at.TCS_PUMPS], x[at.FWS_PUMPS] = racks, layout.pumps, layout.fws_pumps
    x[at.CHILLERS], x[at.FANS], x[at.SCALE], x[at.AIR_COOLED] = layout.chillers, layout.fans, scale, air
    x[at.FROM_OUTSIDE] = layout.fws_pumps == 0
    x[at.LIQUID_SHARE], x[at.RACK_KW] = 0.0 if air else LIQUID_SHARE, layout.rack_kw
    x[at.CHIPS] = layout.rack_kw / thermal.AIR_CHIP_KW if air else thermal.CHIPS_PER_RACK * layout.rack_kw / 130
    x[at.DESIGN_LPS], x[at.SHUTOFF_KPA] = hydraulics.DESIGN_FLOW * scale, hydraulics.PUMP_SHUTOFF
    each = 2 * scale / max(1, layout.pumps - 1)  # the loop runs with one pump less
    x[at.DROOP] = hydraulics.PUMP_DROOP / each**2
    x[at.MAIN_KPA], x[at.RACK_KPA] = hydraulics.MAIN_DROP, hydraulics.RACK_DROP
    if air:
        x[at.DESIGN_LPS] = hydraulics.AIR_LPS_PER_KW * racks * layout.rack_kw
        x[at.SHUTOFF_KPA], x[at.MAIN_KPA] = hydraulics.FAN_SHUTOFF, hydraulics.AIR_DROP
        x[at.DROOP] = hydraulics.FAN_DROOP * (max(1, layout.fans - 1) / x[at.DESIGN_LPS]) ** 2
    x[at.FWS_DESIGN_LPS], x[at.FWS_DROOP] = hydraulics.FWS_FLOW * scale, hydraulics.FWS_DROOP / scale**2
    x[at.HX_WATER_LPS] = 0.0 if air else thermal.EXCHANGER_WATER_FLOW * scale
    x[at.DOOR_LPS] = hydraulics.FWS_FLOW * scale if air else DOOR_FLOW * scale
    x[at.SUPPLY_L] = x[at.BACK_L] = 150 * scale
    x[at.TANK_L], x[at.HX_L], x[at.HX_WATER_L] = 60 * scale, 25 * scale, 25 * scale
    x[at.FWS_BACK_L], x[at.BUFFER_L], x[at.FWS_SUPPLY_L] = 300 * scale, 2000 * scale, 300 * scale
    x[at.CHILLER_KW] = facility.CAPACITY_KW * scale * 2 / max(1, layout.chillers)


def _temperatures(x: Numbers, start_c: float) -> None:
    for first, count in (
        (at.SUPPLY_C, at.PIPE_CELLS), (at.BACK_C, at.PIPE_CELLS), (at.TANK_C, 1), (at.HX_C, 1), (at.HX_WATER_C, 1),
        (at.FWS_BACK_C, at.FWS_CELLS), (at.BUFFER_C, at.FWS_CELLS), (at.FWS_SUPPLY_C, at.FWS_CELLS),
        (at.INLET_C, 5 * at.RACKS_MAX), (at.CHILLER_LEAVING_C, at.CHILLERS_MAX),
    ):  # fmt: skip
        x[first : first + count] = start_c
    x[at.AIR_C] = x[at.STRUCTURE_C] = ROOM_C
    x[at.AMBIENT_C], x[at.OUTDOOR_DEW_C] = 30.0, DEW_C
    x[at.HUMIDITY], x[at.DEW_C] = humidity_of(DEW_C), DEW_C
    x[at.COIL_C] = start_c
    x[at.MARGIN_K] = start_c - DEW_C


def _neutral(x: Numbers, layout: Layout) -> None:
    """Set every input and fault that is not neutral at 0."""
    x[at.DRIVE_WEAR : at.DRIVE_WEAR + at.DRIVES] = 1.0
    x[at.DRIVE_LIMIT : at.DRIVE_LIMIT + at.DRIVES] = 1.0
    x[at.DRIVE_POWERED : at.DRIVE_POWERED + at.DRIVES] = 1.0
    x[at.VALVE_DEADBAND : at.VALVE_DEADBAND + at.VALVES] = 0.004
    x[at.VALVE_SLOWNESS : at.VALVE_SLOWNESS + at.VALVES] = 1.0
    x[at.VALVE_STROKE_S : at.VALVE_STROKE_S + at.VALVES] = RACK_STROKE_S
    x[at.VALVE_STROKE_S], x[at.RANGEABILITY] = EXCHANGER_STROKE_S, thermal.RANGEABILITY
    for first in (at.VALVE_COMMAND, at.VALVE_POSITION, at.VALVE_FEEDBACK):
        x[first + 1 : first + at.VALVES] = 1.0
    for slot in (
        at.STRAINER, at.FOULING, at.DRY_CAPACITY, at.ROOM_FANS, at.DOOR_VALVE, at.BUS_LIVE, at.THROTTLES,
        at.BATTERY_DERATE, at.GENERATOR_AUTO, at.CONTROLLER_POWERED, at.CLUSTER_CAP,
    ):  # fmt: skip
        x[slot] = 1.0
    for first in (at.RACK_BLOCKAGE, at.THROTTLE, at.RACK_CAP, at.APPLIED_CAP):
        x[first : first + at.RACKS_MAX] = 1.0
    x[at.CAP_PIPE : at.CAP_PIPE + at.RACKS_MAX * at.LATENCY_S] = 1.0
    for first, value in (
        (at.CHILLER_SETPOINT_C, 20.0), (at.CHILLER_CAPACITY, 1.0), (at.CHILLER_START_S, facility.START_S),
        (at.CHILLER_LEAST_IDLE_S, facility.LEAST_IDLE_S), (at.CHILLER_LEAST_ON_S, facility.LEAST_ON_S),
        (at.CHILLER_CYCLE_S, facility.START_TO_START_S), (at.CHILLER_POWERED, 1.0), (at.CHILLER_CALL, 1.0),
        (at.CHILLER_IDLE_S, NEVER), (at.CHILLER_SINCE_START_S, NEVER), (at.CHILLER_BOOT_S, NEVER),
    ):  # fmt: skip
        x[first : first + at.CHILLERS_MAX] = value
    x[at.INFILTRATION_KG_S] = 0.01
    x[at.LEVEL_L] = LEVEL_AT_START * reservoir.LITRES * x[at.SCALE]
    x[at.OUTSIDE_C], x[at.OUTSIDE_LPS] = 20.0, x[at.FWS_DESIGN_LPS] if layout.fws_pumps == 0 else 0.0
    x[at.GRID_CAP_KW] = np.inf
    x[at.BATTERY_RAMP_KW_S], x[at.BATTERY_TARGET], x[at.BATTERY_SOC] = 25.0, 0.7, 0.7
    x[at.GENERATOR_START_S], x[at.GENERATOR_RAMP_KW_S], x[at.HOLD_UP_S] = 60.0, 25.0, HOLD_UP_S
    x[at.JOB_LEVEL], x[at.JOB_LOW], x[at.JOB_PERIOD_S], x[at.JOB_DEPTH] = 1.0, 0.1, 2.0, 0.5
    x[at.JOB_CHECKPOINT_S], x[at.JOB_EVERY_S], x[at.JOB_JITTER], x[at.JOB_SKEW_S] = 10.0, 300.0, 0.02, 0.2
    x[at.WEATHER_MEAN_C], x[at.WEATHER_SWING_K], x[at.WEATHER_HOTTEST_S] = 23.0, 11.0, 15 * 3600.0


def _wire(x: Numbers, layout: Layout, load: float, chance: random.Random) -> None:
    """Hang outlets and machines on the feeds: the first on A, the second on B, the third on A with transfer to B."""
    x[at.FEED_LIVE] = x[at.FEED_LIVE + 1] = 1.0
    for first, count, sources in (
        (0, layout.pumps, 3),
        (at.FWS_DRIVE, layout.fws_pumps, 2),
        (at.FAN_DRIVE, layout.fans, 3),
    ):
        for index in range(count):
            x[at.DRIVE_SOURCE + first + index] = index % sources
    for r, feeds in enumerate(layout.racks):
        seen = [0] * at.FEEDS
        x[at.OUTLETS + r], x[at.LOAD + r], x[at.DEMAND + r] = len(feeds), load, load
        for k, feed in enumerate(feeds):
            outlet = r * at.OUTLETS_MAX + k
            x[at.OUTLET_FEED + outlet], x[at.OUTLET_SHELF + outlet] = feed, seen[feed]
            seen[feed] += 1
        x[at.SHELVES + r] = max(seen)
        x[at.SHARE_A + r] = 0.5 + chance.uniform(-0.015, 0.015)
        x[at.RACK_SKEW + r] = chance.random()
        offs = [chance.uniform(-0.05, 0.05) for _ in range(3)]
        for f in range(at.FEEDS):
            for phase, off in enumerate(offs):
                x[at.PHASE_SHARE + 3 * (r * at.FEEDS + f) + phase] = (1 + off) / (1 + sum(offs) / 3)
    for z in range(1 + len(layout.racks)):
        x[at.ROPE_DELAY_S + z] = chance.uniform(5.0, 20.0)


def channels_of(layout: Layout) -> dict[str, int]:
    """Return the slot of every transmitter that this plant has, by name."""
    found: dict[str, int] = {"ambient_temp": at.CHANNEL_AMBIENT}
    racks = range(1, len(layout.racks) + 1)
    for name, first, count in (("supply_temp", at.CHANNEL_SUPPLY, 3), ("return_temp", at.CHANNEL_RETURN, 2)):
        found |= {f"{name}_{k + 1}": first + k for k in range(count)}
    found["tcs_flow"] = at.CHANNEL_FLOW
    if layout.cooling == "liquid":
        found |= {
            "rack_pressure_drop": at.CHANNEL_RACK_DROP,
            "pump_pressure_drop": at.CHANNEL_PUMP_DROP, "suction_pressure": at.CHANNEL_SUCTION,
            "discharge_pressure": at.CHANNEL_DISCHARGE, "reservoir_level": at.CHANNEL_LEVEL,
        }  # fmt: skip
        found |= {f"rack_outlet_temp_{r}": at.CHANNEL_OUTLET + r - 1 for r in racks}
        found |= {f"leak_rope_{z}": at.CHANNEL_ROPE + z for z in range(len(layout.racks) + 1)}
    found |= {f"fws_supply_temp_{k + 1}": at.CHANNEL_FWS_SUPPLY + k for k in range(2)}
    found |= {"fws_return_temp_1": at.CHANNEL_FWS_RETURN, "fws_flow": at.CHANNEL_FWS_FLOW}
    for f in range(at.FEEDS):
        found[f"feed_power_{f + 1}"] = at.CHANNEL_FEED + f
        found |= {f"branch_power_{r}_{f + 1}": at.CHANNEL_BRANCH + (r - 1) * at.FEEDS + f for r in racks}
        found |= {f"room_temp_{f + 1}": at.CHANNEL_ROOM + f, f"room_humidity_{f + 1}": at.CHANNEL_HUMIDITY + f}
    return found


def _kind(name: str) -> tuple[tuple[float, ...], float, float]:
    """Return lag and so on of a transmitter, and how far its gain and its offset may be out."""
    if name.startswith("rack_outlet"):
        return ROUGH, 0.002, 0.15
    for word, kind, gain, bias in (
        ("humidity", ROOM_RH, 0.0, 2.0), ("room_temp", ROOM_T, 0.0, 0.2), ("flow", SMALL_FLOW, 0.01, 0.0),
        ("power", POWER, 0.01, 0.0), ("pressure", PRESSURE, 0.0, 0.0), ("level", LEVEL, 0.0, 0.0),
        ("rope", ROPE, 0.0, 0.0),
    ):  # fmt: skip
        if word in name:
            return kind, gain, bias
    return PT100, 0.002, 0.10


def _transmitters(x: Numbers, layout: Layout, seed: int) -> None:
    for name, k in channels_of(layout).items():
        chance = random.Random(seed_of(seed, f"offset/{name}"))
        (lag, noise, share, quantum, period), gain, bias = _kind(name)
        x[at.LAG_S + k], x[at.NOISE + k], x[at.NOISE_SHARE + k] = lag, noise, share
        x[at.QUANTUM + k], x[at.PERIOD_S + k] = quantum, period
        x[at.GAIN + k], x[at.BIAS + k] = 1 + chance.uniform(-gain, gain), chance.uniform(-bias, bias)
