"""The documents say what is so: generated parts are up to date, links lead somewhere, commands run."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from controller.core.modes import StartupTimes
from controller.core.postures import POSTURES

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
DECISION_LINES_MAX = 40
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NEED_NO_BENCH = ("podkeeper check", "python docs/generate.py")
NOT_RUN_HERE = ("make demo", "make test", "source ")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without code blocks and code spans."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=100)


def quick_start() -> list[str]:
    section = README.read_text().partition("## Quick start")[2].partition("\n## ")[0]
    block = re.search(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert block
    return [line.partition("  #")[0].strip() for line in block[1].splitlines()]


def test_generated_parts_are_up_to_date() -> None:
    done = run("python", "docs/generate.py", "--check")
    assert done.returncode == 0, f"run `make docs`:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


@pytest.mark.parametrize("path", DECISIONS, ids=named)
def test_a_decision_is_short_and_whole(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= DECISION_LINES_MAX
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert re.match(rf"# {path.name[:4]} \w", text)


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [path.name[:4] for path in DECISIONS] == [f"{number:04}" for number in range(1, len(DECISIONS) + 1)]


def test_the_quick_start_is_known_to_this_test() -> None:
    assert all(line.startswith((*NEED_NO_BENCH, *NOT_RUN_HERE)) for line in quick_start())


@pytest.mark.parametrize("command", [line for line in quick_start() if line.startswith(NEED_NO_BENCH)])
def test_a_command_of_the_quick_start_runs(command: str) -> None:
    done = run(*shlex.split(command))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_path_of_the_map_is_there() -> None:
    section = README.read_text().partition("## Map")[2].partition("\n## ")[0]
    paths = re.findall(r"`([^`\s]+/[^`\s]*)`", section)
    assert len(paths) >= 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_operating_names_every_time_of_the_start_up_and_every_mode() -> None:
    text = re.sub(r"<!-- generated.*?<!-- end -->", "", (DOCS / "operating.md").read_text(), flags=re.DOTALL)
    assert not [item.name for item in dataclasses.fields(StartupTimes) if f"`startup.{item.name}`" not in text]
    assert not [mode for mode in POSTURES if f"| `{mode}` |" not in text]


def test_every_run_time_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.split(r"[<>=]", dependency)[0] for dependency in project["dependencies"]]
    assert not [name for name in names if f"| {name} |" not in README.read_text()]
