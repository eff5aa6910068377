"""What must hold at every scan, for every seed, load and swarm of faults; each says what is wrong, or nothing.

``invariant_06``, ``_12``, ``_14`` and ``_16`` look at the end of a run too, see ``END``. Junction and condensation
limits are those of the racks' makers' public figures; times are those of docs/operating.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from controller.core.points import Quality
from hil.plant import slots as at
from tests.sim import promises
from tests.sim.track import ALIVE_LPS, OF_PLANT, Track

JUNCTION_MAX_C, JUNCTION_SLOW_C, JUNCTION_OFF_C, OFF_WITHIN_S = 95.0, 87.0, 92.0, 3.0
MARGIN_MIN_K, MARGIN_SHARE = 1.0, 0.005
SETPOINT_OVER_DEW_K, DEW_RISES_S, DEW_LIES_K = 3.0, 20.0, 2.0
NEED_SHARE = 0.9
NEAR = promises.NEAR
CHILLER_ON_S, CHILLER_OFF_S, BOTH_S = 300.0, 600.0, 660.0
RATE_SLACK = 0.11  # of a declared rate: a scan more or less
AGE_MAX_S, AGE_EVERY = 5.0, 10
STALE_WITHIN_S, HEARD_WITHIN_S = 2.0, 10.0
TAKE_OVER_S, GENTLE_S, GENTLE_PCT_PER_S = 30.0, 10.0, 5.0
AFTER_STRIKE_S, SPEED_FALLS_PCT, LOAD_FELL_KW = 3.0, 8.0, 30.0
RECOVERY_S, STARTS_S = 900.0, 120.0  # until it runs; until an operator who looks twice a minute has started it
SOC_MIN_PCT = 10.0
FLOOD_S, FLOOD_ALARMS = 600.0, 10
BOOKS_SHARE, HEAT_SHARE, STEADY_S = 0.02, 0.08, 180.0
HEAT_FROM = 0.3  # of rated power: under it noise is as large as what is looked for
COOLANT_KJ, AIR_KJ, WATER_KJ = 1.017 * 3.95, 1.2e-3 * 1.005, 4.19  # of a litre and kelvin
PERMIT_WITHIN_S, CHIP_LIMIT_C = 10.0, 82.0
SERVED_ALONE = 0.98
DRY_KW_K, FWS_KW_K, BUFFER_KJ_K, BUFFER_S = 72.0, 111.5, 10_900.0, 720.0  # of dry cooler, facility water, its buffer

Invariant = Callable[[Track], str]


def invariant_01(seen: Track) -> str:
    """Junctions stay below 95 Cel, and below 87 unless two pumps or a rack's branch are hit; 92 takes a rack off."""
    hottest = float(seen.junctions.max())
    for index, junction in enumerate(seen.junctions):
        hot_s = seen.held(f"{OF_PLANT}{index}", bool(junction > JUNCTION_OFF_C and seen.live[index]))
        if hot_s > OFF_WITHIN_S:
            return f"{seen.pod.racks[index].name} at {junction:.1f} Cel is still energised after {hot_s:.1f} s"
    if hottest >= JUNCTION_MAX_C:
        return f"hottest junction {hottest:.1f} Cel"
    if hottest >= JUNCTION_SLOW_C and not _flow_is_hit(seen):
        return f"hottest junction {hottest:.1f} Cel, chips slow down"
    return promises.tripped_are_off(seen) if seen.world.engine and seen.effects else ""


def _flow_is_hit(seen: Track) -> bool:
    """True when the run has a loss of flow that no control can make good: two pumps, or a rack's own branch."""
    pumps = {s.target for _, s in seen.strikes if s.fault.startswith("pump.") and s.target in seen.pod.tcs.pumps}
    branch = {rack.valve for rack in seen.pod.racks}
    shut = any(s.fault == "rack.blocked" or (s.target in branch and "valve." in s.fault) for _, s in seen.strikes)
    return shut or len(pumps) + 2 * seen.any_of("feed.", "leak.") >= 2


