"""What acting rows ask of loops, racks and permit; shedding by tier; more faults never ask for less cooling."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.interlocks import Action, Row
from controller.core.response import NOTHING, WHYS, Responder, Response, Shedding
from tests.core.fault_rows_test import CASES, SEEN_OVER_TIME
from tests.core.model import reference_plan
from tests.core.protection_rig import ProtectionRig

POD = reference_plan().pod
MORE_COOLING = ("pumps_full", "flow_high", "hold_on", "shed", "stop", "pumps_restart")


def respond(rig: ProtectionRig, *names: str) -> Response:
    shares = dict.fromkeys(rig.evidence.branches, 100.0)
    return Responder(rig.pod).step([rig.rows[name] for name in names], rig.image(), shares)


def test_nothing_acts_nothing_is_asked() -> None:
    assert respond(ProtectionRig()) is NOTHING


def test_the_first_row_says_why() -> None:
    asked = respond(ProtectionRig(), "flow_low", "cooling_lost")
    assert asked.pumps_full == "TCS flow short"


def test_a_branch_is_capped_to_nine_tenths_of_its_rating() -> None:
    rig = ProtectionRig()
    rig.values |= dict.fromkeys(rig.pod.racks[5].power, 30.0)
    asked = respond(rig, "pdu_6a_overload")
    assert [(limit.rack, limit.kw) for limit in asked.limits] == [("rack_6", pytest.approx(0.9 * 180.0))]


def test_a_branch_of_unknown_power_is_not_capped_by_guess() -> None:
    rig = ProtectionRig()
    rig.values |= dict.fromkeys(rig.pod.racks[5].power, None)
    assert respond(rig, "pdu_6a_overload").limits == ()


def test_the_held_load_is_forgotten_when_nothing_holds_it() -> None:
    rig, responder = ProtectionRig(), Responder(POD)
    rows = [rig.rows["pumps_silent"]]
    for power, acting, kw in ((500.0, rows, 500.0), (900.0, rows, 500.0), (900.0, [rig.rows["flow_low"]], None),
                              (900.0, rows, 900.0), (300.0, [], None), (300.0, rows, 300.0)):  # fmt: skip
        rig.values["pod.it_power"] = power
        limits = responder.step(acting, rig.image(), {}).limits
        assert [limit.kw for limit in limits] == ([] if kw is None else [kw])


def test_an_unknown_power_is_held_at_what_is_rated() -> None:
    rig = ProtectionRig()
    rig.values["pod.it_power"] = None
    assert [limit.kw for limit in respond(rig, "pumps_silent").limits] == [POD.rated_kw]


def test_every_action_is_answered_somewhere() -> None:
    """An action that nobody acts on would be a row that only looks like protection."""
    done = {*WHYS, "cap", "cap_flow", "cap_warm", "cap_branch", "hold_load", "pump_lost"}  # by the responder
    done |= {"rack_off", "isolate", "racks_off", "all_off"}  # by the interlocks' own questions
    done |= {"warn", "partner", "permit"}  # by alarms, duty and staging, power permit
    assert {action.what for row in ProtectionRig().rows.values() for action in row.actions} <= done


@given(st.sets(st.sampled_from([case.row for case in CASES] + sorted(SEEN_OVER_TIME)), max_size=8), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_another_fault_never_asks_for_less(names: set[str], data: st.DataObject) -> None:
    """Graded monotonicity: with one more row acting no cap is higher and no cooling is asked back."""
    rig = ProtectionRig()
    more = data.draw(st.sampled_from([case.row for case in CASES]))
    before, after = respond(rig, *sorted(names)), respond(rig, *sorted({*names, more}))
    for name in MORE_COOLING:
        assert not getattr(before, name) or getattr(after, name), name
    assert lowest(after) <= lowest(before)
    assert before.pumps_lost <= after.pumps_lost


def lowest(response: Response) -> float:
    return min(POD.rated_kw, *(limit.kw for limit in response.limits if not limit.rack), POD.rated_kw)


# ---------------------------------------------------------------- shedding


def shedding() -> Shedding:
    return Shedding(POD.racks, step_s=10.0, restore_s=60.0, tries_max=3)


TIER_3, TIER_2, TIER_1 = {"rack_6", "rack_7", "rack_8"}, {"rack_3", "rack_4", "rack_5"}, {"rack_1", "rack_2"}


def test_tiers_go_off_one_by_one_and_come_back_in_reverse() -> None:
    shed = shedding()
    assert shed.step(False, 0.0) == set()
    assert shed.step(True, 1.0) == TIER_3
    assert shed.step(True, 10.9) == TIER_3
    assert shed.step(True, 11.0) == TIER_3 | TIER_2
    assert shed.step(True, 21.0) == TIER_3 | TIER_2 | TIER_1
    assert shed.step(True, 99.0) == TIER_3 | TIER_2 | TIER_1
    assert shed.step(False, 100.0) == TIER_3 | TIER_2 | TIER_1
    assert shed.step(False, 159.9) == TIER_3 | TIER_2 | TIER_1
    assert shed.step(False, 160.0) == TIER_3 | TIER_2
    assert shed.step(False, 220.0) == TIER_3
    assert shed.step(False, 280.0) == set()
    assert shed.at_work(399.0)
    assert not shed.at_work(401.0)


def test_coming_back_is_tried_so_often_in_an_hour() -> None:
    shed, now = shedding(), 0.0
    for _ in range(3):
        shed.step(True, now)
        shed.step(False, now + 1)
        assert shed.step(False, now + 61) == set()
        now += 100.0
    shed.step(True, now)
    shed.step(False, now + 1)
    assert shed.step(False, now + 1000) == TIER_3, "a cause that returns each time is not over"
    assert shed.step(False, 61 + 3601) == set(), "the first try is an hour old"
    shed.step(True, 4000.0)
    shed.step(False, 4001.0)
    shed.tries.extend((4001.0, 4002.0, 4003.0))
    assert shed.step(False, 4100.0) == TIER_3
    shed.reset()
    assert shed.step(False, 4101.0) == set()


def test_tier_0_is_never_shed() -> None:
    racks = [replace(rack, shed_tier=0) for rack in POD.racks]
    shed = Shedding(racks, 10.0, 60.0, 3)
    for second in range(100):
        assert shed.step(True, float(second)) == set()


def test_a_row_without_actions_asks_nothing() -> None:
    rig = ProtectionRig()
    row = Row("x", "x", 0.0, trip=False, actions=(Action("warn"),))
    assert Responder(POD).step([row], rig.image(), {}) == Response()
