"""House rules that no other tool checks: sizes, words, and what may stand in the repository."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 500
LINE_LENGTH_MAX = 120
ROOM_LINES_MAX = {"core": 8300, "fieldbus": 3400, "northbound": 4300, "console": 1500, "config": 2600, "tools": 1500}
REST_LINES_MAX = 1400
BINARY = {".png", ".svg", ".lock"}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


PYTHON = [path for path in tracked() if path.suffix == ".py"]
TEXTS = [path for path in tracked() if path.suffix not in BINARY]


def lines(path: Path) -> int:
    return path.read_text().count("\n")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PYTHON, ids=named)
def test_sizes(path: Path) -> None:
    assert lines(path) <= FILE_LINES_MAX
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    assert not {name: length for name, length in long.items() if length > FUNCTION_LINES_MAX}


def test_rooms_stay_small() -> None:
    package = ROOT / "controller"
    for room, ceiling in ROOM_LINES_MAX.items():
        assert sum(map(lines, (package / room).glob("*.py"))) <= ceiling, room
    assert sum(map(lines, package.glob("*.py"))) <= REST_LINES_MAX


@pytest.mark.parametrize("path", TEXTS, ids=named)
def test_words(path: Path) -> None:
    text = path.read_text()
    open_work = re.findall(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b(?!\(#\d+\))", text)
    assert not open_work, "open work needs the number of its issue"
    here = re.findall(r"/(?:wor" + r"k|roo" + r"t|fa" + r"rm)/\S*", text)
    assert not here, "a path of one machine"


@pytest.mark.parametrize("path", [p for p in PYTHON if "controller" in p.parts], ids=named)
def test_every_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    assert not text or ast.get_docstring(ast.parse(text))


def test_single_importers() -> None:
    """pymodbus, aiomqtt and serial each have one door."""
    doors = {
        "pymodbus": {"controller/fieldbus/client.py"},
        "aiomqtt": {"controller/northbound/link.py"},
        "serial": {"controller/serialport.py"},
    }
    for package, allowed in doors.items():
        pattern = re.compile(rf"^\s*(?:import|from) {package}\b", re.MULTILINE)
        found = {named(path) for path in PYTHON if "controller" in path.parts and pattern.search(path.read_text())}
        assert found <= allowed, package


def test_lock_files_name_no_registry() -> None:
    for lock in ROOT.glob("*.lock"):
        assert "http" not in lock.read_text()
        assert "--hash=sha256:" in lock.read_text()


def test_safety_statement_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "not a safety-rated system" in readme
    assert "EPO" in readme
