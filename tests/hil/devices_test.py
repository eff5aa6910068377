"""Emulators: their own encoder against the profiles' golden vectors, and what their registers allow and do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pytest

from controller.config.plan import Plan, load_plan
from controller.config.profile import Golden, Profile, Row, load_profile
from controller.core.points import Kind, Quality
from controller.fieldbus.codec import decode
from hil.devices.build import emulators_of, plant_of
from hil.devices.emulator import Emulator
from hil.devices.encoder import Bank, meaning, place, placer, words_of
from hil.plant.plant import Plant
from hil.record import BROKEN, COMMAND, Record
from hil.runner import REFERENCE_POD
from hil.wire.pdu import ModbusFault

PROFILES = {path.stem: load_profile(path) for path in sorted((REFERENCE_POD.parents[1] / "devices").glob("*.toml"))}


def memory(golden: Golden, table: str) -> Bank:
    spans: Mapping[str, Mapping[str, list[int]]] = {
        "holding": golden.holding,
        "input": golden.input,
        "coil": golden.coil,  # type: ignore[dict-item]
        "discrete": golden.discrete,  # type: ignore[dict-item]
    }
    return {int(start) + at: int(word) for start, words in spans[table].items() for at, word in enumerate(words)}


def goldens() -> Iterator[object]:
    for name, profile in PROFILES.items():
        for index, golden in enumerate(profile.tables.golden):
            yield pytest.param(profile, golden, id=f"{name}-{index}")


def told_bits(row: Row) -> int:
    """The bits of its register that a flag's row speaks of."""
    return 1 << row.bit if row.bit is not None else row.mask


@pytest.mark.parametrize(("profile", "golden"), list(goldens()))
def test_encoder_makes_the_golden_words(profile: Profile, golden: Golden) -> None:
    for name, value in golden.values.items():
        row = profile.rows[name]
        known = memory(golden, row.table)
        addresses = range(row.address, row.address + row.width)
        if value == "bad" or not all(address in known for address in addresses):
            continue
        bank: Bank = {}
        place(bank, row, value)
        for address in addresses:
            if row.table in ("holding", "input") and row.kind is Kind.FLAG:
                told = told_bits(row)
                if row.on is not None and row.off is None and not value:
                    assert known[address] & told != row.on_words[-1] & told, name
                else:
                    assert bank[address] & told == known[address] & told, name
            else:
                assert bank[address] == known[address], f"{name} at {address}"


@pytest.mark.parametrize(("profile", "golden"), list(goldens()))
def test_what_a_master_writes_is_understood(profile: Profile, golden: Golden) -> None:
    for name, value in golden.values.items():
        row = profile.rows[name]
        known = memory(golden, row.table)
        addresses = range(row.address, row.address + row.width)
        if row.access == "r" or value == "bad" or not all(address in known for address in addresses):
            continue
        assert meaning(row, [known[address] for address in addresses]) == pytest.approx(value), name


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_placer_of_a_row_does_as_place_does(profile: Profile) -> None:
    """Whatever the registers held before, and for values inside, at the edge and outside of what they can hold."""
    for name, row in profile.rows.items():
        words = range(row.address, row.address + row.width)
        values: list[float | str] = (
            ["rack", ""] if row.type == "text" else [0, 1, True, False, 41.5, -3.2, 70_000, -1e12]
        )
        values += [edge for edge in row.range or () if row.type != "text"]
        for held in (0, 0xFFFF, 0xA5C3):
            for value in values:
                ways: list[object] = []
                for put in (lambda bank, value, row=row: place(bank, row, value), placer(row)):
                    bank: Bank = dict.fromkeys(words, held if row.table in ("holding", "input") else held & 1)
                    if row.scale_from is not None:
                        bank[row.scale_from] = 0xFFFE
                    try:
                        put(bank, value)
                    except (ValueError, OverflowError) as error:
                        ways.append(type(error))
                    else:
                        ways.append(bank)
                assert ways[0] == ways[1], f"{name} = {value} over 0x{held:04X}"


def test_encoder_refuses_what_does_not_fit() -> None:
    row = Row(table="holding", address=0, type="int16", range=[-100, 100], source="test")
    assert words_of(row, -1) == [0xFFFF]
    with pytest.raises(ValueError, match="int16"):
        words_of(row, 40000)


# ---------------------------------------------------------------- the reference pod's devices


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(REFERENCE_POD)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(clock: Clock) -> Record:
    return Record(clock)


@pytest.fixture
def plant(plan: Plan) -> Plant:
    plant = plant_of(plan, 0.6, 1)
    plant.step()
    return plant


