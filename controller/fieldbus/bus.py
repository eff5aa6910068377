"""One worker per bus: writes ahead of reads, silence between frames, dead units out of the way, counters by cause."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from dataclasses import dataclass, field

import structlog

from controller.clock import Clock
from controller.config.plan import BusPlan, DevicePlan, PointPlan
from controller.core.interlocks import Write
from controller.core.points import Kind, Point, Reading, Value, bad, good
from controller.fieldbus.client import LinkError, ModbusLink, NoReply, Refused, WrongReply
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.planner import Span, character_s, plan_spans, reply_characters, t35_s

SILENT_AFTER = 3  # failures in a row until a device counts as silent
PROBE_FIRST_S = 2.0
PROBE_MAX_S = 60.0
RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 5.0
LATE_WINDOW_S = 0.25  # how long a line stays quiet after a timeout, so that a late reply answers nothing
TCP_SILENT_RECONNECT = 5  # failures in a row on a TCP connection without any answer until it is made anew
REPORT_S = 1.0
WRITES_MAX = 256
RETRY_ONCE_S = 5.0
ONCE_DEADLINE_S = 3.0
READ_BACK_S = 0.3  # how soon after a write its register is read again
LEAP_PCT = 1.0  # change of a safety number, in % of its range, that starts a scan at once

_log = structlog.get_logger("fieldbus")
Inbox = MutableMapping[str, Reading]
Call = Callable[[], Awaitable[list[int] | None]]


@dataclass(slots=True)
class _Due:
    """A span and when it is to be read next (monotonic seconds)."""

    span: Span
    at: float

    @property
    def deadline(self) -> float:
        """What is read often goes before what is read seldom, and that before what is read once."""
        return self.at + (ONCE_DEADLINE_S if self.span.period_s is None else self.span.period_s)


@dataclass(slots=True)
class _DeviceState:
    plan: DevicePlan
    spans: list[_Due]
    failures: int = 0
    answering: bool | None = None
    probe_at: float = 0.0
    probe_s: float = PROBE_FIRST_S


@dataclass(slots=True)
class Counters:
    transactions: int = 0
    timeouts: int = 0
    wrong: int = 0
    refused: int = 0
    links_lost: int = 0
    writes: int = 0
    writes_failed: int = 0
    writes_dropped: int = 0
    busy_s: float = 0.0
    by_code: dict[int, int] = field(default_factory=dict)


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
    """

    def __init__(self, plan: BusPlan, inbox: Inbox, clock: Clock, safety_changed: Callable[[], None]) -> None:
        self.name = plan.name
        self.counters = Counters()
        self._settings = plan.settings
        self._inbox = inbox
        self._clock = clock
        self._safety_changed = safety_changed
        self._link = ModbusLink(plan.settings)
        now = clock.monotonic()
        self._devices = {d.name: _DeviceState(d, [_Due(span, now) for span in plan_spans(d)]) for d in plan.devices}
        self._points = {plan.point.id: (device, plan) for device in plan.devices for plan in device.points}
        self._writes: dict[str, Write] = {}
        self._woken = asyncio.Event()
        self._quiet_until = 0.0
        self._silent_in_a_row = 0
        self._reported: tuple[float, float] = (now, 0.0)
        self._online: bool | None = None

    def submit(self, write: Write) -> None:
        """Queue a write; a later one for the same point replaces it. Never blocks."""
        if write.point not in self._writes and len(self._writes) >= WRITES_MAX:
            self.counters.writes_dropped += 1
            return
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
                    self.counters.links_lost += 1
                    self._set_online(False, str(error))
                self._link.close()
                self._report()
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, RECONNECT_MAX_S)
        finally:
            self._link.close()

    async def _serve(self) -> None:
        self._silent_in_a_row = 0
        while True:
            self._woken.clear()
            self._report()
            if self._writes:
                write = min(self._writes.values(), key=lambda item: not item.safety)
                del self._writes[write.point]
                await self._write(write)
                continue
            now = self._clock.monotonic()
            due, release = self._next(now)
            if due is not None:
                await self._read(due)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(release - now):
                    await self._woken.wait()

    def _next(self, now: float) -> tuple[_Due | None, float]:
        """Return the released span with the earliest deadline, or None and when the next one is released."""
        best: _Due | None = None
        release = now + REPORT_S
        for state in self._devices.values():
            for due in self._candidates(state):
                if due.at > now:
                    release = min(release, due.at)
                elif best is None or due.deadline < best.deadline:
                    best = due
        return best, release

    @staticmethod
    def _candidates(state: _DeviceState) -> list[_Due]:
        """Return what may be read of a device: all its spans, or only the probe of a silent one."""
        if state.answering is not False or not state.spans:
            return state.spans
        probe = min(state.spans, key=lambda due: due.span.count)
        return [_Due(probe.span, state.probe_at)]

    async def _read(self, due: _Due) -> None:
        span, state = due.span, self._devices[due.span.device.name]
        started = self._clock.monotonic()
        if span.period_s is None:
            due.at = float("inf")
        else:
            due.at = max(due.at + span.period_s, started)
        try:
            words = await self._transact(
                span.device,
                lambda: self._link.read(span.device.unit, span.table, span.address, span.count, self._timeout_s(span)),
            )
        except Refused as error:
            self._refused(span, error)
            self._answered(state)
            return
        except (NoReply, WrongReply) as error:
            if span.period_s is None:
                due.at = started + RETRY_ONCE_S
            self._failed(state, error)
            return
        self._store(span, words)
        self._answered(state)

    def _store(self, span: Span, words: list[int]) -> None:
        at, changed = self._clock.monotonic(), False
        for plan in span.points:
            start = plan.row.address - span.address
            reading = decode(plan.row, words[start : start + plan.row.width], at)
            if plan.point.safety:
                changed = changed or differs(self._inbox.get(plan.point.id), reading, plan.point)
            self._inbox[plan.point.id] = reading
        if changed:
            self._safety_changed()

    def _refused(self, span: Span, error: Refused) -> None:
        """The device lives but will not answer this span: its points are BAD, and say why."""
        self.counters.refused += 1
        self.counters.by_code[error.code] = self.counters.by_code.get(error.code, 0) + 1
        at = self._clock.monotonic()
        for plan in span.points:
            self._inbox[plan.point.id] = bad(str(error), at)

    def _answered(self, state: _DeviceState) -> None:
        self._silent_in_a_row = 0
        state.failures = 0
        self._set_online(True, "")
        if state.answering is not True:
            if state.answering is False:
                _log.info("device answers again", device=state.plan.name, bus=self.name)
            now = self._clock.monotonic()
            for due in state.spans:
                due.at = min(due.at, now)
            state.answering, state.probe_s = True, PROBE_FIRST_S
            self._inbox[f"{state.plan.name}.comms"] = good(True, now)

    def _failed(self, state: _DeviceState, error: Exception) -> None:
        now = self._clock.monotonic()
        state.failures += 1
        self._silent_in_a_row += 1
        if state.answering is False:
            state.probe_s = min(2 * state.probe_s, PROBE_MAX_S)
            state.probe_at = now + state.probe_s
        elif state.failures >= SILENT_AFTER:
            _log.warning("device silent", device=state.plan.name, bus=self.name, last=str(error))
            state.answering, state.probe_at = False, now + state.probe_s
            self._inbox[f"{state.plan.name}.comms"] = good(False, now)
        if all(other.answering is False for other in self._devices.values()):
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
        state = self._devices[device.name]
        if state.answering is False:
            self.counters.writes_failed += 1  # the gate asks again while it is wanted
            return
        try:
            steps = encode(plan.row, write.value)
            current = await self._current(device, plan) if self._needs_current(plan, steps) else None
            for words in self._remaining(plan, steps, current):
                await self._transact(device, self._writing(device, plan, words))
                if plan.row.step_wait_s and words is not steps[-1]:
                    await asyncio.sleep(plan.row.step_wait_s)
        except (NoReply, WrongReply) as error:
            self.counters.writes_failed += 1
            self._failed(state, error)
        except (Refused, EncodeError) as error:
            self.counters.writes_failed += 1
            _log.warning("write refused", point=write.point, value=write.value, why=str(error))
        else:
            self.counters.writes += 1
            self._answered(state)
            self._sooner(state, plan)

    @staticmethod
    def _needs_current(plan: PointPlan, steps: list[list[int]]) -> bool:
        """A command sequence, or a flag that shares its word, depends on what the word is now."""
        return plan.row.table == "holding" and (len(steps) > 1 or plan.row.mask != 0xFFFF)

    async def _current(self, device: DevicePlan, plan: PointPlan) -> int:
        words = await self._transact(
            device,
            lambda: self._link.read(device.unit, plan.row.table, plan.row.address, 1, self._timeout_of(8, 7)),
        )
        return words[0]

    @staticmethod
    def _remaining(plan: PointPlan, steps: list[list[int]], current: int | None) -> list[list[int]]:
        """Return the writes still needed: a sequence whose last word stands already must not run again."""
        if current is None:
            return steps
        mask = plan.row.mask
        if mask != 0xFFFF:
            return [[current & ~mask | word & mask] for (word,) in steps]
        return steps[-1:] if current == steps[-1][0] else steps

    def _writing(self, device: DevicePlan, plan: PointPlan, words: list[int]) -> Call:
        timeout_s = self._timeout_of(9 + 2 * len(words), 8)
        multiple = device.profile.link.write_multiple
        row = plan.row
        return lambda: self._link.write(device.unit, row.table, row.address, words, timeout_s, multiple=multiple)

    def _sooner(self, state: _DeviceState, plan: PointPlan) -> None:
        """Read a point back soon after it was written; a run of writes is read back once for all."""
        soon = self._clock.monotonic() + READ_BACK_S
        for due in state.spans:
            if due.span.period_s is not None and plan in due.span.points:
                due.at = min(due.at, soon)

    async def _transact(self, device: DevicePlan, call: Call) -> list[int]:
        """Run one request after the silence it needs, and keep the line quiet after a failure."""
        pause = self._quiet_until - self._clock.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        started = self._clock.monotonic()
        self.counters.transactions += 1
        late_s = 0.0
        try:
            result = await call()
        except NoReply:
            self.counters.timeouts += 1
            late_s = LATE_WINDOW_S if self._settings.kind == "rtu" else 0.0
            raise
        except WrongReply:
            self.counters.wrong += 1
            late_s = LATE_WINDOW_S if self._settings.kind == "rtu" else 0.0
            raise
        finally:
            ended = self._clock.monotonic()
            self.counters.busy_s += ended - started
            gap_s = max(t35_s(self._settings), device.profile.link.min_gap_ms / 1000)
            self._quiet_until = ended + gap_s + late_s
        return result or []

    def _timeout_s(self, span: Span) -> float:
        return self._timeout_of(8, reply_characters(span.table, span.count))

    def _timeout_of(self, request: int, reply: int) -> float:
        wire = (request + reply) * character_s(self._settings) if self._settings.kind == "rtu" else 0.0
        return wire + self._settings.timeout_ms / 1000

    def _report(self) -> None:
        """Tell about the bus itself, at most once a second."""
        now = self._clock.monotonic()
        since, busy = self._reported
        if now - since < REPORT_S:
            return
        load = 100 * (self.counters.busy_s - busy) / (now - since)
        self._reported = (now, self.counters.busy_s)
        values: dict[str, Value] = {
            "transactions": self.counters.transactions,
            "timeouts": self.counters.timeouts,
            "errors": self.counters.wrong + self.counters.refused + self.counters.links_lost,
            "utilisation": round(load, 1),
        }
        for name, value in values.items():
            self._inbox[f"{self.name}.{name}"] = good(value, now)
