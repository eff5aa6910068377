"""The measurements: all are there, their lines are valid, one runs from end to end. Never how fast anything is."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from controller.fieldbus import frames
from controller.fieldbus.client import RtuLink, made
from hil.bench import dead_units, plans, poll_cost, report, rtu_map, schedulability, wrong_values
from hil.bench.__main__ import MEASUREMENTS, taken
from hil.bench.child import Child
from hil.bench.faulty import serve
from hil.bench.master import run
from hil.bench.result import Missing, Result, rounded
from hil.bench.slave import Line, served, use
from hil.wire.rtu import Exchange

ROOT = Path(__file__).parents[2]
KEYS = ["name", "params", "value", "bar", "ok", "detail"]
NAMES = {
    "rtu-utilisation", "rtu-map", "poll-cost", "wrong-values", "dead-units", "write-latency", "schedulability",
    "tcp-rate", "fuzz-replies", "command-fuzz", "publish-cost", "fleet", "dsx-conformance", "plant-speed",
    "load-step", "scan-speed", "line-timing", "reaction", "broker-kills", "outage",
}  # fmt: skip


def test_every_measurement_is_listed() -> None:
    assert set(MEASUREMENTS) == NAMES


@pytest.mark.parametrize(
    ("value", "bar", "ok"),
    [
        (0.98, ">= 0.98", True),
        (0.979, ">= 0.98", False),
        (0.0, "== 0", True),
        (1.0, "== 0", False),
        (1.05, "<= 1.05", True),
        (None, "<= 1.05", False),
        (3.0, "", True),
    ],
)
def test_a_value_is_held_to_its_bar(value: float | None, bar: str, ok: bool) -> None:
    assert Result("x", {}, value, bar).ok is ok


def test_a_line_is_json_with_its_six_keys() -> None:
    line = Result("x", {"figure": "f", "list": (1, 2.123456789)}, 1 / 3, "<= 1.0", {"each": [0.1]}).line()
    assert "\n" not in line
    read = json.loads(line)
    assert list(read) == KEYS
    assert read["value"] == pytest.approx(1 / 3, rel=1e-4)
    assert read["params"]["list"] == [1, 2.1235]


def test_rounding_keeps_what_is_no_float() -> None:
    assert rounded({"a": True, "b": 123456789, "c": None, "d": "x"}) == {"a": True, "b": 123456789, "c": None, "d": "x"}


def test_a_missing_program_is_told_and_fails_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(quick: bool) -> list[Result]:
        raise Missing("thing, of the Debian package thing")

    monkeypatch.setitem(MEASUREMENTS, "rtu-map", measure)  # type: ignore[arg-type]
    (result,) = taken("rtu-map", True)
    assert not result.ok
    assert "thing" in result.line()


def test_the_page_has_every_figure_and_takes_one_run_at_a_time(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    for name, value in (("b", 1.0), ("a", 0.5), ("b", 0.95)):
        found = report.runs(page)
        result = Result(name, {"figure": "f", "baud": 9600}, value, ">= 0.9", {"n": [1, 2.5]})
        found[name] = report.taken([result], quick=name == "a", seconds=3.0)
        report.write(page, found, ["a", "b", "c"])
    text = page.read_text()
    assert "| a | f, 9600 baud | 0.5 | >= 0.9 | **no** |\n| b | f, 9600 baud | 0.95 | >= 0.9 | yes |" in text
    assert "1 of the 2 figures that have a bar clear it" in text
    assert (report.runs(page)["a"].quick, report.runs(page)["b"].quick) == (True, False)


def test_a_torn_line_beside_the_page_is_measured_again(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    assert report.runs(page) == {}
    page.with_suffix(report.KEPT).write_text('{"results": [{"name"')
    assert report.runs(page) == {}


def test_legal_time_is_request_silence_device_reply_silence() -> None:
    line = Line(19200, (1,), 0.005)
    exchange = Exchange(1, 3, 8, 25, 0.0, 0.0, 0.0)
    character = 11 / 19200
    assert line.legal_s(exchange) == pytest.approx(33 * character + 2 * 3.5 * character + 0.005)


def test_use_counts_gaps_from_the_replys_end_to_the_next_request() -> None:
    line = Line(19200, (1,), 0.005)
    exchanges = [Exchange(1, 3, 8, 25, at, at + 0.026, at + 0.026) for at in (0.0, 0.0275, 0.0585)]
    found = use(line, exchanges)
    assert found.gaps_s == pytest.approx((0.0015, 0.005))
    assert found.short(line.silence_s) == 1
    assert found.wall_s == pytest.approx(0.0585)


def test_no_two_registers_that_are_read_hold_the_same() -> None:
    buses = [wrong_values.line_plan(0, "line")]
    held = wrong_values.expected(buses)
    assert len(set(held.values())) == len(held)


def test_a_wrong_value_is_seen_and_named() -> None:
    held = wrong_values.expected([wrong_values.line_plan(0, "line")])
    (one, right), (other, wrong), *_ = held.items()
    inbox = wrong_values.Checked(held)
    inbox.judge(one, right, right)
    inbox.judge(one, right, wrong)
    assert (inbox.right, inbox.wrong) == (1, 1)
    assert inbox.examples == [f"{one} got the value of {other}"]


def test_a_lost_value_leaves_a_hole() -> None:
    names = [f"d{device}/r{at}" for device in range(poll_cost.DEVICES) for at in poll_cost.ADDRESSES]
    values = [
        (float(count), name, int(name.rpartition("r")[2]) // poll_cost.STEP << poll_cost.COUNT_BITS | count)
        for name in names
        for count in range(1, 11)
    ]
    assert poll_cost.judged(values, 10.0) == (0, 10 * len(names), 0)
    assert poll_cost.judged(values[:4] + values[5:], 10.0) == (1, 10 * len(names) - 1, 0)
    moved = [(values[0][0], names[1], values[0][2]), *values[1:]]
    assert poll_cost.judged(moved, 10.0)[2] == 1


def test_the_map_is_the_public_one_or_the_profile_made_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(rtu_map.MAPS, raising=False)
    assert rtu_map.registers().source == rtu_map.OWN_MAP.name
    assert rtu_map.registers().words > 100
    public = tmp_path / rtu_map.PUBLIC_MAP
    public.parent.mkdir()
    public.write_text(json.dumps({"registers": [{"begin": 5, "length": 2}, {"begin": 9, "length": 1}]}))
    monkeypatch.setenv(rtu_map.MAPS, str(tmp_path))
    assert rtu_map.registers() == rtu_map.Registers(rtu_map.PUBLIC_MAP, ((5, 2), (9, 1)))


def test_random_buses_are_the_same_every_time_and_of_both_kinds() -> None:
    drawn = [[bus.load for bus in map(schedulability._draw, [random.Random(1)] * 20)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert min(drawn[0]) < 1 < max(drawn[0])


def test_a_healthy_units_periods_leave_out_the_dead() -> None:
    assert dead_units._periods({"unit_1.r0": [1.0, 1.5, 2.5], "unit_2.r0": [0.0, 9.0]}) == [0.5, 1.0]


def test_a_register_of_each_width_can_be_described() -> None:
    assert [plans.row(0, words).width for words in (1, 2, 3, 4)] == [1, 2, 3, 4]


async def _without_gaps(port: str, line: Line) -> None:
    """A master that ignores the silence between frames."""
    link = made(plans.serial(port, line.baud))
    await link.open()
    for _ in range(5):
        await link.exchange(frames.read(1, "holding", 0, 10), 1.0)
    await link.close()


def test_a_master_that_ignores_the_silence_makes_short_gaps() -> None:
    line = Line(19200, (1,))
    with served(line) as slaves:
        run(_without_gaps(slaves.told, line))
        assert use(line, slaves.ask("exchanges")).short(line.silence_s) == 4
        assert slaves.ask("counters")["short_gaps"] == 4


@pytest.mark.slow
def test_a_client_that_takes_late_replies_has_wrong_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours with the planted fault that no shape is ever suspect, and pymodbus's as it is; ours as it is has none."""
    for planted in (False, True):
        if planted:
            monkeypatch.setattr(RtuLink, "free_at", lambda _link, _request: 0.0)
        with Child(serve, wrong_values.Lines(16, wrong_values.UNITS, wrong_values.TIMEOUT_S)) as slaves:
            outcome = run(wrong_values._ours(slaves, 6.0, wrong_values.TRANSACTIONS))
        assert (outcome.wrong > 0) is planted, outcome
        assert outcome.transactions > 1000
    with Child(serve, wrong_values.Lines(16, wrong_values.UNITS, wrong_values.TIMEOUT_S)) as slaves:
        assert run(wrong_values._bare(slaves, 4.0)).wrong > 0


@pytest.mark.slow
def test_a_quick_run_prints_lines() -> None:
    command = [sys.executable, "-m", "hil.bench", "rtu-utilisation", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6, done.stderr
    assert all(list(line) == KEYS and line["name"] == "rtu-utilisation" for line in lines)
    assert done.returncode == (0 if all(line["ok"] for line in lines) else 1)
