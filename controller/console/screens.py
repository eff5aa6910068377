"""What a technician reads: a picture of the pod as plain text, 100 columns, ASCII, no colour. Pure."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from controller.core.alarm_load import PRIORITIES
from controller.core.alarm_states import HIDDEN, Alarm, AlarmState
from controller.core.capacity import SECONDS_MAX
from controller.core.commands import ALLOWED_MODES, MODE_OPERATIONS
from controller.core.engine import View
from controller.core.image import Image
from controller.core.pod import Pod
from controller.core.points import Kind, Point, Quality, Reading, Value

WIDTH = 100
LINES_MAX = 1000
CELL_MAX = 40
ALARMS_MAX = 12  # alarms that status shows; the verb alarms shows all
TROUBLES_MAX = 20  # groups of points that status lists as not GOOD
VIEW_OLD_S = 2.0
UNITS: Mapping[str, str] = {"Cel": "C", "{rpm}": "rpm", "{count}": "", "1": ""}
SHOWN = {AlarmState.RTN_UNACK: "GONE, UNACK", AlarmState.OUT_OF_SERVICE: "OUT OF SERV"}
ALARM_COUNTS = (
    "s_standing", "s_unacked", "s_shelved", "s_suppressed", "s_out_of_service", "s_chattering", "s_stale",
    "_flood", "_flood_share", "_rate", "_rate_mean", "_rate_peak",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything a screen may show. ``now`` is monotonic seconds, as are the times of ``view``.

    ``links`` says how each link to the outside stands, in words.
    """

    view: View
    pod: Pod
    points: Mapping[str, Point]
    about: Mapping[str, str]
    now: float
    links: Mapping[str, str]


def plain(text: str) -> str:
    """Return ``text`` in printable ASCII: names and reasons may come from devices and hostile keyboards."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "replace").decode()
    return "".join(mark if mark.isprintable() else " " for mark in ascii_only)


def screen(lines: Iterable[str]) -> str:
    """Return lines as one text: none wider than WIDTH ("~" marks what was cut), at most LINES_MAX of them."""
    cut: list[str] = []
    for line in lines:
        if len(cut) == LINES_MAX:
            cut.append(f"(more than {LINES_MAX} lines; the rest is not shown)")
            break
        line = plain(line).rstrip()
        cut.append(line if len(line) <= WIDTH else line[: WIDTH - 1] + "~")
    return "\n".join(cut)


def wrapped(text: str, first: str, rest: str | None = None) -> list[str]:
    """Return ``text`` folded at WIDTH, behind ``first`` on its first line and as many blanks on the others."""
    rest = " " * len(first) if rest is None else rest
    return textwrap.wrap(plain(text), WIDTH, initial_indent=first, subsequent_indent=rest) or [first]


def table(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return rows with their columns aligned; a cell is as wide as it needs to be."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def age(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "never read"
    return f"{max(0.0, seconds):.1f} s" if seconds < 100 else f"{seconds:.0f} s"


def value_text(point: Point | None, value: Value | None) -> str:
    """Return a value with its unit, or with what its number means."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str):
        return f'"{value}"'
    if point and point.kind is Kind.CODE:
        return f"{point.texts.get(int(value), 'unknown code')} ({int(value)})"
    if point and point.kind is Kind.BITS:
        names = [point.texts.get(bit, f"bit {bit}") for bit in range(int(value).bit_length()) if int(value) >> bit & 1]
        return ", ".join(names) or "none"
    unit = UNITS.get(point.unit, point.unit) if point else ""
    return f"{number_text(float(value), whole=not unit)} {unit}".rstrip()


def number_text(value: float, *, whole: bool = False) -> str:
    """Return a number with one decimal; ``whole`` leaves the decimal of counts away."""
    if whole and value.is_integer():
        return f"{value:.0f}"
    return f"{value:.1f}" if value == 0 or 0.1 <= abs(value) < 1e6 else f"{value:.3g}"


def reading_text(point: Point | None, reading: Reading, now: float) -> str:
    """Return a value, and in short how far it may be trusted; the reason stands elsewhere on the screen."""
    shown = clipped(value_text(point, reading.value))
    if reading.quality is Quality.GOOD:
        return shown
    if reading.value is None:
        return "NOT KNOWN"
    how_old = f", {age(now - reading.at)}" if reading.quality is Quality.STALE else ""
    return f"{shown} ({reading.quality.name}{how_old})"


