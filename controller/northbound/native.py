"""The native MQTT tree: what the pod says of itself, in one JSON document per thing.

``DOCUMENTS`` lists every topic; docs/mqtt.md explains them. Everything here is retained state: a new subscriber gets
the whole pod at once, and a document that was lost is made good by the next one. Each device's document is encoded
only when it changed beyond a deadband (at most once a second), when a quality changed (at once), or when
``REFRESH_S`` have passed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json import JSONEncoder
from typing import Any, Final, Literal, NamedTuple

from controller.config.plan import DevicePlan, Plan
from controller.core.alarms import Alarm, AlarmState
from controller.core.commands import Command, Outcome
from controller.core.pod import pod_points, setpoint_rows
from controller.core.points import NEVER_READ, Kind, Point, Reading, Value
from controller.northbound.override import Override
from controller.northbound.publisher import STATE, TELEMETRY, Arrived, Message
from controller.northbound.requests import Requests
from controller.northbound.snapshot import (
    SIGNIFICANT_DIGITS,
    Sample,
    Snapshot,
    by_device,
    decimals,
    differs,
    judged,
    shown,
)
from controller.store import Answers, NoAnswers

SCHEMA: Final = 1
SPACING_S: Final = 1.0  # time between two documents of one device that differ in values only, on average
EARLY_S: Final = (
    0.25  # how much sooner one may come, after one that was late: what is read each second is never skipped
)
REFRESH_S: Final = 98.0  # no document is older than 100 s, even one that waits for its turn
DOCUMENTS_PER_SCAN: Final = 16  # of those that differ in values only, so that one scan never pays for all devices
CLOCK_JUMP_MS: Final = 2000.0
SEVERITIES: Final = {"critical": 900, "high": 700, "medium": 500, "low": 200}  # OPC UA 1-1000
LIMIT_TESTS: Final = ("above", "below", "differs")


class Topic(NamedTuple):
    """One row of the topic list; ``{r}`` is the configured root."""

    topic: str
    qos: int
    retain: bool
    content: str


DOCUMENTS: Final = (
    Topic("{r}/status", 1, True, "whether the controller is there; its last will says `lost`"),
    Topic("{r}/meta", 1, True, "who this is: name, site, version, revision of the settings, inventory of devices"),
    Topic("{r}/meta/{dev}", 1, True, "every point of one device: unit, kind, range, texts, deadband"),
    Topic("{r}/state", 1, True, "mode, since when and why, what is missing, which interlocks act, state of machines"),
    Topic("{r}/dev/{dev}", 1, True, "every value of one device, with quality and time"),
    Topic("{r}/alarm/{id}", 1, True, "one alarm that is not normal; empty when it is normal again"),
    Topic("{r}/override", 1, True, "the priority array of every setpoint that may be asked, and local control"),
    Topic("{r}/alarms", 1, True, "how many alarms stand, by state and priority, and the newest unacknowledged"),
)

ASKING: Final = (
    Topic("{r}/cmd/{principal}/req", 1, False, "**to the pod**: one request of a principal; never retained"),
    Topic("{r}/cmd/{principal}/rsp", 1, False, "what became of it: one message for each state"),
    Topic("{r}/hb/{principal}", 0, False, "**to the pod**: a principal is alive"),
)

encode: Final = JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(slots=True)
class _Slot:
    """One point, and what was last published of it."""

    point: Point
    places: int
    value: Value | None = None
    status: int = -1


class _Device:
    """The document of one device: when it is due, and its text."""

    def __init__(self, name: str, points: tuple[Point, ...], topic: str) -> None:
        self._name = name
        self._topic = topic
        self._slots = [_Slot(point, decimals(point.deadband)) for point in points]
        self._ids = [point.id for point in points]
        self._seen: list[Reading | None] = [None] * len(points)
        self.published_at = float("-inf")
        self._next_at = float("-inf")
        self._changed = False
        self._seq = 0

    def reset(self) -> None:
        self.published_at = self._next_at = float("-inf")

    def due(self, snapshot: Snapshot, now: float) -> Literal["", "soon", "now"]:
        """Take in this scan's readings; return how urgent a document is."""
        before, self._seen = self._seen, snapshot.view.image.readings(self._ids)
        urgent = False
        if before != self._seen:
            answering = snapshot.answering(self._name)
            for slot, old, reading in zip(self._slots, before, self._seen, strict=True):
                if reading is old and old is not None:  # the same object: not read since
                    continue
                sample = judged(reading or NEVER_READ, answering=answering)
                if sample.status != slot.status:
                    urgent = True
                elif not self._changed and differs(slot.value, sample.value, slot.point):
                    self._changed = True
        elapsed = now - self.published_at
        if urgent or elapsed == math.inf:
            return "now"
        return "soon" if elapsed >= REFRESH_S or (self._changed and now >= self._next_at) else ""

    def message(self, snapshot: Snapshot, now: float) -> Message:
        self.published_at = now
        self._next_at = max(self._next_at + SPACING_S, now + SPACING_S - EARLY_S)
        self._changed = False
        self._seq += 1
        answering = snapshot.answering(self._name)
        points: dict[str, dict[str, Any]] = {}
        readings = snapshot.view.image.readings(self._ids)
        for slot, reading in zip(self._slots, readings, strict=True):
            sample = judged(reading or NEVER_READ, answering=answering)
            slot.value, slot.status = sample.value, sample.status
            points[slot.point.name] = _shown(sample, slot.places, snapshot)
        body = {**_head(snapshot), "seq": self._seq, "clk": snapshot.clock, "pts": points}
        return Message(self._topic, encode(body).encode(), kind=TELEMETRY)


