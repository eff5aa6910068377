"""What an image says of the pod as a whole: derived readings, interlock conditions, permissives. Functions only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from controller.core import capacity, loops, modes
from controller.core.alarms import Alarm
from controller.core.blocks import Ramp, clamp
from controller.core.image import Image
from controller.core.pod import Pod
from controller.core.points import Reading, bad, good
from controller.core.power import it_power_kw
from controller.core.sequences import RunSequence, RunState
from controller.core.slots import Floor, Slots

FLOW_GOOD_PCT = 90.0  # of the need: silent pumps turn, for what else makes it
RUNS_UP_SHARE = 0.8  # of the speed of the fastest pump: one with less moves next to nothing against it
FLOW_PROVEN_PCT = 60.0  # of the need: with less no rack is energised
LOOP = ("pod.supply_temp", "pod.return_temp", "pod.fws_supply_temp", "pod.flow", "pod.it_power")
DEW_AGREE_K, DEW_APART_K = 1.0, 0.5


def dew_point_c(pod: Pod, image: Image) -> float | None:
    """Return the highest dew point in Cel of all room sensors whose both readings can be trusted.

    Sensors that disagree by 1.5 K and more put 1 K on top; none is added while they lie within 1 K.
    """
    pairs = zip(pod.room.temperatures, pod.room.humidities, strict=bool(pod.room.humidities))
    dews = [loops.dew_point_c(*both) for pair in pairs if len(both := image.numbers(pair)) == 2]
    if not dews:
        return None
    return max(dews) + clamp((max(dews) - min(dews) - DEW_AGREE_K) / DEW_APART_K, 0.0, 1.0)


def floors(pod: Pod, dew: float | None, ahead_k: float) -> dict[str, Floor]:
    """Return the lowest temperature setpoints that keep pipes from sweating.

    The facility water's is ``ahead_k`` higher: it takes minutes to follow, and the rear doors' coils are as cold.

    Without a dew point the supply keeps to its fixed floor, and nobody may ask for colder facility water than usual.
    """
    if not pod.room.humidities:
        return {}
    if dew is None:
        why = "dew point not known"
        return {
            "pod.supply_temp_sp": Floor(pod.tcs.dew_unknown_floor_c, why),
            "pod.fws_supply_temp_sp": Floor(pod.fws.supply_temp_sp_c, why),
        }
    floor = Floor(dew + pod.tcs.dew_margin_k, f"dew point {dew:.1f} Cel + {pod.tcs.dew_margin_k:g} K")
    water = Floor(floor.value + ahead_k, floor.reason + (f" + {ahead_k:.1f} K, rising" if ahead_k else ""))
    return {"pod.supply_temp_sp": floor, "pod.fws_supply_temp_sp": water}


def derived(
    pod: Pod, image: Image, dew: float | None, slots: Slots, follow: Ramp, *, wanted: bool
) -> dict[str, Reading]:
    """Return the readings of the pseudo-device ``pod`` that follow from the image, which has its votes already.

    Args:
        dew: point in Cel.
        slots: setpoints in force.
        follow: the need as the pumps can follow it; a rise of load is no loss of flow while they ramp.
        wanted: whether the loop is meant to run; without that its ratio and error mean nothing.
    """
    supply = image.number("pod.supply_temp", otherwise=None)
    it_power = it_power_kw(pod.power, pod.racks, image)
    needed = loops.flow_needed_lpm(pod.tcs, it_power, slots.value("pod.flow_min_sp"))
    setpoint_c = slots.value("pod.supply_temp_sp")
    reachable = follow.step(needed, image.at)
    flow = image.number("pod.flow", otherwise=None)
    at = image.at
    numbers: dict[str, float | None] = {
        "pod.flow_needed": needed,
        "pod.flow_ratio": 100 * flow / reachable if flow is not None and wanted else None,
        "pod.it_power": it_power,
        "pod.dew_point": dew,
        "pod.dew_margin": supply - dew if supply is not None and dew is not None else None,
        "pod.supply_temp_error": supply - setpoint_c if supply is not None and wanted else None,
        "pod.racks_energised": float(sum(rack.energised(image) for rack in pod.racks)),
    }
    if not pod.room.humidities:
        del numbers["pod.dew_point"], numbers["pod.dew_margin"]
    found = {point: reading(value, at) for point, value in numbers.items()}
    found.update((name, good(slots.value(name), at)) for name in slots.names)
    return found


def chiller_pct(pod: Pod, image: Image, water_c: float) -> float:
    """Return what a chiller can give in this weather, in % of its rating; as rated while the weather is not known."""
    ambient = max(image.numbers(pod.cooling.ambient_temps), default=pod.cooling.chiller_rated_ambient_c)
    return capacity.chiller_pct(pod.cooling, water_c, ambient)


def heat_seen(image: Image, flow_wanted_lpm: float) -> loops.HeatSeen:
    """Return what the supply temperature loop goes by."""
    supply, back, water, flow, it_kw = (image.number(point, otherwise=None) for point in LOOP)
    return loops.HeatSeen(supply, back, water, flow, flow_wanted_lpm, it_kw)


def reading(value: float | None, at: float) -> Reading:
    return bad("not known", at) if value is None else good(value, at)


def about_machines(
    image: Image, pumps: Sequence[RunSequence], chillers: Sequence[RunSequence], others: Sequence[RunSequence],
    buses: Mapping[str, str],
) -> dict[str, Reading]:  # fmt: skip
    """Return the readings that tell how the machines and buses stand.

    Args:
        buses: by the point that tells whether a bus answers, the one that tells that it is lost.
    """
    at = image.at
    found = {
        "pod.pumps_running": good(float(sum(pump.proven for pump in pumps)), at),
        "pod.chillers_running": good(float(sum(chiller.proven for chiller in chillers)), at),
    }
    for pump in (*pumps, *others):
        found[pump.failed_id] = good(pump.state is RunState.FAILED, at)
    for online, lost in buses.items():
        found[lost] = good(not image.flag(online, otherwise=True), at)
    return found


def pumps_turning(image: Image, pumps: Sequence[RunSequence], wanted: AbstractSet[str]) -> tuple[int, float | None]:
    """Return how many TCS pumps turn and stay, and their mean speed in %; None where the flow does not tell of them.

    One that still runs up moves nothing yet and does not count. While the flow is good, those that do not answer turn
    as well: noise on their line does not slow anything down.
    """
    proven = [pump for pump in pumps if pump.proven]
    said = [image.number(pump.speed_id, otherwise=None) for pump in proven if pump.device in wanted]
    least = RUNS_UP_SHARE * max((speed for speed in said if speed is not None), default=0.0)
    turning = [speed for speed in said if speed is None or speed >= least]
    speeds = [speed for speed in turning if speed is not None]
    silent = sum(pump.state is RunState.UNKNOWN for pump in pumps)
    ratio = image.number("pod.flow_ratio", otherwise=None)
    if silent and ratio is not None and ratio >= FLOW_GOOD_PCT:
        return len(turning) + silent, None
    alone = len(said) == len(proven)  # nobody is left that is to stop
    return len(turning), sum(speeds) / len(speeds) if speeds and alone else None


def carried(image: Image, pump: RunSequence, others: Iterable[RunSequence]) -> bool:
    """Return whether any of the others turns fast enough to move what this pump moves; one of unknown speed does.

    Pumps against one that is much faster only hold their check valves shut.
    """
    speed = image.number(pump.speed_id, otherwise=None) or 0.0
    turning = (image.number(other.speed_id, otherwise=speed) or 0.0 for other in others)
    return any(one >= RUNS_UP_SHARE * speed for one in turning)


def starved(pod: Pod, image: Image, rack: str) -> bool:
    """Return whether one rack gets far less flow than its neighbours and its chips are too hot for that."""
    share, chip = (image.number(f"{rack}.{name}", otherwise=None) for name in ("flow_share", "chip_temp"))
    if share is None or chip is None:
        return False
    return share < pod.cooling.rack_flow_lost_pct and chip > pod.cooling.chip_limit_c


def complete(pod: Pod, image: Image) -> bool:
    """True when every safety point can be trusted."""
    return all(image.usable(name) for name, point in pod.points.items() if point.safety)


def any_energised(pod: Pod, image: Image) -> bool:
    """True unless every outlet is known to be off: what can't be read may be on."""
    return any(rack.energised(image) for rack in pod.racks)


