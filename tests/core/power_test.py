"""A rack's power units: what is kept of them is what a look at each reading gives, to the last bit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.core.image import Freezer, Image
from controller.core.points import Kind, Point, Reading, bad, good
from controller.core.power import Phases, Rack, branches_of

RACK = Rack(
    outlets=("a.outlet_1", "a.outlet_2", "b.outlet_1"),
    power=("a.power", "b.power"),
    currents=("a.current_1", "b.current_1", "a.current_2", "a.current_3"),
    valve="valve", flow=(), outlet_temps=(), leak=(), rated_kw=100.0, shed_tier=1, name="rack",
)  # fmt: skip
NUMBERS = (*RACK.power, *RACK.currents)
POINTS = [Point(*point.split("."), Kind.FLAG, max_age_s=3.0) for point in RACK.outlets]
POINTS += [Point(*point.split("."), Kind.NUMBER, max_age_s=3.0) for point in NUMBERS]
flags = st.tuples(st.sampled_from(RACK.outlets), st.one_of(st.none(), st.booleans()))
numbers = st.tuples(st.sampled_from(NUMBERS), st.one_of(st.none(), st.floats(0.0, 200.0)))


def phases(image: Image, points: list[str]) -> Phases:
    amps = image.numbers(points)
    mean = sum(amps) / max(1, len(amps))
    return Phases(max(amps, default=None), mean, max((abs(one - mean) for one in amps), default=0.0), len(amps))


@given(st.lists(st.tuples(st.floats(0.2, 4.0), st.lists(st.one_of(flags, numbers), max_size=6)), max_size=30))
def test_a_rack_is_seen_as_its_readings_are(scans: list[tuple[float, list[tuple[str, float | None]]]]) -> None:
    freezer, now = Freezer({point.id: point for point in POINTS}), 0.0
    inbox: dict[str, Reading] = {}
    for passed, arrivals in scans:
        now += passed
        inbox |= {point: bad("no", now) if value is None else good(value, now) for point, value in arrivals}
        image = freezer.freeze(inbox, now)
        seen, power = RACK.seen(image), image.numbers(RACK.power)
        assert seen.energised == any(image.flag(outlet, otherwise=True) for outlet in RACK.outlets)
        assert seen.pending == any(not image.flag(outlet, otherwise=True) for outlet in RACK.outlets)
        assert seen.on == any(image.flag(outlet, otherwise=False) for outlet in RACK.outlets)
        assert seen.power_kw == (sum(power) if len(power) == len(RACK.power) else None)
        assert seen.branches == tuple(phases(image, points) for points in branches_of(RACK).values())