class Native:
    """Snapshots in, messages out. Keeps only what it has published.

    Args:
        plan: the enclosure as configured.
        version: of the software.
        root: first levels of every topic; the configured one if empty.
        boot: number of this start of the controller.
        answers: keeps the answers to commands over a restart; without it they are forgotten by then.
    """

    leaving = False

    def __init__(self, plan: Plan, version: str, root: str = "", boot: int = 0, answers: Answers | None = None) -> None:
        self._plan = plan
        self._version = version
        self._boot = boot
        self.root = root or plan.native.root
        points = by_device((*plan.pod.points.values(), *pod_points(plan.pod).values()))
        self._units = {point.id: point.unit for group in points.values() for point in group}
        self._places = {point.id: decimals(point.deadband) for group in points.values() for point in group}
        self._meta = list(self._meta_messages(points))
        shown = {name: tuple(point for point in group if point.readable) for name, group in points.items()}
        self._devices = [_Device(name, group, f"{self.root}/dev/{name}") for name, group in shown.items()]
        self._offset_ms: float | None = None
        self._alarm_root = f"{self.root}/alarm/"
        self._said: list[Message] = []
        self._override = Override(self.root)
        rows = setpoint_rows(plan.pod)
        self._requests = Requests(self.root, plan.principals, rows, plan.revision, boot, answers or NoAnswers())
        self._standing: tuple[Alarm, ...] | None
        self._reset()

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The retained alarm records, so that those an earlier run left behind are found; and what principals ask."""
        return (f"{self._alarm_root}+", *self._requests.subscriptions)

    @property
    def request_counts(self) -> Counter[str]:
        """What came in from principals, by what was done with it; see ``Requests.counts``."""
        return self._requests.counts

    def will(self, wall_ms: int) -> Message:
        return self.status("lost", wall_ms)

    def connected(self, wall_ms: int) -> None:
        """Publish everything again at the next ``messages``."""
        self._reset()
        self._said = [self.status("online", wall_ms)]

    def farewell(self, wall_ms: int) -> list[Message]:
        return [self.status("offline", wall_ms)]

    def late(self, message: Message) -> Message | None:
        """Return a document of a device under ``hist``: it has the times of its values, and is not retained."""
        device = message.topic.removeprefix(f"{self.root}/dev/")
        return message._replace(topic=f"{self.root}/hist/{device}", retain=False)

    def received(self, arrived: Arrived, now: float) -> list[Command]:
        """Return what a principal asks; take note of alarm records that the broker has kept and no longer stand."""
        topic = arrived.topic
        if topic.startswith(self._alarm_root) and arrived.retain and arrived.payload and topic not in self._published:
            self._published[topic] = None
            self._standing = None
        return self._requests.received(arrived, now)

    def pending(self, now: float) -> list[Command]:  # noqa: ARG002
        return []

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:
        self._requests.answered(outcomes, wall_ms)

    def status(self, state: Literal["online", "offline", "lost"], wall_ms: int) -> Message:
        """Return the document that tells whether the controller is there; ``lost`` is for the will only."""
        body = {"state": state, "ts": wall_ms, "boot": self._boot, "ver": self._version}
        return Message(f"{self.root}/status", encode(body).encode(), kind=STATE)

    def _reset(self) -> None:
        self._fresh = True
        self._published: dict[str, Alarm | None] = {}
        self._state_key: tuple[Any, ...] = ()
        self._state_at = float("-inf")
        self._standing = None
        self._summary_at = float("-inf")
        self._override.reset()
        for device in self._devices:
            device.reset()

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        """Return what is due at monotonic ``now``. Call once a scan."""
        if self._offset_ms is None or abs(snapshot.offset_ms - self._offset_ms) > CLOCK_JUMP_MS:
            if self._offset_ms is not None:  # every time published so far is wrong
                published = dict.fromkeys(self._published)
                self._reset()
                self._published = published
            self._offset_ms = snapshot.offset_ms
        out, self._said = self._said, []
        if self._fresh:
            out += self._meta
        self._fresh = False
        out += self._requests.messages(snapshot, now)
        out += self._state(snapshot, now)
        out += self._override.messages(snapshot, now)
        out += self._alarms(snapshot, now)
        waiting = []
        for device in self._devices:
            due = device.due(snapshot, now)
            if due == "now":
                out.append(device.message(snapshot, now))
            elif due == "soon":
                waiting.append(device)
        waiting.sort(key=lambda device: device.published_at)
        out += [device.message(snapshot, now) for device in waiting[:DOCUMENTS_PER_SCAN]]
        return out

    def _state(self, snapshot: Snapshot, now: float) -> Iterator[Message]:
        view = snapshot.view
        key = (view.mode, view.since, view.cause, view.acting, view.first_out)
        rest = (view.degraded, view.missing, dict(view.machines))
        elapsed = now - self._state_at
        same = self._state_key[:-1] == key
        if same and elapsed < REFRESH_S and (elapsed < SPACING_S or self._state_key[-1] == rest):
            return
        self._state_key, self._state_at = (*key, rest), now
        body = {
            **_head(snapshot),
            "mode": view.mode,
            "since": snapshot.ms(view.since),
            "cause": view.cause,
            "degraded": view.degraded,
            "missing": view.missing,
            "interlocks": view.acting,
            "first_out": view.first_out,
            "machines": dict(view.machines),
        }
        yield Message(f"{self.root}/state", encode(body).encode(), kind=STATE)

    def _alarms(self, snapshot: Snapshot, now: float) -> Iterator[Message]:
        standing = (*snapshot.view.alarms, *snapshot.view.suppressed)
        if standing != self._standing:
            yield from self._alarm_records(standing, snapshot)
        elif now - self._summary_at < REFRESH_S:
            return
        self._standing, self._summary_at = standing, now
        yield Message(f"{self.root}/alarms", encode(self._summary(snapshot)).encode(), kind=STATE)

    def _alarm_records(self, alarms: Sequence[Alarm], snapshot: Snapshot) -> Iterator[Message]:
        standing = {f"{self.root}/alarm/{alarm.row.id}": alarm for alarm in alarms}
        for topic, alarm in standing.items():
            if self._published.get(topic) != alarm:
                yield Message(topic, encode(self._record(alarm, snapshot)).encode(), kind=STATE)
        for topic in self._published:
            if topic not in standing:
                yield Message(topic, b"", kind=STATE)
        self._published = dict(standing)

    def _record(self, alarm: Alarm, snapshot: Snapshot) -> dict[str, Any]:
        row = alarm.row
        device, _, name = row.point.partition(".")
        return {
            **_head(snapshot),
            "id": row.id,
            "occ": f"{alarm.boot}-{alarm.occurrence}" if alarm.occurrence else None,
            "point": f"{device}/{name}",
            "title": row.title,
            "priority": row.priority,
            "severity": SEVERITIES[row.priority],
            "state": alarm.state.letter,
            "state_no": alarm.state.value,
            "active": alarm.active,
            "acked": not alarm.annunciated,
            "latched": alarm.latched,
            "test": row.test,
            "value": shown(alarm.value, self._places.get(row.point, SIGNIFICANT_DIGITS)),
            "limit": row.limit if row.test in LIMIT_TESTS else None,
            "hysteresis": row.hysteresis,
            "unit": self._units.get(row.point, ""),
            "t_active": snapshot.ms(alarm.active_at),
            "t_rtn": snapshot.ms(alarm.returned_at),
            "t_ack": snapshot.ms(alarm.acked_at),
            "ack_by": alarm.acked_by,
            "count": alarm.count,
            "first_out": alarm.first_out,
            "cause": alarm.cause,
            "chattering": alarm.chattering,
            "until": snapshot.ms(alarm.until),
            "by": alarm.by,
            "reason": alarm.reason,
            "consequence": row.consequence,
            "action": row.action,
        }

    def _summary(self, snapshot: Snapshot) -> dict[str, Any]:
        standing = snapshot.view.alarms
        states = {state.letter: 0 for state in AlarmState if state is not AlarmState.NORMAL}
        states["F"] = len(snapshot.view.suppressed)
        priorities = dict.fromkeys(SEVERITIES, 0)
        newest: Alarm | None = None
        for alarm in standing:
            states[alarm.state.letter] += 1
            priorities[alarm.row.priority] += 1
            if alarm.annunciated and (newest is None or alarm.active_at >= newest.active_at):
                newest = alarm
        return {
            **_head(snapshot),
            "total": len(standing),
            "active": sum(alarm.active for alarm in standing),
            "unacked": sum(alarm.annunciated for alarm in standing),
            "state": states,
            "priority": priorities,
            "flood": snapshot.view.image.flag("pod.alarm_flood", otherwise=False),
            "newest": newest
            and {
                "id": newest.row.id,
                "title": newest.row.title,
                "priority": newest.row.priority,
                "t_active": snapshot.ms(newest.active_at),
            },
        }

    def _meta_messages(self, points: dict[str, tuple[Point, ...]]) -> Iterator[Message]:
        plan = self._plan
        pseudo = {bus.name: {"class": "bus", "kind": bus.settings.kind} for bus in plan.buses}
        inventory: dict[str, dict[str, Any]] = {name: pseudo.get(name, {"class": name}) for name in points}
        inventory.update((device.name, _inventory(device)) for device in plan.devices)
        body = {
            "schema": SCHEMA,
            "name": plan.name,
            "site": plan.site,
            "ver": self._version,
            "cfg_rev": plan.revision,
            "scan_s": plan.scan_s,
            "devices": inventory,
        }
        yield Message(f"{self.root}/meta", encode(body).encode(), kind=STATE)
        for name, group in points.items():
            described = {point.name: _described(point) for point in group}
            detail = {"schema": SCHEMA, "cfg_rev": plan.revision, "dev": name, **inventory[name], "pts": described}
            yield Message(f"{self.root}/meta/{name}", encode(detail).encode(), kind=STATE)


def _head(snapshot: Snapshot) -> dict[str, Any]:
    return {"ts": snapshot.wall_ms, "boot": snapshot.boot}


def _shown(sample: Sample, places: int, snapshot: Snapshot) -> dict[str, Any]:
    body = {"v": shown(sample.value, places), "q": sample.status, "t": snapshot.ms(sample.at)}
    if sample.last is not None:
        body["lv"] = shown(sample.last, places)
    return body


def _inventory(device: DevicePlan) -> dict[str, Any]:
    tables = device.profile.tables
    return {
        "class": device.profile.device_class,
        "profile": device.profile.name,
        "vendor": tables.vendor,
        "model": tables.model,
        "bus": device.bus,
        "unit": device.unit,
        "description": device.description,
    }


def _described(point: Point) -> dict[str, Any]:
    """Return what there is to know of a point; keys that say nothing are left out."""
    body: dict[str, Any] = {"id": f"{point.device}/{point.name}", "kind": point.kind.value}
    if point.kind is Kind.NUMBER:
        body["unit"] = point.unit
    if point.low is not None and point.high is not None:
        body["range"] = [point.low, point.high]
    for key, value in (
        ("writable", point.writable),
        ("safety", point.safety),
        ("texts", {str(number): text for number, text in point.texts.items()}),
        ("deadband", point.deadband),
        ("description", point.description),
    ):
        if value:
            body[key] = value
    return body
