"""Interlocks and the gate at their edges: what a restart takes up, what acts in which order, when a write is due."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, get_args

import pytest

from controller.core import interlocks as module
from controller.core.image import Image
from controller.core.interlocks import (
    Action,
    Bypass,
    Denial,
    Gate,
    Interlock,
    Interlocks,
    Output,
    Permits,
    Row,
    Tier,
    What,
    Write,
)
from controller.core.points import Kind, Point, Value, good
from controller.core.sequences import Demand

SPEED, RUN, LABEL = "pump_1.speed_cmd", "pump_1.run_cmd", "pump_1.label"
POINTS = {
    SPEED: Point("pump_1", "speed_cmd", Kind.NUMBER, "%", writable=True, readable=False),
    RUN: Point("pump_1", "run_cmd", Kind.FLAG, writable=True, readable=False),
}
FREE = Permits({}, {})


def trip(name: str, *whats: What, rack: str = "", **more: Any) -> Row:
    return Row(name, f"{name} happened", 0.0, True, rack, actions=tuple(map(Action, whats)), **more)


def acting(*rows: Row) -> Interlocks:
    interlocks = Interlocks(rows)
    interlocks.step({row.id: True for row in rows}, 1.0)
    return interlocks


def test_a_row_says_nothing_that_is_not_asked_of_it() -> None:
    row = Row("a", "cause", 1.0, trip=False)
    assert dataclasses.astuple(row)[4:] == ("", "", "", Tier.TRIP, (), 0.0, None, 0.0, "", "", "", ())
    assert [tier.value for tier in Tier] == [1, 2, 3]
    assert Action("warn").amount == 0.0
    assert dataclasses.astuple(Output(RUN)) == (RUN, 0.0, 0.0, math.inf, math.inf, 0.0, 0.0, "", True, 0.0)
    assert (module.GENTLE_PER_S, module.LARGE_MOVE) == (5.0, 5.0)
    assert get_args(module.What) == (
        "warn", "partner", "permit", "pump_lost", "pumps_restart", "pumps_full", "flow_high", "pumps_eased",
        "valve_shut", "hold_on", "hold_load", "cap", "cap_flow", "cap_warm", "cap_branch", "shed", "rack_off",
        "isolate", "racks_off", "pumps_off", "stop", "all_off",
    )  # fmt: skip


def test_rows_and_what_is_written_can_not_be_changed_by_others() -> None:
    frozen = (Action("warn"), Row("a", "cause", 1.0, trip=False), Bypass("ann", "", 1.0), Output(RUN))
    for each in frozen:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(each, dataclasses.fields(each)[0].name, 1)
    for each in (*frozen, Write(RUN, True, True, ""), FREE, Denial(RUN, True, ""), Interlock(frozen[1])):
        assert not hasattr(each, "__dict__")
    assert len({Write(RUN, True, True, "a"), Write(RUN, True, True, "a"), Denial(RUN, True, "a")}) == 2


def test_a_row_does_what_one_of_its_actions_is() -> None:
    row = trip("a", "rack_off", "isolate")
    assert [what for what in get_args(module.What) if row.does(what)] == ["rack_off", "isolate"]


# ---------------------------------------------------------------- rows at work


def test_a_bypass_leaves_nothing_of_the_timers() -> None:
    interlock = Interlock(Row("a", "cause", 2.0, trip=False, clear_s=9.0, meltdown_s=1.0))
    for now in (0.0, 2.0, 3.0):
        interlock.step(True, now, reset=False)
    assert interlock.acting
    interlock.forget()
    assert (interlock.acting, interlock.at_rest, interlock.there) == (False, True, False)
    assert not interlock.step(True, 4.0, reset=False), "its delay begins anew"
    assert not interlock.step(True, 6.0, reset=False), "and so does the second timer"
    assert interlock.step(True, 7.0, reset=False)


def test_a_row_begins_at_rest() -> None:
    fresh = Interlock(Row("a", "cause", 2.0, trip=True))
    assert (fresh.acting, fresh.at_rest, fresh.there, fresh.melts_at) == (False, True, False, None)
    fresh.forget()
    assert not fresh.acting, "a trip that has not latched acts no more once it is bypassed"
    assert (Interlocks([]).first_out, Interlocks([]).first_outs) == ("", {})


def test_a_cleared_row_begins_with_its_own_clear_time_after_a_bypass() -> None:
    interlock = Interlock(Row("a", "cause", 0.0, trip=False, clear_s=9.0))
    interlock.forget()
    assert interlock.step(True, 0.0, reset=False)
    assert interlock.step(False, 1.0, reset=False)
    assert interlock.step(False, 9.9, reset=False)
    assert not interlock.step(False, 10.0, reset=False)


def test_the_second_timer_begins_once_and_a_reset_ends_it_without_the_cause_alone() -> None:
    interlock = Interlock(Row("a", "cause", 1.0, trip=False, meltdown_s=5.0))
    interlock.step(True, 0.0, reset=False)
    interlock.step(True, 1.0, reset=False)
    interlock.step(True, 3.0, reset=True)
    assert interlock.melts_at == 6.0
    assert not interlock.step(False, 4.0, reset=False)
    assert interlock.melts_at == 6.0
    assert interlock.step(False, 6.0, reset=False)
    assert not interlock.at_rest
    assert not interlock.step(False, 6.1, reset=True)
    assert interlock.at_rest


def test_a_restart_takes_up_latches_in_their_order_and_their_groups() -> None:
    rows = [trip("a", group="x"), trip("b", group="x"), trip("c", group="y")]
    again = Interlocks(rows, ["c", "b", "a"])
    assert again.first_out == "c"
    assert again.first_outs == {"y": "c", "x": "b"}
    assert again.acting == ["c", "b", "a"]
    again.step({}, 1.0)
    assert (again.acting, again.first_out, again.first_outs) == (["a", "b", "c"], "c", {"y": "c", "x": "b"})
    again.step({}, 2.0, reset=True)
    assert (again.acting, again.first_out, again.first_outs) == ([], "", {})


def test_what_is_at_rest_is_not_there() -> None:
    interlocks = acting(trip("a"), Row("b", "b", 0.0, trip=False))
    interlocks.step({}, 2.0)
    assert interlocks.acting == ["a"]
    assert interlocks.cleared()
    interlocks.step({"b": True}, 3.0)
    assert interlocks.cleared(), "what is no trip keeps nobody from a reset"
    interlocks.step({"a": True}, 4.0)
    assert not interlocks.cleared()


def test_a_row_that_nobody_knows_and_a_condition_that_is_none() -> None:
    interlocks = Interlocks([trip("a")])
    interlocks.step({"gone": True, "a": False}, 1.0)
    interlocks.step({"gone": True}, 2.0, reset=True)
    assert interlocks.acting == []
    assert [row.id for row in interlocks.rows] == ["a"]


def test_the_first_cause_of_all_is_kept_while_anything_acts() -> None:
    interlocks = Interlocks([trip("a"), Row("b", "b", 0.0, trip=False)])
    interlocks.step({"b": True}, 1.0)
    interlocks.step({"a": True, "b": True}, 2.0)
    assert (interlocks.acting, interlocks.first_out) == (["a", "b"], "b")
    interlocks.step({"a": True}, 3.0)
    assert interlocks.first_out == "b", "it came first though it has gone"
    interlocks.step({}, 4.0, reset=True)
    assert interlocks.first_out == ""
    interlocks.step({"a": True}, 5.0)
    assert interlocks.first_out == "a"


def test_a_group_has_its_first_for_as_long_as_one_of_it_acts() -> None:
    interlocks = Interlocks([trip("a", group="x"), Row("b", "b", 0.0, trip=False, group="x"), trip("c", group="y")])
    interlocks.step({"b": True, "c": True}, 1.0)
    interlocks.step({"a": True}, 2.0)
    assert interlocks.first_outs == {"x": "b", "y": "c"}
    interlocks.step({"c": True}, 3.0, reset=True)
    assert interlocks.first_outs == {"y": "c"}


@pytest.mark.parametrize("what", ["racks_off", "all_off"])
def test_the_pod_goes_down_by_a_trip_that_says_so(what: What) -> None:
    assert acting(trip("a", what)).tripped() == "a happened"
    assert acting(Row("a", "a", 0.0, trip=False, actions=(Action(what),))).tripped() == ""
    assert acting(trip("a", "stop")).tripped() == ""


def test_of_several_trips_the_first_is_told() -> None:
    interlocks = Interlocks([trip("a", "racks_off"), trip("b", "all_off"), trip("c", "racks_off")])
    interlocks.step({"b": True}, 1.0)
    interlocks.step({"a": True, "c": True}, 2.0)
    assert interlocks.tripped() == "b happened"
    other = Interlocks([trip("a", "racks_off"), trip("b", "racks_off"), Row("w", "w", 0.0, trip=False)])
    other.step({"w": True}, 1.0)
    other.step({"a": True, "b": True}, 2.0)
    assert other.tripped() == "a happened", "the first of the rows, where something milder came before"


def test_what_blocks_a_start_is_a_trip_of_the_whole_pod() -> None:
    assert acting(trip("a", "rack_off", rack="rack_1")).blocking() == ""
    assert acting(Row("a", "a", 0.0, trip=False)).blocking() == ""
    assert acting(trip("a", "stop"), trip("b", "stop")).blocking() == "a happened"


def test_racks_are_tripped_and_isolated_by_their_own_rows() -> None:
    rows = (
        trip("a", "rack_off", rack="rack_1"),
        trip("b", "rack_off", "isolate", rack="rack_2"),
        trip("c", "isolate"),
        Row("d", "d", 0.0, False, "rack_3", actions=(Action("isolate"),)),
    )
    interlocks = acting(*rows)
    assert interlocks.racks_tripped() == {"rack_1", "rack_2"}
    assert interlocks.racks_isolated() == {"rack_2", "rack_3"}
    assert [interlocks.why_rack(f"rack_{n}") for n in (1, 2, 3)] == ["a happened", "b happened", ""]
    assert interlocks.acting_rows == list(rows)


# ---------------------------------------------------------------- bypass

WARM = Row("warm", "warm", 0.0, trip=False, bypass_max_s=600.0)


def test_the_longest_bypass_is_allowed_and_each_refusal_says_why() -> None:
    interlocks = Interlocks([WARM, trip("a")])
    assert interlocks.bypass("warm", Bypass("ann", "", 100.1), 100.0) == ""
    assert interlocks.bypass("warm", Bypass("ann", "", 700.0), 100.0) == ""
    assert interlocks.bypass("warm", Bypass("ann", "", 700.1), 100.0) == "warm can be bypassed for 600 s at most"
    assert interlocks.bypass("warm", Bypass("ann", "", 100.0), 100.0) == "warm can be bypassed for 600 s at most"
    assert interlocks.bypass("a", Bypass("ann", "", 101.0), 100.0) == "a can't be bypassed"
    assert interlocks.bypass("gone", Bypass("ann", "", 101.0), 100.0) == "no such interlock"
    assert list(interlocks.bypasses) == ["warm"]


def test_a_bypass_ends_with_the_scan_of_its_time() -> None:
    interlocks = Interlocks([WARM])
    interlocks.bypass("warm", Bypass("ann", "", 10.0), 0.0)
    interlocks.step({"warm": True}, 9.9)
    assert interlocks.acting == []
    interlocks.step({"warm": True}, 10.0)
    assert (interlocks.acting, interlocks.bypasses) == (["warm"], {})


def test_bypasses_are_saved_by_the_wall_clock() -> None:
    interlocks = Interlocks([WARM])
    interlocks.bypass("warm", Bypass("ann", "new sensor", 10.0), 0.0)
    assert interlocks.saved_bypasses(1e6) == {"warm": ["ann", "new sensor", 1e6 + 10.0]}
    assert interlocks.saved_bypasses(0.0) == {"warm": ["ann", "new sensor", 10.0]}
    again = Interlocks([WARM])
    again.restore_bypasses({"warm": ["ann", "new sensor", 10.0]}, 4.0, 0.0)
    assert again.bypasses == {"warm": Bypass("ann", "new sensor", 10.0)}


# ---------------------------------------------------------------- gate


def gate(output: Output | None = None, refresh_s: float = 2.0) -> Gate:
    return Gate([output or Output(SPEED, 10.0, 90.0), Output(RUN, safety=False)], POINTS, refresh_s)


def image(now: float, **values: Value) -> Image:
    return Image({f"pump_1.{name}": good(value, now) for name, value in values.items()}, now)


def ask(tested: Gate, now: float, point: str, value: Value, **values: Value) -> list[Write]:
    return tested.step([Demand(point, value, "why")], FREE, image(now, **values), now)[0]


def test_a_write_is_what_was_asked_and_why() -> None:
    tested = gate()
    assert ask(tested, 0.0, SPEED, 50) == [Write(SPEED, 50.0, True, "why")]
    assert ask(tested, 0.0, RUN, True) == [Write(RUN, True, False, "why")]


def test_a_number_is_held_in_range_and_above_the_floor() -> None:
    for value, written in ((5.0, 10.0), (95.0, 90.0)):
        assert ask(gate(), 0.0, SPEED, value)[0].value == written
    permits = Permits({}, {SPEED: 70.0})
    assert gate().step([Demand(SPEED, 50.0, "")], permits, image(0.0), 0.0)[0][0].value == 70.0
    permits = Permits({}, {SPEED: 99.0})
    assert gate().step([Demand(SPEED, 50.0, "")], permits, image(0.0), 0.0)[0][0].value == 90.0
    permits = Permits({}, {SPEED: 2.0})
    assert gate().step([Demand(SPEED, 1.0, "")], permits, image(0.0), 0.0)[0][0].value == 10.0


def test_what_is_denied_does_not_stop_what_follows_and_is_told_when_it_changes() -> None:
    tested = gate()
    no, not_now = (Permits({(RUN, True): words}, {}) for words in ("leak", "not yet"))
    demands = [Demand(RUN, True, ""), Demand(SPEED, 50.0, "")]
    writes, denials = tested.step(demands, no, image(0.0), 0.0)
    assert ([write.point for write in writes], denials) == ([SPEED], [Denial(RUN, True, "leak")])
    assert tested.step(demands, no, image(0.2), 0.2)[1] == []
    assert tested.step(demands, not_now, image(0.4), 0.4)[1] == [Denial(RUN, True, "not yet")]
    assert tested.step(demands, FREE, image(0.6), 0.6)[1] == []
    assert tested.step(demands, not_now, image(0.8), 0.8)[1] == [Denial(RUN, True, "not yet")]


def test_what_is_forbidden_is_a_point_and_a_value() -> None:
    permits = Permits({(RUN, False): "racks are on"}, {})
    assert gate().step([Demand(RUN, True, "")], permits, image(0.0), 0.0)[0]
    assert not gate().step([Demand(RUN, False, "")], permits, image(0.0), 0.0)[0]


@pytest.mark.parametrize(("now", "written"), [(1.9, False), (2.0, True)])
def test_what_stands_is_refreshed_in_time(now: float, written: bool) -> None:
    tested = gate()
    ask(tested, 0.0, RUN, True)
    assert bool(ask(tested, now, RUN, True)) is written


def test_what_a_device_shows_already_counts_as_written_once() -> None:
    tested = gate()
    assert not ask(tested, 0.0, RUN, True, run_cmd=True)
    assert ask(tested, 0.2, RUN, False, run_cmd=True), "it stands elsewhere"
    assert ask(tested, 0.4, RUN, True, run_cmd=True), "what the device shows now is older than the last write"
    assert ask(gate(), 0.0, RUN, True, run_cmd=False)
    assert ask(gate(), 0.0, SPEED, 50.0, speed_cmd="local"), "a device that shows words where a number belongs"


def test_a_move_within_the_least_is_not_written_and_a_larger_one_is() -> None:
    tested = gate(Output(SPEED, 0.0, 100.0, min_move=0.5))
    ask(tested, 0.0, SPEED, 50.0)
    assert not ask(tested, 0.2, SPEED, 50.5)
    assert not ask(tested, 0.4, SPEED, 49.5)
    assert ask(tested, 0.6, SPEED, 50.6)


def test_a_small_move_waits_for_the_pace_and_a_flag_never() -> None:
    output = Output(SPEED, 0.0, 100.0, pace_s=1.0)
    for move, at, written in ((4.9, 0.9, False), (4.9, 1.0, True), (5.0, 0.1, True), (-4.9, 0.9, False)):
        tested = gate(output)
        ask(tested, 0.0, SPEED, 50.0)
        assert bool(ask(tested, at, SPEED, 50.0 + move)) is written, (move, at)
    tested = Gate([Output(RUN, pace_s=1.0)], POINTS, 2.0)
    ask(tested, 0.0, RUN, True)
    assert ask(tested, 0.1, RUN, False)


def test_a_number_asked_as_a_whole_one_waits_like_any_other() -> None:
    tested = gate(Output(SPEED, 0.0, 100.0, pace_s=1.0))
    ask(tested, 0.0, SPEED, 50)
    assert not ask(tested, 0.5, SPEED, 51)


def test_a_ramp_starts_at_the_output_or_else_at_its_feedback() -> None:
    output = Output(SPEED, 0.0, 100.0, 8.0, 2.0, feedback="pump_1.speed")
    assert ask(gate(output), 0.0, SPEED, 90.0, speed_cmd=60.0, speed=40.0) == []
    assert ask(gate(output), 0.0, SPEED, 90.0, speed=60.0)[0].value == 60.0
    assert ask(gate(output), 0.0, SPEED, 90.0)[0].value == 100.0, "nothing is known: it starts from where it cools most"
    blind = dataclasses.replace(output, feedback="")
    assert ask(gate(blind), 0.0, SPEED, 90.0, speed=60.0)[0].value == 90.0
    tested = gate(output)
    ask(tested, 7.0, SPEED, 90.0, speed=60.0)
    assert ask(tested, 8.0, SPEED, 90.0)[0].value == pytest.approx(68.0)
    assert ask(tested, 9.0, SPEED, 0.0)[0].value == pytest.approx(66.0)


def test_a_ramp_that_starts_outside_the_range_is_written_inside_it() -> None:
    output = Output(SPEED, 10.0, 90.0, 1.0, 1.0, feedback="pump_1.speed")
    assert ask(gate(output), 0.0, SPEED, 50.0, speed=3.0)[0].value == 10.0
    assert ask(gate(output), 0.0, SPEED, 50.0, speed=99.0)[0].value == 90.0


def moved(output: Output, target: float, now: float, *, urgent: bool = False) -> float:
    """Return by how much one second moves an output from 50, five seconds of gentleness before it is ``now``."""
    tested = gate(output)
    tested.gentle_until = 5.0
    for at in (now - 1.0, now):
        tested.step([Demand(SPEED, target, "", urgent=urgent)], FREE, image(at, speed_cmd=50.0), at)
    value = tested._ramps[SPEED].value
    assert value is not None
    return value - 50.0


def test_gentle_is_slower_for_a_time_and_never_for_what_is_urgent_or_has_no_ramp() -> None:
    quick = Output(SPEED, 0.0, 100.0, 20.0, 10.0, urgent_per_s=30.0)
    assert moved(quick, 100.0, 4.9) == pytest.approx(5.0)
    assert moved(quick, 0.0, 4.9) == pytest.approx(-5.0)
    assert moved(quick, 100.0, 5.0) == pytest.approx(20.0)
    assert moved(quick, 0.0, 5.0) == pytest.approx(-10.0)
    assert moved(quick, 100.0, 4.9, urgent=True) == pytest.approx(30.0)
    assert moved(quick, 0.0, 4.9, urgent=True) == pytest.approx(-10.0)
    slow = dataclasses.replace(quick, up_per_s=2.0, down_per_s=1.0, urgent_per_s=0.0)
    assert moved(slow, 100.0, 4.9) == pytest.approx(2.0)
    assert moved(slow, 0.0, 4.9) == pytest.approx(-1.0)
    assert moved(slow, 100.0, 4.9, urgent=True) == pytest.approx(2.0), "urgent is never slower"
    assert moved(Output(SPEED, 0.0, 100.0), 100.0, 4.9) == pytest.approx(50.0)
