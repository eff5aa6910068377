"""Simulate: ``python -m tests.sim --runs 200 --minutes 30 --seed 1``. The same seed gives the same run to the bit."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hil.runner import REFERENCE_POD
from hil.trace import commit
from tests.sim.owed import OWED, Owed, owed
from tests.sim.runs import SCAN_S, Outcome, Pod, shrunk, unaffected_by_the_wall_clock
from tests.sim.swarm import Swarm

LOG = Path(__file__).parents[2] / "docs" / "simulation.md"
SERVED_MIN = 0.89  # mean over runs of a single fault
SHRUNK_MAX = 3  # violations that are shrunk, of one call


class Tally:
    """Sums over the runs of one call."""

    def __init__(self) -> None:
        self.runs = self.strikes = self.mended = 0
        self.seconds = self.processor_s = 0.0
        self.owed: Counter[Owed] = Counter()
        self.examples: dict[Owed, str] = {}
        self.open: list[tuple[Swarm, int, float, str]] = []
        self.single: list[float] = []

    def take(self, swarm: Swarm, outcome: Outcome) -> list[str]:
        """Add a run; return its lines."""
        self.runs += 1
        self.strikes += len(swarm.strikes)
        self.seconds += outcome.seconds
        self.processor_s += outcome.processor_s
        if len(swarm.strikes) == 1:
            self.single.append(outcome.served)
        lines = []
        debts = 0
        for number, t, text in outcome.violations:
            entry = owed(number, swarm.kinds)
            if entry is not None:
                self.owed[entry] += 1
                self.examples.setdefault(entry, f"seed {swarm.seed} at {t:.1f} s: {text}")
                debts += 1
            else:
                self.open.append((swarm, number, t, text))
                lines.append(f"    invariant_{number:02} at {t:.1f} s: {text}")
        end = f"{debts} owed, " if debts else ""
        head = f"seed {swarm.seed}: {len(swarm.strikes)} faults, {end}served {outcome.served:.3f}, {outcome.digest}"
        return [head, *lines]

    @property
    def served(self) -> float:
        return sum(self.single) / len(self.single) if self.single else 1.0


def told_small(pod: Pod, swarm: Swarm, number: int) -> Iterator[str]:
    """Shrink a violation; yield the faults it takes."""
    small = shrunk(pod, swarm, lambda outcome: outcome.violates(number))
    yield f"invariant_{number:02}, seed {swarm.seed}, load {swarm.load:g} {swarm.profile}, {swarm.ambient_c:g} Cel:"
    yield from (f"    {strike}" for strike in small.strikes)
    if not small.strikes:
        yield "    without any fault"


def log_line(given: argparse.Namespace, tally: Tally) -> str:
    """Return one row of the log in docs."""
    seeds = f"{given.seed} to {given.seed + given.runs - 1}"
    owed_count = sum(tally.owed.values())
    days = tally.seconds / 86400
    return (
        f"| {time.strftime('%Y-%m-%d')} | {commit()} | {given.enclosure.stem} | {seeds} | {given.minutes:g} "
        f"| {days:.2f} | {tally.strikes} | {len(tally.open)} | {owed_count} | {tally.served:.3f} |\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first run")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--scan", type=float, default=SCAN_S, help="scan period in seconds")
    parser.add_argument("--enclosure", type=Path, default=REFERENCE_POD, help="another enclosure's file")
    parser.add_argument("--log", action="store_true", help="add a row to docs/simulation.md")
    parser.add_argument("--first", action="store_true", help="end at the first violation, without shrinking it")
    parser.add_argument("--quiet", action="store_true", help="only runs with a violation, and the sums")
    given = parser.parse_args()
    began = time.monotonic()
    pod = Pod(given.minutes, given.scan, given.enclosure)
    tally = Tally()
    for swarm, first in pod.each(map(pod.swarm, range(given.seed, given.seed + given.runs)), given.jobs):
        outcome = unaffected_by_the_wall_clock(pod, swarm, first)
        lines = tally.take(swarm, outcome)
        if len(lines) > 1 or not given.quiet:
            print("\n".join(lines), flush=True)
        if given.first and tally.open:
            return 1
    for swarm, number, _, _ in tally.open[:SHRUNK_MAX]:
        print("\n".join(told_small(pod, swarm, number)), flush=True)
    for entry, count in tally.owed.most_common():
        print(f"owed {count} times: invariant_{entry.invariant:02}, {entry.missing}; first {tally.examples[entry]}")
    unmet = [entry for entry in OWED if not tally.owed[entry]]
    print(f"owed and not met: {len(unmet)}" + "".join(f"\n    invariant_{e.invariant:02}: {e.missing}" for e in unmet))
    took = time.monotonic() - began
    print(
        f"commit {commit()}, {given.enclosure.stem}, seeds {given.seed} to {given.seed + given.runs - 1}: "
        f"{tally.runs} runs, {tally.seconds / 86400:.2f} pod-days, {tally.strikes} faults, "
        f"{len(tally.open)} violations, {sum(tally.owed.values())} owed, "
        f"served {tally.served:.3f} of single faults, {took:.0f} s, "
        f"{tally.seconds / max(1e-9, tally.processor_s):.0f} times real time on a core"
    )
    if given.log:
        with LOG.open("a") as log:
            log.write(log_line(given, tally))
    return 1 if tally.open or tally.served < SERVED_MIN else 0


if __name__ == "__main__":
    sys.exit(main())
