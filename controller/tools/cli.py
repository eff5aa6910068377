"""podkeeper read | write | dump | diff | scan | capture | commission holes: tools that coexist with polling."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from controller.config.plan import DevicePlan, Plan, load_plan
from controller.config.problems import ConfigError
from controller.config.profile import Profile, Row, load_profile
from controller.core.points import Quality
from controller.fieldbus.capture import Frame, pcap
from controller.fieldbus.frames import LinkError, NoReply, Refused, WrongReply
from controller.fieldbus.lane import Denied
from controller.fieldbus.writes import Fate
from controller.tools import points, registers
from controller.tools.access import Direct, Through, captured, reach, running, sockets_of
from controller.tools.holes import probe_holes
from controller.tools.points import ToolError
from controller.tools.scan import Found, Place, numbers, scan

DEFAULT_CONFIG = Path("/etc/podkeeper/site.toml")
DEFAULT_SOCKETS = (Path("/run/podkeeper/fieldbus.sock"), Path("/run/podkeeper/console.sock"))
UNIT_MAX, BAUD_MAX = 255, 115200
FITS_SHOWN = 3
EXIT_PROBLEMS = 1  # it can't be asked so: a name, a value, a file; or the controller does not let it
EXIT_NO_ANSWER = 3  # the device or its bus does not answer, or refuses
EXIT_OTHERWISE = 4  # not as it should be: a reading that is not GOOD, a write that reads back otherwise, a difference

Done = TypeVar("Done")
Config = Annotated[Path, typer.Option(help="Enclosure or site file.")]

Leased = Annotated[
    float, typer.Option(help="Pause, for so many seconds at most, what of the bus control does not need.")
]

app = typer.Typer(no_args_is_help=True)
commission = typer.Typer(help="Measure what a device bears, for its profile.", no_args_is_help=True)
app.add_typer(commission, name="commission")


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
    except (ToolError, Denied, OSError, ValueError) as error:
        raise _failed(str(error), EXIT_PROBLEMS) from None
    except (LinkError, NoReply, WrongReply, Refused) as error:
        raise _failed(str(error), EXIT_NO_ANSWER) from None


@app.command()
def read(
    names: Annotated[list[str], typer.Argument(metavar="DEVICE.POINT...")], config: Config = DEFAULT_CONFIG
) -> None:
    """Read points: value, quality, raw words and the profile's row. Exit 4 when one is not GOOD."""
    plan = _plan(config)

    async def doing() -> int:
        code = 0
        for device, point in [points.point_of(plan, name) for name in names]:
            try:
                async with reach(plan, device.bus) as access:
                    seen = await points.read_point(access, device, point)
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
        device, point = points.point_of(plan, name)
        meant = points.value_of(point, value)
        async with reach(plan, device.bus) as access:
            written = await points.write_point(access, device, point, meant)
        typer.echo(written.line())
        fine = written.outcome == Fate.VERIFIED or (written.outcome == Fate.WRITTEN and point.row.access == "w")
        return 0 if fine else EXIT_OTHERWISE

    raise typer.Exit(_run(doing()))


@contextlib.asynccontextmanager
async def _reached(plan: Plan, bus: str, tool: str, lease_s: float) -> AsyncIterator[Direct | Through]:
    async with reach(plan, bus) as access:
        if lease_s and isinstance(access, Through):
            await access.lease(tool, lease_s)
        yield access


def _bus(plan: Plan, name: str) -> str:
    names = [bus.name for bus in plan.buses]
    if name not in names:
        raise ToolError(f"no such bus: {name}; there are: {', '.join(names)}")
    return name


def _unit(plan: Plan, target: str) -> tuple[str, int, DevicePlan | None]:
    """Return bus, unit and device of ``DEVICE`` or ``BUS:UNIT``."""
    name, colon, number = target.partition(":")
    if not colon:
        device = points.device_of(plan, name)
        return device.bus, device.unit, device
    if not number.isdigit() or int(number) > UNIT_MAX:
        raise ToolError(f"{target}: allowed: DEVICE, or BUS:UNIT with a unit from 0 to {UNIT_MAX}")
    known = (device for device in plan.devices if (device.bus, device.unit) == (_bus(plan, name), int(number)))
    return name, int(number), next(known, None)


