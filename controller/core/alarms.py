"""Alarms: delay, hysteresis, and the ISA-18.2 states of acknowledgement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Literal

from controller.core.blocks import Delay
from controller.core.image import Image
from controller.core.points import Value

Test = Literal["above", "below", "on", "off", "differs", "unusable"]
Priority = Literal["critical", "high", "medium", "low"]
DIFFERS_TOLERANCE = 1e-3


class AlarmState(Enum):
    """ISA-18.2 states, numbered as in northbound documents."""

    NORMAL = 1
    UNACK = 2
    ACKED = 3
    RTN_UNACK = 4


@dataclass(frozen=True, slots=True)
class AlarmRow:
    """One alarm: when it comes, when it goes, and what a person is to do about it.

    Attributes:
        limit: number for above and below, expected value for differs.
        hysteresis: how far back inside the limit a number must come before the alarm goes.
        unless: points any of which, while on, suppresses this alarm because it tells the cause already.
        action: operator action; an alarm without one would be an event.
    """

    id: str
    point: str
    test: Test
    title: str
    priority: Priority
    consequence: str
    action: str
    limit: Value = 0.0
    hysteresis: float = 0.0
    on_delay_s: float = 0.0
    off_delay_s: float = 1.0
    unless: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """The state of one alarm that is not NORMAL. Times are monotonic seconds of the scan."""

    row: AlarmRow
    state: AlarmState
    value: Value | None
    active_at: float
    returned_at: float | None = None
    acked_at: float | None = None
    acked_by: str = ""
    count: int = 1
    occurrence: int = 0


@dataclass(slots=True)
class _Watch:
    row: AlarmRow
    delay: Delay = field(init=False)
    alarm: Alarm | None = None

    def __post_init__(self) -> None:
        self.delay = Delay(self.row.on_delay_s, self.row.off_delay_s)


class Alarms:
    """Every alarm of one pod. ``step`` advances all and returns those whose state changed."""

    def __init__(self, rows: Sequence[AlarmRow]) -> None:
        self._watches = {row.id: _Watch(row) for row in rows}
        self._occurrences = 0

    def step(self, image: Image, now: float) -> list[Alarm]:
        changed = []
        for watch in self._watches.values():
            before = watch.alarm
            self._advance(watch, image, now)
            if watch.alarm is not None and watch.alarm is not before:
                changed.append(watch.alarm)
            elif watch.alarm is None and before is not None:
                changed.append(replace(before, state=AlarmState.NORMAL, returned_at=now))
        return changed

    def ack(self, target: str, principal: str, now: float) -> list[Alarm]:
        """Acknowledge one alarm, or all with ``*``; return what changed. Never changes the process."""
        changed = []
        for watch in self._watches.values():
            alarm = watch.alarm
            if alarm is None or target not in ("*", watch.row.id):
                continue
            if alarm.state is AlarmState.UNACK:
                watch.alarm = replace(alarm, state=AlarmState.ACKED, acked_at=now, acked_by=principal)
                changed.append(watch.alarm)
            elif alarm.state is AlarmState.RTN_UNACK:
                watch.alarm = None
                changed.append(replace(alarm, state=AlarmState.NORMAL, acked_at=now, acked_by=principal))
        return changed

    @property
    def standing(self) -> list[Alarm]:
        """Every alarm that is not NORMAL, newest last."""
        alarms = [watch.alarm for watch in self._watches.values() if watch.alarm]
        return sorted(alarms, key=lambda alarm: alarm.occurrence)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._watches)

    def rows(self) -> Iterable[AlarmRow]:
        return (watch.row for watch in self._watches.values())

    def saved(self) -> Mapping[str, str]:
        """Return the acknowledgement of each standing alarm, for the store."""
        return {alarm.row.id: alarm.acked_by for alarm in self.standing if alarm.acked_by}

    def restore(self, acked: Mapping[str, str], now: float) -> None:
        """Mark alarms as already acknowledged, should their condition still be there after a restart."""
        for name, principal in acked.items():
            watch = self._watches.get(name)
            if watch:
                watch.alarm = Alarm(watch.row, AlarmState.ACKED, None, now, acked_at=now, acked_by=principal)
                watch.delay.state = True

    def _advance(self, watch: _Watch, image: Image, now: float) -> None:
        row, alarm = watch.row, watch.alarm
        suppressed = any(image.flag(point, otherwise=False) for point in row.unless)
        active = watch.delay.step(not suppressed and self._holds(row, image, watch.delay.state), now)
        if active and (alarm is None or alarm.state is AlarmState.RTN_UNACK):
            self._occurrences += 1
            value = image.reading(row.point).value
            count = alarm.count + 1 if alarm else 1
            occurrence = alarm.occurrence if alarm else self._occurrences
            watch.alarm = Alarm(row, AlarmState.UNACK, value, now, count=count, occurrence=occurrence)
        elif not active and alarm is not None and alarm.state is AlarmState.UNACK:
            watch.alarm = replace(alarm, state=AlarmState.RTN_UNACK, returned_at=now)
        elif not active and alarm is not None and alarm.state is AlarmState.ACKED:
            watch.alarm = None

    @staticmethod
    def _holds(row: AlarmRow, image: Image, active: bool) -> bool:
        """Return whether the row's condition holds; what can't be trusted holds only for ``unusable``."""
        reading = image.reading(row.point)
        if row.test == "unusable":
            return not reading.usable
        if not reading.usable or reading.value is None:
            return active and row.test in ("on", "off", "differs")
        if row.test in ("on", "off"):
            return bool(reading.value) is (row.test == "on")
        if row.test == "differs":
            if isinstance(reading.value, bool | str) or isinstance(row.limit, bool | str):
                return reading.value != row.limit
            return abs(reading.value - row.limit) > DIFFERS_TOLERANCE * max(1.0, abs(row.limit))
        value, limit = float(reading.value), float(row.limit)
        back = row.hysteresis if active else 0.0
        return value > limit - back if row.test == "above" else value < limit + back


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the standard alarms are about: devices by class and bus, and the points that stand for a role.

    ``sources`` names the points that each derived point of the pod is worked out from; ``links`` the pseudo-device of
    each link.
    """

    device_bus: Mapping[str, str]
    device_class: Mapping[str, str]
    flags: frozenset[str]
    expected: Sequence[tuple[str, Value]]
    written: Sequence[str]
    pumps: Sequence[str]
    leaks: Sequence[str]
    watched: Sequence[str]
    epo: str
    level_ok: str
    sources: Mapping[str, Sequence[str]]
    links: Mapping[str, str] = field(default_factory=dict)

    def causes(self, derived: str) -> tuple[str, ...]:
        """Return the points that explain why ``derived`` is not known: the boot, and the loss of a bus it hangs on."""
        buses = {self.device_bus[point.split(".")[0]] for point in self.sources[derived]}
        return ("pod.booting", *(f"{bus}.lost" for bus in sorted(buses)))


