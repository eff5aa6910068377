"""What an image says of faults: the condition of every interlock row, and the figures that stand behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.core import modes
from controller.core.assess import starved
from controller.core.blocks import Hysteresis
from controller.core.image import Image
from controller.core.pod import LINK_DEVICE, Pod
from controller.core.points import Reading, good
from controller.core.power import Rack, branches_of
from controller.core.sequences import RunSequence, RunState
from controller.core.watches import BranchWatch, Fall, LevelWatch, LoopWatch, Slope, idle_pumps

AIR_WINDOW_S = 20.0
LATE_SCANS = 2.0  # more than these in the last minute: the controller does not keep up
PUMP_SHORT_PCT = 90.0
EASED_PCT = 95.0  # of the need: flow under this and suction under its limit are two signs of air
DEAD_FEED_SHARE = 0.02
LIVE_SHARE = 0.2  # of rated power: with less a feed may carry nothing and live
IMBALANCE_LEAST_SHARE = 0.2  # of a branch's rating: with less its phases tell nothing
WET_MARGIN_K = -1.0
STUCK_FLAGS = ("fault", "stuck", "no_effect")


@dataclass(frozen=True, slots=True)
class Machines:
    """The pod's machines as their sequences see them."""

    pumps: Sequence[RunSequence]
    chillers: Sequence[RunSequence]


@dataclass(slots=True)
class Branch:
    """One power unit: its breaker's heat, and whether its load is over its limit."""

    watch: BranchWatch
    over: Hysteresis
    heat_pct: float = 0.0
    share: float = 0.0
    uneven: float = 0.0


