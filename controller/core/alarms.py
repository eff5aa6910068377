"""Alarms after ISA-18.2: delays, dead-band, the seven states, latches, shelving, first-out, chattering, floods.

An alarm tells a person what to do; nothing here changes the process. Shelved, suppressed and out-of-service alarms go
on being evaluated and logged, only their annunciation stops.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import compress, count
from operator import is_not
from typing import Any, Literal

from controller.core.alarm_load import Load, Priority, groups, stale
from controller.core.alarm_states import (
    HIDDEN,
    NEVER,
    Alarm,
    AlarmEvent,
    AlarmRow,
    AlarmState,
    Answer,
    Source,
    What,
    holds,
)
from controller.core.alarm_watch import SHELVE_MAX_S, Aside, Watch, restore_watch, saved_watch
from controller.core.image import Image
from controller.core.points import NEVER_READ, USABLE, Reading

__all__ = ["Alarm", "AlarmEvent", "AlarmRow", "AlarmState", "Alarms", "Answer", "Priority"]

SHELVE_DEFAULT_S = 3600.0
SHELVED_MAX = 20  # at one time; who wants more has a flood, not a nuisance
REASON_MAX = 200  # characters
BOOTING = "pod.booting"  # on until the first whole image
OCCURRENCES_RESERVED = 100  # numbers are saved ahead, so that one that was used is not used again after a power cut
FIGURES_S = 1.0


class Alarms:
    """Every alarm of one pod. ``step`` once a scan; the operations in between show in the next step's events.

    Args:
        rows: one for each alarm, causes before what they cause: in one scan the first of a group is the first-out.
        boot: number of this start of the controller; part of the name of every occurrence.
    """

    def __init__(self, rows: Sequence[AlarmRow], boot: int = 0) -> None:
        rows = [*{row.id: row for row in rows}.values()]
        self._watches = {row.id: Watch(row, place) for place, row in enumerate(rows)}
        self._order = [*self._watches.values()]
        self._points = [row.point for row in rows]
        self._seen: list[Reading | None] = [None] * len(rows)
        self._awake = set(range(len(rows)))  # places of rows to which something is to happen though they see the same
        self._causes = sorted({BOOTING, *(point for row in rows for point in row.unless)})
        self._on: set[str] = set()
        self._incidents = groups(row.group for row in rows)
        self._load = Load()
        self._boot = boot
        self._occurrences = 0
        self._events: list[AlarmEvent] = []
        self._all: list[Alarm] | None = None
        self._figures: dict[str, float | bool] = {}
        self._figures_at = NEVER

    def step(self, image: Image, now: float) -> list[AlarmEvent]:
        """Advance every alarm; return what happened since the last step, operations too."""
        causes = zip(self._causes, image.readings(self._causes), strict=True)
        on = {point for point, cause in causes if cause and cause.quality in USABLE and cause.value}
        wake = on != self._on
        self._on = on
        found = image.readings(self._points)
        changed = compress(count(), map(is_not, found, self._seen))
        due = range(len(found)) if wake else sorted(self._awake.union(changed))  # in the order of rows, causes first
        self._seen = found
        for place in due:
            watch, reading = self._order[place], found[place] or NEVER_READ
            seen = watch.seen
            same = seen is not None and reading.value == seen.value and reading.quality is seen.quality
            if not same or wake or place in self._awake:
                watch.seen = reading
                self._advance(watch, reading, now)
        self._load.step(now)
        events, self._events = self._events, []
        return events

    # ------------------------------------------------------------ operations

    def operate(
        self, operation: str, target: str, user: str, now: float, *, reason: str = "", duration_s: float = 0.0,
        local: bool = False,
    ) -> Answer:  # fmt: skip
        """Do one operation by its name; one that is not about alarms does nothing."""
        if operation == "ack":
            return self.ack(target, user, now, reason)
        if operation == "reset":
            return self.reset(user, now)
        if operation == "shelve":
            return self.shelve(target, user, now, reason=reason, duration_s=duration_s, local=local)
        if operation == "unshelve":
            return self.unshelve(target, user, now)
        if operation == "out_of_service":
            return self.out_of_service(target, user, now, reason=reason, local=local)
        if operation == "return_to_service":
            return self.return_to_service(target, user, now)
        return Answer()

    def ack(self, target: str, user: str, now: float, comment: str = "") -> Answer:
        """Say that ``user`` knows of one alarm, or of all with ``*``."""
        if target != "*" and target not in self._watches:
            return _unknown(target)
        done = 0
        for watch in self._watches.values() if target == "*" else (self._watches[target],):
            alarm = watch.alarm
            if alarm and alarm.annunciated:
                gone = alarm.state is AlarmState.RTN_UNACK
                state = AlarmState.NORMAL if gone else AlarmState.ACKED
                after = replace(alarm, state=state, acked_at=now, acked_by=user)
                self._move(watch, after, "acknowledged", "operator", now, user, comment)
                done += 1
        return Answer("", f"{done} acknowledged" if done else "there was nothing to acknowledge")

    def reset(self, user: str, now: float) -> Answer:
        """Release every latched alarm whose condition has gone. One that nobody acknowledged stays as RTN_UNACK."""
        done = 0
        for watch in self._watches.values():
            alarm = watch.alarm
            if alarm and alarm.latched and alarm.state not in HIDDEN:
                state = AlarmState.NORMAL if alarm.state is AlarmState.ACKED else AlarmState.RTN_UNACK
                self._move(watch, replace(alarm, state=state), "reset", "operator", now, user)
                done += 1
        return Answer("", f"{done} reset")

    def shelve(
        self, target: str, user: str, now: float, *, reason: str, duration_s: float = 0.0, local: bool = False
    ) -> Answer:
        """Put one alarm aside for a time; shelving again sets the time anew.

        Args:
            reason: why, at most REASON_MAX characters.
            duration_s: at most SHELVE_MAX_S; 0 means SHELVE_DEFAULT_S.
            local: whether ``user`` is at the pod; leak and safety alarms can't be shelved from elsewhere.
        """
        refused = self._refused(target, reason, local=local)
        if refused:
            return refused
        duration_s = duration_s or SHELVE_DEFAULT_S
        if not 0 < duration_s <= SHELVE_MAX_S:
            return Answer("out_of_range", f"an alarm may be shelved for at most {SHELVE_MAX_S:.0f} s")
        watch = self._watches[target]
        if watch.service:
            return Answer("not_in_mode", f"{target} is out of service")
        if not watch.shelf and sum(other.shelf is not None for other in self._watches.values()) >= SHELVED_MAX:
            return Answer("busy", f"{SHELVED_MAX} alarms are shelved already, and that is the most")
        watch.shelf = Aside(user, reason, now + duration_s)
        self._hide(watch, AlarmState.SHELVED, "shelved", "operator", now, user)
        return Answer("", "", watch.shelf.until)

    def unshelve(self, target: str, user: str, now: float) -> Answer:
        """Bring a shelved alarm back before its time."""
        if target not in self._watches:
            return _unknown(target)
        watch = self._watches[target]
        if not watch.shelf:
            return Answer("not_in_mode", f"{target} is not shelved")
        watch.shelf = None
        self._place(watch, "unshelved", "operator", now, user)
        return Answer()

    def out_of_service(self, target: str, user: str, now: float, *, reason: str, local: bool = False) -> Answer:
        """Take one alarm out for work, until ``return_to_service``. ``reason`` names the work."""
        refused = self._refused(target, reason, local=local)
        if refused:
            return refused
        watch = self._watches[target]
        watch.service = Aside(user, reason, math.inf)
        self._hide(watch, AlarmState.OUT_OF_SERVICE, "out_of_service", "operator", now, user)
        return Answer()

    def return_to_service(self, target: str, user: str, now: float) -> Answer:
        """Bring an alarm back that was out of service; nothing else does."""
        if target not in self._watches:
            return _unknown(target)
        watch = self._watches[target]
        if not watch.service:
            return Answer("not_in_mode", f"{target} is not out of service")
        watch.service = None
        self._place(watch, "returned_to_service", "operator", now, user)
        return Answer()

    def _refused(self, target: str, reason: str, *, local: bool) -> Answer | None:
        if target not in self._watches:
            return _unknown(target)
        if self._watches[target].row.safety and not local:
            return Answer("forbidden", f"{target} is a leak or safety alarm: it can be put aside at the pod only")
        if not reason.strip() or len(reason) > REASON_MAX:
            return Answer("bad_request", f"a reason is needed, of at most {REASON_MAX} characters")
        return None

    # ------------------------------------------------------------ what others see

    @property
    def standing(self) -> list[Alarm]:
        """Every alarm that is not NORMAL, newest last, without those that a rule suppresses."""
        return [alarm for alarm in self._listed() if alarm.state is not AlarmState.SUPPRESSED]

    @property
    def suppressed(self) -> list[Alarm]:
        """Every alarm that came and is kept quiet because its cause has an alarm of its own."""
        return [alarm for alarm in self._listed() if alarm.state is AlarmState.SUPPRESSED]

    def _listed(self) -> list[Alarm]:
        if self._all is None:
            alarms = [watch.alarm for watch in self._watches.values() if watch.alarm]
            self._all = sorted(alarms, key=lambda alarm: alarm.occurrence)
        return self._all

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._watches)

    def rows(self) -> Iterable[AlarmRow]:
        return (watch.row for watch in self._watches.values())

    def figures(self, now: float) -> Mapping[str, float | bool]:
        """Return the figures by which ISA-18.2 judges an alarm system; worked out anew each FIGURES_S."""
        if now - self._figures_at >= FIGURES_S:
            states = [alarm.state for alarm in self._listed()]
            shown = [alarm for alarm in self._listed() if alarm.state not in HIDDEN]
            self._figures_at = now
            self._figures = {
                "alarms_standing": float(len(shown)),
                "alarms_unacked": float(sum(alarm.annunciated for alarm in shown)),
                "alarms_shelved": float(states.count(AlarmState.SHELVED)),
                "alarms_suppressed": float(states.count(AlarmState.SUPPRESSED)),
                "alarms_out_of_service": float(states.count(AlarmState.OUT_OF_SERVICE)),
                "alarms_chattering": float(sum(watch.chatter.flagged for watch in self._watches.values())),
                "alarms_stale": float(stale([alarm.active_at for alarm in shown if alarm.active], now)),
                "alarm_flood": self._load.flood,
                **{f"alarm_{name}": figure for name, figure in self._load.figures(now).items()},
            }
        return self._figures

    # ------------------------------------------------------------ over a restart

    def saved(self, wall_offset_s: float | None = None) -> dict[str, Any]:
        """Return what must survive a restart, as JSON; equal to the last one while nothing has changed.

        Args:
            wall_offset_s: wall-clock minus monotonic seconds; None while the wall clock can't be trusted. Times are
                saved by the wall clock, because the monotonic one begins anew.
        """
        ahead = (self._occurrences // OCCURRENCES_RESERVED + 1) * OCCURRENCES_RESERVED
        entries = {alarm.row.id: self._entry(self._watches[alarm.row.id], wall_offset_s) for alarm in self._listed()}
        return {"occurrences": ahead, "standing": entries}

    def restore(self, saved: Mapping[str, Any], now: float, wall_offset_s: float | None = None) -> None:
        """Go on from what ``saved`` returned. An entry that can't be understood is left out: its alarm comes anew.

        Shelving ends at its wall-clock time; where either clock could not be trusted it has ended.
        """
        self._occurrences = int(saved.get("occurrences", 0))
        for name, entry in dict(saved.get("standing", {})).items():
            watch = self._watches.get(name)
            if watch:
                try:
                    restore_watch(watch, entry, now, wall_offset_s)
                except (KeyError, TypeError, ValueError):
                    self._watches[name] = self._order[watch.place] = Watch(watch.row, watch.place)
        self._all = None

    def _entry(self, watch: Watch, offset_s: float | None) -> dict[str, Any]:
        made_of = (watch.alarm, watch.shelf, watch.service, offset_s is None)
        if watch.entry is None or watch.entry[0] != made_of:
            watch.entry = (made_of, saved_watch(watch, offset_s))
        return watch.entry[1]

    # ------------------------------------------------------------ one alarm

    def _advance(self, watch: Watch, reading: Reading, now: float) -> None:
        row, was = watch.row, watch.delay.state
        booting = BOOTING in self._on
        began = watch.delay.since
        active = watch.delay.step(holds(row, reading, was, booting=booting), now)
        if row.unless:
            suppressed = not self._on.isdisjoint(row.unless) or (booting and watch.rule.state)
            watch.rule.step(suppressed, now)
        if active and not was:
            self._come(watch, reading, now if began is None else began, now)
        elif was and not active:
            self._go(watch, now)
        self._on_time(watch, now)
        if watch.further and reading.usable:
            beyond = active and holds(watch.further, reading, watch.beyond)
            if beyond and not watch.beyond and watch.alarm and watch.alarm.state is AlarmState.ACKED:
                self._ask_again(watch, replace(watch.alarm, value=reading.value), "escalated", "condition", now)
            watch.beyond = beyond
        (self._awake.add if watch.restless else self._awake.discard)(watch.place)

    def _come(self, watch: Watch, reading: Reading, began: float, now: float) -> None:
        before, row = watch.alarm, watch.row
        chatters = watch.chatter.activated(now)
        watch.delay.off_s = watch.chatter.off_s
        if before is None or not before.occurrence:
            self._occurrences += 1
            fresh = Alarm(row, AlarmState.UNACK, reading.value, now, occurrence=self._occurrences, boot=self._boot)
        else:
            fresh = replace(
                before, state=AlarmState.UNACK, value=reading.value, active_at=now, returned_at=None, acked_at=None,
                acked_by="", until=None, by="", reason="", count=before.count + 1,
            )  # fmt: skip
        fresh = replace(fresh, chattering=watch.chatter.flagged)
        if hiding := watch.hiding(fresh):
            self._move(watch, self._aside(watch, fresh, hiding), "came", "condition", now)
        else:
            self._annunciate(watch, fresh, "came", "condition", began, now)
        if chatters:
            self._tell(watch, "chattering", "condition", now)

    def _go(self, watch: Watch, now: float) -> None:
        alarm = watch.alarm
        if alarm is None:
            return
        gone = replace(alarm, returned_at=now)
        if alarm.state is AlarmState.UNACK and not watch.row.latched:
            gone = replace(gone, state=AlarmState.RTN_UNACK)
        elif alarm.state is AlarmState.ACKED and not watch.row.latched:
            gone = replace(gone, state=AlarmState.NORMAL)
        self._move(watch, gone, "returned", "condition", now)

    def _on_time(self, watch: Watch, now: float) -> None:
        """Do what is due: the end of shelving, of suppression and of chattering, and asking again."""
        expired = watch.shelf is not None and now >= watch.shelf.until
        if expired:
            watch.shelf = None
        self._place(watch, "shelf_expired" if expired else "", "timer" if expired else "rule", now)
        alarm = watch.alarm
        if alarm and alarm.active and watch.asks_again(now):
            self._ask_again(watch, alarm, "realarmed", "timer", now)
        if watch.chatter.quiet(now):
            watch.delay.off_s = watch.chatter.off_s
            if watch.alarm:
                watch.alarm = replace(watch.alarm, chattering=False)
                self._all = None
            self._tell(watch, "chattering_ended", "timer", now)

    def _place(self, watch: Watch, what: What | Literal[""], source: Source, now: float, user: str = "") -> None:
        """Hide the alarm or bring it back, as shelf, service and rule want it."""
        alarm = watch.alarm
        hiding = watch.hiding(alarm)
        state = alarm.state if alarm else AlarmState.NORMAL
        if hiding is state:
            return
        if hiding:
            self._hide(watch, hiding, what or "suppressed", source, now, user)
        elif alarm and state in HIDDEN:
            back = replace(alarm, until=None, by="", reason="")
            if alarm.active or alarm.latched:
                self._annunciate(
                    watch, replace(back, state=AlarmState.UNACK), what or "unsuppressed", source, now, now, user
                )
            else:
                self._move(watch, replace(back, state=AlarmState.NORMAL), what or "unsuppressed", source, now, user)

    def _hide(self, watch: Watch, state: AlarmState, what: What, source: Source, now: float, user: str) -> None:
        alarm = watch.alarm or Alarm(watch.row, AlarmState.NORMAL, None, NEVER, count=0)
        hidden = replace(self._aside(watch, alarm, state), acked_at=None, acked_by="")
        self._move(watch, hidden, what, source, now, user, hidden.reason)

    def _aside(self, watch: Watch, alarm: Alarm, state: AlarmState) -> Alarm:
        causes = ", ".join(point for point in watch.row.unless if point in self._on)
        aside = {AlarmState.OUT_OF_SERVICE: watch.service, AlarmState.SHELVED: watch.shelf}.get(state)
        by, reason, until = aside or ("", causes, math.inf)
        return replace(alarm, state=state, by=by, reason=reason, until=until if math.isfinite(until) else None)

    def _ask_again(self, watch: Watch, alarm: Alarm, what: What, source: Source, now: float) -> None:
        self._move(watch, replace(alarm, state=AlarmState.UNACK, acked_at=None, acked_by=""), what, source, now)

    def _annunciate(
        self, watch: Watch, alarm: Alarm, what: What, source: Source, began: float, now: float, user: str = ""
    ) -> None:
        """Let an alarm ask for a person; an incident has one first alarm, and the others name it."""
        self._load.came(watch.row.priority, now)
        if watch.row.group:
            first = self._incidents[watch.row.group].joined(watch.row.id, began, now)
            own = first == watch.row.id
            alarm = replace(alarm, first_out=own, cause="" if own else first)
        self._move(watch, alarm, what, source, now, user)

    def _move(
        self, watch: Watch, after: Alarm, what: What, source: Source, now: float, user: str = "", comment: str = ""
    ) -> None:
        before = watch.alarm.state if watch.alarm else AlarmState.NORMAL
        watch.alarm = None if after.state is AlarmState.NORMAL else after
        self._awake.add(watch.place)
        self._all = None
        self._figures_at = NEVER
        self._events.append(AlarmEvent(now, what, after, before, source, user, comment))

    def _tell(self, watch: Watch, what: What, source: Source, now: float) -> None:
        """Add an event that moves nothing."""
        alarm = watch.alarm or Alarm(watch.row, AlarmState.NORMAL, None, NEVER, count=0)
        self._events.append(AlarmEvent(now, what, alarm, alarm.state, source))


def _unknown(target: str) -> Answer:
    return Answer("unknown_target", f"no such alarm: {target}")
