"""What may not be written now, whoever asks: racks that must stay off, pumps that must not stop, valves that must stay
open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from controller.core.assess import carried
from controller.core.image import Image
from controller.core.interlocks import Permits
from controller.core.pod import Pod
from controller.core.points import Value, record
from controller.core.sequences import RunSequence, RunState

VALVE_OPEN_PCT = 100.0


@record
class Racks:
    """What is so of the racks now.

    Attributes:
        tripped: those that must stay off.
        off_since: since when each one that is off has been so.
        refusal: why none may be energised, or nothing.
    """

    tripped: AbstractSet[str]
    off_since: Mapping[str, float]
    refusal: str


def permits(
    pod: Pod,
    image: Image,
    pumps: Sequence[RunSequence],
    spare: AbstractSet[str],
    water: Sequence[RunSequence],
    racks: Racks,
) -> Permits:
    """Return what interlocks and permissives leave open in this scan.

    Args:
        pumps: of the TCS.
        spare: those of them that run beside those on duty and may stop.
        water: pumps of the facility water. The last one is left on though it has failed, so that it turns again as soon
            as it can.
    """
    forbidden: dict[tuple[str, Value], str] = {}
    floors: dict[str, float] = {}
    live = any(rack.energised(image) for rack in pod.racks)
    proven = [pump for pump in pumps if pump.proven]
    for pump in pumps:
        others = [other for other in proven if other is not pump]
        lost = pump.state is RunState.FAILED and others
        if live and not lost and not (pump.device in spare and carried(image, pump, others)):
            forbidden[(pump.run_cmd_id, False)] = "racks are energised"
        if live:
            floors[pump.speed_cmd_id] = pod.tcs.pump_speed_min_pct
    for pump in water:
        if live and not any(other.proven for other in water if other is not pump):
            forbidden[(pump.run_cmd_id, False)] = "no other pump moves facility water"
    for rack in pod.racks:
        if racks.refusal or rack.name in racks.tripped:
            why = racks.refusal or "this rack has tripped"
            forbidden.update(((outlet, True), why) for outlet in rack.outlets)
        off_since = racks.off_since.get(rack.name)
        if rack.valve and (off_since is None or image.at - off_since < pod.protection.rack_off_before_valve_s):
            floors[rack.valve_cmd_id] = VALVE_OPEN_PCT
    return Permits(forbidden, floors)
