"""Our Modbus against others': our link to libmodbus's and pymodbus's servers, mbpoll to our emulators."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from controller.config.profile import Row
from controller.core.points import Value
from controller.fieldbus import frames
from controller.fieldbus.client import made
from controller.fieldbus.codec import decode, encode
from controller.fieldbus.frames import Refused, Request
from controller.fieldbus.link import Link
from hil.bench import libmodbus, plans
from hil.bench.result import Missing
from hil.bench.slave import Words
from hil.devices.emulator import Emulator
from hil.runner import Bench, free_port
from hil.wire.rtu import RtuLine
from hil.wire.tcp import LOOPBACK, TcpBus

pytestmark = [pytest.mark.peer, pytest.mark.timeout(60)]
UNIT, TIMEOUT_S, SIZE = 1, 2.0, 2000
needs_mbpoll = pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs the Debian package mbpoll")
needs_socat = pytest.mark.skipif(not shutil.which("socat"), reason="needs the Debian package socat")

TYPES: Sequence[tuple[dict[str, object], Value]] = [
    ({"type": "int16"}, -12345.0),
    ({"type": "uint16", "scale": 0.1}, 6553.5),
    ({"type": "int32"}, -2_000_000_000.0),
    ({"type": "uint32", "word_order": "little"}, 4_000_000_001.0),
    ({"type": "int64"}, -(2.0**52)),
    ({"type": "uint64", "word_order": "little"}, 2.0**53),
    ({"type": "float32"}, 21.5),
    ({"type": "float32", "word_order": "little"}, -0.375),
    ({"type": "float16"}, 0.333251953125),
    ({"type": "float64"}, 1.1),
    ({"type": "float64", "word_order": "swapped_pairs"}, -1.1),
    ({"type": "float64", "word_order": "swapped_halves", "byte_order": "little"}, 1e-9),
    ({"type": "int24"}, -8_000_000.0),
    ({"type": "uint24", "word_order": "little"}, 16_000_001.0),
    ({"type": "int48"}, -(2.0**46) - 1),
    ({"type": "uint48"}, 2.0**47 + 1),
    ({"type": "bcd16"}, 9042.0),
    ({"type": "bcd32"}, 12_345_678.0),
    ({"type": "bcd64"}, 1_234_567_890_123_456.0),
    ({"type": "uint16", "enum": {"0": "off", "7": "seven"}}, 7),
    ({"type": "uint16", "on": 0x0102, "off": 0}, True),
]

# What can only be read: the words that stand there, and what they mean.
READ_ONLY: Sequence[tuple[dict[str, object], list[int], Value]] = [
    ({"type": "uint8h"}, [0xAB01], 171.0),
    ({"type": "uint8l"}, [0xAB01], 1.0),
    ({"type": "int8h"}, [0xFE01], -2.0),
    ({"type": "int8l"}, [0x01FE], -2.0),
    ({"type": "uint16", "field": [4, 3]}, [0x0050], 5.0),
    ({"type": "int16", "scale_from": 1702}, [0xFFFF, 0x0000, 0xFFFE], -0.01),
    ({"type": "text", "words": 3}, [0x5044, 0x3230, 0x0000], "PD20"),
    ({"type": "text", "words": 2, "lane": "low"}, [0x0041, 0x0042], "AB"),
    ({"type": "uint16", "bit": 3}, [0x0008], True),
    ({"type": "uint16", "bits": {"0": "hot", "9": "dry"}}, [0x0201], 0x0201),
    ({"type": "uint16", "on": 2, "off": 1}, [2], True),
]


@pytest.fixture(scope="module")
def libmodbus_port() -> Iterator[int]:
    try:
        with libmodbus.server() as port:
            yield port
    except Missing as missing:
        pytest.skip(f"needs {missing}")


@contextlib.asynccontextmanager
async def opened(link: Link) -> AsyncIterator[Link]:
    await link.open()
    try:
        yield link
    finally:
        await link.close()


async def asked(link: Link, request: Request) -> list[int]:
    return request.values(await link.exchange(request, TIMEOUT_S))


def pymodbus_device() -> SimDevice:
    """A unit with 2000 of everything: bits that are on where the address is a multiple of three, registers as ours."""
    bits = [[address % 3 == 0 for address in range(SIZE)] for _ in range(2)]
    words = [[plans.word(UNIT, address) for address in range(SIZE)] for _ in range(2)]
    coils, discretes = (SimData(0, values=held, datatype=DataType.BITS) for held in bits)
    holding, inputs = (SimData(0, values=held, datatype=DataType.REGISTERS) for held in words)
    return SimDevice(UNIT, simdata=([coils], [discretes], [holding], [inputs]))


@contextlib.asynccontextmanager
async def pymodbus_tcp() -> AsyncIterator[int]:
    port = free_port()
    server = ModbusTcpServer(pymodbus_device(), address=(LOOPBACK, port))
    await server.serve_forever(background=True)
    try:
        yield port
    finally:
        await server.shutdown()


@contextlib.asynccontextmanager
async def null_modem(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """Two serial ports joined by socat."""
    ends = folder / "a", folder / "b"
    process = await asyncio.create_subprocess_exec("socat", *(f"pty,raw,echo=0,link={end}" for end in ends))
    try:
        async with asyncio.timeout(5):
            while not all(end.exists() for end in ends):  # noqa: ASYNC110  another process makes them
                await asyncio.sleep(0.02)
        yield str(ends[0]), str(ends[1])
    finally:
        process.terminate()
        await process.wait()


async def all_functions(link: Link) -> None:
    """Use every function the controller uses, and have what is wrong refused."""
    for table in ("coil", "discrete"):
        for address, count in ((0, 1), (7, 19), (0, 2000)):
            bits = await asked(link, frames.read(UNIT, table, address, count))
            assert bits == [int(at % 3 == 0) for at in range(address, address + count)], (table, address, count)
    for table in ("holding", "input"):
        for address, count in ((0, 1), (17, 3), (100, 125)):
            words = await asked(link, frames.read(UNIT, table, address, count))
            assert words == [plans.word(UNIT, at) for at in range(address, address + count)], (table, address, count)
    await asked(link, frames.write(UNIT, "coil", 1, [1]))
    await asked(link, frames.write(UNIT, "coil", 3, [0]))
    assert await asked(link, frames.read(UNIT, "coil", 0, 6)) == [1, 1, 0, 0, 0, 0]
    await asked(link, frames.write(UNIT, "holding", 1500, [0xABCD]))
    await asked(link, frames.write(UNIT, "holding", 1501, [0x1234], multiple=True))
    await asked(link, frames.write(UNIT, "holding", 1502, list(range(100))))
    assert await asked(link, frames.read(UNIT, "holding", 1500, 102)) == [0xABCD, 0x1234, *range(100)]
    with pytest.raises(Refused, match="illegal data address"):
        await asked(link, frames.read(UNIT, "holding", SIZE, 1))
    with pytest.raises(Refused, match="illegal data address"):
        await asked(link, frames.write(UNIT, "holding", SIZE, [1]))


async def all_types(link: Link) -> None:
    """Write a value of every type and read it back as it was; of what can't be written, write the words."""
    for shape, value in TYPES:
        numeric = "on" not in shape and "enum" not in shape
        ranged = {"range": [-1e18, 1e18]} if numeric else {}
        row = Row.model_validate(
            {"table": "holding", "address": 1700, "access": "rw", "source": "test", **shape, **ranged}
        )
        for words in encode(row, value):
            await asked(link, frames.write(UNIT, "holding", row.address, words))
        back = await asked(link, frames.read(UNIT, "holding", row.address, row.width))
        assert decode(row, back, 0.0).value == pytest.approx(value), shape
    for shape, words, value in READ_ONLY:
        numeric = isinstance(value, float)
        row = Row.model_validate(
            {
                "table": "holding",
                "address": 1700,
                "source": "test",
                **shape,
                **({"range": [-1e18, 1e18]} if numeric else {}),
            }
        )
        await asked(link, frames.write(UNIT, "holding", row.address, words, multiple=True))
        back = await asked(link, frames.read(UNIT, "holding", row.address, row.width))
        read = decode(row, back, 0.0).value
        assert read == pytest.approx(value) if numeric else read == value, shape


