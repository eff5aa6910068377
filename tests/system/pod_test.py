"""The whole pod: the controller as its own process in front of emulated devices on real sockets and serial lines.

One pod serves every test of this file, in order; each leaves it in NORMAL. What equipment did is taken from the
bench's own record, what the controller says from a broker, as a BMS would.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from hil.monitor import Monitor, Picture
from hil.runner import Bench

LOOPBACK = "127.0.0.1"
KEEPALIVE_S = 5
NORMAL_MAX_S = 75.0
TAKE_OVER_MAX_S = 10.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(180),
]


@dataclass
class PodUnderTest:
    bench: Bench
    monitor: Monitor
    broker_port: int

    @property
    def picture(self) -> Picture:
        return self.monitor.picture

    async def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> float:
        """Wait for a condition on what is seen; return how long it took."""
        start = time.monotonic()
        while not condition():
            took = time.monotonic() - start
            state = self.picture.table("state")
            tail = "\n".join(list(self.bench.stderr_tail)[-8:])
            assert took < limit_s, f"{what}: not within {limit_s} s; {state.get('mode')} {state.get('missing')}\n{tail}"
            await asyncio.sleep(0.05)
        return time.monotonic() - start

    async def normal(self, limit_s: float) -> float:
        return await self.until(lambda: self.picture.mode == "NORMAL", limit_s, "NORMAL")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    """A real mosquitto where there is one; 0 asks the bench for its embedded broker."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    if program is None:
        yield 0
        return
    from hil.runner import free_port

    port = free_port()
    settings = tmp_path_factory.mktemp("mosquitto") / "mosquitto.conf"
    settings.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\n")
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(settings), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    for _ in range(100):
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            break
    yield port
    process.terminate()
    await process.wait()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(broker: int) -> AsyncIterator[PodUnderTest]:
    mqtt = {"port": broker, "protocol": "auto"} if broker else {}
    overrides = {"links": {"native": {**mqtt, "keepalive_s": KEEPALIVE_S}}}
    async with Bench(broker=not broker, overrides=overrides) as bench:
        port = broker or bench.mqtt_port
        monitor = Monitor(LOOPBACK, port, bench.root)
        monitor.start()
        await bench.start_controller()
        yield PodUnderTest(bench, monitor, port)
        await monitor.stop()


async def test_from_off_to_normal(pod: PodUnderTest) -> None:
    took = await pod.normal(NORMAL_MAX_S)
    assert took <= NORMAL_MAX_S
    await pod.until(lambda: pod.picture.number("pod", "racks_energised") == 8, 5, "eight racks")
    assert len(pod.picture.devices or ()) == 40
    assert (pod.picture.points or 0) >= 500
    assert not pod.bench.record.stops(0.0), "nothing that ran was stopped on the way up"
    first_outlet = min(event.at for event in pod.bench.record.outlets(0.0))
    first_pump = min(event.at for event in pod.bench.record.since(0.0, "running") if event.device.startswith("pump"))
    assert first_outlet > first_pump


async def test_no_device_is_asked_what_it_does_not_have(pod: PodUnderTest) -> None:
    for bus in pod.bench.buses:
        assert pod.picture.value(bus, "online") is True, bus
        assert pod.picture.number(bus, "errors") == 0, bus


async def test_every_point_of_every_device_is_good(pod: PodUnderTest) -> None:
    bad = {
        f"{device}.{name}": entry
        for device in pod.bench.emulators
        for name, entry in pod.picture.table(f"dev/{device}")["pts"].items()
        if entry["q"] != 0
    }
    sensors = {name for name in bad if ".sensor_" in name}
    assert not set(bad) - sensors, bad


async def test_killed_and_started_again_it_stops_nothing(pod: PodUnderTest) -> None:
    mark = time.monotonic()
    await pod.bench.kill_controller()
    await pod.until(
        lambda: pod.picture.table("status").get("state") == "lost", 2 * KEEPALIVE_S, "the will after SIGKILL"
    )
    pod.picture.documents.pop("state")
    await pod.bench.start_controller()
    took = await pod.normal(TAKE_OVER_MAX_S)
    assert took <= TAKE_OVER_MAX_S
    await asyncio.sleep(15)  # a wrong order could come late; nothing in the bench tells that none will
    assert not pod.bench.record.stops(mark)
    assert not pod.bench.record.outlets(mark)
    assert pod.picture.table("status")["state"] == "online"
    assert pod.picture.mode == "NORMAL"


