"""A Sparkplug B 3.0 edge node: the pod is the node, every device of its buses a device.

Needs a connection of its own in MQTT 3.1.1: the death certificate is the connection's will. No aliases are used.
The whole birth sequence goes out before any data, in portions. Commands come in as node metrics ``setpoint/...``
and are judged like any other; the last outcome is the metric ``command/outcome``. Sparkplug carries commands at QoS 0
in clean sessions: what is sent while the node is away is lost, so nothing urgent should come this way.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controller.config.plan import Plan
from controller.core.alarm_states import AlarmState
from controller.core.commands import Command, Outcome
from controller.core.pod import alarm_rows, pod_points, setpoint_rows
from controller.core.points import Kind, Point, Reading, Value
from controller.core.slots import AUTOMATIC
from controller.northbound.publisher import STATE, TELEMETRY, Arrived, Message
from controller.northbound.snapshot import Snapshot, by_device, decimals, differs, judged, shown
from controller.northbound.sparkplug_codec import (
    BOOLEAN,
    DOUBLE,
    INT32,
    INT64,
    QUALITY_BAD,
    QUALITY_GOOD,
    QUALITY_STALE,
    STRING,
    Metric,
    as_number,
    decode,
    metric,
    name_field,
    payload,
)

NAMESPACE: Final = "spBv1.0"
PRINCIPAL: Final = "sparkplug"
REBIRTH: Final = "Node Control/Rebirth"
SETPOINT: Final = "setpoint/"
SEQUENCE: Final = 256
SPACING_S: Final = 1.0
EARLY_S: Final = 0.25
BIRTHS_PER_SCAN: Final = 8
DEVICES_PER_SCAN: Final = 16
REBIRTH_SPACING_S: Final = 2.0
HISTORY_MAX: Final = 4096  # kept messages that still wait to be said as history
HISTORY_PER_SCAN: Final = 4
COMMAND_BYTES_MAX: Final = 8192
COMMAND_AGE_MS: Final = 30_000
COMMAND_TTL_S: Final = 5.0
DATATYPES: Final = {
    Kind.NUMBER: DOUBLE,
    Kind.FLAG: BOOLEAN,
    Kind.CODE: INT64,
    Kind.BITS: INT64,
    Kind.TEXT: STRING,
}


@dataclass(slots=True)
class _Slot:
    """One metric that shows a point, and what was last published of it."""

    point: Point
    name: bytes
    datatype: int
    places: int
    seen: Reading | None = None
    value: Value | None = None
    status: int = -1
    at: float = -math.inf
    dirty: bool = False


class _Group:
    """The metrics of the node or of one device."""

    def __init__(self, name: str, slots: list[_Slot]) -> None:
        self.name = name
        self.slots = slots
        self.born = False
        self._next_at = -math.inf
        self._dirty: list[_Slot] = []

    @property
    def changed(self) -> bool:
        """Whether anything is still to be said; a birth in the same scan may have said it."""
        return bool(self._dirty)

    def look(self, snapshot: Snapshot, now: float, *, answering: bool) -> bool:
        """Take in this scan's readings; return whether data is due."""
        reading_of = snapshot.view.image.reading
        urgent = False
        for slot in self.slots:
            reading = reading_of(slot.point.id)
            if reading is slot.seen:
                continue
            slot.seen = reading
            sample = judged(reading, answering=answering)
            if sample.status != slot.status:
                urgent = True
            elif not differs(slot.value, sample.value, slot.point):
                continue
            slot.value, slot.status, slot.at = sample.value, sample.status, sample.at
            if not slot.dirty:
                slot.dirty = True
                self._dirty.append(slot)
        return bool(self._dirty) and (urgent or now >= self._next_at)

    def metrics(self, snapshot: Snapshot, now: float, *, birth: bool) -> list[bytes]:
        """Return what changed, or all of it for a birth, the oldest first."""
        slots = self.slots if birth else self._dirty
        self._next_at = max(self._next_at + SPACING_S, now + SPACING_S - EARLY_S)
        out = [_encoded(slot, snapshot, birth=birth) for slot in sorted(slots, key=_told_at)]
        for slot in self._dirty:
            slot.dirty = False
        self._dirty = []
        return out


