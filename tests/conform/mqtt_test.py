"""The link and the native tree against real brokers: mosquitto, and NATS, which speaks MQTT 3.1.1 only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.config.enclosure import LinkSettings
from controller.config.plan import Plan, load_plan
from controller.core.alarms import Alarm, AlarmRow, AlarmState
from controller.core.engine import View, pod_points
from controller.core.image import freeze
from controller.core.points import Reading, good
from controller.northbound.link import Link
from controller.northbound.native import Native
from controller.northbound.publisher import Arrived, Message
from controller.northbound.snapshot import Snapshot, snapshot
from tests.conform.brokers import Broker, Said, free_port, mosquitto, needs_mosquitto, needs_nats, until

ROOT = Path(__file__).parents[2]
TOPICS = "podkeeper/v1/factory/reference-pod"
KEEPALIVE_S = 5
ROW = AlarmRow("pod_flow_low", "pod.flow_ratio", "below", "TCS flow below need", "critical", "hot", "look", 90.0)
LOST = AlarmRow("pod_flow_lost", "pod.flow", "unusable", "No TCS flow reading", "high", "fast pumps", "look")

pytestmark = pytest.mark.peer


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = mosquitto(tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def plan() -> Plan:
    return load_plan(ROOT / "profiles" / "enclosures" / "reference-pod.toml")


class Listening(Native):
    """The native tree, which remembers the alarm records it found."""

    found: set[str]

    def connected(self, wall_ms: int) -> None:
        self.found = set()
        super().connected(wall_ms)

    def received(self, arrived: Arrived, now: float):
        if arrived.retain:
            self.found.add(arrived.topic)
        return super().received(arrived, now)


class Pod:
    """What the service does, at 20 ms a scan: a picture, the native tree, the link."""

    def __init__(self, plan: Plan, port: int) -> None:
        settings = LinkSettings(
            publisher="native", host="127.0.0.1", port=port, keepalive_s=KEEPALIVE_S, client_id="pod"
        )
        self.plan = plan
        self.points = {**plan.pod.points, **pod_points(plan.pod)}
        self.since = time.monotonic()
        self.inbox: dict[str, Reading] = {}
        self.alarms: tuple[Alarm, ...] = ()
        self.native = Listening(plan, "0.1.0", TOPICS, 17)
        self.said = Said()
        self.link = Link(settings, self.native, logger=self.said, delay=lambda ceiling: min(ceiling, 0.3))

    def picture(self, now: float) -> Snapshot:
        image = freeze(self.inbox, self.points, now)
        view = View(now, "OFF", self.since, "", False, image, self.alarms, (), "", (), {})
        return snapshot(view, time.time_ns() // 1_000_000, 17)

    async def scan(self) -> None:
        while True:
            now = time.monotonic()
            self.inbox["pump_1.speed"] = good(50.0, now)
            self.link.scan(self.picture(now), now)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def running(pod: Pod):
    run, scan = asyncio.create_task(pod.link.run()), asyncio.create_task(pod.scan())
    try:
        yield
        scan.cancel()
        pod.link.close()
        await asyncio.wait_for(run, 10)
    finally:
        run.cancel()
        scan.cancel()
        await asyncio.gather(run, scan, return_exceptions=True)


async def quiet(pod: Pod) -> None:
    """Wait until all that was due has been published."""
    await until(lambda: pod.link.connected)
    count = -1
    async with asyncio.timeout(15):
        while count != pod.link.published:
            count = pod.link.published
            await asyncio.sleep(0.3)


async def retained(broker: Broker, topic: str = "#") -> dict[str, bytes]:
    return await asyncio.to_thread(broker.retained, topic)


def expected(pod: Pod) -> set[str]:
    devices = {point.device for point in pod.points.values()}
    documents = {"status", "meta", "state", "alarms", *(f"{kind}/{d}" for kind in ("meta", "dev") for d in devices)}
    documents |= {f"alarm/{alarm.row.id}" for alarm in pod.alarms}
    return {f"{TOPICS}/{document}" for document in documents}


def state(documents: dict[str, bytes]) -> str:
    return str(json.loads(documents[f"{TOPICS}/status"])["state"])


@needs_mosquitto
async def test_a_new_subscriber_finds_the_whole_pod(broker, plan):
    pod = Pod(plan, broker.port)
    pod.alarms = (Alarm(ROW, AlarmState.UNACK, 81.0, time.monotonic()),)
    async with running(pod):
        await quiet(pod)
        found = await retained(broker)
        assert set(found) == expected(pod)
        assert all(isinstance(json.loads(payload), dict) for payload in found.values())
        assert state(found) == "online"
        assert json.loads(found[f"{TOPICS}/dev/pump_1"])["pts"]["speed"]["v"] == 50
        assert (pod.link.echoed, pod.link.protocol, pod.link.dropped) == (True, "5", 0)
        pod.alarms = ()
        await asyncio.sleep(0.5)
        assert f"{TOPICS}/alarm/pod_flow_low" not in await retained(broker)
    assert state(await retained(broker)) == "offline"
    assert pod.said.lines == ["MQTT link up"]


@needs_mosquitto
async def test_cancelling_says_offline_too(broker, plan):
    pod = Pod(plan, broker.port)
    run = asyncio.create_task(pod.link.run())
    await until(lambda: pod.link.connected)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert state(await retained(broker)) == "offline"


CHILD = """
import asyncio, sys, time
from pathlib import Path
from types import SimpleNamespace
from controller.config.enclosure import LinkSettings
from controller.config.plan import load_plan
from controller.northbound.link import Link
from controller.northbound.native import Native

