"""The event journal ``{r}/evt``: what happened, each with an id that makes a duplicate recognisable. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from controller.core.alarms import AlarmEvent
from controller.core.commands import Command, Outcome
from controller.core.modes import Transition
from controller.northbound.native import SEVERITIES, encode
from controller.northbound.publisher import AUDIT, EVENT, Kind, Message
from controller.northbound.snapshot import SIGNIFICANT_DIGITS, Snapshot, shown

TEXT_MAX: Final = 512  # characters of a text that came from outside


class Journal:
    """Makes events. ``id`` is boot and sequence number: unique, in order, without gaps.

    Args:
        root: first levels of the topic. boot: number of this start of the controller.
    """

    def __init__(self, root: str, boot: int) -> None:
        self._topic = f"{root}/evt"
        self._boot = boot
        self._seq = 0

    def moved(self, transition: Transition, snapshot: Snapshot) -> Message:
        """Return the change of mode as an event."""
        body = {"source": transition.source, "dest": transition.dest, "cause": transition.cause[:TEXT_MAX]}
        return self._event("mode", EVENT, snapshot.wall_ms, {"t": snapshot.ms(transition.at), **body})

    def alarms(self, events: Iterable[AlarmEvent], snapshot: Snapshot) -> list[Message]:
        """Return each thing that happened to an alarm as an event."""
        return [self._event("alarm", EVENT, snapshot.wall_ms, _alarm(event, snapshot)) for event in events]

    def command(self, command: Command, outcome: Outcome, wall_ms: int) -> Message:
        """Return what became of a command as an audit event."""
        body = {
            "cmd": command.id[:TEXT_MAX],
            "by": command.principal,
            "op": command.operation,
            "target": command.target[:TEXT_MAX],
            "accepted": outcome.accepted,
            "code": outcome.code,
            "msg": outcome.message[:TEXT_MAX],
        }
        return self._event("command", AUDIT, wall_ms, body)

    def noted(self, event: str, by: str, wall_ms: int, details: Mapping[str, Any] | None = None) -> Message:
        """Return an audit event about the controller itself: ``start``, ``stop``, ``login``, ``logout``."""
        return self._event(event, AUDIT, wall_ms, {"by": by, **(details or {})})

    def _event(self, event: str, kind: Kind, wall_ms: int, body: Mapping[str, Any]) -> Message:
        self._seq += 1
        head = {"ts": wall_ms, "boot": self._boot, "seq": self._seq, "id": f"{self._boot}-{self._seq}", "event": event}
        return Message(self._topic, encode({**head, "kind": kind, **body}).encode(), retain=False, kind=kind)


def _alarm(event: AlarmEvent, snapshot: Snapshot) -> dict[str, Any]:
    alarm, row = event.alarm, event.alarm.row
    device, _, name = row.point.partition(".")
    return {
        "alarm": row.id,
        "occ": f"{alarm.boot}-{alarm.occurrence}" if alarm.occurrence else None,
        "what": event.what,
        "before": event.before.letter,
        "by": event.user,
        "comment": event.comment[:TEXT_MAX],
        "point": f"{device}/{name}",
        "title": row.title,
        "priority": row.priority,
        "severity": SEVERITIES[row.priority],
        "state": alarm.state.letter,
        "value": shown(alarm.value, SIGNIFICANT_DIGITS),
        "t_active": snapshot.ms(alarm.active_at),
        "t_rtn": snapshot.ms(alarm.returned_at),
        "t_ack": snapshot.ms(alarm.acked_at),
        "ack_by": alarm.acked_by,
        "count": alarm.count,
    }
