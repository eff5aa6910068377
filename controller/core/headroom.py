"""What this pod's cooling can take now: the limits that follow from its own measurements, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from statistics import median
from typing import NamedTuple

from controller.core import loops
from controller.core.capacity import (
    ChipEstimate,
    Cold,
    RackModel,
    exchanger_kw,
    loop_seconds,
    possible_flow_lpm,
    reserve_kw,
)
from controller.core.exchanger import coolant_kw
from controller.core.image import Fact, Image
from controller.core.permit import Limit
from controller.core.pod import Pod
from controller.core.points import Reading, points_of, record
from controller.core.power import Rack, sum_of
from controller.core.sequences import RunSequence, RunState
from controller.core.slots import Floor

LOAD_STEP, SUPPLY_STEP_K = 0.02, 0.5  # of a rack's rating and of its supply, in which its chips' need of flow is known
STARVED_PCT = 90.0  # of its neighbours' flow: a rack under this has a limit of its own
HEAT_LAG_S = 20.0  # from a rise of power until its heat is seen at the exchanger
WATER_OF_CHILLER = ("return_temp", "supply_temp")  # that enters it and leaves it
CUT_OUT_K, CUT_OUT_S = 0.2, 30.0  # of cooling between them; less for so long and its compressor rests
METER_WRONG_SHARE = 0.5  # of a rack's flow: so much more in the main than in all racks, and the lowest meter is wrong


@record
class Seen:
    """What one scan measured of the loop; None is what can't be trusted."""

    supply_c: float | None
    return_c: float | None
    water_c: float | None
    flow_lpm: float | None
    power_kw: float | None
    setpoint_c: float
    water_sp_c: float

    @property
    def supply(self) -> float:
        return self.setpoint_c if self.supply_c is None else self.supply_c


class RackIds(NamedTuple):
    """Points that tell of one rack."""

    flow_share: str
    chip_temp: str
    seconds_to_trip: str


