"""Command line of the measurements: ``python -m hil.bench NAME [--quick]``, or ``all`` of them."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

from hil.bench import (
    broker_kills,
    command_fuzz,
    dead_units,
    dsx_conformance,
    fleet,
    fuzz_replies,
    line_timing,
    load_step,
    outage,
    plant_speed,
    poll_cost,
    publish_cost,
    reaction,
    report,
    rtu_map,
    rtu_utilisation,
    scan_speed,
    schedulability,
    tcp_rate,
    write_latency,
    wrong_values,
)
from hil.bench.master import as_the_service, quiet
from hil.bench.result import Missing, Result

ALL, NORTHBOUND = "all", "northbound"
Measure = Callable[[bool], Iterable[Result]]
MODULES: tuple[ModuleType, ...] = (
    rtu_utilisation,
    rtu_map,
    line_timing,
    poll_cost,
    publish_cost,
    fleet,
    dsx_conformance,
    wrong_values,
    dead_units,
    write_latency,
    reaction,
    schedulability,
    tcp_rate,
    plant_speed,
    load_step,
    scan_speed,
    fuzz_replies,
    broker_kills,
    command_fuzz,
    outage,
)
# Taken only when named: their ten minutes change little from day to day.
ALONE = {fuzz_replies.NAME, dsx_conformance.NAME, broker_kills.NAME, outage.NAME}
# What the contracts with the world outside are held to; `make conform` takes them all.
CONTRACTS = (command_fuzz, dsx_conformance, broker_kills, outage, publish_cost, fleet)
MEASUREMENTS: Mapping[str, Measure] = {module.NAME: module.measure for module in MODULES}


def taken(name: str, quick: bool) -> Iterator[Result]:
    """Return the results of one measurement; one that can't be taken makes one result that says why."""
    try:
        yield from MEASUREMENTS[name](quick)
    except Missing as missing:
        yield Result(name, {"figure": "not measured"}, None, "== 0", {"missing": str(missing)})
    except (OSError, TimeoutError, RuntimeError, ExceptionGroup) as error:  # the others are worth taking all the same
        yield Result(name, {"figure": "not measured"}, None, "== 0", {"failed": repr(error)})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.bench", description=__doc__)
    parser.add_argument("name", choices=[*MEASUREMENTS, ALL, NORTHBOUND], help="which one, or group")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, the same bars; within 60 s each")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the figures into the page too, after each")
    parser.add_argument("--resume", action="store_true", help="leave out what the page has of this commit already")
    given = parser.parse_args()
    quiet()
    as_the_service()
    found = report.runs(given.write) if given.write else {}
    ok = True
    groups = {ALL: [name for name in MEASUREMENTS if name not in ALONE], NORTHBOUND: [m.NAME for m in CONTRACTS]}
    for name in groups.get(given.name, [given.name]):
        if given.resume and name in found and found[name].commit == report.commit() and not found[name].quick:
            continue
        started, results = time.monotonic(), []
        for result in taken(name, given.quick):
            print(result.line(), flush=True)
            results.append(result)
        ok = ok and all(result.ok for result in results)
        if given.write:
            found[name] = report.taken(results, quick=given.quick, seconds=time.monotonic() - started)
            report.write(given.write, found, MEASUREMENTS)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
