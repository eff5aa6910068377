"""Command line of the measurements: ``python -m hil.bench NAME [--quick]``, or ``all`` of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType

from hil.bench import (
    dead_units,
    poll_cost,
    rtu_map,
    rtu_utilisation,
    schedulability,
    tcp_rate,
    write_latency,
    wrong_values,
)
from hil.bench.master import quiet
from hil.bench.result import Missing, Result

Measure = Callable[[bool], Iterable[Result]]
MODULES: tuple[ModuleType, ...] = (
    rtu_utilisation,
    rtu_map,
    poll_cost,
    wrong_values,
    dead_units,
    write_latency,
    schedulability,
    tcp_rate,
)
MEASUREMENTS: Mapping[str, Measure] = {module.NAME: module.measure for module in MODULES}


def run(name: str, quick: bool) -> Iterator[Result]:
    """Return the results of one measurement; a missing program makes one result that says so."""
    try:
        yield from MEASUREMENTS[name](quick)
    except Missing as missing:
        yield Result(name, {}, None, "== 0", {"missing": str(missing)})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m hil.bench", description=__doc__)
    parser.add_argument("name", choices=[*MEASUREMENTS, "all"], help="which measurement")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, the same bars; within 60 s each")
    given = parser.parse_args()
    quiet()
    ok = True
    for name in MEASUREMENTS if given.name == "all" else [given.name]:
        for result in run(name, given.quick):
            print(result.line(), flush=True)
            ok = ok and result.ok
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