def clipped(text: str) -> str:
    return text if len(text) <= CELL_MAX else text[: CELL_MAX - 1] + "~"


def _shown(picture: Picture, name: str) -> str:
    return reading_text(picture.points.get(name), picture.view.image.reading(name), picture.now)


# ---------------------------------------------------------------- status


def status(picture: Picture) -> str:
    """Return the whole pod on one page."""
    lines = [*_head(picture), *mode_lines(picture)]
    for part in (_loop, _machines, _racks, _alarm_summary):
        lines += ["", *part(picture)]
    return screen([*lines, *_troubles(picture)])


def _head(picture: Picture) -> list[str]:
    about = picture.about
    old = picture.now - picture.view.at
    lines = wrapped(
        f"{about.get('name', picture.pod.name)} at {about.get('site', '?')},  "
        f"podkeeper {about.get('version', '?')},  plan {about.get('revision', '?')},  scan {age(old)} ago",
        "",
        "  ",
    )
    if old > VIEW_OLD_S:
        lines.append(f"!! NO SCAN FOR {age(old)}: all that follows is old, nothing is being controlled now !!")
    return lines


def mode_lines(picture: Picture) -> list[str]:
    """Return the mode, how long it has lasted, and why."""
    view = picture.view
    flag = ", DEGRADED" if view.degraded else ""
    lines = wrapped(f"{view.mode}{flag} for {age(picture.now - view.since)}, because: {view.cause}", "Mode      ")
    if view.acting:
        lines += wrapped(", ".join(view.acting), "Acting    ")
    if view.first_out:
        lines += wrapped(view.first_out, "First out ")
    for name, bypass in view.bypasses.items():
        left = max(0.0, bypass.until - view.at) / 60
        lines += wrapped(f"{name} for {left:.0f} min more, by {bypass.by}: {bypass.reason}", "Bypassed  ")
    if view.lock:
        lines += wrapped(f"by {view.lock.owner}: {view.lock.reason}", "LOCAL     ")
    if view.missing:
        lines += wrapped("; ".join(view.missing), "Missing   ")
    return lines


def _loop(picture: Picture) -> list[str]:
    def pod(name: str) -> str:
        return _shown(picture, f"pod.{name}")

    rows = [
        ("Supply", pod("supply_temp"), f"setpoint {pod('supply_temp_sp')}", f"dew margin {pod('dew_margin')}"),
        ("Return", pod("return_temp"), f"facility supply {pod('fws_supply_temp')}", f"dew point {pod('dew_point')}"),
        ("Flow", pod("flow"), f"need {pod('flow_needed')}", f"ratio {pod('flow_ratio')}"),
        ("IT power", pod("it_power"), f"allowed {pod('it_permit')}", _time_left(picture, "pod")),
    ]
    limit = picture.view.image.value("pod.it_limit", otherwise="")
    return ["Cooling loop", *table(rows), *(wrapped(f"capped: {limit}", "  ") if limit else ())]


def _time_left(picture: Picture, target: str) -> str:
    """Return when ``target`` trips if cooling and power stay as they are."""
    seconds = picture.view.image.number(f"{target}.seconds_to_trip", otherwise=None)
    if seconds is None:
        return "trip NOT KNOWN"
    return "no trip in sight" if seconds >= SECONDS_MAX else f"trip in {seconds:.0f} s"


def _machines(picture: Picture) -> list[str]:
    pod = picture.pod
    rows = []
    for title, names, measure in (
        ("TCS pump", pod.tcs.pumps, "speed"),
        ("FWS pump", pod.fws.pumps, "speed"),
        ("chiller", pod.fws.chillers, "supply_temp"),
    ):
        for name in names:
            state = picture.view.machines.get(name, "unknown")
            shown = f"{measure.replace('_temp', '')} {_shown(picture, f'{name}.{measure}')}"
            rows.append((name, title, state.upper() if state in ("failed", "unknown") else state, shown))
    rows.append((pod.tcs.valve, "valve", "", f"position {_shown(picture, f'{pod.tcs.valve}.position')}"))
    return ["Machines", *table(rows)]