class Headroom:
    """Limits of power and seconds to trip of one pod, from flow, temperatures, power and the state of its machines.

    Attributes:
        chips: estimate of each rack's hottest chips, by rack.
        numbers: figures to publish, by point; None where they are not known.
        wrong_meters: racks whose flow meter the others contradict.
        metered: racks that have one.
    """

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        cooling, tcs = pod.cooling, pod.tcs
        liquid = tcs.liquid_share_pct / 100
        self._rated = sum(rack.rated_kw for rack in pod.racks)
        self._models = {
            rack.name: RackModel(
                cooling,
                rack.rated_kw,
                liquid * rack.rated_kw,
                tcs.flow_design_lpm * rack.rated_kw / self._rated,
                tcs.coolant_kj,
            )
            for rack in pod.racks
        }
        self._whole = RackModel(cooling, self._rated, liquid * self._rated, tcs.flow_design_lpm, tcs.coolant_kj)
        self._exchanger = loops.exchanger_of(tcs)
        self.chips = {name: ChipEstimate(model) for name, model in self._models.items()}
        self.numbers: dict[str, float | None] = {}
        self.wrong_meters: set[str] = set()
        self._heat_kw: float | None = None
        self._at = 0.0
        self._ids = {name: points_of(name, RackIds) for name in self._models}
        self._measured = Fact(self._measure, tuple(point for rack in pod.racks for point in rack.flow))
        self._shares: dict[str, float] | None = None
        self._rests_since: dict[str, float] = {}
        self._busiest = (0.0, "")  # share of its rating that a rack takes, and which takes most
        self._least_lpm: dict[tuple[int, int], float] = {}  # by steps of load and supply setpoint
        self.metered = [rack.name for rack in pod.racks if rack.flow]

    def step(
        self,
        image: Image,
        seen: Seen,
        pumps: Sequence[RunSequence],
        chillers: Sequence[RunSequence],
        water_share: float | None,
        now: float,
    ) -> list[Limit]:
        """Return the limits of this scan.

        Args:
            water_share: of the facility water that a valve which does not move passes; None while it moves.
        """
        flows = self._flows(image, seen.flow_lpm)
        self._chips(image, flows, seen, now)
        self._seconds(seen, now)
        speeds = image.numbers(pump.speed_id for pump in pumps if pump.proven)
        possible = possible_flow_lpm(seen.flow_lpm, speeds, self.pod.tcs.flow_max_lpm)
        gain = min(1.0, possible / seen.flow_lpm) if possible is not None and seen.flow_lpm else 1.0
        found = list(self._by_flow(possible, {name: flow * gain for name, flow in flows.items()}, seen))
        if possible is not None:
            found.append(self._by_exchanger(image, possible, seen, water_share))
        if chillers:
            found.append(self._by_reserve(image, seen, chillers, now))
        return found

    def flow_floor(self, supply_c: float) -> dict[str, Floor]:
        """Return the flow that the busiest rack's chips needed in the last scan, as the floor of its setpoint.

        Branches share the flow by their size, whoever works: by the sum of power alone, a rack at full load beside idle
        ones would get no more than they do.
        """
        load, name = self._busiest
        if not name:
            return {}
        steps = math.ceil(load / LOAD_STEP), math.ceil(supply_c / SUPPLY_STEP_K)
        if steps not in self._least_lpm:
            model = self._models[name]
            flow = model.flow_lpm(steps[0] * LOAD_STEP * model.rated_kw, steps[1] * SUPPLY_STEP_K)
            self._least_lpm[steps] = flow * self.pod.tcs.flow_design_lpm / model.design_lpm
        return {"pod.flow_min_sp": Floor(self._least_lpm[steps], f"chips of {name}")}

    def _measure(self, readings: Sequence[Reading]) -> dict[str, float]:
        """Return the flow of each rack whose own meters can be trusted, as a share of its design flow."""
        rest, shares = iter(readings), {}
        for rack in self.pod.racks:
            flow = sum_of([*islice(rest, len(rack.flow))])
            if rack.flow and flow is not None:
                shares[rack.name] = flow / self._models[rack.name].design_lpm
        return shares

    def _flows(self, image: Image, total: float | None) -> dict[str, float]:
        """Return the flow of each rack that is known; of one meter against all the others, the others are right."""
        shares = image.follows(self._measured).copy()
        self.wrong_meters.clear()
        if total is not None and len(shares) == len(self.pod.racks) > 1:
            lowest = min(shares, key=lambda name: shares[name])
            gap = total - sum(share * self._models[name].design_lpm for name, share in shares.items())
            design = self._models[lowest].design_lpm
            if gap > METER_WRONG_SHARE * design * total / self.pod.tcs.flow_design_lpm:
                self.wrong_meters.add(lowest)
                shares[lowest] += gap / design
        if shares != self._shares:
            self._shares = shares
            for name in self.metered:
                ids = self._ids[name]
                others = [share for other, share in shares.items() if other != name]
                middle = median(others) if others else 0.0
                known = name in shares and middle > 0
                self.numbers[ids.flow_share] = 100 * shares[name] / middle if known else None
        return {name: share * self._models[name].design_lpm for name, share in shares.items()}

    def _chips(self, image: Image, flows: Mapping[str, float], seen: Seen, now: float) -> None:
        self._busiest = (0.0, "")
        for rack in self.pod.racks:
            power = self._power_kw(rack, image, seen)
            self._busiest = max(self._busiest, ((power or 0.0) / rack.rated_kw, rack.name))
            flow = flows.get(rack.name)
            if flow is None and seen.flow_lpm is not None:
                flow = seen.flow_lpm * rack.rated_kw / self._rated
            chips, estimate, seconds = self.chips[rack.name], None, None
            if power is not None and flow is not None:
                estimate = chips.step(power, flow, seen.supply, now)
                seconds = chips.seconds_to(self.pod.cooling.chip_trip_c)
            else:
                chips.chip_c = None
            ids = self._ids[rack.name]
            self.numbers[ids.chip_temp], self.numbers[ids.seconds_to_trip] = estimate, seconds

    def _power_kw(self, rack: Rack, image: Image, seen: Seen) -> float | None:
        said = rack.seen(image)
        if not said.energised:
            return 0.0
        own = said.power_kw
        return own if own is not None or seen.power_kw is None else seen.power_kw * rack.rated_kw / self._rated

    def _seconds(self, seen: Seen, now: float) -> None:
        """Work out when the pod trips: its loop as a whole, or the first of its racks."""
        liquid = self.pod.tcs.liquid_share_pct / 100
        if seen.power_kw is None:
            self._heat_kw = None
        else:
            heat, passed = liquid * seen.power_kw, max(0.0, now - self._at)
            last = heat if self._heat_kw is None else self._heat_kw
            self._heat_kw = last + (heat - last) * passed / (HEAT_LAG_S + passed)
        self._at = now
        seconds = [s for ids in self._ids.values() if (s := self.numbers[ids.seconds_to_trip]) is not None]
        if self._heat_kw is not None and None not in (seen.supply_c, seen.return_c, seen.flow_lpm):
            kj = self.pod.tcs.coolant_kj
            taken = coolant_kw(seen.flow_lpm or 0.0, (seen.return_c or 0.0) - seen.supply, kj)
            trip_c = self.pod.protection.supply_temp_trip_c
            seconds.append(loop_seconds(kj * self.pod.cooling.coolant_l, seen.supply, trip_c, self._heat_kw, taken))
        self.numbers["pod.seconds_to_trip"] = min(seconds, default=None)

    def _by_flow(self, possible: float | None, flows: Mapping[str, float], seen: Seen) -> Iterator[Limit]:
        if possible is not None:
            yield Limit("TCS flow too low for full power", self._whole.permit_kw(possible, seen.supply))
        for name, flow in flows.items():  # one that shares what all lack is not capped twice
            share = self.numbers[self._ids[name].flow_share]
            if share is not None and share < STARVED_PCT:
                yield Limit(f"{name} gets too little flow", self._models[name].permit_kw(flow, seen.supply), name)

    def _by_exchanger(self, image: Image, possible: float, seen: Seen, water_share: float | None) -> Limit:
        water = seen.water_sp_c if seen.water_c is None else seen.water_c
        share, cause = 1.0, "facility water too warm for full power"
        warmest = seen.setpoint_c + self.pod.cooling.supply_over_k
        if water_share is not None:
            share, cause = water_share, f"{self.pod.tcs.valve} can't be moved"
            if not image.flag(f"{self.pod.tcs.valve}.no_effect", otherwise=False):  # it is known where it stands
                warmest = max(warmest, self.pod.tcs.supply_temp_high_c)
        heat = exchanger_kw(self._exchanger, possible, share, warmest, self.pod.cooling.chip_limit_c, water)
        return Limit(cause, heat / (self.pod.tcs.liquid_share_pct / 100))

    def _by_reserve(self, image: Image, seen: Seen, chillers: Sequence[RunSequence], now: float) -> Limit:
        cooling, fws = self.pod.cooling, self.pod.fws
        water = seen.water_sp_c if seen.water_c is None else seen.water_c
        waits = [self._wait_s(image, chiller, water, seen.water_sp_c, now) for chiller in chillers]
        cold = Cold(sum(wait <= 0 for wait in waits), min((wait for wait in waits if wait > 0), default=0.0))
        ambient = max(image.numbers(cooling.ambient_temps), default=cooling.chiller_rated_ambient_c)
        heat = reserve_kw(cooling, cold, fws.chiller_capacity_kw, water, seen.water_sp_c, ambient, seen.power_kw or 0.0)
        return Limit("chiller reserve", heat - cooling.reserve_kw)

    def _wait_s(self, image: Image, chiller: RunSequence, water_c: float, water_sp_c: float, now: float) -> float:
        """Return how long this chiller can't help; one that does not answer helps while the water stays cold, one that
        runs and cools nothing has cut out by itself and is locked for its least time off.
        """
        match chiller.state:
            case RunState.FAILED:
                return self.pod.cooling.repair_s
            case RunState.UNKNOWN:
                cold = water_c <= water_sp_c + self.pod.fws.stage_up_temp_k
                return 0.0 if cold else self.pod.cooling.repair_s
            case RunState.STOPPED:
                return max(0.0, chiller.stopped_at + chiller.min_off_s - now)
            case RunState.RUNNING if (rested_s := self._rested_s(image, chiller, now)) > CUT_OUT_S:
                return max(0.0, chiller.min_off_s - rested_s)
        return 0.0

    def _rested_s(self, image: Image, chiller: RunSequence, now: float) -> float:
        """Return for how long water has left a chiller as warm as it came: its thermostat lets the compressor rest."""
        entering, leaving = (image.number(f"{chiller.device}.{name}", otherwise=None) for name in WATER_OF_CHILLER)
        if entering is None or leaving is None or entering - leaving >= CUT_OUT_K:
            self._rests_since.pop(chiller.device, None)
            return 0.0
        return now - self._rests_since.setdefault(chiller.device, now)
