"""The ways into a session, behind one face: directly, over the real unix socket, over a real pty with tty.py."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import pwd
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from controller.console.lines import Lines
from controller.console.server import serve
from controller.console.session import TOO_LONG, Session, answer
from controller.console.talk import EOT, ETX
from controller.console.tty import MANNER, serve_tty
from tests.console.desk import FakeDesk

WAIT_S = 10.0


async def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def appears(path: Path) -> None:
    """Wait until ``path`` is there and somebody listens on it."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_unix_connection(path)
                writer.close()
                return
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def serving(coroutine: object) -> AsyncIterator[asyncio.Task[None]]:
    task: asyncio.Task[None] = asyncio.ensure_future(coroutine)  # type: ignore[arg-type]
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Door(ABC):
    principal: str

    def __init__(self, desk: FakeDesk) -> None:
        self.desk = desk

    @abstractmethod
    async def ask(self, line: str) -> str: ...

    @abstractmethod
    async def burst(self, lines: list[str]) -> list[str]: ...

    @staticmethod
    @contextlib.asynccontextmanager
    async def of(kind: str, desk: FakeDesk, place: Path) -> AsyncIterator[Door]:
        if kind == "session":
            yield Direct(desk)
        elif kind == "socket":
            path = place / "console.sock"
            async with serving(serve(path, desk)):
                await appears(path)
                reader, writer = await asyncio.open_unix_connection(path, limit=1_000_000)
                door = Socket(desk, reader, writer)
                await door.answer()
                yield door
                writer.close()
        else:
            async with terminal() as (master, name), serving(serve_tty(name, 115200, desk)):
                tty = Tty(desk, master, Path(name).name)
                await tty.answer()
                yield tty


class Direct(Door):
    principal = "console:ann"

    async def ask(self, line: str) -> str:
        (typed,) = Lines().feed(f"{line}\n".encode())
        if typed.line is None:
            return TOO_LONG
        return (await answer(Session(self.desk, self.principal), typed.line)).text

    async def burst(self, lines: list[str]) -> list[str]:
        return [await self.ask(line) for line in lines]


class Socket(Door):
    def __init__(self, desk: FakeDesk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(desk)
        self.reader, self.writer = reader, writer
        self.principal = f"console:{pwd.getpwuid(os.getuid()).pw_name}"

    async def answer(self) -> str:
        said = bytearray()
        async with asyncio.timeout(WAIT_S):
            while not said.endswith((ETX, EOT)):
                said += await self.reader.readexactly(1)
        return said[:-1].decode("ascii").removesuffix("\n")

    async def ask(self, line: str) -> str:
        return (await self.burst([line]))[0]

    async def burst(self, lines: list[str]) -> list[str]:
        self.writer.write("".join(f"{line}\n" for line in lines).encode())
        return [await self.answer() for _ in lines]


class Tty(Door):
    def __init__(self, desk: FakeDesk, master: int, name: str) -> None:
        super().__init__(desk)
        self.master = master
        self.principal = f"console:{name}"
        self.said = bytearray()

    async def answer(self) -> str:
        """Return what came before the next prompt."""
        async with asyncio.timeout(WAIT_S):
            while MANNER.end not in self.said:
                self.said += await heard(self.master)
        before, _, rest = bytes(self.said).partition(MANNER.end)
        self.said = bytearray(rest)
        return before.decode("ascii").replace("\r\n", "\n").removesuffix("\n")

    async def ask(self, line: str) -> str:
        return (await self.burst([line]))[0]

    async def burst(self, lines: list[str]) -> list[str]:
        await typed(self.master, "".join(f"{line}\r" for line in lines).encode())
        answers = []
        for _ in lines:
            echo, _, text = (await self.answer()).partition("\n")
            assert echo.isprintable()
            answers.append(text.partition("\nPodkeeper console")[0] if echo == "quit" else text)
        return answers


@contextlib.asynccontextmanager
async def terminal() -> AsyncIterator[tuple[int, str]]:
    """A pty: the technician's end, and the name of the controller's."""
    master, slave = pty.openpty()
    name = os.ttyname(slave)
    os.set_blocking(master, False)
    try:
        yield master, name
    finally:
        os.close(slave)
        with contextlib.suppress(OSError):
            os.close(master)


async def heard(fd: int) -> bytes:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
    return os.read(fd, 65536)


async def typed(fd: int, data: bytes) -> None:
    loop = asyncio.get_running_loop()
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            free = asyncio.Event()
            loop.add_writer(fd, free.set)
            try:
                await free.wait()
            finally:
                loop.remove_writer(fd)