def _racks(picture: Picture) -> list[str]:
    image, rows = picture.view.image, []
    for rack in picture.pod.racks:
        known = [image.reading(outlet) for outlet in rack.outlets]
        on = sum(bool(reading.value) for reading in known if reading.usable)
        lost = sum(not reading.usable for reading in known)
        outlets = f"{on} of {len(known)} outlets on" + (f", {lost} NOT KNOWN" if lost else "")
        power = rack.power_kw(image)
        shown = "power not known" if power is None else f"{number_text(power)} kW"
        valve = f"valve {_shown(picture, f'{rack.valve}.position')}" if rack.valve else "no valve"
        allowed = f"of {_shown(picture, f'{rack.name}.it_permit')}"
        row = (rack.name, outlets, shown, allowed, valve, _leak(image, rack.leak), _time_left(picture, rack.name))
        rows.append(row)
    return ["Racks", *table(rows)] if rows else ["Racks", "  none"]


def _leak(image: Image, points: Iterable[str]) -> str:
    readings = [image.reading(point) for point in points]
    if any(reading.usable and reading.value for reading in readings):
        return "LEAK"
    return "dry" if all(reading.usable for reading in readings) else "leak NOT KNOWN"


def _alarm_summary(picture: Picture) -> list[str]:
    standing = ordered(picture.view.alarms)
    if not standing:
        return ["Alarms: none"]
    aside = sum(alarm.state in HIDDEN for alarm in standing)
    standing = [alarm for alarm in standing if alarm.state not in HIDDEN]
    open_ones = sum(alarm.annunciated for alarm in standing)
    more_aside = f", {aside} put aside" if aside else ""
    lines = [f"Alarms: {len(standing)} standing, {open_ones} not acknowledged{more_aside}"]
    if picture.view.image.flag("pod.alarm_flood", otherwise=False):
        lines.append("  !! ALARM FLOOD: go by first out and priority !!")
    for alarm in standing[:ALARMS_MAX]:
        lines += _alarm_head(alarm, picture)
        lines += wrapped(f"do: {alarm.row.action}", "      ", "          ")
    more = len(standing) - ALARMS_MAX
    return [*lines, f"  and {more} more; see: alarms"] if more > 0 else lines


def _troubles(picture: Picture) -> list[str]:
    """Return what is not GOOD, one line for the points of a device that have the same trouble."""
    groups: dict[tuple[str, str, str], list[tuple[str, Reading]]] = {}
    for name, reading in picture.view.image.items():
        device = name.partition(".")[0]
        if reading.quality is Quality.GOOD or device == "pod":
            continue
        words = "".join(mark for mark in reading.reason if not mark.isdigit())
        groups.setdefault((device, reading.quality.name, words), []).append((name, reading))
    if not groups:
        return ["Readings: all GOOD"]
    total = sum(map(len, groups.values()))
    rows = []
    for (device, quality, _), points in list(groups.items())[:TROUBLES_MAX]:
        name, reading = points[0]
        what = name if len(points) == 1 else f"{device}: {len(points)} points"
        rows.append((what, quality, age(picture.now - reading.at), reading.reason))
    lines = [f"Readings: {total} of {len(picture.points)} not GOOD", *table(rows)]
    more = len(groups) - TROUBLES_MAX
    return [*lines, f"  and {more} more devices or reasons; see: points FILTER"] if more > 0 else lines


# ---------------------------------------------------------------- alarms


def ordered(standing: Iterable[Alarm]) -> list[Alarm]:
    """Return alarms in the order in which a person should read them."""

    def rank(alarm: Alarm) -> tuple[bool, int, bool, int]:
        return (
            alarm.state in HIDDEN,
            PRIORITIES.index(alarm.row.priority),
            alarm.state is AlarmState.ACKED,
            alarm.occurrence,
        )

    return sorted(standing, key=rank)


