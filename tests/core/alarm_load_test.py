"""Chattering, first-out, floods and the figures of ISA-18.2, each at its very edge."""

from __future__ import annotations

from typing import get_args

import pytest

from controller.core import alarm_load as module
from controller.core.alarm_load import BUCKET_S, PRIORITIES, Chatter, FirstOut, Load, Priority, groups, stale


def test_the_limits_that_docs_tell() -> None:
    assert (module.CHATTER_ACTIVATIONS, module.CHATTER_WINDOW_S, module.CHATTER_STRETCH) == (3, 60.0, 4.0)
    assert (module.CHATTER_OFF_DELAY_MAX_S, module.CHATTER_QUIET_S) == (600.0, 600.0)
    assert (module.FLOOD_WINDOW_S, module.FLOOD_STARTS, module.FLOOD_ENDS) == (600.0, 10, 5)
    assert (module.FIRST_OUT_WINDOW_S, module.STALE_S) == (5.0, 86_400.0)
    assert (module.BUCKET_S, module.BUCKETS_MAX, module.NEW_MAX) == (600.0, 144, 1000)
    assert PRIORITIES == get_args(Priority) == ("critical", "high", "medium", "low")


def chattering(off_delay_s: float = 2.0) -> Chatter:
    chatter = Chatter(off_delay_s)
    assert [chatter.activated(at) for at in (0.0, 30.0, 60.0)] == [False, False, True]
    return chatter


def test_three_comings_within_a_minute_are_chattering_and_not_a_moment_later() -> None:
    assert (chattering().flagged, chattering().off_s) == (True, 8.0)
    late = Chatter(2.0)
    assert [late.activated(at) for at in (0.0, 30.0, 60.1)] == [False, False, False]
    assert (late.flagged, late.off_s) == (False, 2.0)
    assert late.activated(90.0), "the last three of them are within the minute"


@pytest.mark.parametrize(("off_delay_s", "held_s"), [(0.0, 4.0), (0.5, 4.0), (1.0, 4.0), (2.0, 8.0), (1000.0, 1000.0)])
def test_how_long_it_is_held_at_first(off_delay_s: float, held_s: float) -> None:
    assert chattering(off_delay_s).off_s == held_s


def test_chattering_that_goes_on_is_held_four_times_as_long_and_told_again() -> None:
    chatter = chattering()
    assert not chatter.activated(70.0), "the count begins with the coming that was told"
    assert chatter.activated(80.0)
    assert chatter.off_s == 32.0
    for at in (90.0, 100.0, 110.0, 120.0):
        chatter.activated(at)
    assert chatter.off_s == 512.0
    for at in (130.0, 140.0):
        chatter.activated(at)
    assert chatter.off_s == 600.0


def test_chattering_ends_ten_minutes_after_the_last_coming_and_begins_anew() -> None:
    chatter = chattering()
    assert not chatter.quiet(659.9)
    assert chatter.flagged
    assert chatter.quiet(660.0)
    assert (chatter.flagged, chatter.off_s) == (False, 2.0)
    assert not chatter.quiet(661.0)
    assert [chatter.activated(at) for at in (700.0, 701.0, 702.0)] == [False, False, True]
    assert chatter.off_s == 8.0, "what it was stretched to before is forgotten"
    assert not Chatter(1.0).quiet(1e6)


def test_an_incident_lasts_as_long_as_its_newest_member_is_young() -> None:
    first = FirstOut()
    assert first.joined("a", 10.0, 12.0) == "a"
    assert first.joined("b", 17.0, 20.0) == "a", "it began within five seconds of the first one's coming"
    assert first.joined("c", 25.0, 40.0) == "a", "and this of the second one's"
    assert first.joined("d", 45.1, 46.0) == "d"
    assert first.joined("e", 51.0, 51.0) == "d"
    assert FirstOut().joined("x", -1e9, 0.0) == "x"


def test_each_group_has_its_own_first_and_no_group_has_none() -> None:
    made = groups(["cooling", "", "leak", "cooling"])
    assert set(made) == {"cooling", "leak"}
    made["cooling"].joined("a", 0.0, 0.0)
    assert made["leak"].first == ""


