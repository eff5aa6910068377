"""Every profile's golden vectors over a real socket and a real line, read by masters that know nothing of us."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from controller.config.profile import Golden, Profile, Row, load_profile
from controller.core.points import Kind, Quality
from controller.fieldbus.codec import decode
from hil.bench import libmodbus
from hil.bench.result import Missing
from hil.devices.alone import device_plan
from hil.devices.emulator import Behaviour, Emulator
from hil.record import Record
from hil.runner import REFERENCE_POD
from hil.wire.rtu import RtuLine
from hil.wire.tcp import LOOPBACK, TcpBus

pytestmark = [pytest.mark.peer, pytest.mark.timeout(110)]
needs_mbpoll = pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs the Debian package mbpoll")
PROFILES = [load_profile(path) for path in sorted((REFERENCE_POD.parents[1] / "devices").glob("*.toml"))]
BAUD, LINE_UNITS = 115200, 40
MBPOLL_TABLES = {"coil": "0", "discrete": "1", "input": "3", "holding": "4"}


@dataclass(frozen=True, slots=True)
class Span:
    """One read of a point, and the words a golden vector gives for it. ``told``: which bits of them it is about."""

    unit: int
    name: str
    row: Row
    words: list[int]
    told: int
    value: object


def known(golden: Golden, table: str) -> dict[int, int]:
    spans: Mapping[str, Mapping[str, list[int]]] = {
        "holding": golden.holding,
        "input": golden.input,
        "coil": golden.coil,  # type: ignore[dict-item]
        "discrete": golden.discrete,  # type: ignore[dict-item]
    }
    return {int(start) + at: int(word) for start, words in spans[table].items() for at, word in enumerate(words)}


def told(row: Row) -> int:
    """Return which bits of the row's words its value decides."""
    if row.table in ("coil", "discrete"):
        return 1
    if row.kind is Kind.FLAG:
        return 1 << row.bit if row.bit is not None else row.mask
    from hil.devices.encoder import told as bits

    return (1 << 16 * row.value_words) - 1 if row.type == "text" else bits(row)[0]


def spans_of(profile: Profile, golden: Golden, unit: int) -> Iterator[Span]:
    for name, value in golden.values.items():
        row = profile.rows[name]
        words = known(golden, row.table)
        addresses = range(row.address, row.address + row.width)
        if value == "bad" or row.access == "w" or not all(at in words for at in addresses):
            continue
        if profile.name == "eastron_sdm630" and row.width % 2:
            continue  # refuses an odd number of registers; tests/hil/devices_test.py has that
        if row.on is not None and row.off is None and not value:
            continue  # any other word would do
        yield Span(unit, name, row, [words[at] for at in addresses], told(row), value)


def golden_units() -> tuple[dict[int, Emulator], list[Span]]:
    """Return one emulated device for each golden vector, showing its values, and what is to be read of them."""
    units, spans = dict[int, Emulator](), list[Span]()
    vectors = [(profile, golden) for profile in PROFILES for golden in profile.tables.golden]
    for unit, (profile, golden) in enumerate(vectors, 1):
        emulator = Emulator(device_plan(profile, unit), Behaviour(), Record())
        emulator.device_time_s = 0.0
        found = list(spans_of(profile, golden, unit))
        for span in sorted(found, key=lambda span: -span.told.bit_count()):
            if span.row.scale_from is not None:  # the factor is a register of its own, chosen by the device
                emulator.banks[span.row.table][span.row.scale_from] = span.words[-1]
        for span in found:
            emulator.force(span.name, span.value)  # type: ignore[arg-type]
        units[unit] = emulator
        spans += found
    assert len(units) <= 247, "more golden vectors than unit ids: take a second bus"
    return units, spans


def wrong(spans: list[Span], read: list[list[int]]) -> list[str]:
    """Return where what was read is not what the golden vector says, in words or in meaning."""
    found = []
    for span, words in zip(spans, read, strict=True):
        where = f"unit {span.unit} {span.name} at {span.row.table} {span.row.address}: {words}, golden {span.words}"
        if len(words) != len(span.words):
            found.append(where)
            continue
        own = span.row.value_words
        bits, golden = (int("".join(f"{word:016b}" for word in some[:own]), 2) for some in (words, span.words))
        plain = span.row.word_order == "big" and span.row.byte_order == "big"
        mask = span.told if plain or own == 1 else (1 << 16 * own) - 1
        if (bits ^ golden) & mask:
            found.append(where)
        reading = decode(span.row, words, 0.0)
        if reading.quality is not Quality.GOOD or reading.value != pytest.approx(span.value):
            found.append(f"{where}, which means {reading.value}")
    return found


