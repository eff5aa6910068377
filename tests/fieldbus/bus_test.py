"""The bus worker in front of emulated devices on real sockets and serial lines."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from controller.clock import SystemClock
from controller.config.plan import Plan, load_plan
from controller.core.image import freeze
from controller.core.interlocks import Write
from controller.core.points import Kind, Point, Quality, Reading, bad, good
from controller.fieldbus.bus import BusWorker, differs
from controller.fieldbus.writes import Fate
from hil.record import BROKEN
from hil.runner import Bench

pytestmark = pytest.mark.timeout(60)


class Rig:
    """One bench, and a worker for each bus that a test asks for."""

    def __init__(self, bench: Bench, plan: Plan) -> None:
        self.bench, self.plan = bench, plan
        self.inbox: dict[str, Reading] = {}
        self.safety = 0
        self.workers: dict[str, BusWorker] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def _changed(self) -> None:
        self.safety += 1

    def start(self, *buses: str) -> None:
        for bus in self.plan.buses:
            if bus.name in buses:
                worker = self.workers[bus.name] = BusWorker(bus, self.inbox, SystemClock(), self._changed)
                self._tasks.append(asyncio.create_task(worker.run()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for task in self._tasks:
            assert task.cancelled(), task

    async def until(self, condition: Callable[[], bool], limit_s: float = 10) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():  # noqa: ASYNC110  what is awaited is a value in a dictionary
                await asyncio.sleep(0.02)

    def value(self, point: str) -> object:
        reading = self.inbox.get(point)
        return reading.value if reading else None

    def write(self, point: str, value: float | bool, *, safety: bool = True) -> None:
        bus = self.plan.pod.device_bus[point.split(".", maxsplit=1)[0]]
        self.workers[bus].submit(Write(point, value, safety, "test"))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with Bench() as bench:
        found = Rig(bench, load_plan(bench.site_file))
        yield found
        await found.stop()


def all_read(rig: Rig, devices: Sequence[str]) -> Callable[[], bool]:
    points = [p.id for p in rig.plan.pod.points.values() if p.device in devices and p.readable]
    return lambda: all(point in rig.inbox for point in points)


async def test_every_point_is_read_and_no_gap_is_too_short(rig: Rig) -> None:
    rig.start("cooling", "field", "io", "valves")
    devices = [d.name for b in rig.plan.buses if b.name in ("cooling", "field", "io", "valves") for d in b.devices]
    await rig.until(all_read(rig, devices), 20)
    bad_points = {name: reading for name, reading in rig.inbox.items() if reading.quality is not Quality.GOOD}
    assert not bad_points
    for bus in ("cooling", "field"):
        counters = rig.bench.buses[bus].counters
        assert counters.short_gaps == 0, counters
    assert rig.value("cooling.online") is True


async def test_a_write_arrives_and_is_read_back(rig: Rig) -> None:
    rig.start("cooling")
    await rig.until(lambda: rig.value("pump_1.speed_cmd") is not None, 20)
    rig.write("pump_1.speed_cmd", 42.0)
    rig.write("pump_1.run_cmd", True)
    await rig.until(lambda: rig.value("pump_1.running") is True)
    await rig.until(lambda: rig.value("pump_1.speed_cmd") == pytest.approx(42.0, abs=0.01))


async def test_a_command_sequence_starts_a_drive_and_never_stops_a_running_one(rig: Rig) -> None:
    rig.start("water")
    rig.write("fws_pump_1.run_cmd", True)
    await rig.until(lambda: rig.value("fws_pump_1.running") is True)
    marks = len(rig.bench.record.events)
    for _ in range(3):
        rig.write("fws_pump_1.run_cmd", True)
        written = rig.workers["water"].counters["writes"]
        await rig.until(lambda written=written: rig.workers["water"].counters["writes"] > written)  # type: ignore[misc]
    events = rig.bench.record.events[marks:]
    assert not [event for event in events if event.kind == BROKEN or not event.value]


async def test_the_bus_is_free_between_the_words_of_a_sequence(rig: Rig) -> None:
    rig.start("water")
    await rig.until(all_read(rig, ["fws_pump_1", "leak_1"]), 20)
    worker = rig.workers["water"]
    rig.write("fws_pump_1.run_cmd", True)
    begun = worker.counters["transactions"]
    written = worker.counters["writes"]
    await rig.until(lambda: worker.counters["writes"] > written)
    assert worker.counters["transactions"] - begun >= 6 + 4, "five words, one look before, and reads in between"


async def test_a_stop_beats_the_rest_of_a_start(rig: Rig) -> None:
    rig.start("water")
    await rig.until(all_read(rig, ["fws_pump_1"]), 20)
    rig.write("fws_pump_1.run_cmd", True)
    await asyncio.sleep(0.15)  # within the sequence of five words, 0.1 s apart
    rig.write("fws_pump_1.run_cmd", False)
    await rig.until(lambda: rig.workers["water"].counters["writes"] >= 1)
    await asyncio.sleep(1.0)
    assert rig.value("fws_pump_1.running") is False
    assert not any(event.value for event in rig.bench.record.events if event.point == "running")


async def test_a_silent_device_is_left_alone_and_the_others_go_on(rig: Rig) -> None:
    rig.start("field")
    await rig.until(all_read(rig, ["meter_a", "room_1"]), 20)
    rig.bench.silence("meter_a")
    assert rig.workers["field"].in_words() == "", "nothing went wrong yet"
    await rig.until(lambda: rig.value("meter_a.comms") is False)
    assert "99 % within" in rig.workers["field"].in_words()
    assert "timeout" in rig.workers["field"].in_words()
    before = rig.inbox["meter_b.power"].at
    await rig.until(lambda: rig.inbox["meter_b.power"].at >= before + 3)
    asked = rig.workers["field"].counters["timeouts"]
    image = freeze(rig.inbox, rig.plan.pod.points, SystemClock().monotonic())
    assert image.reading("meter_a.power").quality is Quality.STALE
    assert image.reading("meter_b.power").quality is Quality.GOOD
    assert rig.value("field.online") is True
    rig.bench.silence("meter_a", silent=False)
    await rig.until(lambda: rig.value("meter_a.comms") is True, 20)
    assert rig.workers["field"].counters["timeouts"] <= asked + 3


async def test_an_exception_is_a_quality_with_its_reason(rig: Rig) -> None:
    rig.start("io")
    await rig.until(all_read(rig, ["io_1"]), 20)
    rig.bench.exception("io_1", 4)
    await rig.until(lambda: rig.inbox["io_1.tcs_flow"].quality is Quality.BAD)
    assert rig.inbox["io_1.tcs_flow"].value is None
    assert "device failure" in rig.inbox["io_1.tcs_flow"].reason
    assert rig.value("io_1.comms") is True, "it answers, so it is not silent"
    rig.bench.exception("io_1", 0)
    await rig.until(lambda: rig.inbox["io_1.tcs_flow"].quality is Quality.GOOD)


@pytest.mark.parametrize("bus", ["field", "io"])
async def test_a_lost_link_is_told_at_once_and_made_again(rig: Rig, bus: str) -> None:
    rig.start(bus)
    await rig.until(lambda: rig.value(f"{bus}.online") is True, 20)
    await rig.bench.unplug(bus)
    await rig.until(lambda: rig.value(f"{bus}.online") is False, 2)
    await rig.bench.replug(bus)
    await rig.until(lambda: rig.value(f"{bus}.online") is True, 12)
    assert rig.workers[bus].counters["links lost"] >= 1
    assert "links lost 1" in rig.workers[bus].in_words()


async def test_a_late_reply_becomes_no_other_points_value(rig: Rig) -> None:
    """A device slower than the timeout: its answers come while the next question waits."""
    rig.start("field")
    await rig.until(all_read(rig, ["room_1", "room_2"]), 20)
    rig.bench.force("room_1.temperature", 11.1)
    rig.bench.force("room_2.temperature", 77.7)
    await rig.until(lambda: rig.value("room_1.temperature") == pytest.approx(11.1))
    await rig.until(lambda: rig.value("room_2.temperature") == pytest.approx(77.7))
    line = rig.bench.buses["field"]
    late = rig.bench.emulators["room_1"]
    normal = late.device_time_s
    seen: set[object] = set()
    late.device_time_s = 0.35  # past the 300 ms timeout of this bus
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(12):
            while True:
                seen.add(rig.value("room_2.temperature"))
                assert rig.value("room_1.temperature") == pytest.approx(11.1)
                await asyncio.sleep(0.02)
    late.device_time_s = normal
    assert len(seen) == 1
    assert line.counters.short_gaps == 0


async def test_a_write_is_verified_by_the_register_it_went_to(rig: Rig) -> None:
    rig.start("cooling")
    await rig.until(lambda: rig.value("pump_1.speed_cmd") is not None, 20)
    for step in range(100):
        rig.write("pump_1.speed_cmd", float(step))
    await rig.until(lambda: rig.workers["cooling"].order("pump_1.speed_cmd").fate is Fate.VERIFIED)
    assert rig.value("pump_1.speed_cmd") == pytest.approx(99.0, abs=0.01)
    assert rig.value("pump_1.write_fault") is False


async def test_a_write_to_a_silent_device_is_told_as_expired(rig: Rig) -> None:
    rig.start("cooling")
    await rig.until(lambda: rig.value("pump_1.comms") is True, 20)
    rig.bench.silence("pump_1")
    rig.write("pump_1.run_cmd", True)
    await rig.until(lambda: rig.workers["cooling"].order("pump_1.run_cmd").fate is Fate.EXPIRED, 15)
    rig.bench.silence("pump_1", silent=False)
    await rig.until(lambda: rig.value("pump_1.comms") is True, 20)
    assert rig.value("pump_1.running") is False, "what is too old is not written when the device is back"


async def test_a_value_that_does_not_fit_is_refused_and_the_bus_goes_on(rig: Rig) -> None:
    rig.start("cooling")
    await rig.until(lambda: rig.value("pump_1.running") is not None, 20)
    rig.write("pump_1.speed_cmd", 1e9)
    await rig.until(lambda: rig.workers["cooling"].counters["writes failed"] == 1)
    assert rig.workers["cooling"].order("pump_1.speed_cmd").fate is Fate.REFUSED
    assert rig.value("pump_1.write_fault") is True
    before = rig.inbox["pump_1.running"].at
    await rig.until(lambda: rig.inbox["pump_1.running"].at > before)


def test_what_starts_a_scan_at_once() -> None:
    flag = Point("d", "flag", Kind.FLAG, safety=True)
    flow = Point("d", "flow", Kind.NUMBER, "L/min", 0.0, 2000.0, safety=True)
    assert differs(None, good(True, 0.0), flag)
    assert differs(good(False, 0.0), good(True, 1.0), flag)
    assert not differs(good(True, 0.0), good(True, 1.0), flag)
    assert not differs(good(1300.0, 0.0), good(1305.0, 1.0), flow)
    assert differs(good(1300.0, 0.0), good(1000.0, 1.0), flow)
    assert differs(good(1300.0, 0.0), bad("x", 1.0), flow)