def invariant_02(seen: Track) -> str:
    """Nothing condenses: margin at least 1 K always and 2 K nearly always; the set point keeps above the dew point."""
    margin = seen.margin_k
    if not seen.dry and margin < MARGIN_MIN_K:
        return f"condensation margin {margin:.2f} K"
    setpoint, dew = seen.number("pod.supply_temp_sp"), seen.number("pod.dew_point")
    if dew is not None:  # a sensor that lies may ask for more than the set point can follow in time
        dew = min(dew, seen.plant.dew_point_c + DEW_LIES_K)
    low = setpoint is not None and dew is not None and setpoint < dew + SETPOINT_OVER_DEW_K
    if seen.held("low set point", low) > DEW_RISES_S:
        return f"set point {setpoint} Cel, dew point {dew} Cel"
    return ""


def end_02(seen: Track) -> str:
    if seen.cold_s > max(MARGIN_SHARE * seen.seen_s, DEW_RISES_S):
        return f"condensation margin below 2 K for {seen.cold_s:.0f} of {seen.seen_s:.0f} s"
    return ""


def invariant_03(seen: Track) -> str:
    """No write takes the loop below its need while a rack is on, and none ever stops the last pump that makes flow, of
    coolant or of facility water.
    """
    if not seen.on.any() or _emergency_off(seen):
        return ""
    pumps = seen.pod.tcs.pumps
    flowing = {name for name, lps in zip(pumps, seen.pump_lps, strict=True) if lps > ALIVE_LPS}
    for name in pumps:
        put = seen.puts.get(f"{name}.run_cmd")
        if f"{name}.run_cmd" in seen.before and put is not None and put.value is False and flowing == {name}:
            return f"{name} is told to stop and is the last that makes flow"
    for index, name in enumerate(seen.pod.fws.pumps):
        turns = seen.plant.facility.pumps[index].running
        alone = turns and seen.water_lps[index] > max(ALIVE_LPS, 0.9 * seen.water_lps.sum())
        if alone and f"{name}.run_cmd" in seen.before and seen.puts[f"{name}.run_cmd"].value is False:
            return f"{name} is told to stop and is the last that makes water flow"
    return _too_slow(seen, flowing)


def _too_slow(seen: Track, flowing: set[str]) -> str:
    """Return what is wrong with a fall of speed written in this scan: the flow at it is less than the need."""
    tcs = seen.pod.tcs
    slower = False
    for name in tcs.pumps:
        point = f"{name}.speed_cmd"
        before, put = seen.before.get(point), seen.puts.get(point)
        slower = slower or (before is not None and put is not None and float(put.value) < float(before.value) - NEAR)
    unknown_yet = seen.at_strike is not None and seen.now - seen.at_strike[0] <= AFTER_STRIKE_S
    if not slower or not flowing or unknown_yet:
        return ""
    turns = {name: drive.speed for name, drive in zip(tcs.pumps, seen.plant.tcs_pumps, strict=True)}
    share = [
        turns[name] if seen.is_hit(name) else float(seen.puts[f"{name}.speed_cmd"].value) / 100
        for name in sorted(flowing)
        if f"{name}.speed_cmd" in seen.puts
    ]
    if not share:
        return ""
    droop = tcs.pump_droop_kpa / tcs.pump_rated_lpm**2 / len(share) ** 2
    system = tcs.system_drop_kpa / tcs.flow_design_lpm**2
    foreseen = math.sqrt(tcs.pump_shutoff_kpa / (droop + system)) * sum(share) / len(share)
    known = [put.value for name in flowing if (put := seen.before.get(f"{name}.speed_cmd")) is not None]
    fall = min(1.0, 100 * sum(share) / len(share) / max(map(float, known), default=100.0))
    foreseen = max(foreseen, fall * seen.flow_lpm)  # pumps that run at speeds of their own share it unequally
    if foreseen < NEED_SHARE * seen.least_need:
        return f"speeds fall to {foreseen:.0f} L/min where {seen.least_need:.0f} are needed"
    return ""


def _emergency_off(seen: Track) -> bool:
    return seen.effects is not None and "epo" in seen.effects.view.acting