class Sparkplug:
    """One pod as an edge node.

    Args:
        plan: the enclosure; its ``[sparkplug]`` table must be there.
        version: of the software.
        bd_seq: number of the last connection of an earlier run; -1 if there was none.
        keep: called with the number of each new connection before it is made, to be kept over restarts.

    Attributes:
        leaving: True when the primary host went away: the link is to say farewell, disconnect and connect anew.
    """

    def __init__(
        self, plan: Plan, version: str, bd_seq: int = -1, keep: Callable[[int], None] = lambda _: None
    ) -> None:
        if plan.sparkplug is None:
            raise ValueError("there is no table [sparkplug]")
        settings = self._settings = plan.sparkplug
        self._bd_seq, self._keep = bd_seq, keep
        self._node_topic = f"{NAMESPACE}/{settings.group}/%s/{settings.node}"
        self._state_topic = f"{NAMESPACE}/STATE/{settings.primary_host}" if settings.primary_host else ""
        points = by_device((*plan.pod.points.values(), *pod_points(plan.pod).values()))
        devices = {device.name for device in plan.devices}
        node = [_slot(p, f"{name}/{p.name}") for name, group in points.items() if name not in devices for p in group]
        self._node = _Group("", node)
        self._groups = [
            _Group(name, [_slot(p, p.name) for p in group if p.readable])
            for name, group in points.items()
            if name in devices
        ]
        self._setpoints = {row.point.partition(".")[2]: row for row in setpoint_rows(plan.pod)}
        self._alarm_ids = [row.id for row in alarm_rows(plan.pod)]
        self._facts: dict[str, tuple[int, Value | None]] = {
            "Properties/software version": (STRING, version),
            "Properties/configuration": (STRING, plan.revision),
            "pod/mode": (STRING, None),
            "command/outcome": (STRING, ""),
            **{f"{SETPOINT}{name}": (DOUBLE, None) for name in self._setpoints},
            **{f"alarm/{name}": (INT32, AlarmState.NORMAL.value) for name in self._alarm_ids},
        }
        self._names = {name: name_field(name) for name in (*self._facts, REBIRTH, "bdSeq")}
        self._changed: dict[str, None] = {}
        self._alarms: object = None
        self._seq = 0
        self._births: deque[_Group] = deque()
        self._history: deque[tuple[str, tuple[Metric, ...]]] = deque(maxlen=HISTORY_MAX)
        self._online = False  # a connection stands
        self._host_online = not self._state_topic
        self._host_ts = -1
        self._birth_due = False
        self._born_at = -math.inf
        self._number = 0
        self.leaving = False
        self.refused = 0

    @property
    def subscriptions(self) -> tuple[str, ...]:
        settings = self._settings
        node = (self._node_topic % "NCMD", f"{NAMESPACE}/{settings.group}/DCMD/{settings.node}/+")
        return (*node, self._state_topic) if self._state_topic else node

    def will(self, wall_ms: int) -> Message:
        """Return the death certificate of the connection that is about to be made; each has the next number."""
        self._bd_seq = (self._bd_seq + 1) % SEQUENCE
        self._keep(self._bd_seq)
        self._online = False
        self._host_online, self._host_ts, self.leaving = not self._state_topic, -1, False
        return self._death(wall_ms)

    def connected(self, wall_ms: int) -> None:  # noqa: ARG002
        self._online = self._birth_due = True
        self._births.clear()
        self._born_at = -math.inf
        for group in (self._node, *self._groups):
            group.born = False

    def farewell(self, wall_ms: int) -> list[Message]:
        """Return the death certificate: in 3.1.1 an orderly disconnect would silence the will."""
        self._online = False
        return [self._death(wall_ms)]

    def late(self, message: Message) -> Message | None:
        """Take data of an outage back: once the births are out it is said as history, in sequence."""
        self._history.append((message.topic, decode(message.payload, len(message.payload)).metrics))
        return None

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        """Return what is due at monotonic ``now``. Call once a scan."""
        due = self._look(snapshot, now)
        if not self._host_online:
            return []
        out: list[Message] = []
        if self._birth_due and now - self._born_at >= REBIRTH_SPACING_S:
            self._birth_due, self._born_at = False, now
            out.append(self._node_birth(snapshot, now))
            self._births = deque(self._groups)
        for _ in range(min(BIRTHS_PER_SCAN, len(self._births))):
            group = self._births.popleft()
            group.born = snapshot.answering(group.name)
            if group.born:
                out.append(self._device_message("DBIRTH", group, snapshot, group.metrics(snapshot, now, birth=True)))
        if self._births or (self._online and not self._node.born):
            return out
        out += self._deaths(snapshot, now)
        out += self._data(due, snapshot, now)
        if self._online:
            out += self._historical(snapshot)
        return out

    def received(self, arrived: Arrived, now: float) -> list[Command]:
        """Take in a command or the state of the primary host."""
        if arrived.topic == self._state_topic:
            self._host_state(arrived)
            return []
        if arrived.topic != self._node_topic % "NCMD" or arrived.retain or len(arrived.payload) > COMMAND_BYTES_MAX:
            self.refused += 1  # devices have no metric that may be written
            return []
        try:
            found = decode(arrived.payload)
        except ValueError:
            self.refused += 1
            return []
        if found.timestamp is not None and abs(arrived.wall_ms - found.timestamp) > COMMAND_AGE_MS:
            self.refused += 1
            return []
        commands = [self._command(item, arrived.wall_ms, now) for item in found.metrics]
        return [command for command in commands if command]

    def pending(self, now: float) -> list[Command]:  # noqa: ARG002
        return []

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:  # noqa: ARG002
        for outcome in outcomes:
            if outcome.principal == PRINCIPAL:
                words = " ".join(word for word in (outcome.id, outcome.state, outcome.code, outcome.message) if word)
                self._know("command/outcome", words)

    # ------------------------------------------------------------ what is said

    def _look(self, snapshot: Snapshot, now: float) -> list[_Group]:
        view = snapshot.view
        self._know("pod/mode", view.mode)
        for name, row in self._setpoints.items():
            array = view.slots.get(row.point)
            if array is not None:
                self._know(f"{SETPOINT}{name}", array.wanted)
        alarms = (*view.alarms, *view.suppressed)
        if alarms != self._alarms:
            self._alarms = alarms
            standing = {alarm.row.id: alarm.state.value for alarm in alarms}
            for name in self._alarm_ids:
                self._know(f"alarm/{name}", standing.get(name, AlarmState.NORMAL.value))
        due = [self._node] if self._node.look(snapshot, now, answering=True) else []
        for group in self._groups:
            if group.look(snapshot, now, answering=snapshot.answering(group.name)):
                due.append(group)
        return due

    def _know(self, name: str, value: Value | None) -> None:
        datatype, before = self._facts[name]
        if value != before:
            self._facts[name] = datatype, value
            self._changed[name] = None

    def _node_birth(self, snapshot: Snapshot, now: float) -> Message:
        self._seq = 0
        self._node.born = True
        self._changed.clear()
        at = snapshot.wall_ms
        metrics = self._node.metrics(snapshot, now, birth=True)
        metrics += [metric(self._names[n], kind, value, at, birth=True) for n, (kind, value) in self._facts.items()]
        metrics.append(metric(self._names["bdSeq"], INT64, self._bd_seq, at, birth=True))
        metrics.append(metric(self._names[REBIRTH], BOOLEAN, False, at, birth=True))
        return self._message(self._node_topic % "NBIRTH", at, metrics, STATE)

    def _deaths(self, snapshot: Snapshot, now: float) -> Iterator[Message]:
        """Say which devices fell silent, and give birth to those that are back."""
        for group in self._groups:
            answering = snapshot.answering(group.name)
            if group.born and not answering:
                group.born = False
                yield self._device_message("DDEATH", group, snapshot, [])
            elif answering and not group.born and self._online:
                group.born = True
                yield self._device_message("DBIRTH", group, snapshot, group.metrics(snapshot, now, birth=True))

    def _data(self, due: list[_Group], snapshot: Snapshot, now: float) -> Iterator[Message]:
        changed, self._changed = self._changed, {}
        node = self._node in due and self._node.changed
        if changed or node:
            metrics = self._node.metrics(snapshot, now, birth=False) if node else []
            facts = [(name, *self._facts[name]) for name in changed]
            metrics += [metric(self._names[name], kind, value, snapshot.wall_ms) for name, kind, value in facts]
            yield self._message(self._node_topic % "NDATA", snapshot.wall_ms, metrics, TELEMETRY)
        told = 0
        for group in due:
            if group is self._node or not group.changed or (self._online and not group.born):
                continue
            told += 1
            if told > DEVICES_PER_SCAN:
                return
            yield self._device_message("DDATA", group, snapshot, group.metrics(snapshot, now, birth=False))

    def _historical(self, snapshot: Snapshot) -> Iterator[Message]:
        for _ in range(min(HISTORY_PER_SCAN, len(self._history))):
            topic, found = self._history.popleft()
            metrics = [
                metric(name_field(item.name), _kind(item), item.value, item.timestamp or 0,
                       QUALITY_GOOD if item.quality is None else item.quality, historical=True)
                for item in found
            ]  # fmt: skip
            yield self._message(topic, snapshot.wall_ms, metrics, TELEMETRY)

    def _death(self, wall_ms: int) -> Message:
        only = metric(self._names["bdSeq"], INT64, self._bd_seq, wall_ms, birth=True)
        return Message(self._node_topic % "NDEATH", payload(wall_ms, [only], None), 1, False, STATE)

    def _device_message(self, verb: str, group: _Group, snapshot: Snapshot, metrics: list[bytes]) -> Message:
        kind = TELEMETRY if verb == "DDATA" else STATE
        return self._message(f"{self._node_topic % verb}/{group.name}", snapshot.wall_ms, metrics, kind)

    def _message(self, topic: str, wall_ms: int, metrics: list[bytes], kind: Any) -> Message:
        seq, self._seq = self._seq, (self._seq + 1) % SEQUENCE
        return Message(topic, payload(wall_ms, metrics, seq), 0, False, kind)

    # ------------------------------------------------------------ what is asked

    def _host_state(self, arrived: Arrived) -> None:
        """Take in a STATE message of the primary host; one older than the last counts for nothing."""
        try:
            body = json.loads(arrived.payload)
            online, stamp = body["online"], body["timestamp"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return
        if not isinstance(online, bool) or isinstance(stamp, bool) or not isinstance(stamp, int):
            return
        if stamp < self._host_ts:
            return
        self._host_ts = stamp
        if self._host_online and not online:
            self.leaving = True
        elif online and not self._host_online:
            self._birth_due, self._born_at = self._online, -math.inf
        self._host_online = online

    def _command(self, item: Metric, wall_ms: int, now: float) -> Command | None:
        if item.name == REBIRTH:
            self._birth_due = self._birth_due or item.value is True
            return None
        name = item.name.removeprefix(SETPOINT)
        row = self._setpoints.get(name)
        if row is None or name == item.name:
            self.refused += 1
            self._know("command/outcome", f"rejected unknown_target: no such metric: {item.name[:64]!r}")
            return None
        self._number += 1
        command = f"{PRINCIPAL}-{wall_ms}-{self._number}"
        if item.value is None:
            return Command(command, PRINCIPAL, "relinquish", row.point, now + COMMAND_TTL_S, slot=AUTOMATIC)
        value = as_number(item.value, item.datatype or DOUBLE)
        if value is None or not math.isfinite(value):
            self.refused += 1
            self._know("command/outcome", f"{command} rejected bad_request: a finite number is allowed")
            return None
        return Command(command, PRINCIPAL, "set", row.point, now + COMMAND_TTL_S, value, AUTOMATIC)


def _told_at(slot: _Slot) -> float:
    return slot.at if math.isfinite(slot.at) else math.inf  # what was never read is told with the time of now


def _slot(point: Point, name: str) -> _Slot:
    return _Slot(point, name_field(name), DATATYPES[point.kind], decimals(point.deadband))


def _encoded(slot: _Slot, snapshot: Snapshot, *, birth: bool) -> bytes:
    severity = slot.status >> 30 if slot.status >= 0 else 2
    quality = (QUALITY_GOOD, QUALITY_STALE, QUALITY_BAD, QUALITY_BAD)[severity]
    at = snapshot.ms(slot.at)
    value = slot.value if slot.datatype != DOUBLE else shown(slot.value, slot.places)
    return metric(slot.name, slot.datatype, value, snapshot.wall_ms if at is None else at, quality, birth=birth)


def _kind(item: Metric) -> int:
    """Return the datatype of a metric of ours that was read back without one."""
    if isinstance(item.value, bool):
        return BOOLEAN
    if isinstance(item.value, str):
        return STRING
    return DOUBLE if isinstance(item.value, float) else INT64