@app.command()
def dump(
    target: Annotated[str, typer.Argument(metavar="DEVICE|BUS:UNIT")],
    first: Annotated[int, typer.Option("--from", help="First register, from 0 as in the telegram.")],
    last: Annotated[int, typer.Option("--to", help="Last register.")],
    table: Annotated[str, typer.Option(help="holding, input, coil or discrete.")] = "holding",
    out: Annotated[Path | None, typer.Option(help="File to write; without it, standard output.")] = None,
    lease: Leased = 0.0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write down raw registers, for diff. Those that the device does not give stand with the reason."""
    plan = _plan(config)

    async def doing() -> str:
        bus, unit, device = _unit(plan, target)
        settings = next(each.settings for each in plan.buses if each.name == bus)
        block = registers.block_of(settings, unit, device, table, first, last)
        taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        about = {"bus": bus, "unit": str(unit), "table": table, "taken": taken}
        if device:
            about |= {"device": device.name, "profile": device.profile.name}
        async with _reached(plan, bus, "dump", lease) as access:
            return registers.dump_text(about, await registers.dump(access, block))

    text = _run(doing())
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


@app.command()
def diff(
    files: Annotated[list[Path], typer.Argument(metavar="DUMP [DUMP]")],
    profile: Annotated[Path | None, typer.Option(help="Profile that tells what the registers mean.")] = None,
    config: Annotated[Path | None, typer.Option(help="Enclosure or site file that knows the dump's device.")] = None,
) -> None:
    """Compare two dumps, or one with a profile: which of its points hold no usable value. Exit 4 on any difference."""
    try:
        rows: Mapping[str, Row] = load_profile(profile).rows if profile else {}
        dumps = [registers.parse_dump(file.read_text(), file.name) for file in files]
        about = dumps[0][0]
        if config:
            device = points.device_of(load_plan(config), about.get("device", ""))
            rows = {plan.point.name: plan.row for plan in device.points}
        if len(dumps) == 2:
            lines = registers.changes(dumps[0][1], dumps[1][1], rows, about.get("table", ""))
        elif len(dumps) == 1 and rows:
            lines = registers.unusable(dumps[0][1], rows, about.get("table", ""))
        else:
            raise ToolError("give two dumps, or one and the profile it is compared with")
    except (OSError, UnicodeDecodeError, ToolError, ConfigError) as error:
        raise _failed(str(error), EXIT_PROBLEMS) from None
    for line in lines:
        typer.echo(line)
    raise typer.Exit(EXIT_OTHERWISE if lines else 0)


@app.command("scan")
def scan_units(
    bus: Annotated[
        str, typer.Option(help="Bus of the plan, at its own settings; through the service if it runs.")
    ] = "",
    port: Annotated[str, typer.Option(help="Serial port that no running service uses, such as /dev/ttyUSB0.")] = "",
    host: Annotated[str, typer.Option(help="Modbus TCP host.")] = "",
    tcp_port: Annotated[int, typer.Option(min=1, max=65535)] = 502,
    baud: Annotated[str, typer.Option(help="Baud rates to try.")] = "9600,19200,38400,57600,115200",
    parity: Annotated[str, typer.Option(help="Parities to try: none, even, odd.")] = "none,even,odd",
    units: Annotated[str, typer.Option(help="Unit numbers to try, such as 1-10,20.")] = "1-247",
    profiles: Annotated[
        Path | None, typer.Option(help="Folder of profiles to compare; else those of the plan.")
    ] = None,
    lease: Leased = 0.0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Find units that answer, with which settings, and which profiles fit them. Exit 3 when nothing answers."""

    async def doing() -> int:
        if sum(map(bool, (bus, port, host))) != 1:
            raise ToolError("give one of --bus, --port, --host")
        wanted = numbers(units, UNIT_MAX)
        plan = _plan(config) if bus or config.exists() else None
        known = _profiles(profiles, plan)
        if plan and bus:
            async with _reached(plan, _bus(plan, bus), "scan", lease) as access:
                names = {device.unit: f" ({device.name})" for device in plan.devices if device.bus == bus}
                return await _show(scan(access, wanted, known), f"bus {bus}", names)
        place = Place(str(tcp_port) if host else port, host)
        sockets = _free(place, plan)
        found = 0
        for settings in place.settings(numbers(baud, BAUD_MAX), parity.split(",")):
            direct = Direct(settings, sockets)
            try:
                await direct.open()
                where = (
                    f"{host}:{tcp_port}" if host else f"{port} {settings.baud} {settings.parity} {settings.stop_bits}"
                )
                found += await _show(scan(direct, wanted, known), where, {})
            finally:
                await direct.close()
        return found

    if not _run(doing()):
        raise _failed("nothing answers", EXIT_NO_ANSWER)


def _profiles(folder: Path | None, plan: Plan | None) -> list[Profile]:
    if folder is None:
        return list({device.profile.name: device.profile for device in plan.devices}.values()) if plan else []
    try:
        return [load_profile(path) for path in sorted(folder.glob("*.toml"))]
    except ConfigError as error:
        raise ToolError(str(error)) from None


def _free(place: Place, plan: Plan | None) -> tuple[Path, ...]:
    """Return the sockets to watch while ``place`` is scanned: those of the service that would use it too.

    Raises:
        Denied: it uses it now.
    """
    sockets = sockets_of(plan) if plan else DEFAULT_SOCKETS
    mine = plan is None or any(place.same(bus.settings) for bus in plan.buses)
    if mine and any(running(path) for path in sockets):
        raise Denied(
            "a service runs and may use it: other settings would blind it; scan --bus goes through the service"
        )
    return sockets if mine else ()


async def _show(found: AsyncIterator[Found], where: str, names: Mapping[int, str]) -> int:
    count = 0
    async for unit in found:
        count += 1
        typer.echo(f"{where}  unit {unit.unit}{names.get(unit.unit, '')}: {unit.said}")
        for fit in unit.fits[:FITS_SHOWN]:
            typer.echo(f"    {fit.profile}: {fit.why}")
    return count


@app.command()
def capture(
    bus: Annotated[str, typer.Argument(metavar="BUS")],
    out: Annotated[Path, typer.Option(help="pcap file to write, for Wireshark or tshark.")],
    seconds: Annotated[float, typer.Option(min=0, help="How long to go on; 0: what the service has kept.")] = 0.0,
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Write the frames of a bus of the running service to a pcap."""
    plan = _plan(config)

    async def doing() -> tuple[list[Frame], int]:
        serial = next(each.settings.serial for each in plan.buses if each.name == _bus(plan, bus))
        async with reach(plan, bus) as access:
            if not isinstance(access, Through):
                raise ToolError("no service runs: there is nothing to capture")
            frames, lost = await captured(access, seconds)
        out.write_bytes(pcap(frames, serial=serial))
        return frames, lost

    frames, lost = _run(doing())
    typer.echo(f"{len(frames)} frames, {lost} lost")


@commission.command()
def holes(
    name: Annotated[str, typer.Argument(metavar="DEVICE")], lease: Leased = 0.0, config: Config = DEFAULT_CONFIG
) -> None:
    """Read across the holes of a device's profile, compare with single reads, and print what [link] may say."""
    plan = _plan(config)

    async def doing() -> list[str]:
        device = points.device_of(plan, name)
        settings = next(each.settings for each in plan.buses if each.name == device.bus)
        most = registers.block_of(settings, device.unit, device, "holding", 0, 0).most_words
        async with _reached(plan, device.bus, "commission holes", lease) as access:
            return (await probe_holes(access, device, most)).lines()

    for line in _run(doing()):
        typer.echo(line)
