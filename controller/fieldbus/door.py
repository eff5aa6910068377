"""The tools' door: a unix socket beside the console's. One JSON object a line asks, one a line answers, in turn.

``do`` is ``hello``; ``ask`` with ``bus``, ``unit``, ``pdu`` (hexadecimal) and, if need be, ``timeout_ms``; ``lease``
with ``bus``, ``name`` and ``seconds``; ``return`` with ``bus``; ``frames`` with ``bus`` and ``after``. What can't be
done is answered with ``error`` and ``why``. A connection's leases end with it. ``tools/access.py`` is the other side.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import structlog

from controller.fieldbus.bus import BusWorker
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request, WrongReply, parsed
from controller.fieldbus.lane import LEASE_MAX_S, Denied
from controller.unixsocket import bound, peer, remove

DOOR_NAME = "fieldbus.sock"
LINE_MAX = 4096
SESSIONS_MAX = 8
IDLE_S = 600.0
STALLED_S = 10.0
LEAST_S = 0.002  # between two answers of one session
FRAMES_MAX = 100  # in one answer
NAME_MAX = 80
PDU_MAX = 253
ERRORS: Mapping[type[Exception], str] = {
    Denied: "denied", NoReply: "no reply", WrongReply: "wrong reply", LinkError: "link", ValueError: "malformed",
}  # fmt: skip


class Host(Protocol):
    """What the door needs of the service."""

    @property
    def about(self) -> Mapping[str, str]: ...

    @property
    def workers(self) -> Mapping[str, BusWorker]: ...

    def objection(self, bus: str, request: Request) -> str:
        """Return why a tool may not send ``request`` now, or nothing."""


def door_of(console: str) -> Path:
    """Return the door's path, given the console's."""
    return Path(console).with_name(DOOR_NAME)


async def serve_door(path: Path, host: Host, *, idle_s: float = IDLE_S) -> None:
    """Serve tools on the unix socket ``path`` until cancelled.

    Raises:
        SocketError: the socket can't be made, or another controller serves it.
    """
    sessions: set[asyncio.Task[None]] = set()
    numbers = itertools.count(1)

    def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(sessions) >= SESSIONS_MAX:
            writer.write(_line({"error": "denied", "why": f"{SESSIONS_MAX} tools are connected already"}))
            writer.close()
            return
        session = _Session(host, reader, writer, idle_s, next(numbers))
        task = asyncio.create_task(session.run(), name="tool session")
        sessions.add(task)
        task.add_done_callback(sessions.discard)

    listening = bound(path, "console.socket")
    ours = path.stat().st_ino  # noqa: ASYNC240  a memory file system, once
    try:
        async with await asyncio.start_unix_server(opened, sock=listening, limit=LINE_MAX) as server:
            await server.serve_forever()
    finally:
        listening.close()
        left = list(sessions)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        remove(path, ours)


class _Session:
    """One tool at the door."""

    def __init__(
        self, host: Host, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, idle_s: float, number: int
    ) -> None:
        self._host, self._reader, self._writer, self._idle_s = host, reader, writer, idle_s
        writer.transport.set_write_buffer_limits(high=0)  # drain then waits until all has left
        self._principal = f"tool:{peer(writer.get_extra_info('socket'))}"
        self._owner = f"{self._principal} (session {number})"
        self._log = structlog.get_logger("fieldbus").bind(principal=self._principal)

    async def run(self) -> None:
        self._log.info("tool connected")
        try:
            await self._talk()
        except ConnectionError as error:
            self._log.info("tool lost", why=str(error))
        except Exception:  # whatever a session trips over, the others and the service go on
            self._log.exception("tool session failed")
        finally:
            for name, worker in self._host.workers.items():
                if worker.tools.give_back(self._owner):
                    self._log.info("lease returned", bus=name, why="its tool is gone")
            self._writer.transport.abort() if self._writer.transport.get_write_buffer_size() else self._writer.close()
            self._log.info("tool gone")

    async def _talk(self) -> None:
        coming = asyncio.ensure_future(self._reader.readline())  # read ahead, to notice at once when the tool goes
        try:
            while True:
                try:
                    async with asyncio.timeout(self._idle_s):
                        line = await coming
                except TimeoutError:
                    await self._say({"error": "denied", "why": f"nothing asked for {self._idle_s:.0f} s"})
                    return
                except ValueError:
                    await self._say({"error": "malformed", "why": f"a line is at most {LINE_MAX} bytes long"})
                    return
                if not line.endswith(b"\n"):
                    return
                coming = asyncio.ensure_future(self._reader.readline())
                answer = await self._unless_gone(line, coming)
                if answer is None:
                    return
                await self._say(answer)
                await asyncio.sleep(LEAST_S)
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)

    async def _unless_gone(self, line: bytes, coming: asyncio.Future[bytes]) -> dict[str, Any] | None:
        """Return the answer; None when the tool goes away before it is there."""
        answering = asyncio.ensure_future(self._answer(line))
        try:
            waits: set[asyncio.Future[Any]] = {answering, coming}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done() and coming.exception() is None and coming.result() == b"":
                return None
            return await answering
        finally:
            answering.cancel()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            asked = json.loads(line)
            if not isinstance(asked, dict):
                raise ValueError("not an object")
            return await self._done(asked)
        except Refused as error:
            return {"error": "exception", "code": error.code, "why": str(error)}
        except RecursionError:
            return {"error": "malformed", "why": "nested too deeply"}
        except tuple(ERRORS) as error:
            kind = next(kind for known, kind in ERRORS.items() if isinstance(error, known))
            return {"error": kind, "why": str(error)}

    async def _done(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        do = asked.get("do")
        if do == "hello":
            return {"about": dict(self._host.about), "buses": list(self._host.workers)}
        name = _text(asked, "bus")
        worker = self._host.workers.get(name)
        if worker is None:
            raise ValueError(f"no such bus; there are: {', '.join(self._host.workers)}")
        if do == "ask":
            return {"words": await self._ask(name, worker, asked)}
        if do == "lease":
            lease = worker.tools.take(_text(asked, "name"), self._owner, _number(asked, "seconds", LEASE_MAX_S))
            self._log.info("bus leased", bus=name, lease=lease.name)
            return {"most_s": LEASE_MAX_S}
        if do == "return":
            return {"held": worker.tools.give_back(self._owner)}
        if do == "frames":
            first, frames = worker.frames(int(_number(asked, "after", 2.0**53)), FRAMES_MAX)
            return {"first": first, "frames": [[at, sent, data.hex()] for at, sent, data in frames]}
        raise ValueError("do: allowed: hello, ask, lease, return, frames")

    async def _ask(self, name: str, worker: BusWorker, asked: Mapping[str, Any]) -> list[int]:
        request = parsed(int(_number(asked, "unit", 255)), bytes.fromhex(_text(asked, "pdu", 2 * PDU_MAX)))
        timeout_s = _number(asked, "timeout_ms", 60_000) / 1000 if "timeout_ms" in asked else None
        if objection := self._host.objection(name, request):
            if not request.count:
                self._log.warning("tool write", bus=name, unit=request.unit, pdu=request.pdu.hex(), outcome=objection)
            raise Denied(objection)
        outcome = "given up"
        try:
            words = await worker.tools.ask(request, timeout_s)
            outcome = "done"
        except Exception as error:
            outcome = str(error)
            raise
        finally:
            if not request.count:
                self._log.warning("tool write", bus=name, unit=request.unit, pdu=request.pdu.hex(), outcome=outcome)
        return words

    async def _say(self, answer: Mapping[str, Any]) -> None:
        self._writer.write(_line(answer))
        try:
            async with asyncio.timeout(STALLED_S):
                await self._writer.drain()
        except TimeoutError:
            raise ConnectionError(f"took nothing for {STALLED_S:.0f} s") from None


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"


def _text(asked: Mapping[str, Any], key: str, most: int = NAME_MAX) -> str:
    value = asked.get(key)
    if not isinstance(value, str) or not value or len(value) > most or not value.isprintable():
        raise ValueError(f"{key}: required, a text of at most {most} characters")
    return value


def _number(asked: Mapping[str, Any], key: str, most: float) -> float:
    value = asked.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{key}: required, a number from 0 to {most:g}")
    return float(value)
