"""Traces of runs that never were, in the form that the bench writes: what reports are tried on."""

from __future__ import annotations

import math
import random
from typing import Any


def _wave(seconds: float, start: float, level: float, noise: random.Random, dip: float = 0.0) -> list[float]:
    times = [start + 0.5 * index for index in range(int((seconds - start) / 0.5))]
    return [
        round(level + dip * (math.exp(-t / 20) if t > 0 else 0.0) + noise.gauss(0, 0.003 * abs(level)), 3)
        for t in times
    ]


def channel(
    unit: str, group: str, label: str, level: float, seed: int, *, dip: float = 0.0, seconds: float = 120.0
) -> dict[str, Any]:
    values: list[float | None] = list(_wave(seconds, -20.0, level, random.Random(seed), dip))
    times = [round(-20.0 + 0.5 * index, 1) for index in range(len(values))]
    return {"unit": unit, "group": group, "label": label, "t": times, "v": values}


def channels(seed: int, seconds: float) -> dict[str, Any]:
    found = {
        "supply_temp": channel("°C", "temperature", "TCS supply", 30.0, seed, dip=1.2, seconds=seconds),
        "return_temp": channel("°C", "temperature", "TCS return", 41.2, seed + 1, dip=2.0, seconds=seconds),
        "fws_supply_temp": channel("°C", "temperature", "FWS supply", 20.1, seed + 2, seconds=seconds),
        "chip_temp": channel("°C", "temperature", "hottest chip", 74.6, seed + 3, dip=2.1, seconds=seconds),
        "flow": channel("L/min", "flow", "TCS flow", 1298.0, seed + 4, dip=-210.0, seconds=seconds),
        "flow_needed": channel("L/min", "flow", "TCS flow needed", 1290.0, seed + 5, seconds=seconds),
        "fws_flow": channel("L/min", "flow", "FWS flow", 1590.0, seed + 6, seconds=seconds),
        "it_power": channel("kW", "power", "IT power", 1035.0, seed + 7, seconds=seconds),
        "pressure": channel("kPa", "pressure", "suction", 120.0, seed + 8, dip=6.0, seconds=seconds),
        "level": channel("%", "level", "reservoir", 95.0, seed + 9, seconds=seconds),
        "valve": channel("%", "valves and speeds", "HX valve", 61.0, seed + 10, dip=9.0, seconds=seconds),
        "dew_margin": channel("K", "room", "dew-point margin", 18.0, seed + 11, seconds=seconds),
    }
    for pump in (1, 2, 3):
        label = f"pump {pump} speed"
        found[f"pump_{pump}_speed"] = channel("%", "valves and speeds", label, 71.0, seed + 20 + pump, seconds=seconds)
    stopped = found["pump_2_speed"]
    stopped["v"] = [v if t < 0 else max(0.0, v - 25 * t) for t, v in zip(stopped["t"], stopped["v"], strict=True)]
    for rack in range(1, 9):
        name = f"rack_{rack}_flow"
        found[name] = channel("L/min", "flow of racks", f"rack {rack}", 162.0, seed + 30 + rack, seconds=seconds)
    stuck = found["rack_4_flow"]
    both = zip(stuck["t"], stuck["v"], strict=True)
    stuck["v"] = [None if 30 < t < 40 else v * (0.6 if t > 10 else 1) for t, v in both]
    return found


def _storm() -> list[dict[str, Any]]:
    return [
        {"t": 2.0 + number / 3, "id": f"a_{number}", "title": f"Alarm {number} of a storm with a long title " * 3,
         "priority": ("low", "medium", "high", "critical")[number % 4], "state": "UNACK"}
        for number in range(40)
    ]  # fmt: skip


def _stuck() -> list[dict[str, Any]]:
    return [
        {"t": 20.0 + number, "until": 25.0 + 3 * number, "fault": "sensor.stuck",
         "target": f"io_1.supply_temp_{number}", "value": 29.8, "text": "holds its value"}
        for number in range(12)
    ]  # fmt: skip


def trace(
    scenario: str = "B1", *, verdict: str = "pass", seed: int = 7, seconds: float = 120.0, busy: bool = False
) -> dict[str, Any]:
    """Return a trace of a pump trip. ``busy``: with many alarms, writes, faults, and names as long as they come."""
    return {
        "schema": 1,
        "scenario": {
            "id": scenario, "name": "Pump trip, three running", "family": "B: flow",
            "text": "All racks at full load, three pumps running. Pump 2 trips; the others must make up its flow.",
        },
        "commit": "5360ba1", "enclosure": "reference-pod", "seed": seed, "body": "real", "seconds": seconds,
        "verdict": verdict,
        "checks": [
            {"text": "TCS flow never below 90 % of need", "figure": 91.4, "bar": "at least 90 %", "ok": True},
            {"text": "hottest chip", "figure": 76.7, "bar": "at most 77 °C", "ok": True, "known": ""},
            {"text": "alarm names pump_2 within 3 s", "figure": 1.4, "bar": "at most 3 s", "ok": verdict == "pass",
             "known": "pumps are not told apart by power yet" if verdict == "known" else ""},
            {"text": "mode stays NORMAL", "figure": None, "bar": "NORMAL from 0 s to 120 s", "ok": True, "known": ""},
        ],
        "channels": channels(seed, seconds),
        "limits": [
            {"channel": "chip_temp", "value": 87.0, "label": "throttling", "severity": "trip"},
            {"channel": "supply_temp", "value": 45.0, "label": "trip, supply too hot", "severity": "trip"},
            {"channel": "flow", "value": 1161.0, "label": "90 % of need", "severity": "warning"},
            {"channel": "pressure", "value": 900.0, "label": "relief valve", "severity": "trip"},
        ],
        "modes": [
            {"t": -20.0, "mode": "NORMAL", "cause": "found running, taken over as it is"},
            *([{"t": 4.0, "mode": "FAULT.cooling_lost", "cause": "TCS flow below need"},
               {"t": 9.0, "mode": "NORMAL", "cause": "flow is back"}] if busy else []),
        ],
        "alarms": [
            {"t": 1.4, "id": "pump_2_failed", "title": "pump_2 has failed", "priority": "high", "state": "UNACK"},
            {"t": 40.0, "id": "pump_2_failed", "title": "pump_2 has failed", "priority": "high", "state": "ACKED"},
            {"t": 2.2, "id": "flow_low", "title": "TCS flow below need", "priority": "critical", "state": "B"},
            {"t": 8.8, "id": "flow_low", "title": "TCS flow below need", "priority": "critical", "state": "D"},
            {"t": 60.0, "id": "flow_low", "title": "TCS flow below need", "priority": "critical", "state": "A"},
            *(_storm() if busy else []),
        ],
        "writes": [
            *({"t": t / 2, "point": f"pump_{pump}.speed_cmd", "value": 80.0 + t} for t in range(10) for pump in (1, 3)),
            {"t": 1.6, "point": "pump_2.run_cmd", "value": False},
            *({"t": 50.0 + n, "point": f"pdu_{n}a.outlet_{n % 4}", "value": True} for n in range(30 if busy else 0)),
        ],
        "events": [
            {"t": 0.0, "until": 60.0, "fault": "pump.trip", "target": "pump_2", "value": None, "text": "drive trips"},
            *(_stuck() if busy else []),
        ],
        "interlocks": [{"t": 3.0, "text": "TCS flow below need"}],
        "first_out": "TCS flow below need",
    }  # fmt: skip
