"""What a hostile or broken neighbour does to a link: it is bounded, it is said, and the rest goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from controller.config.enclosure import LinkSettings, OutboxLimits
from controller.config.plan import load_plan
from controller.config.problems import ConfigError
from controller.northbound.link import INCOMING_BYTES_MAX, Link
from controller.northbound.outbox import Outbox
from controller.northbound.publisher import EVENT, Message
from tests.conform.brokers import mosquitto, needs_mosquitto, until
from tests.conform.mqtt_test import TOPICS, Listening, Pod, quiet, running

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "profiles" / "enclosures" / "reference-pod.toml"
MEGABYTE, MANY = 1 << 20, 60
LIMITS = OutboxLimits(max_mib=8, max_age_h=1, every_s=0, drain_per_s=500)
STARTS, LEAST = 3, 40
BULK = 600
HANGS_S = 0.3
pytestmark = [pytest.mark.peer, needs_mosquitto]


@pytest.fixture
def broker(tmp_path):
    made = mosquitto(tmp_path, "max_inflight_messages 0\nmax_queued_messages 0\nautosave_on_changes true")
    made.start()
    yield made
    made.stop()


class Ear:
    """A subscriber with a session of its own, that keeps all it hears in order."""

    def __init__(self, port: int, topic: str) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.client = Client(CallbackAPIVersion.VERSION2, "ear", clean_session=False)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_message = lambda _c, _d, message: self.heard.append((message.topic, message.payload))
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def listening(port: int, topic: str = "#"):
    ear = Ear(port, topic)
    try:
        yield ear
    finally:
        ear.close()


async def test_megabytes_are_cut_dropped_and_told(broker, plan):
    longest: list[int] = []

    class Measuring(Listening):
        def received(self, arrived, now):
            longest.append(len(arrived.payload))
            return super().received(arrived, now)

    pod = Pod(plan, broker.port)
    pod.native = pod.link._publisher = Measuring(plan, "0.1.0", TOPICS, 17)
    with listening(broker.port, f"{TOPICS}/evt") as ear:
        async with running(pod):
            await quiet(pod)
            for _ in range(MANY):
                ear.client.publish(f"{TOPICS}/cmd/bms/req", b"x" * MEGABYTE, qos=1)
            await until(lambda: pod.native.request_counts["dropped"] + pod.link.dropped == MANY, 30)
            await until(lambda: len(ear.heard) > 0)
            assert pod.link.connected
    assert max(longest) == INCOMING_BYTES_MAX
    told = json.loads(ear.heard[0][1])
    assert (told["event"], told["by"]) == ("request_dropped", "bms")


async def test_a_subscriber_that_never_reads_holds_up_nobody(broker, plan):
    """Its own buffers fill; the pod's messages are still receipted, and others hear them."""
    pod = Pod(plan, broker.port)
    with socket.socket() as deaf, listening(broker.port) as ear:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", broker.port))
        deaf.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04deaf")
        deaf.sendall(b"\x82\x06" + struct.pack(">HH", 1, 1) + b"#\x01")
        async with running(pod):
            await quiet(pod)
            before = len(ear.heard)
            for number in range(BULK):
                pod.link.offer([Message(f"{TOPICS}/bulk", b"%d" % number + b" " * 1000, retain=False)])
                if number % 50 == 0:
                    await asyncio.sleep(0.01)
            await until(lambda: sum(topic.endswith("/bulk") for topic, _ in ear.heard[before:]) == BULK, 60)
            assert pod.link.connected
            assert pod.link.dropped == 0


async def test_events_pass_by_a_disk_that_takes_nothing_and_that_is_said(broker, plan):
    """/proc is a directory in which nobody can make a file."""
    box = Outbox(Path("/proc/outbox.sqlite"), LIMITS)
    pod = Pod(plan, broker.port)
    pod.link.outbox = box
    try:
        with listening(broker.port, f"{TOPICS}/evt") as ear:
            async with running(pod):
                await quiet(pod)
                events = [Message(f"{TOPICS}/evt", b"%d" % n, retain=False, kind=EVENT) for n in range(20)]
                pod.link.offer(events)
                await until(lambda: len(ear.heard) >= 20)
                assert [payload for _, payload in ear.heard] == [message.payload for message in events]
                assert pod.link.readings(0.0)["outbox_failing"] is True
                assert "/proc/outbox.sqlite can't be" in pod.link.in_words()
    finally:
        box.close()


CHILD = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from controller.config.enclosure import LinkSettings, OutboxLimits
from controller.config.plan import load_plan
from controller.northbound.link import Link
from controller.northbound.native import Native
from controller.northbound.outbox import Outbox
from controller.northbound.publisher import EVENT, Message

port, boot, box, plan, topics = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), sys.argv[5]
limits = OutboxLimits(max_mib=8, max_age_h=1, every_s=0, drain_per_s=500)

async def main():
    outbox = Outbox(box, limits)
    settings = LinkSettings(publisher="native", host="127.0.0.1", port=port, keepalive_s=5, client_id="pod")
    native = Native(load_plan(plan), "0", topics, boot)
    native.messages = lambda snapshot, now: []
    link = Link(settings, native, outbox=outbox)
    running = asyncio.create_task(link.run())
    for seq in range(100_000):
        link.offer([Message(f"{topics}/evt", b"%d-%d" % (boot, seq), retain=False, kind=EVENT)])
        link.scan(SimpleNamespace(wall_ms=0), 0.0)
        await outbox.flush()
        print("seq", seq, flush=True)