def invariant_04(seen: Track) -> str:
    """A rack's valve is shut only when the rack has been off for 5 s."""
    for index, rack in enumerate(seen.pod.racks):
        point = f"{rack.valve}.position_cmd"
        if point not in seen.before:
            continue
        value, waited = float(seen.puts[point].value), seen.now - seen.off_since[index]
        if value < 100 - NEAR and not waited >= promises.VALVE_WAITS_S - NEAR:
            return f"{rack.valve} goes to {value:g} % while {rack.name} is on or has been off too short"
    return promises.valves_are_asked_in_time(seen) if seen.world.engine else ""


def invariant_05(seen: Track) -> str:
    """A chiller told to start runs 300 s, one told to stop stays off 600 s, and never both are stopped together."""
    if _emergency_off(seen):
        return ""
    for name in seen.pod.fws.chillers:
        point = f"{name}.run_cmd"
        before, put = seen.before.get(point), seen.puts.get(point)
        if point not in seen.before or put is None or (before is not None and before.value == put.value):
            continue
        healthy = not any(s.target == name or "feed" in s.fault for s in seen.active.values())
        chiller = seen.plant.facility.chillers[seen.pod.fws.chillers.index(name)]
        if put.value is True:
            if seen.now - seen.stopped.get(name, -math.inf) < CHILLER_OFF_S:
                return f"{name} is started {seen.now - seen.stopped[name]:.0f} s after it was stopped"
            if not chiller.running:
                seen.started.setdefault(name, []).append(seen.now)
        elif healthy and chiller.running:
            started = seen.started.get(name, [])
            seen.stopped[name] = seen.now
            if started and seen.now - started[-1] < CHILLER_ON_S:
                return f"{name} is stopped {seen.now - started[-1]:.0f} s after its start"
            others = [seen.now - when for other, when in seen.stopped.items() if other != name]
            if seen.on.any() and any(ago < BOTH_S for ago in others):
                return f"{name} is stopped {min(others):.0f} s after the other"
    return ""


def invariant_06(seen: Track) -> str:
    """The IT permit stays within what the cold side can take: capacity that is there, dry cooler and buffer; or water
    from outside that may come back as warm as chips stand.
    """
    permit = seen.number("pod.it_permit")
    if permit is None:
        return ""
    most = _from_outside_kw(seen) if seen.plant.x[at.FROM_OUTSIDE] else _own_kw(seen, permit)
    over = permit > 1.1 * most
    if seen.held("permit", over) > PERMIT_WITHIN_S:
        return f"{permit:.0f} kW are permitted where {most:.0f} can be taken out"
    return ""


def _from_outside_kw(seen: Track) -> float:
    x = seen.plant.x
    return float(x[at.OUTSIDE_LPS]) * WATER_KJ * max(0.0, CHIP_LIMIT_C - float(x[at.OUTSIDE_C]))


def _own_kw(seen: Track, permit: float) -> float:
    x = seen.plant.x
    water_c = float(x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1])
    rated = float(x[at.CHILLER_KW]) * (1 + 0.02 * (water_c - 20) - 0.01 * (float(x[at.AMBIENT_C]) - 35))
    chillers = seen.plant.facility.chillers
    able = sum(c.capacity * rated for c in chillers if not c.tripped)  # one at rest does not show that its feed is dead
    dry = DRY_KW_K * float(x[at.DRY_CAPACITY]) * (water_c + permit / FWS_KW_K - float(x[at.AMBIENT_C]))
    return able + (max(0.0, dry) if x[at.DRY_TRIPPED] == 0 else 0.0) + BUFFER_KJ_K * max(0.0, 26 - water_c) / BUFFER_S


def end_06(seen: Track) -> str:
    """No permanent derate: without faults nearly all that is asked for is served."""
    if "pod.it_permit" not in seen.world.engine_points:
        return "no IT permit is made"
    if not seen.strikes and served(seen) < SERVED_ALONE:
        return f"served {served(seen):.3f} of the demand without any fault"
    return ""


def served(seen: Track) -> float:
    """Return IT energy over what was asked for, from the take-over on."""
    x, (energy, asked) = seen.plant.x, seen.served0
    return (float(x[at.BOOK_IT]) - energy) / max(1e-9, float(x[at.BOOK_DEMAND]) - asked)


