"""Points and readings: what others rely on without asking, defaults too."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple, get_args

import pytest

from controller.core.points import (
    NEVER_READ,
    USABLE,
    Kind,
    Point,
    Quality,
    Reading,
    Value,
    bad,
    good,
    points_of,
    record,
)

SPEED = Point("pump_1", "speed", Kind.NUMBER)


class Ids(NamedTuple):
    running: str
    speed: str


def test_points_of_a_device_are_named_by_the_fields_asked_for() -> None:
    assert points_of("pump_1", Ids) == Ids(running="pump_1.running", speed="pump_1.speed")


def test_names_that_leave_the_controller() -> None:
    """Qualities are published and kinds are told by ``podkeeper check``: renaming one is a change of contract."""
    assert {quality.name: quality.value for quality in Quality} == {
        "GOOD": "good", "STALE": "stale", "BAD": "bad", "FORCED": "forced",
    }  # fmt: skip
    assert {kind.name: kind.value for kind in Kind} == {
        "NUMBER": "number", "FLAG": "flag", "CODE": "code", "BITS": "bits", "TEXT": "text",
    }  # fmt: skip


def test_a_point_says_nothing_that_its_profile_does_not() -> None:
    assert dataclasses.astuple(SPEED) == (
        "pump_1", "speed", Kind.NUMBER, "", None, None, True, False, False, 5.0, None, {}, 0.0, "",
    )  # fmt: skip
    assert SPEED.id == "pump_1.speed"
    assert SPEED.texts is not Point("pump_2", "speed", Kind.NUMBER).texts


def test_a_point_stays_as_it_was_loaded() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(SPEED, dataclasses.fields(SPEED)[0].name, "pump_2")
    assert not hasattr(SPEED, "__dict__")


@pytest.mark.parametrize("quality", Quality)
def test_only_good_and_forced_readings_may_be_used(quality: Quality) -> None:
    assert Reading(1.0, quality, 0.0).usable == (quality in USABLE) == (quality in (Quality.GOOD, Quality.FORCED))


def test_readings_are_small_and_compare_by_what_they_hold() -> None:
    reading = good(21.5, 7.0)
    assert (reading.value, reading.quality, reading.at, reading.reason) == (21.5, Quality.GOOD, 7.0, "")
    assert {reading, Reading(21.5, Quality.GOOD, 7.0), good(21.5, 8.0)} == {reading, good(21.5, 8.0)}
    assert not hasattr(reading, "__dict__"), "thousands are made in each scan"


def test_types_are_told_to_the_type_checker() -> None:
    """At run time a record is not frozen, so mypy must be told that it is."""
    told = vars(record)["__dataclass_transform__"]
    assert {**told, **told["kwargs"]}["frozen_default"] is True, "Python 3.11 keeps it among the others"
    assert get_args(Value) == (float, int, bool, str)


def test_a_bad_reading_has_a_reason_and_no_value() -> None:
    reading = bad("sensor failed", 7.0)
    assert (reading.value, reading.quality, reading.at, reading.reason) == (None, Quality.BAD, 7.0, "sensor failed")


def test_what_was_never_read_is_older_than_anything() -> None:
    assert (NEVER_READ.value, NEVER_READ.quality, NEVER_READ.reason) == (None, Quality.STALE, "never read")
    assert NEVER_READ.at == -math.inf
