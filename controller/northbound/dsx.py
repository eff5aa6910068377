"""NVIDIA DSX Exchange, BMS event bus 1.0: snapshots in, values and metadata out; requests of integrations in.

The contract knows no will, no alarm and no answer to a request. So the pod's heartbeat says that it lives, alarms are
points of the object System, and what became of an integration's setpoint is told by the points ``ai_control``.
Requests are guarded as its integration guide asks: the writer's heartbeat is alive, the value is fresh and good,
and an isolation must still be asked for some seconds later. A rule that differs in a later contract is another adapter.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from controller.config.adapters import DsxSettings
from controller.config.plan import Plan
from controller.core.alarm_states import HIDDEN, AlarmState
from controller.core.commands import Command, Outcome
from controller.core.points import Reading
from controller.core.slots import OPTIMISER
from controller.northbound.dsx_objects import AI_REASONS, AI_STATES, Catalogue, Found, Tag, mode_names
from controller.northbound.publisher import STATE, TELEMETRY, Arrived, Message
from controller.northbound.snapshot import SIGNIFICANT_DIGITS, Snapshot, decimals, judged, shown

PUBLISHED: Final = "BMS/v1/PUB"
SPACING_S: Final = 1.0  # between two values of one point, where only the number moved
REFRESH_S: Final = 95.0  # values and metadata are due each 100 s; the rest is for those that wait for their turn
TURN_S: Final = 90.0  # one turn through all points that are refreshed
HEARTBEAT_S: Final = 10.0
BIRTHS_PER_SCAN: Final = 40
VALUES_PER_SCAN: Final = 160
ALIVE_S: Final = 30.0  # three heartbeats
FRESH_MS: Final = 60_000
HOLD_S: Final = 2.0  # an isolation must still be asked for after this
ISOLATIONS_SPACING_S: Final = 5.0  # one rack at a time, unless its own detector is wet
REQUEST_SPACING_S: Final = 1.0
REQUEST_BYTES_MAX: Final = 8192
COMMAND_TTL_S: Final = 5.0
LATER: Final = ("rate", "busy")  # codes of a refusal that does not last
ISOLATIONS: Final = ("RackLiquidIsolationRequest", "RackElectricalIsolationRequest")


NOTHING: Final = Found(None, False, -math.inf)


@dataclass(slots=True)
class _Point:
    """One tag, and what was last published of it."""

    tag: Tag
    value_topic: str
    metadata: Message
    places: int
    seen: tuple[Reading, ...] | Reading | None = None
    found: Found = NOTHING
    told: Found | None = None
    told_at: float = -math.inf
    born: bool = False
    waits: bool = False

    def changed(self) -> bool:
        """Return whether the newest value is worth a message."""
        told, found = self.told, self.found
        if told is None or told.good != found.good or (told.value is None) != (found.value is None):
            return True
        if told.value is None or found.value is None:
            return False
        return abs(told.value - found.value) > self.tag.deadband

    @property
    def urgent(self) -> bool:
        told, found = self.told, self.found
        return told is None or told.good != found.good or "stateText" in self.tag.metadata


class _Value(NamedTuple):
    value: float | None
    timestamp: int


class Dsx:
    """One pod as a BMS in the DSX contract.

    Args:
        plan: the enclosure; its ``[dsx]`` table must be there.

    Raises:
        ValueError: the table names a point that the pod does not have.
    """

    leaving = False

    def __init__(self, plan: Plan) -> None:
        if plan.dsx is None:
            raise ValueError("there is no table [dsx]")
        self._settings: DsxSettings = plan.dsx
        catalogue = Catalogue(plan, plan.dsx)
        self.tags = tuple(catalogue.tags)
        self._prefix = catalogue.prefix
        self._points = [_point(tag) for tag in self.tags]
        self._keyed = {point.tag.key: point for point in self._points if point.tag.key}
        self._read = [point for point in self._points if point.tag.sources]
        self._single = [point for point in self._read if len(point.tag.sources) == 1]
        self._several = [point for point in self._read if len(point.tag.sources) > 1]
        self._modes = {name: number for number, name in enumerate(mode_names())}
        self._heartbeat = next(point for point in self._points if point.tag.point_type == "HeartbeatTimestampBms")
        self._inbound = {
            f"BMS/v1/{tag.integration}/Value/{tag.tail}": tag for tag in self.tags if tag.integration
        }  # fmt: skip
        self._requests = _Requests(self._settings, {rack.name: rack.leak for rack in plan.pod.racks})
        self._waiting: deque[_Point] = deque()
        self._unborn: deque[_Point] = deque()
        self._turn = 0
        self._alarms: object = None
        self.connected(0)

    @property
    def subscriptions(self) -> tuple[str, ...]:
        writers = dict.fromkeys(tag.integration for tag in self.tags if tag.integration)
        return tuple(f"BMS/v1/{writer}/Value/+/+/{self._prefix}/#" for writer in writers)

    def will(self, wall_ms: int) -> Message | None:  # noqa: ARG002
        """The contract has none: a heartbeat that stops says it."""
        return None

    def connected(self, wall_ms: int) -> None:  # noqa: ARG002
        """Tell all again, metadata before each value."""
        for point in self._points:
            point.born = point.waits = False
            point.told = None
        self._unborn = deque(self._points)
        self._waiting.clear()
        self._beat_at = self._refresh_at = -math.inf
        self._due_share = 0.0

    def farewell(self, wall_ms: int) -> list[Message]:
        """Say that no value can be trusted from now on: the CDU is not available."""
        point = self._keyed["available"]
        return [_value_message(point, NOTHING, wall_ms, wall_ms)]

    def late(self, message: Message) -> Message | None:  # noqa: ARG002
        """Values of an outage are of no use here: the contract has no way to mark them as old but their time."""
        return None

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        """Return what is due at monotonic ``now``. Call once a scan."""
        self._requests.picture(snapshot)
        self._look(snapshot)
        self._work_out(snapshot, now)
        out: list[Message] = []
        for _ in range(min(BIRTHS_PER_SCAN, len(self._unborn))):
            point = self._unborn.popleft()
            point.born = True
            out.append(point.metadata)
            if point.tag.sources or point.tag.key:
                out.append(self._told(point, snapshot, now))
        if self._heartbeat.born and now - self._beat_at >= HEARTBEAT_S:
            self._beat_at = now
            beat = Found(snapshot.wall_ms, True, now)
            out.append(_value_message(self._heartbeat, beat, snapshot.wall_ms, snapshot.wall_ms))
        out += self._changes(snapshot, now)
        if not self._unborn:
            out += self._refresh(snapshot, now)
        return out

    def received(self, arrived: Arrived, now: float) -> list[Command]:
        """Return the commands of an integration's value: a setpoint, or a sign of life. Isolations wait."""
        tag = self._inbound.get(arrived.topic)
        if tag is None or arrived.retain:
            return []
        value = _parsed(arrived)
        return [] if value is None else self._requests.take(tag, value, arrived.wall_ms, now)

    def pending(self, now: float) -> list[Command]:
        """Return the isolations that have been asked for long enough."""
        return self._requests.due(now)

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:  # noqa: ARG002
        self._requests.answered(outcomes)

    def _look(self, snapshot: Snapshot) -> None:
        """Take in this scan's readings; put what changed in the queue."""
        reading_of = snapshot.view.image.reading
        answers: dict[str, bool] = {}
        for point in self._single:
            source = point.tag.sources[0]
            reading = reading_of(source)
            if reading is not point.seen:
                point.seen = reading
                self._judge(point, (reading,), snapshot, answers)
        for point in self._several:
            readings = tuple(map(reading_of, point.tag.sources))
            seen = point.seen
            if not isinstance(seen, tuple) or any(a is not b for a, b in zip(seen, readings, strict=True)):
                point.seen = readings
                self._judge(point, readings, snapshot, answers)

    def _judge(
        self, point: _Point, readings: Sequence[Reading], snapshot: Snapshot, answers: dict[str, bool]
    ) -> None:  # fmt: skip
        samples = []
        for source, reading in zip(point.tag.sources, readings, strict=True):
            device = source.partition(".")[0]
            if device not in answers:
                answers[device] = snapshot.answering(device)
            samples.append(judged(reading, answering=answers[device]))
        assert point.tag.combine is not None
        point.found = point.tag.combine(samples)
        self._queue(point)

    def _queue(self, point: _Point) -> None:
        if not point.waits and point.changed():
            point.waits = True
            self._waiting.append(point)

    def _work_out(self, snapshot: Snapshot, now: float) -> None:
        """Take in what is no reading: mode, alarms, and how the integrations' control stands."""
        view = snapshot.view
        self._know("mode", self._modes.get(view.mode), now)
        self._know("available", int(view.mode.startswith("NORMAL") and not view.missing), now)
        if self._settings.setpoint_integration:
            self._know("ai_state", AI_STATES.index(self._requests.state), now)
            self._know("ai_reason", AI_REASONS.index(self._requests.reason or "none"), now)
        alarms = (*view.alarms, *view.suppressed)
        if alarms == self._alarms:
            return
        self._alarms = alarms
        standing = {alarm.row.id: alarm for alarm in alarms}
        for key in self._keyed:
            if key.startswith("alarm:"):
                alarm = standing.get(key.removeprefix("alarm:"))
                self._know(key, (alarm.state if alarm else AlarmState.NORMAL).value, now)
        counts = dict.fromkeys(("critical", "high", "medium", "low"), 0)
        told = [alarm for alarm in view.alarms if alarm.state not in HIDDEN]
        for alarm in told:
            counts[alarm.row.priority] += 1
        counts["active"] = sum(alarm.active for alarm in told)
        counts["unacknowledged"] = sum(alarm.annunciated for alarm in told)
        for name, count in counts.items():
            self._know(f"alarms_{name}", count, now)

    def _know(self, key: str, value: int | None, now: float) -> None:
        point = self._keyed[key]
        if point.found.value != value or not point.found.good:
            point.found = Found(value, value is not None, now)
            self._queue(point)

    def _changes(self, snapshot: Snapshot, now: float) -> Iterator[Message]:
        told = 0
        for _ in range(len(self._waiting)):
            point = self._waiting.popleft()
            if told >= VALUES_PER_SCAN or not point.born or (now - point.told_at < SPACING_S and not point.urgent):
                self._waiting.append(point)
            elif point.changed():
                told += 1
                yield self._told(point, snapshot, now)
            else:
                point.waits = False

    def _refresh(self, snapshot: Snapshot, now: float) -> Iterator[Message]:
        """Say metadata and value again, a few points each scan, so that each comes round in time."""
        elapsed, self._refresh_at = now - self._refresh_at, now
        self._due_share += min(elapsed, 1.0) * len(self._points) / TURN_S
        for _ in range(min(BIRTHS_PER_SCAN, int(self._due_share))):
            self._due_share -= 1
            point = self._points[self._turn]
            self._turn = (self._turn + 1) % len(self._points)
            yield point.metadata
            if point.tag.sources or point.tag.key:
                yield self._told(point, snapshot, now)

    def _told(self, point: _Point, snapshot: Snapshot, now: float) -> Message:
        point.waits, point.told, point.told_at = False, point.found, now
        at = snapshot.ms(point.found.at)
        return _value_message(point, point.found, snapshot.wall_ms if at is None else at, snapshot.wall_ms)


