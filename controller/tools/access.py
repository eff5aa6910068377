"""A tool's way onto a bus: through the service when it runs, else straight over a link. Never both."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from controller.config.enclosure import Bus
from controller.config.plan import Plan
from controller.fieldbus.capture import Frame
from controller.fieldbus.client import made
from controller.fieldbus.door import door_of
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request, WrongReply
from controller.fieldbus.lane import Denied
from controller.fieldbus.planner import t35_s
from controller.fieldbus.units import on_wire_s
from controller.unixsocket import listens

ANSWER_MAX_S = 15.0  # the service answers sooner than this, whatever became of the request
LINE_MAX = 262_144
CAPTURE_EVERY_S = 0.1
ERRORS = {"denied": Denied, "no reply": NoReply, "wrong reply": WrongReply, "link": LinkError, "malformed": Denied}


class Access(Protocol):
    """A way onto one bus."""

    async def ask(self, request: Request, timeout_s: float | None = None) -> list[int]:
        """Return the registers or bits that answer ``request``; nothing for a write.

        Args:
            timeout_s: for the reply, besides its time on the wire; the bus's own by default.

        Raises:
            LinkError, NoReply, WrongReply, Refused: as a link does.
            Denied: the controller does not do it, and says why.
        """


class Direct:
    """A link that this process opens itself. Before each request it looks whether a service has come up.

    Args:
        sockets: of the service, on which somebody listens while it runs.
        gap_s: silence that devices need between two frames, where it is more than t3.5.
    """

    def __init__(self, settings: Bus, sockets: tuple[Path, ...] = (), gap_s: float = 0.0) -> None:
        self._settings, self._sockets = settings, sockets
        self._gap_s = max(t35_s(settings), gap_s)
        self.link = made(settings)
        self._free_at = 0.0

    async def open(self) -> None:
        """Open the link, for this process alone where it is a serial line.

        Raises:
            LinkError: it can't be opened.
            Denied: a service runs.
        """
        self._stand_aside()
        await self.link.open()

    async def close(self) -> None:
        await self.link.close()

    async def ask(self, request: Request, timeout_s: float | None = None) -> list[int]:
        self._stand_aside()
        pause_s = max(self._free_at, self.link.free_at(request)) - time.monotonic()
        if pause_s > 0:
            await asyncio.sleep(pause_s)
        own_s = self._settings.timeout_ms / 1000 if timeout_s is None else timeout_s
        try:
            return request.values(await self.link.exchange(request, on_wire_s(self._settings, request) + own_s))
        finally:
            self._free_at = max(time.monotonic(), self.link.heard_at) + self._gap_s

    def _stand_aside(self) -> None:
        for path in self._sockets:
            if running(path):
                raise Denied("the controller's service has come up; start the tool again, and it goes through it")


class Through:
    """The service's door, for one bus. Leases end with the connection."""

    def __init__(self, path: Path, bus: str) -> None:
        self._path, self._bus = path, bus
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            Denied: no right to, or nobody there.
        """
        try:
            self._streams = await asyncio.open_unix_connection(self._path, limit=LINE_MAX)
        except OSError as error:
            raise Denied(_no_entry(self._path, error)) from None

    async def close(self) -> None:
        if self._streams:
            self._streams[1].close()
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()
            self._streams = None

    async def ask(self, request: Request, timeout_s: float | None = None) -> list[int]:
        more = {} if timeout_s is None else {"timeout_ms": 1000 * timeout_s}
        answer = await self.say(do="ask", bus=self._bus, unit=request.unit, pdu=request.pdu.hex(), **more)
        words: list[int] = answer["words"]
        return words

    async def lease(self, name: str, seconds: float) -> None:
        """Pause, for at most ``seconds``, what of this bus control does not need; raises Denied when it is taken."""
        await self.say(do="lease", bus=self._bus, name=name, seconds=seconds)

    async def give_back(self) -> None:
        await self.say(do="return", bus=self._bus)

    async def frames(self, after: int) -> tuple[int, list[Frame]]:
        """Return the oldest frames kept since frame ``after``, at seconds since 1970, and the number of the first."""
        answer = await self.say(do="frames", bus=self._bus, after=after)
        return answer["first"], [Frame(at, sent, bytes.fromhex(data)) for at, sent, data in answer["frames"]]

    async def say(self, **asked: Any) -> Mapping[str, Any]:
        """Return the door's answer to one line.

        Raises:
            LinkError, NoReply, WrongReply, Refused, Denied: as the door says.
        """
        if self._streams is None:
            raise LinkError("not connected to the service")
        reader, writer = self._streams
        try:
            async with asyncio.timeout(ANSWER_MAX_S):
                writer.write(json.dumps(asked).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
        except TimeoutError:
            raise LinkError(f"the service did not answer within {ANSWER_MAX_S:.0f} s") from None
        except OSError as error:
            raise LinkError(f"the service is gone: {error}") from None
        if not line:
            raise LinkError("the service is gone")
        answer: Mapping[str, Any] = json.loads(line)
        if "error" not in answer:
            return answer
        if answer["error"] == "exception":
            raise Refused(answer["code"])
        raise ERRORS.get(answer["error"], LinkError)(answer["why"])


async def captured(access: Through, seconds: float) -> tuple[list[Frame], int]:
    """Return the frames that the service has kept and those of the next ``seconds``, and how many were lost between.

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    taken: list[Frame] = []
    until, seen, lost = time.monotonic() + seconds, 0, 0
    while True:
        first, newest = await access.frames(seen)
        if seen:
            lost += first - 1 - seen
        seen = first - 1 + len(newest)
        taken += newest
        if not newest:
            if time.monotonic() >= until:
                return taken, lost
            await asyncio.sleep(min(CAPTURE_EVERY_S, max(0.0, until - time.monotonic())))


def running(path: Path) -> bool:
    """Return whether a service listens on ``path``.

    Raises:
        Denied: it can't be told, as without the right to connect: then nothing may be opened beside it.
    """
    try:
        return listens(path)
    except OSError as error:
        raise Denied(_no_entry(path, error)) from None


def sockets_of(plan: Plan) -> tuple[Path, Path]:
    """Return the paths on which the service of ``plan`` listens: the tools' door, and the console."""
    return door_of(plan.console.socket), Path(plan.console.socket)


@contextlib.asynccontextmanager
async def reach(plan: Plan, bus: str) -> AsyncIterator[Direct | Through]:
    """Give a way onto a bus of ``plan``: through its service if that runs, else straight.

    Raises:
        Denied: the service runs another plan, has no door, or may not be asked.
        LinkError: the bus can't be opened.
    """
    found = next(each for each in plan.buses if each.name == bus)
    door, console = sockets_of(plan)
    access: Direct | Through
    if running(door):
        access = Through(door, bus)
    elif running(console):
        raise Denied(f"the service runs, but its tools' door {door} is shut; see its log")
    else:
        gap_s = max((device.profile.link.min_gap_ms / 1000 for device in found.devices), default=0.0)
        access = Direct(found.settings, (door, console), gap_s)
    try:
        await access.open()
        if isinstance(access, Through):
            about = (await access.say(do="hello"))["about"]
            if about["revision"] != plan.revision:
                raise Denied(
                    f"the service runs revision {about['revision']}, this file is {plan.revision}; name its file"
                )
        yield access
    finally:
        await access.close()


def _no_entry(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"no right to use {path}; ask to be made a member of the group of that file"
    return f"can't connect to {path}: {error}"