def _alarm_head(alarm: Alarm, picture: Picture) -> list[str]:
    row = alarm.row
    first = f"  {row.priority.upper():8}  {SHOWN.get(alarm.state, alarm.state.name):11}  "
    since = f", {age(picture.now - alarm.active_at)}" if alarm.occurrence else ""
    return wrapped(f"{row.title}  ({row.id}{since})", first)


def alarms(picture: Picture) -> str:
    standing = ordered(picture.view.alarms)
    if not standing:
        return "No alarms."
    return _alarm_list(f"Alarms standing: {len(standing)}. ack ID acknowledges one, ack * all.", standing, picture)


def suppressed(picture: Picture) -> str:
    """Return the alarms that are kept quiet because their cause has an alarm of its own."""
    hidden = ordered(picture.view.suppressed)
    return _alarm_list(f"Alarms suppressed by their cause: {len(hidden)}.", hidden, picture)


def _alarm_list(head: str, listed: Iterable[Alarm], picture: Picture) -> str:
    lines = [head]
    for alarm in listed:
        lines += ["", *_alarm_head(alarm, picture)]
        lines += wrapped(", ".join(_alarm_facts(alarm, picture)), "      ")
        lines += wrapped(f"means: {alarm.row.consequence}", "      ", "             ")
        lines += wrapped(f"do: {alarm.row.action}", "      ", "          ")
    return screen(lines)


def _alarm_facts(alarm: Alarm, picture: Picture) -> Iterator[str]:
    row, now = alarm.row, picture.now
    if alarm.occurrence:
        yield f"{row.point} was {value_text(picture.points.get(row.point), alarm.value)}"
    if alarm.count > 1:
        yield f"came {alarm.count} times"
    if alarm.returned_at is not None:
        yield f"gone {age(now - alarm.returned_at)} ago" + (", latched: mode reset" if alarm.latched else "")
    if alarm.acked_at is not None:
        yield f"acknowledged {age(now - alarm.acked_at)} ago by {alarm.acked_by}"
    if alarm.chattering:
        yield "CHATTERING"
    if alarm.first_out:
        yield "first out"
    if alarm.cause:
        yield f"after {alarm.cause}"
    if alarm.state in HIDDEN:
        who = f" by {alarm.by}" if alarm.by else ""
        left = f" for another {age(alarm.until - now)}" if alarm.until is not None else ""
        yield f"put aside{who}{left}: {alarm.reason}"
        yield "its condition is there" if alarm.active else "its condition is not there"


def alarm_figures(picture: Picture) -> str:
    """Return the figures by which ISA-18.2 judges an alarm system."""
    rows = [
        (f"alarm{name}", _shown(picture, f"pod.alarm{name}"))
        for name in (*ALARM_COUNTS, *(f"_{priority}_share" for priority in PRIORITIES))
    ]
    return screen(["Rates are new alarms in ten minutes; shares are of the last day or since the start.", *table(rows)])


# ---------------------------------------------------------------- slots


def span(seconds: float) -> str:
    """Return how long something lasts yet."""
    if not math.isfinite(seconds):
        return "while it is needed"
    return f"{seconds / 60:.0f} min" if seconds >= 100 else f"{max(0.0, seconds):.0f} s"


def slots(picture: Picture, wanted: str) -> str:
    """Return who asks what of each setpoint, or of those whose name contains ``wanted``."""
    lines = lock_lines(picture)
    found = {name: array for name, array in picture.view.slots.items() if wanted.lower() in name}
    for name, array in found.items():
        row = array.setpoint
        unit = UNITS.get(row.unit, row.unit)
        wins = f"slot {array.winner} wins" if array.winner else "the default wins"
        lines += ["", f"{name}  {_shown(picture, name)} in force, {wins}  (allowed {row.low:g} to {row.high:g} {unit})"]
        asked = [
            (str(slot), value_text(picture.points.get(name), lease.value), lease.principal,
             span(lease.until - picture.now), lease.reason)
            for slot, lease in array.leases.items()
        ]  # fmt: skip
        asked.append(("-", value_text(picture.points.get(name), row.default), "default", "", ""))
        lines += table([("slot", "asks", "who", "lasts", "why"), *asked])
        for slot, ended in array.ended.items():
            gone = f"{ended.principal}, {age(picture.now - ended.at)} ago: {ended.reason}"
            lines += wrapped(gone, f"  slot {slot} ended: ")
    if not found:
        lines.append(f'No setpoint matches "{wanted}"; there are: {", ".join(picture.view.slots)}')
    return screen(lines)


