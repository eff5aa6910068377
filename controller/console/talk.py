"""The conversation that every door shares: bytes in, answers out, at a pace and for a time that have limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Protocol

import structlog

from controller.console.lines import Lines, Typed
from controller.console.orders import Reply
from controller.console.session import TOO_LONG, Session, answer

CHUNK = 4096  # bytes read at once
BURST = 100  # lines answered at once
LINES_PER_S = 20.0  # after a burst
STALLED_S = 10.0  # how long a reader may take nothing before it counts as gone
ETX, EOT = b"\x03", b"\x04"  # over the socket: end of an answer, end of the session


class Port(Protocol):
    """A way to and from a technician."""

    async def read(self) -> bytes:
        """Return what was typed, at most CHUNK; nothing at the end.

        Raises:
            ConnectionError: the other side is gone.
        """

    async def write(self, data: bytes) -> None:
        """Send all of ``data``.

        Raises:
            ConnectionError: the other side is gone, or took nothing for STALLED_S.
        """


@dataclass(frozen=True, slots=True)
class Manner:
    """How a door talks: what ends an answer, what ends the session, how a line ends, and when silence ends it."""

    end: bytes = ETX
    over: bytes = EOT
    newline: str = "\n"
    editing: bool = False
    idle_s: float | None = None


class Pace:
    """Keeps a paste or a flood from taking the time of the scan: a bucket of lines, refilled steadily."""

    def __init__(self, now: float, burst: float, per_s: float) -> None:
        self._burst, self._per_s = burst, per_s
        self._left, self._at = burst, now

    def wait_s(self, cost: float, now: float) -> float:
        """Take ``cost`` lines; return how long to wait before doing what they ask."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s) - cost
        self._at = now
        return max(0.0, -self._left / self._per_s)


async def talk(port: Port, session: Session, manner: Manner) -> None:
    """Greet, then answer lines in their order until the other side leaves, says quit, or is silent for too long.

    Raises:
        ConnectionError: the other side is gone.
    """
    clock = asyncio.get_running_loop().time
    lines, pace = Lines(editing=manner.editing), Pace(clock(), BURST, LINES_PER_S)
    await _say(port, manner, session.greeting())
    while True:
        try:
            async with asyncio.timeout(manner.idle_s):
                data = await port.read()
        except TimeoutError:
            await _say(port, manner, f"Nothing typed for {manner.idle_s:.0f} s; closed.", over=True)
            return
        if not data:
            return
        await asyncio.sleep(pace.wait_s(len(data) / CHUNK, clock()))
        for typed in lines.feed(data):
            if typed.echo:
                await port.write(typed.echo)
            if typed.line is None and not typed.too_long:
                continue
            await asyncio.sleep(pace.wait_s(1, clock()))
            reply = await _answered(session, typed)
            await _say(port, manner, reply.text, over=reply.over)
            if reply.over:
                return


async def _answered(session: Session, typed: Typed) -> Reply:
    """Return the answer; a mistake in a screen is told, and costs nobody the console."""
    if typed.line is None:
        return Reply(TOO_LONG)
    try:
        return await answer(session, typed.line)
    except Exception:
        structlog.get_logger().exception("console_failed", principal=session.principal, line=typed.line)
        return Reply("Internal error; the log has it.")


async def _say(port: Port, manner: Manner, text: str, *, over: bool = False) -> None:
    shown = text.replace("\n", manner.newline) + manner.newline if text else ""
    await port.write(shown.encode("ascii", "replace") + (manner.over if over else manner.end))
