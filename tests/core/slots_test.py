"""Priority arrays: who wins, how long, how fast, and what a restart leaves of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.commands import Command, Outcome
from controller.core.slots import ASKED, HEARTBEAT_S, Floor, Setpoint, Slots

ROW = Setpoint("pod.sp", "Cel", 30.0, 22.0, 40.0, slew_per_s=0.1, rescue_per_s=0.2)
CLAMPING = Setpoint("pod.least", "%", 30.0, 30.0, 100.0, slew_per_s=1.0, rescue_per_s=1.0, clamps=True)
EPOCH_S = 1_780_000_000.0


def slots(saved: dict[str, Any] | None = None, now: float = 0.0, epoch_s: float | None = None) -> Slots:
    return Slots([ROW, CLAMPING], saved or {}, now, epoch_s)


def ask(
    to: Slots, value: Any, slot: int = 8, now: float = 0.0, ttl_s: float = 0.0, by: str = "bms", point: str = "pod.sp"
) -> list[Outcome]:
    name = f"{by}-{slot}-{value}-{now}"
    return to.set(Command(name, by, "set", point, now + 5, value, slot, ttl_s, "why"), now)


def give_back(to: Slots, slot: int, by: str, now: float = 0.0) -> list[Outcome]:
    return to.relinquish(Command("r", by, "relinquish", "pod.sp", now + 5, None, slot), now)


def test_the_lowest_slot_wins_and_the_default_without_any() -> None:
    to = slots()
    assert to.array("pod.sp").winner == 0  # type: ignore[union-attr]
    ask(to, 34.0, 13, by="optimiser")
    ask(to, 32.0, 10)
    assert to.arrays["pod.sp"].winner == 10
    assert to.arrays["pod.sp"].wanted == 32.0
    ask(to, 25.0, 7, by="console:ann")
    assert to.arrays["pod.sp"].wanted == 25.0
    give_back(to, 7, "console:ann")
    assert to.arrays["pod.sp"].wanted == 32.0


@pytest.mark.parametrize("slot", [slot for slot in range(-1, 18) if slot not in (8, 10, 13)])
def test_no_other_slot_can_be_written_from_outside(slot: int) -> None:
    to = slots()
    assert ask(to, 25.0, slot)[0].code == "forbidden"
    assert not to.arrays["pod.sp"].leases


def test_the_console_writes_its_own_slot_only_but_may_put_others_out() -> None:
    to = slots()
    assert ask(to, 25.0, 8, by="console:ann")[0].code == "forbidden"
    ask(to, 25.0, 8)
    told = give_back(to, 8, "console:ann")
    assert [outcome.state for outcome in told] == ["accepted", "superseded"]
    assert told[1].id == "bms-8-25.0-0.0"
    assert "console:ann" in to.arrays["pod.sp"].ended[8].reason


@pytest.mark.parametrize("value", [5.0, 60.0, 1e9, -1e300, 10**20])
def test_a_value_out_of_range_is_rejected_whole(value: float) -> None:
    to = slots()
    assert ask(to, value)[0].code == "out_of_range"
    assert not to.arrays["pod.sp"].leases


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "30", True, None])
def test_what_is_no_number_is_rejected(value: Any) -> None:
    to = slots()
    assert ask(to, value)[0].code == "bad_request"
    assert not to.arrays["pod.sp"].leases


def test_a_clamping_setpoint_takes_the_nearest_value() -> None:
    to = slots()
    told = ask(to, 500.0, point="pod.least")
    assert told[0].accepted
    assert told[0].effective == 100.0


@pytest.mark.parametrize("slot", ASKED)
def test_a_lease_ends_by_itself(slot: int) -> None:
    to, rule = slots(), ASKED[slot]
    by = "console:ann" if slot == 7 else "bms"
    assert ask(to, 31.0, slot, ttl_s=rule.longest_s + 1, by=by)[0].code == "out_of_range"
    assert ask(to, 31.0, slot, ttl_s=math.nan, by=by)[0].code == "out_of_range"
    ask(to, 31.0, slot, by=by)
    for at in range(0, round(rule.default_s), 10):
        to.beat(by, at)
        assert to.step({}, at) == []
        assert to.arrays["pod.sp"].winner == slot
    told = to.step({}, rule.default_s)
    assert [(outcome.state, outcome.code) for outcome in told] == [("expired", "expired")]
    assert to.arrays["pod.sp"].winner == 0


def test_the_optimiser_loses_its_slot_without_a_heartbeat() -> None:
    to = slots()
    ask(to, 31.0, 13, by="optimiser")
    to.beat("optimiser", 20.0)
    assert to.step({}, 20.0 + HEARTBEAT_S - 0.1) == []
    told = to.step({}, 20.0 + HEARTBEAT_S)
    assert [(outcome.state, outcome.code) for outcome in told] == [("expired", "comms")]
    assert "no heartbeat of optimiser" in to.arrays["pod.sp"].ended[13].reason


def test_a_principal_that_beats_is_held_to_it_and_one_that_does_not_is_not() -> None:
    to = slots()
    ask(to, 31.0, 8, by="bms")
    ask(to, 32.0, 10, by="other")
    to.beat("bms", 5.0)
    to.step({}, 5.0 + HEARTBEAT_S)
    assert list(to.arrays["pod.sp"].leases) == [10]


def test_local_control_puts_everybody_out_and_nobody_comes_back_by_himself() -> None:
    to = slots()
    ask(to, 31.0, 8)
    ask(to, 26.0, 7, by="console:ann")
    told = to.lock_out("console:ann", "pump work", 1.0)
    assert [(outcome.state, outcome.code) for outcome in told] == [("superseded", "local_lockout")]
    assert list(to.arrays["pod.sp"].leases) == [7]
    assert ask(to, 31.0, 8)[0].code == "local_lockout"
    to.unlock()
    assert list(to.arrays["pod.sp"].leases) == [7]
    assert ask(to, 31.0, 8)[0].accepted


def test_protection_beats_the_console_and_is_gone_when_it_is_not_needed() -> None:
    to = slots()
    ask(to, 23.0, 7, by="console:ann")
    to.step({"pod.sp": Floor(26.5, "dew point")}, 1.0)
    array = to.arrays["pod.sp"]
    assert (array.winner, array.wanted, array.leases[5].reason) == (5, 26.5, "dew point")
    to.step({"pod.sp": Floor(22.0, "dew point")}, 2.0)
    assert to.arrays["pod.sp"].winner == 7
    to.step({"pod.sp": Floor(99.0, "dew point")}, 3.0)
    assert to.arrays["pod.sp"].wanted == ROW.high


def test_values_move_at_the_slew_and_faster_only_out_of_the_dew() -> None:
    to = slots()
    to.step({}, 0.0)
    ask(to, 35.0)
    to.step({}, 10.0)
    assert to.value("pod.sp") == pytest.approx(31.0)
    to.step({"pod.sp": Floor(33.0, "dew point")}, 11.0)
    assert to.value("pod.sp") == pytest.approx(31.2)


def test_leases_survive_a_restart_by_the_wall_clock() -> None:
    to = slots()
    ask(to, 35.0, 8, now=0.0, ttl_s=100)
    ask(to, 33.0, 10, now=0.0, ttl_s=1000)
    to.lock = None
    to.step({}, 0.0)
    to.step({}, 10.0)
    saved = to.saved(EPOCH_S)
    later = slots(saved, now=5.0, epoch_s=EPOCH_S + 195.0)  # a new monotonic clock, 190 s later
    later.step({}, 5.0)
    assert list(later.arrays["pod.sp"].leases) == [10]
    assert later.arrays["pod.sp"].leases[10].until == pytest.approx(805.0)
    assert later.value("pod.sp") == pytest.approx(to.value("pod.sp"), abs=0.1), "no bump"


def test_a_clock_that_is_set_while_leases_run_moves_none_of_them() -> None:
    to = slots()
    ask(to, 35.0, 8, now=0.0, ttl_s=100)
    to.step({}, 10.0)
    assert to.arrays["pod.sp"].leases[8].until == 100.0
    for jump_s in (3600.0, -86_400.0, 0.4):  # told by its new epoch from the next save on
        later = slots(to.saved(EPOCH_S + jump_s), now=20.0, epoch_s=EPOCH_S + jump_s)
        assert later.arrays["pod.sp"].leases[8].until == pytest.approx(100.0, abs=1.0)


def test_leases_are_dropped_where_the_clock_is_not_known() -> None:
    to = slots()
    ask(to, 35.0)
    assert "leases" not in to.saved(None)
    assert not slots(to.saved(EPOCH_S), epoch_s=None).arrays["pod.sp"].leases


def test_the_lock_survives_a_restart() -> None:
    to = slots()
    to.lock_out("console:ann", "pump work", 1.0)
    assert slots(to.saved(None)).lock is not None


@pytest.mark.parametrize(
    "saved",
    [
        {"leases": "x", "applied": [], "lock": {}},
        {"leases": [1, [], [None] * 7, ["pod.sp", 5, 30, "a", "b", "c", 9e12], ["pod.sp", [], 3, "", "", "", 9e12]]},
        {"leases": [["pod.sp", 8, 99.0, "a", "b", "c", 9e12], ["gone", 8, 30.0, "a", "b", "c", 9e12]]},
        {"leases": [[["pod.sp"], 8, 30.0, "a", "b", "c", 9e12], ["pod.sp", 8, math.nan, "a", "b", "c", 9e12]]},
        {"applied": {"pod.sp": "x", "gone": 3}},
    ],
)
def test_what_can_not_be_taken_up_is_left_out(saved: dict[str, Any]) -> None:
    to = slots(saved, epoch_s=EPOCH_S)
    assert not to.arrays["pod.sp"].leases
    assert to.lock is None


def test_a_lease_of_a_clock_far_ahead_lasts_no_longer_than_its_slot_allows() -> None:
    to = slots({"leases": [["pod.sp", 8, 30.0, "bms", "1", "", EPOCH_S + 1e9]]}, epoch_s=EPOCH_S)
    assert to.arrays["pod.sp"].leases[8].until == ASKED[8].longest_s


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("set"), st.integers(0, 17), st.floats(allow_nan=True), st.sampled_from(["bms", "console:a", "opt"])
        ),
        st.tuples(
            st.just("set"), st.sampled_from([7, 8, 10, 13]), st.floats(20, 42), st.sampled_from(["bms", "console:a"])
        ),
        st.tuples(st.just("relinquish"), st.integers(0, 17), st.sampled_from(["bms", "console:a"])),
        st.tuples(st.just("beat"), st.sampled_from(["bms", "opt"])),
        st.tuples(st.sampled_from(["lock", "unlock"])),
        st.tuples(st.just("pass"), st.sampled_from([0.2, 1.0, 29.0, 31.0, 901.0, 3601.0, 90_000.0])),
        st.tuples(st.just("floor"), st.one_of(st.none(), st.floats(15, 45))),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_whatever_is_asked_the_rules_hold(steps: list[tuple[Any, ...]]) -> None:
    """The winner is the lowest live slot, the value in range and no faster than its slew, an ended lease never acts."""
    to, now, floor = slots(), 0.0, None
    to.step({}, now)
    granted: dict[int, tuple[float, float]] = {}  # slot: value, last moment
    for step in steps:
        before, passed = to.value("pod.sp"), 0.2
        match step:
            case ("set", slot, value, by):
                told = ask(to, value, slot, now, by=by)
                allowed = slot == 7 if by.startswith("console:") else slot in (8, 10, 13)
                right = allowed and 22 <= value <= 40 and not (to.lock and slot >= 8)
                assert told[0].accepted == right
                if right:
                    granted[slot] = (value, now + ASKED[slot].default_s)
            case ("relinquish", slot, by):
                if give_back(to, slot, by, now)[0].accepted:
                    granted.pop(slot, None)
            case ("beat", by):
                to.beat(by, now)
            case ("lock",):
                to.lock_out("console:a", "", now)
                granted = {slot: lease for slot, lease in granted.items() if slot < 8}
            case ("unlock",):
                to.unlock()
            case ("pass", passed):
                pass
            case ("floor", value):
                floor = value
        now += passed
        to.step({} if floor is None else {"pod.sp": Floor(floor, "dew point")}, now)
        array, value = to.arrays["pod.sp"], to.value("pod.sp")
        live = {slot: lease for slot, lease in array.leases.items() if slot != 5}
        assert array.winner == min(array.leases, default=0)
        assert array.wanted == (array.leases[array.winner].value if array.leases else ROW.default)
        assert all(granted[slot] == (lease.value, lease.until) and now < lease.until for slot, lease in live.items())
        assert ROW.low <= value <= ROW.high
        assert -ROW.slew_per_s * passed - 1e-9 <= value - before <= ROW.rescue_per_s * passed + 1e-9
        if floor is not None:
            assert array.wanted >= min(floor, ROW.high) - 1e-9
