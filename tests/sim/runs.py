"""Many runs from one warm pod: each goes on in a copy of the process, so that none can touch another."""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from controller.config.plan import load_plan
from hil.runner import REFERENCE_POD
from hil.virtual import virtual_plan
from tests.sim.invariants import served
from tests.sim.swarm import WALL_CLOCK, Strike, Swarm, drawn
from tests.sim.thin import thinned
from tests.sim.world import World

CRASHED, UNAFFECTED = 0, 8
SHRINKS_MAX = 48
SCAN_S = 0.5  # longer than a pod's, so that more hours fit into the same time; --scan 0.2 takes the pod's own
CHUNK_BYTES = 1 << 16
GARBAGE_EVERY = 50_000  # objects made; a scan makes a thousand, and next to none of them in rings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run: its violations (invariant, second, text), its hash, and what it served of the demand."""

    seed: int
    digest: str
    violations: list[tuple[int, float, str]]
    served: float = 1.0
    seconds: float = 0.0
    processor_s: float = 0.0

    def violates(self, number: int) -> bool:
        return any(found == number for found, _, _ in self.violations)


@dataclass
class Pod:
    """An enclosure warmed up once, from which runs are taken."""

    minutes: float
    scan_s: float = SCAN_S
    enclosure: Path = REFERENCE_POD
    world: World = field(init=False)
    targets: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        plan = thinned(virtual_plan(load_plan(self.enclosure)))
        self.world = World(replace(plan, scan_s=self.scan_s))
        self.targets = self.world.all_targets()
        self.world.warm()

    def swarm(self, seed: int) -> Swarm:
        return drawn(seed, self.minutes, self.targets)

    def each(self, swarms: Iterable[Swarm], jobs: int = 1) -> Iterator[tuple[Swarm, Outcome]]:
        """Run each swarm in a copy of this process, ``jobs`` at a time; yield in the order in which they end."""
        waiting, running = iter(swarms), dict[int, tuple[int, Swarm, bytearray]]()
        while True:
            while len(running) < jobs and (swarm := next(waiting, None)) is not None:
                child, reader = self._fork(swarm)
                running[reader] = (child, swarm, bytearray())
            if not running:
                return
            for reader in select.select(list(running), [], [])[0]:
                child, swarm, text = running[reader]
                part = os.read(reader, CHUNK_BYTES)
                if part:
                    text += part
                    continue
                os.close(reader)
                os.waitpid(child, 0)
                del running[reader]
                yield swarm, _outcome(swarm, bytes(text))

    def run(self, swarm: Swarm) -> Outcome:
        return next(outcome for _, outcome in self.each([swarm]))

    def _fork(self, swarm: Swarm) -> tuple[int, int]:
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if child:
            os.close(writer)
            return child, reader
        gc.freeze()  # what stands now is no garbage in this run, and need not be looked through
        gc.set_threshold(GARBAGE_EVERY, *gc.get_threshold()[1:])
        try:
            with os.fdopen(writer, "w") as out:
                json.dump(self._played(swarm), out)
        finally:
            os._exit(0)

    def _played(self, swarm: Swarm) -> dict[str, object]:
        began = time.process_time()
        world = self.world
        try:
            world.perform(swarm)
        except Exception:
            text = traceback.format_exc(limit=-6)
            world.found.append((CRASHED, world.now, text))
        share = served(world.track) if world.track else 1.0
        return {
            "digest": world.digest, "violations": world.found, "served": share, "seconds": swarm.seconds,
            "processor_s": time.process_time() - began,
        }  # fmt: skip


def _outcome(swarm: Swarm, text: bytes) -> Outcome:
    if not text:
        return Outcome(swarm.seed, "", [(CRASHED, 0.0, "the process of this run has ended without a word")])
    found = json.loads(text)
    violations = [(int(number), float(t), str(what)) for number, t, what in found.pop("violations")]
    return Outcome(swarm.seed, violations=violations, **found)


def unaffected_by_the_wall_clock(pod: Pod, swarm: Swarm, outcome: Outcome) -> Outcome:
    """Return the outcome, with a violation of invariant 8 if the same run without its clock jumps differs."""
    others = [strike for strike in swarm.strikes if strike.fault != WALL_CLOCK]
    if len(others) == len(swarm.strikes):
        return outcome
    if pod.run(swarm.of(others)).digest == outcome.digest:
        return outcome
    return replace(outcome, violations=[*outcome.violations, (UNAFFECTED, 0.0, "a jump of the wall clock is felt")])


def shrunk(pod: Pod, swarm: Swarm, fails: Callable[[Outcome], bool], most: int = SHRINKS_MAX) -> Swarm:
    """Return the run with the fewest faults that still fails (delta debugging, Zeller and Hildebrandt 2002)."""
    kept, parts, runs = list(swarm.strikes), 2, 0

    def still(strikes: list[Strike]) -> bool:
        nonlocal runs
        runs += 1
        return runs <= most and fails(pod.run(swarm.of(strikes)))

    if kept and still([]):
        return swarm.of([])
    while len(kept) >= 2:
        size = max(1, len(kept) // parts)
        chunks = [kept[start : start + size] for start in range(0, len(kept), size)]
        for chunk in chunks:
            rest = [strike for strike in kept if strike not in chunk]
            if rest and still(rest):
                kept, parts = rest, max(2, parts - 1)
                break
        else:
            if parts >= len(kept):
                break
            parts = min(len(kept), 2 * parts)
    return swarm.of(kept)
