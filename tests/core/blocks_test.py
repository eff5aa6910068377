"""Blocks: output always in range, no wind-up, hand-over without a step, delays that hold."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from controller.core.blocks import (
    Accumulator,
    Delay,
    DutyStandby,
    Hysteresis,
    Latch,
    LeakyDelay,
    MinMove,
    PeakHold,
    Pi,
    Ramp,
    Vote,
    deadband,
    majority,
    vote,
)
from controller.core.exchanger import opening_pct, share_pct

numbers = st.floats(-1e3, 1e3, allow_nan=False)
steps = st.lists(st.tuples(numbers, st.floats(0.0, 10.0)), min_size=1, max_size=50)


@given(steps)
def test_pi_stays_in_range_and_does_not_wind_up(errors: list[tuple[float, float]]) -> None:
    pi, now = Pi(3.5, 12.0, 0.0, 100.0), 0.0
    for error, passed in errors:
        now += passed
        assert 0.0 <= pi.step(error, now) <= 100.0
        assert 0.0 <= pi.integral <= 100.0


def test_pi_leaves_saturation_at_once() -> None:
    pi = Pi(3.5, 12.0, 0.0, 100.0)
    for second in range(1000):
        assert pi.step(50.0, float(second)) <= 100.0
    assert pi.step(-5.0, 1000.0) < 100.0


@given(numbers, st.floats(0.0, 100.0))
def test_pi_hand_over_has_no_step(error: float, output: float) -> None:
    pi = Pi(0.1, 12.0, 0.0, 100.0)
    pi.preset(output, error, 5.0)
    expected = min(max(output, min(100.0, 0.1 * error)), max(0.0, min(100.0, 100.0 + 0.1 * error)))
    assert abs(pi.step(error, 5.0) - expected) < 1e-6


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 5))
def test_ramp_never_moves_faster_than_its_rate(start: float, target: float, passed: float) -> None:
    ramp = Ramp(8.0, 2.0, start, 0.0)
    moved = ramp.step(target, passed) - start
    assert -2.0 * passed - 1e-9 <= moved <= 8.0 * passed + 1e-9


def test_ramp_without_a_value_starts_at_its_target() -> None:
    assert Ramp(1.0, 1.0).step(40.0, 100.0) == 40.0


def test_ramp_ignores_a_clock_that_stands_still() -> None:
    ramp = Ramp(1.0, 1.0, 0.0, 10.0)
    assert ramp.step(100.0, 10.0) == 0.0


def test_delay_needs_its_condition_without_a_break() -> None:
    delay = Delay(2.0, 1.0)
    assert not delay.step(True, 0.0)
    assert not delay.step(True, 1.9)
    assert not delay.step(False, 1.95)
    assert not delay.step(True, 2.0)
    assert delay.step(True, 4.0)
    assert delay.step(False, 4.5)
    assert not delay.step(False, 5.5)


def test_latch_can_not_be_reset_while_its_cause_is_there() -> None:
    latch = Latch()
    assert latch.step(True)
    assert latch.step(True, reset=True)
    assert latch.step(False)
    assert not latch.step(False, reset=True)


def test_peak_hold_attacks_at_once_and_lets_go_late() -> None:
    hold = PeakHold(90.0, 12.0)
    assert hold.step(1300.0, 0.0) == 1300.0
    assert hold.step(600.0, 89.0) == 1300.0
    assert hold.step(600.0, 90.0) == 1288.0
    assert hold.step(1400.0, 91.0) == 1400.0


def test_vote() -> None:
    assert vote([30.0, 31.0, 99.0], safer_is_high=True) == 31.0
    assert vote([30.0, 31.0], safer_is_high=True) == 31.0
    assert vote([30.0, 31.0], safer_is_high=False) == 30.0
    assert vote([30.0], safer_is_high=True) == 30.0
    assert vote([], safer_is_high=True) is None


@given(st.floats(0, 100), st.floats(1, 100))
def test_valve_characteristic_and_its_inverse(share: float, rangeability: float) -> None:
    opening = opening_pct(share, rangeability)
    assert -1e-9 <= opening <= 100 + 1e-9
    assert abs(share_pct(opening, rangeability) - share) < 1e-6


@given(steps, numbers, st.floats(0.0, 100.0))
def test_pi_takes_over_without_a_step_whatever_came_before(
    errors: list[tuple[float, float]], error: float, output: float
) -> None:
    pi, now = Pi(0.02, 12.0, 0.0, 100.0), 0.0
    for before, passed in errors:
        now += passed
        pi.step(before, now)
    pi.preset(output, error, now)
    reachable = min(max(output, 0.02 * error), 100.0 + 0.02 * error)
    assert abs(pi.step(error, now) - min(max(reachable, 0.0), 100.0)) < 1e-6


def test_a_condition_that_comes_and_goes_acts_in_the_end() -> None:
    steady, toggling, rare = LeakyDelay(4.0), LeakyDelay(4.0), LeakyDelay(4.0)
    assert [steady.step(True, float(second)) for second in range(6)] == [False] * 4 + [True] * 2
    acted = [second for second in range(60) if toggling.step(second % 2 == 0, float(second))]
    assert acted[0] == 9, "each pair of seconds drains one and gives back a quarter"
    assert not any(rare.step(second % 6 == 0, float(second)) for second in range(600))


@given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 5.0)), max_size=60), st.floats(0.1, 10.0))
def test_a_leaky_delay_never_acts_before_its_time(pulses: list[tuple[bool, float]], on_s: float) -> None:
    delay, now, held = LeakyDelay(on_s), 0.0, 0.0
    before = False
    for condition, passed in pulses:
        now += passed
        held += passed if before else 0.0
        acts = delay.step(condition, now)
        assert not acts or ((condition or before) and held >= on_s - 1e-9)
        assert 0.0 <= delay.spent_s <= on_s
        before = condition


@pytest.mark.parametrize(("on_at", "off_at", "sign"), [(10.0, 8.0, 1), (-10.0, -8.0, -1)])
def test_hysteresis(on_at: float, off_at: float, sign: int) -> None:
    block = Hysteresis(on_at, off_at)
    seen = [block.step(sign * value) for value in (7.0, 9.9, 10.0, 9.0, 8.1, 8.0, 9.9)]
    assert seen == [False, False, True, True, True, False, False]


@given(st.lists(numbers, min_size=1, max_size=40))
def test_min_move_stays_near_and_moves_seldom(targets: list[float]) -> None:
    block, before = MinMove(5.0, 0.0, 100.0), None
    for target in targets:
        value = block.step(target)
        wanted = min(max(target, 0.0), 100.0)
        assert abs(value - wanted) < 5.0
        assert 0.0 <= value <= 100.0
        assert before is None or value == before or abs(value - before) >= 5.0 or value in (0.0, 100.0)
        before = value


@given(numbers, st.floats(0.0, 100.0))
def test_deadband_has_no_step(error: float, band: float) -> None:
    left = deadband(error, band)
    assert left == 0.0 if abs(error) <= band else abs(abs(left) - (abs(error) - band)) < 1e-9
    assert left * error >= 0.0


def test_accumulator_makes_up_nothing_it_has_not_watched() -> None:
    energy = Accumulator(gap_max_s=2.0)
    assert energy.step(3.0, 100.0) == 0.0
    assert energy.step(5.0, 101.0) == 3.0
    assert energy.step(0.0, 50.0) == 3.0, "a clock that goes back adds nothing"
    assert energy.step(1.0, 51.0) == 3.0
    assert energy.step(1.0, 999.0) == 5.0


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ((True, True, False), True), ((False, True, False), False), ((True, True, None), True),
        ((True, False, None), True), ((None, False, None), False), ((None, None, None), None), ((), None),
    ],
)  # fmt: skip
def test_majority(flags: tuple[bool | None, ...], expected: bool | None) -> None:
    assert majority(flags, safer=True) is expected


def three() -> Vote:
    return Vote(3, band=1.0, eject_s=5.0, readmit_s=10.0, frozen_s=60.0, moved=2.0, safer_is_high=True)


def test_a_sensor_that_deviates_is_ejected_and_comes_back_after_holding_good() -> None:
    block = three()
    for second in range(5):
        assert block.step([30.0, 30.4, 35.0 + second], float(second)).ejected == ()
    voted = block.step([30.0, 30.4, 40.0], 5.0)
    assert (voted.ejected, voted.used, voted.value) == ((2,), (0, 1), 30.2)
    assert block.step([30.0, 30.4, 30.2], 6.0).ejected == (2,)
    assert block.step([30.0, 30.4, 38.0], 15.0).ejected == (2,), "held good for 9 s, then not"
    for second in range(16, 26):
        assert block.step([30.0, 30.4, 30.2], float(second)).ejected == (2,)
    assert block.step([30.0, 30.4, 30.2], 26.0).used == (0, 1, 2)


def test_a_sensor_that_deviates_now_and_then_is_ejected_in_the_end() -> None:
    block = three()
    ejected = [now for now in range(60) if block.step([30.0, 30.1, 30.2 if now % 2 else 90.0], float(now)).ejected]
    assert ejected


def test_a_frozen_sensor_is_ejected_only_if_the_others_move() -> None:
    block = three()
    for second in range(120):
        assert block.step([30.0, 30.0, 30.0], float(second)).ejected == ()
    for second in range(120, 130):
        voted = block.step([30.0 + 0.3 * (second - 119), 30.0 + 0.3 * (second - 119), 30.0], float(second))
    assert voted.ejected == (2,)


def test_two_that_disagree_give_the_safer_one_and_nobody_is_ejected() -> None:
    block = three()
    for second in range(100):
        voted = block.step([30.0, 35.0, None], float(second))
    assert voted == (35.0, (0, 1), ())
    assert block.step([None, None, None], 100.0).value is None
    assert block.step([None, 31.0, None], 101.0).value == 31.0
    for second in range(102, 130):
        block.step([30.0, 35.0, None], float(second))
    assert block.step([30.0, 35.0, 30.0], 130.0).ejected == (), "the time counts from when it can be told"
    with pytest.raises(ValueError, match="a vote of 3 got 2"):
        block.step([1.0, 2.0], 131.0)


sensor = st.one_of(st.none(), st.floats(20.0, 25.0), st.floats(-50.0, 150.0))


@given(st.lists(st.tuples(sensor, sensor, sensor, st.floats(0.0, 20.0)), min_size=1, max_size=60), st.booleans())
def test_a_vote_is_never_outside_its_good_inputs(
    scans: list[tuple[float | None, float | None, float | None, float]], high: bool
) -> None:
    block, now = Vote(3, 1.0, 5.0, 10.0, 60.0, 2.0, safer_is_high=high), 0.0
    out: dict[int, float] = {}
    for *values, passed in scans:
        now += passed
        voted = block.step(values, now)
        good = [value for place in voted.used if (value := values[place]) is not None]
        assert not set(voted.used) & set(voted.ejected)
        assert (voted.value is None) == (not good)
        assert voted.value is None or min(good) <= voted.value <= max(good)
        assert len(voted.ejected) < 3
        for place in voted.ejected:
            out.setdefault(place, now)
        for place in set(out) - set(voted.ejected):
            assert now - out.pop(place) >= 10.0, "back before it held good"


near = st.one_of(st.none(), st.sampled_from([30.0, 30.1, 30.4, 31.5, 36.0]))
told = st.tuples(near, near, near, st.one_of(st.none(), st.just(30.0), st.just(33.0)), st.floats(0.1, 6.0))


@given(st.lists(st.tuples(told, st.integers(1, 12)), max_size=25))
@settings(max_examples=400)
@example([((30.0, 30.0, 30.0, None, 1.0), 2), ((30.0, 30.4, 30.4, None, 1.0), 20)])  # the first stands still
def test_a_vote_at_rest_misses_nothing(spells: list[tuple[tuple[float | None, ...], int]]) -> None:
    """A vote that is passed by while it sees the same and rests finds what one finds that is taken in every scan."""
    resting, tireless = (Vote(3, 1.0, 5.0, 10.0, 12.0, 0.25, safer_is_high=True) for _ in range(2))
    now = 0.0
    for (*values, anchor, passed), times in spells:
        for _ in range(times):
            now += float(passed or 0.0)
            tireless._rested = None
            assert resting.step(values, now, anchor) == tireless.step(values, now, anchor)


def group() -> DutyStandby:
    return DutyStandby(("a", "b", "c"), swap_s=100.0, overlap_s=2.0)


def test_duty_is_taken_over_from_what_runs_and_replaced_when_it_fails() -> None:
    block, every = group(), {"a", "b", "c"}
    assert block.step(1, every, {"b"}, 0.0, may_rotate=True) == {"b"}
    assert block.step(2, every, {"b"}, 1.0, may_rotate=True) == {"a", "b"}
    assert block.step(2, {"b", "c"}, {"b"}, 2.0, may_rotate=True) == {"b", "c"}
    assert block.step(3, {"b"}, {"b"}, 3.0, may_rotate=True) == {"b"}
    assert block.step(0, every, {"b"}, 4.0, may_rotate=True) == frozenset()


def test_rotation_overlaps() -> None:
    block, every = group(), {"a", "b", "c"}
    assert block.step(1, every, set(), 0.0, may_rotate=True) == {"a"}
    assert block.step(1, every, {"a"}, 99.0, may_rotate=True) == {"a"}
    assert block.step(1, every, {"a"}, 200.0, may_rotate=False) == {"a"}
    assert block.step(1, every, {"a"}, 201.0, may_rotate=True) == {"a", "b"}
    assert block.step(1, every, {"a"}, 230.0, may_rotate=True) == {"a", "b"}, "b does not run yet"
    assert block.step(1, every, {"a", "b"}, 231.0, may_rotate=True) == {"a", "b"}
    assert block.step(1, every, {"a", "b"}, 233.0, may_rotate=True) == {"b"}


def test_rotation_goes_back_when_the_partner_fails() -> None:
    block, every = group(), {"a", "b"}
    block.step(1, every, {"a"}, 0.0, may_rotate=True)
    assert block.step(1, every, {"a"}, 200.0, may_rotate=True) == {"a", "b"}
    assert block.step(1, {"a"}, {"a"}, 201.0, may_rotate=True) == {"a"}


def test_who_leaves_and_fails_is_not_asked_to_run_on() -> None:
    block, every = group(), {"a", "b"}
    block.step(1, every, {"a"}, 0.0, may_rotate=True)
    assert block.step(1, every, {"a"}, 200.0, may_rotate=True) == {"a", "b"}
    assert block.step(1, {"b"}, set(), 201.0, may_rotate=True) == {"b"}


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc")), st.booleans(),
                  st.floats(0.0, 90.0)),
        min_size=1, max_size=60,
    )
)  # fmt: skip
def test_there_are_always_enough_on_duty(scans: list[tuple[int, set[str], set[str], bool, float]]) -> None:
    block, now = DutyStandby(("a", "b", "c"), swap_s=20.0, overlap_s=100.0), 0.0
    for count, available, running, may_rotate, passed in scans:
        now += passed
        wanted = block.step(count, available, running, now, may_rotate=may_rotate)
        assert wanted <= available
        assert min(count, len(available)) <= len(wanted) <= count + 1


def test_run_hours_are_balanced() -> None:
    block, every = group(), {"a", "b", "c"}
    running: set[str] = set()
    for second in range(5000):
        wanted = block.step(1, every, running, float(second), may_rotate=True)
        assert wanted & running or not running, "somebody always runs"
        running = set(wanted)
    assert max(block.run_s.values()) - min(block.run_s.values()) <= 110.0


def test_noise_does_not_shorten_the_hold() -> None:
    """What counts is how long the input has been low, not how long ago it was highest by chance."""
    hold = PeakHold(90.0, 12.0)
    hold.step(1310.0, 0.0)
    for tick in range(1, 301):
        hold.step(1300.0 + (-1) ** tick, tick / 5)
    for tick in range(301, 745):
        assert hold.step(600.0, tick / 5) >= 1299.0, tick / 5
    assert hold.step(600.0, 151.0) < 1299.0
