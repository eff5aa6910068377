"""Spans read every point once, cross no limit, and cost what the wire takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.config.plan import DevicePlan, PointPlan
from controller.config.profile import Link, Row, load_profile
from controller.core.points import Kind, Point
from controller.fieldbus.planner import ANY_BUS, Span, exchange_s, plan_spans, read_s, t35_s, wire_s, write_s
from tests.core.model import REFERENCE, reference_plan

PROFILES = REFERENCE.parent.parent / "devices"


def device(rows: list[dict[str, object]], **link: object) -> DevicePlan:
    template = next(iter(reference_plan().devices))
    tables = template.profile.tables
    settings = {"max_read_words": 125, "device_time_ms": 5.0, **link}
    profile = object.__new__(type(template.profile))
    profile.__dict__ |= {**template.profile.__dict__, "link": Link(**settings), "tables": tables}  # type: ignore[arg-type]
    points = tuple(
        PointPlan(
            Point("d", f"p{index}", Kind.NUMBER),
            Row(**{"table": "holding", "range": [0, 1], **row}),  # type: ignore[arg-type]
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
    [(9600, 1, 27.2), (9600, 10, 47.8), (19200, 1, 16.6), (19200, 10, 26.9), (115200, 10, 10.9)],
)
def test_a_read_takes_the_time_of_its_characters(baud: int, words: int, expected_ms: float) -> None:
    """Figures of 11-bit characters, 5 ms device time, one t3.5 (1.75 ms above 19200 baud), and our own work."""
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


def partitions(items: list[PointPlan]) -> Iterator[list[list[PointPlan]]]:
    """Yield every way to put ``items`` into groups."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for groups in partitions(rest):
        yield [[first], *groups]
        for index, group in enumerate(groups):
            yield [*groups[:index], [first, *group], *groups[index + 1 :]]


def readable(group: list[PointPlan], everything: list[PointPlan], link: Link, budget_s: float) -> int | None:
    """Return how many registers one read of ``group`` has, or None where it is not allowed. Address by address."""
    start = min(plan.row.address for plan in group)
    end = max(plan.row.address + plan.row.width for plan in group)
    described = {a for p in everything for a in range(p.row.address, p.row.address + p.row.width)}
    single = any((p.row.address, p.row.address + p.row.width) == (start, end) for p in group)
    run = 0
    for address in range(start, end):
        run = 0 if address in described else run + 1
        if run > link.max_hole_words or any(first <= address <= last for first, last in link.forbidden):
            return None
        inside_a_value = any(p.row.address < address < p.row.address + p.row.width for p in everything)
        if start < address and address in link.barriers and not inside_a_value:
            return None
    if not single and (end - start > link.max_read_words or cost_s(end - start, link) > budget_s):
        return None
    return end - start


def cost_s(count: int, link: Link) -> float:
    return exchange_s(ANY_BUS, link, "holding", count)


few = st.lists(
    st.fixed_dictionaries({"address": st.integers(0, 40), "type": st.sampled_from(["uint16", "int32", "float64"])}),
    min_size=1,
    max_size=6,
)


@given(few, st.integers(4, 40), st.integers(0, 12), st.lists(st.integers(0, 40), max_size=2), st.floats(0.02, 0.1),
       st.floats(0, 30))  # fmt: skip
@settings(deadline=None)
def test_no_other_partition_is_cheaper(
    rows: list[dict[str, object]], longest: int, hole: int, barriers: list[int], budget_s: float, own_ms: float
) -> None:
    link = {"max_read_words": longest, "max_hole_words": hole, "barriers": barriers, "device_time_ms": own_ms}
    planned = device(rows, **link)
    limits = planned.profile.link
    points = list(planned.points)
    best = min(
        sum(cost_s(count, limits) for count in counts if count is not None)
        for groups in partitions(points)
        if None not in (counts := [readable(group, points, limits, budget_s) for group in groups])
    )
    spans = plan_spans(planned, ANY_BUS, budget_s)
    assert sum(read_s(ANY_BUS, span) for span in spans) == pytest.approx(best)
    assert all(span.count == readable(list(span.points), points, limits, budget_s) for span in spans)


def load_of(spans: list[Span]) -> float:
    return sum(read_s(ANY_BUS, span) / span.period_s for span in spans if span.period_s)


periods = st.sampled_from([0.5, 1.0, 10.0, None])


