"""Blocks: output always in range, no wind-up, hand-over without a step, delays that hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.core.blocks import Delay, Latch, PeakHold, Pi, Ramp, vote
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