async def test_libmodbus_server_all_functions(libmodbus_port: int) -> None:
    async with opened(made(plans.tcp(libmodbus_port))) as link:
        await all_functions(link)


async def test_libmodbus_server_all_types(libmodbus_port: int) -> None:
    async with opened(made(plans.tcp(libmodbus_port))) as link:
        await all_types(link)


async def test_pymodbus_tcp_server() -> None:
    async with pymodbus_tcp() as port, opened(made(plans.tcp(port))) as link:
        await all_functions(link)
        await all_types(link)


@needs_socat
async def test_pymodbus_rtu_server(tmp_path: Path) -> None:
    async with null_modem(tmp_path) as (theirs, ours):
        server = ModbusSerialServer(
            pymodbus_device(), framer=FramerType.RTU, port=theirs, baudrate=19200, stopbits=2, parity="N"
        )
        await server.serve_forever(background=True)
        try:
            async with opened(made(plans.serial(ours, 19200))) as link:
                await all_functions(link)
                await all_types(link)
        finally:
            await server.shutdown()


# ---------------------------------------------------------------- mbpoll as the master


async def mbpoll(place: Sequence[str], unit: int, table: str, address: int, *values: int, count: int = 1) -> list[int]:
    """Read ``count`` registers or bits, or write ``values``; return what was read."""
    tables = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}
    how = ("-c", str(count)) if not values else ()
    command = ("mbpoll", "-0", "-1", "-q", "-o", "2", "-a", str(unit), "-t", tables[table], "-r", str(address), *how)
    process = await asyncio.create_subprocess_exec(
        *command, *place, *map(str, values), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return [int(found) for found in re.findall(r"^\[\d+\]:\s+(\d+)", said, re.MULTILINE)]


def place_of(bus: TcpBus | RtuLine, baud: int) -> tuple[str, ...]:
    if isinstance(bus, TcpBus):
        return ("-m", "tcp", "-p", str(bus.port), LOOPBACK)
    return ("-m", "rtu", "-b", str(baud), "-P", "none", "-s", "2", str(bus.link))


def emulators(bench: Bench, kind: type) -> Iterator[tuple[Emulator, TcpBus | RtuLine, int]]:
    for plan in bench.plan.buses:
        bus = bench.buses[plan.name]
        if isinstance(bus, kind):
            for device in plan.devices:
                yield bench.emulators[device.name], bus, plan.settings.baud or 0


@needs_mbpoll
@pytest.mark.parametrize("kind", [TcpBus, RtuLine])
async def test_mbpoll_reads_and_writes_our_emulators(kind: type) -> None:
    done: set[str] = set()
    async with Bench() as bench:
        for emulator, bus, baud in emulators(bench, kind):
            place = place_of(bus, baud)
            for name, row in emulator.rows.items():
                if row.table in done or row.access == "w" or row.width != 1:
                    continue
                assert await mbpoll(place, emulator.unit, row.table, row.address) == [
                    emulator.banks[row.table][row.address]
                ], (emulator.name, name)
                done.add(row.table)
            writable = [
                (name, row)
                for name, row in emulator.rows.items()
                if row.access == "rw" and row.type == "uint16" and row.range is not None and row.table == "holding"
            ]
            if writable and "written" not in done:
                name, row = writable[0]
                assert row.range is not None
                word = round((row.range[1] - row.offset) / row.scale)
                await mbpoll(place, emulator.unit, row.table, row.address, word)
                assert bench.record.writes[f"{emulator.name}.{name}"] == 1
                done.add("written")
    assert {"holding", "written"} <= done or {"holding", "input"} <= done, done


@needs_socat
async def test_pymodbus_client_reads_our_line_through_socat(tmp_path: Path) -> None:
    """A line of ours is a port like any other: also for a client that gets at it through another program."""
    line = RtuLine({}, 19200, tmp_path / "line")
    await line.start()
    relay = await asyncio.create_subprocess_exec(
        "socat", f"pty,raw,echo=0,link={tmp_path / 'far'}", f"{line.link},raw,echo=0"
    )
    try:
        async with asyncio.timeout(5):
            while not (tmp_path / "far").exists():  # noqa: ASYNC110  another process makes it
                await asyncio.sleep(0.02)
        line.units = {UNIT: Words(UNIT, 0.001, moving=False)}
        client = AsyncModbusSerialClient(str(tmp_path / "far"), baudrate=19200, timeout=1.0, retries=0)
        assert await client.connect()
        reply = await client.read_holding_registers(3, count=4, device_id=UNIT)
        client.close()
        assert reply.registers == [plans.word(UNIT, at) for at in range(3, 7)]
    finally:
        relay.terminate()
        await relay.wait()
        await line.stop()