async def by_libmodbus(place: tuple[str, ...], spans: list[Span], folder: Path) -> list[list[int]]:
    try:
        reader = libmodbus.compiled("libmodbus_reader", folder)
    except Missing as missing:
        pytest.skip(f"needs {missing}")
    process = await asyncio.create_subprocess_exec(
        str(reader), *place, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    asked = "".join(f"{span.unit} {span.row.table} {span.row.address} {span.row.width}\n" for span in spans)
    said, _ = await process.communicate(asked.encode())
    assert process.returncode == 0
    lines = said.decode().splitlines()
    assert not [line for line in lines if line.startswith("!")]
    return [[int(word) for word in line.split()] for line in lines]


async def by_pymodbus(client: AsyncModbusTcpClient | AsyncModbusSerialClient, spans: list[Span]) -> list[list[int]]:
    assert await client.connect()
    asks = {
        "coil": client.read_coils, "discrete": client.read_discrete_inputs,
        "input": client.read_input_registers, "holding": client.read_holding_registers,
    }  # fmt: skip
    found = []
    for span in spans:
        reply = await asks[span.row.table](span.row.address, count=span.row.width, device_id=span.unit)
        bits = span.row.table in ("coil", "discrete")
        found.append([int(bit) for bit in reply.bits[: span.row.width]] if bits else list(reply.registers))
    client.close()
    return found


async def by_mbpoll(port: int, span: Span) -> list[int]:
    row = span.row
    process = await asyncio.create_subprocess_exec(
        "mbpoll", "-0", "-1", "-q", "-m", "tcp", "-p", str(port), "-a", str(span.unit), "-t", MBPOLL_TABLES[row.table],
        "-r", str(row.address), "-c", str(row.width), LOOPBACK,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    return [int(word) for word in re.findall(r"^\[\d+\]:\s+(\d+)", said, re.MULTILINE)]


async def test_golden_vectors_over_a_socket(tmp_path: Path) -> None:
    units, spans = golden_units()
    assert {emulator.plan.profile.name for emulator in units.values()} == {profile.name for profile in PROFILES}
    assert len(spans) > 500
    bus = TcpBus(units)
    await bus.start()
    try:
        first = await by_libmodbus(("tcp", str(bus.port)), spans, tmp_path)
        assert wrong(spans, first) == []
        assert await by_pymodbus(AsyncModbusTcpClient(LOOPBACK, port=bus.port), spans) == first
        assert wrong(spans, [[word ^ 0x5A for word in words] for words in first]), "the comparison sees a wrong word"
    finally:
        await bus.stop()


@needs_mbpoll
async def test_golden_vectors_by_mbpoll() -> None:
    units, spans = golden_units()
    widest = [max((span for span in spans if span.unit == unit), key=lambda span: span.row.width, default=None)
              for unit in units]  # fmt: skip
    chosen = [span for span in widest if span is not None]
    bus = TcpBus(units)
    await bus.start()
    try:
        read = [await by_mbpoll(bus.port, span) for span in chosen]
    finally:
        await bus.stop()
    assert wrong(chosen, read) == []


async def test_golden_vectors_over_a_line(tmp_path: Path) -> None:
    units, spans = golden_units()
    chosen = [span for unit in units for span in [one for one in spans if one.unit == unit][:2]]
    line = RtuLine(units, BAUD, tmp_path / "line")
    await line.start()
    try:
        first = await by_libmodbus(("rtu", str(line.link), str(BAUD)), chosen, tmp_path)
        assert wrong(chosen, first) == []
        client = AsyncModbusSerialClient(str(line.link), baudrate=BAUD, stopbits=2, parity="N", retries=0, timeout=2)
        assert await by_pymodbus(client, chosen) == first
        assert line.counters.crc_errors == 0
    finally:
        await line.stop()
