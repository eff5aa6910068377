"""Rows at work: timers, latches, first-out by group, bypass and what survives a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.interlocks import Action, Bypass, Interlock, Interlocks, Row

CAP, TRIP = (Action("cap", 40.0),), (Action("racks_off"),)
ROWS = [
    Row("cap", "cap", 1.0, trip=False, actions=CAP, clear_s=2.0, bypass_max_s=600.0, group="flow"),
    Row("trip", "trip", 2.0, trip=True, actions=TRIP, group="flow"),
    Row("melt", "melt", 3.0, trip=True, actions=TRIP, meltdown_s=1.0, group="power"),
    Row("rack", "rack trip", 0.0, trip=True, rack="rack_1", actions=(Action("rack_off"), Action("isolate"))),
    Row("stop", "stop in order", 0.0, trip=True, actions=(Action("stop"),)),
]


def run(interlocks: Interlocks, conditions: dict[str, bool], start: float, seconds: float) -> float:
    now = start
    while now < start + seconds - 1e-9:
        now += 0.5
        interlocks.step(conditions, now)
    return now


def test_a_row_acts_after_its_delay_and_ends_after_its_clear_time() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"cap": True}, 0.0, 1.0)
    assert interlocks.acting == []
    now = run(interlocks, {"cap": True}, now, 0.5)
    assert interlocks.acting == ["cap"]
    now = run(interlocks, {}, now, 2.0)
    assert interlocks.acting == ["cap"]
    run(interlocks, {}, now, 0.5)
    assert interlocks.acting == []


def test_the_first_timer_of_two_is_stopped_by_recovery() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"melt": True}, 0.0, 3.0)
    now = run(interlocks, {}, now, 60.0)
    assert interlocks.acting == []
    run(interlocks, {"melt": True}, now, 3.0)
    assert interlocks.acting == []


def test_the_second_timer_of_two_is_stopped_by_nothing() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"melt": True}, 0.0, 3.5)
    assert interlocks.acting == []
    now = run(interlocks, {}, now, 0.5)
    assert interlocks.acting == []
    now = run(interlocks, {}, now, 0.5)
    assert interlocks.acting == ["melt"]
    assert interlocks.tripped() == "melt"
    interlocks.step({}, now + 1.0, reset=True)
    assert interlocks.acting == []
    run(interlocks, {"melt": True}, now + 1.0, 3.0)
    assert interlocks.acting == [], "both timers begin anew"


def test_a_reset_between_the_timers_stops_the_second_only_without_the_cause() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"melt": True}, 0.0, 3.5)
    interlocks.step({"melt": True}, now + 0.1, reset=True)
    interlocks.step({"melt": True}, now + 1.0)
    assert interlocks.acting == ["melt"]


def test_a_latch_waits_for_reset_and_a_reset_for_the_cause() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"trip": True}, 0.0, 2.5)
    interlocks.step({"trip": True}, now + 1, reset=True)
    assert interlocks.latched() == ["trip"]
    assert not interlocks.cleared()
    interlocks.step({}, now + 2)
    assert interlocks.latched() == ["trip"]
    assert interlocks.cleared()
    interlocks.step({}, now + 3, reset=True)
    assert interlocks.acting == []


def test_first_out_is_kept_for_each_group() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"cap": True, "trip": True}, 0.0, 1.5)
    now = run(interlocks, {"cap": True, "trip": True, "melt": True}, now, 5.0)
    assert interlocks.first_out == "cap"
    assert interlocks.first_outs == {"flow": "cap", "power": "melt"}
    interlocks.step({}, now + 10)
    interlocks.step({}, now + 20, reset=True)
    interlocks.step({}, now + 30)
    assert interlocks.first_outs == {}
    assert interlocks.first_out == ""


def test_first_out_passes_on_when_the_first_ends() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"cap": True, "trip": True}, 0.0, 3.0)
    now = run(interlocks, {"trip": True}, now, 3.0)
    assert interlocks.acting == ["trip"]
    assert interlocks.tripped() == "trip", "a trip that did not come first is still told"


def test_what_takes_the_pod_down_and_what_does_not() -> None:
    interlocks = Interlocks(ROWS)
    interlocks.step({"rack": True, "stop": True}, 1.0)
    assert interlocks.tripped() == ""
    assert interlocks.blocking() == "stop in order"
    assert interlocks.why_rack("rack_1") == "rack trip"
    assert interlocks.why_rack("rack_2") == ""
    assert interlocks.racks_tripped() == interlocks.racks_isolated() == {"rack_1"}


def test_latches_survive_a_restart_and_unknown_ones_are_dropped() -> None:
    again = Interlocks(ROWS, ["trip", "gone", "rack"])
    assert again.latched() == ["trip", "rack"]
    assert again.first_out == "trip"
    again.step({}, 1.0)
    assert again.acting == ["trip", "rack"]
    assert again.first_outs == {"flow": "trip", "": "rack"}


# ---------------------------------------------------------------- bypass


def bypass(until: float) -> Bypass:
    return Bypass("console:anna", "meter is being changed", until)


def test_a_bypass_defeats_its_row_until_it_ends_by_itself() -> None:
    interlocks = Interlocks(ROWS)
    assert interlocks.bypass("cap", bypass(100.0), 0.0) == ""
    now = run(interlocks, {"cap": True}, 0.0, 99.5)
    assert interlocks.acting == []
    assert list(interlocks.bypasses) == ["cap"]
    now = run(interlocks, {"cap": True}, now, 0.5)
    assert not interlocks.bypasses
    run(interlocks, {"cap": True}, now, 1.0)
    assert interlocks.acting == ["cap"]


def test_a_bypass_ends_what_acts_and_can_be_ended() -> None:
    interlocks = Interlocks(ROWS)
    now = run(interlocks, {"cap": True}, 0.0, 2.0)
    assert interlocks.acting == ["cap"]
    assert interlocks.bypass("cap", bypass(now + 600), now) == ""
    interlocks.step({"cap": True}, now + 0.5)
    assert interlocks.acting == []
    assert interlocks.unbypass("cap")
    assert not interlocks.unbypass("cap")
    run(interlocks, {"cap": True}, now + 0.5, 1.5)
    assert interlocks.acting == ["cap"]


@pytest.mark.parametrize(
    ("row", "until", "words"),
    [
        ("none", 10.0, "no such"),
        ("trip", 10.0, "can't be bypassed"),
        ("cap", 601.0, "600 s at most"),
        ("cap", 0.0, "at most"),
    ],
)
def test_a_bypass_that_is_not_allowed_is_refused(row: str, until: float, words: str) -> None:
    interlocks = Interlocks(ROWS)
    assert words in interlocks.bypass(row, bypass(until), 0.0)
    assert not interlocks.bypasses


def test_a_bypass_goes_on_after_a_restart_for_the_time_it_had() -> None:
    interlocks = Interlocks(ROWS)
    interlocks.bypass("cap", bypass(100.0), 0.0)
    saved = interlocks.saved_bypasses(1_000_000.0)
    assert interlocks.saved_bypasses(None) == {}
    again = Interlocks(ROWS)
    again.restore_bypasses(saved, 5.0, 1_000_050.0)
    assert again.bypasses["cap"] == bypass(50.0)
    late = Interlocks(ROWS)
    late.restore_bypasses(saved, 5.0, 1_000_200.0)
    late.restore_bypasses(saved, 5.0, None)
    assert not late.bypasses


def test_a_bypassed_row_keeps_its_latch() -> None:
    rows = [Row("trip", "trip", 0.0, trip=True, actions=TRIP, bypass_max_s=600.0)]
    interlocks = Interlocks(rows)
    interlocks.step({"trip": True}, 1.0)
    interlocks.bypass("trip", bypass(100.0), 1.0)
    interlocks.step({"trip": True}, 2.0)
    assert interlocks.latched() == ["trip"]
    interlocks.step({"trip": True}, 3.0, reset=True)
    assert interlocks.acting == []


@given(st.lists(st.tuples(st.sets(st.sampled_from([row.id for row in ROWS])), st.booleans()), max_size=60))
def test_a_latched_trip_goes_only_by_reset_without_its_cause(history: list[tuple[set[str], bool]]) -> None:
    interlocks = Interlocks(ROWS)
    held: set[str] = set()
    for step, (true, reset) in enumerate(history):
        interlocks.step(dict.fromkeys(true, True), step * 1.0, reset=reset)
        latched = set(interlocks.latched())
        if not reset:
            assert held <= latched
        assert latched <= set(interlocks.acting)
        assert bool(interlocks.acting) == bool(interlocks.first_out)
        held = latched


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from([row.id for row in ROWS])), st.floats(0.1, 3.0), st.integers(0, 9)),
        max_size=60,
    )
)
def test_rows_at_rest_miss_nothing(scans: list[tuple[set[str], float, int]]) -> None:
    """Rows that are passed by while at rest do what the same rows do when each is stepped in every scan."""
    interlocks, each, now = Interlocks(ROWS), {row.id: Interlock(row) for row in ROWS}, 0.0
    for there, passed, dice in scans:
        now += passed
        interlocks.step(dict.fromkeys(there, True), now, reset=dice == 0)
        for name, row in each.items():
            row.step(name in there, now, reset=dice == 0)
        assert interlocks.acting == [name for name, row in each.items() if row.acting]
        assert interlocks.latched() == [name for name, row in each.items() if row.latch.state]
        assert interlocks.cleared() == (not any(row.there for row in each.values() if row.row.trip))
