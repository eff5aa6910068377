"""The physics of one pod, in virtual time. README.md lists every name; slots.py is the table behind them.

Fixed step of 50 ms (10 ms for the electrical part), explicit Euler with the temperatures of before the step, so that
energy is conserved; flow lags are implicit. The same layout, seed and inputs give the same run to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hil.plant import slots as at
from hil.plant.advance import advance, heat_stored_kj
from hil.plant.electrical import AMPS_PER_KW, Branch, Feed
from hil.plant.facility import Facility
from hil.plant.hydraulics import DESIGN_FLOW, Drive, Loop, Valve
from hil.plant.jobs import Cluster, Jobs, Weather
from hil.plant.kernel import Numbers
from hil.plant.layout import LIQUID_SHARE, START_C, Layout, channels_of, numbers_of
from hil.plant.part import Flag, Flags, Number, Part, Pct, Row
from hil.plant.reservoir import LEVEL_SWITCH_L, LITRES, STILL_SUCTION_KPA, SUCTION_DROP_KPA
from hil.plant.room import DOOR_FLOW, Room
from hil.plant.sensors import MODES
from hil.plant.streams import seed_of
from hil.plant.supply import Battery, Generator, Grid
from hil.plant.thermal import EXCHANGER_WATER_FLOW

__all__ = ["DESIGN_FLOW", "LIQUID_SHARE", "RACK_KW", "STEP_S", "WATER_SHARE", "Layout", "Plant", "Rack", "Sensor"]

STEP_S = 0.05
RACK_KW = 130.0
WATER_SHARE = EXCHANGER_WATER_FLOW / (EXCHANGER_WATER_FLOW + DOOR_FLOW)


class RackWater(Part):
    """Temperatures of a rack along the water's way, and of its chips."""

    __slots__ = ()
    inlet, coolant, outlet = Number(at.INLET_C), Number(at.COOLANT_C), Number(at.OUTLET_C)
    plate, junction = Number(at.PLATE_C), Number(at.JUNCTION_C)


class Rack(Part):
    """A rack. Inputs: ``outlets`` (on or off, in the layout's order), ``load`` (share of rated power), ``cap``.

    Faults, neutral value in brackets: ``blockage`` (1, scales its conductance), ``leak_lps`` (0), ``refuses_cap``.
    """

    __slots__ = ("branches", "feeds", "valve", "water")
    load, cap, demand, power_kw = Number(at.LOAD), Number(at.RACK_CAP), Number(at.DEMAND), Number(at.RACK_IT_KW)
    junction_c, throttled_s, latched_off = Number(at.JUNCTION_C), Number(at.THROTTLED_S), Flag(at.LATCHED_OFF)
    throttle, blockage, refuses_cap = Number(at.THROTTLE), Number(at.RACK_BLOCKAGE), Flag(at.REFUSES_CAP)
    leak_lps, pooled_litres, rope_wet = Number(at.LEAK_LPS + 1), Number(at.POOLED_L + 1), Flag(at.ROPE_WET + 1)

    def __init__(self, x: Numbers, i: int, feeds: Iterable[int]) -> None:
        super().__init__(x, i)
        self.valve, self.water, self.feeds = Valve(x, 1 + i), RackWater(x, i), tuple(feeds)
        self.branches = [Branch(x, i * at.FEEDS + f) for f in range(at.FEEDS)]

    @property
    def outlets(self) -> Flags:
        return Flags(self.x, at.OUTLET_ON + self.i * at.OUTLETS_MAX, len(self.feeds))

    @outlets.setter
    def outlets(self, values: Iterable[bool]) -> None:
        values = list(values)
        if len(values) != len(self.feeds):
            raise ValueError(f"{len(values)} values for {len(self.feeds)} outlets")
        for index, value in enumerate(values):
            self.outlets[index] = value

    def outlet_kw(self, index: int) -> float:
        return float(self.x[at.OUTLET_KW + self.i * at.OUTLETS_MAX + index])

    def outlet_amps(self, index: int) -> float:
        return self.outlet_kw(index) * AMPS_PER_KW

    def zone_dry(self) -> None:
        """Mop up the water under this rack; a leak that goes on wets it again."""
        self.pooled_litres = 0.0


