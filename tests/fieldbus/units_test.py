"""When a span falls due again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from controller.fieldbus.bus import TIE_S
from controller.fieldbus.planner import plan_spans
from controller.fieldbus.units import Due, Unit
from hil.bench import plans

PERIOD_S = 0.25


def spans() -> list[Due]:
    device = plans.device("unit_1", 1, {"a": plans.row(0), "b": plans.row(500)}, period_s=PERIOD_S)
    settings = plans.serial("/dev/null", 9600)
    assert len(plan_spans(device, settings)) == 2
    return Unit(device, settings, 100.0).spans


@given(late=st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_a_release_stays_on_the_grid_of_its_period_however_late_reads_are(late: list[float]) -> None:
    due, seen = spans()[0], [100.0]
    for lateness in late:
        now = due.at + lateness
        due.next(now)
        seen.append(due.at)
        assert due.at > now - PERIOD_S - TIE_S, "a missed period is left out, not made up for"
    for before, after in pairwise(seen):
        assert after > before
    periods = (seen[-1] - 100.0) / PERIOD_S
    assert abs(periods - round(periods)) * PERIOD_S < TIE_S, "so equal deadlines stay equal"
