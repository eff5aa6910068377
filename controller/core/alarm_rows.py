"""The alarms of a pod as rows: condition, delay, consequence, operator action. docs/alarms.md is made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.alarm_load import Priority
from controller.core.alarm_states import AlarmRow
from controller.core.points import Value

REALARM_S = 3600.0  # an acknowledged critical alarm that still stands asks again


@dataclass(frozen=True, slots=True)
class Equipment:
    """What the standard alarms are about: devices by class and bus, and the points that stand for a role.

    ``sources`` names the points that each derived point of the pod is worked out from; ``links`` the pseudo-device of
    each link; ``told_by`` tells of many pumps at once: a dead feed, a dip.
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
    told_by: tuple[str, ...] = ()

    def causes(self, derived: str) -> tuple[str, ...]:
        """Return the points that explain why ``derived`` is not known: the loss of a bus it hangs on."""
        buses = {self.device_bus[point.split(".")[0]] for point in self.sources[derived]}
        return tuple(f"{bus}.lost" for bus in sorted(buses))


def standard_rows(equipment: Equipment) -> list[AlarmRow]:
    """Return the alarms of a pod, causes before what they cause. docs/alarms.md is generated from these rows."""
    return [
        *_communication_rows(equipment),
        *_equipment_rows(equipment),
        *_loop_rows(equipment),
        *_link_rows(equipment),
        *_controller_rows(),
    ]


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


def _loop_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    yield AlarmRow(
        "pod_flow_low", "pod.flow_ratio", "below", "TCS flow below need", "critical",
        "Chips throttle within seconds when the flow goes on falling.",
        "Check that pumps run and valves are open; look for a blocked strainer.",
        limit=90.0, hysteresis=5.0, on_delay_s=5.0, further=60.0, realarm_s=REALARM_S, safety=True, group="cooling",
    )  # fmt: skip
    yield AlarmRow(
        "pod_supply_temp_high", "pod.supply_temp_error", "above", "TCS supply warmer than its setpoint", "high",
        "Less reserve before chips throttle.",
        "Check facility water temperature and flow, the valve and the chillers.",
        limit=2.0, hysteresis=1.0, on_delay_s=60.0, further=4.0, group="cooling",
    )  # fmt: skip
    yield AlarmRow(
        "pod_supply_temp_lost", "pod.supply_temp", "unusable", "No TCS supply temperature", "critical",
        "The valve opens fully; the supply may become colder than wanted.",
        "Check the supply temperature probes and the remote I/O they are wired to.",
        on_delay_s=3.0, unless=equipment.causes("supply_temp"), realarm_s=REALARM_S, group="cooling",
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
        "Pumps may draw air.", "Look for a leak; fill the reservoir.",
        on_delay_s=5.0, realarm_s=REALARM_S, safety=True, group="leak",
    )  # fmt: skip
    yield AlarmRow(
        "pod_epo", equipment.epo, "on", "Emergency power off pressed", "critical",
        "The hard-wired circuit has opened the feeds; start-up is blocked.",
        "Find out why it was pressed; reset it by key before a new start.", realarm_s=REALARM_S, safety=True,
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

    yield AlarmRow(
        "pod_alarm_flood", "pod.alarm_flood", "on", "More alarms than a person can follow", "low",
        "Single alarms go unnoticed.",
        "Go by first-out and priority; take care of the critical ones first.", off_delay_s=0.0,
    )  # fmt: skip
    yield AlarmRow(
        "pod_alarm_chattering", "pod.alarms_chattering", "above", "An alarm comes and goes all the time", "low",
        "It is held for longer each time, at most ten minutes, and says less than it should.",
        "See which one is marked as chattering; repair its sensor or its cause, or shelve it meanwhile.", limit=0.5,
    )  # fmt: skip


def _equipment_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    for device in equipment.device_class:
        point = f"{device}.fault"
        if point in equipment.flags and equipment.device_class[device] != "leak_detector":
            yield AlarmRow(
                f"{device}_fault", point, "on", f"{device} reports a fault", "high",
                "One machine less; its partners take over.",
                "Read the device's own alarm words; repair; reset.", on_delay_s=0.5, group="cooling",
            )  # fmt: skip
    for pump in equipment.pumps:
        yield AlarmRow(
            f"{pump}_failed", f"{pump}.failed", "on", f"{pump} failed", "high",
            "The other pumps take over; there is one spare less.",
            "Check the drive and its supply; reset when repaired.", on_delay_s=1.5,
            unless=(f"{pump}.fault", *equipment.told_by), group="cooling",
        )  # fmt: skip
    for point in equipment.leaks:
        name = point.replace(".", "_")
        yield AlarmRow(
            name, point, "on", f"Leak seen by {point}", "critical",
            "Coolant near live parts; a rack leak that stays takes its rack off.",
            "Go and look; dry and repair before the reset.",
            on_delay_s=1.0, realarm_s=REALARM_S, safety=True, latched=True, group="leak",
        )  # fmt: skip
    for point in equipment.watched:
        yield AlarmRow(
            point.replace(".", "_"), point, "on", f"{point} is on", "high",
            "See the enclosure file for what it is wired to.", "Go and look.", on_delay_s=5.0, safety=True,
        )  # fmt: skip
    for device, sort in equipment.device_class.items():
        if sort == "leak_detector":
            yield AlarmRow(
                f"{device}_blind", f"{device}.fault", "on", f"{device} can't see leaks", "high",
                "A leak would not be noticed there.", "Check the sensing cable.", on_delay_s=10.0, safety=True,
            )  # fmt: skip


def _communication_rows(equipment: Equipment) -> Iterable[AlarmRow]:
    for bus in sorted(set(equipment.device_bus.values())):
        yield AlarmRow(
            f"{bus}_lost", f"{bus}.online", "off", f"Bus {bus} does not answer", "high",
            "Its devices run on by their own comm-loss reaction; their points are STALE.",
            "Check the adapter or gateway, its cable and its power.", on_delay_s=1.0, group=f"bus {bus}",
        )  # fmt: skip
    for device, bus in equipment.device_bus.items():
        yield AlarmRow(
            f"{device}_silent", f"{device}.comms", "off", f"{device} does not answer", "medium",
            "It runs on by its own comm-loss reaction; its points are STALE.",
            "Check the device's power, wiring and unit id.",
            on_delay_s=3.0, unless=(f"{bus}.lost",), group=f"bus {bus}",
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
