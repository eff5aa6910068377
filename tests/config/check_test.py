"""Every kind of mistake is told with its file, table and key; a correct file gives its plan on one page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from controller.config.plan import load_plan, without
from controller.config.problems import ConfigError

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BOX = ROOT / "profiles/enclosures/two-rack-box.toml"
CONTAINER = ROOT / "profiles/enclosures/air-container.toml"
REFERENCE = ROOT / "profiles/enclosures/reference-pod.toml"
BROKEN = sorted((HERE / "broken").glob("*.toml"))


def expected(path: Path) -> tuple[str, str, str, str]:
    first = path.read_text().splitlines()[0]
    file, table, key, remedy = (part.strip() for part in first.removeprefix("# expect:").split("|"))
    return file, table, key, remedy


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_file_names_its_place(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    file, table, key, remedy = expected(path)
    found = [(p.file, p.table, p.key, p.remedy) for p in caught.value.problems]
    assert any((f, t, k) == (file, table, key) and remedy in r for f, t, k, r in found), found


def test_there_are_enough_broken_files() -> None:
    assert len(BROKEN) >= 25


def test_an_overlay_with_one_mistake_tells_one() -> None:
    """The base is correct, so nothing else may be blamed."""
    texts = {path: path.read_text() for path in BROKEN if path.stem[:2] not in ("30", "31")}
    alone = [path for path, text in texts.items() if "reference-pod.toml" in text and "profiles_dir" not in text]
    for path in alone:
        with pytest.raises(ConfigError) as caught:
            load_plan(path)
        assert len(caught.value.problems) == 1, caught.value


def test_a_figure_left_out_is_told_while_its_equipment_is_there(tmp_path: Path) -> None:
    """What may be absent is not optional: the file has it, or says that it has nothing of the sort."""
    text = REFERENCE.read_text().replace('profiles_dir = "../devices"', f'profiles_dir = "{ROOT / "profiles/devices"}"')
    for line, table, key in (
        ("chiller_capacity_kw = 650.0\n", "fws", "chiller_capacity_kw"),
        ("battery_stop_pct = 15.0\n", "protection", "battery_stop_pct"),
        ('chillers = ["chiller_1", "chiller_2"]\n', "fws", "chillers"),
        ('level = ["io_1.reservoir_level"]\n', "protection", "level"),
        ('suction_pressure = "io_1.suction_pressure"\n', "tcs", "suction_pressure"),
        ("fill_pressure_kpa = 50.0\n", "startup", "fill_pressure_kpa"),
    ):
        assert text.count(line) == 1
        site = tmp_path / "site.toml"
        site.write_text(text.replace(line, ""))
        with pytest.raises(ConfigError) as caught:
            load_plan(site)
        found = {(problem.table, problem.key, "not given" in problem.remedy) for problem in caught.value.problems}
        assert (table, key, True) in found, line


def test_every_mistake_at_once(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(
        f'base = "{REFERENCE}"\n[scan]\nperiod_ms = 1\n[links.native]\nport = 0\n[tcs]\nflow = "io_1.nothing"\n'
        '[devices.pump_1]\nprofile = "nothing"\n[devices.pump_2]\nbus = "nothing"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load_plan(site)
    places = {(problem.table, problem.key) for problem in caught.value.problems}
    assert places == {
        ("scan", "period_ms"),
        ("links.native", "port"),
        ("tcs", "flow"),
        ("devices.pump_1", "profile"),
        ("devices.pump_2", "bus"),
    }


def podkeeper(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from controller.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)


def test_command_line_prints_the_plan() -> None:
    done = podkeeper("check", str(REFERENCE))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^cooling +\S+ 19200 +4 ", done.stdout, re.MULTILINE)
    assert re.search(r"^all +40 ", done.stdout, re.MULTILINE)
    assert len(done.stdout.splitlines()) <= 60
    assert max(map(len, done.stdout.splitlines())) <= 140


@pytest.mark.parametrize("name", ["24_not_toml", "27_empty", "31_profile_has_mistakes"])
def test_command_line_never_shows_a_traceback(name: str) -> None:
    path = HERE / "broken" / f"{name}.toml"
    done = podkeeper("check", str(path))
    file, _, key, remedy = expected(path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert f"{file}: " in done.stderr
    assert key in done.stderr
    assert remedy in done.stderr


@pytest.mark.parametrize("command", [("check",), ("run", "--config")])
def test_overloaded_bus_is_refused(tmp_path: Path, command: tuple[str, ...]) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'base = "{REFERENCE}"\n[buses.cooling]\nbaud = 1200\nwrite_budget_ms = 250\n')
    done = podkeeper(*command, str(site))
    assert done.returncode == 1
    assert done.stdout == ""
    first, *rows = done.stderr.splitlines()
    assert re.match(
        r"site\.toml: \[buses\.cooling\] load = \d{3} %: up to \S+ s of work in \S+ s; read less often", first
    )
    row = r"site\.toml: \[buses\.cooling\] \w+\.\w+( and \d+ more)? = every \S+ s: "
    assert rows
    assert all(re.match(row, line) for line in rows)


def test_a_value_longer_than_the_write_budget_is_refused(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'base = "{REFERENCE}"\n[buses.feed_1a]\nwrite_budget_ms = 5\n')
    done = podkeeper("check", str(site))
    assert done.returncode == 1
    assert re.fullmatch(
        r"site\.toml: \[buses\.feed_1a\] write_budget_ms = 5: pdu_1a\.\w+, which .* 11 ms to read; .*\n", done.stderr
    )


def test_best_effort_groups_are_stretched_and_the_page_says_so(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'base = "{REFERENCE}"\n[rates]\nfast_s = 0.62\n[buses.cooling]\nbaud = 9600\n')
    done = podkeeper("check", str(site))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^cooling: too full for its rates; best effort: slow every 3\d\.\d s$", done.stdout, re.MULTILINE)
    site.write_text(f'base = "{REFERENCE}"\n[rates]\nbest_effort = []\n[buses.cooling]\nbaud = 9600\n')
    assert podkeeper("check", str(site)).returncode == 1


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 5000, b"x" * 1_000_001, b"schema = 1\nschema = 1\n"])
def test_rubbish_is_a_mistake_like_any_other(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rubbish.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_plan(path)
    assert caught.value.problems[0].file == "rubbish.toml"


def test_check_says_what_an_enclosure_does_without() -> None:
    pages = {path: podkeeper("check", str(path)) for path in (BOX, REFERENCE)}
    assert all(done.returncode == 0 for done in pages.values())
    lines = [line for line in pages[BOX].stdout.splitlines() if line.startswith("without ")]
    assert lines == [
        "without fws.chillers, so without: chiller_lost",
        "without protection.battery_soc, so without: battery_low, battery_reserve, battery_end",
    ]
    assert "without fws" not in pages[REFERENCE].stdout
    container = list(without(load_plan(CONTAINER).pod))
    assert "without *.leak at 8 of 8 racks, so without: wet_*, leak_sure_*, leak_*" in container
    assert "without tcs.suction_pressure, so without: suction_pressure_low, suction_pressure_lost" in container
    assert len(container) == 11
