"""Results -> docs/performance.md."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from hil.bench.result import Result, rounded

ROOT = Path(__file__).parents[2]
FIGURE = "figure"
HEAD = """# Performance

Written by `make bench`; do not edit. Every line is one figure against the bar it is held to. Ratios are taken within
one run on one machine, because machines are noisy; absolute times hold for lines with the timing of a real one, which
the bench gives to pseudo-terminals.

## How to repeat it

```sh
make bench            # all of it, most of an hour, and this page anew
make bench QUICK=1    # the same bars with fewer repetitions, within a minute each
.venv/bin/python -m hil.bench rtu-utilisation --quick
```

A result is one line of JSON: name, params, value, bar, ok, detail. Needed beside Python, all from Debian: mosquitto,
collectd-core, gcc and libmodbus-dev. `rtu-map` takes rackmon's public map from `$PODKEEPER_MAPS/rackmon/orv3_rpu.json`,
and the profile made from it when that is not set. What a serial slave counts as legal: request, t3.5, its own device
time, reply, t3.5, at 11 bits a character; t3.5 is 3.5 characters up to 19200 baud and 1.75 ms above. Gaps are what the
slave sees, from the last byte of its reply to the first of the next request. The slave runs with real-time priority
where it may, so that it is as punctual as hardware.
"""


def write(path: Path, results: Iterable[Result], *, quick: bool) -> None:
    """Write the page."""
    path.write_text("\n".join(_lines(list(results), quick)) + "\n")


def _lines(results: list[Result], quick: bool) -> Iterator[str]:
    yield HEAD
    yield "## Figures\n"
    yield f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {_commit()}, {_machine()}."
    good, run = sum(result.ok for result in results), "Quick run: fewer repetitions. " if quick else ""
    yield f"{run}{good} of {len(results)} are good.\n"
    yield "| measurement | figure | value | bar | ok |"
    yield "|---|---|---|---|---|"
    for result in results:
        value = "-" if result.value is None else f"{rounded(result.value):g}"
        ok = ("yes" if result.ok else "**no**") if result.bar else "shown only"
        yield f"| {result.name} | {_said(result)} | {value} | {result.bar or '-'} | {ok} |"
    yield "\n## Conditions and other figures of the same runs\n"
    for result in results:
        params = {key: value for key, value in result.params.items() if key != FIGURE}
        yield f"- **{result.name}, {_said(result)}**: {_pairs(params)}"
        yield f"  {_pairs(result.detail) or '-'}"


def _said(result: Result) -> str:
    figure = result.params.get(FIGURE, "-")
    of = [
        f"{result.params[key]} {unit}"
        for key, unit in (("baud", "baud"), ("connections", "connections"))
        if key in result.params
    ]
    return ", ".join((figure, *of))


def _pairs(values: object) -> str:
    shown = rounded(values)
    assert isinstance(shown, dict)
    return "; ".join(f"{key} {_short(value)}" for key, value in shown.items())


def _short(value: object) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(item)}" for key, item in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _machine() -> str:
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"pymodbus {metadata.version('pymodbus')}, load {load:.1f} at the end"
    )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
