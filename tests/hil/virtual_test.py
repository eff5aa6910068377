"""The virtual body: it reads what the wire would bring, and the same seed gives the same run."""

from __future__ import annotations

import pytest

from controller.config.plan import Plan, load_plan
from controller.core.points import Quality
from controller.fieldbus.codec import decode
from controller.fieldbus.units import PROBE_FIRST_S
from hil.runner import REFERENCE_POD
from hil.virtual import VirtualStage, virtual_plan
from hil.warm import hurried, warm_up

SLOWEST_S = 10.0


@pytest.fixture(scope="module")
def plan() -> Plan:
    return virtual_plan(load_plan(REFERENCE_POD))


def started(plan: Plan, seed: int = 1) -> VirtualStage:
    stage = VirtualStage(plan, seed=seed)
    stage.controller(True)
    return stage


def test_every_readable_point_is_read_as_the_wire_brings_it(plan: Plan) -> None:
    stage = started(hurried(plan))
    stage.advance(60.0)
    pairs = 0
    for emulator in stage.emulators.values():
        emulator.refresh = lambda: None  # type: ignore[method-assign]  # registers stand still for both ways
    for bus in stage.buses.values():  # without the engine: nothing is written any more
        bus.advance(stage.now, stage.now + SLOWEST_S + 3.0)
    for device in plan.devices:
        emulator = stage.emulators[device.name]
        for point in device.points:
            if not point.point.readable:
                continue
            bank = emulator.banks[point.row.table]
            words = [bank[at] for at in range(point.row.address, point.row.address + point.row.width)]
            wanted, got = decode(point.row, words, 0.0), stage.inbox[point.point.id]
            assert (got.value, got.quality) == (wanted.value, wanted.quality), point.point.id
            age = stage.buses[device.bus].at - got.at
            assert point.period_s is None or age <= point.period_s + 0.4, point.point.id
            pairs += 1
    assert pairs > 1500


def test_pod_comes_up_and_the_next_controller_takes_over(plan: Plan) -> None:
    stage = VirtualStage(plan, load=1.0)
    warm_up(stage)
    running = [pump.running for pump in stage.plant.tcs_pumps]
    assert running == [True, True, True]
    mark = stage.now
    stage.controller(True)
    stage.advance(20.0)
    assert stage.seen.mode == "NORMAL"
    assert "taken over" in stage.seen.modes[-1].what["cause"]
    assert stage.record.stops(mark) == []
    assert stage.record.outlets(mark) == []
    assert stage.plant.supply_c == pytest.approx(30.0, abs=1.5)


def figures(stage: VirtualStage) -> list[object]:
    columns = [values.tobytes() for values in stage.recorder.values.values()]
    return [*columns, stage.seen.writes, stage.seen.modes, stage.seen.alarms, dict(stage.inbox)]


def test_same_seed_same_run_to_the_bit(plan: Plan) -> None:
    runs = []
    for seed in (7, 7, 8):
        stage = started(hurried(plan), seed)
        stage.advance(30.0)
        stage.inject("wire.crc_noise", "cooling", 0.5)
        stage.advance(20.0)
        runs.append(figures(stage))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_pulled_bus_ages_then_comes_back(plan: Plan) -> None:
    stage = started(plan)
    stage.advance(5.0)
    assert stage.inbox["cooling.online"].value is True
    stage.inject("wire.unplugged", "cooling")
    last = stage.inbox["pump_1.speed"].at
    stage.advance(12.0)
    assert stage.inbox["cooling.online"].value is False
    assert stage.inbox["pump_1.speed"].at - last < 0.5
    assert stage.engine is not None
    assert any(said.what["id"] == "cooling_lost" for said in stage.seen.alarms)
    stage.heal("wire.unplugged")
    stage.advance(6.0)
    assert stage.inbox["cooling.online"].value is True
    assert stage.now - stage.inbox["pump_1.speed"].at < 1.5