class Sensor(Part):
    """One transmitter. ``value`` is what it shows; README.md lists its ways to fail."""

    __slots__ = ()
    value, lag_s, gain, bias = Number(at.SHOWN), Number(at.LAG_S), Number(at.GAIN), Number(at.BIAS)
    noise, noise_share, quantum = Number(at.NOISE), Number(at.NOISE_SHARE), Number(at.QUANTUM)
    period_s, present, amount, truth = Number(at.PERIOD_S), Flag(at.PRESENT), Number(at.AMOUNT), Number(at.TRUTH)

    @property
    def mode(self) -> str:
        return MODES[int(self.x[at.MODE + self.i])]

    def fail(self, mode: str, amount: float | None = None) -> None:
        """Let the channel fail in one of MODES; without an amount, by the mode's usual one.

        Raises:
            ValueError: no such mode.
        """
        if mode not in MODES:
            raise ValueError(f"no sensor fault {mode!r}; there are {', '.join(MODES)}")
        usual = {"scaled": 10.0, "chatter": 5.0, "stuck_at": self.value}
        self.x[at.MODE + self.i] = MODES.index(mode)
        self.amount = usual.get(mode, 0.0) if amount is None else amount
        if mode == "none":
            self.x[at.DRIFTED + self.i] = 0.0

    def heal(self) -> None:
        self.fail("none")


class Energy(Part):
    """Running sums in kJ since the start."""

    __slots__ = ()
    racks, demanded, air_fans = Number(at.BOOK_IT), Number(at.BOOK_DEMAND), Number(at.BOOK_AIR_FANS)
    chilled, dry, outside = Number(at.BOOK_CHILLED), Number(at.BOOK_DRY), Number(at.BOOK_OUTSIDE)
    pumps_electric, chillers_electric = Number(at.BOOK_PUMPS), Number(at.BOOK_CHILLERS)
    dry_electric, total = Number(at.BOOK_DRY_FAN), Number(at.BOOK_TOTAL)
    grid, battery, generator = Number(at.BOOK_GRID), Number(at.BOOK_BATTERY), Number(at.BOOK_GENERATOR)

    @property
    def heat_in(self) -> float:
        """Heat that came into water, metal and air."""
        return self.racks + self.air_fans

    @property
    def heat_out(self) -> float:
        """Heat that left them."""
        return self.chilled + self.dry + self.outside


class PipeEnd(Part):
    """A pipe, by what comes out of it."""

    __slots__ = ()
    outlet = Number(0)


