"""Real brokers for the tests: each on a free port of the loopback, ended by its own process alone."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

needs_mosquitto = pytest.mark.skipif(
    not (shutil.which("mosquitto") and shutil.which("mosquitto_sub")),
    reason="needs the Debian packages mosquitto and mosquitto-clients",
)
needs_nats = pytest.mark.skipif(
    not (shutil.which("nats-server") and shutil.which("mosquitto_sub")),
    reason="needs the Debian packages nats-server and mosquitto-clients",
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Broker:
    """A broker of our own on a free port of the loopback; only its own process is ever ended."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.command, self.port, self.log = command, port, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError(f"{self.command[0]} did not come up:\n{self.log.read_text()}")

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def retained(self, topic: str = "#") -> dict[str, bytes]:
        """Return what a new subscriber finds."""
        command = [
            "mosquitto_sub", "-h", "127.0.0.1", "-p", str(self.port), "-t", topic, "-q", "1",
            "--retained-only", "-F", "%t %p", "-W", "2",
        ]  # fmt: skip
        lines = subprocess.run(command, capture_output=True, timeout=20, check=False).stdout.splitlines()
        pairs = (line.split(b" ", 1) for line in lines)
        return {topic.decode(): payload for topic, payload in pairs}


def mosquitto(folder: Path, extra: str = "") -> Broker:
    port = free_port()
    config = folder / "mosquitto.conf"
    config.write_text(
        f"user {getpass.getuser()}\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
        f"persistence_location {folder}/\nautosave_interval 1\n{extra}\n"
    )
    return Broker(["mosquitto", "-c", str(config)], port, folder / "mosquitto.log")


class Said:
    """A logger that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, event: str, **_: object) -> None:
        self.lines.append(event)

    warning = error = info


async def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
