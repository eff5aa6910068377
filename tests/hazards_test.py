"""docs/hazards.toml: every cell filled, every row has a hazard, and every name in it exists."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from controller.core.pod import interlock_rows
from docs.generate import row_kind
from hil.scenarios.model import every
from tests.core.model import reference_plan

ROOT = Path(__file__).parent.parent
HAZARDS: dict[str, Any] = tomllib.loads((ROOT / "docs/hazards.toml").read_text())
CELLS = {"fault": str, "hazard": str, "tests": list, "invariants": list, "scenarios": list}


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("item", HAZARDS["hazard"], ids=lambda item: item.get("fault", "?"))
def test_every_cell_is_filled_and_exists(item: dict[str, Any]) -> None:
    assert set(item) == set(CELLS)
    for cell, sort in CELLS.items():
        assert isinstance(item[cell], sort), cell
        assert item[cell], f"{item['fault']}: no {cell}"
    for name in item["tests"]:
        path, _, test = name.partition("::")
        assert test in functions(ROOT / "tests" / path), f"{item['fault']}: no test {name}"
    known = {scenario.id for scenario in every()}
    assert set(item["scenarios"]) <= known
    assert all(1 <= number <= 16 for number in item["invariants"])


def test_every_named_invariant_exists() -> None:
    found = functions(ROOT / "tests/sim/invariants.py")
    named = {number for item in HAZARDS["hazard"] for number in item["invariants"]}
    assert {f"invariant_{number:02d}" for number in named} <= found


def test_every_row_belongs_to_one_hazard_and_has_words() -> None:
    rows = interlock_rows(reference_plan().pod)
    faults = [item["fault"] for item in HAZARDS["hazard"]]
    assert len(faults) == len(set(faults))
    assert {row.fault for row in rows} == set(faults), "a class without rows, or rows without a class"
    assert {row_kind(row.id) for row in rows} == set(HAZARDS["when"])


def test_every_row_has_a_unit_test_of_its_own() -> None:
    from tests.core.fault_rows_test import CASES, SEEN_OVER_TIME

    tested = {row_kind(case.row) for case in CASES} | {row_kind(name) for name in SEEN_OVER_TIME}
    assert {row_kind(row.id) for row in interlock_rows(reference_plan().pod)} == tested