def invariant_07(seen: Track) -> str:
    """Every output is listed, finite, in its range, and moves no faster than declared."""
    for point in seen.before:
        output, put, before = seen.outputs.get(point), seen.puts[point], seen.before[point]
        if output is None:
            return f"{point} is written and is no output"
        value = put.value
        if isinstance(value, bool):
            continue
        if isinstance(value, str) or not math.isfinite(value) or not output.low - NEAR <= value <= output.high + NEAR:
            return f"{point} is written {value}"
        if before is None:
            continue
        passed = put.at - before.at + 1.0
        change = float(value) - float(before.value)
        rate = max(output.up_per_s, output.urgent_per_s) if change > 0 else output.down_per_s
        if abs(change) > rate * passed * (1 + RATE_SLACK):
            return f"{point} moves by {change:.1f} in {put.at - before.at:.1f} s"
    return promises.writes_are_repeated(seen)


def invariant_08(seen: Track) -> str:
    """Time as the controller tells it never goes back. That a jump of the wall clock moves nothing, see the runner."""
    assert seen.effects is not None
    view = seen.effects.view
    if view.at != seen.now or view.since > view.at or view.image.at != view.at:
        return f"view of {view.at}, image of {view.image.at}, mode since {view.since}, at {seen.now}"
    return ""


def invariant_09(seen: Track) -> str:
    """What is too old is not usable, and is seen not to be within 2 s."""
    if seen.scans % AGE_EVERY:
        return ""
    assert seen.effects is not None
    points, image = seen.world.engine_points, seen.effects.view.image
    for name, reading in image.items():
        point = points[name]  # what the scan works out itself bears the time of its last change
        if point.device not in seen.pod.device_bus or reading.quality is not Quality.GOOD:
            continue
        if image.at - reading.at > point.max_age_s + NEAR:
            return f"{name} is {image.at - reading.at:.1f} s old and counts as good"
    for strike in seen.active.values():
        if strike.fault == "device.silent" and seen.t - strike.at > AGE_MAX_S + STALE_WITHIN_S:
            fresh = next((n for n in points if n.startswith(f"{strike.target}.") and _from_device(seen, n)), "")
            if fresh:
                return f"{fresh} is good {seen.t - strike.at:.1f} s after its device fell silent"
    return promises.the_middle_counts(seen)


def _from_device(seen: Track, name: str) -> bool:
    """True when a point shows as good and is read from its device, not told by the bus or derived."""
    assert seen.effects is not None
    if name not in seen.world.device_points or seen.world.engine_points[name].max_age_s > AGE_MAX_S:
        return False
    return seen.effects.view.image.usable(name)


def invariant_10(seen: Track) -> str:
    """A start of the controller stops nothing, moves gently, and forgets no trip; nothing but a reset ever does."""
    assert seen.effects is not None
    if text := promises.latches_hold(seen):
        return text
    since = seen.now - seen.boot_at
    if since > TAKE_OVER_S or seen.world.engine is None:
        return ""
    lost = set(seen.kept) - set(seen.world.engine.interlocks.latched())
    if lost and "reset" not in seen.world.orders:
        return f"{min(lost)} was latched before the start and is not now"
    if seen.effects.view.acting:
        return ""
    for point in seen.before:
        value = seen.puts[point].value
        if value is False and not _has_failed(seen, point) and not seen.is_off(point):
            return f"{point} is written off {since:.1f} s after a start"
        stood = seen.stood.get(point)
        if stood is None or isinstance(value, bool) or since > GENTLE_S or point in seen.turning_nothing():
            continue
        low, high = sorted((stood, seen.stands().get(point, stood)))  # a drive told nothing may move by itself
        moved = max(low - float(value), float(value) - high)
        if moved > GENTLE_PCT_PER_S * (since + 1.0) and not _cools_more(seen, point, stood):
            return f"{point} goes from {stood:.1f} to {float(value):.1f} {since:.1f} s after a start"
    return ""


def _has_failed(seen: Track, point: str) -> bool:
    assert seen.effects is not None
    return seen.effects.view.machines.get(point.split(".", maxsplit=1)[0]) == "failed"


