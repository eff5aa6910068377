"""What the core promises of itself, watched from outside: rows act in their time, latches hold until a reset and no
longer, tripped racks are off, what is asked is judged.

Each function returns what is wrong with this scan, or nothing; the invariants call them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from controller.core.commands import number
from controller.core.interlocks import Row
from hil.plant import slots as at
from tests.sim.nonsense import REASON as NONSENSE
from tests.sim.track import DEAF, Track

VALVE_WAITS_S = 5.0  # of a rack's water, after its power is off
OFF_WITHIN_S = 10.0  # of a rack that has tripped, where its power units can be told
TRIPPED_WITHIN_S = 2.0
JUDGED_WITHIN_S = 4.0  # of what a machine shows: two polls, a scan, a start that is being proved
SETTLED_S = 30.0  # after a start of the controller
NEAR = 1e-6
STEADY = ("NORMAL", "FAULT.limiting")  # modes in which pumps are told their speed all the time
LOCAL = ("reset", "maintain", "release", "lock", "unlock", "out_of_service", "return_to_service", "bypass", "unbypass")


def acts_in_its_time(seen: Track) -> str:
    """A row acts when its condition has held for its delay, no sooner and no later."""
    there = sorted(name for name, here in seen.conditions.items() if here and name in seen.rows)
    seen.there_at.update(dict.fromkeys(there, seen.now))
    bypassed = seen.interlocks.bypasses
    seen.there_since = {name: seen.there_since.get(name, seen.now) for name in there if name not in bypassed}
    for name, since in seen.there_since.items():
        if seen.now - since >= seen.rows[name].delay_s - NEAR:
            seen.due_at.setdefault(name, seen.now + (seen.rows[name].meltdown_s or 0.0))
    seen.due_at = {name: due for name, due in seen.due_at.items() if _runs_on(seen, name)}
    for name in sorted(seen.acting - seen.acted):
        if seen.now < seen.due_at.get(name, math.inf) - NEAR:
            held_s = seen.now - seen.there_since.get(name, seen.now)
            return f"{name} acts after {held_s:.1f} s, its delay is {_delays(seen.rows[name])}"
    for name, due in seen.due_at.items() if not seen.has_reset else ():
        if name not in seen.acting and seen.now > due + NEAR:
            return f"{name} does not act {seen.now - due:.1f} s after its delay, which is {_delays(seen.rows[name])}"
    return ""


def _runs_on(seen: Track, name: str) -> bool:
    """Whether a timer goes on: while its condition is there, and nothing but a reset stops the second of two."""
    second = seen.rows[name].meltdown_s is not None and not seen.has_reset
    return name in seen.there_since or (second and name not in seen.interlocks.bypasses)


def _delays(row: Row) -> str:
    return f"{row.delay_s:g} s" + (f" and {row.meltdown_s:g} s" if row.meltdown_s is not None else "")


def latches_hold(seen: Track) -> str:
    """What has tripped stays so until a reset."""
    if seen.has_reset:
        return ""
    gone = [name for name in sorted(seen.acted) if name not in seen.acting and seen.rows[name].trip]
    return f"{gone[0]} has let go without a reset" if gone else ""


def resets_clear(seen: Track) -> str:
    """A reset ends what has tripped, once its condition has been gone for long enough."""
    for name in sorted(seen.acting & seen.acted) if seen.has_reset else ():
        gone_s = seen.now - seen.there_at.get(name, -math.inf)
        if gone_s > seen.rows[name].clear_s + NEAR and seen.rows[name].trip:
            return f"{name} is held through a reset, its condition gone for {gone_s:.0f} s"
    return ""


def alarms_come_once(seen: Track) -> str:
    """An alarm that has come does not come again before it has gone."""
    return f"{min(seen.twice)} has come twice and gone never" if seen.twice else ""


def the_middle_counts(seen: Track) -> str:
    """Of three probes that are heard and believed, the middle one counts."""
    assert seen.effects is not None
    image = seen.effects.view.image
    for voted, probes in seen.voted.items():
        values = [image.number(probe, otherwise=None) for probe in probes]
        if None in values or any(image.flag(f"{probe}_suspect", otherwise=True) for probe in probes):
            continue
        middle, counts = sorted(value for value in values if value is not None)[1], seen.number(voted)
        if counts is None or abs(counts - middle) > NEAR:
            return f"{voted} is {counts} where the middle of three probes is {middle:.2f}"
    return ""


def valves_are_asked_in_time(seen: Track) -> str:
    """The sequences themselves wait before they shut a rack's water; that the gate would too is the second line."""
    for demand in seen.asked if seen.interlocks.racks_isolated() else ():
        index = seen.rack_valves.get(demand.point)
        if index is None or isinstance(demand.value, str) or not demand.value < 100 - NEAR:
            continue
        waited = seen.now - seen.off_since[index]
        if demand.reason != NONSENSE and not waited >= VALVE_WAITS_S - NEAR:
            return f"{demand.point} is asked to {demand.value:g} % while its rack is on or has been off too short"
    return ""


