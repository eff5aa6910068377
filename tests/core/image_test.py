"""The image: what a Freezer carries over from scan to scan is what a fresh look at every reading would give."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as some

from controller.core.image import Fact, Freezer, Image
from controller.core.points import NEVER_READ, Kind, Point, Quality, Reading, Value, bad, good

POINTS = {
    point.id: point
    for point in (
        Point("a", "fast", Kind.NUMBER, max_age_s=1.5),
        Point("a", "slow", Kind.NUMBER, max_age_s=30.0),
        Point("b", "always", Kind.FLAG, max_age_s=float("inf")),
        Point("b", "order", Kind.FLAG, readable=False, max_age_s=1.0),
        Point("c", "usual", Kind.NUMBER, max_age_s=5.0),
    )
}
ARRIVALS = some.lists(
    some.tuples(some.sampled_from(sorted(POINTS)), some.floats(0.0, 2.0), some.booleans()), max_size=4
)


def expected(inbox: dict[str, Reading], now: float) -> dict[str, Reading]:
    """Return the image as the rule says it, one point at a time."""
    found = {}
    for name, point in POINTS.items():
        reading = inbox.get(name, NEVER_READ)
        age = now - reading.at
        if reading.quality is Quality.GOOD and age > point.max_age_s:
            reading = Reading(reading.value, Quality.STALE, reading.at, f"no answer for {age:.1f} s")
        if point.readable:
            found[name] = reading
    return found


@given(some.lists(some.tuples(some.floats(0.05, 12.0), ARRIVALS), max_size=40))
def test_a_freezer_gives_what_a_look_at_every_reading_gives(scans) -> None:
    freezer, inbox, now = Freezer(POINTS), {}, 100.0
    for passed, arrivals in scans:
        now += passed
        for name, late_s, wrong in arrivals:
            at = max(now - late_s, inbox[name].at if name in inbox else 0.0)  # newer than what it replaces
            inbox[name] = bad("no", at) if wrong else good(1.0, at)
        image = freezer.freeze(inbox, now)
        assert dict(image.items()) == expected(inbox, now)
        assert image.at == now


def told(readings: Sequence[Reading]) -> list[tuple[Value | None, Quality]]:
    return [(reading.value, reading.quality) for reading in readings]


@given(some.lists(some.tuples(some.floats(0.05, 4.0), ARRIVALS), max_size=40))
def test_a_fact_is_what_the_image_says_now(scans) -> None:
    worked: list[float] = []

    def work(readings: Sequence[Reading]) -> list[tuple[Value | None, Quality]]:
        worked.append(now)
        return told(readings)

    fact, freezer, inbox, now = Fact(work, ("a.fast", "b.always", "x.stranger")), Freezer(POINTS), {}, 100.0
    before: list[Reading] = []
    for passed, arrivals in scans:
        now += passed
        for name, late_s, wrong in arrivals:
            inbox[name] = bad("no", now - late_s) if wrong else good(1.0, now - late_s)
        image = freezer.freeze(inbox, now)
        readings = [image.reading(point) for point in fact.points]
        assert image.follows(fact) == image.follows(fact) == told(readings)
        assert (worked[-1:] == [now]) is (readings != before), (
            "worked out where a reading is another one, and only then"
        )
        before = readings


def test_two_images_of_no_freezer_share_no_facts() -> None:
    fact = Fact(told, ("a.fast",))
    one, other = Image({"a.fast": good(1.0, 0.0)}, 0.0), Image({"a.fast": good(2.0, 0.0)}, 0.0)
    assert one.follows(fact) == [(1.0, Quality.GOOD)]
    assert other.follows(fact) == [(2.0, Quality.GOOD)]


def test_what_is_no_point_is_left_out() -> None:
    image = Freezer(POINTS).freeze({"x.stranger": good(1.0, 0.0), "a.fast": good(2.0, 0.0)}, 0.0)
    assert set(image) == {"a.fast", "a.slow", "b.always", "c.usual"}
    assert image.number("a.fast", otherwise=None) == 2.0
    assert not image.usable("x.stranger")
