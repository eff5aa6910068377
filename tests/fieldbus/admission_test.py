"""A plan is let in as it is, with its best-effort groups stretched by the least factor, or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.config.plan import Plan
from controller.config.problems import ConfigError
from controller.core.pod import outputs
from controller.fieldbus.admission import admitted, stretched
from controller.fieldbus.schedule import analyse
from tests.core.model import reference_plan


def at_baud(baud: int, best_effort: tuple[str, ...] = ("slow",), write_budget_ms: int = 100) -> Plan:
    """Return the reference pod with a slower line to its pumps."""
    plan = reference_plan()
    settings = {"baud": baud, "write_budget_ms": write_budget_ms if baud > 2400 else 250}
    buses = tuple(
        replace(bus, settings=bus.settings.model_copy(update=settings)) if bus.name == "cooling" else bus
        for bus in plan.buses
    )
    return replace(plan, buses=buses, best_effort=best_effort)


def test_the_reference_pod_is_let_in_unchanged() -> None:
    plan = reference_plan()
    taken = admitted(plan, "pod.toml")
    assert taken.plan == plan
    assert not taken.notes
    assert all(schedule.feasible for schedule in taken.schedules)
    assert {number: len(schedules) for number, schedules in taken.dead.items()} == {1: 24, 3: 24}


def test_best_effort_is_stretched_by_the_least_factor() -> None:
    plan = at_baud(13000, write_budget_ms=60)  # a rate at which only the slow reads are too many
    taken = admitted(plan, "pod.toml")
    assert len(taken.notes) == 1
    (before,) = (bus for bus in plan.buses if bus.name == "cooling")
    (after,) = (bus for bus in taken.plan.buses if bus.name == "cooling")
    for device, slower in zip(before.devices, after.devices, strict=True):
        for old, new in zip(device.points, slower.points, strict=True):
            if old.row.rate == "slow" and not old.point.safety:
                assert old.period_s is not None
                assert new.period_s is not None
                assert new.period_s > old.period_s
                assert new.point.max_age_s == pytest.approx(3 * new.period_s)
            else:
                assert new == old
            assert taken.plan.pod.points[new.point.id] == new.point
    written = [output.point for output in outputs(plan.pod)]
    refresh_s = plan.pod.protection.refresh_s
    factor = next(p.period_s or 0 for d in after.devices for p in d.points if p.row.rate == "slow") / 10.0
    assert analyse(after, written, refresh_s).feasible
    assert not analyse(stretched(before, ("slow",), 0.97 * factor), written, refresh_s).feasible


def test_what_no_stretching_saves_is_refused_with_the_rows_that_break_it() -> None:
    with pytest.raises(ConfigError) as caught:
        admitted(at_baud(2400), "pod.toml")
    load, *rows = caught.value.problems
    assert (load.file, load.table, load.key) == ("pod.toml", "buses.cooling", "load")
    assert "read less often" in load.remedy
    assert any(row.key.startswith("pump_1.") and row.given == "every 0.5 s" for row in rows)
    assert all("ms" in row.remedy for row in rows)


def test_without_best_effort_nothing_is_stretched() -> None:
    with pytest.raises(ConfigError):
        admitted(at_baud(9600, ()), "pod.toml")


def test_a_safety_point_is_never_stretched() -> None:
    bus = next(bus for bus in reference_plan().buses if bus.name == "field")
    safety = {p.point.id: p for d in bus.devices for p in d.points if p.point.safety}
    slower = stretched(bus, ("fast", "normal", "slow"), 3.0)
    assert safety
    assert all(p == safety[p.point.id] for d in slower.devices for p in d.points if p.point.id in safety)
    assert any(p.period_s == 3.0 for d in slower.devices for p in d.points)
