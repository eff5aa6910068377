"""Single points: what is read, what is written, and how honest the outcome is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.config.plan import DevicePlan, PointPlan, load_plan
from controller.config.profile import Row
from controller.core.points import Quality
from controller.fieldbus.lane import Denied
from controller.fieldbus.writes import Fate
from controller.tools import points
from controller.tools.points import ToolError, read_point, value_of, write_point
from hil.bench import plans
from hil.runner import REFERENCE_POD
from hil.wire.rtu import RtuLine
from tests.fieldbus.rig import Memory, serial_line, served, settings
from tests.tools.access_test import way

ROWS: Mapping[str, Row] = {
    "temperature": plans.row(100, type="int16", scale=0.1, unit="Cel", range=[-40, 80], sentinels=[0x8000]),
    "energy": plans.row(101, 2),
    "state": plans.row(103, enum={"1": "idle", "3": "runs"}, range=None),
    "alarms": plans.row(104, bits={"0": "hot", "9": "dry"}, range=None),
    "limit": plans.row(110, scale=0.5, range=[0, 100], access="rw", unit="%"),
    "enable": plans.row(111, on=0x0004, off=0, mask=0x0004, access="rw", range=None),
    "drive": plans.row(112, on=[0x0406, 0x0407, 0x040F], off=0x0400, access="rw", step_wait_s=0.01, range=None),
    "reset": plans.row(113, range=[0, 1], access="w"),
    "choice": plans.row(114, enum={"1": "idle", "3": "runs"}, access="rw", range=None),
    "absent": plans.row(900),
}


@pytest.fixture
def unit() -> Memory:
    words = dict.fromkeys(range(100, 120), 0)
    return Memory(words | {100: 0x10000 - 205, 101: 1, 102: 2, 103: 3, 104: 0x0201, 111: 0xAB00, 112: 0x0400})


def dev() -> DevicePlan:
    return plans.device("dev", 1, ROWS, device_time_s=0.001)


def point(name: str) -> PointPlan:
    return next(plan for plan in dev().points if plan.point.name == name)


async def done(line: RtuLine, tmp_path: Path, name: str, value: Any) -> points.Written:
    async with way("direct", line, tmp_path) as (access, _):
        return await write_point(access, dev(), point(name), value)


async def test_what_is_read_is_told_with_its_quality_and_its_words(unit: Memory, tmp_path: Path) -> None:
    async with serial_line({1: unit}, tmp_path) as line, way("direct", line, tmp_path) as (access, _):
        seen = [await read_point(access, dev(), point(name)) for name in ("temperature", "energy", "state", "alarms")]
        assert [one.reading.value for one in seen] == [pytest.approx(-20.5), 65538, 3, 0x0201]
        assert seen[0].line() == (
            "dev.temperature  -20.5 Cel  GOOD  words 0xFF33  [holding 100 int16 x 0.1 Cel; dev, line unit 1]"
        )
        assert "runs (3)" in seen[2].line()
        assert "hot, dry" in seen[3].line()
        unit.words[100] = 0x8000
        bad = await read_point(access, dev(), point("temperature"))
        assert bad.reading.quality is Quality.BAD
        assert "-  BAD (the device says it has no value)  words 0x8000" in bad.line()
        absent = await read_point(access, dev(), point("absent"))
        assert absent.reading.quality is Quality.BAD
        assert "exception 2" in absent.line()
        with pytest.raises(ToolError, match="can only be written"):
            await read_point(access, dev(), point("reset"))


async def test_a_write_is_verified_in_the_words_that_were_sent(unit: Memory, tmp_path: Path) -> None:
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "limit", 25.0)
        assert (written.outcome, written.words, written.found) == (Fate.VERIFIED, [50], [50])
        assert written.line() == "dev.limit  verified  words 0x0032  read back 0x0032"


async def test_a_device_that_keeps_another_value_is_a_mismatch(unit: Memory, tmp_path: Path) -> None:
    unit.held[110] = 40
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "limit", 25.0)
        assert (written.outcome, written.found) == (Fate.MISMATCH, [40])
        assert "the device holds 20 %" in written.line()


async def test_a_flag_leaves_the_bits_of_others_alone_and_compares_its_own(unit: Memory, tmp_path: Path) -> None:
    unit.held[111] = 0x1204  # the other bits move by themselves
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "enable", True)
        assert unit.writes == [(111, [0xAB04])]
        assert written.outcome == Fate.VERIFIED
        unit.held[111] = 0xAB00
        assert (await done(line, tmp_path, "enable", True)).outcome == Fate.MISMATCH


async def test_a_sequence_is_written_word_by_word_and_not_again_when_it_stands(unit: Memory, tmp_path: Path) -> None:
    async with serial_line({1: unit}, tmp_path) as line:
        assert (await done(line, tmp_path, "drive", True)).outcome == Fate.VERIFIED
        assert unit.writes == [(112, [0x0406]), (112, [0x0407]), (112, [0x040F])]
        unit.writes.clear()
        assert (await done(line, tmp_path, "drive", True)).outcome == Fate.VERIFIED
        assert unit.writes == [(112, [0x040F])]


async def test_what_can_not_be_read_back_is_written_and_no_more(unit: Memory, tmp_path: Path) -> None:
    async with serial_line({1: unit}, tmp_path) as line:
        assert (await done(line, tmp_path, "reset", 1)).outcome == Fate.WRITTEN


async def test_a_write_that_the_device_refuses(unit: Memory, tmp_path: Path) -> None:
    unit.refusal = 3
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "limit", 25.0)
        assert (written.outcome, written.why) == (Fate.REFUSED, "exception 3 (illegal data value)")


async def test_a_write_without_echo_is_expired_or_proven_by_what_stands(unit: Memory, tmp_path: Path) -> None:
    unit.silent = True
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "limit", 25.0)
        assert written.outcome == Fate.EXPIRED
        assert "no echo" in written.why
        assert "not read back" in written.why
        assert (await done(line, tmp_path, "reset", 1)).outcome == Fate.EXPIRED


async def test_a_write_that_takes_too_long_is_expired(
    unit: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(points, "WRITE_MAX_S", 0.05)
    async with serial_line({1: unit}, tmp_path) as line:
        written = await done(line, tmp_path, "limit", 25.0)
        assert (written.outcome, written.why) == (Fate.EXPIRED, "not done within 0 s")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("limit", 100.5, "100.5 is outside 0 to 100"),
        ("limit", float("nan"), "not a number"),
        ("temperature", 5.0, "can only be read"),
        ("choice", 2.0, "not one of"),
    ],
)
async def test_nothing_is_written_that_the_profile_does_not_allow(
    unit: Memory, tmp_path: Path, name: str, value: float, why: str
) -> None:
    async with serial_line({1: unit}, tmp_path) as line:
        with pytest.raises(ToolError, match=why):
            await done(line, tmp_path, name, value)
        assert line.counters.requests == 0


async def test_the_service_refuses_before_anything_goes_out(unit: Memory, tmp_path: Path) -> None:
    rows = {name: row for name, row in ROWS.items() if name != "absent"}
    async with serial_line({1: unit}, tmp_path) as line:
        device = plans.device("dev", 1, rows, period_s=0.1, device_time_s=0.001)
        async with served(plans.bus(settings(line), [device]), tmp_path) as host:
            host.owned = frozenset({"dev.enable"})
            access = points_access(host.path)
            await access.open()
            with pytest.raises(Denied, match="output of the control"):
                await write_point(access, device, point("enable"), True)
            assert (await write_point(access, device, point("limit"), 30.0)).outcome == Fate.VERIFIED
            await access.close()
            assert unit.writes == [(110, [60])]


def points_access(path: Path) -> Any:
    from controller.tools.access import Through

    return Through(path, "line")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("enable", "on", True), ("enable", "OFF", False), ("limit", "25.5", 25.5), ("limit", "0x10", 16),
        ("choice", "runs", 3), ("choice", "3", 3.0),
    ],
)  # fmt: skip
def test_a_value_is_understood_as_it_is_shown(name: str, text: str, value: Any) -> None:
    assert value_of(point(name), text) == value


@pytest.mark.parametrize(("name", "text"), [("enable", "maybe"), ("limit", "much"), ("choice", "walks"), ("limit", "")])
def test_a_value_that_means_nothing_is_refused(name: str, text: str) -> None:
    with pytest.raises(ToolError, match=rf"dev.{name} = {text}: allowed:"):
        value_of(point(name), text)


def test_names_are_found_or_the_nearest_is_told() -> None:
    plan = load_plan(REFERENCE_POD)
    device, found = points.point_of(plan, "pump_1.speed")
    assert (device.name, found.point.id) == ("pump_1", "pump_1.speed")
    with pytest.raises(ToolError, match=r"no such point: pump_1.sped; nearest is pump_1.speed"):
        points.point_of(plan, "pump_1.sped")
    with pytest.raises(ToolError, match="no such device: pmp_1; nearest is pump_1"):
        points.point_of(dataclasses.replace(plan), "pmp_1.speed")