def standard_rows(equipment: Equipment) -> list[AlarmRow]:
    """Return the alarms of a pod. docs/alarms.md is generated from these rows."""
    return [
        *_loop_rows(equipment),
        *_equipment_rows(equipment),
        *_communication_rows(equipment),
        *_link_rows(equipment),
        *_controller_rows(),
    ]


def _loop_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    yield AlarmRow(
        "pod_flow_low", "pod.flow_ratio", "below", "TCS flow below need", "critical",
        "Chips throttle within seconds when the flow goes on falling.",
        "Check that pumps run and valves are open; look for a blocked strainer.",
        limit=90.0, hysteresis=5.0, on_delay_s=5.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_supply_temp_high", "pod.supply_temp_error", "above", "TCS supply warmer than its setpoint", "high",
        "Less reserve before chips throttle.",
        "Check facility water temperature and flow, the valve and the chillers.",
        limit=2.0, hysteresis=1.0, on_delay_s=60.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_supply_temp_lost", "pod.supply_temp", "unusable", "No TCS supply temperature", "critical",
        "The valve opens fully; the supply may become colder than wanted.",
        "Check the supply temperature probes and the remote I/O they are wired to.",
        on_delay_s=3.0, unless=equipment.causes("supply_temp"),
    )  # fmt: skip
    yield AlarmRow(
        "pod_flow_lost", "pod.flow", "unusable", "No TCS flow reading", "high",
        "Pumps run at full speed; loss of flow is seen from the pumps alone.",
        "Check the flow meter and the remote I/O it is wired to.",
        on_delay_s=3.0, unless=equipment.causes("flow"),
    )  # fmt: skip
    yield AlarmRow(
        "pod_power_lost", "pod.it_power", "unusable", "IT power not known", "medium",
        "Pumps run at full flow and all chillers are wanted.",
        "Check the feed meters and rack PDUs.",
        on_delay_s=10.0, unless=equipment.causes("it_power"),
    )  # fmt: skip
    yield AlarmRow(
        "pod_dew_margin_low", "pod.dew_margin", "below", "TCS supply close to the dew point", "high",
        "Water may condense on hoses and cold plates.",
        "Keep doors shut; check the room's humidity and the valve.",
        limit=2.0, hysteresis=0.8, on_delay_s=60.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_dew_point_lost", "pod.dew_point", "unusable", "Dew point not known", "medium",
        "The supply setpoint keeps to its fixed floor.",
        "Check the room's temperature and humidity sensors.",
        on_delay_s=10.0, unless=equipment.causes("dew_point"),
    )  # fmt: skip
    yield AlarmRow(
        "pod_racks_off", "pod.racks_off", "above", "Racks are off while the pod is in NORMAL", "medium",
        "Less work is done; nothing is in danger.",
        "Find out why they went off; reset a trip; then order mode energise.", limit=0.5, on_delay_s=60.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_level_low", equipment.level_ok, "off", "Reservoir level low", "critical",
        "Pumps may draw air.", "Look for a leak; fill the reservoir.", on_delay_s=5.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_epo", equipment.epo, "on", "Emergency power off pressed", "critical",
        "The hard-wired circuit has opened the feeds; start-up is blocked.",
        "Find out why it was pressed; reset it by key before a new start.",
    )  # fmt: skip


