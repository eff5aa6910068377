"""The demo's words and table: a picture of the pod as subscribers see it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hil.monitor import Picture
from hil.plant.facility import START_S
from hil.runner import SHORT_CHILLER_START_S, SHORT_TIMES, Bench
from hil.wire.tcp import LOOPBACK

ALARMS_SHOWN = 6
BUSES_SHOWN = 4


def shown(value: float | None, form: str = ".1f", unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{' ' if unit else ''}{unit}"


def introduction(bench: Bench, page_url: str) -> list[str]:
    """Return how to look at the pod from another terminal, and what runs faster than on site."""
    lines = [
        f"{bench.plan.name}: {len(bench.emulators)} devices on {len(bench.buses)} buses, all emulated; "
        "the controller is a process of its own",
        f"Look:            {page_url}",
        f"Subscribe:       mosquitto_sub -h {LOOPBACK} -p {bench.mqtt_port} -v -t '{bench.root}/#'",
        f"Attach:          podkeeper console --socket {bench.console_socket}",
        f"Site file:       {bench.site_file}",
    ]
    if bench.short:
        tables = (f"{name}.{key} {value:g} s" for name, table in SHORT_TIMES.items() for key, value in table.items())
        lines += [
            f"Shortened times: {', '.join(tables)};",
            f"                 chillers start in {SHORT_CHILLER_START_S:g} s instead of {START_S:g} s "
            "(--full keeps real times)",
        ]
    return lines


def rows(picture: Picture) -> Iterable[tuple[str, str]]:
    """Return what the table shows, line by line."""
    state, number = picture.table("state"), picture.number
    yield "Controller", str(picture.table("status").get("state", "no word yet"))
    degraded = ", degraded" if state.get("degraded") else ""
    yield "Mode", f"{picture.mode}{degraded}"
    yield "Cause", str(state.get("cause", "–"))
    yield "Racks energised", shown(number("pod", "racks_energised"), ".0f")
    yield "IT power", shown(number("pod", "it_power"), ".0f", "kW")
    setpoint = shown(number("pod", "supply_temp_sp"), ".1f")
    yield "Supply temperature", f"{shown(number('pod', 'supply_temp'), '.1f', '°C')}, set point {setpoint}"
    yield "Return temperature", shown(number("pod", "return_temp"), ".1f", "°C")
    needed = shown(number("pod", "flow_needed"), ".0f")
    yield "Flow", f"{shown(number('pod', 'flow'), '.0f', 'L/min')}, needed {needed}"
    yield (
        "Pumps, chillers",
        (f"{shown(number('pod', 'pumps_running'), '.0f')}, {shown(number('pod', 'chillers_running'), '.0f')}"),
    )
    yield "Dew point", shown(number("pod", "dew_point"), ".1f", "°C")
    alarms = picture.alarms
    more = f" and {len(alarms) - ALARMS_SHOWN} more" if len(alarms) > ALARMS_SHOWN else ""
    yield "Alarms", f"{len(alarms)}  {', '.join(alarms[:ALARMS_SHOWN])}{more}"
    yield "Scan", f"{shown(number('controller', 'scan_time'), '.1f', 'ms')}, {_overruns(picture)} overruns"
    yield "Scans", shown(number("controller", "scans"), ".0f")
    busiest = ", ".join(f"{name} {shown(share, '.0f', '%')}" for name, share in _utilisation(picture)[:BUSES_SHOWN])
    yield "Busiest buses", busiest or "–"
    yield "MQTT messages", str(picture.messages)


def _overruns(picture: Picture) -> str:
    return shown(picture.number("controller", "overruns"), ".0f")


def _utilisation(picture: Picture) -> list[tuple[str, float]]:
    names = (name.removeprefix("dev/") for name in picture.documents if name.startswith("dev/"))
    shares = ((name, picture.number(name, "utilisation")) for name in names)
    return sorted(((name, share) for name, share in shares if share is not None), key=lambda item: -item[1])


def table(picture: Picture, started: float) -> Table:
    """Return the live screen."""
    grid = Table(box=box.SIMPLE, show_header=False, title=f"Podkeeper, {time.monotonic() - started:.0f} s")
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, text in rows(picture):
        grid.add_row(name, escape(text))
    return grid


def view(picture: Picture, started: float, lines: Sequence[str]) -> Group:
    """Return the live screen with ``lines`` below it."""
    return Group(table(picture, started), Text("\n".join(lines)))


def line(picture: Picture, elapsed_s: float) -> str:
    """Return one plain line, for a stdout that is not a terminal."""
    number = picture.number
    parts = {
        "mode": picture.mode,
        "racks": shown(number("pod", "racks_energised"), ".0f"),
        "supply": shown(number("pod", "supply_temp")),
        "flow": shown(number("pod", "flow"), ".0f"),
        "pumps": shown(number("pod", "pumps_running"), ".0f"),
        "chillers": shown(number("pod", "chillers_running"), ".0f"),
        "alarms": str(len(picture.alarms)),
        "scan_ms": shown(number("controller", "scan_time")),
        "overruns": _overruns(picture),
        "messages": str(picture.messages),
    }
    return f"{elapsed_s:4.0f} s  " + " ".join(f"{name}={text}" for name, text in parts.items())


def summary(picture: Picture) -> str:
    """Return the demo's last line."""
    scans, overruns = picture.number("controller", "scans"), picture.number("controller", "overruns")
    devices = picture.devices
    counts = {
        "devices": None if devices is None else len(devices),
        "points": picture.points,
        "scans": scans,
        "overruns": overruns,
        "mqtt_messages": picture.messages,
    }
    texts = (f"{name}={'unknown' if value is None else format(value, '.0f')}" for name, value in counts.items())
    return f"demo: mode={picture.mode} {' '.join(texts)}"