def test_a_flood_begins_with_ten_and_ends_below_five() -> None:
    load = Load()
    for at in range(9):
        load.came("high", float(at))
    assert load.step(9.0) is load.flood is False
    load.came("high", 10.0)
    assert load.step(10.0) is load.flood is True
    assert load.step(604.9), "five are left"
    assert load.figures(604.9)["rate"] == 5.0
    assert load.step(605.0) is load.flood is False
    for _ in range(5):
        load.came("high", 605.5)
    assert not load.step(605.9), "nine are too few to begin"


def test_what_is_ten_minutes_old_is_no_longer_new() -> None:
    load = Load()
    load.came("low", 0.0)
    load.step(599.9)
    assert load.figures(599.9)["rate"] == 1.0
    load.step(600.0)
    assert load.figures(600.0)["rate"] == 0.0


def test_one_window_remembers_a_thousand() -> None:
    load = Load()
    for _ in range(1001):
        load.came("low", 1.0)
    assert load.figures(1.0)["rate"] == 1000.0
    assert load.figures(1.0)["rate_peak"] == 1001.0


def test_nothing_has_come_yet() -> None:
    names = ("rate", "rate_mean", "rate_peak", "flood_share")
    shares = [f"{priority}_share" for priority in PRIORITIES]
    assert Load().figures(5.0) == dict.fromkeys((*names, *shares), 0.0)
    assert Load().flood is False


@pytest.mark.parametrize("made", [Chatter(1.0), FirstOut(), Load(), module._Bucket(0.0)])
def test_what_each_of_hundreds_of_alarms_has_is_small(made: object) -> None:
    assert not hasattr(made, "__dict__")


def test_figures_of_an_hour() -> None:
    load = Load()
    load.step(1000.0)
    came: list[tuple[float, Priority]] = [(1100.0, "high"), (1150.0, "low"), (1300.0, "high"), (4500.0, "critical")]
    for at, priority in came:
        load.came(priority, at)
    load.step(4600.0)
    assert load.figures(4600.0) == {
        "rate": 1.0, "rate_mean": 4 / 6, "rate_peak": 2.0, "flood_share": 0.0,
        "critical_share": 25.0, "high_share": 50.0, "medium_share": 0.0, "low_share": 25.0,
    }  # fmt: skip


def test_the_mean_of_less_than_ten_minutes_is_what_came() -> None:
    load = Load()
    load.came("high", 1000.0)
    load.came("high", 1010.0)
    assert load.figures(1060.0)["rate_mean"] == 2.0


def test_the_share_of_flood_is_of_the_time_that_was_watched() -> None:
    load = Load()
    for _ in range(10):
        load.came("high", 1000.0)
    load.step(1000.0)
    load.step(1030.0)
    load.step(1020.0)
    load.step(1050.0)
    assert load.figures(1120.0)["flood_share"] == pytest.approx(100 * 60 / 120)
    fresh = Load()
    for _ in range(10):
        fresh.came("high", 1000.0)
    fresh.step(1000.0)
    fresh.step(1000.5)
    assert fresh.figures(1000.5)["flood_share"] == pytest.approx(50.0), "of a second at least"


def test_no_ten_minutes_hold_more_than_ten_minutes_of_flood() -> None:
    load = Load()
    for _ in range(10):
        load.came("high", 1210.0)
    load.step(1210.0)
    load.step(1790.0)
    for _ in range(10):
        load.came("high", 1790.0)
    load.step(3590.0)
    assert [bucket.flood_s for bucket in load._buckets] == [580.0, 600.0]
    load.step(3599.0)
    assert load.figures(3599.0)["flood_share"] == pytest.approx(100 * 1180 / 2389)
    assert load.figures(1300.0)["flood_share"] == 100.0, "never more, whatever is asked for"


def test_buckets_begin_at_full_ten_minutes_but_for_the_first_and_last_a_day() -> None:
    load = Load()
    for at in (1234.0, 1799.9, 1800.0, 1810.0, 2500.0, 2510.0):
        load.step(at)
    assert [bucket.began for bucket in load._buckets] == [1234.0, 1800.0, 2400.0]
    for n in range(200):
        load.step(2500.0 + n * BUCKET_S)
    assert len(load._buckets) == 144


def test_stale_is_older_than_a_day() -> None:
    assert stale([0.0, 0.1, 0.2, -5.0], 86_400.0) == 1
    assert stale([], 0.0) == 0