def _controller_rows() -> Iterable[AlarmRow]:
    yield AlarmRow(
        "controller_store_failing", "controller.store_failing", "on", "The controller can't remember", "high",
        "After a restart, latched trips and acknowledgements may be forgotten; autostart waits for a person.",
        "Look at the log for the store's own words; make room on the disk or replace it.", on_delay_s=2.0,
    )  # fmt: skip
    yield AlarmRow(
        "controller_late", "controller.late_scans", "above", "The controller's scan was late", "medium",
        "Reactions came later than planned.",
        "Look at the load of the controller board; note the time and tell the maker.", limit=0.5,
    )  # fmt: skip
    yield AlarmRow(
        "controller_edge_failed", "controller.recent_edge_faults", "above", "A part of the controller failed", "high",
        "The part was started again; a bus, the BMS link or the console was away meanwhile.",
        "Keep the log and tell the maker.", limit=0.5,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LinkCause:
    """One reason why a link does not do its work: its flag, and what to do about it."""

    flag: str
    title: str
    action: str
    priority: Priority = "medium"
    on_delay_s: float = 5.0
    off_delay_s: float = 1.0


LINK_CAUSES = (
    LinkCause(
        "unreachable", "the broker does not answer",
        "Check that the broker runs, its host name and port, the network between.", on_delay_s=30.0,
    ),
    LinkCause(
        "certificate", "certificate refused",
        "The log says whose and why: unknown authority, expired, another host, or ours refused. Renew or replace it.",
    ),
    LinkCause(
        "clock", "the broker's certificate is not valid yet",
        "Most likely this controller's clock is behind: check the time source; never switch the check off.",
    ),
    LinkCause(
        "credentials", "a key, certificate or password is missing",
        "Put the credential that the log names in place (LoadCredential of the unit) and restart the service.",
    ),
    LinkCause(
        "refused", "the broker does not let us in",
        "Check user name and password, or the identity in our certificate, against the broker's own list.",
    ),
    LinkCause(
        "taken_over", "another client uses our client id", "Find the other client; each needs an id of its own.",
        "high", 0.0, 120.0,
    ),
    LinkCause(
        "denied", "the broker drops what we publish", "Give this controller write access to its topics.", "high",
    ),
)  # fmt: skip


def _link_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    for link, device in equipment.links.items():
        for cause in LINK_CAUSES:
            yield AlarmRow(
                f"{device}_{cause.flag}", f"{device}.{cause.flag}", "on", f"Link {link}: {cause.title}", cause.priority,
                "Control is not affected; nobody sees the pod over this link.", cause.action,
                on_delay_s=cause.on_delay_s, off_delay_s=cause.off_delay_s,
            )  # fmt: skip
        yield AlarmRow(
            f"{device}_losing", f"{device}.recent_lost", "above", f"Link {link}: messages were given up", "medium",
            "History or events are missing at the other end; the count says how many.",
            "Restore the link or its speed; enlarge its outbox.", limit=0.5,
        )  # fmt: skip
        yield AlarmRow(
            f"{device}_outbox_failing", f"{device}.outbox_failing", "on", f"Link {link}: its outbox can't be written",
            "high", "Events are held in memory only: a restart or a long outage loses them.",
            "Look at the log for the outbox's own words; make room on the disk or replace it.", on_delay_s=2.0,
        )  # fmt: skip


def _equipment_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    for device in equipment.device_class:
        point = f"{device}.fault"
        if point in equipment.flags and equipment.device_class[device] != "leak_detector":
            yield AlarmRow(
                f"{device}_fault", point, "on", f"{device} reports a fault", "high",
                "One machine less; its partners take over.",
                "Read the device's own alarm words; repair; reset.", on_delay_s=0.5,
            )  # fmt: skip
    for pump in equipment.pumps:
        yield AlarmRow(
            f"{pump}_failed", f"{pump}.failed", "on", f"{pump} failed", "high",
            "The other pumps take over; there is one spare less.",
            "Check the drive and its supply; reset when repaired.", unless=(f"{pump}.fault",),
        )  # fmt: skip
    for point in equipment.leaks:
        name = point.replace(".", "_")
        yield AlarmRow(
            name, point, "on", f"Leak seen by {point}", "critical",
            "Coolant near live parts; a rack leak that stays takes its rack off.",
            "Go and look; dry and repair before the reset.", on_delay_s=1.0,
        )  # fmt: skip
    for point in equipment.watched:
        yield AlarmRow(
            point.replace(".", "_"), point, "on", f"{point} is on", "high",
            "See the enclosure file for what it is wired to.", "Go and look.", on_delay_s=5.0,
        )  # fmt: skip
    for device, sort in equipment.device_class.items():
        if sort == "leak_detector":
            yield AlarmRow(
                f"{device}_blind", f"{device}.fault", "on", f"{device} can't see leaks", "high",
                "A leak would not be noticed there.", "Check the sensing cable.", on_delay_s=10.0,
            )  # fmt: skip


def _communication_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    for bus in sorted(set(equipment.device_bus.values())):
        yield AlarmRow(
            f"{bus}_lost", f"{bus}.online", "off", f"Bus {bus} does not answer", "high",
            "Its devices run on by their own comm-loss reaction; their points are STALE.",
            "Check the adapter or gateway, its cable and its power.", on_delay_s=1.0,
        )  # fmt: skip
    for device, bus in equipment.device_bus.items():
        yield AlarmRow(
            f"{device}_silent", f"{device}.comms", "off", f"{device} does not answer", "medium",
            "It runs on by its own comm-loss reaction; its points are STALE.",
            "Check the device's power, wiring and unit id.", on_delay_s=3.0, unless=(f"{bus}.lost",),
        )  # fmt: skip
    for device in equipment.written:
        yield AlarmRow(
            f"{device}_write_fault", f"{device}.write_fault", "on", f"{device} does not take what is written", "high",
            "It stays where it is; control can't move it, and its partners take over where it has any.",
            "Check local/remote switch and write protection on the device; the log names register and words.",
        )  # fmt: skip
    for point, value in equipment.expected:
        yield AlarmRow(
            f"{point.replace('.', '_')}_differs", point, "differs", f"{point} is not as commissioned", "high",
            "The device would not react to a lost bus as the pod relies on.",
            f"Set it to {value} on the device, then restart the controller.", limit=value, on_delay_s=1.0,
        )  # fmt: skip