def _cools_more(seen: Track, point: str, stood: float) -> bool:
    """True for a pump that speeds up because the flow is below the need, and for a valve that nobody hears and that is
    taken to be open: those may go faster.
    """
    assert seen.effects is not None
    unheard = not seen.effects.view.image.usable(point)
    return (point.endswith("speed_cmd") or unheard) and float(seen.puts[point].value) > stood


def invariant_11(seen: Track) -> str:
    """No command moves a set point outside its envelope."""
    engine = seen.world.engine
    if engine is None:
        return ""
    slots = engine.authority.slots
    for name, array in slots.arrays.items():
        value, setpoint = slots.value(name), array.setpoint
        if not math.isfinite(value) or not setpoint.low - NEAR <= value <= max(setpoint.high, setpoint.low) + NEAR:
            return f"{name} is {value} and may be {setpoint.low:g} to {setpoint.high:g}"
    return promises.rights_are_kept(seen) or promises.protection_wins(seen)


def invariant_12(seen: Track) -> str:
    """A fault that comes in never slows the pumps down."""
    if seen.at_strike is None or not seen.strikes or not seen.on.any():
        return ""
    when, speed, kw = seen.at_strike
    last = seen.strikes[-1][1].fault
    if seen.now - when > AFTER_STRIKE_S or last.startswith(("load.", "commands.", "controller.", "leak.")):
        return ""
    now = [seen.puts[f"{p}.speed_cmd"].value for p in seen.pod.tcs.pumps if f"{p}.speed_cmd" in seen.puts]
    if now and max(map(float, now)) < speed - SPEED_FALLS_PCT and seen.plant.it_kw > kw - LOAD_FELL_KW:
        return f"pumps slow from {speed:.1f} to {max(map(float, now)):.1f} % after {last}"
    return ""


def end_12(seen: Track) -> str:
    """Healed, and reset where something has latched, the pod is back in NORMAL; one that was shut down starts anew."""
    assert seen.effects is not None
    view = seen.effects.view
    if seen.healed_at is None or view.mode == "NORMAL":
        return ""
    if seen.now - max(seen.healed_at, seen.off_at) < RECOVERY_S and (view.mode != "OFF" or seen.off_s < STARTS_S):
        return ""
    return f"{view.mode} ({view.cause}) {seen.now - seen.healed_at:.0f} s after all was healed"


def invariant_13(seen: Track) -> str:
    """No branch breaker opens that no fault opens, and the battery keeps a tenth."""
    if seen.branches.any() and not seen.any_of("branch.", "feed.", "load.rack", "grid."):
        index = int(np.flatnonzero(seen.branches)[0])
        return f"the breaker of {seen.pod.racks[index // at.FEEDS].name} feed {index % at.FEEDS + 1} has opened"
    if seen.plant.soc_pct < SOC_MIN_PCT:
        return f"state of charge {seen.plant.soc_pct:.1f} %"
    return ""


def invariant_14(seen: Track) -> str:
    """Without a fault nothing is isolated and no rack goes off; once healed, alarms come one at a time."""
    assert seen.effects is not None
    if not seen.strikes and seen.t > 30.0 and (seen.effects.view.acting or not seen.on.all()):
        return f"without a fault: {', '.join(seen.effects.view.acting) or 'a rack is off'}"
    while seen.raised and seen.raised[0] < seen.now - FLOOD_S:
        seen.raised.popleft()
    calm = seen.healed_at is not None and seen.now - seen.healed_at > FLOOD_S + 60.0
    quiet = not seen.strikes and seen.t > 60.0
    if (calm or quiet) and len(seen.raised) > FLOOD_ALARMS:
        return f"{len(seen.raised)} alarms in 10 min with no fault at work"
    kept = (promises.acts_in_its_time, promises.resets_clear, promises.machines_are_judged, promises.alarms_come_once)
    return next((text for promise in kept if (text := promise(seen))), "")


SEEN_BY = {  # fault: what begins the id of an alarm that tells of it
    "pump.trip": ("{target}_",), "chiller.trip": ("{target}_",), "device.silent": ("{target}_", "comms_{target}"),
    "wire.unplugged": ("",), "leak.rack": ("leak", "{target}_"), "wire.half_open": ("",),
}  # fmt: skip


