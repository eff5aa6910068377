"""podkeeper run | check | console | profiles import | profiles lint."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from controller import log
from controller.config.importers import SUNSPEC_BASE, MapError, import_map, toml
from controller.config.lint import lint
from controller.config.plan import Plan, load_plan
from controller.config.problems import ConfigError
from controller.config.profile import DeviceClass, load_profile
from controller.console.client import attach
from controller.core.pod import outputs
from controller.fieldbus.planner import BusLoad, bus_load
from controller.service import Service, precise_loop

DEFAULT_CONFIG = Path("/etc/podkeeper/site.toml")
DEFAULT_SOCKET = Path("/run/podkeeper/console.sock")
EXIT_PROBLEMS = 1

app = typer.Typer(help="Controller of a liquid-cooled AI enclosure.", no_args_is_help=True, add_completion=False)
profiles = typer.Typer(help="Device profiles: bring in the map of another project, look for mistakes.")
app.add_typer(profiles, name="profiles", no_args_is_help=True)


@app.command()
def run(config: Annotated[Path, typer.Option(help="Enclosure or site file.")] = DEFAULT_CONFIG) -> None:
    """Control the pod until stopped by SIGTERM; equipment is left running as it is."""
    plan = _plan(config)
    log.configure()
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(Service(plan).run())


@app.command()
def check(config: Annotated[Path, typer.Argument(metavar="ENCLOSURE.toml")]) -> None:
    """Check an enclosure or site file with everything it names: every mistake at once, or the plan on one page."""
    plan = _plan(config)
    loads = _loads(plan)
    typer.echo(page(plan, loads))
    overloaded = [load for load in loads if not load.feasible]
    for load in overloaded:
        remedy = "read less often, at a higher baud rate, or on two buses"
        typer.echo(f"{config.name}: [buses.{load.bus}] load = {100 * load.load:.0f} %: {remedy}", err=True)
    if overloaded:
        raise typer.Exit(EXIT_PROBLEMS)


@app.command()
def console(socket: Annotated[Path, typer.Option(help="Socket of the running service.")] = DEFAULT_SOCKET) -> None:
    """Attach a technician's console to the running service."""
    sys.exit(attach(socket))


@profiles.command("import")
def import_profile(
    file: Annotated[Path, typer.Argument(metavar="MAP.json", help="rackmon, phosphor-modbus or SunSpec model JSON.")],
    device_class: Annotated[str, typer.Option("--class", help=f"One of {', '.join(get_args(DeviceClass))}.")],
    base: Annotated[int, typer.Option(help='SunSpec: address of "SunS".')] = SUNSPEC_BASE,
    out: Annotated[Path | None, typer.Option(help="Profile to write; without it, standard output.")] = None,
) -> None:
    """Turn a map into a profile. What could not be mapped and what is left to find out goes to standard error."""
    try:
        if device_class not in get_args(DeviceClass):
            raise MapError(f"--class {device_class}: allowed: {', '.join(get_args(DeviceClass))}")
        done = import_map(json.loads(file.read_text()), file.name, device_class, base)
    except (OSError, ValueError) as error:  # MapError and broken JSON are ValueErrors
        typer.echo(f"{file.name}: {error}", err=True)
        raise typer.Exit(EXIT_PROBLEMS) from None
    text = toml(done.tables)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)
    typer.echo(f"{file.name}: {done.mapped} of {done.read} registers mapped", err=True)
    for item in done.left:
        typer.echo(f"not mapped: {item.what}: {item.why}", err=True)
    for line in done.open:
        typer.echo(f"to find out: {line}", err=True)


@profiles.command("lint")
def lint_profiles(files: Annotated[list[Path], typer.Argument(metavar="PROFILE.toml...")]) -> None:
    """Look for mistakes in profiles: every finding with its remedy; exit 1 on errors, 0 with only notes."""
    errors = notes = 0
    for file in files:
        try:
            found = lint(load_profile(file))
        except ConfigError as error:
            errors += len(error.problems)
            typer.echo(str(error))
            continue
        errors += sum(item.error for item in found)
        notes += sum(not item.error for item in found)
        for item in found:
            typer.echo(item.line(file.name))
    typer.echo(f"{len(files)} profiles, {errors} errors, {notes} notes")
    if errors:
        raise typer.Exit(EXIT_PROBLEMS)


def page(plan: Plan, loads: list[BusLoad]) -> str:
    """Return the plan on one page: the pod, then a line for each bus."""
    devices = list(plan.devices)
    lines = [
        f"{plan.name} at {plan.site}, revision {plan.revision}",
        f"scan every {1000 * plan.scan_s:.0f} ms; {len(plan.buses)} buses, {len(devices)} devices, "
        f"{sum(len(device.points) for device in devices)} points, {len(plan.pod.racks)} racks",
        "",
        f"{'bus':<12}{'link':<28}{'devices':>8}{'points':>8}{'spans':>7}{'words':>7}{'polls/s':>9}{'load':>8}",
    ]
    for bus, load in zip(plan.buses, loads, strict=True):
        settings = bus.settings
        link = f"{settings.host}:{settings.port}" if settings.kind == "tcp" else f"{settings.port} {settings.baud}"
        lines.append(
            f"{load.bus:<12}{link:<28}{load.devices:>8}{load.points:>8}{load.spans:>7}{load.words:>7}"
            f"{load.polls_per_s:>9.1f}{100 * load.load:>7.1f}%"
        )
    points, spans = sum(load.points for load in loads), sum(load.spans for load in loads)
    words, polls = sum(load.words for load in loads), sum(load.polls_per_s for load in loads)
    lines.append(f"{'all':<12}{'':<28}{len(devices):>8}{points:>8}{spans:>7}{words:>7}{polls:>9.1f}")
    return "\n".join(lines)


def _loads(plan: Plan) -> list[BusLoad]:
    points = [output.point for output in outputs(plan.pod)]
    return [bus_load(bus, points, plan.pod.protection.refresh_s) for bus in plan.buses]


def _plan(config: Path) -> Plan:
    try:
        return load_plan(config)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_PROBLEMS) from None


def main() -> None:
    """Entry point of the command ``podkeeper``."""
    app()
