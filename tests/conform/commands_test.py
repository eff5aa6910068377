"""A whole controller, its emulated pod and a real mosquitto: a BMS asks, the pod answers."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.config.plan import load_plan
from controller.service import Service
from hil.runner import Bench
from tests.service_test import Running

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        not (shutil.which("mosquitto") and shutil.which("mosquitto_sub")),
        reason="needs the Debian packages mosquitto and mosquitto-clients",
    ),
]


class Bms:
    """mosquitto with its own clients on the bench's MQTT port."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        self._port, self._folder, self.root = str(bench.mqtt_port), folder, bench.root
        self._broker: asyncio.subprocess.Process | None = None
        self._ear: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Bms:
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"user {getpass.getuser()}\nlistener {self._port} 127.0.0.1\nallow_anonymous true\nlog_dest none\n"
        )
        self._broker = await asyncio.create_subprocess_exec("mosquitto", "-c", str(config))
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", int(self._port))
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        heard = ("cmd/+/rsp", "evt", "status")
        topics = [word for topic in heard for word in ("-t", f"{self.root}/{topic}")]
        command = ["mosquitto_sub", "-p", self._port, "-q", "1", "-F", "%t %p", *topics]
        self._ear = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in (self._ear, self._broker):
            if process:
                process.terminate()
                await process.wait()

    async def say(self, topic: str, payload: Any, *more: str) -> None:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        command = ["mosquitto_pub", "-p", self._port, "-q", "1", "-t", f"{self.root}/{topic}", "-m", text, *more]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0

    async def hear(self, topic: str, **wanted: Any) -> dict[str, Any]:
        """Return the next document of ``topic`` that has what is wanted."""
        assert self._ear is not None
        assert self._ear.stdout is not None
        async with asyncio.timeout(30):
            while line := await self._ear.stdout.readline():
                name, _, text = line.decode().partition(" ")
                if name == f"{self.root}/{topic}":
                    document: dict[str, Any] = json.loads(text)
                    if all(document.get(key) == value for key, value in wanted.items()):
                        return document
        raise AssertionError(f"nothing on {topic}")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench(overrides={"operation": {"autostart": False}}) as bench:
        yield bench


def asked(name: str, **changed: Any) -> dict[str, Any]:
    now_ms = time.time_ns() // 1_000_000
    body = {
        "id": name, "op": "set", "target": "pod/flow_min_sp", "value": 600, "unit": "L/min", "slot": 8,
        "ts": now_ms, "exp": now_ms + 20_000, "by": "test",
    }  # fmt: skip
    return body | changed


async def test_a_bms_asks_over_mosquitto(bench: Bench, tmp_path: Path) -> None:
    async with Bms(bench, tmp_path) as bms:
        await bms.say("cmd/bms/req", asked("poison", value=1400), "-r")  # waits for whoever subscribes
        running = Running(Service(load_plan(bench.site_file), {}))
        await bms.hear("status", state="online")
        await bms.hear("evt", event="request_dropped", why="retained")
        body = asked("one")
        await bms.say("cmd/bms/req", body)
        for state in ("accepted", "applied", "confirmed"):
            answer = await bms.hear("cmd/bms/rsp")
            assert (answer["id"], answer["st"], answer["eff"]) == ("one", state, 600.0)
        await bms.say("cmd/bms/req", asked("two", target="pod/supply_temp_sp", value=5, unit="Cel"))
        assert (await bms.hear("cmd/bms/rsp"))["code"] == "out_of_range"
        await bms.say("cmd/mallory/req", asked("three", value=1400))
        assert (await bms.hear("evt", why="unknown principal"))["example"] == "mallory"
        await bms.say("cmd/optimiser/req", asked("four", value=700, slot=13))
        masked = [await bms.hear("cmd/optimiser/rsp") for _ in range(2)][-1]
        assert (masked["st"], masked["eff"]) == ("applied", 600.0)
        await running.stop()
        again = Running(Service(load_plan(bench.site_file), {}))
        await bms.hear("status", state="online")
        await bms.say("cmd/bms/req", body)
        assert (await bms.hear("cmd/bms/rsp"))["st"] == "confirmed", "answered, not done again"
        view = again.service.view()
        assert view is not None
        assert 8 not in view.slots["pod.flow_min_sp"].leases or view.slots["pod.flow_min_sp"].leases[8].command == "one"
        await again.stop()
