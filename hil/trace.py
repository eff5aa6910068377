"""The trace of a run as a JSON document: what reports are made from. Times are seconds from the scenario's t = 0."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hil.checks import Check, Run, verdict

SCHEMA = 1
SAMPLE_S = 0.5
SAMPLES_MAX = 5000
DECIMALS = 4
LIMITS = (
    ("hottest_c", 87.0, "chips slow down", "high"),
    ("hottest_c", 95.0, "racks must be off", "critical"),
    ("margin_k", 2.0, "least condensation margin", "high"),
)


def trace(run: Run, checks: Sequence[Check]) -> dict[str, Any]:
    """Return the document of a run."""
    scenario, stage, zero = run.scenario, run.stage, run.zero
    seen, pod = stage.seen, stage.plan.pod
    limits = [*LIMITS, ("supply_c", pod.protection.supply_temp_trip_c, "supply too hot, trip", "critical")]
    limits.append(("supply_c", pod.tcs.supply_temp_sp_c, "set point", "low"))
    return {
        "schema": SCHEMA,
        "scenario": {"id": scenario.id, "name": scenario.name, "family": scenario.family, "text": scenario.text},
        "commit": commit(),
        "enclosure": stage.plan.name,
        "seed": stage.seed,
        "body": stage.body,
        "seconds": scenario.seconds,
        "verdict": verdict(checks),
        "checks": [asdict(check) for check in checks],
        "channels": channels(run),
        "limits": [
            {"channel": channel, "value": value, "label": label, "severity": severity}
            for channel, value, label, severity in limits
            if channel in stage.recorder.channels
        ],
        "modes": _dated(run, seen.modes),
        "alarms": _dated(run, seen.alarms),
        "writes": _dated(run, seen.writes),
        "events": [
            {
                **entry,
                "t": _round(entry["t"] - zero),
                "until": None if entry["until"] is None else _round(entry["until"] - zero),
            }
            for entry in stage.log
        ],
        "interlocks": _dated(run, seen.interlocks),
        "first_out": seen.first_out,
    }


def _dated(run: Run, what: Any) -> list[dict[str, Any]]:
    return [{"t": _round(t), **said} for t, said in run.said(what, -math.inf)]


def _round(value: float) -> float:
    return round(value, DECIMALS)


def channels(run: Run) -> dict[str, Any]:
    """Return every channel, thinned to about two samples a second and to what a report may hold."""
    recorder = run.stage.recorder
    if not recorder.times:
        return {}
    length = len(recorder.times)
    spacing = (recorder.times[-1] - recorder.times[0]) / max(1, length - 1)
    step = max(1, round(SAMPLE_S / spacing) if spacing else 1, math.ceil(length / SAMPLES_MAX))
    times = [_round(t - run.zero) for t in recorder.times[::step]]
    found = {}
    for name, channel in recorder.channels.items():
        values = [_round(value) if math.isfinite(value) else None for value in recorder.values[name][::step]]
        found[name] = {"unit": channel.unit, "group": channel.group, "label": channel.label, "t": times, "v": values}
    return found


def write(document: dict[str, Any], folder: Path) -> Path:
    """Write the document into ``folder`` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    scenario = document["scenario"]
    path = folder / f"{scenario['id']}-{scenario['name']}-{document['body']}.json"
    path.write_text(json.dumps(document, allow_nan=False, separators=(",", ":")))
    return path


def commit() -> str:
    """Return the commit that runs, with a plus when something is changed; empty outside a repository."""
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=here, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
