"""Spans read every point once, cross no limit, and cost what the wire takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.plan import DevicePlan, PointPlan
from controller.config.profile import Link, Row
from controller.core.points import Kind, Point
from controller.fieldbus.planner import plan_spans, read_s, t35_s, wire_s
from tests.core.model import reference_plan


def device(rows: list[dict[str, object]], **link: object) -> DevicePlan:
    template = next(iter(reference_plan().devices))
    tables = template.profile.tables
    settings = {"max_read_words": 125, "device_time_ms": 5.0, **link}
    profile = object.__new__(type(template.profile))
    profile.__dict__ |= {**template.profile.__dict__, "link": Link(**settings), "tables": tables}  # type: ignore[arg-type]
    points = tuple(
        PointPlan(
            Point("d", f"p{index}", Kind.NUMBER),
            Row(table="holding", range=[0, 1], **row),  # type: ignore[arg-type]
            1.0,
        )
        for index, row in enumerate(rows)
    )
    return replace(template, profile=profile, points=points)


rows = st.lists(
    st.fixed_dictionaries({"address": st.integers(0, 300), "type": st.sampled_from(["uint16", "int32", "float64"])}),
    min_size=1,
    max_size=40,
)


@given(rows, st.integers(4, 125), st.integers(0, 20), st.lists(st.integers(0, 300), max_size=4))
def test_spans_cover_every_point_within_the_devices_limits(
    given_rows: list[dict[str, object]], longest: int, hole: int, barriers: list[int]
) -> None:
    planned = device(given_rows, max_read_words=longest, max_hole_words=hole, barriers=barriers)
    spans = plan_spans(planned)
    read = [plan for span in spans for plan in span.points]
    assert sorted(plan.point.id for plan in read) == sorted(plan.point.id for plan in planned.points)
    for span in spans:
        assert span.count <= longest
        described = {a for p in span.points for a in range(p.row.address, p.row.address + p.row.width)}
        covered = range(span.address, span.address + span.count)
        assert described <= set(covered)
        run = 0
        for address in covered:
            run = 0 if address in described else run + 1
            assert run <= hole
        for barrier in barriers:
            crosses = span.address < barrier < span.address + span.count
            inside_one_value = any(p.row.address < barrier < p.row.address + p.row.width for p in span.points)
            assert not crosses or inside_one_value


@pytest.mark.parametrize(
    ("baud", "words", "expected_ms"),
    [(9600, 1, 26.2), (9600, 10, 46.8), (19200, 1, 15.6), (19200, 10, 25.9), (115200, 10, 9.9)],
)
def test_a_read_takes_the_time_of_its_characters(baud: int, words: int, expected_ms: float) -> None:
    """Figures of 11-bit characters, 5 ms device time, one t3.5 (1.75 ms above 19200 baud)."""
    plan = reference_plan()
    bus = next(bus.settings for bus in plan.buses if bus.name == "cooling").model_copy(update={"baud": baud})
    span = plan_spans(device([{"address": n} for n in range(words)]))[0]
    assert 1000 * read_s(bus, span) == pytest.approx(expected_ms, abs=0.06)


def test_silence_between_frames() -> None:
    plan = reference_plan()
    rtu = next(bus.settings for bus in plan.buses if bus.name == "cooling")
    tcp = next(bus.settings for bus in plan.buses if bus.settings.kind == "tcp")
    assert 1000 * t35_s(rtu) == pytest.approx(2.005, abs=0.001)
    assert t35_s(rtu.model_copy(update={"baud": 38400})) == 0.00175
    assert t35_s(tcp) == 0
    assert wire_s(tcp, "holding", 100) == 0
