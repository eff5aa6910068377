"""What an image says of faults: the condition of every interlock row, and the figures that stand behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from controller.core import modes
from controller.core.assess import starved
from controller.core.blocks import Hysteresis
from controller.core.image import Fact, Image
from controller.core.pod import LINK_DEVICE, Pod
from controller.core.points import Reading, good
from controller.core.power import Phases, any_on, branches_of
from controller.core.sequences import RunSequence, RunState
from controller.core.watches import BranchWatch, Fall, LevelWatch, LoopWatch, Slope, idle_pumps

AIR_WINDOW_S, AIR_JUMP_K = 20.0, 5.0  # a sensor that lags air by half a minute can't move so far at once
LATE_SCANS = 2.0  # more than these in the last minute: the controller does not keep up
PUMP_SHORT_PCT = 90.0
EASED_PCT = 95.0  # of the need: flow under this and suction under its limit are two signs of air
DEAD_FEED_SHARE = 0.02
LIVE_SHARE = 0.2  # of rated power: with less a feed may carry nothing and live
IMBALANCE_LEAST_SHARE = 0.2  # of a branch's rating: with less its phases tell nothing
WET_MARGIN_K = -1.0
RACK_ROWS = ("flow", "wet", "leak", "leak_sure", "burst")
STUCK_FLAGS = ("fault", "stuck", "no_effect")


@dataclass(frozen=True, slots=True)
class Machines:
    """The pod's machines as their sequences see them."""

    pumps: Sequence[RunSequence]
    chillers: Sequence[RunSequence]


@dataclass(slots=True)
class Branch:
    """One power unit: its breaker's heat, and whether its load is over its limit."""

    unit: str
    watch: BranchWatch
    over: Hysteresis
    heat_pct: float = 0.0
    share: float = 0.0
    uneven: float = 0.0
    load_high: str = field(init=False)  # rows
    overload: str = field(init=False)
    shed: str = field(init=False)
    heat: str = field(init=False)  # point

    def __post_init__(self) -> None:
        self.load_high, self.overload, self.shed = (f"{self.unit}_{row}" for row in ("load_high", "overload", "shed"))
        self.heat = f"{self.unit}.branch_heat"

    def look(self, phases: Phases, now: float) -> None:
        """Take in its currents."""
        watch = self.watch
        self.heat_pct = watch.step(phases.most, now)
        self.share = 100 * watch.amps / watch.rated_a
        worth = phases.known > 1 and phases.mean > IMBALANCE_LEAST_SHARE * watch.rated_a
        self.uneven = phases.apart / phases.mean * 100 if worth else 0.0


