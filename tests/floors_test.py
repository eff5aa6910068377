"""The floors are a failing check: an impure import planted in the core is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINT = Path(sys.executable).parent / "lint-imports"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("controller", "hil"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([LINT, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False, timeout=100)


def test_the_tree_as_it_is_keeps_its_floors(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("controller/core/loops.py", "import time", "Core is pure"),
        ("controller/core/blocks.py", "from controller.core import engine", "Floors inside core"),
        ("controller/console/screens.py", "from controller.northbound import native", "Floors of the service"),
        ("controller/config/plan.py", "import hil", "The controller never imports the bench"),
    ],
)
def test_a_planted_import_breaks_its_contract(tree: Path, file: str, line: str, contract: str) -> None:
    path = tree / file
    path.write_text(path.read_text() + f"\n{line}\n")
    done = lint(tree)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout
