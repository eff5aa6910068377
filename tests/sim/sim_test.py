"""A bounded simulation for the gate, that it repeats to the bit, and that its own tools find what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from controller.core.engine import Engine
from hil.runner import REFERENCE_POD
from tests.sim import mutants
from tests.sim.invariants import EACH, END
from tests.sim.owed import OWED, owed
from tests.sim.runs import Outcome, Pod, shrunk
from tests.sim.swarm import COMMANDS, CONCURRENT_MAX, KINDS, Strike, drawn

MINUTES, SEEDS = 5.0, range(1, 5)


@pytest.fixture(scope="module")
def pod() -> Pod:
    return Pod(MINUTES)


@pytest.mark.timeout(600)
def test_runs_keep_every_invariant_but_those_owed(pod: Pod) -> None:
    for swarm, outcome in pod.each(map(pod.swarm, SEEDS), jobs=2):
        found = [item for item in outcome.violations if owed(item[0], swarm.kinds) is None]
        assert not found, f"seed {swarm.seed}: {found}; {', '.join(map(str, swarm.strikes))}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("enclosure", ["two-rack-box", "air-container"])
def test_other_enclosures_keep_every_invariant_too(enclosure: str) -> None:
    pod = Pod(MINUTES, enclosure=REFERENCE_POD.with_name(f"{enclosure}.toml"))
    for swarm, outcome in pod.each(map(pod.swarm, SEEDS), jobs=2):
        assert not outcome.violations, f"seed {swarm.seed}: {', '.join(map(str, swarm.strikes))}"


@pytest.mark.timeout(600)
def test_a_seed_gives_the_same_run_whatever_the_hashes_of_strings() -> None:
    script = f"from tests.sim.runs import Pod; pod = Pod(2.0); print(pod.run(pod.swarm({SEEDS[-1]})).digest)"
    found = set()
    for hashes in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hashes}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        found.add(done.stdout.strip())
    assert len(found) == 1
    assert len(found.pop()) == 32


def test_a_copy_of_the_process_leaves_no_trace_in_the_next(pod: Pod) -> None:
    swarm = replace(pod.swarm(2), seconds=60.0, heal_at=30.0, strikes=())
    assert pod.run(swarm).digest == pod.run(swarm).digest


def test_another_seed_gives_another_run(pod: Pod) -> None:
    swarm = replace(pod.swarm(2), seconds=30.0, heal_at=20.0, strikes=())
    assert pod.run(swarm).digest != pod.run(replace(swarm, seed=3)).digest


def test_swarms_keep_their_bounds(pod: Pod) -> None:
    kinds = set()
    for seed in range(300):
        swarm = drawn(seed, 30.0, pod.targets)
        kinds |= swarm.kinds
        for strike in swarm.strikes:
            beside = [other for other in swarm.strikes if other.fault != "controller.killed"]
            at_work = [other for other in beside if other.at <= strike.at < other.until]
            assert len(at_work) <= CONCURRENT_MAX
            assert strike.at < strike.until <= swarm.heal_at
            assert strike.target in pod.targets[strike.fault]
    assert kinds == {kind.fault for kind in KINDS if pod.targets[kind.fault]}
    assert set(COMMANDS) <= kinds


def test_shrinking_leaves_the_faults_that_matter() -> None:
    strikes = [Strike(10.0 * n, 10.0 * n + 5, "pump.trip", f"pump_{n}") for n in range(8)]
    needed = {"pump_2", "pump_7"}

    class Scripted:
        def run(self, swarm):
            hit = needed <= {strike.target for strike in swarm.strikes}
            return Outcome(1, "", [(1, 0.0, "hot")] if hit else [])

    swarm = replace(drawn(0, 30.0, {kind.fault: ["x"] for kind in KINDS}), strikes=tuple(strikes))
    small = shrunk(Scripted(), swarm, lambda outcome: outcome.violates(1))
    assert {strike.target for strike in small.strikes} == needed


def test_a_planted_bug_is_found(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Engine.step

    def broken(self, now, inbox, commands=()):
        effects = step(self, now, inbox, commands)
        wrong = [replace(w, value=0.0) if w.point.endswith("pump_1.speed_cmd") else w for w in effects.writes]
        return replace(effects, writes=wrong)

    monkeypatch.setattr(Engine, "step", broken)
    outcome = pod.run(replace(pod.swarm(2), seconds=60.0, heal_at=30.0, strikes=(), load=1.0))
    assert outcome.violates(3) or outcome.violates(7) or outcome.violates(10)


def test_every_invariant_of_the_list_is_watched() -> None:
    assert set(EACH) == set(range(1, 17))
    assert set(END) <= set(EACH)
    assert all(entry.invariant in EACH and entry.missing for entry in OWED)


def test_every_planted_bug_finds_its_place(tmp_path) -> None:
    found = mutants.every()
    assert len(found) == 40
    assert len({mutant.id for mutant in found}) == 40
    for mutant in found:
        text = (mutants.ROOT / "controller" / "core" / mutant.file).read_text()
        assert text.count(mutant.find) == 1, mutant.id
        compile(text.replace(mutant.find, mutant.put), mutant.file, "exec")