@pytest.fixture
def emulators(plan: Plan, plant: Plant, record: Record, clock: Clock) -> dict[str, Emulator]:
    found = emulators_of(plan, plant, record)
    for emulator in found.values():
        emulator.clock = clock
        if hasattr(emulator.behaviour, "clock"):
            emulator.behaviour.clock = clock
    return found


def value(emulator: Emulator, name: str) -> object:
    """A point's value as the controller would read it now."""
    emulator._refreshed = -math.inf
    row = emulator.rows[name]
    reading = decode(row, list(emulator.read(row.table, row.address, row.width)), 0.0)
    assert reading.quality is Quality.GOOD, f"{emulator.name}.{name}: {reading.reason}"
    return reading.value


def write(emulator: Emulator, name: str, *words: int) -> None:
    row = emulator.rows[name]
    emulator.write(row.table, row.address, words)


def run(plant: Plant, seconds: float) -> None:
    for _ in range(round(seconds / 0.05)):
        plant.step()


def test_every_device_of_the_pod_is_there_and_every_point_is_good(
    plan: Plan, plant: Plant, emulators: dict[str, Emulator]
) -> None:
    assert set(emulators) == {device.name for device in plan.devices}
    for rack in plant.racks:
        rack.outlets, rack.load = [True] * len(rack.outlets), 1.0
    run(plant, 10)
    absent = ("sensor_1_", "sensor_2_", "watchdog_min_time")
    for emulator in emulators.values():
        for name, row in emulator.rows.items():
            if not name.startswith(absent) and row.access != "w":
                value(emulator, name)


def test_devices_wake_up_as_commissioned(plan: Plan, emulators: dict[str, Emulator]) -> None:
    for expected in plan.pod.expected:
        device, _, name = expected.point.partition(".")
        assert value(emulators[device], name) == pytest.approx(expected.value), expected.point


def code(emulator: Emulator, table: str, address: int, count: int) -> int:
    with pytest.raises(ModbusFault) as caught:
        emulator.read(table, address, count)
    return caught.value.code


def test_reads_are_bounded_by_map_and_size(emulators: dict[str, Emulator]) -> None:
    pump, valve, meter = emulators["pump_1"], emulators["rack_valve_1"], emulators["meter_a"]
    assert code(pump, "holding", 50200, 1) == 64, "this maker's own code for a parameter that is not there"
    assert code(pump, "input", 0, 1) == 64
    assert code(pump, "holding", 50199, 3) == 2, "and of a request over its limits"
    assert code(meter, "input", 53, 2) == 2, "half of a float"
    assert code(meter, "input", 0, 1) == 3, "this meter refuses an odd number of registers"
    assert len(valve.read("holding", 0, 10)) == 10, "a small hole that the valve bears"
    assert code(valve, "holding", 200, 1) == 2


def test_writes_are_all_or_none(emulators: dict[str, Emulator]) -> None:
    valve, pdu = emulators["rack_valve_1"], emulators["pdu_1a"]
    for table, address, words, wanted in (
        ("holding", 4, [1], 2),
        ("holding", 0, [10001], 3),
        ("holding", 999, [1], 2),
    ):
        with pytest.raises(ModbusFault) as caught:
            valve.write(table, address, words)
        assert caught.value.code == wanted
    with pytest.raises(ModbusFault):
        pdu.write("coil", 2, [1, 1, 1])
    assert pdu.read("coil", 0, 4) == [0, 0, 0, 0]


def test_danfoss_drive_runs_and_stops(emulators: dict[str, Emulator], plant: Plant, record: Record) -> None:
    pump = emulators["pump_2"]
    write(pump, "speed_cmd", 0x2000)
    write(pump, "run_cmd", 0x047C)
    run(plant, 5)
    assert value(pump, "running") is True
    assert value(pump, "speed") == pytest.approx(50, abs=0.1)
    assert value(pump, "power") > 0
    write(pump, "run_cmd", 0x043C)
    run(plant, 6)
    assert value(pump, "running") is False
    assert [(event.kind, event.device, event.value) for event in record.events] == [
        (COMMAND, "pump_2", True),
        (COMMAND, "pump_2", False),
    ]
    assert record.writes["pump_2.run_cmd"] == 2


ABB_START = (0x0006, 0x0007, 0x000F, 0x002F, 0x006F)


def start_abb(pump: Emulator, clock: Clock, pause_s: float = 0.1) -> None:
    for word in ABB_START:
        write(pump, "run_cmd", word)
        clock.now += pause_s


def test_abb_drive_needs_its_sequence(
    emulators: dict[str, Emulator], plant: Plant, record: Record, clock: Clock
) -> None:
    pump = emulators["fws_pump_1"]
    write(pump, "run_cmd", 0x006F)
    assert not plant.facility.pumps[0].run
    start_abb(pump, clock, pause_s=0.02)
    assert not plant.facility.pumps[0].run, "words closer together than the drive takes"
    start_abb(pump, clock)
    assert plant.facility.pumps[0].run
    write(pump, "run_cmd", 0x006F)
    assert plant.facility.pumps[0].run, "the running word once more changes nothing"
    mark = clock.now
    write(pump, "run_cmd", 0x006E)
    assert [event.kind for event in record.stops(mark)] == [COMMAND]