def any_rack_on(pod: Pod, image: Image) -> bool:
    """True when an outlet of any rack is known to be on."""
    return any(rack.seen(image).on for rack in pod.racks)


def missing(pod: Pod, image: Image, trip: str, standing: Iterable[Alarm]) -> Iterable[str]:
    """Return what PRECHECK (S1) still misses, in words."""
    if image.flag(pod.protection.epo, otherwise=True):
        yield "emergency power off is pressed or not known"
    leaks = (*pod.protection.cdu_leak, *(point for rack in pod.racks for point in rack.leak))
    yield from (f"{point} is wet or not known" for point in leaks if image.flag(point, otherwise=True))
    if pod.tcs.level_ok and not image.flag(pod.tcs.level_ok, otherwise=False):
        yield "reservoir level is low or not known"
    if pod.tcs.suction_pressure and not image.usable(pod.tcs.suction_pressure):
        yield f"{pod.tcs.suction_pressure} is not known"
    if not any(image.usable(f"{pump}.running") for pump in pod.tcs.pumps):
        yield "no TCS pump answers"
    if not image.usable("pod.supply_temp"):
        yield "no supply temperature"
    for item in pod.expected:
        found = image.reading(item.point)
        if not found.usable or found.value != item.value:
            yield f"{item.point} is {found.value}, commissioned as {item.value}"
    unknown = [outlet for rack in pod.racks for outlet in rack.outlets if not image.usable(outlet)]
    if unknown:
        yield f"{len(unknown)} outlets not known, first {unknown[0]}"
    if trip:
        yield f"trip not reset: {trip}"
    yield from (f"alarm not reset: {alarm.row.id}" for alarm in standing if _critical(alarm) and alarm.latched)


