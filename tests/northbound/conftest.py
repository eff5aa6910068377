"""The reference pod, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.config.plan import Plan, load_plan
from controller.core.engine import View, pod_points
from controller.core.image import Image, freeze
from controller.core.points import Reading
from controller.northbound.snapshot import Snapshot, snapshot

WALL_MS = 1_780_000_000_000
T0 = 1000.0
Picture = Callable[..., Snapshot]


@pytest.fixture(scope="session")
def plan() -> Plan:
    root = Path(__file__).parents[2]
    return load_plan(root / "profiles" / "enclosures" / "reference-pod.toml")


@pytest.fixture(scope="session")
def picture(plan: Plan) -> Picture:
    points = {**plan.pod.points, **pod_points(plan.pod)}

    def take(now: float, inbox: Mapping[str, Reading] | None = None, jump_ms: int = 0, **view: Any) -> Snapshot:
        image: Image = freeze(inbox or {}, points, now)
        fields: dict[str, Any] = {
            "at": now,
            "mode": "OFF",
            "since": T0,
            "cause": "",
            "degraded": False,
            "image": image,
            "alarms": (),
            "acting": (),
            "first_out": "",
            "missing": (),
            "machines": {},
        }
        return snapshot(View(**{**fields, **view}), WALL_MS + round((now - T0) * 1000) + jump_ms, 17)

    return take
