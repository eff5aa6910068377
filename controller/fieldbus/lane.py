"""What tools ask of one bus: a lane behind everything that is due, and a lease on what control does not need."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

from controller.clock import Clock
from controller.config.enclosure import Bus
from controller.fieldbus.frames import NoReply, Request
from controller.fieldbus.planner import Span
from controller.fieldbus.units import on_wire_s

ASKS_MAX = 16
WAIT_MAX_S = 10.0  # how long an ask may wait for time on the bus
PATIENCE_S = 0.5  # after so long it no longer waits for a pause that it surely fits into
LEASE_MAX_S = 60.0
TIMEOUT_LEAST_S = 0.02


class Denied(Exception):  # noqa: N818  an answer, and not an error of the link
    """The controller does not do what a tool asks; the text says why."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Time on one bus, until ``until`` (monotonic seconds) at the latest."""

    name: str
    owner: str
    until: float


@dataclass(slots=True, eq=False)
class Ask:
    """One request of a tool, and what it takes of the bus at the most, its silence afterwards left out."""

    request: Request
    timeout_s: float
    at: float
    answer: asyncio.Future[list[int]]


class ToolLane:
    """The tools' way onto one bus. Its worker takes an ask when no write waits and no read is due.

    No ask takes longer than the bus's write budget, so that a write waits no longer behind a tool than behind a read,
    and a read comes late by that much at most. For PATIENCE_S an ask waits for a pause it surely fits into; a lease
    spares it that wait, and the worker pauses spans without a point that control needs.

    Attributes:
        kept: points that are read whatever a lease says; safety points need not be named.
    """

    def __init__(self, settings: Bus, clock: Clock, woken: asyncio.Event) -> None:
        self.kept: Collection[str] = ()
        self._settings, self._clock, self._woken = settings, clock, woken
        self._asks: deque[Ask] = deque()
        self._lease: Lease | None = None

    async def ask(self, request: Request, timeout_s: float | None = None) -> list[int]:
        """Return what the unit answers; ``timeout_s`` for its reply, besides its time on the wire, at most the budget.

        Raises:
            LinkError, NoReply, WrongReply, Refused: as a link does; NoReply too when the bus had no time.
            Denied: it would keep the bus too long, or too many wait.
        """
        budget_s, wire_s = self._settings.write_budget_ms / 1000, on_wire_s(self._settings, request)
        if wire_s + TIMEOUT_LEAST_S > budget_s:
            raise Denied(
                f"takes {1000 * wire_s:.0f} ms of a bus with write_budget_ms = {1000 * budget_s:.0f}; ask for less"
            )
        if len(self._asks) >= ASKS_MAX:
            raise Denied(f"{ASKS_MAX} requests wait for this bus already")
        own_s = self._settings.timeout_ms / 1000 if timeout_s is None else timeout_s
        answer: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        ask = Ask(request, min(wire_s + max(own_s, TIMEOUT_LEAST_S), budget_s), self._clock.monotonic(), answer)
        self._asks.append(ask)
        self._woken.set()
        try:
            async with asyncio.timeout(WAIT_MAX_S):
                return await answer
        except TimeoutError:
            raise NoReply(f"the bus had no time for it in {WAIT_MAX_S:.0f} s; a lease makes some") from None
        finally:
            if ask in self._asks:
                self._asks.remove(ask)

    def next(
        self, now: float, release: float, gap_s: float, free_at: Callable[[Request], float]
    ) -> tuple[Ask | None, float]:
        """Return the ask to serve now, or None and when to look again.

        Args:
            release: when the next read is due.
            gap_s: silence after an exchange.
            free_at: from when on the link may send a request.
        """
        while self._asks and self._asks[0].answer.done():
            self._asks.popleft()
        if not self._asks:
            return None, release
        ask = self._asks[0]
        if (free := free_at(ask.request)) > now:
            return None, min(release, free)
        patient_until = ask.at if self.lease(now) else ask.at + PATIENCE_S
        if now + ask.timeout_s + gap_s <= release or now >= patient_until:
            return self._asks.popleft(), release
        return None, min(release, patient_until)

    def lease(self, now: float) -> Lease | None:
        """Return the lease that runs."""
        if self._lease is not None and now >= self._lease.until:
            self._lease = None
        return self._lease

    def take(self, name: str, owner: str, seconds: float) -> Lease:
        """Lease the bus to ``owner``, or prolong the lease it holds; never for longer than LEASE_MAX_S from now.

        Raises:
            Denied: somebody else holds it.
        """
        now = self._clock.monotonic()
        held = self.lease(now)
        if held is not None and held.owner != owner:
            raise Denied(f"{held.owner} holds it for {held.until - now:.0f} s more: {held.name}")
        self._lease = Lease(name, owner, now + min(max(0.0, seconds), LEASE_MAX_S))
        self._woken.set()
        return self._lease

    def give_back(self, owner: str) -> bool:
        """End the lease of ``owner``; return whether it held one."""
        held = self.lease(self._clock.monotonic())
        if held is None or held.owner != owner:
            return False
        self._lease = None
        self._woken.set()
        return True

    def spared(self, span: Span, now: float) -> bool:
        """Return whether ``span`` is read whatever a lease says: there is none, or control needs a point of it."""
        return self.lease(now) is None or span.safety or any(plan.point.id in self.kept for plan in span.points)