class _Requests:
    """What integrations asked for, and what became of it."""

    def __init__(self, settings: DsxSettings, leak: Mapping[str, Sequence[str]]) -> None:
        self._settings = settings
        self._leak = leak  # detectors of each rack
        self._beats: dict[str, float] = {}
        self._asked: dict[tuple[str, str], float] = {}  # (rack, point type) -> since when its value is 1
        self._sent: set[tuple[str, str]] = set()
        self._racks: dict[str, str] = {}  # command -> rack whose isolation it asked for
        self._isolated_at = -math.inf
        self._setpoint_at = -math.inf
        self._last_set = ""
        self._snapshot: Snapshot | None = None
        self._number = 0
        self.state = "NotEnabled"
        self.reason = ""

    def picture(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def take(self, tag: Tag, value: _Value, wall_ms: int, now: float) -> list[Command]:
        """Judge a good, well-formed value of an integration."""
        if abs(wall_ms - value.timestamp) >= FRESH_MS:
            if tag.integration == self._settings.setpoint_integration and self.state == "NotEnabled":
                self.reason = "expired"  # its clock or ours is wrong; it has no other way to learn of it
            return []
        if tag.point_type == "HeartbeatTimestampIntegration":
            return self._beat(tag.integration, value, wall_ms, now)
        if not self._alive(tag.integration, now):
            return []
        if tag.point_type == "LiquidTemperatureSpRequest":
            return self._setpoint(tag, value, now)
        if tag.point_type in ISOLATIONS:
            key = (tag.target, tag.point_type)
            if value.value == 1:
                self._asked.setdefault(key, now)
            elif value.value == 0:  # takes back what has not been done yet; opens nothing
                self._asked.pop(key, None)
                self._sent.discard(key)
        return []

    def due(self, now: float) -> list[Command]:
        """Return isolations that have stood for ``HOLD_S`` with a live writer, at most one rack each 5 s."""
        writer = self._settings.isolation_integration
        if not self._asked:
            return []
        if not self._alive(writer, now):
            self._asked.clear()
            self._sent.clear()
            return []
        commands = []
        for key, since in self._asked.items():
            rack, kind = key
            if key in self._sent or now - since < HOLD_S:
                continue
            if now - self._isolated_at < ISOLATIONS_SPACING_S and not self._wet(rack):
                continue
            self._isolated_at = now
            whole = (rack, ISOLATIONS[0]) in self._asked
            done = {(rack, other) for other in ISOLATIONS} if whole else {key}
            self._sent |= done & self._asked.keys()
            commands.append(self._command(writer, "isolate" if whole else "isolate_power", rack, now, reason=kind))
            self._racks[commands[-1].id] = rack
        return commands

    def answered(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            rack = self._racks.pop(outcome.id, None)
            if rack and outcome.code in LATER:  # it still stands: ask again, as its writer has no way to hear of it
                self._sent -= {(rack, kind) for kind in ISOLATIONS}
            if outcome.id != self._last_set:
                continue
            self.state = "Enabled" if outcome.accepted else "KickedOut"
            self.reason = outcome.code

    def _beat(self, writer: str, value: _Value, wall_ms: int, now: float) -> list[Command]:
        if value.value is None or abs(wall_ms - value.value) >= FRESH_MS:
            return []
        self._beats[writer] = now
        if writer == self._settings.setpoint_integration and (self.state, self.reason) == ("NotEnabled", "expired"):
            self.reason = ""
        return [self._command(writer, "heartbeat", "", now)]

    def _setpoint(self, tag: Tag, value: _Value, now: float) -> list[Command]:
        if value.value is None:
            self.state, self.reason, self._last_set = "NotEnabled", "", ""
            return [self._command(tag.integration, "relinquish", tag.target, now, slot=OPTIMISER)]
        if now - self._setpoint_at < REQUEST_SPACING_S:
            return []
        self._setpoint_at = now
        command = self._command(tag.integration, "set", tag.target, now, slot=OPTIMISER, value=value.value)
        self._last_set = command.id
        return [command]

    def _command(self, principal: str, operation: Any, target: str, now: float, **more: Any) -> Command:
        self._number += 1
        boot = self._snapshot.boot if self._snapshot else 0
        return Command(f"dsx-{boot}-{self._number}", principal, operation, target, now + COMMAND_TTL_S, **more)

    def _alive(self, writer: str, now: float) -> bool:
        return now - self._beats.get(writer, -math.inf) < ALIVE_S

    def _wet(self, rack: str) -> bool:
        if self._snapshot is None:
            return False
        image = self._snapshot.view.image
        return any(image.flag(point, otherwise=False) for point in self._leak.get(rack, ()))


def _point(tag: Tag) -> _Point:
    payload = json.dumps(tag.metadata, separators=(",", ":")).encode()
    metadata = Message(f"{PUBLISHED}/Metadata/{tag.tail}", payload, kind=STATE)
    return _Point(tag, f"{PUBLISHED}/Value/{tag.tail}", metadata, decimals(tag.deadband))


def _value_message(point: _Point, found: Found, timestamp: int, wall_ms: int) -> Message:
    """Return a value: exactly three keys. A time in the future, which the clock's correction can make, becomes now."""
    value = shown(found.value, point.places if point.tag.deadband else SIGNIFICANT_DIGITS)
    text = "null" if value is None else repr(value)
    payload = f'{{"value":{text},"timestamp":{min(timestamp, wall_ms)},"quality":{int(found.good)}}}'
    return Message(point.value_topic, payload.encode(), 0, False, TELEMETRY)


def _parsed(arrived: Arrived) -> _Value | None:
    """Return a value that may be believed: three keys, finite number or null, quality 1 as number or text."""
    if len(arrived.payload) > REQUEST_BYTES_MAX:
        return None
    try:
        body = json.loads(arrived.payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, Mapping) or set(body) != {"value", "timestamp", "quality"}:
        return None
    value, timestamp, quality = body["value"], body["timestamp"], body["quality"]
    if isinstance(quality, bool) or quality not in (1, "1"):
        return None
    if isinstance(timestamp, bool) or not isinstance(timestamp, int):
        return None
    if value is None:
        return _Value(None, timestamp)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e15 or value != value:
        return None
    return _Value(float(value), timestamp)