def test_abb_sequence_sent_to_a_running_drive_shows_as_a_stop(
    emulators: dict[str, Emulator], plant: Plant, record: Record, clock: Clock
) -> None:
    pump = emulators["fws_pump_1"]
    write(pump, "speed_cmd", 17000)
    start_abb(pump, clock)
    run(plant, 6)
    mark = clock.now
    start_abb(pump, clock)
    assert [event.kind for event in record.stops(mark)] == [BROKEN, COMMAND]
    assert "0x0006" in record.stops(mark)[0].note


def test_outlets_carry_heat_and_are_on_record(
    emulators: dict[str, Emulator], plant: Plant, record: Record, clock: Clock
) -> None:
    pdu, meter = emulators["pdu_1a"], emulators["meter_a"]
    write(pdu, "outlet_1", 1)
    write(pdu, "outlet_1", 1)
    write(pdu, "outlet_4", 1)
    run(plant, 5)
    outlets = plant.racks[0].outlets
    assert [index for index, on in enumerate(outlets) if on] == [0, 3]
    assert plant.it_kw == pytest.approx(130 * 0.6 * 2 / (len(outlets) / 2)), "one of a shelf's two outlets carries it"
    assert value(pdu, "outlet_1") is True
    phases = [value(pdu, f"phase_{phase}_power") for phase in (1, 2, 3)]
    assert sum(phases) == pytest.approx(plant.sensors["branch_power_1_1"].value, abs=0.01)  # type: ignore[arg-type]
    assert value(meter, "power") == pytest.approx(plant.sensors["feed_power_1"].value, rel=1e-6)
    assert value(meter, "power") == pytest.approx(plant.it_kw, rel=0.03)
    assert [(event.point, event.value) for event in record.outlets(0)] == [("outlet_1", True), ("outlet_4", True)]
    run(plant, 60)
    assert value(meter, "energy_import") == pytest.approx(65 * plant.it_kw / 3600, rel=0.01)


def test_valve_travels(emulators: dict[str, Emulator], plant: Plant) -> None:
    valve = emulators["hx_valve"]
    write(valve, "position_cmd", 5000)
    run(plant, 9)
    assert value(valve, "position") == pytest.approx(30, abs=0.5)
    run(plant, 9)
    assert value(valve, "position") == pytest.approx(50, abs=0.01)


def test_chiller_starts_on_command(emulators: dict[str, Emulator], plant: Plant) -> None:
    chiller = emulators["chiller_1"]
    plant.facility.pumps[0].run, plant.facility.pumps[0].command = True, 0.85
    run(plant, 10)
    write(chiller, "supply_temp_sp", 18)
    write(chiller, "run_cmd", 1)
    run(plant, 30)
    assert value(chiller, "running") is False
    assert value(chiller, "system_status") == 2
    run(plant, 31)
    assert value(chiller, "running") is True
    assert value(chiller, "active_supply_sp") == pytest.approx(18)
    assert value(chiller, "fault") is False


def test_remote_io_shows_the_plant(emulators: dict[str, Emulator], plant: Plant) -> None:
    io = emulators["io_1"]
    for drive in plant.tcs_pumps:
        drive.run, drive.command = True, 0.78
    run(plant, 20)
    assert value(io, "tcs_flow") == pytest.approx(plant.flow_lpm, abs=10)
    assert value(io, "supply_temp_1") == pytest.approx(plant.supply_c, abs=0.3)
    assert value(io, "suction_pressure") == pytest.approx(plant.suction_kpa, abs=3)
    assert value(io, "reservoir_level_ok") is True
    assert value(io, "epo") is False
    io.force("epo", True)
    assert value(io, "epo") is True
    io.force("epo", None)
    assert value(io, "epo") is False


def test_room_is_dry_enough_for_the_loop(emulators: dict[str, Emulator]) -> None:
    for name in ("room_1", "room_2"):
        assert 15 < value(emulators[name], "temperature") < 30  # type: ignore[operator]
        assert 30 < value(emulators[name], "humidity") < 60  # type: ignore[operator]


def test_forced_leak_shows_in_its_own_bit(emulators: dict[str, Emulator]) -> None:
    leak = emulators["leak_1"]
    leak.force("zone_3_leak", True)
    assert value(leak, "zone_3_leak") is True
    assert value(leak, "zone_2_leak") is False
    assert value(leak, "leak") is False
