"""Plants bugs, one at a time, and says who finds each: ``python -m tests.sim.mutants``. The list is mutants.toml.

A bug goes into a copy of the controller that comes first on the import path; bench and tests stay as they are.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("mutants.toml")
KILLED_BY_SIM_MIN = 38
RUNS, MINUTES, SEED = 64, 8.0, 1
SIM_MAX_S, SUITE_MAX_S = 1800.0, 3600.0
SUITE = ("tests/core", "tests/hil/scenario_virtual_test.py", "tests/northbound", "tests/service_test.py")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One bug: in ``file`` of controller/core the text ``find`` becomes ``put``."""

    id: str
    file: str
    find: str
    put: str

    def planted(self, controller: Path) -> None:
        path = controller / "core" / self.file
        text = path.read_text()
        if text.count(self.find) != 1:
            raise ValueError(f"{self.id}: {self.file} has {text.count(self.find)} times {self.find!r}; allowed: once")
        path.write_text(text.replace(self.find, self.put))


def every(path: Path = LIST) -> list[Mutant]:
    return [Mutant(**table) for table in tomllib.loads(path.read_text())["mutant"]]


def ends_well(arguments: list[str], first: Path, limit_s: float) -> bool:
    """Return whether a Python program ends with 0 while the controller of ``first`` stands in for the repository's."""
    environment = {**os.environ, "PYTHONPATH": f"{first}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", *arguments], cwd=ROOT, env=environment, timeout=limit_s, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def hunted(mutant: Mutant | None, suite: bool) -> str:
    """Return who kills a mutant: ``sim``, ``suite`` or nobody. Without one: who finds fault with the code itself."""
    with tempfile.TemporaryDirectory(prefix="podkeeper-mutant-") as folder:
        first = Path(folder)
        shutil.copytree(ROOT / "controller", first / "controller", ignore=shutil.ignore_patterns("__pycache__"))
        if mutant is not None:
            mutant.planted(first / "controller")
        sim = ["-m", "tests.sim", "--runs", str(RUNS), "--minutes", str(MINUTES), "--seed", str(SEED), "--first"]
        if not ends_well(sim, first, SIM_MAX_S):
            return "sim"
        tests = ["-m", "pytest", "-q", "-x", "--import-mode=importlib", "-p", "no:cacheprovider", *SUITE]
        return "suite" if suite and not ends_well(tests, first, SUITE_MAX_S) else "nobody"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("only", nargs="*", help="ids; all without")
    parser.add_argument("--no-suite", action="store_true", help="do not try survivors against the unit suite")
    given = parser.parse_args()
    if hunted(None, suite=False) != "nobody":
        print("the simulation finds fault with the code as it is; mend that first")
        return 1
    chosen = [mutant for mutant in every() if not given.only or mutant.id in given.only]
    killers = []
    for mutant in chosen:
        killers.append(hunted(mutant, suite=not given.no_suite))
        print(f"{mutant.id}: killed by {killers[-1]}", flush=True)
    sim, alive = killers.count("sim"), killers.count("nobody")
    print(
        f"{len(chosen)} planted, {sim} killed by the simulation, {killers.count('suite')} by the suite, {alive} alive"
    )
    return 1 if alive or (not given.only and sim < KILLED_BY_SIM_MIN) else 0


if __name__ == "__main__":
    sys.exit(main())
