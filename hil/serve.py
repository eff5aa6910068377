"""``python -m hil serve PROFILE``: one emulated device on a socket or a serial line, for mbpoll and other tools."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from controller.config.problems import ConfigError
from controller.config.profile import Profile, load_profile
from hil.devices.alone import Alone, alone
from hil.runner import REFERENCE_POD, Bus
from hil.wire.gateway import Gateway
from hil.wire.rtu import SPEEDS, RtuLine
from hil.wire.tcp import LOOPBACK, TcpBus

PROFILES = REFERENCE_POD.parents[1] / "devices"
PORT = 5020  # 502 needs a privilege
BAUD = 19200
UNITS = range(1, 248)
TABLES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}  # as mbpoll counts them
GOOD, BAD = 0, 1
BEHIND_MAX_S = 1.0


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``serve`` to the bench's command line."""
    serve = commands.add_parser("serve", help="one emulated device on a socket or a serial line, on loopback")
    serve.add_argument("profile", metavar="PROFILE", help="a device profile by its name, or the path of one")
    serve.add_argument("--port", type=int, help=f"Modbus TCP on this port; without any of these three: {PORT}")
    serve.add_argument("--pty", type=Path, metavar="PATH", help="Modbus RTU on a pseudo-terminal that PATH leads to")
    serve.add_argument("--gateway", type=int, metavar="PORT", help="Modbus RTU in TCP, behind a device server")
    serve.add_argument("--unit", type=int, default=1, help="unit id, 1 to 247; default: %(default)s")
    serve.add_argument("--baud", type=int, default=BAUD, help="of the serial line; default: %(default)s")
    serve.set_defaults(run=_serve)


def find(name: str) -> Profile:
    """Return a profile by its name in profiles/devices or by its path.

    Raises:
        ConfigError: with every mistake in the file.
        FileNotFoundError: there is none; says which there are.
    """
    path = Path(name) if name.endswith(".toml") else PROFILES / f"{name}.toml"
    if not path.is_file():
        raise FileNotFoundError(
            f"{name}: no such profile; there are: {', '.join(sorted(p.stem for p in PROFILES.glob('*.toml')))}"
        )
    return load_profile(path)


def buses_of(device: Alone, options: argparse.Namespace) -> list[Bus]:
    """Return the buses that the command asks for, each with the device as its only unit."""
    units = {options.unit: device.emulator}
    found: list[Bus] = []
    if options.pty is not None:
        found.append(RtuLine(units, options.baud, options.pty))
    if options.gateway is not None:
        found.append(Gateway(units, options.baud, port=options.gateway))
    if options.port is not None or not found:
        found.append(TcpBus(units, port=PORT if options.port is None else options.port))
    return found


@asynccontextmanager
async def served(device: Alone, buses: Sequence[Bus]) -> AsyncIterator[None]:
    """Let the device live on its buses."""
    started: list[Bus] = []
    life = asyncio.create_task(_live(device), name="device")
    try:
        for bus in buses:
            await bus.start()
            started.append(bus)
        yield
    finally:
        life.cancel()
        await asyncio.gather(life, return_exceptions=True)
        for bus in started:
            await bus.stop()


async def _live(device: Alone) -> None:
    deadline = time.monotonic()
    while True:
        deadline += device.step_s
        if time.monotonic() - deadline > BEHIND_MAX_S:
            deadline = time.monotonic()
        await asyncio.sleep(deadline - time.monotonic())
        device.step()


def told(device: Alone, bus: Bus) -> str:
    """Return how a technician reaches the device there."""
    rows = [row for row in device.emulator.rows.values() if row.table in TABLES]
    first = min(rows, key=lambda row: row.address)
    how = f"-a {device.emulator.unit} -0 -r {first.address} -c {first.value_words} -t {TABLES[first.table]} -1"
    if isinstance(bus, RtuLine):
        return f"RTU, {bus.baud} Bd, on {bus.link}: mbpoll -m rtu -b {bus.baud} -P none {how} {bus.link}"
    if isinstance(bus, Gateway):
        return f"RTU in TCP on {LOOPBACK}:{bus.port}, for a bus of kind rtu_over_tcp"
    return f"TCP on {LOOPBACK}:{bus.port}: mbpoll -m tcp -p {bus.port} {how} {LOOPBACK}"


def _serve(options: argparse.Namespace) -> int:
    wrong = ""
    if options.unit not in UNITS:
        wrong = f"--unit {options.unit}; allowed: {UNITS[0]} to {UNITS[-1]}"
    elif options.baud not in SPEEDS.values():
        wrong = f"--baud {options.baud}; allowed: {', '.join(map(str, SPEEDS.values()))}"
    if wrong:
        print(f"serve: {wrong}", file=sys.stderr)
        return BAD
    try:
        device = alone(find(options.profile), options.unit)
        asyncio.run(_until_told(device, buses_of(device, options)))
    except (ConfigError, OSError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return BAD
    return GOOD


async def _until_told(device: Alone, buses: Sequence[Bus]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with served(device, buses):
        for bus in buses:
            print(told(device, bus), flush=True)
        await ended.wait()
