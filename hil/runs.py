"""``python -m hil run`` and ``python -m hil list``: scenarios by name, in real or in virtual time, with a verdict."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from controller.config.plan import load_plan
from hil.perform import Performed, perform_real, perform_virtual
from hil.report import write_reports
from hil.runner import REFERENCE_POD
from hil.scenarios.model import Scenario, ScenarioError, every, find
from hil.trace import write
from hil.virtual import virtual_plan

FAST_JOBS = 2  # virtual time takes a core
REAL_JOBS = 3  # a pod and its controller in real time take a fifth of a core, a warm start a whole one
GOOD, BAD = 0, 1


@dataclass(frozen=True, slots=True)
class Line:
    """What one scenario came to. ``lines`` say what does not simply pass."""

    scenario: Scenario
    verdict: str
    took_s: float
    lines: tuple[str, ...] = ()
    trace: Path | None = None


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``run`` and ``list`` to the bench's command line."""
    run = commands.add_parser("run", help="run scenarios; none named: the real-time selection, or with --fast all")
    run.add_argument("names", nargs="*", metavar="NAME", help="id or name of a scenario; `list` shows them")
    run.add_argument("--fast", action="store_true", help="in virtual time")
    run.add_argument("--all", action="store_true", help="also those that take hours")
    run.add_argument("--report", type=Path, metavar="DIR", help="folder for traces and reports")
    run.add_argument("--jobs", type=int, help=f"scenarios at once; default: {REAL_JOBS}, or {FAST_JOBS} with --fast")
    run.add_argument("--enclosure", type=Path, default=REFERENCE_POD, help="enclosure file; default: %(default)s")
    run.add_argument("--seed", type=int, default=1, help="of noise and chance; default: %(default)s")
    run.set_defaults(run=_run)
    listing = commands.add_parser("list", help="list the scenarios")
    listing.set_defaults(run=_list)


def chosen(names: Sequence[str], *, fast: bool, everything: bool) -> list[Scenario]:
    """Return the scenarios that a command means.

    Raises:
        ScenarioError: a name that is none, or one that can't run in virtual time.
    """
    known = every()
    if names:
        found = [find(name, known) for name in names]
        slow = [scenario for scenario in found if fast and not scenario.fast]
        if slow:
            raise ScenarioError(f"{slow[0].id} {slow[0].name} can't run in virtual time; run it without --fast")
        return found
    if fast:
        return [scenario for scenario in known if scenario.fast and (everything or not scenario.long)]
    return [scenario for scenario in known if everything or scenario.real]


def run_one(scenario: Scenario, *, fast: bool, seed: int, folder: Path | None, enclosure: Path = REFERENCE_POD) -> Line:
    """Run one scenario and write its trace."""
    began = time.monotonic()
    try:
        if fast:
            done = asyncio.run(perform_virtual(scenario, virtual_plan(load_plan(enclosure)), seed))
        else:
            done = asyncio.run(perform_real(scenario, seed, enclosure))
    except ScenarioError as error:
        return Line(scenario, "can't run", time.monotonic() - began, (str(error),))
    path = write(done.document, folder) if folder else None
    return Line(scenario, done.verdict, time.monotonic() - began, tuple(told(done)), path)


def told(done: Performed) -> Iterator[str]:
    """Return a line for each check that does not simply pass."""
    for check in done.checks:
        if check.verdict == "pass":
            continue
        figure = "–" if check.figure is None else f"{check.figure:g}"
        why = check.known
        if check.known and check.ok:
            why = f"passes now: remove known = {check.known!r}"
        yield f"{check.verdict:5} {check.text}: {figure} ({check.bar}){f'; {why}' if why else ''}"


def _lines(scenarios: Sequence[Scenario], options: argparse.Namespace) -> Iterator[Line]:
    jobs = min(options.jobs or (FAST_JOBS if options.fast else REAL_JOBS), len(scenarios))
    given = {"fast": options.fast, "seed": options.seed, "folder": options.report, "enclosure": options.enclosure}
    if jobs <= 1:
        yield from (run_one(scenario, **given) for scenario in scenarios)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        longest = sorted(scenarios, key=lambda scenario: -scenario.seconds)
        waiting = {scenario.id: pool.submit(run_one, scenario, **given) for scenario in longest}
        for scenario in scenarios:
            yield waiting[scenario.id].result()


def _run(options: argparse.Namespace) -> int:
    try:
        scenarios = chosen(options.names, fast=options.fast, everything=options.all)
    except ScenarioError as error:
        print(f"run: {error}", file=sys.stderr)
        return BAD
    done: list[Line] = []
    for line in _lines(scenarios, options):
        done.append(line)
        print(f"{line.scenario.id:4} {line.scenario.name:30} {line.verdict:9} {line.took_s:6.1f} s", flush=True)
        for text in line.lines:
            print(f"       {text}", flush=True)
    traces = [line.trace for line in done if line.trace is not None]
    if options.report and traces:
        print(f"reports: {write_reports(traces, options.report)}")
    counts = {
        verdict: sum(line.verdict == verdict for line in done) for verdict in ("pass", "known", "fail", "can't run")
    }
    print("run: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return GOOD if counts["pass"] + counts["known"] == len(done) else BAD


def _list(_options: argparse.Namespace) -> int:
    try:
        scenarios = every()
    except ScenarioError as error:
        print(f"list: {error}", file=sys.stderr)
        return BAD
    print(f"{'id':4} {'name':30} {'family':6} {'bodies':14} {'seconds':>7}  known to be missing")
    for one in scenarios:
        bodies = "real, virtual" if one.fast else "real"
        marks = "; ".join(dict.fromkeys(one.marks))
        print(f"{one.id:4} {one.name:30} {one.family:6} {bodies:14} {one.seconds:7g}  {marks or '–'}")
    return GOOD
