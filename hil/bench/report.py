"""Results -> docs/performance.md."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from hil.bench.result import Result, rounded

ROOT = Path(__file__).parents[2]
FIGURE = "figure"
KEPT = ".jsonl"  # beside the page
HEAD = """# Performance

Written by `make bench`; do not edit. Every line is one figure against the bar it is held to. Ratios are taken within
one run on one machine, because machines are noisy; absolute times hold for lines with the timing of a real one, which
the bench gives to pseudo-terminals.

## How to repeat it

```sh
make bench                       # all of it, half an hour, and this page; each result is written when it is there
make bench RESUME=1              # what this commit has no full run of yet
make bench ONLY=rtu-utilisation  # one measurement anew, the others as they stand
make bench QUICK=1               # the same bars with fewer repetitions, within a minute each; the page stays
.venv/bin/python -m hil.bench rtu-utilisation --quick
```

A result is one line of JSON: name, params, value, bar, ok, detail. Needed beside Python, all from Debian: mosquitto,
collectd-core, gcc and libmodbus-dev. `rtu-map` takes rackmon's public map from `$PODKEEPER_MAPS/rackmon/orv3_rpu.json`,
and the profile made from it when that is not set. What a serial slave counts as legal: request, t3.5, its own device
time, reply, t3.5, at 11 bits a character; t3.5 is 3.5 characters up to 19200 baud and 1.75 ms above. Gaps are what the
slave sees, from the last byte of its reply to the first of the next request. The slave runs with real-time priority
where it may, so that it is as punctual as hardware; all else with the priority that the service's unit file gives it.
"""


@dataclass(frozen=True, slots=True)
class Run:
    """One taking of one measurement.

    Attributes:
        load: of the machine when it ended, over one minute.
    """

    results: tuple[Result, ...]
    quick: bool
    date: str
    commit: str
    load: float
    seconds: float


def taken(results: Iterable[Result], *, quick: bool, seconds: float) -> Run:
    """Return the run that has just ended."""
    now = datetime.datetime.now(datetime.UTC)
    return Run(tuple(results), quick, f"{now:%Y-%m-%d}", commit(), os.getloadavg()[0], seconds)


def runs(page: Path) -> dict[str, Run]:
    """Return the last run of each measurement, from the lines kept beside the page; none where there is no such file.

    What can't be read is left out: it is measured again.
    """
    found: dict[str, Run] = {}
    with contextlib.suppress(OSError):
        for line in page.with_suffix(KEPT).read_text().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                kept = json.loads(line)
                results = tuple(
                    Result(*(item[key] for key in ("name", "params", "value", "bar", "detail")))
                    for item in kept.pop("results")
                )
                found[results[0].name] = Run(results, **kept)
    return found


def write(page: Path, found: Mapping[str, Run], order: Iterable[str]) -> None:
    """Write the page, and beside it the lines it is made of, so that one measurement can be taken anew."""
    listed = [found[name] for name in order if name in found]
    page.write_text("\n".join(_lines(listed)) + "\n")
    lines = []
    for run in listed:
        kept = {key: getattr(run, key) for key in ("quick", "date", "commit", "load", "seconds")}
        lines.append(json.dumps({"results": [json.loads(result.line()) for result in run.results], **rounded(kept)}))
    page.with_suffix(KEPT).write_text("\n".join(lines) + "\n")


def _lines(listed: Sequence[Run]) -> Iterator[str]:
    results = [result for run in listed for result in run.results]
    held = [result for result in results if result.bar]
    yield HEAD
    yield "## Figures\n"
    yield f"{_machine()}. {sum(result.ok for result in held)} of the {len(held)} figures that have a bar clear it.\n"
    yield "| measurement | taken | how | commit | load at the end | s |"
    yield "|---|---|---|---|---|---|"
    for run in listed:
        how = "quick: fewer repetitions" if run.quick else "full"
        yield f"| {run.results[0].name} | {run.date} | {how} | {run.commit} | {run.load:.1f} | {run.seconds:.0f} |"
    yield ""
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


def commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def _machine() -> str:
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    return (
        f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"pymodbus {metadata.version('pymodbus')}"
    )


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