def lock_lines(picture: Picture) -> list[str]:
    lock = picture.view.lock
    if lock is None:
        return ["Remote control: setpoints may be asked from outside."]
    return wrapped(f"LOCAL CONTROL by {lock.owner} for {age(picture.now - lock.since)}: {lock.reason}", "", "  ")


# ---------------------------------------------------------------- mode, points, links


def mode(picture: Picture) -> str:
    """Return the mode and what may be asked in it."""
    possible = [
        operation
        for operation in MODE_OPERATIONS
        if any(picture.view.mode.startswith(allowed) for allowed in ALLOWED_MODES[operation])
    ]
    return screen([*_head(picture), *mode_lines(picture), *wrapped(", ".join(possible) or "nothing", "Possible  ")])


def points(picture: Picture, wanted: str) -> str:
    """Return every point that matches: a device, a part of the point's id, a pattern with ``*``, or a quality."""
    if not wanted:
        return _devices(picture)
    pattern = wanted.lower()
    exact = pattern in {point.device for point in picture.points.values()}
    rows = []
    for name, point in picture.points.items():
        reading = picture.view.image.reading(name)
        if _matches(pattern, name.lower(), reading, exact=exact):
            value = clipped(value_text(point, reading.value))
            rows.append((name, value, reading.quality.name, age(picture.now - reading.at), reading.reason))
    if not rows:
        return screen([f'No point matches "{wanted}". points without a filter lists the devices.'])
    shown = LINES_MAX - 2
    lines = table([("point", "value", "quality", "age", "reason"), *rows[:shown]], "")
    more = f", the first {shown} shown" if len(rows) > shown else ""
    return screen([*lines, f"Points: {len(rows)}{more}"])


def _matches(pattern: str, name: str, reading: Reading, *, exact: bool) -> bool:
    if exact:
        return name.startswith(f"{pattern}.")
    return pattern == reading.quality.value or pattern in name or fnmatchcase(name, pattern)


def _devices(picture: Picture) -> str:
    qualities: dict[str, Counter[str]] = {}
    for name, point in picture.points.items():
        qualities.setdefault(point.device, Counter())[picture.view.image.reading(name).quality.name] += 1
    rows = [("device", "points", "quality")]
    for device, counts in qualities.items():
        total = counts.total()
        shown = "all GOOD" if counts["GOOD"] == total else ", ".join(f"{n} {q}" for q, n in counts.most_common())
        rows.append((device, str(total), shown))
    return screen([*table(rows, ""), "points FILTER lists some of them, such as: points pump_1"])


def links(picture: Picture) -> str:
    """Return buses with their counters, who does not answer on them, and how links to the outside stand."""
    image, pod = picture.view.image, picture.pod
    buses = sorted(set(pod.device_bus.values()))
    rows: list[tuple[str, ...]] = [("bus", "state", "load", "requests", "timeouts", "errors", "silent")]
    quiet: list[str] = []
    for bus in buses:
        silent = [d for d, b in pod.device_bus.items() if b == bus and not image.flag(f"{d}.comms", otherwise=False)]
        counts = [_shown(picture, f"{bus}.{name}") for name in ("utilisation", "transactions", "timeouts", "errors")]
        rows.append((bus, _up(image, bus), *counts, str(len(silent)) if silent else "none"))
        quiet += wrapped(", ".join(silent), f"{bus} silent: ", "  ") if silent else []
    outside = [line for name, words in picture.links.items() for line in wrapped(words, f"{name}  ", "  ")]
    scans = [f"{name} {_shown(picture, f'controller.{name}')}" for name in ("scans", "overruns", "scan_time")]
    last = f"controller  {', '.join(scans)}, last scan {age(picture.now - picture.view.at)} ago"
    return screen([*table(rows, ""), *quiet, *outside, last])


def _up(image: Image, link: str) -> str:
    if not image.usable(f"{link}.online"):
        return "NOT KNOWN"
    return "up" if image.flag(f"{link}.online", otherwise=False) else "DOWN"
