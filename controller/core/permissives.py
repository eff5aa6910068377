"""What may not be written now, whoever asks: racks that must stay off, pumps that must not stop, valves that must stay
open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from controller.core import assess
from controller.core.image import Image
from controller.core.interlocks import Interlocks, Permits
from controller.core.pod import Pod
from controller.core.points import Value
from controller.core.sequences import RunSequence, RunState

VALVE_OPEN_PCT = 100.0


def permits(
    pod: Pod,
    image: Image,
    mode: str,
    interlocks: Interlocks,
    pumps: Sequence[RunSequence],
    rack_off_since: Mapping[str, float],
    hold_on: str,
) -> Permits:
    """Return what interlocks and permissives leave open in this scan.

    Args:
        rack_off_since: since when each rack that is off has been so.
        hold_on: why nothing may be energised, or nothing.
    """
    forbidden: dict[tuple[str, Value], str] = {}
    floors: dict[str, float] = {}
    live = any(rack.energised(image) for rack in pod.racks)
    proven = {pump.device for pump in pumps if pump.proven}
    for pump in pumps:
        others = proven - {pump.device}
        if live and not (pump.state is RunState.FAILED and others):
            forbidden[(f"{pump.device}.run_cmd", False)] = "racks are energised"
        if live:
            floors[f"{pump.device}.speed_cmd"] = pod.tcs.pump_speed_min_pct
    refusal = hold_on or assess.outlet_refusal(image, mode, interlocks.tripped())
    tripped = interlocks.racks_tripped()
    for rack in pod.racks:
        for outlet in rack.outlets:
            if refusal or rack.name in tripped:
                forbidden[(outlet, True)] = refusal or "this rack has tripped"
        off_since = rack_off_since.get(rack.name)
        if off_since is None or image.at - off_since < pod.protection.rack_off_before_valve_s:
            floors[f"{rack.valve}.position_cmd"] = VALVE_OPEN_PCT
    return Permits(forbidden, floors)
