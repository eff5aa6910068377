"""A real broker, the controller's own way to it, and a subscriber that keeps what comes out."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from controller.clock import SystemClock
from controller.config.plan import Plan
from controller.core.engine import View
from controller.core.image import Freezer
from controller.core.pod import pod_points
from controller.core.points import Point, Reading
from controller.northbound.link import Link
from controller.northbound.native import Native
from controller.northbound.publisher import Publisher
from controller.northbound.snapshot import Snapshot, snapshot
from hil.bench.child import Child, Orders
from hil.bench.result import Missing
from hil.runner import free_port
from hil.wire.tcp import LOOPBACK

SBIN = "/usr/sbin:/usr/local/sbin"
UP_S = 5.0
BOOT = 1


def program(name: str, package: str) -> str:
    """Return the path of a program.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    if found is None:
        raise Missing(f"{name}, of the Debian package {package}")
    return found


@contextlib.contextmanager
def broker(port: int = 0) -> Iterator[int]:
    """Run mosquitto on a loopback port, a free one if 0, and return the port."""
    port = port or free_port()
    with broker_process(port):
        yield port


@contextlib.contextmanager
def broker_process(port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run mosquitto on this loopback port; it forgets what it retains when it ends."""
    path = program("mosquitto", "mosquitto")
    with tempfile.TemporaryDirectory(prefix="podkeeper-broker-") as folder:
        settings = Path(folder) / "mosquitto.conf"
        settings.write_text(f"listener {port} {LOOPBACK}\nallow_anonymous true\nuser {getpass.getuser()}\n")
        process = subprocess.Popen([path, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(port)
            yield process
        finally:
            process.terminate()
            process.wait(10)


def wait_for(port: int) -> None:
    """Return once something listens on a loopback port.

    Raises:
        ConnectionRefusedError: nothing does after five seconds.
    """
    deadline = time.monotonic() + UP_S
    while True:
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class Edge:
    """What the service does between its bus workers and the broker, each scan, without the control in between."""

    def __init__(self, plan: Plan, inbox: Mapping[str, Reading], **more: Any) -> None:
        """``more`` goes to the link: its outbox, its back-off."""
        self._plan, self._inbox, self._clock = plan, inbox, SystemClock()
        self.link = Link(plan.links["native"], Native(plan, "bench", boot=BOOT), **more)
        points: Mapping[str, Point] = {**plan.pod.points, **pod_points(plan.pod)}
        self._freezer = Freezer(points)

    async def run(self) -> None:
        """Publish until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.link.run())
            deadline = self._clock.monotonic()
            while True:
                self._scan(self._clock.monotonic())
                deadline = max(deadline + self._plan.scan_s, self._clock.monotonic())
                await asyncio.sleep(deadline - self._clock.monotonic())

    def _scan(self, now: float) -> None:
        image = self._freezer.freeze(self._inbox, now)
        view = View(now, "OFF", 0.0, "", False, image, (), (), "", (), {})
        picture = snapshot(view, self._clock.wall_ms(), BOOT)
        self.scanned(picture, now)
        self.link.scan(picture, now)

    def scanned(self, picture: Snapshot, now: float) -> None:
        """A scan is over; for those who have more to say."""


def linked(plan: Plan, port: int, name: str, publisher: Publisher) -> Link:
    """Return a link of a publisher to a broker on the loopback; Sparkplug speaks MQTT 3.1.1."""
    protocol = "3.1.1" if name == "sparkplug" else "auto"
    change = {"host": LOOPBACK, "port": port, "client_id": name, "protocol": protocol}
    return Link(plan.links["native"].model_copy(update=change), publisher, name=name)


async def _collect(port: int, topic: str) -> tuple[None, Orders]:
    kept: list[tuple[float, str, bytes]] = []

    def keep(_client: Client, _data: Any, message: MQTTMessage) -> None:
        kept.append((time.monotonic(), message.topic, bytes(message.payload)))

    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = keep
    client.connect(LOOPBACK, port)
    client.subscribe(topic, qos=1)
    client.loop_start()

    def orders(order: str) -> Any:
        assert order == "take"
        taken, kept[:] = list(kept), []
        return taken

    return None, orders


def _collector(spec: tuple[int, str]) -> Any:
    return _collect(*spec)


def subscriber(port: int, topic: str) -> Child:
    """Return a subscriber in its own process; ``ask("take")`` gives (monotonic time, topic, payload) of what came."""
    return Child(_collector, (port, topic))
