"""The power permit: the lowest limit wins, falls at once, rises slowly, and what does not follow is shed by tier."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.capacity import Cooling
from controller.core.permit import Limit, Load, Permit
from tests.core.model import reference_plan

COOLING = reference_plan().pod.cooling
RATED = 130.0
SCAN_S = 0.2


def racks(power_kw: float | None = 100.0, count: int = 4, *, off: tuple[str, ...] = ()) -> list[Load]:
    """Racks of tiers 0, 1, 2, ...: the last is shed first."""
    return [
        Load(f"rack_{n}", RATED, n, f"rack_{n}" not in off, None if power_kw is None else power_kw)
        for n in range(count)
    ]


def permit(cooling: Cooling = COOLING) -> Permit:
    return Permit(cooling, [load.name for load in racks()])


def run(one: Permit, limits: list[Limit], loads: list[Load], seconds: float, now: float) -> float:
    """Step for so long; return the time after it."""
    for _ in range(round(seconds / SCAN_S)):
        now += SCAN_S
        known = [load.power_kw for load in loads if load.on and load.power_kw is not None]
        one.step(limits, loads, sum(known) if known else None, now)
    return now


def test_without_limits_everything_rated_may_run() -> None:
    one = permit()
    one.step([], racks(), 400.0, 1.0)
    assert (one.pod.kw, one.pod.cap_pct, one.pod.cause, one.limiting) == (4 * RATED, 100.0, "", "")
    assert all(grant.kw == RATED and not grant.cause for grant in one.racks.values())


def test_the_lowest_limit_wins_at_once_and_each_rack_has_its_share() -> None:
    one = permit()
    one.step([Limit("cold", 400.0), Limit("flow", 260.0), Limit("narrow", 30.0, "rack_2")], racks(), 400.0, 1.0)
    assert (one.pod.kw, one.pod.cap_pct, one.pod.cause) == (260.0, 50.0, "flow")
    assert one.racks["rack_2"].kw == 30.0
    assert one.racks["rack_2"].cause == "narrow"
    assert one.racks["rack_1"] == dataclasses.replace(one.racks["rack_1"], kw=65.0, cap_pct=50.0, cause="flow")


@given(kws=st.lists(st.floats(-500, 2000), max_size=5), more=st.floats(-500, 2000))
def test_one_more_limit_never_raises_the_permit(kws: list[float], more: float) -> None:
    limits = [Limit(f"limit {n}", kw) for n, kw in enumerate(kws)]
    without, with_it = permit(), permit()
    without.step(limits, racks(), 300.0, 1.0)
    with_it.step([*limits, Limit("more", more)], racks(), 300.0, 1.0)
    assert 0.0 <= with_it.pod.kw <= without.pod.kw <= 4 * RATED
    assert 0.0 <= with_it.pod.cap_pct <= 100.0


def test_a_cap_is_held_then_let_go_within_a_minute() -> None:
    one = permit()
    now = run(one, [Limit("flow", 0.0)], racks(0.0), 2, 0.0)
    now = run(one, [], racks(0.0), COOLING.release_hold_s - 1, now)
    assert one.pod.kw == 0.0
    assert one.pod.cause == "flow", "it still tells why"
    seen = []
    for _ in range(200):
        now = run(one, [], racks(0.0), SCAN_S, now)
        seen.append(one.pod.kw)
    steps = [b - a for a, b in itertools.pairwise(seen)]
    assert min(steps) >= 0
    assert max(steps) <= COOLING.release_pct_per_s / 100 * 4 * RATED * SCAN_S + 1e-6
    assert seen[-1] == 4 * RATED
    assert one.pod.cause == ""


def test_limiting_needs_power_above_the_permit_and_ends_with_it() -> None:
    one = permit()
    now = run(one, [Limit("flow", 450.0)], racks(100.0), 5, 0.0)
    assert one.limiting == "", "400 kW of 450 kW: nobody is held down"
    now = run(one, [Limit("flow", 390.0)], racks(100.0), 0.8, now)
    assert one.limiting == "", "it has to last"
    now = run(one, [Limit("flow", 390.0)], racks(100.0), 1, now)
    assert one.limiting == "flow"
    now = run(one, [Limit("flow", 390.0)], racks(95.0), 30, now)
    assert one.limiting == "flow", "power at the cap is held down by it"
    now = run(one, [Limit("flow", 390.0)], racks(40.0), 12, now)
    assert one.limiting == "", "the load itself is gone"
    now = run(one, [Limit("flow", 390.0), Limit("narrow", 20.0, "rack_1")], racks(100.0), 2, now)
    assert one.limiting == "flow"
    now = run(one, [Limit("flow", 390.0)], racks(None), 12, now)
    assert one.limiting == "", "nothing is said of a power that is not known"
    run(one, [Limit("narrow", 20.0, "rack_1")], racks(40.0), 60, now)
    assert one.limiting == "", "one rack is no pod"


def test_who_does_not_follow_is_shed_by_tier() -> None:
    one = permit()
    now = run(one, [Limit("cold", 100.0)], racks(100.0), COOLING.answer_s, 0.0)
    assert not one.shed
    now = run(one, [Limit("cold", 100.0)], racks(100.0), 2, now)
    assert one.shed == {"rack_3"}
    now = run(one, [Limit("cold", 100.0)], racks(100.0, off=("rack_3",)), 30, now)
    assert {"rack_3", "rack_2", "rack_1"} == one.shed, "tier 0 is never shed"
    run(one, [Limit("cold", 100.0)], racks(100.0, off=("rack_1", "rack_2", "rack_3")), 30, now)
    assert "rack_0" not in one.shed


def test_who_follows_is_left_alone() -> None:
    one, now, power = permit(), 0.0, 400.0
    for _ in range(300):
        now += SCAN_S
        if now > COOLING.answer_s:
            power = max(100.0, power - 8.0)
        one.step([Limit("cold", 100.0)], racks(power / 4), power, now)
    assert not one.shed


def test_a_rack_that_ignores_its_own_cap_is_shed_itself() -> None:
    one = permit()
    run(one, [Limit("narrow", 50.0, "rack_1")], racks(100.0), COOLING.answer_s + 2, 0.0)
    assert one.shed == {"rack_1"}
    assert one.racks["rack_0"].cause == ""


def test_nothing_is_shed_on_a_power_that_is_not_known() -> None:
    one = permit()
    run(one, [Limit("cold", 100.0), Limit("narrow", 1.0, "rack_1")], racks(None), 60, 0.0)
    assert not one.shed
    assert one.limiting == ""


def test_shed_racks_may_come_back_when_there_has_been_room_for_a_while() -> None:
    one = Permit(COOLING, [load.name for load in racks()], shed=("rack_3", "gone"))
    assert one.shed == {"rack_3"}, "a rack that the pod no longer has is forgotten"
    now = run(one, [], racks(10.0, off=("rack_3",)), 29, 0.0)
    assert not one.restoring
    now = run(one, [], racks(10.0, off=("rack_3",)), 2, now)
    assert one.restoring
    run(one, [Limit("cold", 100.0)], racks(10.0, off=("rack_3",)), 1, now)
    assert not one.restoring


@pytest.mark.parametrize(
    ("limit", "off", "comes"),
    [
        (Limit("cold", 3.9 * RATED), ("rack_3",), False),  # what is on has all it wants; one more would not
        (Limit("cold", 4.0 * RATED), ("rack_3",), True),
        (Limit("cold", 1.5 * RATED), ("rack_0", "rack_1", "rack_2", "rack_3"), True),
        (Limit("cold", 0.5 * RATED), ("rack_0", "rack_1", "rack_2", "rack_3"), False),
        (Limit("narrow", 0.5 * RATED, "rack_3"), ("rack_3",), False),
    ],
)
def test_a_shed_rack_comes_back_where_the_permit_has_room_for_it(
    limit: Limit, off: tuple[str, ...], comes: bool
) -> None:
    one = Permit(COOLING, [load.name for load in racks()], shed=off)
    run(one, [limit], racks(10.0, off=off), 40, 0.0)
    assert one.restoring is comes


def test_shares_are_of_what_is_on() -> None:
    one = permit()
    one.step([Limit("cold", 130.0)], racks(100.0, off=("rack_3", "rack_2")), 200.0, 1.0)
    assert one.pod.cap_pct == pytest.approx(50.0)
    assert math.isclose(one.racks["rack_0"].kw, 65.0)