@given(rows, st.data(), st.integers(4, 125), st.integers(0, 10), st.floats(0, 30))
@settings(deadline=None)
def test_joining_groups_lowers_the_load_and_reads_every_point_often_enough(
    given_rows: list[dict[str, object]], data: st.DataObject, longest: int, hole: int, own_ms: float
) -> None:
    made = device(given_rows, max_read_words=longest, max_hole_words=hole, device_time_ms=own_ms)
    mixed = replace(made, points=tuple(replace(plan, period_s=data.draw(periods)) for plan in made.points))
    spans = plan_spans(mixed)
    assert sorted(p.point.id for span in spans for p in span.points) == sorted(p.point.id for p in mixed.points)
    for span in spans:
        assert span.count <= longest
        assert any(plan.period_s == span.period_s for plan in span.points)
        for plan in span.points:
            assert span.period_s is None or plan.period_s is None or span.period_s <= plan.period_s
            assert plan.period_s is None or span.period_s is not None
    alone = 0.0
    for period in (0.5, 1.0, 10.0):
        others_described = [replace(p, period_s=period if p.period_s == period else None) for p in mixed.points]
        alone += load_of(plan_spans(replace(mixed, points=tuple(others_described))))
    assert load_of(spans) <= alone + 1e-9


def test_a_slower_register_joins_a_quicker_span_only_where_it_pays() -> None:
    """One register more costs 1.1 ms each 0.5 s; a read of its own 16 ms each 1 s or each 600 s."""
    made = device([{"address": n} for n in range(3)])

    def planned(slower: float) -> list[tuple[int, int, float | None]]:
        points = [replace(p, period_s=slower if n == 2 else 0.5) for n, p in enumerate(made.points)]
        return [(s.address, s.count, s.period_s) for s in plan_spans(replace(made, points=tuple(points)))]

    assert planned(1.0) == [(0, 3, 0.5)]
    assert planned(600.0) == [(0, 2, 0.5), (2, 1, 600.0)]


def test_forbidden_registers_are_never_touched() -> None:
    rows: list[dict[str, object]] = [{"address": 0}, {"address": 3}, {"address": 6}]
    spans = plan_spans(device(rows, max_hole_words=5, forbidden=[[4, 4]]))
    assert [(span.address, span.count) for span in spans] == [(0, 4), (6, 1)]


def test_bits_of_one_register_are_read_once() -> None:
    rows: list[dict[str, object]] = [{"address": 7, "bit": bit, "range": None} for bit in range(16)]
    (span,) = plan_spans(device(rows))
    assert (span.address, span.count, len(span.points)) == (7, 1, 16)


def test_a_span_stays_within_the_write_budget_but_a_value_stays_whole() -> None:
    rows: list[dict[str, object]] = [{"address": n} for n in range(40)]
    rows.append({"address": 40, "type": "text", "words": 30, "range": None})
    spans = plan_spans(device(rows), ANY_BUS, 0.03)
    assert all(read_s(ANY_BUS, span) <= 0.03 for span in spans if span.count != 30)
    assert sum(span.count for span in spans) == 70
    assert spans[-1].count == 30


def test_a_slow_device_is_asked_across_wider_holes() -> None:
    """What a second request would cost decides: 12 registers at 5 ms and 19200 baud, 25 at 20 ms."""
    for own_ms, widest in ((5.0, 12), (20.0, 25)):
        for hole in (widest, widest + 2):
            made = device([{"address": 0}, {"address": hole + 1}], max_hole_words=60, device_time_ms=own_ms)
            assert len(plan_spans(made)) == (1 if hole <= widest else 2)
    learned = device([{"address": 0}, {"address": 20}], max_hole_words=60, device_time_ms=5.0)
    assert len(plan_spans(learned, device_time_s=0.02)) == 1


def test_a_write_takes_all_its_steps_and_a_refresh_only_the_last() -> None:
    steps = {"address": 0, "on": [1, 2, 3], "off": 0, "access": "rw", "range": None, "step_wait_s": 0.5}
    made = device([{"address": 5, "access": "rw"}, steps])
    plain, sequence = (write_s(ANY_BUS, made, plan.row) for plan in made.points)
    look = exchange_s(ANY_BUS, made.profile.link, "holding", 1)
    assert 1000 * plain == pytest.approx(16 * 0.573 + 5 + 2.005 + 1.0, abs=0.01)
    assert sequence == pytest.approx(look + 3 * plain + 1.0)
    assert write_s(ANY_BUS, made, made.points[1].row, refresh=True) == pytest.approx(look + plain)


def test_every_profile_can_be_read_as_its_device_bears() -> None:
    for path in sorted(PROFILES.glob("*.toml")):
        profile = load_profile(path)
        assert not [row for row in profile.rows.values() if profile.link.refusal(row)], path.stem
