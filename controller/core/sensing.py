"""One value from several sensors: who can't be right is left out and named, and models speak where sensors disagree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from controller.core.blocks import Delay, LeakyDelay, Vote, Voted, clamp
from controller.core.effect import FLOW_LEAST_LPM, Heat, Stroke, SupplyModel, ValveWatch
from controller.core.image import Fact, Image, numbers_of
from controller.core.loops import exchanger_of, speed_for_flow_pct
from controller.core.pod import Pod
from controller.core.points import Reading, bad, good, points_of
from controller.core.power import it_power_sources, sum_of

BAND_K, EJECT_S, READMIT_S = 1.0, 5.0, 30.0
FROZEN_S, MOVED_K = 30.0, 0.25  # a probe of 0.1 K that stands still while its partners moved by two and a half steps
ALONE_K = 3.0  # from the model: farther, and the last probe is not believed
SPLIT_K, SPLIT_S = 1.0, 5.0
FLOW_APART, FLOW_S = 0.10, 3.0  # of the design flow; pumps that ramp make less of a difference, or a shorter one
POWER_APART, POWER_S, POWER_AGREE_S = 0.07, 5.0, 60.0  # meters of a load that swings quickly agree by chance too
ROLES = ("supply_temp", "return_temp", "fws_supply_temp")


@dataclass(slots=True)
class FlowJudge:
    """The main's flow meter against the racks' own meters and the pumps' curve.

    The meter is believed while either of the others speaks for it. Else, or while it gives no value, what the others
    agree on counts at once. Where they don't agree either, the lowest counts after a while; without a meter, nothing.
    """

    design_lpm: float
    suspect: LeakyDelay

    def step(
        self, meter: float | None, racks: float | None, curve: float | None, now: float
    ) -> tuple[float | None, bool]:
        """Return the flow, and whether the meter is not believed. What is not known speaks for nobody."""
        others = [value for value in (racks, curve) if value is not None]
        near = FLOW_APART * self.design_lpm
        lonely = len(others) == 2 and (meter is None or all(abs(meter - other) > near for other in others))
        wrong = self.suspect.step(lonely, now)
        if lonely and max(others) - min(others) <= near:
            return others[0], wrong
        if meter is None or not wrong:
            return meter, False
        return min([meter, *others]), True


class ValveIds(NamedTuple):
    """Points of one valve."""

    position_cmd: str
    position: str
    stuck: str
    no_effect: str


class Sensing:
    """Votes of one pod; ``watch`` is the exchanger's valve, whose model is what breaks a tie of supply probes."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        tcs = pod.tcs
        self._points = dict(zip(ROLES, (tcs.supply_temps, tcs.return_temps, pod.fws.supply_temps), strict=True))
        self._votes = {
            role: Vote(len(points), BAND_K, EJECT_S, READMIT_S, FROZEN_S, MOVED_K, safer_is_high=True)
            for role, points in self._points.items()
        }
        self._splits = {role: Delay(SPLIT_S, SPLIT_S) for role in ROLES}
        self.watch = ValveWatch(SupplyModel(exchanger_of(tcs), tcs.valve_rangeability))
        self._suspects = {role: [f"{point}_suspect" for point in points] for role, points in self._points.items()}
        self._valve = points_of(tcs.valve, ValveIds)
        self._rack_valves = [points_of(rack.valve, ValveIds) for rack in pod.racks if rack.valve]
        self._strokes = [Stroke() for _ in self._rack_valves]
        self._standing = Fact(_standings, tuple(point for ids in self._rack_valves for point in ids[:2]))
        self._stands = Fact(_standings, self._valve[:2])
        self._metered = all(rack.flow for rack in pod.racks)
        self._of_racks = Fact(sum_of, tuple(point for rack in pod.racks for point in rack.flow))
        turning = tuple(f"{pump}.{name}" for pump in tcs.pumps for name in ("running", "speed"))
        self._curve = Fact(self._curve_lpm, turning)
        self._rated_kw = pod.rated_kw
        self._flow = FlowJudge(tcs.flow_design_lpm, LeakyDelay(FLOW_S))
        self._power = Delay(POWER_S, POWER_AGREE_S)
        self.water_share: float | None = None

    def step(self, image: Image, setpoint_c: float) -> Image:
        """Return the image with one value for each role, and a flag for what can't be believed."""
        now = image.at
        flow, wrong = self._flow_lpm(image, now)
        found: dict[str, Reading] = {
            "pod.flow": bad("not known", now) if flow is None else good(flow, now),
            f"{self.pod.tcs.flow}_suspect": good(wrong, now),
            "pod.it_power_split": good(self._power.step(self._power_split(image), now), now),
        }
        voted: dict[str, float | None] = {}
        for role in reversed(ROLES):  # the supply last: its anchor needs the others
            anchor = self._anchor(image, voted, flow) if role == "supply_temp" else None
            result = self._vote(role, image, anchor, now)
            voted[role] = result.value
            found[f"pod.{role}"] = bad("not known", now) if result.value is None else good(result.value, now)
            for place, suspect in enumerate(self._suspects[role]):
                found[suspect] = good(place in result.ejected, now)
            found[f"pod.{role}_split"] = good(self._splits[role].step(self._split(role, image, result), now), now)
        found |= self._valves(image, voted, flow, setpoint_c)
        return image.with_derived(found)

    def _vote(self, role: str, image: Image, anchor: float | None, now: float) -> Voted:
        values = [image.number(point, otherwise=None) for point in self._points[role]]
        result = self._votes[role].step(values, now, anchor)
        alone = len(values) > 1 and len(result.used) == 1 and result.value is not None
        if alone and result.value is not None and anchor is not None and abs(result.value - anchor) > ALONE_K:
            return Voted(None, (), (*result.ejected, *result.used))
        return result

    def _split(self, role: str, image: Image, result: Voted) -> bool:
        """Two that are left and don't agree: nobody can tell which is wrong."""
        if len(result.used) != 2:
            return False
        used = image.numbers(self._points[role][place] for place in result.used)
        return len(used) == 2 and max(used) - min(used) > SPLIT_K

    def _heat(self, image: Image, voted: dict[str, float | None], flow: float | None, supply: float) -> Heat | None:
        back, water = voted["return_temp"], voted["fws_supply_temp"]
        position = image.number(self._valve.position, otherwise=self.watch.seen_pct)
        if back is None or water is None or flow is None or position is None or flow < FLOW_LEAST_LPM:
            return None
        return Heat(supply, back, water, flow, position)

    def _anchor(self, image: Image, voted: dict[str, float | None], flow: float | None) -> float | None:
        """Return what the exchanger's model says of the supply; nothing while its valve is not believed either."""
        heat = self._heat(image, voted, flow, 0.0)
        return None if heat is None or self.watch.no_effect else self.watch.model.expected_c(heat)

    def _valves(
        self, image: Image, voted: dict[str, float | None], flow: float | None, setpoint_c: float
    ) -> Iterator[tuple[str, Reading]]:
        now, valve, supply = image.at, self._valve, voted["supply_temp"]
        heat = None if supply is None else self._heat(image, voted, flow, supply)
        stands = image.follows(self._stands)[0]
        self.water_share = self.watch.step(*stands, heat, setpoint_c, now)
        yield valve.stuck, _stuck(self.watch.stroke.stuck, stands, now)
        yield valve.no_effect, good(self.watch.no_effect, now)
        standing = image.follows(self._standing)
        for ids, stroke, stands in zip(self._rack_valves, self._strokes, standing, strict=True):
            yield ids.stuck, _stuck(stroke.step(*stands, now), stands, now)

    def _flow_lpm(self, image: Image, now: float) -> tuple[float | None, bool]:
        meter = image.number(self.pod.tcs.flow, otherwise=None)
        of_racks = image.follows(self._of_racks) if self._metered else None
        return self._flow.step(meter, of_racks, image.follows(self._curve), now)

    def _curve_lpm(self, readings: Sequence[Reading]) -> float | None:
        """Return what the pumps would give at their speeds in a loop as it was designed.

        Args:
            readings: of each pump, whether it runs and its speed.
        """
        tcs, speeds = self.pod.tcs, numbers_of(readings[1::2])
        if len(speeds) < len(tcs.pumps):
            return None
        running = [speed for said, speed in zip(readings[::2], speeds, strict=True) if said.usable and said.value]
        if not running:
            return None
        return tcs.flow_design_lpm * median(running) / speed_for_flow_pct(tcs, tcs.flow_design_lpm, len(running))

    def _power_split(self, image: Image) -> bool:
        sources = it_power_sources(self.pod.power, self.pod.racks, image)
        return len(sources) > 1 and max(sources) - min(sources) > max(POWER_APART * max(sources), 0.02 * self._rated_kw)


def _stuck(stuck: bool, stands: Sequence[float | None], now: float) -> Reading:
    """Return what is known of a valve: one seen to be stuck stays so; of one that nobody hears nothing is known."""
    return good(stuck, now) if stuck or None not in stands else bad("position not known", now)


def _standings(readings: Sequence[Reading]) -> list[tuple[float | None, float | None]]:
    """Return where each valve is told to stand, and where it says it stands.

    Args:
        readings: of each valve's command and position.
    """
    numbers = [next(iter(numbers_of([reading])), None) for reading in readings]
    told = [None if command is None else clamp(command, 0.0, 100.0) for command in numbers[::2]]
    return [*zip(told, numbers[1::2], strict=True)]
