"""The gate: default deny, range, ramp, permissives, floors, refresh, take-over."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.image import Image
from controller.core.interlocks import Action, Gate, Interlocks, Output, Permits, Row, Write
from controller.core.points import Kind, Point, Reading, Value, good
from controller.core.sequences import Demand

SPEED, RUN, OUTLET = "pump_1.speed_cmd", "pump_1.run_cmd", "pdu_1.outlet_1"
POINTS = {
    SPEED: Point("pump_1", "speed_cmd", Kind.NUMBER, "%", 0.0, 100.0, writable=True, readable=False),
    RUN: Point("pump_1", "run_cmd", Kind.FLAG, writable=True, readable=False),
    OUTLET: Point("pdu_1", "outlet_1", Kind.FLAG, writable=True),
    "pump_1.speed": Point("pump_1", "speed", Kind.NUMBER, "%", 0.0, 100.0),
}
FREE = Permits({}, {})


def gate() -> Gate:
    outputs = [Output(SPEED, 0.0, 100.0, 8.0, 2.0, 0.2, 0.5, "pump_1.speed"), Output(RUN), Output("pump_1.speed")]
    return Gate(outputs, POINTS, refresh_s=2.0)


def image(now: float, **values: Value) -> Image:
    readings: dict[str, Reading] = {f"pump_1.{name}": good(value, now) for name, value in values.items()}
    return Image(readings, now)


def ask(gate: Gate, now: float, *demands: tuple[str, Value], permits: Permits = FREE, **values: Value) -> list[Write]:
    return gate.step([Demand(point, value, "test") for point, value in demands], permits, image(now, **values), now)[0]


@pytest.mark.parametrize("point", [OUTLET, "pump_1.speed", "pump_9.run_cmd"])
def test_what_is_not_listed_and_writable_is_never_written(point: str) -> None:
    writes, denials = gate().step([Demand(point, True, "test")], FREE, image(0.0), 0.0)
    assert not writes
    assert denials[0].reason == "not an output of this pod"


@pytest.mark.parametrize("value", [math.nan, math.inf, "fast", True])
def test_a_number_that_is_none_is_denied(value: Value) -> None:
    writes, denials = gate().step([Demand(SPEED, value, "test")], FREE, image(0.0), 0.0)
    assert not writes
    assert denials[0].reason == "not a finite number"


def test_a_flag_that_is_none_is_denied() -> None:
    writes, denials = gate().step([Demand(RUN, 1.0, "test")], FREE, image(0.0), 0.0)
    assert not writes
    assert denials[0].reason == "not on or off"


@given(st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.01, 5.0)), max_size=30))
def test_numbers_stay_in_range_and_within_their_ramp(targets: list[tuple[float, float]]) -> None:
    tested, now, last = gate(), 0.0, 50.0
    for target, passed in targets:
        now += passed
        for write in ask(tested, now, (SPEED, target), speed=50.0):
            assert isinstance(write.value, float)
            assert 0.0 <= write.value <= 100.0
            last = write.value
    assert 0.0 <= last <= 100.0


def test_take_over_starts_from_where_the_pump_stands() -> None:
    tested = gate()
    (first,) = ask(tested, 10.0, (SPEED, 100.0), speed=60.0)
    assert first.value == 60.0
    assert not ask(tested, 10.2, (SPEED, 100.0), speed=60.0), "a small move waits for the output's pace"
    (second,) = ask(tested, 10.5, (SPEED, 100.0), speed=60.0)
    assert second.value == pytest.approx(64.0)


def test_a_ramp_waits_for_the_outputs_own_register_where_that_can_be_read() -> None:
    read = {**POINTS, SPEED: replace(POINTS[SPEED], readable=True)}

    def tested() -> Gate:
        return Gate([Output(SPEED, 0.0, 100.0, 8.0, 2.0, feedback="pump_1.speed")], read, 2.0)

    late, never = tested(), tested()
    assert not ask(late, 10.0, (SPEED, 100.0), speed=60.0)
    assert ask(late, 10.5, (SPEED, 100.0), speed=40.0, speed_cmd=50.0) == []
    assert ask(late, 11.0, (SPEED, 100.0), speed=40.0, speed_cmd=50.0)[0].value == pytest.approx(54.0)
    assert not ask(never, 10.0, (SPEED, 100.0), speed=60.0)
    assert not ask(never, 11.9, (SPEED, 100.0), speed=60.0)
    assert ask(never, 12.0, (SPEED, 40.0), speed=60.0)[0].value == 60.0, "a register that never comes holds nobody up"


def test_feedback_alone_does_not_hold_back_what_cools_more() -> None:
    read = {**POINTS, SPEED: replace(POINTS[SPEED], readable=True)}
    tested = Gate([Output(SPEED, 0.0, 100.0, 8.0, 2.0, feedback="pump_1.speed")], read, 2.0)
    assert not ask(tested, 10.0, (SPEED, 70.0), speed=0.0)
    assert ask(tested, 12.0, (SPEED, 70.0), speed=0.0)[0].value == 70.0, (
        "its register can't be read: neither may this be true"
    )


def test_what_is_to_run_waits_for_its_register_and_what_is_to_stop_does_not() -> None:
    def tested() -> Gate:
        return Gate([Output(RUN)], {RUN: replace(POINTS[RUN], readable=True)}, 2.0)

    runs, stops = tested(), tested()
    assert not ask(runs, 10.0, (RUN, True))
    assert not ask(runs, 10.5, (RUN, True), run_cmd=True), "it stands so already"
    assert ask(runs, 12.5, (RUN, True), run_cmd=True), "and is told so again in time"
    assert ask(stops, 10.0, (RUN, False))
    assert ask(stops, 10.1, (RUN, True))


def test_a_number_that_may_jump_does_not_wait_for_its_register() -> None:
    tested = Gate([Output(SPEED, 0.0, 100.0)], {SPEED: replace(POINTS[SPEED], readable=True)}, 2.0)
    assert ask(tested, 10.0, (SPEED, 70.0))[0].value == 70.0


def test_a_ramp_begins_where_the_drive_runs_or_was_told_to_whichever_is_higher() -> None:
    (write,) = ask(gate(), 10.0, (SPEED, 50.0), speed_cmd=35.0, speed=100.0)
    assert write.value == 100.0, "it runs so by a rule of its own, which it leaves when somebody speaks"
    runs_up = gate()
    assert not ask(runs_up, 10.0, (SPEED, 50.0), speed_cmd=85.0, speed=20.0)
    assert ask(runs_up, 11.0, (SPEED, 50.0), speed_cmd=85.0, speed=30.0)[0].value == 83.0


def last_of(tested: Gate, target: float, start: float, *, urgent: bool) -> float:
    """Return what is written last in two seconds of one demand, from 50 %."""
    last = 50.0
    for tenth in range(21):
        now = start + tenth / 10
        for write in tested.step([Demand(SPEED, target, "test", urgent=urgent)], FREE, image(now, speed=50.0), now)[0]:
            last = float(write.value)
    return last


def test_an_urgent_demand_rises_as_fast_as_the_drive_may_and_falls_no_faster() -> None:
    def tested() -> Gate:
        return Gate([Output(SPEED, 0.0, 100.0, 8.0, 2.0, feedback="pump_1.speed", urgent_per_s=20.0)], POINTS, 2.0)

    assert last_of(tested(), 100.0, 0.0, urgent=False) == pytest.approx(66.0)
    assert last_of(tested(), 100.0, 0.0, urgent=True) == pytest.approx(90.0)
    assert last_of(tested(), 0.0, 0.0, urgent=True) == pytest.approx(46.0)


def test_soon_after_a_take_over_only_what_is_urgent_moves_fast() -> None:
    def tested() -> Gate:
        fresh = Gate([Output(SPEED, 0.0, 100.0, 8.0, 8.0, feedback="pump_1.speed", urgent_per_s=20.0)], POINTS, 2.0)
        fresh.gentle_until = 10.0
        return fresh

    assert last_of(tested(), 100.0, 0.0, urgent=False) == pytest.approx(60.0)
    assert last_of(tested(), 0.0, 0.0, urgent=False) == pytest.approx(40.0)
    assert last_of(tested(), 100.0, 0.0, urgent=True) == pytest.approx(90.0)
    assert last_of(tested(), 100.0, 10.0, urgent=False) == pytest.approx(66.0)


def test_a_large_move_does_not_wait() -> None:
    tested = Gate([Output(SPEED, 0.0, 100.0, pace_s=0.5)], POINTS, refresh_s=2.0)
    ask(tested, 0.0, (SPEED, 40.0), speed=40.0)
    (write,) = ask(tested, 0.1, (SPEED, 100.0), speed=40.0)
    assert write.value == 100.0


def test_what_stands_already_is_not_written_again_at_once() -> None:
    tested = gate()
    assert not ask(tested, 0.0, (RUN, True), run_cmd=True)
    assert not ask(tested, 1.9, (RUN, True), run_cmd=True)
    assert ask(tested, 2.0, (RUN, True), run_cmd=True), "refreshed for the device's own watchdog"


def test_forbidden_value_is_denied_and_told_once() -> None:
    tested = gate()
    permits = Permits({(RUN, False): "racks are energised"}, {})
    told = [tested.step([Demand(RUN, False, "test")], permits, image(t), t)[1] for t in (0.0, 0.2, 0.4)]
    assert [len(denials) for denials in told] == [1, 0, 0]
    assert ask(tested, 0.6, (RUN, True), permits=permits)


def test_floor_holds_a_number_up() -> None:
    tested = gate()
    writes = ask(tested, 0.0, (SPEED, 0.0), permits=Permits({}, {SPEED: 30.0}), speed=30.0)
    assert writes[0].value == 30.0


def test_last_demand_for_a_point_wins() -> None:
    (write,) = ask(gate(), 0.0, (RUN, True), (RUN, False))
    assert write.value is False


def rows() -> list[Row]:
    return [
        Row("a", "cause a", 1.0, trip=True, actions=(Action("racks_off"),)),
        Row("b", "cause b", 0.0, trip=False),
        Row("r", "leak", 0.0, True, "rack_1", actions=(Action("rack_off"),)),
    ]


def test_trip_latches_and_first_out_is_kept() -> None:
    interlocks = Interlocks(rows())
    interlocks.step({"a": True}, 0.0)
    assert not interlocks.tripped()
    interlocks.step({"a": True, "b": True}, 1.0)
    assert interlocks.tripped() == "cause a"
    interlocks.step({}, 2.0)
    assert interlocks.tripped() == "cause a"
    assert interlocks.first_out == "a"
    interlocks.step({"a": True}, 2.5, reset=True)
    interlocks.step({}, 3.0, reset=True)
    assert not interlocks.tripped()
    assert interlocks.first_out == ""


def test_rack_trip_is_that_rack_alone() -> None:
    interlocks = Interlocks(rows())
    interlocks.step({"r": True}, 0.0)
    assert interlocks.racks_tripped() == {"rack_1"}
    assert not interlocks.tripped()


def test_latched_trips_survive_a_restart() -> None:
    interlocks = Interlocks(rows(), latched=["a", "gone from the file"])
    assert interlocks.tripped() == "cause a"
    assert interlocks.latched() == ["a"]
