"""What each device does by itself when its bus falls silent, as its profile's comm_loss states it.

A device that is in neither table below has nothing that a silent bus could change: it only measures. tests hold that
every profile with something to write is in one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.points import Value

OUTPUTS_OFF = "outputs off"
Reaction = Mapping[str, Value | str]  # point -> value obeyed as if written; a text names the point that holds the value


@dataclass(frozen=True, slots=True)
class Watch:
    """A device's own watch over its bus. It is armed by the first request after power came on.

    Attributes:
        time: seconds of silence it waits, or the point that holds them; 0: it does not watch.
        function: the point that selects the reaction, or nothing where there is but one, ``reactions[0]``.
        reactions: by the number in ``function``. A number that is missing: it goes on as it is.
        beat: where the watch is over one register that must change, its point.
    """

    time: float | str
    reactions: Mapping[int, Reaction]
    function: str = ""
    beat: str = ""


NO_WATCH = Watch(0.0, {})
FULL_SPEED: Reaction = {"speed_cmd": 100.0}
TRIP: Reaction = {"run_cmd": False, "fault": True}
WATCHES: Mapping[str, Watch] = {
    # 8-04 Control timeout function: 0 off, 1 freeze output, 2 stop, 4 maximum speed, 5 stop and trip
    "danfoss_fc102": Watch(
        "comm_loss_time", {2: {"run_cmd": False}, 4: FULL_SPEED, 5: TRIP}, function="comm_loss_function"
    ),
    # 3018: 1 fault and coast, 2 constant speed 7, 3 last speed
    "abb_ach550": Watch("comm_fault_time", {1: TRIP, 2: FULL_SPEED}, function="comm_fault_function"),
    "belimo_energy_valve": Watch(120.0, {0: {"position_cmd": 100.0}}),
    "ebm_papst_ec": Watch("failsafe_delay", {1: {"speed_cmd": "failsafe_set_value"}}, function="failsafe_source"),
    "wago_750": Watch("watchdog_time", {1: {OUTPUTS_OFF: 0}}, function="watchdog_type"),
    # Some banks drop out without the heartbeat (profile's notes); three missed ones are a judgement of this bench.
    "sunspec_battery_802": Watch(3.0, {0: {"connected": False}}, beat="controller_heartbeat"),
}
# These go on with what they were last told: their sources name no reaction, or say so.
HOLD = frozenset({
    "apc_inrow_sc", "comap_intelilite4", "daikin_microtech3", "delta_rpu_rdf040", "grundfos_cim",
    "gude_expert_pdu_8311", "liebert_dcd", "liebert_sts2", "meta_rpu2", "moxa_iologik_e1214", "netio_powerpdu_4ps",
    "rle_seahawk_10k", "thermal_care_accuchiller", "vertiv_liebert_hpc", "victron_gx", "waveshare_relay_8ch",
})  # fmt: skip