def tripped_are_off(seen: Track) -> str:
    """What has tripped is off, and the pod says so."""
    rows = [seen.rows[name] for name in sorted(seen.acting)]
    whole = [row for row in rows if row.trip and _takes_all(row)]
    assert seen.effects is not None
    mode = seen.effects.view.mode
    said = mode.startswith(("FAULT.tripped", "STARTUP")) or mode in ("OFF", "SHUTDOWN", "COOLDOWN")
    if seen.held("untold trip", bool(whole) and not said) > TRIPPED_WITHIN_S:
        return f"{whole[0].id} has tripped the pod and the mode is {mode}"
    reachable = not seen.any_active(*DEAF, "feed.")
    for index, rack in enumerate(seen.pod.racks):
        tripped = bool(whole) or any(row.trip and row.rack == rack.name for row in rows)
        if seen.held(f"on {rack.name}", tripped and reachable and bool(seen.on[index])) > OFF_WITHIN_S:
            return f"{rack.name} has tripped and is on"
    return ""


def _takes_all(row: Row) -> bool:
    return row.does("racks_off") or row.does("all_off")


def writes_are_repeated(seen: Track) -> str:
    """What pumps are told is told again in time, so that a device that has forgotten it learns it; a scan in which a
    part of the engine has erred may pass.
    """
    assert seen.effects is not None
    view = seen.effects.view
    if view.mode not in STEADY or seen.now - seen.boot_at < SETTLED_S:
        return ""
    for pump in seen.pod.tcs.pumps:
        put = seen.puts.get(f"{pump}.speed_cmd")
        if put is None or seen.now - put.at > seen.pod.protection.refresh_s + sum(seen.gaps_s) + NEAR:
            return f"{pump}.speed_cmd was not written for {seen.now - (put.at if put else seen.boot_at):.1f} s"
    return ""


def machines_are_judged(seen: Track) -> str:
    """A machine that shows a fault, or stands still, has failed; one that nobody hears has not."""
    assert seen.effects is not None
    image, machines = seen.effects.view.image, seen.effects.view.machines
    for name, state in machines.items():
        before, seen.machines[name] = seen.machines.get(name, state), state
        faulty = image.flag(f"{name}.fault", otherwise=False)
        still = state == "running" and not image.flag(f"{name}.running", otherwise=True)
        for what, shown in (("shows a fault", faulty and state != "failed"), ("stands still", still)):
            if seen.held(f"{name} {what}", shown) > JUDGED_WITHIN_S:
                return f"{name} {what} and counts as {state}"
        if state == "failed" != before and not image.flag(f"{name}.comms", otherwise=True):
            return f"{name} counts as failed because nobody hears it"
    return ""


def rights_are_kept(seen: Track) -> str:
    """What only the console may order is refused to everybody else."""
    assert seen.effects is not None
    for outcome in seen.effects.outcomes:
        command = seen.world.ordered_from_outside.get(outcome.id)
        if command is None or outcome.state == "rejected":
            continue
        if command.operation in LOCAL:
            return f"{command.operation} from outside was {outcome.state}"
        array = seen.slots.array(command.target)
        if command.operation != "set" or not array or array.setpoint.clamps:
            continue
        value, row = number(command.value), array.setpoint
        if value is None or not row.low <= value <= row.high:
            return f"{command.value} for {command.target} was {outcome.state}"
    return ""


def protection_wins(seen: Track) -> str:
    """What protection asks of a set point is wanted, whoever else asks for less."""
    for name, floor in seen.floors.items():
        array = seen.slots.array(name)
        if array is not None and array.wanted < min(floor.value, array.setpoint.high) - NEAR:
            return f"{name} is to be {array.wanted:.2f} where protection asks for {floor.value:.2f}: {floor.reason}"
    return ""


def still_stands(seen: Track) -> Iterator[str]:
    """Yield alarms of consequence that stand though all is healed and the pod runs as it should."""
    assert seen.effects is not None
    if seen.healed_at is None or seen.effects.view.mode != "NORMAL" or not seen.on.all():
        return
    waited_for = {"pod_it_capped"} if _chiller_rests(seen) else set[str]()
    for alarm in seen.effects.view.alarms:
        row = alarm.row
        grave = row.priority in ("high", "critical") and not row.latched  # what is latched waits for a person
        if alarm.active and grave and row.id not in waited_for:
            yield row.id


def _chiller_rests(seen: Track) -> bool:
    """Whether a chiller can't start before its least time off is over, and has not come up after it yet."""
    x, chillers = seen.plant.x, seen.plant.facility.chillers
    rested_s = [float(x[at.CHILLER_IDLE_S + index]) for index in range(len(chillers))]
    return any(
        not chiller.compressor_on and idle_s < chiller.least_idle_s + chiller.start_s
        for chiller, idle_s in zip(chillers, rested_s, strict=True)
    )