asyncio.run(main())
"""


async def test_sigkill_between_disk_and_broker_repeats_and_never_loses(broker, plan, tmp_path):
    """A process is killed again and again while it writes events and sends them, and with it a broker that hangs and
    so takes to its grave what has come but was not receipted; the last start sends what is left."""
    path = tmp_path / "outbox.sqlite"
    promised: list[bytes] = []
    with listening(broker.port, f"{TOPICS}/evt") as ear:
        for boot in range(STARTS):
            command = [sys.executable, "-c", CHILD, str(broker.port), str(boot), str(path), str(REFERENCE), TOPICS]
            child = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
            assert child.stdout is not None
            lines: list[bytes] = []
            async with asyncio.timeout(60):
                while b"seq %d\n" % (LEAST * (boot + 1)) not in lines[-1:]:
                    lines.append(await child.stdout.readline())
            broker.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(HANGS_S)
            child.send_signal(signal.SIGKILL)
            broker.kill()
            lines += (await child.stdout.read()).splitlines(keepends=True)
            await child.wait()
            last = max(int(line[4:]) for line in lines if line.startswith(b"seq ") and line.endswith(b"\n"))
            broker.start()
            await until(ear.client.is_connected)
            promised += [b"%d-%d" % (boot, seq) for seq in range(last + 1)]
        box = Outbox(path, LIMITS)
        native = Listening(plan, "0", TOPICS, STARTS)
        settings = LinkSettings(
            publisher="native", host="127.0.0.1", port=broker.port, keepalive_s=5, client_id="pod"
        )  # fmt: skip
        pod = Pod(plan, broker.port)
        pod.native, pod.link = native, Link(settings, native, outbox=box)
        async with running(pod):
            await quiet(pod)
            await until(lambda: not box.journal_waits, 60)
            await until(lambda: set(promised) <= {payload for _, payload in ear.heard})
        box.close()
    told = [payload for _, payload in ear.heard if payload.count(b"-") == 1 and payload[:1].isdigit()]
    first = list(dict.fromkeys(told))
    order = [tuple(map(int, payload.split(b"-"))) for payload in first]
    assert order == sorted(order)
    assert len(told) >= len(promised)


WRITER = """
import asyncio, os, sys
from pathlib import Path
from controller.config.enclosure import OutboxLimits
from controller.northbound.outbox import Outbox
from controller.northbound.publisher import EVENT, Message

async def main():
    box = Outbox(Path(sys.argv[1]), OutboxLimits(max_mib=8, max_age_h=1, every_s=0, drain_per_s=50))
    for number in range(40):
        box.put([Message("r/evt", b"%d" % number + b" " * 3000, retain=False, kind=EVENT)])
        await box.flush()
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


def test_a_torn_write_ahead_log_costs_its_end_and_nothing_else(tmp_path):
    """Power fails while a page of the log is written: what was synced before it is there, in order, and no more."""
    path = tmp_path / "outbox.sqlite"
    child = subprocess.run([sys.executable, "-c", WRITER, str(path)], cwd=ROOT, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL
    wal = path.with_name("outbox.sqlite-wal")
    torn = bytearray(wal.read_bytes())
    assert len(torn) > 100_000
    cut = len(torn) * 3 // 4
    torn[cut:] = b"\xa5" * (len(torn) - cut)
    wal.write_bytes(torn)
    box = Outbox(path, LIMITS)
    kept = asyncio.run(_everything(box))
    box.close()
    assert kept == list(range(len(kept)))
    assert 10 < len(kept) < 40
    assert box.problem == ""
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


async def _everything(box: Outbox) -> list[int]:
    await box.flush()
    return [int(held.message.payload) for held in await box.take(1000, journal=True)]


@pytest.mark.parametrize(
    "overlay",
    [
        '[native]\nroot = "site/+/pod"\n',
        '[native]\nroot = "site/#"\n',
        '[native]\nroot = "/site"\n',
        '[native]\nroot = "a b"\n',
        '[sparkplug]\ngroup = "fac+tory"\n',
        '[sparkplug]\nnode = "a/b"\n',
        '[sparkplug]\nprimary_host = "#"\n',
        '[dsx]\nprefix = "a/+"\n',
        '[dsx]\nsetpoint_integration = "ME/PAI"\n',
        '[homeassistant]\nprefix = "home/#"\n',
        '[principals."b/ms"]\nroles = ["setpoints"]\nslots = [8]\n',
        '[principals."+"]\nroles = ["setpoints"]\nslots = [8]\n',
        'name = "pod+"\n',
        'site = "a/b"\n',
    ],
)  # fmt: skip
def test_no_name_that_becomes_a_topic_level_may_hold_a_wildcard(tmp_path, overlay):
    path = tmp_path / "site.toml"
    path.write_text(f'base = "{REFERENCE}"\n{overlay}')
    with pytest.raises(ConfigError, match="allowed"):
        load_plan(path)
