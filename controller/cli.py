"""podkeeper run | check | schemas | console | profiles import | profiles lint; the bus tools are in tools/cli."""

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
from controller.config.plan import load_plan
from controller.config.problems import ConfigError
from controller.config.profile import DeviceClass, load_profile
from controller.console.client import attach
from controller.fieldbus.admission import Admitted, admitted, page
from controller.northbound.schemas import SCHEMAS, document
from controller.service import Service, precise_loop
from controller.tools import cli as tools
from controller.tools.cli import DEFAULT_CONFIG, EXIT_PROBLEMS

DEFAULT_SOCKET = Path("/run/podkeeper/console.sock")

app = typer.Typer(help="Controller of a liquid-cooled AI enclosure.", no_args_is_help=True, add_completion=False)
profiles = typer.Typer(help="Device profiles: bring in the map of another project, look for mistakes.")
app.add_typer(profiles, name="profiles", no_args_is_help=True)
app.add_typer(tools.app)


@app.command()
def run(config: Annotated[Path, typer.Option(help="Enclosure or site file.")] = DEFAULT_CONFIG) -> None:
    """Control the pod until stopped by SIGTERM; equipment is left running as it is."""
    plan = _admitted(config).plan
    log.configure()
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        runner.run(Service(plan).run())


@app.command()
def check(config: Annotated[Path, typer.Argument(metavar="ENCLOSURE.toml")]) -> None:
    """Check an enclosure or site file with everything it names: every mistake at once, or the plan on one page."""
    typer.echo(page(_admitted(config)))


@app.command()
def console(socket: Annotated[Path, typer.Option(help="Socket of the running service.")] = DEFAULT_SOCKET) -> None:
    """Attach a technician's console to the running service."""
    sys.exit(attach(socket))


@app.command()
def schemas(topic: Annotated[str, typer.Argument(help="Such as {r}/state; all if left out.")] = "") -> None:
    """Print the JSON Schemas of the documents that are published over MQTT, by topic."""
    if topic and topic not in SCHEMAS:
        typer.echo(f"no such topic: {topic}; there are: {', '.join(SCHEMAS)}", err=True)
        raise typer.Exit(EXIT_PROBLEMS)
    found = document(topic) if topic else {name: document(name) for name in SCHEMAS}
    typer.echo(json.dumps(found, indent=2))


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


def _admitted(config: Path) -> Admitted:
    """Return the plan with its schedule; every mistake, and every row that a bus can't carry, ends the command."""
    try:
        return admitted(load_plan(config), config.name)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_PROBLEMS) from None


def main() -> None:
    """Entry point of the command ``podkeeper``."""
    app()
