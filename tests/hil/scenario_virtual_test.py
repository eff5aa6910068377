"""Every scenario that runs in virtual time, two at once: passes, or misses only what is marked as known."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from hil.runs import FAST_JOBS, Line, run_one
from hil.scenarios.model import every
from hil.tracefile import read_trace

SCENARIOS = [scenario for scenario in every() if scenario.fast and not scenario.long]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Line]]]:
    folder = tmp_path_factory.mktemp("traces")
    with ProcessPoolExecutor(FAST_JOBS, mp_context=get_context("spawn")) as pool:
        yield {one.id: pool.submit(run_one, one, fast=True, seed=1, folder=folder) for one in SCENARIOS}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [scenario.id for scenario in SCENARIOS])
def test_scenario(name: str, runs: dict[str, Future[Line]]) -> None:
    line = runs[name].result()
    if line.verdict == "can't run":
        pytest.skip(line.lines[0])
    assert line.verdict in ("pass", "known"), "\n".join(line.lines)
    marked = bool(line.scenario.marks)
    assert (line.verdict == "known") is marked, "known is never a pass"
    assert isinstance(line.trace, Path)
    trace = read_trace(line.trace)
    assert trace.verdict == line.verdict
    assert trace.channels["flow_lpm"].t[-1] == pytest.approx(line.scenario.seconds, abs=1.0)
    assert len(trace.events) == sum(len(event.targets) for event in line.scenario.event)
