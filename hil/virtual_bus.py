"""One bus in virtual time: the rules of the bus worker over emulated devices, without sockets and without waiting.

What is due when, which write goes first, when a unit counts as silent and what a read-back says are the controller's
own (``fieldbus.units``, ``fieldbus.writes``, ``fieldbus.codec``); an exchange takes the time the planner gives it, so
that the worker's pace, which is not here, would change nothing. Not here either: pipelined reads and the tools' lane. A
reading whose words are those of before keeps its value and gets a new time.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from controller.config.plan import BusPlan, PointPlan
from controller.core.interlocks import Write
from controller.core.points import Reading, bad, good
from controller.fieldbus import frames
from controller.fieldbus.bus import (
    NOT_NOW,
    NOT_THERE,
    RECONNECT_FIRST_S,
    RECONNECT_MAX_S,
    REPORT_S,
    TCP_SILENT_RECONNECT,
    TIE_S,
)
from controller.fieldbus.codec import EncodeError, decode, encode
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request
from controller.fieldbus.planner import exchange_s, gap_s
from controller.fieldbus.units import (
    NEVER,
    ONCE_DEADLINE_S,
    TIMEOUT_LEAST_S,
    Due,
    Patience,
    on_wire_s,
)
from controller.fieldbus.writes import BACK_S, RETRY_S, Order, Writes, needs_current, remaining
from hil.devices.emulator import Emulator
from hil.virtual_lanes import Held, Lane, Ready, VirtualUnit, first, held, tied
from hil.wire.pdu import ModbusFault

FAR_S = 3600.0


class VirtualBus:
    """Reads and writes the emulators of one bus from ``start`` to ``end`` whenever ``advance`` is called.

    Attributes:
        at: how far the bus has come, in seconds of virtual time.
        unplugged: the adapter is gone, or connections are refused.
        lost_share: probability that an exchange is destroyed on the wire.
        safety_changed: a safety point got another value since somebody last looked.
    """

    def __init__(
        self,
        plan: BusPlan,
        emulators: Mapping[str, Emulator],
        inbox: dict[str, Reading],
        at: float,
        seed: str,
    ) -> None:
        self.name, self.plan, self.at = plan.name, plan, at
        self.unplugged = False
        self.lost_share = 0.0
        self.counters: Counter[str] = Counter()
        self._emulators, self._inbox = emulators, inbox
        self._random = random.Random(seed)
        self._units = {device.name: VirtualUnit(device, plan.settings, at) for device in plan.devices}
        self._patience = Patience(self._units.values())
        points = {point.point.id: point for device in plan.devices for point in device.points}
        self._writes = Writes(points)
        self._written = {d.name: [p.point.id for p in d.points if p.row.access != "r"] for d in plan.devices}
        self._seen: dict[tuple[str, str, int, int], Held] = {}
        self._lanes: list[Lane] = []  # of all units, in their order; empty while it must be made anew
        self._round_s = 0.0  # that reading all of them once takes
        self._common, self._common_s = 0, 0.0  # how many are read over and over; their period, where they have one
        self._idle_until = 0.0  # nothing falls due before, unless a write comes
        self._touched: Emulator | None = None  # the one asked last, in one go of plain reads
        self._devices = [(unit, emulators[name]) for name, unit in self._units.items()]
        self._costs: dict[tuple[str, str, int], float] = {}
        self._open, self._wait_s = False, RECONNECT_FIRST_S
        self._online: bool | None = None
        self._probe_at = self._busy_s = 0.0
        self._silent_in_a_row = 0
        self._reported = (at, 0.0)

    def submit(self, write: Write, now: float) -> None:
        """Queue a write at ``now``; a later one for the same point replaces it."""
        self._idle_until = 0.0
        if not self._writes.accept(write, now):
            self.counters["writes dropped"] += 1

    def advance(self, start: float, end: float) -> None:
        """Do what falls due before ``end``; an exchange that begins before may end after it."""
        self.at = max(self.at, start)
        if self.at >= end:
            return
        self._report()
        self._writes_expire()
        if end <= self._idle_until and self._open and not self.unplugged:
            self.at = end
            return
        while self.at < end:
            try:
                self._link()
                self.at = self._work(end)
            except LinkError:
                self.counters["links lost"] += 1
                self._open = False
                self._set_online(False)
                self.at += self._wait_s
                self._wait_s = min(2 * self._wait_s, RECONNECT_MAX_S)

    # ------------------------------------------------------------ what the worker's loop does

    def _link(self) -> None:
        if self.unplugged:
            raise LinkError("unplugged")
        if not self._open:
            self._open, self._wait_s, self._silent_in_a_row = True, RECONNECT_FIRST_S, 0
            self._writes.cut_short()
            for unit in self._units.values():
                unit.begin(self.at)

    def _work(self, end: float) -> float:
        """Make one exchange, or return when the next one may be made."""
        order = self._writes.next(self.at)
        if order is not None:
            self._write(order)
            return self.at
        if self._undisturbed():
            return self._read_on(end)
        due, release = self._next()
        if due is not None:
            self._read(due)
            return self.at
        return min(end, max(self.at + TIE_S, min(release, self._writes.next_at(release))))

    def _next(self) -> tuple[Due | None, float]:
        best: Due | None = None
        now, release, earliest = self.at, self.at + FAR_S, float("inf")
        for unit in self._units.values():
            for due in unit.candidates(self._probe_at):
                at = due.at
                if at > now:
                    if at < release:
                        release = at
                elif (deadline := due.deadline) < earliest - TIE_S:
                    best, earliest = due, deadline
        return best, release

    def _read(self, due: Due) -> None:
        span, unit = due.span, self._units[due.span.device.name]
        started = self.at
        due.next(started)
        try:
            words = self._transact(unit, due.request, span.table, span.address, span.count)
        except Refused as error:
            self._refused(unit, due, error)
            return
        except NoReply:
            due.retry(started)
            self._failed(unit)
            return
        self._take(words, self._held(due))
        if self._writes.doubting:
            self._look_back(due, unit, words, started)
        self._answered(unit)

    def _held(self, due: Due) -> Held:
        span = due.span
        key = (span.device.name, span.table, span.address, span.count)
        if key not in self._seen:
            self._seen[key] = held(span)
        return self._seen[key]

    def _take(self, words: Sequence[int], seen: Held) -> None:
        """Put what a span holds into the inbox; what is as before gets a new time."""
        at, before, olds = self.at, seen.words, seen.readings
        if words == before:
            seen.readings = [Reading(old.value, old.quality, at, old.reason) for old in olds]
        elif len(olds) > 1:
            seen.readings = [
                Reading(old.value, old.quality, at, old.reason)
                if (own := words[part]) == before[part]
                else decode(row, own, at)
                for row, part, old in zip(seen.rows, seen.parts, olds, strict=True)
            ]
        else:
            seen.readings = [decode(row, words[part], at) for row, part in zip(seen.rows, seen.parts, strict=True)]
        seen.words = words
        self._inbox.update(zip(seen.names, seen.readings, strict=True))

    def _look_back(self, due: Due, unit: VirtualUnit, words: Sequence[int], asked_at: float) -> bool:
        """Compare what was read with what was written; return whether anything was in doubt."""
        held, in_doubt = self._held(due), self._writes.in_doubt
        doubted = [place for place, name in enumerate(held.names) if in_doubt(name)]
        for place in doubted:
            self._compare(unit, due.span.points[place], words[held.parts[place]], asked_at)
        return bool(doubted)

    # ------------------------------------------------------------ while nothing is out of the ordinary

    def _undisturbed(self) -> bool:
        """Whether every read that comes next will be answered in its time, so that it need not be judged singly."""
        if not self._online or self.lost_share:
            return False
        return all(unit.steady and emulator.plain for unit, emulator in self._devices)

    def _read_on(self, end: float) -> float:
        """Make the reads that are due, in the order of ``_next``, and return as ``_work`` does.

        It leaves off for a write, and after a read that may have changed what is due when.
        """
        writing, doubting = self._writes.next_at(NEVER), self._writes.doubting
        end = min(end, writing)
        while self.at < end:
            ready, release = self._ready()
            self._touched = None
            in_order = tied(ready)
            if in_order and not doubting and self._read_ahead(ready, end):
                continue
            while ready and self.at < end and self.at < release:
                lane, started = ready.pop(0 if in_order else first(ready))[1], self.at
                if lane.look is None or not (lane.quick or lane.cost_s <= lane.unit.timeout_s(lane.due.request)):
                    self._read(lane.due)
                    return self.at
                words = self._look(lane, lane.look, None if doubting else end)
                if doubting and self._look_back(lane.due, lane.unit, words, started):
                    return self.at
                release = min(release, lane.due.at)
            if not ready and self.at < min(end, release):
                self._idle_until = min(release, writing)
                self.at = min(end, max(self.at + TIE_S, release))
        return self.at

    def _read_ahead(self, ready: Sequence[Ready], end: float) -> bool:
        """Make at once the rounds of reads that come again before ``end``; return whether there were any."""
        period_s = self._common_s
        if not period_s or len(ready) < self._common or end - self.at < period_s + self._round_s:
            return False
        rounds = int((end - self._round_s - ready[0][1].due.at) // period_s)
        for _, lane in ready:
            lane.due.at += rounds * period_s
            self._busy_s += rounds * lane.cost_s
        for _, lane in rounds * [*ready]:
            lane.unit.learn(lane.own_s)
        self.counters["transactions"] += rounds * len(ready)
        self._silent_in_a_row, self.at = 0, ready[0][1].due.at
        return True

    def _ready(self) -> tuple[list[Ready], float]:
        """Return what is due with its deadlines, and when the next one falls due."""
        now, release, ready = self.at, self.at + FAR_S, list[Ready]()
        if not self._lanes:
            self._lanes = [self._lane(due, unit) for unit in self._units.values() for due in unit.spans]
            self._make_out()
        for lane in self._lanes:
            at = lane.due.at
            if at <= now:
                ready.append((at + lane.wait_s, lane))
            elif at < release:
                release = at
        return ready, release

    def _make_out(self) -> None:
        """Work out how long a round of all reads takes, and whether all of them have one period and are ordinary."""
        self._round_s = sum(lane.cost_s for lane in self._lanes)
        again = [lane for lane in self._lanes if lane.due.span.period_s is not None]
        periods = {lane.wait_s for lane in again}
        alike = len(periods) == 1 and all(lane.quick and lane.look is not None for lane in again)
        self._common, self._common_s = len(again), periods.pop() if alike else 0.0

    def _lane(self, due: Due, unit: VirtualUnit) -> Lane:
        span, emulator, settings = due.span, self._emulators[unit.name], self.plan.settings
        cost_s = self._cost_s(unit, span.table, span.count)
        wire_s = on_wire_s(settings, due.request)
        nominal_s = unit.device.profile.link.device_time_ms / 1000
        ordinary = emulator.device_time_s == nominal_s and cost_s >= TIE_S
        return Lane(
            due,
            unit,
            emulator,
            emulator.look(span.table, span.address, span.count) if ordinary else None,
            ONCE_DEADLINE_S if span.period_s is None else span.period_s,
            cost_s,
            max(0.0, cost_s - wire_s),
            cost_s <= wire_s + min(settings.timeout_ms / 1000, TIMEOUT_LEAST_S),
            self._held(due),
        )

    def _look(self, lane: Lane, look: Callable[[], tuple[int, ...]], end: float | None) -> tuple[int, ...]:
        """Make one ordinary read and return its words.

        Args:
            end: when the next scan looks, if a read that is done again before need not bring anything: the plant
                stands still meanwhile. None where every read is wanted.
        """
        due, emulator, started, cost_s = lane.due, lane.emulator, self.at, lane.cost_s
        due.next(started)
        self.counters["transactions"] += 1
        self._busy_s += cost_s
        self.at = started + cost_s
        self._silent_in_a_row = 0
        lane.unit.learn(lane.own_s)
        if end is not None and self.at < due.at and due.at + self._round_s < end:
            return ()
        if emulator is not self._touched:
            self._touched = emulator if emulator.touched() else None
        if self._touched is not None:
            words = look()
        else:
            words = tuple(emulator.read(due.span.table, due.span.address, due.span.count))
        self._take(words, lane.seen)
        return words

    def _transact(self, unit: VirtualUnit, request: Request, table: str, address: int, count: int) -> tuple[int, ...]:
        """Ask the unit for registers; the time of the exchange passes."""
        emulator = self._emulators[unit.name]

        def answer() -> tuple[int, ...]:
            return tuple(emulator.read(table, address, count))

        return self._exchange(unit, request, self._cost_s(unit, table, count), answer)

    def _exchange(
        self, unit: VirtualUnit, request: Request, cost_s: float, answer: Callable[[], tuple[int, ...]]
    ) -> tuple[int, ...]:
        emulator = self._emulators[unit.name]
        self.counters["transactions"] += 1
        patient = self._patience.allows(unit, self.at)
        timeout_s = unit.timeout_s(request, patient=patient)
        nominal_s = unit.device.profile.link.device_time_ms / 1000
        late_s = emulator.device_time_s + emulator.faults.reply_delay_s - nominal_s
        lost = self.lost_share and self._random.random() < self.lost_share
        if emulator.silent or lost or cost_s + late_s > timeout_s:
            self.counters["timeouts"] += 1
            if patient:
                self._patience.spent(unit, self.at)
            self._pass(timeout_s + gap_s(self.plan.settings, unit.device.profile.link))
            raise NoReply("no answer")
        self._pass(max(cost_s + late_s, TIE_S))
        unit.took(request, cost_s + late_s)
        try:
            if emulator.refusal:
                raise ModbusFault(emulator.refusal)
            return answer()
        except ModbusFault as fault:
            raise Refused(fault.code) from None

    def _pass(self, seconds: float) -> None:
        self._busy_s += seconds
        self.at += seconds

    def _cost_s(self, unit: VirtualUnit, table: str, count: int) -> float:
        key = (unit.name, table, count)
        if key not in self._costs:
            self._costs[key] = exchange_s(self.plan.settings, unit.device.profile.link, table, count)
        return self._costs[key]

    # ------------------------------------------------------------ what became of an exchange

    def _refused(self, unit: VirtualUnit, due: Due, error: Refused) -> None:
        self.counters["refused"] += 1
        self._lanes.clear()  # its span may be split
        if error.code in NOT_THERE:
            self._silent_in_a_row = -1
            self._failed(unit)
            return
        self._answered(unit)
        if error.code in NOT_NOW or (error.not_mapped and unit.split(due)):
            return
        self._seen.pop((unit.name, due.span.table, due.span.address, due.span.count), None)
        self._inbox.update((plan.point.id, bad(str(error), self.at)) for plan in due.span.points)

    def _answered(self, unit: VirtualUnit) -> None:
        self._silent_in_a_row = 0
        self._set_online(True)
        if unit.answered(self.at):
            self._inbox[f"{unit.name}.comms"] = good(True, self.at)

    def _failed(self, unit: VirtualUnit) -> None:
        self._silent_in_a_row += 1
        if unit.answering is False:
            silent = sum(other.answering is False for other in self._units.values())
            self._probe_at = unit.probed(self.at, silent)
        elif unit.failed(self.at):
            self._inbox[f"{unit.name}.comms"] = good(False, self.at)
        if all(other.answering is False for other in self._units.values()):
            self._set_online(False)
        if self.plan.settings.networked and self._silent_in_a_row >= TCP_SILENT_RECONNECT:
            raise LinkError("connected, but nothing answers")

    def _set_online(self, online: bool) -> None:
        if online is not self._online:
            self._online = online
            self._inbox[f"{self.name}.online"] = good(online, self.at)

    def _compare(self, unit: VirtualUnit, plan: PointPlan, words: Sequence[int], asked_at: float) -> None:
        if self._writes.seen(plan.point.id, words, asked_at, self.at):
            unit.read_back(plan, self.at + BACK_S)
        self._tell_faults(unit)

    def _write(self, order: Order) -> None:
        plan, unit = order.plan, self._units[order.plan.point.device]
        if unit.answering is False:
            self._writes.put_off(order, f"{unit.name} is silent", self.at + RETRY_S)
            return
        try:
            if order.steps is None:
                steps = encode(plan.row, order.write.value)
                current = self._current(unit, plan) if needs_current(plan, steps) else None
                order.steps = remaining(plan, steps, current)
                order.words = order.steps[-1]
            words, *later = order.steps
            self._put(unit, plan, words)
            if later:
                self._writes.stepped(order, later, self.at + plan.row.step_wait_s)
                return
        except NoReply as error:
            self.counters["writes failed"] += 1
            self._writes.put_off(order, str(error), self.at + RETRY_S)
            self._failed(unit)
        except (Refused, EncodeError) as error:
            self.counters["writes failed"] += 1
            self._writes.refused(order, str(error), self.at)
            self._tell_faults(unit)
        else:
            self.counters["writes"] += 1
            self._writes.written(order, self.at)
            self._answered(unit)
            unit.read_back(plan, self.at + BACK_S)
            self._tell_faults(unit)

    def _put(self, unit: VirtualUnit, plan: PointPlan, words: list[int]) -> None:
        table, address, emulator = plan.row.table, plan.row.address, self._emulators[unit.name]
        multiple = unit.device.profile.link.write_multiple
        request = frames.write(unit.device.unit, table, address, words, multiple=multiple)

        def answer() -> tuple[int, ...]:
            emulator.write(table, address, words)
            return ()

        self._exchange(unit, request, self._cost_s(unit, table, len(words)), answer)

    def _current(self, unit: VirtualUnit, plan: PointPlan) -> int:
        table, address = plan.row.table, plan.row.address
        return self._transact(unit, frames.read(unit.device.unit, table, address, 1), table, address, 1)[0]

    def _writes_expire(self) -> None:
        late = self._writes.expire(self.at)
        if late:
            self.counters["writes expired"] += len(late)

    def _tell_faults(self, unit: VirtualUnit) -> None:
        faults = self._writes.faults(self._written[unit.name])
        known = self._inbox.get(f"{unit.name}.write_fault")
        if known is None or known.value is not bool(faults):
            self._inbox[f"{unit.name}.write_fault"] = good(bool(faults), self.at)

    def _report(self) -> None:
        since, busy = self._reported
        if self.at - since < REPORT_S:
            return
        values = {
            "transactions": self.counters["transactions"],
            "timeouts": self.counters["timeouts"],
            "errors": self.counters["refused"] + self.counters["links lost"],
            "utilisation": round(100 * (self._busy_s - busy) / (self.at - since), 1),
        }
        self._reported = (self.at, self._busy_s)
        self._inbox.update((f"{self.name}.{name}", good(value, self.at)) for name, value in values.items())