def test_silent_device_and_exceptions(plan: Plan) -> None:
    stage = started(plan)
    stage.advance(5.0)
    stage.inject("device.silent", "pump_2")
    stage.inject("device.exception", "io_1", 4)
    stage.advance(5.0)
    assert stage.inbox["pump_2.comms"].value is False
    assert stage.inbox["pump_1.comms"].value is True, "the others on its line are not held up"
    assert stage.now - stage.inbox["pump_1.speed"].at < 1.5
    assert stage.inbox["io_1.tcs_flow"].quality is Quality.BAD
    stage.heal()
    stage.advance(PROBE_FIRST_S + 3.0)
    assert stage.inbox["pump_2.comms"].value is True
    assert stage.inbox["io_1.tcs_flow"].quality is Quality.GOOD


def test_killed_controller_says_and_writes_nothing_until_it_is_back(plan: Plan) -> None:
    stage = VirtualStage(plan, load=1.0)
    warm_up(stage)
    stage.controller(True)
    stage.advance(10.0)
    stage.inject("controller.killed")
    writes = len(stage.seen.writes)
    stage.advance(8.0)
    assert len(stage.seen.writes) == writes
    mark = stage.now
    stage.heal("controller.killed")
    stage.advance(10.0)
    assert len(stage.seen.writes) > writes
    assert stage.seen.mode == "NORMAL"
    assert stage.record.stops(mark) == []
    assert stage.boots == 3


def test_planted_error_in_the_reading_is_seen(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above would notice a stage that reads a neighbour's word."""
    from hil import virtual_bus

    plain = virtual_bus.VirtualBus._take
    monkeypatch.setattr(virtual_bus.VirtualBus, "_take", lambda bus, words, seen: plain(bus, (*words[1:], 0), seen))
    with pytest.raises((AssertionError, KeyError)):
        test_every_readable_point_is_read_as_the_wire_brings_it(plan)


FAULTS: tuple[tuple[str, str, float | str | None], ...] = (
    ("wire.crc_noise", "cooling", 0.3), ("wire.unplugged", "feed_2b", None), ("device.silent", "pump_2", None),
    ("device.exception", "io_1", 2), ("device.slow", "pump_1", 0.02), ("device.late_writes", "pump_1", 2.0),
    ("device.reboot", "pump_1", 2.0), ("device.map_shift", "io_1", 1), ("point.garbage", "pump_1.speed", "ffff"),
    ("sensor.word_swap", "tcs_flow", None), ("sensor.dropout", "tcs_flow", None),
)  # fmt: skip


def stage_of_faults(plan: Plan, scan_s: float | None) -> list[object]:
    """Everything that a run with one fault after the other brings, and how far its buses have come.

    Args:
        scan_s: time between two scans; None for the plan's.
    """
    stage = started(hurried(plan))
    step_s = scan_s or 1.0
    stage.stride = round(scan_s / plan.scan_s) if scan_s else 1
    told: list[object] = []
    for fault, target, value in (("", "", None), *FAULTS):
        if fault:
            stage.inject(fault, target, *(() if value is None else (value,)))
        for _ in range(4):
            stage.advance(step_s)
            told += [dict(stage.inbox), [(bus.at, dict(bus.counters)) for bus in stage.buses.values()]]
        stage.heal()
        stage.advance(2.0 * step_s)
    return [*told, *figures(stage)]


@pytest.mark.parametrize("scan_s", [None, 4.0])
def test_reading_on_brings_what_reading_singly_brings(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, scan_s: float | None
) -> None:
    """A bus that judges every exchange by itself has the same values, times and counters, whatever is wrong with it.

    With 4 s between scans it leaves out most reads, which nobody would see.
    """
    from hil import virtual_bus

    went_on = []
    plain = virtual_bus.VirtualBus._read_on
    monkeypatch.setattr(
        virtual_bus.VirtualBus, "_read_on", lambda bus, end: (went_on.append(bus.name), plain(bus, end))[1]
    )
    quick = stage_of_faults(plan, scan_s)
    assert len(set(went_on)) == len(plan.buses), "no bus is read singly from beginning to end"
    monkeypatch.setattr(virtual_bus.VirtualBus, "_undisturbed", lambda bus: False)
    went_on.clear()
    assert stage_of_faults(plan, scan_s) == quick
    assert went_on == []
