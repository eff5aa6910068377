"""Mutation testing of the core's protective files: does any test notice when one token of them is wrong?

mutmut 2.5.1 makes the mutants; each runs in a fork of a process that holds everything but the mutated module, so one
costs what its tests cost. What differs in annotations alone is not counted: nothing runs it, mypy judges it.
How to run it, and the figures: docs/mutation.md. mutmut is no dependency of the product; its folder is on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib.abc
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
CORE = ROOT / "controller/core"
KEPT = ROOT / "build/mutation"  # which mutants lived, so that --survivors tries these alone
OPTIONS = (  # a test that takes half a minute is in a loop that a mutant made
    "-x", "-q", "-p", "no:cacheprovider", "--assert=plain", "-o", "timeout=30", "--hypothesis-seed=0",
)  # fmt: skip
TESTS = {
    "points": ("points",),
    "commands": ("commands",),
    "slots": ("slots_edges", "slots"),
    "authority": ("authority_edges", "authority_follow"),
    "interlocks": ("interlocks_edges", "interlocks", "gate"),
    "alarms": ("alarms_edges", "alarms"),
    "alarm_states": ("alarm_rules", "alarms", "alarm_states"),
    "alarm_watch": ("alarm_rules", "alarm_states"),
    "alarm_load": ("alarm_load",),
    "alarm_rows": ("alarm_rows",),
}


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives out one module with other source than its file has."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, fullname: str, path: object, target: object = None) -> object:
        return importlib.util.spec_from_loader(fullname, self, origin=str(self.path)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.source, str(self.path), "exec", dont_inherit=True), module.__dict__)


def executed(source: str) -> str:
    """Return what of ``source`` is ever executed, as text to compare: without annotations."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.dump(tree)


def mutants(source: str) -> Iterator[tuple[str, str]]:
    """Yield the place (line and number on it) and the source of each mutant."""
    from mutmut import Context, list_mutations, mutate

    plain = executed(source)
    for at in list_mutations(Context(source=source, filename="x")):
        mutated, _ = mutate(Context(source=source, filename="x", mutation_id=at))
        try:
            if executed(mutated) != plain:
                yield f"{at.line_number + 1}.{at.index}", mutated
        except SyntaxError:
            continue


def dies(finder: Mutated, tests: Sequence[str]) -> bool:
    """Run ``tests`` on one mutant in a process of its own; return whether any fails."""
    child = os.fork()
    if child == 0:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        sys.meta_path.insert(0, finder)
        os._exit(int(pytest.main([*OPTIONS, *tests]) != 0))
    return os.waitpid(child, 0)[1] != 0


def dependents(module: str) -> set[str]:
    """Return ``module`` and every loaded module of this repository that imports it, by whatever way round."""
    imports: dict[str, set[str]] = {}
    for name in [name for name in sys.modules if name.startswith(("controller", "tests."))]:
        found = imports[name] = set()
        file = sys.modules[name].__file__
        for node in ast.walk(ast.parse(Path(file).read_text())) if file else ():
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    reached, size = {module}, 0
    while size < len(reached):
        size = len(reached)
        reached |= {name for name, found in imports.items() if not found.isdisjoint(reached)}
    return reached


def load(module: str, tests: Sequence[str]) -> None:
    """Load once for all what every fork needs to run ``tests``, but for ``module`` and what is made of it."""
    if pytest.main([*OPTIONS, *tests]) != 0:
        sys.exit(f"{module}: its tests fail without any mutant")
    for name in dependents(module):
        sys.modules.pop(name, None)
        parent, _, child = name.rpartition(".")
        if parent in sys.modules and hasattr(sys.modules[parent], child):
            delattr(sys.modules[parent], child)


def examine(name: str, *, survivors: bool) -> int:
    """Try every mutant of one file; print and keep those that live; return how many."""
    path, module = CORE / f"{name}.py", f"controller.core.{name}"
    source, kept = path.read_text(), KEPT / f"{name}.json"
    tests = [str(ROOT / f"tests/core/{test}_test.py") for test in TESTS[name]]
    load(module, tests)
    if dies(Mutated(module, path, source), tests):
        sys.exit(f"{name}: its tests fail in a fork")
    again = json.loads(kept.read_text()) if survivors else None
    lived, tried = [], 0
    for place, mutated in mutants(source):
        if again is not None and place not in again:
            continue
        tried += 1
        if not dies(Mutated(module, path, mutated), tests):
            lived.append(place)
            changed = difflib.unified_diff(source.splitlines(), mutated.splitlines(), n=0, lineterm="")
            print(place, *list(changed)[3:], sep="\n  ", flush=True)
    print(f"{name}: {tried} mutants, {tried - len(lived)} killed, {len(lived)} live", flush=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(lived))
    return len(lived)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TESTS), metavar="file", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--survivors", action="store_true", help="only those that lived the last time")
    asked = parser.parse_args()
    for each in asked.names:
        examine(each, survivors=asked.survivors)