plan = load_plan(Path(sys.argv[4]))
host, port, keepalive_s = "127.0.0.1", int(sys.argv[1]), int(sys.argv[3])
settings = LinkSettings(publisher="native", host=host, port=port, keepalive_s=keepalive_s, client_id="pod")
native = Native(plan, "0", sys.argv[2])
native.messages = lambda snapshot, now: native._said
link = Link(settings, native)

async def main():
    run = asyncio.create_task(link.run())
    while not link.connected:
        await asyncio.sleep(0.02)
    link.scan(SimpleNamespace(wall_ms=0), 0.0)
    await run

asyncio.run(main())
"""
REFERENCE = ROOT / "profiles" / "enclosures" / "reference-pod.toml"


@needs_mosquitto
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_will_speaks_for_a_dead_process(broker, how):
    """SIGKILL closes the connection, SIGSTOP leaves it open: there only the keepalive tells."""
    command = [sys.executable, "-c", CHILD, str(broker.port), TOPICS, str(KEEPALIVE_S), str(REFERENCE)]
    child = subprocess.Popen(command, cwd=ROOT)  # noqa: ASYNC220
    try:
        deadline = time.monotonic() + 15
        found: dict[str, bytes] = {}
        while not found or state(found) != "online":
            assert time.monotonic() < deadline
            found = await retained(broker, f"{TOPICS}/status")
        child.send_signal(how)
        died = time.monotonic()
        while state(await retained(broker, f"{TOPICS}/status")) != "lost":
            assert time.monotonic() - died < 2 * KEEPALIVE_S + 3  # the look takes up to 2 s
    finally:
        child.kill()
        child.wait(10)


@needs_mosquitto
async def test_a_restarted_broker_is_told_everything_again(broker, plan, tmp_path):
    pod = Pod(plan, broker.port)
    async with running(pod):
        await quiet(pod)
        broker.kill()
        (tmp_path / "mosquitto.db").unlink(missing_ok=True)
        await until(lambda: not pod.link.connected)
        assert pod.link.last_error
        await asyncio.sleep(1)
        broker.start()
        await quiet(pod)
        found = await retained(broker)
        assert set(found) == expected(pod)
        assert state(found) == "online"
        assert pod.link.connects == 2
    assert pod.said.lines == ["MQTT link up", "MQTT link lost", "MQTT link up"]


@needs_mosquitto
@pytest.mark.slow
async def test_a_broker_that_hangs_is_noticed_and_the_scan_goes_on(broker, plan):
    pod = Pod(plan, broker.port)
    async with running(pod):
        await quiet(pod)
        broker.process.send_signal(signal.SIGSTOP)
        try:
            worst, last = 0.0, time.monotonic()
            async with asyncio.timeout(2 * KEEPALIVE_S + 5):
                while pod.link.connected:
                    await asyncio.sleep(0.02)
                    worst, last = max(worst, time.monotonic() - last), time.monotonic()
            assert worst < KEEPALIVE_S / 2, "what waits for the broker stands still until the keepalive ends"
        finally:
            broker.process.send_signal(signal.SIGCONT)
        await until(lambda: pod.link.connects == 2, 20)
        await quiet(pod)
        found = await retained(broker)
        assert set(found) == expected(pod)
        assert state(found) == "online"


@needs_mosquitto
async def test_an_alarm_that_went_while_the_broker_was_down_is_emptied(broker, plan):
    pod = Pod(plan, broker.port)
    ghost = Message(f"{TOPICS}/alarm/of_an_earlier_run", b"{}")
    pod.alarms = (Alarm(ROW, AlarmState.UNACK, 81.0, 0.0), Alarm(LOST, AlarmState.UNACK, None, 0.0, occurrence=1))
    async with running(pod):
        await quiet(pod)
        pod.link.offer([ghost])
        await asyncio.sleep(1.5)  # the broker saves what it retains
        assert len(await retained(broker, f"{TOPICS}/alarm/#")) == 3
        broker.stop()
        await until(lambda: not pod.link.connected)
        pod.alarms = pod.alarms[1:]
        await asyncio.sleep(0.3)
        broker.start()
        await quiet(pod)
        assert len(pod.native.found) == 3  # the broker did keep them
        assert set(await retained(broker, f"{TOPICS}/alarm/#")) == {f"{TOPICS}/alarm/pod_flow_lost"}


@needs_mosquitto
async def test_a_broker_that_drops_what_we_publish_is_noticed(plan, tmp_path):
    (tmp_path / "acl").write_text("topic read #\n")
    broker = mosquitto(tmp_path, f"acl_file {tmp_path}/acl")
    broker.start()
    pod = Pod(plan, broker.port)
    try:
        async with running(pod):
            await until(lambda: not pod.link.echoed)
            assert "MQTT publish denied" in pod.said.lines
    finally:
        broker.stop()


@needs_mosquitto
async def test_a_will_that_comes_late_is_corrected(broker, plan):
    """A half-open connection of ours may be given up by the broker after the new one said "online"."""
    pod = Pod(plan, broker.port)
    async with running(pod):
        await quiet(pod)
        late = pod.native.will(0)
        command = ["mosquitto_pub", "-p", str(broker.port), "-t", late.topic, "-m", late.payload.decode(), "-r"]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=10)
        await asyncio.sleep(0.5)
        assert state(await retained(broker, late.topic)) == "online"


@needs_nats
async def test_nats_is_spoken_to_in_mqtt_3_1_1(plan, tmp_path):
    port, client_port = free_port(), free_port()
    config = tmp_path / "nats.conf"
    config.write_text(
        f'server_name: bench\nlisten: "127.0.0.1:{client_port}"\njetstream {{ store_dir: "{tmp_path}/js" }}\n'
        f'mqtt {{ listen: "127.0.0.1:{port}" }}\n'
    )
    broker = Broker(["nats-server", "-c", str(config)], port, tmp_path / "nats.log")
    broker.start()
    pod = Pod(plan, port)
    pod.alarms = (Alarm(ROW, AlarmState.UNACK, 81.0, time.monotonic()),)
    try:
        async with running(pod):
            await quiet(pod)
            assert pod.link.protocol == "3.1.1"
            assert pod.link.echoed
            found = await retained(broker)
            assert set(found) == expected(pod)
            assert state(found) == "online"
        assert pod.said.lines == ["MQTT link up"]
    finally:
        broker.stop()
