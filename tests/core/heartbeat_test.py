"""A battery bank that wants a heartbeat gets one for as long as the scan runs, in every mode, and not a beat longer."""

from __future__ import annotations

import itertools
from pathlib import Path

from controller.config.plan import Plan, load_plan
from controller.core.pod import outputs
from controller.fieldbus.admission import admitted
from controller.fieldbus.schedule import analyse
from tests.core.model import REFERENCE, PodModel, Rig

BEAT = "battery_1.controller_heartbeat"


def with_battery(folder: Path) -> Plan:
    """Return the reference pod with a SunSpec battery bank."""
    file = folder / "site.toml"
    file.write_text(
        f'base = "{REFERENCE}"\n'
        '[buses.battery]\nkind = "tcp"\nhost = "192.0.2.80"\nport = 502\ntimeout_ms = 500\nwrite_budget_ms = 500\n'
        '[devices.battery_1]\nprofile = "sunspec_battery_802"\nbus = "battery"\nunit = 1\n'
    )
    return load_plan(file)


def test_it_counts_up_once_a_second_in_every_mode(tmp_path: Path) -> None:
    rig = Rig.make(model=PodModel(with_battery(tmp_path)))
    rig.run(10.0)
    beats = [(at, value) for at, point, value in rig.model.log if point == BEAT]
    assert len(beats) in (10, 11)
    steps = [int(after) - int(before) for (_, before), (_, after) in itertools.pairwise(beats)]
    assert set(steps) == {1}


def test_it_wraps_before_the_number_that_means_nothing(tmp_path: Path) -> None:
    (beat,) = with_battery(tmp_path).pod.heartbeats
    assert [beat.count(at) for at in (65533.5, 65534.2, 65535.0, 65536.0)] == [65533.0, 65534.0, 0.0, 1.0]


def test_it_is_in_the_schedule_as_often_as_it_beats(tmp_path: Path) -> None:
    plan = with_battery(tmp_path)
    bus = next(bus for bus in admitted(plan, "site.toml").plan.buses if bus.name == "battery")
    names = [output.point for output in outputs(plan.pod)]
    quiet, beating = analyse(bus, [], 10.0), analyse(bus, names, 10.0)
    assert 1.0 <= beating.polls_per_s - quiet.polls_per_s <= 2.0, "a write a second, and its read-back"