def end_14(seen: Track) -> str:
    """Every fault that its own device shows, and lasted a minute, has raised an alarm."""
    for _, strike in seen.strikes:
        if strike.fault not in SEEN_BY or strike.until - strike.at < 60.0:
            continue
        begins = tuple(form.format(target=strike.target) for form in SEEN_BY[strike.fault])
        if not any(strike.target in name or name.startswith(begins) for name in seen.detected):
            return f"{strike} has raised no alarm"
    return next((f"{name} stands though all is healed" for name in promises.still_stands(seen)), "")


def invariant_15(seen: Track) -> str:
    """A silent device makes no other device's readings old: those of other buses stay fresh."""
    if seen.scans % AGE_EVERY or seen.now - seen.boot_at < TAKE_OVER_S:
        return ""
    assert seen.effects is not None
    late = [strike for _, strike in seen.strikes if 0 <= seen.t - strike.until < HEARD_WITHIN_S]
    hit = {seen.pod.device_bus.get(s.target.split(".")[0], s.target) for s in (*seen.active.values(), *late)}
    if seen.any_of("feed.", "sensor.") or seen.healed_at is not None or not hit:
        return ""
    image, points = seen.effects.view.image, seen.world.engine_points
    for name, point in points.items():
        if not point.safety or seen.pod.device_bus.get(point.device) in hit or point.device not in seen.pod.device_bus:
            continue
        age = image.at - image.reading(name).at
        if age > AGE_MAX_S:
            return f"{name} is {age:.1f} s old while {', '.join(sorted(seen.active))} is at work"
    return ""


def invariant_16(seen: Track) -> str:
    """The electrical books close; heat that does not match the power while all is steady is told as an alarm."""
    x = seen.plant.x
    total = float(x[at.TOTAL_KW])
    given = float(x[at.GRID_KW] + x[at.BATTERY_KW] + x[at.GENERATOR_KW])
    if seen.held("books", abs(total - given) > BOOKS_SHARE * max(total, 100.0)) > 2.0:
        return f"{total:.0f} kW are taken and {given:.0f} given"
    return _heat_matches(seen)


def _heat_matches(seen: Track) -> str:
    assert seen.effects is not None
    names = ("pod.flow", "pod.return_temp", "pod.supply_temp", "pod.it_power")
    flow, back, supply, power = (seen.number(name) for name in names)
    if flow is None or back is None or supply is None or power is None or power < HEAT_FROM * seen.pod.rated_kw:
        seen.since.pop("heat", None)
        return ""
    heat = flow / 60 * (AIR_KJ if seen.dry else COOLANT_KJ) * (back - supply)
    wrong = abs(heat - seen.pod.tcs.liquid_share_pct / 100 * power) > 2 * HEAT_SHARE * power
    steady = seen.swarm.profile == "manual" and not seen.effects.view.alarms
    if seen.held("heat", wrong and steady) > STEADY_S:
        return f"{heat:.0f} kW leave in the water where {power:.0f} kW go in, and no alarm stands"
    return ""


EACH: dict[int, Invariant] = {
    1: invariant_01, 2: invariant_02, 3: invariant_03, 4: invariant_04, 5: invariant_05, 6: invariant_06,
    7: invariant_07, 8: invariant_08, 9: invariant_09, 10: invariant_10, 11: invariant_11, 12: invariant_12,
    13: invariant_13, 14: invariant_14, 15: invariant_15, 16: invariant_16,
}  # fmt: skip
UNATTENDED = (1, 13)  # what must hold while no controller runs too
END: dict[int, Invariant] = {2: end_02, 6: end_06, 12: end_12, 14: end_14}


def judged(seen: Track, numbers: Iterable[int] = EACH) -> Iterator[tuple[int, str]]:
    """Yield what this scan violates."""
    for number in numbers:
        text = EACH[number](seen)
        if text:
            yield number, text


def judged_at_end(seen: Track) -> Iterator[tuple[int, str]]:
    for number, invariant in END.items():
        text = invariant(seen)
        if text:
            yield number, text
