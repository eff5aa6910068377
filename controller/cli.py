"""podkeeper run | check | console."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from controller import log
from controller.config.plan import load_plan
from controller.config.problems import ConfigError
from controller.console.client import attach
from controller.fieldbus.admission import Admitted, admitted, page
from controller.service import Service

DEFAULT_CONFIG = Path("/etc/podkeeper/site.toml")
DEFAULT_SOCKET = Path("/run/podkeeper/console.sock")
EXIT_PROBLEMS = 1

app = typer.Typer(help="Controller of a liquid-cooled AI enclosure.", no_args_is_help=True, add_completion=False)


@app.command()
def run(config: Annotated[Path, typer.Option(help="Enclosure or site file.")] = DEFAULT_CONFIG) -> None:
    """Control the pod until stopped by SIGTERM; equipment is left running as it is."""
    plan = _admitted(config).plan
    log.configure()
    asyncio.run(Service(plan).run())


@app.command()
def check(config: Annotated[Path, typer.Argument(metavar="ENCLOSURE.toml")]) -> None:
    """Check an enclosure or site file with everything it names: every mistake at once, or the plan on one page."""
    typer.echo(page(_admitted(config)))


@app.command()
def console(socket: Annotated[Path, typer.Option(help="Socket of the running service.")] = DEFAULT_SOCKET) -> None:
    """Attach a technician's console to the running service."""
    sys.exit(attach(socket))


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
