"""podkeeper read | write | dump | diff | scan | capture | commission holes: tools that coexist with polling."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from controller.config.plan import Plan, load_plan
from controller.config.problems import ConfigError
from controller.core.points import Quality
from controller.fieldbus.access import reach
from controller.fieldbus.frames import LinkError, NoReply, Refused, WrongReply
from controller.fieldbus.lane import Denied
from controller.fieldbus.tools import VERIFIED, WRITTEN, ToolError, point_of, read_point, value_of, write_point

DEFAULT_CONFIG = Path("/etc/podkeeper/site.toml")
EXIT_PROBLEMS = 1  # it can't be asked so: a name, a value, a file; or the controller does not let it
EXIT_NO_ANSWER = 3  # the device or its bus does not answer, or refuses
EXIT_OTHERWISE = 4  # not as it should be: a reading that is not GOOD, a write that reads back otherwise, a difference

Done = TypeVar("Done")
Config = Annotated[Path, typer.Option(help="Enclosure or site file.")]

app = typer.Typer(no_args_is_help=True)


def _plan(config: Path) -> Plan:
    try:
        return load_plan(config)
    except ConfigError as error:
        raise _failed(str(error), EXIT_PROBLEMS) from None


def _failed(why: str, code: int) -> typer.Exit:
    typer.echo(why, err=True)
    return typer.Exit(code)


def _run(doing: Coroutine[Any, Any, Done]) -> Done:
    try:
        return asyncio.run(doing)
    except (ToolError, Denied, OSError) as error:
        raise _failed(str(error), EXIT_PROBLEMS) from None
    except (LinkError, NoReply, WrongReply, Refused) as error:
        raise _failed(str(error), EXIT_NO_ANSWER) from None


@app.command()
def read(
    points: Annotated[list[str], typer.Argument(metavar="DEVICE.POINT...")], config: Config = DEFAULT_CONFIG
) -> None:
    """Read points: value, quality, raw words and the profile's row. Exit 4 when one is not GOOD."""
    plan = _plan(config)

    async def doing() -> int:
        code = 0
        for device, point in [point_of(plan, name) for name in points]:
            try:
                async with reach(plan, device.bus) as access:
                    seen = await read_point(access, device, point)
            except (NoReply, WrongReply) as error:
                typer.echo(f"{point.point.id}  -  no answer: {error}")
                code = EXIT_NO_ANSWER
                continue
            typer.echo(seen.line())
            if seen.reading.quality is not Quality.GOOD:
                code = code or EXIT_OTHERWISE
        return code

    raise typer.Exit(_run(doing()))


@app.command()
def write(
    name: Annotated[str, typer.Argument(metavar="DEVICE.POINT")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="on, off, a number, or the name of a code.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write a point and read it back. Exit 0 when verified, or written where nothing can be read back."""
    plan = _plan(config)

    async def doing() -> int:
        device, point = point_of(plan, name)
        meant = value_of(point, value)
        async with reach(plan, device.bus) as access:
            written = await write_point(access, device, point, meant)
        typer.echo(written.line())
        fine = written.outcome == VERIFIED or (written.outcome == WRITTEN and point.row.access == "w")
        return 0 if fine else EXIT_OTHERWISE

    raise typer.Exit(_run(doing()))
