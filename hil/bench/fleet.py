"""A fleet of pods at one broker: what the reference pod says in the native tree and in DSX, said by hundreds at once.

The messages are those of the real publishers, recorded once; each pod replays them under a name of its own, at the pace
of a real pod's scans, over a socket of its own. So the figures are the broker's, not those of Python publishers.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from controller.config.plan import load_plan
from controller.core.engine import View
from controller.core.image import freeze
from controller.core.pod import pod_points
from controller.core.points import good
from controller.northbound.dsx import Dsx
from controller.northbound.native import Native
from controller.northbound.publisher import Message
from controller.northbound.snapshot import snapshot
from hil.bench.child import cpu_s
from hil.bench.publish import BOOT, broker, broker_process
from hil.bench.publish_cost import VERSION, changed
from hil.bench.result import Result
from hil.runner import REFERENCE_POD, free_port
from hil.wire.tcp import LOOPBACK

NAME = "fleet"
PODS, QUICK_PODS = 500, 50
BAR_S = 30.0
STEADY_S, QUICK_STEADY_S = 40.0, 8.0
BIRTH_S, CYCLE_S = 8.0, 100.0
BACK_OFF_S = (1.0, 60.0)  # as the link: full jitter, doubled each time
KEEPALIVE_S = 60
WALL_MS = 1_780_000_000_000
ORIGINAL = b"reference-pod"
CONNACK_BYTES, PUBACK_BYTES = 4, 4


def remaining(length: int) -> bytes:
    out = bytearray()
    while True:
        length, digit = divmod(length, 128)
        out.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(out)


def packet(message: Message, number: int) -> bytes:
    """Return an MQTT 3.1.1 PUBLISH."""
    topic = message.topic.encode()
    identifier = struct.pack(">H", number) if message.qos else b""
    body = struct.pack(">H", len(topic)) + topic + identifier + message.payload
    return bytes([0x30 | message.qos << 1 | message.retain]) + remaining(len(body)) + body


def connect(name: str) -> bytes:
    """Return an MQTT 3.1.1 CONNECT with a clean session."""
    client = name.encode()
    body = b"\x00\x04MQTT\x04\x02" + struct.pack(">HH", KEEPALIVE_S, len(client)) + client
    return b"\x10" + remaining(len(body)) + body


@dataclass(frozen=True, slots=True)
class Recording:
    """What one pod says: after a connect, scan by scan, and then in a cycle; packets and receipts of each scan."""

    births: Sequence[tuple[bytes, int]]
    cycle: Sequence[tuple[bytes, int]]
    scan_s: float


def record() -> Recording:
    """Return what the native tree and DSX say of the reference pod, a tenth of whose points moves each second."""
    plan = load_plan(REFERENCE_POD)
    points = {**plan.pod.points, **pod_points(plan.pod)}
    readable = [point for point in plan.pod.points.values() if point.readable]
    publishers = (Native(plan, VERSION, f"podkeeper/v1/{plan.site}/{plan.name}", boot=BOOT), Dsx(plan))
    inbox = {point.id: good(changed(point, 0), 0.0) for point in readable}
    for publisher in publishers:
        publisher.connected(WALL_MS)
    scans: list[tuple[bytes, int]] = []
    number = 0
    for scan in range(int((BIRTH_S + CYCLE_S) / plan.scan_s)):
        now = scan * plan.scan_s
        if scan % 5 == 0:
            second = scan // 5
            inbox |= {p.id: good(changed(p, second), now) for p in readable[second % 10 :: 10]}
            inbox |= {p.id: good(inbox[p.id].value or 0, now) for p in readable if inbox[p.id].at < now - 2}
        view = View(now, "NORMAL", 0.0, "", False, freeze(inbox, points, now), (), (), "", (), {})
        picture = snapshot(view, WALL_MS + round(now * 1000), BOOT)
        blob, receipts = [], 0
        for publisher in publishers:
            for message in publisher.messages(picture, now):
                number = number % 0xFFFF + 1
                blob.append(packet(message, number))
                receipts += bool(message.qos)
        scans.append((b"".join(blob), receipts))
    cut = int(BIRTH_S / plan.scan_s)
    return Recording(scans[:cut], scans[cut:], plan.scan_s)


class Pod:
    """One pod: connects, says its births at the pace of its scans, then its cycle; comes back after a loss."""

    def __init__(self, number: int, port: int, recording: Recording) -> None:
        self.number, self._port, self._recording = number, port, recording
        self._name = b"refpod-%06d" % number
        assert len(self._name) == len(ORIGINAL)
        self.settled_at = 0.0
        self.sent = 0

    async def run(self) -> None:
        failures = 0
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await self._connection()
            failures = 0 if self.settled_at else failures + 1
            self.settled_at = 0.0
            await asyncio.sleep(random.uniform(0, min(BACK_OFF_S[1], BACK_OFF_S[0] * 2.0 ** min(failures, 6))))

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        try:
            writer.write(connect(self._name.decode()))
            await reader.readexactly(CONNACK_BYTES)
            loop = asyncio.get_running_loop()
            deadline = loop.time()
            for blob, receipts in self._recording.births:
                await self._say(reader, writer, blob, receipts)
                deadline += self._recording.scan_s
                await asyncio.sleep(max(0.0, deadline - loop.time()))
            self.settled_at = time.monotonic()
            place = random.randrange(len(self._recording.cycle))  # pods don't refresh at the same moment
            while True:
                await self._say(reader, writer, *self._recording.cycle[place])
                place = (place + 1) % len(self._recording.cycle)
                deadline = max(deadline + self._recording.scan_s, loop.time() - 1)
                await asyncio.sleep(max(0.0, deadline - loop.time()))
        finally:
            writer.close()

    async def _say(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, blob: bytes, receipts: int
    ) -> None:  # fmt: skip
        if blob:
            writer.write(blob.replace(ORIGINAL, self._name))
            await writer.drain()
        if receipts:
            await reader.readexactly(PUBACK_BYTES * receipts)
            self.sent += receipts


async def _probe(port: int) -> float:
    """Return how long the broker takes to accept a client and take one message, in seconds."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(connect("probe") + packet(Message("probe", b"x", 1, False), 1))
    await reader.readexactly(CONNACK_BYTES + PUBACK_BYTES)
    writer.close()
    return time.monotonic() - began


