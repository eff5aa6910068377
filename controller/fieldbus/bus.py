"""One worker per bus: writes ahead of reads, silence between frames, dead units out of the way, counters by cause."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, MutableMapping

import structlog

from controller.clock import Clock
from controller.config.plan import BusPlan, PointPlan
from controller.core.interlocks import Write
from controller.core.points import Kind, Point, Reading, Value, bad, good
from controller.fieldbus import frames
from controller.fieldbus.client import made
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request, WrongReply
from controller.fieldbus.planner import t35_s
from controller.fieldbus.units import Due, Patience, Unit

RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 5.0
TCP_SILENT_RECONNECT = 5  # failures in a row on a TCP connection without any answer until it is made anew
REPORT_S = 1.0
WRITES_MAX = 256
WATCHED_S = 0.0002
READ_BACK_S = 0.3  # how soon after a write its register is read again
LEAP_PCT = 1.0  # change of a safety number, in % of its range, that starts a scan at once
NOT_NOW = (5, 6)  # acknowledge, busy: the device will answer later
NOT_THERE = (10, 11)  # the gateway answers for a device that does not
WRONG_ADDRESS = (2, 3)

_log = structlog.get_logger("fieldbus")
Inbox = MutableMapping[str, Reading]


def differs(before: Reading | None, now: Reading, point: Point) -> bool:
    """Return whether a safety point changed so much that the scan should not wait: its flag, its worth, or a leap."""
    if before is None or before.quality is not now.quality:
        return True
    if point.kind is not Kind.NUMBER or point.low is None or point.high is None:
        return before.value != now.value
    if not isinstance(before.value, int | float) or not isinstance(now.value, int | float):
        return before.value is not now.value
    return abs(before.value - now.value) > LEAP_PCT / 100 * (point.high - point.low)


class BusWorker:
    """Reads every span of one bus in its rate and writes what the gate lets through.

    Readings go straight into ``inbox`` (latest wins); ``safety_changed`` is called when a safety point has a new value.

    Attributes:
        counters: transactions, writes, and what went wrong by cause.
    """

    def __init__(self, plan: BusPlan, inbox: Inbox, clock: Clock, safety_changed: Callable[[], None]) -> None:
        self.name = plan.name
        self.counters: Counter[str] = Counter()
        self._settings = plan.settings
        self._inbox = inbox
        self._clock = clock
        self._safety_changed = safety_changed
        self._link = made(plan.settings)
        now = clock.monotonic()
        self._units = {device.name: Unit(device, plan.settings, now) for device in plan.devices}
        self._patience = Patience(self._units.values())
        self._points = {plan.point.id: (device, plan) for device in plan.devices for plan in device.points}
        self._writes: dict[str, Write] = {}
        self._steps: dict[Write, list[list[int]]] = {}  # what is left of command sequences under way
        self._waiting: dict[str, tuple[Write, float]] = {}  # their writes, and when the next word may go
        self._woken = asyncio.Event()
        self._free_at = 0.0
        self._busy_s = 0.0
        self._probe_at = 0.0
        self._silent_in_a_row = 0
        self._reported: tuple[float, float] = (now, 0.0)
        self._online: bool | None = None

    def submit(self, write: Write) -> None:
        """Queue a write; a later one for the same point replaces it. Never blocks."""
        if write.point not in self._writes and len(self._writes) >= WRITES_MAX:
            self.counters["writes dropped"] += 1
            return
        under_way = self._waiting.get(write.point)
        if under_way is not None:
            if under_way[0].value == write.value:
                return  # its sequence is under way
            self._steps.pop(self._waiting.pop(write.point)[0], None)
        self._writes[write.point] = write
        self._woken.set()

    @property
    def points(self) -> Iterator[str]:
        return iter(self._points)

    async def run(self) -> None:
        """Serve the bus until cancelled; a lost link is made anew for ever."""
        wait_s = RECONNECT_FIRST_S
        try:
            while True:
                try:
                    await self._link.open()
                    wait_s = RECONNECT_FIRST_S
                    await self._serve()
                except LinkError as error:
                    self.counters["links lost"] += 1
                    self._set_online(False, str(error))
                await self._link.close()
                self._report()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RECONNECT_MAX_S)
        finally:
            await self._link.close()

    async def _serve(self) -> None:
        self._silent_in_a_row = 0
        self._waiting.clear()  # a sequence that the link's loss has cut short begins anew, when it is asked for again
        self._steps.clear()
        while True:
            self._woken.clear()
            self._report()
            if self._writes:
                write = min(self._writes.values(), key=lambda item: not item.safety)
                del self._writes[write.point]
                await self._write(write)
                continue
            now = self._clock.monotonic()
            step, step_at = min(self._waiting.values(), key=lambda item: item[1], default=(None, now + REPORT_S))
            if step is not None and step_at <= now:
                del self._waiting[step.point]
                await self._write(step)
                continue
            due, release = self._next(now)
            if due is not None:
                await self._read(due)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(release, step_at) - now):
                    await self._woken.wait()

    def _next(self, now: float) -> tuple[Due | None, float]:
        """Return the released span with the earliest deadline, or None and when the next one is released."""
        best: Due | None = None
        release = now + REPORT_S
        for unit in self._units.values():
            for due in unit.candidates(self._probe_at):
                at = max(due.at, self._link.free_at(due.request))
                if at > now:
                    release = min(release, at)
                elif best is None or due.deadline < best.deadline:
                    best = due
        return best, release

    async def _read(self, due: Due) -> None:
        span, unit = due.span, self._units[due.span.device.name]
        await self._silence()
        if self._writes:
            return  # it came during the silence, and goes first
        started = self._clock.monotonic()
        due.next(started)
        try:
            words = await self._transact(unit, due.request)
        except Refused as error:
            self._refused(unit, due, error)
            return
        except (NoReply, WrongReply) as error:
            due.retry(started)
            self._failed(unit, error)
            return
        at, changed = self._clock.monotonic(), False
        for plan in span.points:
            start = plan.row.address - span.address
            reading = decode(plan.row, words[start : start + plan.row.width], at)
            if plan.point.safety:
                changed = changed or differs(self._inbox.get(plan.point.id), reading, plan.point)
            self._inbox[plan.point.id] = reading
        self._answered(unit)
        if changed:
            self._safety_changed()

    def _refused(self, unit: Unit, due: Due, error: Refused) -> None:
        """The device (or its gateway) lives but will not answer this span."""
        self.counters[f"exception {error.code}"] += 1
        if error.code in NOT_THERE:
            self._silent_in_a_row = -1  # the gateway itself does answer
            self._failed(unit, error)
            return
        self._answered(unit)
        if error.code in NOT_NOW:
            return  # what was read last grows STALE if it goes on
        if error.code in WRONG_ADDRESS and unit.split(due):
            _log.warning("span split", device=unit.name, address=due.span.address, count=due.span.count, why=str(error))
            return
        at = self._clock.monotonic()
        for plan in due.span.points:
            self._inbox[plan.point.id] = bad(str(error), at)

    def _answered(self, unit: Unit) -> None:
        self._silent_in_a_row = 0
        self._set_online(True, "")
        before = unit.answering
        if unit.answered(self._clock.monotonic()):
            if before is False:
                _log.info("device answers again", device=unit.name, bus=self.name)
            self._inbox[f"{unit.name}.comms"] = good(True, self._clock.monotonic())

    def _failed(self, unit: Unit, error: Exception) -> None:
        now = self._clock.monotonic()
        self._silent_in_a_row += 1
        if unit.answering is False:
            self._probe_at = unit.probed(now, sum(other.answering is False for other in self._units.values()))
        elif unit.failed(now):
            _log.warning("device silent", device=unit.name, bus=self.name, last=str(error))
            self._inbox[f"{unit.name}.comms"] = good(False, now)
        if all(other.answering is False for other in self._units.values()):
            self._set_online(False, "no device answers")
        if self._settings.kind == "tcp" and self._silent_in_a_row >= TCP_SILENT_RECONNECT:
            raise LinkError("connected, but nothing answers")

    def _set_online(self, online: bool, why: str) -> None:
        if online is self._online:
            return
        if online:
            _log.info("bus answers", bus=self.name)
        else:
            _log.warning("bus lost", bus=self.name, why=why)
        self._online = online
        self._inbox[f"{self.name}.online"] = good(online, self._clock.monotonic())

    async def _write(self, write: Write) -> None:
        device, plan = self._points[write.point]
        unit = self._units[device.name]
        if unit.answering is False:
            self.counters["writes failed"] += 1  # the gate asks again while it is wanted
            return
        try:
            steps = self._steps.pop(write, None)
            if steps is None:
                steps = encode(plan.row, write.value)
                current = await self._current(unit, plan) if _needs_current(plan, steps) else None
                steps = _remaining(plan, steps, current)
            words, *later = steps
            multiple = device.profile.link.write_multiple
            await self._transact(
                unit, frames.write(device.unit, plan.row.table, plan.row.address, words, multiple=multiple)
            )
            if later:  # the bus is free for others until the next word of the sequence
                self._steps[write] = later
                self._waiting[write.point] = (write, self._clock.monotonic() + plan.row.step_wait_s)
                return
        except (NoReply, WrongReply) as error:
            self.counters["writes failed"] += 1
            self._failed(unit, error)
        except (Refused, EncodeError) as error:
            self.counters["writes failed"] += 1
            _log.warning("write refused", point=write.point, value=write.value, why=str(error))
        else:
            self.counters["writes"] += 1
            self._answered(unit)
            unit.read_back(plan, self._clock.monotonic() + READ_BACK_S)

    async def _current(self, unit: Unit, plan: PointPlan) -> int:
        request = frames.read(unit.device.unit, plan.row.table, plan.row.address, 1)
        if self._link.free_at(request) > self._clock.monotonic():
            raise NoReply("an earlier reply of this shape may still come")
        return (await self._transact(unit, request))[0]

    async def _silence(self) -> None:
        """Wait until the next frame may be sent."""
        pause = self._free_at - self._clock.monotonic()
        if pause > WATCHED_S:
            await asyncio.sleep(pause - WATCHED_S)
        while self._clock.monotonic() < self._free_at:
            pass  # the last moment is watched: a wake-up comes late by more than a line at 115200 baud can spare

    async def _transact(self, unit: Unit, request: Request) -> list[int]:
        """Run one request after the silence it needs."""
        await self._silence()
        started = self._clock.monotonic()
        self.counters["transactions"] += 1
        patient = self._patience.allows(unit, started)
        try:
            reply = await self._link.exchange(request, unit.timeout_s(request, patient=patient))
            unit.took(request, self._clock.monotonic() - started)
            return request.values(reply)
        except NoReply:
            self.counters["timeouts"] += 1
            if patient:
                self._patience.spent(unit, started)
            raise
        except WrongReply:
            self.counters["wrong replies"] += 1
            raise
        finally:
            ended = self._clock.monotonic()
            self._busy_s += ended - started
            gap_s = max(t35_s(self._settings), unit.device.profile.link.min_gap_ms / 1000)
            self._free_at = max(ended, self._link.heard_at) + gap_s

    def _report(self) -> None:
        """Tell about the bus itself, at most once a second."""
        now = self._clock.monotonic()
        since, busy = self._reported
        if now - since < REPORT_S:
            return
        load = 100 * (self._busy_s - busy) / (now - since)
        self._reported = (now, self._busy_s)
        refused = sum(count for cause, count in self.counters.items() if cause.startswith("exception"))
        values: dict[str, Value] = {
            "transactions": self.counters["transactions"],
            "timeouts": self.counters["timeouts"],
            "errors": self.counters["wrong replies"] + refused + self.counters["links lost"],
            "utilisation": round(load, 1),
        }
        for name, value in values.items():
            self._inbox[f"{self.name}.{name}"] = good(value, now)


def _needs_current(plan: PointPlan, steps: list[list[int]]) -> bool:
    """A command sequence, or a flag that shares its word, depends on what the word is now."""
    return plan.row.table == "holding" and (len(steps) > 1 or plan.row.mask != 0xFFFF)


def _remaining(plan: PointPlan, steps: list[list[int]], current: int | None) -> list[list[int]]:
    """Return the writes still needed: a sequence whose last word stands already must not run again."""
    if current is None:
        return steps
    mask = plan.row.mask
    if mask != 0xFFFF:
        return [[current & ~mask | word & mask] for (word,) in steps]
    return steps[-1:] if current == steps[-1][0] else steps
