"""``python -m hil procedure NAME``: the numbered procedures, from the first link to a soak."""

from __future__ import annotations

import argparse
import asyncio
import datetime
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from controller.config.problems import ConfigError
from hil.bench.report import commit
from hil.desk import Desk
from hil.procedures.bench_file import BENCH_FILE, MixedBench, read_bench
from hil.procedures.record import Journal
from hil.procedures.session import Session, value_of

NORMAL_MAX_S = 300.0
BACK_MAX_S = 30.0
TIMEOUTS_PER_MILLION_MAX = 100.0
PROFILES = Path(__file__).parents[2] / "profiles" / "devices"


async def link(session: Session) -> None:
    """Each wire carries frames: every unit answers on it."""
    for bus in dict.fromkeys(session.bench.bus_of(device.name) for device in session.devices):
        units = {device.unit: device.name for device in session.devices if device.bus == bus}
        asked = ",".join(map(str, sorted(units)))
        code, out = await session.tool("scan", "--bus", bus, "--units", asked)
        silent = [name for unit, name in units.items() if f"unit {unit} " not in out and f"unit {unit}:" not in out]
        told = "silent: " + ", ".join(silent) if silent else out
        session.journal.note(f"podkeeper scan --bus {bus}", f"units {asked} answer", told, code == 0 and not silent)


async def identify(session: Session) -> None:
    """Each device is the model that the enclosure file says: its profile fits what it answers."""
    for device in session.devices:
        code, out = await session.tool(
            "scan", "--bus", device.bus, "--units", str(device.unit), "--profiles", str(PROFILES)
        )
        fits = [line.strip().partition(":")[0] for line in out.splitlines() if line.startswith(" ")]
        found = code == 0 and device.profile.name in fits
        session.journal.note(f"profile of {device.name}", f"{device.profile.name} fits", out, found)


async def read(session: Session) -> None:
    """Each readable point has a value that is GOOD."""
    for device in session.devices:
        points = session.readable(device)
        code, lines = await session.read(points)
        bad = [f"{point} {lines.get(point, 'no answer')}" for point in points if "  GOOD  " not in lines.get(point, "")]
        seen = "; ".join(bad) or f"{len(points)} points GOOD"
        session.journal.note(
            f"podkeeper read {device.name}.*", f"{len(points)} points GOOD", seen, code == 0 and not bad
        )


async def write(session: Session) -> None:
    """Each exercised output takes a value, shows it, and takes the old one back."""
    for name, device in session.bench.tested.items():
        if device.exercise is None:
            session.journal.note(f"write to {name}", "nothing to exercise", "nothing to exercise", True)
            continue
        point = f"{name}.{device.exercise.point}"
        _, lines = await session.read([point])
        before = value_of(lines.get(point, ""))
        await session.write(point, device.exercise.value)
        back: bool | float = before == "on" if before in ("on", "off") else float(before.split(" ")[0] or "nan")
        await session.write(point, back)


async def commloss(session: Session) -> None:
    """Each device is commissioned for a silent bus, and is as it must be after one."""
    note = session.journal.note
    for plan in session.devices:
        device, name = session.bench.tested[plan.name], plan.name
        for item in plan.profile.comm_loss.expect:
            _, lines = await session.read([f"{name}.{item.point}"])
            found = value_of(lines.get(f"{name}.{item.point}", ""))
            note(f"commissioned: {name}.{item.point}", str(item.value), found, same(found, item.value))
        silent = min(device.silent_s, session.seconds) if session.bench.dry else device.silent_s
        await asyncio.sleep(silent)
        points = [f"{name}.{point}" for point in device.after] or session.readable(plan)[:1]
        _, lines = await session.read(points)
        good = [point for point in points if "  GOOD  " in lines.get(point, "")]
        note(f"{name} after {silent:g} s of silence", "answers", ", ".join(good) or "no answer", good == points)
        for point, value in device.after.items():
            found = value_of(lines.get(f"{name}.{point}", ""))
            note(f"{name}.{point} after silence", str(value), found, same(found, value))


def same(found: str, wanted: object) -> bool:
    """Return whether a value as a tool prints it is ``wanted``: ``on``, ``5 s``, or ``full speed (4)`` for a code."""
    if isinstance(wanted, bool):
        return found == ("on" if wanted else "off")
    code = re.search(r"\((\d+)\)$", found)
    shown = code[1] if code else found.split(" ", maxsplit=1)[0]
    try:
        return float(shown) == float(str(wanted))
    except ValueError:
        return found == str(wanted)