async def _storm(pods: list[Pod], port: int, seconds: float) -> tuple[float, float, float, float]:
    """Run the fleet through a restart of its broker.

    Returns:
        seconds from the broker's return until every pod's births are receipted; processor use of the broker after
        that; receipts a second then; worst answer of the broker to a stranger then, in seconds.
    """
    tasks = [asyncio.create_task(pod.run()) for pod in pods]
    try:
        with broker(port):
            await _all_settled(pods)
        await asyncio.sleep(1.0)
        with broker_process(port) as process:
            began = time.monotonic()
            for pod in pods:
                pod.settled_at = 0.0
            await _all_settled(pods)
            settle_s = max(pod.settled_at for pod in pods) - began
            used, sent, at = cpu_s(process.pid), sum(pod.sent for pod in pods), time.monotonic()
            worst = 0.0
            while time.monotonic() - at < seconds:
                worst = max(worst, await _probe(port))
                await asyncio.sleep(0.5)
            wall = time.monotonic() - at
            return settle_s, (cpu_s(process.pid) - used) / wall, (sum(pod.sent for pod in pods) - sent) / wall, worst
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all_settled(pods: list[Pod]) -> None:
    async with asyncio.timeout(120):
        while not all(pod.settled_at for pod in pods):  # noqa: ASYNC110  the pods tell nobody; ten looks a second
            await asyncio.sleep(0.1)


def measure(quick: bool) -> Iterator[Result]:
    """Return how long a birth storm after a restart of the broker lasts, and the broker's load and answer after it."""
    count, seconds = (QUICK_PODS, QUICK_STEADY_S) if quick else (PODS, STEADY_S)
    recording, port = record(), free_port()
    pods = [Pod(number, port, recording) for number in range(count)]
    settle_s, used, receipts, worst = asyncio.run(_storm(pods, port, seconds))
    births = sum(receipts for _, receipts in recording.births)
    params = {"pods": count, "broker": "mosquitto, one, loopback", "contracts": "native and DSX", "paced_s": BIRTH_S}
    detail = {"receipted_births_per_pod": births, "birth_kib_per_pod": sum(len(b) for b, _ in recording.births) / 1024}
    yield Result(NAME, {"figure": "birth storm settles, s", **params}, settle_s, f"<= {BAR_S:g}", detail)
    yield Result(NAME, {"figure": "CPU of the broker, steady", **params}, used, "<= 0.8", {"receipts_per_s": receipts})
    yield Result(NAME, {"figure": "worst answer to a stranger, steady, s", **params}, worst, "<= 1")