def loop_ready(pod: Pod, image: Image, standing: Iterable[Alarm]) -> bool:
    """Return whether the loop may take load (S5): flow, supply not too warm, above the dew point, nothing critical.

    A supply colder than its setpoint is ready too: without load nothing warms it.
    """
    times = pod.startup
    ratio = image.number("pod.flow_ratio", otherwise=None)
    error = image.number("pod.supply_temp_error", otherwise=None)
    margin = image.number("pod.dew_margin", otherwise=times.ready_dew_k)
    return (
        ratio is not None
        and ratio >= times.ready_flow_pct
        and error is not None
        and error <= times.ready_band_k
        and margin is not None
        and not margin < times.ready_dew_k
        and not any(_critical(alarm) and (alarm.active or alarm.latched) for alarm in standing)
    )


def _critical(alarm: Alarm) -> bool:
    return alarm.row.priority == "critical"


def cooled(pod: Pod, image: Image, elapsed_s: float, racks_off_s: float) -> bool:
    """Return whether COOLDOWN has removed the heat: racks off, run-on time over, supply and return even or all still.

    Args:
        elapsed_s: since COOLDOWN began.
        racks_off_s: since the last rack went off.
    """
    times = pod.startup
    if any_energised(pod, image) or min(elapsed_s, racks_off_s) < times.cooldown_min_s:
        return False
    supply = image.number("pod.supply_temp", otherwise=None)
    back = image.number("pod.return_temp", otherwise=None)
    even = supply is not None and back is not None and back - supply < times.cooldown_band_k
    still = image.number("pod.pumps_running", otherwise=None) == 0.0  # as after a burst: nothing gets cooler so
    return even or still or elapsed_s > times.cooldown_max_s


def outlet_refusal(image: Image, mode: str, trip: str) -> str:
    """Return why no rack may be energised now, or nothing."""
    if mode not in modes.LIVE[:2]:
        return f"not in {mode}"
    if trip:
        return trip
    ratio = image.number("pod.flow_ratio", otherwise=None)
    if ratio is None or ratio < FLOW_PROVEN_PCT:
        return "TCS flow is not proven"
    return ""