async def failover(session: Session) -> None:
    """The controller is killed and started again: it takes over, and no machine stops."""
    bench, note = session.bench, session.journal.note
    monitor = session.monitor()
    monitor.start()
    try:
        await bench.start_controller()
        normal = await session.watch(["NORMAL"], monitor, NORMAL_MAX_S)
        if not note("the pod starts", f"NORMAL within {NORMAL_MAX_S:g} s", monitor.picture.mode, normal):
            return
        before, mark = session.running(monitor.picture), bench.record.clock()
        await bench.kill_controller()
        monitor.picture.documents.pop("state", None)
        await bench.start_controller()
        back = await session.watch(["NORMAL"], monitor, BACK_MAX_S)
        cause = str(monitor.picture.table("state").get("cause", ""))
        note("killed and started again", f"NORMAL within {BACK_MAX_S:g} s", f"{monitor.picture.mode}: {cause}", back)
        after = session.running(monitor.picture)
        stopped = [name for name, ran in before.items() if ran and not after[name]]
        note("machines run on", "those that ran", ", ".join(stopped) or "those that ran", not stopped)
        stops = [f"{event.device} {event.kind}" for event in bench.record.stops(mark)]
        note("no emulated machine was told to stop", "none", ", ".join(stops) or "none", not stops)
    finally:
        await monitor.stop()


async def soak(session: Session) -> None:
    """The controller runs for long: no late scan, no silent device, hardly a timeout."""
    bench, note = session.bench, session.journal.note
    monitor = session.monitor()
    monitor.start()
    try:
        process = await bench.start_controller()
        normal = await session.watch(["NORMAL"], monitor, NORMAL_MAX_S)
        note("the pod starts", f"NORMAL within {NORMAL_MAX_S:g} s", monitor.picture.mode, normal)
        try:
            async with asyncio.timeout(session.seconds):
                await process.wait()
        except TimeoutError:
            pass
        picture = monitor.picture
        alive = process.returncode is None
        note(
            f"runs for {session.seconds:g} s",
            "does not end",
            "runs" if alive else f"ended: {process.returncode}",
            alive,
        )
        silent = [device.name for device in session.devices if picture.value(device.name, "comms") is False]
        note("devices under test answer", "all", ", ".join(silent) or "all", not silent)
        for bus in dict.fromkeys(device.bus for device in session.devices):
            asked, lost = (picture.number(bus, name) or 0.0 for name in ("transactions", "timeouts"))
            share = 1e6 * lost / asked if asked else float("inf")
            bar = f"at most {TIMEOUTS_PER_MILLION_MAX:g} timeouts in a million"
            note(f"bus {bus}", bar, f"{lost:.0f} in {asked:.0f}", share <= TIMEOUTS_PER_MILLION_MAX)
    finally:
        await monitor.stop()


@dataclass(frozen=True, slots=True)
class Procedure:
    title: str
    steps: Callable[[Session], Awaitable[None]]
    seconds: float = 0.0
    moves: bool = False


PROCEDURES: Mapping[str, Procedure] = {
    "1_link": Procedure("every wire carries frames", link),
    "2_identify": Procedure("every device is what the plan says", identify),
    "3_read": Procedure("every point can be read", read),
    "4_write": Procedure("outputs take a value and give it back", write),
    "5_commloss": Procedure("devices do what they must on a silent bus", commloss, seconds=5.0),
    "6_failover": Procedure("a killed controller takes over without a stop", failover, moves=True),
    "7_soak": Procedure("hours of running without a fault", soak, seconds=3600.0, moves=True),
}


async def carry_out(name: str, path: Path, seconds: float | None, *, dry: bool) -> Journal:
    """Run one procedure and return its record.

    Raises:
        ConfigError: the bench file or its enclosure can't be used.
    """
    procedure, wiring = PROCEDURES[name], read_bench(path)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    journal = Journal(name, procedure.title, path.name, dry, commit(), started)
    async with MixedBench(path, wiring, dry=dry) as bench:
        session = Session(bench, Desk(bench), journal, procedure.seconds if seconds is None else seconds)
        try:
            if await session.preconditions():
                journal.phase = "step"
                await procedure.steps(session)
        except (TimeoutError, OSError) as error:
            journal.note("goes on", "no tool hangs or fails to start", f"{type(error).__name__}: {error}", False)
        finally:
            await session.teardown(moved=procedure.moves)
    return journal


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``procedure`` to the bench's command line."""
    parser = commands.add_parser("procedure", help="carry out a numbered procedure on a bench with real devices")
    parser.add_argument("name", choices=list(PROCEDURES))
    parser.add_argument("--bench", type=Path, default=BENCH_FILE, metavar="FILE", help="default: hil/bench.toml")
    parser.add_argument("--dry-run", action="store_true", help="with emulators in the place of the real devices")
    parser.add_argument("--seconds", type=float, help="how long to be silent in a dry run, or to soak")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the record")
    parser.set_defaults(run=_procedure)


def _procedure(options: argparse.Namespace) -> int:
    try:
        journal = asyncio.run(carry_out(options.name, options.bench, options.seconds, dry=options.dry_run))
    except ConfigError as error:
        print(f"hil: the bench can't be used:\n{error}", file=sys.stderr)
        return 1
    print(f"{journal.procedure}: {journal.verdict}, {journal.write(options.out)}")
    return 0 if journal.verdict == "pass" else 1
