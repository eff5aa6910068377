"""The profile linter: every rule on a profile that breaks it, and the shipped profiles, which break none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.config.lint import Finding, lint
from controller.config.profile import Profile, ProfileTables, load_profile

DEVICES = Path(__file__).parents[2] / "profiles" / "devices"
TEMP: dict[str, Any] = {
    "table": "input",
    "address": 1,
    "type": "int16",
    "scale": 0.1,
    "unit": "Cel",
    "range": [-40, 80],
}
GOLDEN = {"note": "205 x 0.1", "input": {"1": [205]}, "values": {"temp": 20.5}}


def found(*, link: dict[str, Any] | None = None, **points: dict[str, Any]) -> list[Finding]:
    tables = ProfileTables.model_validate(
        {
            "vendor": "Acme",
            "model": "T1",
            "class": "sensor",
            "tier": "bronze",
            "sources": ["manual"],
            "link": {"max_read_words": 20, "device_time_ms": 20, **(link or {})},
            "comm_loss": {"reaction": "None: it only measures."},
            "points": {name: {"source": "p. 1", **row} for name, row in points.items()},
            "golden": [GOLDEN],
        }
    )
    return lint(Profile("acme_t1", tables))


def whats(findings: list[Finding]) -> str:
    return "\n".join(finding.line("acme_t1.toml") for finding in findings)


def test_a_good_profile_has_no_findings() -> None:
    assert found(temp=TEMP) == []


@pytest.mark.parametrize(
    ("row", "error", "what"),
    [
        ({"sentinels": [70000]}, True, "never occurs"),
        ({"sentinels": [-40000]}, True, "never occurs"),
        ({"deadband": 200.0}, True, "deadband wider"),
        ({"range": [4000, 5000]}, True, "never the range"),
        ({"safety": True, "rate": "slow"}, True, "read seldom"),
        ({"description": "Find out and state it before use."}, True, "left open"),
        ({"type": "text", "words": 30, "range": None, "scale": 1.0, "unit": ""}, True, "longer than one read"),
        ({"range": [-3276.8, 3276.7]}, False, "rules nothing out"),
        ({"unit": "kPa"}, False, "unusual for this name"),
        ({"confidence": "uncertain", "safety": True}, False, "prove it"),
        ({"table": "holding", "access": "rw"}, False, "nothing that proves its reaction"),
        ({"table": "holding", "access": "rw", "range": [-40, 4000]}, True, "can't be written over all its range"),
        ({"table": "holding", "access": "rw", "fail_value": 90.0}, True, "fail_value outside"),
    ],
)
def test_each_rule(row: dict[str, Any], error: bool, what: str) -> None:
    findings = [finding for finding in found(temp={**TEMP, **row}) if what in finding.what or what in finding.remedy]
    assert findings, whats(found(temp={**TEMP, **row}))
    assert {finding.error for finding in findings} == {error}


def test_a_sentinel_may_be_a_pattern_or_a_number() -> None:
    assert found(temp={**TEMP, "sentinels": [0x8000, -1]}) == []


def test_values_overlap_only_when_they_share_half_of_themselves() -> None:
    word = {"table": "holding", "address": 10, "range": [0, 9], "type": "uint32"}
    assert "overlaps" in whats(found(temp=TEMP, a=word, b={**word, "address": 11}))
    assert found(temp=TEMP, a=word, b=word) == []
    flags = {"table": "holding", "address": 10, "on": 1, "off": 0, "access": "rw"}
    assert "writes the register" in whats(found(temp=TEMP, a=flags, b=flags))
    masked = found(temp=TEMP, a={**flags, "mask": 1}, b={**flags, "on": 2, "mask": 2})
    assert "writes the register" not in whats(masked)


def test_a_barrier_does_not_stand_inside_a_value() -> None:
    word = {"table": "holding", "address": 10, "range": [0, 9], "type": "uint32"}
    assert "barrier" in whats(found(temp=TEMP, a=word, link={"barriers": [11]}))
    assert found(temp=TEMP, a=word, link={"barriers": [10]}) == []


def test_no_shipped_profile_has_an_error() -> None:
    done = CliRunner().invoke(app, ["profiles", "lint", *map(str, sorted(DEVICES.glob("*.toml")))])
    assert done.exit_code == 0, "\n".join(line for line in done.output.splitlines() if "note:" not in line)
    assert " 0 errors," in done.output.splitlines()[-1]


def test_the_command_fails_on_errors_and_goes_on_to_the_next_file(tmp_path: Path) -> None:
    broken, other = tmp_path / "broken.toml", tmp_path / "other.toml"
    broken.write_text("vendor = 3")
    text = (DEVICES / "xy_md02.toml").read_text()
    other.write_text(text.replace('reaction = "None: the', 'reaction = "Find out and state it before use. The'))
    assert load_profile(other).rows
    done = CliRunner().invoke(app, ["profiles", "lint", str(broken), str(other)])
    assert done.exit_code == 1
    assert "broken.toml: top level, vendor" in done.output
    assert "other.toml: error: comm_loss: left open" in done.output


def test_repeated_values_stay_before_their_scale_factor(tmp_path: Path) -> None:
    text = (DEVICES / "sunspec_meter_203.toml").read_text()
    path = tmp_path / "sunspec_meter_203.toml"
    path.write_text(
        text.replace(
            'repeat = { count = 3 }, source = "model_203.json AphA',
            'repeat = { count = 4 }, source = "model_203.json AphA',
        )
    )
    done = CliRunner().invoke(app, ["profiles", "lint", str(path)])
    assert done.exit_code == 1
    assert "runs past its scale factor" in done.output
