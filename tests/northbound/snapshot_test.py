"""What a reading becomes when it leaves the pod."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.points import NEVER_READ, Kind, Point, Quality, Reading, bad, good
from controller.northbound import snapshot as module
from controller.northbound.snapshot import by_device, decimals, differs, judged, shown

NAN = float("nan")


@pytest.mark.parametrize(
    ("reading", "answering", "value", "status", "last"),
    [
        (good(31.8, 5.0), True, 31.8, 0x00000000, None),
        (good(31.8, 5.0), False, 31.8, 0x00000000, None),
        (Reading(31.8, Quality.FORCED, 5.0), True, 31.8, 0x00960000, None),
        (Reading(31.8, Quality.STALE, 5.0), True, 31.8, 0x40900000, None),
        (Reading(31.8, Quality.STALE, 5.0), False, None, 0x80310000, 31.8),
        (NEVER_READ, True, None, 0x80310000, None),
        (bad("sentinel 0x7FFF", 5.0), True, None, 0x808C0000, None),
        (bad("sentinel 0x7FFF", 5.0), False, None, 0x808C0000, None),
        (good(NAN, 5.0), True, None, 0x808C0000, None),
        (Reading(math.inf, Quality.STALE, 5.0), True, None, 0x808C0000, None),
    ],
)
def test_quality_table(reading, answering, value, status, last):
    sample = judged(reading, answering=answering)
    assert (sample.value, sample.status, sample.last, sample.at) == (value, status, last, reading.at)
    assert status in module.STATUS_NAMES


@pytest.mark.parametrize(
    ("deadband", "places"), [(0.0, 6), (0.001, 3), (0.05, 2), (0.1, 1), (0.5, 1), (1.0, 0), (2.0, 0), (100.0, 0)]
)
def test_decimals_show_the_deadband(deadband, places):
    assert decimals(deadband) == places


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (31.8349, 2, "31.83"),
        (31.8349, 6, "31.8349"),
        (1301.23456, 6, "1301.23"),
        (0.1 + 0.2, 6, "0.3"),
        (402.4, 0, "402"),
        (1234567.8, 0, "1234568"),
        (-0.0, 2, "0"),
        (1e300, 2, "1e+300"),
        (NAN, 2, "null"),
        (True, 2, "true"),
        (7, 0, "7"),
        ("x" * 500, 0, '"' + "x" * 128 + '"'),
        (None, 2, "null"),
    ],
)
def test_numbers_as_shown(value, places, text):
    assert json.dumps(shown(value, places), allow_nan=False) == text


@given(st.floats(), st.integers(0, 6))
def test_shown_is_near_and_always_json(value, places):
    out = shown(value, places)
    json.dumps(out, allow_nan=False)
    if math.isfinite(value):
        assert math.isclose(out, value, rel_tol=1e-5, abs_tol=0.51 * 10**-places)
        assert len(json.dumps(out)) <= 24
    else:
        assert out is None


def test_deadband_is_for_numbers_only():
    number = Point("d", "n", Kind.NUMBER, deadband=0.5)
    flag = Point("d", "f", Kind.FLAG)
    assert not differs(1.0, 1.5, number)
    assert differs(1.0, 1.6, number)
    assert differs(None, 1.0, number)
    assert differs(True, False, flag)
    assert not differs("a", "a", flag)


def test_wall_time_is_worked_out_from_the_scan(picture):
    snap = picture(1010.0)
    assert snap.ms(1010.0) == snap.wall_ms
    assert snap.ms(1000.25) == snap.wall_ms - 9750
    assert snap.ms(None) is None
    assert snap.ms(NEVER_READ.at) is None


def test_sample_knows_whether_the_device_answers(picture, plan):
    point = plan.pod.points["pump_1.speed"]
    old = {"pump_1.speed": good(61.0, 900.0)}
    assert picture(1000.0, old).sample(point).status == module.UNCERTAIN_LAST_USABLE
    silent = {**old, "pump_1.comms": good(False, 999.0)}
    assert picture(1000.0, silent).sample(point) == (None, module.BAD_NO_COMMUNICATION, 61.0, 900.0)


def test_by_device_keeps_the_order():
    points = [Point("b", "x", Kind.FLAG), Point("a", "y", Kind.FLAG), Point("b", "z", Kind.FLAG)]
    grouped = by_device(points)
    assert list(grouped) == ["b", "a"]
    assert [point.name for point in grouped["b"]] == ["x", "z"]