async def test_an_unplugged_line_is_one_alarm_and_comes_back_by_itself(pod: PodUnderTest) -> None:
    await pod.until(lambda: pod.picture.value("field", "online") is True, 10, "field line online")
    before = pod.picture.alarms
    others = [name for name in pod.bench.buses if name != "field"]

    async def rates(seconds: float) -> dict[str, float]:
        first = {name: pod.picture.number(name, "transactions") or 0.0 for name in others}
        start = {name: pod.picture.table(f"dev/{name}")["ts"] for name in others}
        await asyncio.sleep(seconds)
        return {
            name: 1000
            * ((pod.picture.number(name, "transactions") or 0.0) - first[name])
            / max(1, pod.picture.table(f"dev/{name}")["ts"] - start[name])
            for name in others
        }

    steady = await rates(12)
    await pod.bench.unplug("field")
    unplugged = time.monotonic()
    point = next(p for d in pod.bench.plan.devices if d.name == "meter_a" for p in d.points if p.point.name == "power")

    def stale() -> bool:
        entry = pod.picture.table("dev/meter_a")["pts"]["power"]
        return bool(entry["q"] != 0)

    await pod.until(stale, point.point.max_age_s + 1.5, "power of meter_a STALE")
    lost = await rates(12)
    assert [alarm for alarm in pod.picture.alarms if alarm not in before] == ["field_lost"]
    for name in others:
        assert lost[name] >= 0.85 * steady[name] - 0.5, name
    assert pod.picture.mode == "NORMAL"
    assert time.monotonic() - unplugged > 10
    await pod.bench.replug("field")
    await pod.until(lambda: not stale(), 12, "power of meter_a GOOD again")
    await pod.until(lambda: pod.picture.value("field", "online") is True, 5, "field said to be online again")


async def test_a_silent_device_is_one_alarm(pod: PodUnderTest) -> None:
    before = pod.picture.alarms
    pod.bench.silence("room_2")
    await pod.until(lambda: "room_2_silent" in pod.picture.alarms, 20, "alarm room_2_silent")
    assert [alarm for alarm in pod.picture.alarms if alarm not in before] == ["room_2_silent"]
    pod.bench.silence("room_2", silent=False)
    await pod.until(lambda: pod.picture.value("room_2", "comms") is True, 70, "room_2 answers again")


async def test_console_acknowledges(pod: PodUnderTest) -> None:
    podkeeper = Path(pod.bench.command[0])
    process = await asyncio.create_subprocess_exec(
        podkeeper, "console", "--socket", str(pod.bench.console_socket),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await asyncio.wait_for(process.communicate(b"status\nack *\nquit\n"), 20)
    assert process.returncode == 0
    assert b"NORMAL" in told
    await pod.until(lambda: not pod.picture.alarms, 10, "returned alarms gone once acknowledged")


@pytest.mark.peer
async def test_what_any_subscriber_finds(pod: PodUnderTest) -> None:
    """mosquitto_sub, connecting late: every document is there, retained, and JSON."""
    program = shutil.which("mosquitto_sub")
    if program is None:
        pytest.skip("mosquitto_sub is not installed")
    process = await asyncio.create_subprocess_exec(
        program, "-h", LOOPBACK, "-p", str(pod.broker_port), "-t", "#", "-F", "%r %t %p", "-W", "4",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    retained: dict[str, object] = {}
    for line in told.decode().splitlines():
        flag, topic, payload = line.split(" ", 2)
        document = json.loads(payload)
        assert isinstance(document, dict)
        if flag == "1":
            retained[topic.removeprefix(f"{pod.bench.root}/")] = document
    expected = {"status", "meta", "state", "alarms"}
    expected |= {f"dev/{name}" for name in (*pod.bench.emulators, *pod.bench.buses, "pod", "controller")}
    expected |= {f"meta/{name}" for name in pod.bench.emulators}
    assert expected <= set(retained)


async def test_the_scan_was_never_late(pod: PodUnderTest) -> None:
    assert pod.picture.number("controller", "overruns") == 0


async def test_stopped_in_order_it_says_so_and_leaves_the_pod_running(pod: PodUnderTest) -> None:
    mark = time.monotonic()
    assert await pod.bench.stop_controller() == 0
    await pod.until(lambda: pod.picture.table("status").get("state") == "offline", 5, "offline")
    assert not pod.bench.record.stops(mark)
    assert not pod.bench.record.outlets(mark)
