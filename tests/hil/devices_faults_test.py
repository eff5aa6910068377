"""What emulated devices do wrong, and what they do by themselves: rubbish, late writes, reboots, a silent bus."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from controller.config.profile import Row, load_profile
from controller.core.points import Kind, Quality, Reading
from controller.fieldbus.codec import decode, encode
from hil.devices.alone import Alone, alone, device_plan
from hil.devices.emulator import Behaviour, Emulator
from hil.devices.encoder import WAYS, spoilt
from hil.devices.watchdogs import HOLD, WATCHES
from hil.record import BUS_LOST, Record
from hil.runner import REFERENCE_POD
from hil.wire import faults
from hil.wire.faults import FaultError
from hil.wire.pdu import ModbusFault, respond

PROFILES = {path.stem: load_profile(path) for path in sorted((REFERENCE_POD.parents[1] / "devices").glob("*.toml"))}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def bare(name: str, clock: Clock) -> Emulator:
    """A device that nothing moves."""
    return Emulator(device_plan(PROFILES[name]), Behaviour(), Record(clock), clock)


def in_a_pod(name: str, clock: Clock) -> Alone:
    device = alone(PROFILES[name], clock=clock)
    behaviour = device.emulator.behaviour
    if hasattr(behaviour, "clock"):
        behaviour.clock = clock
    return device


def reading(emulator: Emulator, name: str) -> Reading:
    emulator._refreshed = -math.inf
    row = emulator.rows[name]
    return decode(row, list(emulator.read(row.table, row.address, row.width)), 0.0)


def write(emulator: Emulator, name: str, value: float | bool) -> None:
    row = emulator.rows[name]
    for words in encode(row, value):
        emulator.write(row.table, row.address, words)


def run(device: Alone, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / device.step_s)):
        clock.now += device.step_s
        device.step()


# ---------------------------------------------------------------- rubbish


FLOAT = Row(table="holding", address=0, type="float32", range=[-1e6, 1e6], source="test")
WORD = Row(table="holding", address=0, type="int16", scale=0.1, range=[-100, 100], source="test")
DIGITS = Row(table="holding", address=0, type="bcd16", range=[0, 9999], source="test")


@pytest.mark.parametrize(
    ("row", "words", "how", "wanted"),
    [
        (WORD, [300], "ffff", [0xFFFF]),
        (FLOAT, [0x41A0, 0], "8000", [0x8000, 0]),
        (FLOAT, [0x41A0, 0], "nan", [0x7FC0, 0]),
        (FLOAT, [0x41A0, 1], "swapped", [1, 0x41A0]),
        (WORD, [0x1234], "swapped", [0x3412]),
        (WORD, [300], "negated", [0xFED4]),
        (FLOAT, [0x41A0, 0], "negated", [0xC1A0, 0]),
        (WORD, [300], "times_10", [3000]),
        (FLOAT, [0x4120, 0], "times_10", [0x42C8, 0]),
        (DIGITS, [0x0123], "times_10", [0x1230]),
        (WORD, [300], "stuck", [300]),
    ],
)  # fmt: skip
def test_rubbish_is_made_as_named(row: Row, words: list[int], how: str, wanted: list[int]) -> None:
    assert spoilt(row, words, how) == wanted


def test_rubbish_that_makes_no_sense_is_refused() -> None:
    flag = Row(table="holding", address=0, bit=3, source="test")
    for row, how in ((WORD, "nan"), (flag, "ffff"), (WORD, "zebra")):
        with pytest.raises(ValueError, match="allowed"):
            spoilt(row, [0], how)
    assert spoilt(flag, [8], "stuck") == [8]


def test_spoilt_point_leaves_its_neighbours_alone(clock: Clock) -> None:
    meter = bare("eastron_sdm630", clock)
    before = {name: reading(meter, name) for name in meter.rows}
    for how in (*WAYS, ""):
        meter.spoil("power", how)
        after = {name: reading(meter, name) for name in meter.rows}
        assert {name for name in after if after[name] != before[name]} <= {"power"}, how
    assert after["power"] == before["power"]


def test_stuck_point_stays_while_the_device_goes_on(clock: Clock) -> None:
    device = in_a_pod("danfoss_fc102", clock)
    device.emulator.spoil("speed", "stuck")
    write(device.emulator, "speed_cmd", 50.0)
    write(device.emulator, "run_cmd", True)
    talk(device, clock, 6, "running")
    assert device.plant.tcs_pumps[0].speed == pytest.approx(0.5, abs=0.01)
    assert reading(device.emulator, "speed").value == 0
    device.emulator.spoil("speed", "")
    assert reading(device.emulator, "speed").value == pytest.approx(50, abs=1)


def no_value() -> Iterator[object]:
    for name, profile in PROFILES.items():
        for point, row in profile.rows.items():
            if row.kind is Kind.NUMBER and (row.sentinels or row.type.startswith("float")) and row.access != "w":
                yield pytest.param(name, point, id=f"{name}-{point}")
                break


@pytest.mark.parametrize(("name", "point"), list(no_value()))
def test_a_value_that_is_not_there_is_never_a_number(name: str, point: str, clock: Clock) -> None:
    emulator = bare(name, clock)
    emulator._put(point, math.nan)
    assert reading(emulator, point).quality is Quality.BAD


def test_faults_of_a_transmitter_that_live_on_the_wire(clock: Clock) -> None:
    device = in_a_pod("eastron_sdm630", clock)
    sensor = device.plant.sensors["feed_power_1"]
    healthy = reading(device.emulator, "power")
    sensor.fail("word_swap")
    swapped = reading(device.emulator, "power")
    assert swapped.value != healthy.value
    sensor.fail("dropout")
    assert reading(device.emulator, "power").quality is Quality.BAD
    sensor.heal()
    assert reading(device.emulator, "power") == healthy


# ---------------------------------------------------------------- registers and writes


def test_shifted_map_and_its_end(clock: Clock) -> None:
    meter = bare("eastron_sdm630", clock)
    words = list(meter.read("input", 52, 2))
    faults.put(meter.faults, "map_shift", 2)
    assert list(meter.read("input", 54, 2)) == words
    with pytest.raises(ModbusFault):
        meter.read("input", 0, 2)


def test_writes_that_come_to_nothing_or_late(clock: Clock) -> None:
    device = in_a_pod("belimo_energy_valve", clock)
    valve, stem = device.emulator, device.plant.valve
    before = stem.command
    valve.faults.ignores_writes = True
    write(valve, "position_cmd", 80.0)
    assert stem.command == before
    assert reading(valve, "position_cmd").value == pytest.approx(100 * before, abs=0.01)
    valve.faults.ignores_writes, valve.faults.write_delay_s = False, 2.0
    write(valve, "position_cmd", 80.0)
    run(device, clock, 1.9)
    assert stem.command == before
    run(device, clock, 0.2)
    assert stem.command == pytest.approx(0.8)
    assert valve.record.writes["belimo_energy_valve.position_cmd"] == 2, "both were acknowledged"


def test_faults_by_name_say_what_is_allowed(clock: Clock) -> None:
    meter = bare("eastron_sdm630", clock)
    for name, value, told in (
        ("zebra", 1, "allowed: silent, refusal"),
        ("map_shift", 5000, "allowed: a whole number from -1000 to 1000"),
        ("silent", 1, "allowed: true or false"),
        ("reply_delay_s", math.nan, "allowed: a number from 0 to 60"),
    ):
        with pytest.raises(FaultError, match=told):
            faults.put(meter.faults, name, value)
    faults.put(meter.faults, "silent", True)
    faults.put(meter.faults, "map_shift", -3)
    meter.force("power", 7.0)
    meter.spoil("power", "ffff")
    assert faults.active(meter.faults) == {"silent": True, "map_shift": -3}
    meter.clear_faults()
    assert (faults.active(meter.faults), meter.forced, meter.spoilt_points) == ({}, {}, {})


def test_reboot_stops_the_machine_and_forgets_commands(clock: Clock) -> None:
    device = in_a_pod("danfoss_fc102", clock)
    pump, drive = device.emulator, device.plant.tcs_pumps[0]
    write(pump, "speed_cmd", 60.0)
    write(pump, "run_cmd", True)
    run(device, clock, 5)
    pump.reboot(3.0)
    assert pump.silent
    assert pump.booting
    assert not drive.run
    run(device, clock, 3.1)
    assert not pump.silent
    assert reading(pump, "speed_cmd").value == 0
    assert reading(pump, "run_cmd").value is False
    assert drive.command == 0
    pump.reboot(1.0, settings_lost=True)
    run(device, clock, 1.1)
    assert reading(pump, "comm_loss_time").value == 0, "of a drive fresh from the factory nobody asked for a watch"


# ---------------------------------------------------------------- a silent bus


def talk(device: Alone, clock: Clock, seconds: float, point: str) -> None:
    """Let a master read once a second."""
    row = device.emulator.rows[point]
    for _ in range(round(seconds)):
        device.emulator.read(row.table, row.address, row.width)
        run(device, clock, 1.0)


def started(name: str, clock: Clock, speed: float = 40.0) -> Alone:
    device = in_a_pod(name, clock)
    write(device.emulator, "speed_cmd", speed)
    row = device.emulator.rows["run_cmd"]
    for words in encode(row, True):
        device.emulator.write(row.table, row.address, words)
        clock.now += row.step_wait_s
    talk(device, clock, 6, "running")
    assert device.plant.tcs_pumps[0].speed == pytest.approx(speed / 100, abs=0.02)
    return device


def test_pump_drive_goes_to_full_speed_after_its_time(clock: Clock) -> None:
    device = started("danfoss_fc102", clock)
    drive, emulator = device.plant.tcs_pumps[0], device.emulator
    run(device, clock, 13.5)
    assert drive.command == pytest.approx(0.4, abs=1e-4), "its 15 s are not over"
    run(device, clock, 1.6)
    assert emulator.bus_lost
    assert drive.command == 1.0
    run(device, clock, 6)
    assert drive.speed == pytest.approx(1.0, abs=0.01)
    assert not any(event.kind != BUS_LOST for event in emulator.record.stops(clock.now - 16)), "nothing stopped"
    talk(device, clock, 4, "running")
    assert not emulator.bus_lost
    assert drive.command == pytest.approx(0.4, abs=1e-4), "what its registers hold counts again"
    assert [event.value for event in emulator.record.since(0, BUS_LOST)] == [True, False]


@pytest.mark.parametrize(
    ("function", "speed", "runs", "fault"), [(0, 0.4, True, False), (1, 0.4, True, False), (2, 0.4, False, False),
                                             (4, 1.0, True, False), (5, 0.4, False, True)],
)  # fmt: skip
def test_each_choice_of_a_drive(function: int, speed: float, runs: bool, fault: bool, clock: Clock) -> None:
    device = started("danfoss_fc102", clock)
    device.emulator.force("comm_loss_function", function)
    run(device, clock, 16.0)
    drive = device.plant.tcs_pumps[0]
    assert (drive.command, drive.run, drive.tripped) == (pytest.approx(speed, abs=1e-4), runs, fault)


def test_facility_pump_holds_its_last_speed(clock: Clock) -> None:
    device = started("abb_ach550", clock)
    run(device, clock, 20.0)
    drive = device.plant.tcs_pumps[0]
    assert (drive.command, drive.run) == (pytest.approx(0.4, abs=1e-4), True)
    assert device.emulator.bus_lost


def test_valve_opens_after_two_minutes(clock: Clock) -> None:
    device = in_a_pod("belimo_energy_valve", clock)
    write(device.emulator, "position_cmd", 20.0)
    run(device, clock, 119.0)
    assert device.plant.valve.command == pytest.approx(0.2)
    run(device, clock, 1.1)
    assert device.plant.valve.command == 1.0


def test_no_watch_before_the_first_request(clock: Clock) -> None:
    device = in_a_pod("danfoss_fc102", clock)
    run(device, clock, 30.0)
    assert not device.emulator.bus_lost


def test_outputs_of_a_coupler_drop_with_its_bus(clock: Clock) -> None:
    coupler = bare("wago_750", clock)
    coupler.force("watchdog_time", 1.0)
    coupler.force("watchdog_type", 1)
    outputs = [name for name, row in coupler.rows.items() if row.access == "rw" and row.kind is Kind.FLAG]
    for name in outputs:
        write(coupler, name, True)
    coupler.read("holding", coupler.rows["watchdog_time"].address, 1)
    clock.now += 2
    coupler.tick()
    assert coupler.bus_lost
    assert not any(reading(coupler, name).value for name in outputs)


def test_heartbeat_is_the_watch_where_the_profile_has_one(clock: Clock) -> None:
    battery = bare("sunspec_battery_802", clock)
    write(battery, "controller_heartbeat", 1.0)
    for _ in range(4):
        clock.now += 1.0
        row = battery.rows["soc"]
        battery.read(row.table, row.address, row.width)
        battery.tick()
    assert battery.bus_lost, "reads are no heartbeat"
    write(battery, "controller_heartbeat", 2.0)
    assert not battery.bus_lost


def test_every_profile_with_outputs_says_what_a_silent_bus_does() -> None:
    with_outputs = {
        name for name, profile in PROFILES.items() if any(row.access != "r" for row in profile.rows.values())
    }
    assert with_outputs <= set(WATCHES) | HOLD
    assert not set(WATCHES) & HOLD
    assert set(WATCHES) | HOLD <= set(PROFILES)
    for name, watch in WATCHES.items():
        named = {where for where in (watch.time, watch.function, watch.beat) if isinstance(where, str) and where}
        assert named <= set(PROFILES[name].rows), name


# ---------------------------------------------------------------- alone


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_comes_alive_alone(name: str, clock: Clock) -> None:
    device = in_a_pod(name, clock)
    run(device, clock, 1.0)
    bad = []
    for point, row in PROFILES[name].rows.items():
        if row.access == "w" or 0 in row.sentinels:  # of a counter at nought that means that there is none
            continue
        emulator = device.emulator
        if emulator.quirks.even_reads and row.width % 2:
            continue
        found = reading(emulator, point)
        if found.quality is not Quality.GOOD:
            bad.append((point, found.reason))
    assert not bad
    refused = respond(device.emulator, bytes((3, 0xFF, 0xFF, 0, 1)))
    assert refused[0] in (0x83, 3)


def test_machines_alone_obey(clock: Clock) -> None:
    pump = started("grundfos_cim", clock)
    assert reading(pump.emulator, "running").value is True
    pdu = in_a_pod("gude_expert_pdu_8311", clock)
    write(pdu.emulator, "outlet_1", True)
    on = pdu.plant.racks[0].outlets
    assert on[0]