class Evidence:
    """Conditions of all rows, scan by scan.

    Attributes:
        branches: by power unit.
        loop: what is known of the loop's resistance.
        isolated: racks whose water is shut off or being so; to be set before each step.
    """

    def __init__(self, pod: Pod) -> None:
        limits = pod.protection
        self.pod = pod
        self.loop = LoopWatch(pod.tcs)
        self.isolated = 0
        self.level = LevelWatch(limits.level_loss_s)
        self.air = [Slope(AIR_WINDOW_S, AIR_JUMP_K) for _ in pod.room.temperatures]
        self.branches = {
            unit: Branch(
                unit,
                BranchWatch(limits.branch_rated_a, limits.branch_time_s),
                Hysteresis(limits.branch_cap_pct, limits.branch_cap_pct - 10.0),
            )
            for rack in pod.racks
            for unit in branches_of(rack)
        }
        self.fall = Fall()
        self._feeding = [self.branches[unit] for rack in pod.racks for unit in branches_of(rack)]
        self._rows = [[f"{row}_{rack.name}" for row in RACK_ROWS] for rack in pod.racks]
        self._wet_racks = Fact(self._wet, tuple(point for rack in pod.racks for point in rack.leak))
        self._wet_cdu = Fact(any_on, pod.protection.cdu_leak)
        detectors = (name for name, sort in pod.device_class.items() if sort == "leak_detector")
        self._blind = Fact(any_on, tuple(f"{name}.fault" for name in detectors))
        self._links = tuple(f"{LINK_DEVICE}{link}.connected" for link in pod.links)
        self._stuck = tuple(f"{pod.tcs.valve}.{flag}" for flag in STUCK_FLAGS)

    def step(self, image: Image, machines: Machines, mode: str) -> dict[str, bool]:
        """Return the condition of every interlock row. What can't be trusted trips nothing, but see ``pumps_lost``."""
        pod = self.pod
        said = [rack.seen(image) for rack in pod.racks]
        energised = {rack.name for rack, one in zip(pod.racks, said, strict=True) if one.energised}
        live = bool(energised) and mode in modes.LIVE
        level, level_at = _lowest(image, pod.protection.level)
        self.fall = self.level.step(level, level_at)
        self._look_at_loop(image, machines.pumps)
        phases = (phases for one in said for phases in one.branches)
        for branch, currents in zip(self._feeding, phases, strict=True):
            branch.look(currents, image.at)
        return {
            "epo": image.flag(pod.protection.epo, otherwise=False),
            **self._leaks(image),
            **self._reservoir(image, level),
            **self._pumps(image, machines.pumps, live),
            **self._temperatures(image, live),
            **self._air(image, energised=bool(energised)),
            **self._water(image, machines.chillers, live),
            **self._power(image),
            **self._controller(image, live),
            **{
                flow: live and rack.name in energised and starved(pod, image, rack.name)
                for rack, (flow, *_) in zip(pod.racks, self._rows, strict=True)
            },
        }

    def readings(self, at: float) -> dict[str, Reading]:
        """Return the figures worth showing."""
        found = {branch.heat: good(branch.heat_pct, at) for branch in self.branches.values()}
        found["pod.loop_resistance"] = good(100 * self.loop.known, at)
        return found

    # ------------------------------------------------------------ leaks and level

    def _wet(self, readings: Sequence[Reading]) -> list[bool]:
        """Return for each rack whether it leaks."""
        rest = iter(readings)
        return [any_on([*islice(rest, len(rack.leak))]) for rack in self.pod.racks]

    def _leaks(self, image: Image) -> dict[str, bool]:
        limits = self.pod.protection
        falling = self.fall.sure > limits.level_fall_pct_per_s
        suspect = self.fall.quick > limits.level_fall_pct_per_s
        losing = falling or self.fall.lost > limits.level_loss_pct
        even = 2 * self.isolated < len(self.pod.racks) - 1  # most of a rack's neighbours are still a yardstick
        wet_cdu, wet = image.follows(self._wet_cdu), image.follows(self._wet_racks)
        found = {
            "level_falling": falling,
            "leak_major": falling and wet_cdu and not any(wet),
            "leak_blind": image.follows(self._blind),
        }
        for rack, rows, is_wet in zip(self.pod.racks, self._rows, wet, strict=True):
            _, wet_row, leak, leak_sure, burst = rows
            found[wet_row] = found[leak] = is_wet
            found[leak_sure] = is_wet and losing
            share = (image.number(f"{rack.name}.flow_share", otherwise=100.0) or 0.0) if suspect and even else 0.0
            found[burst] = suspect and (is_wet or share > limits.burst_flow_pct)
        return found

    def _reservoir(self, image: Image, level: float | None) -> dict[str, bool]:
        tcs, limits = self.pod.tcs, self.pod.protection
        switch = image.flag(tcs.level_ok, otherwise=True)
        suction = image.number(tcs.suction_pressure, otherwise=None)
        discharge = max(image.numbers(limits.discharge_pressure), default=None)
        ratio = image.number("pod.flow_ratio", otherwise=None)
        low = level is not None and level < limits.level_low_pct
        airy = low or not switch or (ratio is not None and ratio < EASED_PCT)
        return {
            "level_low": low or not switch,
            "level_out": level is not None and level < limits.level_out_pct and not switch,
            "level_dry": level is not None and level < limits.level_dry_pct and not switch,
            "suction_pressure_low": suction is not None and suction < limits.suction_low_kpa,
            "suction_pressure_lost": suction is not None and suction < limits.suction_least_kpa and airy,
            "discharge_pressure_eased": discharge is not None and discharge > limits.discharge_ease_kpa,
            "discharge_pressure_high": discharge is not None and discharge > limits.discharge_high_kpa,
        }

    # ------------------------------------------------------------ pumps and flow

    def _look_at_loop(self, image: Image, pumps: Sequence[RunSequence]) -> None:
        speeds = [image.number(pump.speed_id, otherwise=None) for pump in pumps if pump.proven]
        known = [speed for speed in speeds if speed is not None]
        flow = image.number("pod.flow", otherwise=None)
        self.loop.step(flow, known if len(known) == len(speeds) else [], image.at)

    def _pumps(self, image: Image, pumps: Sequence[RunSequence], live: bool) -> dict[str, bool]:
        limits = self.pod.protection
        ratio = image.number("pod.flow_ratio", otherwise=None)
        running = [image.reading(pump.running_id) for pump in pumps]
        stopped = bool(pumps) and all(one.usable and not one.value for one in running)
        failed = any(pump.state is RunState.FAILED for pump in pumps)
        silent = bool(pumps) and all(pump.state is RunState.UNKNOWN for pump in pumps)
        short = live and ratio is not None
        found = {
            "pump_lost": failed,
            "pump_short": short and failed and (ratio or 0.0) < PUMP_SHORT_PCT,
            "pumps_stopped": live and stopped,
            "pumps_lost": live and stopped,
            "pumps_silent": live and silent,
            "flow_low": short and (ratio or 0.0) < limits.flow_full_pct,
            "cooling_lost": short and (ratio or 0.0) < limits.flow_cap_pct,
            "flow_lost": short and (ratio or 0.0) < limits.flow_lost_pct,
            "strainer_clogged": not self.isolated and 100 * self.loop.known > limits.resistance_high_pct,
        }
        return found | self._idle(image, pumps)

    def _idle(self, image: Image, pumps: Sequence[RunSequence]) -> dict[str, bool]:
        """A pump is told to move nothing by two signs: its power against its partners', and the loop's flow."""
        powers: dict[str, float] = {}
        speeds: dict[str, float] = {}
        for pump in pumps if self.loop.jumped else ():
            power, speed = image.number(pump.power_id, otherwise=None), image.number(pump.speed_id, otherwise=None)
            if pump.proven and power is not None and speed is not None:
                powers[pump.device], speeds[pump.device] = power, speed
        idle = idle_pumps(powers, speeds, self.pod.protection.pump_power_low_pct)
        return {f"no_flow_{pump.device}": pump.device in idle for pump in pumps}

    # ------------------------------------------------------------ temperatures and water

    def _temperatures(self, image: Image, live: bool) -> dict[str, bool]:
        limits = self.pod.protection
        supply, back, over, margin = (
            image.number(f"pod.{name}", otherwise=None)
            for name in ("supply_temp", "return_temp", "supply_temp_error", "dew_margin")
        )
        cool = margin is not None and (over is None or over < 1.0)
        return {
            "supply_warm": live and over is not None and over > limits.supply_temp_cap_k / 2,
            "supply_over": live and over is not None and over > limits.supply_temp_cap_k,
            "supply_hot": live and supply is not None and supply > limits.supply_temp_trip_c,
            "return_warm": live and back is not None and back > limits.return_temp_cap_c,
            "return_hot": live and back is not None and back > limits.return_temp_trip_c,
            "dew_close": cool and (margin or 0.0) < limits.dew_shut_k,
            "dew_wet": cool and (margin or 0.0) < WET_MARGIN_K,
            "supply_unknown": live and supply is None,
            "loop_unknown": live and supply is None and back is None,
        }

    def _air(self, image: Image, *, energised: bool) -> dict[str, bool]:
        """Compare the warmest room sensor, each ahead by its own lag while it rises, with the limits."""
        limits, seen, foreseen = self.pod.protection, list[float](), list[float]()
        for point, slope in zip(self.pod.room.temperatures, self.air, strict=True):
            value = image.number(point, otherwise=None)
            rate = slope.step(value, image.reading(point).at)
            if value is not None:
                seen.append(value)
                foreseen.append(value + limits.air_lag_s * max(0.0, rate or 0.0))
        if not seen:
            return {}
        warmest, ahead = max(seen), max(foreseen)
        return {
            "air_warm": warmest > limits.air_warn_c,
            "air_high": energised and ahead > limits.air_cap_c,
            "air_hot": energised and ahead > limits.air_trip_c,
        }

    def _water(self, image: Image, chillers: Sequence[RunSequence], live: bool) -> dict[str, bool]:
        limits = self.pod.protection
        flow = min(image.numbers(limits.fws_flow), default=None)
        dry = live and flow is not None and flow < limits.fws_flow_lost_lpm
        return {
            "facility_water_lost": dry,
            "facility_water_gone": dry,
            "chiller_lost": any(chiller.state is RunState.FAILED for chiller in chillers),
            "valve_stuck": any(image.flag(flag, otherwise=False) for flag in self._stuck),
        }

    # ------------------------------------------------------------ power and controller

    def _power(self, image: Image) -> dict[str, bool]:
        limits, power = self.pod.protection, self.pod.power
        found: dict[str, bool] = {}
        for branch in self.branches.values():
            over = branch.over.step(branch.share)
            uneven = branch.uneven > limits.phase_imbalance_pct
            found[branch.load_high] = uneven or branch.share > limits.branch_warn_pct
            found[branch.overload] = over or branch.heat_pct > limits.branch_heat_cap_pct
            found[branch.shed] = branch.heat_pct > limits.branch_heat_shed_pct
        feeds = image.numbers(power.feeds)
        total = image.number("pod.it_power", otherwise=None) or 0.0
        least = min(feeds, default=total)
        charge = min(image.numbers(limits.battery_soc), default=None)
        return found | {
            "feed_lost": total > LIVE_SHARE * self.pod.rated_kw and least < DEAD_FEED_SHARE * total,
            "battery_low": charge is not None and charge < limits.battery_warn_pct,
            "battery_reserve": charge is not None and charge < limits.battery_cap_pct,
            "battery_end": charge is not None and charge < limits.battery_stop_pct,
        }

    def _controller(self, image: Image, live: bool) -> dict[str, bool]:
        known = [image.flag(point, otherwise=True) for point in self._links]
        late = image.number("controller.late_scans", otherwise=None) or 0.0
        return {
            "bms_lost": bool(known) and not any(known),
            "scan_late": late > 0.0,
            "scan_failing": live and late > LATE_SCANS,
        }


def _lowest(image: Image, points: Iterable[str]) -> tuple[float | None, float]:
    """Return the lowest usable value and when its device gave it."""
    timed = ((value, image.reading(p).at) for p in points if (value := image.number(p, otherwise=None)) is not None)
    return min(timed, default=(None, image.at), key=lambda one: one[0])