class Plant(Part):
    """A whole pod; README.md lists its parts and their names.

    Args:
        layout: what it consists of.
        load: share of rated power that every rack takes when its outlets are on.
        seed: of everything that chance decides.
        start_c: temperature of all water at the start.
    """

    __slots__ = (
        "battery", "cluster", "energy", "exchanger_water", "facility", "feeds", "generator", "grid", "history", "jobs",
        "layout", "loop", "racks", "room", "sensors", "streams", "supply", "tcs_pumps", "valve", "weather",
    )  # fmt: skip
    now, ambient_c, outdoor_dew_point_c = Number(at.NOW_S), Number(at.AMBIENT_C), Number(at.OUTDOOR_DEW_C)
    throttle, fouling, leak_lps = Flag(at.THROTTLES), Number(at.FOULING), Number(at.LEAK_LPS)
    makeup, makeup_failed, makeup_locked = Flag(at.MAKEUP), Flag(at.MAKEUP_FAILED), Flag(at.MAKEUP_LOCKED)
    supply_c, return_c = Number(at.HX_C), Number(at.TANK_C)
    exchanger_kw, it_kw, it_demand_kw = Number(at.HX_KW), Number(at.IT_KW), Number(at.IT_DEMAND_KW)
    level_litres, makeup_litres, lost_litres = Number(at.LEVEL_L), Number(at.MAKEUP_L), Number(at.LOST_L)
    dew_point_c, condensation_margin_k = Number(at.DEW_C), Number(at.MARGIN_K)
    condensate_litres, soc_pct = Number(at.CONDENSATE_KG), Pct(at.BATTERY_SOC)
    grid_kw, total_kw = Number(at.GRID_KW), Number(at.TOTAL_KW)
    controller_powered = Flag(at.CONTROLLER_POWERED)

    def __init__(self, layout: Layout, *, load: float = 0.6, seed: int = 1, start_c: float = START_C) -> None:
        x = numbers_of(layout, load, seed, start_c)
        super().__init__(x)
        self.layout = layout
        self.history = np.zeros(at.CHANNELS * at.HISTORY)
        channels = channels_of(layout)
        names = {k: name for name, k in channels.items()} | {at.JOB_STREAM: "jobs"}
        words = [seed_of(seed, names.get(k, "none")) for k in range(at.STREAMS)]
        self.streams = np.array(words, dtype=np.uint64)
        first, movers = (at.FAN_DRIVE, layout.fans) if layout.cooling == "air" else (0, layout.pumps)
        self.tcs_pumps = [Drive(x, first + index) for index in range(movers)]  # or the fans in their place
        self.valve, self.loop = Valve(x, 0), Loop(x)
        self.racks = [Rack(x, r, feeds) for r, feeds in enumerate(layout.racks)]
        self.facility, self.room = Facility(x), Room(x)
        self.feeds = [Feed(x, f) for f in range(at.FEEDS)]
        self.grid, self.battery, self.generator = Grid(x), Battery(x), Generator(x)
        self.jobs, self.cluster, self.weather, self.energy = Jobs(x), Cluster(x), Weather(x), Energy(x)
        self.supply = PipeEnd(x, at.SUPPLY_C + at.PIPE_CELLS - 1)
        self.exchanger_water = PipeEnd(x, at.HX_WATER_C)
        self.sensors = {name: Sensor(x, k) for name, k in channels.items()}

    # ------------------------------------------------------------ what is measured

    @property
    def design_lpm(self) -> float:
        return 60 * float(self.x[at.DESIGN_LPS])

    @property
    def flow_lpm(self) -> float:
        return 60 * self.loop.flow

    @property
    def level_pct(self) -> float:
        return 100 * self.level_litres / (LITRES * float(self.x[at.SCALE]))

    @property
    def level_made(self) -> bool:
        return self.level_litres > LEVEL_SWITCH_L * float(self.x[at.SCALE])

    @property
    def suction_kpa(self) -> float:
        """Pressure before the pumps: of the expansion vessel less the return's friction; gone when the vessel is."""
        held = min(1.0, self.level_litres / 5.0)
        share = self.loop.flow / float(self.x[at.DESIGN_LPS])
        return max(0.0, held * STILL_SUCTION_KPA - SUCTION_DROP_KPA * share**2)

    @property
    def discharge_kpa(self) -> float:
        return self.suction_kpa + self.loop.head

    def feed_kw(self, feed: int) -> float:
        """Return what the racks take from a feed; ``feeds[feed].kw`` is with all machines."""
        return self.feeds[feed].it_kw

    @property
    def feed_kwh(self) -> Row:
        return Row(self.x, at.FEED_KWH, at.FEEDS)

    def pump_kw(self, index: int) -> float:
        return self.tcs_pumps[index].power_kw

    @property
    def pumps_kw(self) -> float:
        """What the TCS pumps take."""
        return sum(pump.power_kw for pump in self.tcs_pumps)

    @property
    def chillers_kw(self) -> float:
        return sum(chiller.power_kw for chiller in self.facility.chillers)

    @property
    def junction_c(self) -> list[float]:
        return [rack.junction_c for rack in self.racks]

    @property
    def hottest_c(self) -> float:
        return max(self.junction_c)

    @property
    def throttled_s(self) -> float:
        """Seconds that racks have been throttled, of all racks together."""
        return sum(rack.throttled_s for rack in self.racks)

    @property
    def pooled_litres(self) -> float:
        return float(self.x[at.POOLED_L]) + sum(rack.pooled_litres for rack in self.racks)

    @property
    def stored_kj(self) -> float:
        """Heat in all water, metal and air above 0 degrees."""
        return heat_stored_kj(self.x)

    def tend(self) -> None:
        """Mop up all water and fill the reservoir, as somebody with a rag and a hose does; what leaks goes on."""
        self.x[at.POOLED_L : at.POOLED_L + at.ZONES] = 0.0
        self.x[at.LEVEL_L] = LITRES * self.x[at.SCALE]

    # ------------------------------------------------------------ time

    def step(self, dt: float = STEP_S) -> None:
        """Advance by one step of ``dt`` seconds, at most 0.1."""
        advance(self.x, self.history, self.streams, 1, dt)

    def advance(self, seconds: float, dt: float = STEP_S) -> None:
        """Advance by ``seconds``, in whole steps."""
        advance(self.x, self.history, self.streams, round(seconds / dt), dt)
