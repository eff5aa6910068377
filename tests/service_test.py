"""The wiring: what systemd hears, what a failing edge does to control, how commands and signals are taken."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from controller.config.plan import load_plan
from controller.service import COMMANDS_MAX, Service, precise_loop
from hil.runner import Bench

pytestmark = pytest.mark.timeout(60)


class Running:
    """A service in this process, in front of the bench."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.task = asyncio.create_task(service.run())

    async def until(self, condition: Callable[[], bool], limit_s: float = 15) -> None:
        async with asyncio.timeout(limit_s):
            while not condition():
                assert not self.task.done(), self.task
                await asyncio.sleep(0.02)

    def number(self, name: str) -> float:
        view = self.service.view()
        return (view.image.number(f"controller.{name}", otherwise=0.0) if view else None) or 0.0

    async def stop(self) -> None:
        if not self.task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(self.task, 15)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with Bench(overrides={"operation": {"autostart": False}}) as bench:
        yield bench


async def test_systemd_hears_ready_then_a_watchdog_for_every_scan_in_time(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.setblocking(False)
        heard: list[str] = []
        loop = asyncio.get_running_loop()
        loop.add_reader(notify, lambda: heard.append(notify.recv(4096).decode()))
        running = Running(Service(load_plan(bench.site_file), {"NOTIFY_SOCKET": str(path)}))
        await running.until(lambda: running.number("scans") >= 10)
        await running.stop()
        loop.remove_reader(notify)
    assert heard[0].startswith("READY=1")
    assert sum("WATCHDOG=1" in message for message in heard) >= 10
    assert "STOPPING=1" in heard[-1]


async def test_a_console_that_can_not_be_served_does_not_stop_control(bench: Bench) -> None:
    bench.overrides = {**bench.overrides, "console": {"socket": "/nonexistent/console.sock"}}
    bench._write_site(bench._wiring())
    running = Running(Service(load_plan(bench.site_file), {}))
    await running.until(lambda: running.number("edge_faults") >= 1)
    before = running.number("scans")
    await running.until(lambda: running.number("scans") >= before + 10)
    view = running.service.view()
    assert view is not None
    assert "controller_edge_failed" in {alarm.row.id for alarm in view.alarms}
    await running.stop()


async def test_commands_are_answered_by_the_scan(bench: Bench) -> None:
    running = Running(Service(load_plan(bench.site_file), {}))
    await running.until(lambda: running.number("scans") >= 1)
    refused = await running.service.submit("release", "", "console:test")
    assert (refused.accepted, refused.code) == (False, "not_in_mode")
    answers = await asyncio.gather(
        *(running.service.submit("ack", "*", "console:test") for _ in range(COMMANDS_MAX + 5))
    )
    assert sum(answer.code == "busy" for answer in answers) == 5
    accepted = await running.service.submit("start", "", "console:test")
    assert accepted.accepted
    await running.until(lambda: (view := running.service.view()) is not None and view.mode.startswith("STARTUP"))
    await running.stop()


async def test_a_state_directory_that_can_not_be_written_does_not_stop_control(bench: Bench) -> None:
    bench.overrides = {**bench.overrides, "state_dir": "/proc/nowhere"}
    bench._write_site(bench._wiring())
    running = Running(Service(load_plan(bench.site_file), {}))
    await running.until(lambda: running.number("scans") >= 5)
    await running.until(
        lambda: (
            (view := running.service.view()) is not None
            and "controller_store_failing" in {alarm.row.id for alarm in view.alarms}
        )
    )
    await running.stop()


def test_a_descriptor_closed_while_it_is_watched_does_not_end_the_loop() -> None:
    """select() fails for all of them because of one; the controller would be gone with a broken connection."""

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        closed, living = socket.socketpair(), socket.socketpair()
        loop.add_reader(closed[0].fileno(), lambda: None)
        closed[0].close()
        await asyncio.sleep(0.05)
        living[0].setblocking(False)
        living[1].send(b"x")
        heard = await asyncio.wait_for(loop.sock_recv(living[0], 1), 5)
        for sock in (closed[1], *living):
            sock.close()
        return heard

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        assert runner.run(main()) == b"x"