class Evidence:
    """Conditions of all rows, scan by scan.

    Attributes:
        branches: by power unit.
        loop: what is known of the loop's resistance.
    """

    def __init__(self, pod: Pod) -> None:
        limits = pod.protection
        self.pod = pod
        self.loop = LoopWatch(pod.tcs)
        self.level = LevelWatch(limits.level_loss_s)
        self.air = Slope(AIR_WINDOW_S)
        self.branches = {
            unit: Branch(
                BranchWatch(limits.branch_rated_a, limits.branch_time_s),
                Hysteresis(limits.branch_cap_pct, limits.branch_cap_pct - 10.0),
            )
            for rack in pod.racks
            for unit in branches_of(rack)
        }
        self.fall = Fall()
        self.detectors = [name for name, sort in pod.device_class.items() if sort == "leak_detector"]

    def step(self, image: Image, machines: Machines, mode: str) -> dict[str, bool]:
        """Return the condition of every interlock row. What can't be trusted trips nothing, but see ``pumps_lost``."""
        pod, at = self.pod, image.at
        live = any(rack.energised(image) for rack in pod.racks) and mode in modes.LIVE
        level, level_at = _lowest(image, pod.protection.level)
        self.fall = self.level.step(level, level_at)
        self._look_at_loop(image, machines.pumps)
        for rack in pod.racks:
            self._look_at_branches(image, rack, at)
        found: dict[str, bool] = {"epo": image.flag(pod.protection.epo, otherwise=False)}
        found |= self._leaks(image)
        found |= self._reservoir(image, level)
        found |= self._pumps(image, machines.pumps, live)
        found |= self._temperatures(image, live)
        found |= self._air(image)
        found |= self._water(image, machines.chillers, live)
        found |= self._power(image)
        found |= self._controller(image, live)
        for rack in pod.racks:
            found[f"flow_{rack.name}"] = live and rack.energised(image) and starved(pod, image, rack.name)
        return found

    def readings(self, at: float) -> dict[str, Reading]:
        """Return the figures worth showing."""
        found = {"pod.loop_resistance": good(100 * self.loop.known, at)}
        return found | {f"{unit}.branch_heat": good(branch.heat_pct, at) for unit, branch in self.branches.items()}

    # ------------------------------------------------------------ leaks and level

    def _leaks(self, image: Image) -> dict[str, bool]:
        pod, limits = self.pod, self.pod.protection
        falling = self.fall.sure > limits.level_fall_pct_per_s
        suspect = self.fall.quick > limits.level_fall_pct_per_s
        losing = falling or self.fall.lost > limits.level_loss_pct
        wet_cdu = any(image.flag(point, otherwise=False) for point in limits.cdu_leak)
        blind = [f"{name}.fault" for name in self.detectors]
        wet = {rack.name: any(image.flag(point, otherwise=False) for point in rack.leak) for rack in pod.racks}
        found = {
            "level_falling": falling,
            "leak_major": falling and wet_cdu and not any(wet.values()),
            "leak_blind": any(image.flag(point, otherwise=False) for point in blind),
        }
        for name, is_wet in wet.items():
            found[f"wet_{name}"] = found[f"leak_{name}"] = is_wet
            found[f"leak_sure_{name}"] = is_wet and losing
            share = image.number(f"{name}.flow_share", otherwise=100.0) or 0.0
            found[f"burst_{name}"] = suspect and (is_wet or share > limits.burst_flow_pct)
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
        speeds = [image.number(f"{pump.device}.speed", otherwise=None) for pump in pumps if pump.proven]
        known = [speed for speed in speeds if speed is not None]
        flow = image.number("pod.flow", otherwise=None)
        self.loop.step(flow, known if len(known) == len(speeds) else [], image.at)

    def _pumps(self, image: Image, pumps: Sequence[RunSequence], live: bool) -> dict[str, bool]:
        limits = self.pod.protection
        ratio = image.number("pod.flow_ratio", otherwise=None)
        running = [image.reading(f"{pump.device}.running") for pump in pumps]
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
            "strainer_clogged": 100 * self.loop.known > limits.resistance_high_pct,
        }
        return found | self._idle(image, pumps)

    def _idle(self, image: Image, pumps: Sequence[RunSequence]) -> dict[str, bool]:
        """A pump is told to move nothing by two signs: its power against its partners', and the loop's flow."""
        powers: dict[str, float] = {}
        speeds: dict[str, float] = {}
        for pump in (pump.device for pump in pumps if pump.proven):
            power, speed = (image.number(f"{pump}.{name}", otherwise=None) for name in ("power", "speed"))
            if power is not None and speed is not None:
                powers[pump], speeds[pump] = power, speed
        idle = idle_pumps(powers, speeds, self.pod.protection.pump_power_low_pct) if self.loop.jumped else set()
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

    def _air(self, image: Image) -> dict[str, bool]:
        """Compare the warmest room sensor, ahead by its own lag while it rises, with the limits."""
        limits = self.pod.protection
        warmest, at = _highest(image, self.pod.room.temperatures)
        rate = self.air.step(warmest, at)
        if warmest is None:
            return {}
        ahead = warmest + limits.air_lag_s * max(0.0, rate or 0.0)
        energised = any(rack.energised(image) for rack in self.pod.racks)
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
            "valve_stuck": any(image.flag(f"{self.pod.tcs.valve}.{flag}", otherwise=False) for flag in STUCK_FLAGS),
        }

    # ------------------------------------------------------------ power and controller

    def _look_at_branches(self, image: Image, rack: Rack, now: float) -> None:
        for unit, points in branches_of(rack).items():
            branch, amps = self.branches[unit], image.numbers(points)
            most, mean = max(amps, default=None), sum(amps) / max(1, len(amps))
            branch.heat_pct = branch.watch.step(most, now)
            branch.share = 100 * branch.watch.amps / branch.watch.rated_a
            worth = len(amps) > 1 and mean > IMBALANCE_LEAST_SHARE * branch.watch.rated_a
            branch.uneven = max(abs(one - mean) for one in amps) / mean * 100 if worth else 0.0

    def _power(self, image: Image) -> dict[str, bool]:
        limits, power = self.pod.protection, self.pod.power
        found: dict[str, bool] = {}
        for unit, branch in self.branches.items():
            over = branch.over.step(branch.share)
            uneven = branch.uneven > limits.phase_imbalance_pct
            found[f"{unit}_load_high"] = uneven or branch.share > limits.branch_warn_pct
            found[f"{unit}_overload"] = over or branch.heat_pct > limits.branch_heat_cap_pct
            found[f"{unit}_shed"] = branch.heat_pct > limits.branch_heat_shed_pct
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
        links = [f"{LINK_DEVICE}{link}.connected" for link in self.pod.links]
        known = [image.flag(point, otherwise=True) for point in links]
        late = image.number("controller.late_scans", otherwise=None) or 0.0
        return {
            "bms_lost": bool(known) and not any(known),
            "scan_late": late > 0.0,
            "scan_failing": live and late > LATE_SCANS,
        }


def _lowest(image: Image, points: Iterable[str]) -> tuple[float | None, float]:
    """Return the lowest usable value and when its device gave it."""
    return min(_timed(image, points), default=(None, image.at), key=lambda one: one[0])


def _highest(image: Image, points: Iterable[str]) -> tuple[float | None, float]:
    return max(_timed(image, points), default=(None, image.at), key=lambda one: one[0])


def _timed(image: Image, points: Iterable[str]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for point in points:
        value = image.number(point, otherwise=None)
        if value is not None:
            found.append((value, image.reading(point).at))
    return found
