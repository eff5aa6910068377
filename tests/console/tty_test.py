from __future__ import annotations

import asyncio
import contextlib
import os
import termios
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.console import tty
from controller.console.tty import serve_tty
from tests.console.desk import running
from tests.console.doors import WAIT_S, Tty, heard, serving, terminal, typed, until

BACK_OFF_S = (0.02, 0.05)


async def test_what_is_typed_is_echoed_and_control_bytes_are_not() -> None:
    async with terminal() as (master, name), serving(serve_tty(name, 115200, running())):
        door = Tty(running(), master, "x")
        greeting = await door.answer()
        assert greeting == "Podkeeper console of reference-pod at factory. Type help."
        await typed(master, b"\x1b[2Jalx\x7farms\x07\x00\r\n")
        assert await door.answer() == "alx\b \barms\nNo alarms."
        await typed(master, b"mode stop\x03")
        assert await door.answer() == "mode stop"


async def test_quit_starts_the_next_session() -> None:
    async with terminal() as (master, name), serving(serve_tty(name, 9600, running())):
        door = Tty(running(), master, "x")
        await door.answer()
        await typed(master, b"quit\r")
        assert await door.answer() == "quit\nBye.\nPodkeeper console of reference-pod at factory. Type help."


async def test_unplugged_and_back_is_one_line_each(tmp_path: Path) -> None:
    link = tmp_path / "ttyTEST"
    with capture_logs() as lines:
        async with contextlib.AsyncExitStack() as stack:
            async with terminal() as (master, name):
                os.symlink(name, link)
                await stack.enter_async_context(serving(serve_tty(str(link), 115200, running(), back_off_s=BACK_OFF_S)))
                await Tty(running(), master, "x").answer()
                os.unlink(link)
            events = [line["event"] for line in lines]
            await until(lambda: [line["event"] for line in lines].count("console_line_lost") == 1)
            await asyncio.sleep(0.3)  # several more tries, all silent
            async with terminal() as (master, name):
                os.symlink(name, link)
                door = Tty(running(), master, "x")
                assert "Podkeeper console" in await door.answer()
                assert await door.ask("alarms") == "No alarms."
    events = [line["event"] for line in lines]
    assert events == ["console_line", "console_line_lost", "console_line_open"]


@pytest.mark.parametrize("path", ["/dev/absent", "/dev/null"])
async def test_what_is_not_a_line_is_told_once_and_tried_again(path: str) -> None:
    with capture_logs() as lines:
        async with serving(serve_tty(path, 9600, running(), back_off_s=(0.01,))):
            await until(lambda: len(lines) >= 2)
            await asyncio.sleep(0.1)
    assert [line["event"] for line in lines] == ["console_line", "console_line_lost"]


async def test_a_terminal_that_takes_nothing_is_dropped_and_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tty, "STALLED_S", 0.1)
    with capture_logs() as lines:
        async with terminal() as (master, name), serving(serve_tty(name, 9600, running(), back_off_s=(60,))):
            await Tty(running(), master, "x").answer()
            await typed(master, b"points *\r" * 4)
            late = 0.0
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(WAIT_S):
                while not any(line["event"] == "console_line_lost" for line in lines):
                    before = loop.time()
                    await asyncio.sleep(0.01)
                    late = max(late, loop.time() - before - 0.01)
    assert late < 0.15
    assert lines[-1]["reason"] == "took nothing for 0 s"


async def test_a_paste_too_long_for_the_type_ahead_is_cut_between_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tty, "TYPE_AHEAD", 200)
    monkeypatch.setattr("controller.console.session.SUBMIT_MAX_S", 0.5)
    desk = running()
    desk.deaf = True
    async with terminal() as (master, name), serving(serve_tty(name, 115200, desk)):
        door = Tty(desk, master, "x")
        await door.answer()
        await typed(master, b"mode stop\r")  # is not judged: what follows waits
        await until(lambda: desk.asked)
        for number in range(100):
            await typed(master, b"ack alarm_number_%d\r" % number)
        await asyncio.sleep(0.05)
        desk.deaf = False
        quiet = asyncio.create_task(heard_all(master))
        await until(lambda: len(desk.asked) > 5)
        await asyncio.sleep(0.1)
        quiet.cancel()
    targets = [target for operation, target, _ in desk.asked if operation == "ack"]
    assert targets == [f"alarm_number_{number}" for number in range(len(targets))]
    assert len(targets) < 100


async def heard_all(master: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            await heard(master)


async def test_the_line_is_set_as_asked_and_free_again_at_the_end() -> None:
    async with terminal() as (master, name):
        async with serving(serve_tty(name, 9600, running())):
            await Tty(running(), master, "x").answer()
            settings = termios.tcgetattr(master)
            assert settings[4] == settings[5] == termios.B9600
            assert not settings[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        before = len(os.listdir("/proc/self/fd"))
        async with serving(serve_tty(name, 9600, running())):
            await Tty(running(), master, "x").answer()
        assert len(os.listdir("/proc/self/fd")) == before


async def test_cancelled_while_opening_leaves_nothing_open() -> None:
    async with terminal() as (_, name):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            task = asyncio.create_task(serve_tty(name, 9600, running_desk()))
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def running_desk(known: list[object] = []) -> object:  # noqa: B006 - built once
    if not known:
        known.append(running())
    return known[0]
