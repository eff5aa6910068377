"""Scenario files and the judging of runs: what may be written, what is told, how a verdict comes about."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.checks import Check, in_real_time, statistic, verdict
from hil.perform import timeline
from hil.runs import REAL_JOBS, chosen
from hil.scenarios.model import Scenario, ScenarioError, every, find, read

FAMILIES = {"A": 8, "B": 6, "C": 6, "D": 4, "E": 6, "F": 5, "G": 3, "H": 2}
LEAST = """
id = "B1"
name = "some-name"
family = "B"
text = "What happens, in words."
seconds = 30
[[event]]
at = 0
fault = "pump.trip"
target = "pump_1"
[[expect]]
channel = "flow_pct"
statistic = "min"
at_least = 90
"""


def test_all_forty_and_the_other_fault_classes_are_there() -> None:
    scenarios = every()
    for family, count in FAMILIES.items():
        assert [s.id for s in scenarios if s.family == family] == [f"{family}{n + 1}" for n in range(count)]
    assert sum(s.family == "S" for s in scenarios) >= 8
    assert {s.family for s in scenarios if s.real} >= set("ABCDEFGH"), "the real-time selection has each family"
    assert all(s.fast for s in scenarios if s.id not in ("E5", "E6"))


def test_real_time_selection_fits_its_time() -> None:
    lead_s, tail = 45.0, 1.1  # a warm start and the take-over; lanes that do not end together
    whole_s = sum(s.seconds + s.settle_s + lead_s for s in chosen([], fast=False, everything=False))
    assert whole_s * tail / REAL_JOBS < 24.5 * 60


def test_selection_by_name_and_body() -> None:
    assert [s.id for s in chosen(["pump-trip-run-3", "E3"], fast=True, everything=False)] == ["B1", "E3"]
    assert not any(s.long for s in chosen([], fast=True, everything=False))
    assert {s.id for s in chosen([], fast=False, everything=True)} == {s.id for s in every()}
    with pytest.raises(ScenarioError, match="can't run in virtual time"):
        chosen(["E6"], fast=True, everything=False)
    with pytest.raises(ScenarioError, match=r"no scenario 'Z9'; there are: A1 cold-start"):
        find("Z9", every())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("seconds = 30", "seconds = 3", "seconds: Input should be greater than or equal to 5"),
        ("seconds = 30", 'seconds = 30\nspeed = "x"', "speed: Extra inputs are not permitted"),
        ('id = "B1"', 'id = "C1"', "id C1 is not of family B"),
        ("pump.trip", "pump.hop", "event.0: .*no fault 'pump.hop'; there are: pump.trip"),
        ('target = "pump_1"', 'target = "pump_1"\nvalue = 3', "takes no value"),
        ("at = 0", "at = 31", "comes after the end at 30 s"),
        ("at = 0", "at = 9\nuntil = 8", "until = 8 is not after at = 9"),
        ("at_least = 90", "", "needs at_most or at_least"),
        ("at_least = 90", 'at_least = 90\nmode = "NORMAL"', "2 of channel, mode"),
        ('statistic = "min"', 'statistic = "least"', "expect.0.statistic: Input should be 'max', 'min'"),
        ('fault = "pump.trip"\ntarget = "pump_1"', 'fault = "broker.down"', "can't be made in virtual time"),
        ("at_least = 90", "at_least = 90\n[common]\nflood = {}", "needs relax or known"),
        ("at_least = 90", 'at_least = 90\n[common]\nmood = { relax = "x" }', "common.mood"),
        ("at = 0", "at = = 0", "Invalid value"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_file_and_key(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in LEAST
    path = tmp_path / "b1.toml"
    path.write_text(LEAST)
    assert read(path).id == "B1"
    path.write_text(LEAST.replace(old, new, 1))
    with pytest.raises(ScenarioError, match=told) as caught:
        read(path)
    assert "b1.toml" in str(caught.value)


def test_two_of_one_id_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(LEAST.replace("some-name", name + "-x"))
    with pytest.raises(ScenarioError, match="id B1 is there twice"):
        every(tmp_path)


def test_timeline_ends_before_it_begins_at_one_moment() -> None:
    scenario = find("D4", every())
    moments = timeline(scenario)
    assert moments == sorted(moments)
    jumps = timeline(find("E4", every()))
    assert [(at, begins) for at, begins, _ in jumps] == [(10, True), (40, False), (40, True), (70, False), (70, True)]


@pytest.mark.parametrize(
    ("ok", "known", "found"),
    [(True, "", "pass"), (False, "", "fail"), (False, "a cap", "known"), (True, "a cap", "fail")],
)
def test_mark_is_strict(ok: bool, known: str, found: str) -> None:
    check = Check("x", 1.0, "at most 1", ok=ok, known=known)
    assert check.verdict == found
    assert verdict([Check("y", None, "", ok=True), check]) == found
    assert verdict([Check("y", None, "", ok=False), check]) == "fail"
    assert in_real_time(check).verdict == ("pass" if ok else found)


def test_statistics() -> None:
    times, values = [0.0, 1.0, 2.0, 3.0], [0.0, 2.0, -4.0, 1.0]
    wanted = {
        "max": 2.0, "min": -4.0, "peak": 4.0, "final": 1.0, "mean": -0.25, "rms": math.sqrt(21 / 4),
        "integral": 1.0 + 3.0 + 2.5, "rises": 2.0, "travel": 0.13, "steepest": 5.0, "seconds_above": 1.0,
        "sd": math.sqrt((0.25**2 + 2.25**2 + 3.75**2 + 1.25**2) / 4),
    }  # fmt: skip
    for name, figure in wanted.items():
        assert statistic(times, values, name, 0.5) == pytest.approx(figure), name


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_statistics_lie_within_the_samples(values: list[float]) -> None:
    times = [0.2 * index for index in range(len(values))]
    low, high = min(values) - 1e-6, max(values) + 1e-6
    assert low <= statistic(times, values, "mean", 0) <= high
    assert statistic(times, values, "peak", 0) <= max(abs(low), abs(high))
    assert statistic(times, values, "rms", 0) <= max(abs(low), abs(high)) + 1e-6


def test_known_marks_are_words_for_the_list_of_the_control() -> None:
    marks = {mark for scenario in every() for mark in scenario.marks}
    assert marks
    assert all(8 < len(mark) < 90 for mark in marks)


def test_model_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        find("B1", every()).seconds = 3.0  # type: ignore[misc]
    assert isinstance(every()[0], Scenario)
