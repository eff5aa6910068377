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
from controller.fieldbus.capture import Frame
from controller.fieldbus.client import made
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request, WrongReply
from controller.fieldbus.histogram import Histogram
from controller.fieldbus.lane import Ask, ToolLane
from controller.fieldbus.pace import Pace
from controller.fieldbus.planner import t35_s
from controller.fieldbus.units import NEVER, Due, Patience, Unit
from controller.fieldbus.writes import BACK_S, RETRY_S, Order, Writes, needs_current, remaining

RECONNECT_FIRST_S = 0.5
RECONNECT_MAX_S = 5.0
TCP_SILENT_RECONNECT = 5  # failures in a row on a TCP connection without any answer until it is made anew
REPORT_S = 1.0
WATCHED_S = 0.0002
TIE_S = 1e-6  # deadlines that differ by less are equal, and the first in the plan goes first, as schedule.py foresees
LEAP_PCT = 1.0  # change of a safety number, in % of its range, that starts a scan at once
NOT_NOW = (5, 6)  # acknowledge, busy: the device will answer later
NOT_THERE = (10, 11)  # the gateway answers for a device that does not
ORDINARY = ("transactions", "tool transactions", "writes", "timeouts", "wrong replies")  # or told by the link, by cause

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
        answers: how long answers took, from the request's first byte.
        tools: the lane for tools, behind everything else but the probes.
    """

    def __init__(self, plan: BusPlan, inbox: Inbox, clock: Clock, safety_changed: Callable[[], None]) -> None:
        self.name = plan.name
        self.counters: Counter[str] = Counter()
        self.answers = Histogram()
        self._settings = plan.settings
        self._inbox = inbox
        self._clock = clock
        self._safety_changed = safety_changed
        self._link = made(plan.settings)
        now = clock.monotonic()
        self._units = {device.name: Unit(device, plan.settings, now) for device in plan.devices}
        self._patience = Patience(self._units.values())
        self._points = {point.point.id: point for device in plan.devices for point in device.points}
        self._writes = Writes(self._points)
        self._woken = asyncio.Event()
        self.tools = ToolLane(plan.settings, clock, self._woken)
        self._free_at = 0.0
        self._gap_s = max([t35_s(plan.settings), *(d.profile.link.min_gap_ms / 1000 for d in plan.devices)])
        self._pace = Pace(plan.settings, self._gap_s)
        self._busy_s = 0.0
        self._busy_until = now
        self._probe_at = 0.0
        self._silent_in_a_row = 0
        self._reported: tuple[float, float] = (now, 0.0)
        self._online: bool | None = None

    def submit(self, write: Write) -> None:
        """Queue a write; a later one for the same point replaces it. Never blocks."""
        if not self._writes.accept(write, self._clock.monotonic()):
            self.counters["writes dropped"] += 1
        self._woken.set()

    def order(self, point: str) -> Order:
        """Return the newest write of a point and what became of it; raises KeyError when there was none."""
        return self._writes[point]

    def in_words(self) -> str:
        """Return how quick the answers are and what went wrong, by cause; nothing while nothing did."""
        causes = {**self._link.faults, **{name: n for name, n in self.counters.items() if name not in ORDINARY}}
        told = [f"{cause} {count}" for cause, count in sorted(causes.items()) if count]
        if not told:
            return ""
        half, most = self.answers.quantile_ms(0.5), self.answers.quantile_ms(0.99)
        return f"half of all answers within {half:g} ms, 99 % within {most:g} ms; {', '.join(told)}"

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
        self._writes.cut_short()
        now = self._clock.monotonic()
        for unit in self._units.values():
            unit.begin(now)
        while True:
            self._woken.clear()
            self._report()
            now = self._clock.monotonic()
            self._expire(now)
            order = self._writes.next(now)
            if order is not None:
                await self._write(order)
                continue
            due, release = self._next(now)
            if due is not None:
                await self._read_with(due, now)
                continue
            ask, release = self.tools.next(
                now, min(release, self._writes.next_at(release)), self._gap_s, self._link.free_at
            )
            if ask is not None:
                await self._asked(ask)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(release - now):
                    await self._woken.wait()

    def _next(self, now: float) -> tuple[Due | None, float]:
        """Return the released span with the earliest deadline, or None and when the next one is released."""
        best, release = self._released(now)
        if best is None and release <= now:
            self._pace.set(release, now)
            best, release = self._released(now)
        if best is None:
            self._pace.rest()
        return best, release

    def _released(self, now: float) -> tuple[Due | None, float]:
        best: Due | None = None
        lease, paced = self.tools.lease(now), self._pace.at(now)
        release = min(now + REPORT_S, lease.until if lease else NEVER)
        for unit in self._units.values():
            for due in unit.candidates(self._probe_at):
                if lease is not None and not self._spared(unit, due, now):
                    continue
                free_at = self._link.free_at(due.request)
                if due.at > paced + TIE_S or free_at > now:
                    release = min(release, max(due.at, free_at))
                elif best is None or due.deadline < best.deadline - TIE_S:
                    best = due
        return best, release

    def _spared(self, unit: Unit, due: Due, now: float) -> bool:
        """Return whether a lease leaves this read alone; a silent unit is probed for any span that control needs."""
        spans = unit.spans if unit.answering is False else [due]
        return any(self.tools.spared(each.span, now) for each in spans)

    async def _asked(self, ask: Ask) -> None:
        """Run one exchange of a tool. It says nothing about the unit: no reading, no failure comes of it."""
        await self._silence()
        started = self._clock.monotonic()
        self.counters["tool transactions"] += 1
        try:
            words = ask.request.values(await self._link.exchange(ask.request, ask.timeout_s))
        except (NoReply, WrongReply, Refused, LinkError) as error:
            if not ask.answer.done():
                ask.answer.set_exception(error)
            if isinstance(error, LinkError):
                raise
        else:
            if not ask.answer.done():
                ask.answer.set_result(words)
        finally:
            ended = self._clock.monotonic()
            self._busy(started, ended)
            self._free_at = max(ended, self._link.heard_at) + self._gap_s

    async def _read_with(self, first: Due, now: float) -> None:
        """Read a span, and at once with it what else its device may be asked now."""
        unit = self._units[first.span.device.name]
        together = unit.together(first, now) if self.tools.lease(now) is None else [first]
        if len(together) == 1:
            await self._read(first, now)
            return
        ends = await asyncio.gather(*(self._read(due, now) for due in together), return_exceptions=True)
        for error in ends:
            if error is not None:
                raise error

    async def _read(self, due: Due, chosen_at: float) -> None:
        span, unit = due.span, self._units[due.span.device.name]
        await self._silence()
        if self._writes.next(self._clock.monotonic()) is not None:
            return  # it came during the silence, and goes first
        started = self._clock.monotonic()
        due.next(self._pace.at(chosen_at))
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
            own = words[start : start + plan.row.width]
            reading = decode(plan.row, own, at)
            if plan.point.safety:
                changed = changed or differs(self._inbox.get(plan.point.id), reading, plan.point)
            self._inbox[plan.point.id] = reading
            if self._writes.in_doubt(plan.point.id):
                self._seen(unit, plan, own, started)
        self._answered(unit)
        if changed:
            self._safety_changed()
        self._pace.kept(due.cost_s, self._clock.monotonic() - chosen_at)

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
        if error.not_mapped and unit.split(due):
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
        if self._settings.networked and self._silent_in_a_row >= TCP_SILENT_RECONNECT:
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

    def _seen(self, unit: Unit, plan: PointPlan, words: list[int], asked_at: float) -> None:
        """Compare what a register holds with what was written there."""
        now = self._clock.monotonic()
        if self._writes.seen(plan.point.id, words, asked_at, now):
            unit.read_back(plan, now + BACK_S)
        self._tell_faults(unit)

    async def _write(self, order: Order) -> None:
        plan, unit = order.plan, self._units[order.plan.point.device]
        if unit.answering is False:
            self._writes.put_off(order, f"{unit.name} is silent", self._clock.monotonic() + RETRY_S)
            return
        try:
            if order.steps is None:
                steps = encode(plan.row, order.write.value)
                current = await self._current(unit, plan) if needs_current(plan, steps) else None
                order.steps = remaining(plan, steps, current)
                order.words = order.steps[-1]
            words, *later = order.steps
            multiple = unit.device.profile.link.write_multiple
            await self._transact(
                unit, frames.write(unit.device.unit, plan.row.table, plan.row.address, words, multiple=multiple)
            )
            if later:  # the bus is free for others until the next word of the sequence
                self._writes.stepped(order, later, self._clock.monotonic() + plan.row.step_wait_s)
                return
        except (NoReply, WrongReply) as error:
            self.counters["writes failed"] += 1
            self._writes.put_off(order, str(error), self._clock.monotonic() + RETRY_S)
            self._failed(unit, error)
        except (Refused, EncodeError) as error:
            self.counters["writes failed"] += 1
            self._writes.refused(order, str(error), self._clock.monotonic())
            self._tell_faults(unit)
        else:
            self.counters["writes"] += 1
            self._writes.written(order, self._clock.monotonic())
            self._answered(unit)
            unit.read_back(plan, self._clock.monotonic() + BACK_S)
            self._tell_faults(unit)

    def _expire(self, now: float) -> None:
        """Give up writes that are too old, and say so, unless their device is known to be silent anyway."""
        late = self._writes.expire(now)
        self.counters["writes expired"] += len(late)
        lost = [order for order in late if self._units[order.plan.point.device].answering]
        if lost:
            first = lost[0]
            _log.warning("writes expired", bus=self.name, count=len(lost), first=first.write.point, why=first.why)

    def _tell_faults(self, unit: Unit) -> None:
        """Tell when a device begins or ceases to refuse what is written, or not to take it."""
        faults = self._writes.faults(plan.point.id for plan in unit.device.points if plan.row.access != "r")
        known = self._inbox.get(f"{unit.name}.write_fault")
        if known is not None and known.value is bool(faults):
            return
        for order in faults:
            why = f"{order.fate.value}: {order.why}"
            _log.warning("write fault", point=order.write.point, value=order.write.value, why=why)
        self._inbox[f"{unit.name}.write_fault"] = good(bool(faults), self._clock.monotonic())

    async def _current(self, unit: Unit, plan: PointPlan) -> int:
        request = frames.read(unit.device.unit, plan.row.table, plan.row.address, 1)
        if self._link.free_at(request) > self._clock.monotonic():
            raise NoReply("an earlier reply of this shape may still come")
        return (await self._transact(unit, request))[0]

    async def _transact(self, unit: Unit, request: Request) -> list[int]:
        """Run one request after the silence it needs."""
        await self._silence()
        started = self._clock.monotonic()
        self.counters["transactions"] += 1
        patient = self._patience.allows(unit, started)
        try:
            reply = await self._link.exchange(request, unit.timeout_s(request, patient=patient))
            took = self._clock.monotonic() - started
            self.answers.add(took)
            unit.took(request, took)
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
            self._busy(started, ended)
            gap_s = max(t35_s(self._settings), unit.device.profile.link.min_gap_ms / 1000)
            self._free_at = max(ended, self._link.heard_at) + gap_s

    def _busy(self, started: float, ended: float) -> None:
        """Count the time of an exchange, once where several were on their way together."""
        self._busy_s += max(0.0, ended - max(started, self._busy_until))
        self._busy_until = ended

    async def _silence(self) -> None:
        """Wait until the line has been silent for as long as it must, after a late reply too."""
        while (pause := self._silent_at() - self._clock.monotonic()) > WATCHED_S:  # noqa: ASYNC110
            await asyncio.sleep(pause - WATCHED_S)
        while self._clock.monotonic() < self._silent_at():
            pass  # the last moment is watched: a wake-up comes late by more than a line at 115200 baud can spare

    def _silent_at(self) -> float:
        return max(self._free_at, self._link.heard_at + t35_s(self._settings))

    def frames(self, after: int, most: int) -> tuple[int, list[Frame]]:
        """Return frames that went or came since frame ``after``, at wall-clock times, and the first's number."""
        first, kept = self._link.ring.after(after, most)
        shift_s = self._clock.wall_ms() / 1000 - self._clock.monotonic()
        return first, [frame._replace(at=frame.at + shift_s) for frame in kept]

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
