"""What goes wrong on the wire when it is asked to, and the device server that queues."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from controller.config.enclosure import Bus
from controller.fieldbus import frames
from controller.fieldbus.client import made
from controller.fieldbus.frames import LinkError, NoReply, Refused, WrongReply
from controller.fieldbus.link import Link
from hil.wire.faults import UnitFaults
from hil.wire.gateway import Gateway
from hil.wire.rtu import RtuLine, crc16, with_crc
from hil.wire.tcp import LOOPBACK, TcpBus
from tests.hil.wire_test import ANSWER, READ_ONE, RawMaster, Slave

BAUD = 19200


@dataclass
class Faulty(Slave):
    faults: UnitFaults = field(default_factory=UnitFaults)


@asynccontextmanager
async def line_of(folder: Path, baud: int = BAUD) -> AsyncIterator[tuple[RtuLine, Faulty, RawMaster]]:
    unit = Faulty()
    line = RtuLine({1: unit}, baud, folder / "line")
    await line.start()
    master = RawMaster(line.link)
    try:
        yield line, unit, master
    finally:
        master.close()
        await line.stop()


async def heard(master: RawMaster, count: int, within_s: float = 1.0) -> tuple[bytes, float]:
    """Return the next ``count`` bytes, or what came of them, and how long that took."""
    found, begun = b"", time.monotonic()
    while len(found) < count and (more := await master.answer(begun + within_s - time.monotonic())):
        found += more
    return found, time.monotonic() - begun


async def understood(line: RtuLine, master: RawMaster, tries: int) -> int:
    """Return how many of ``tries`` requests were answered by a whole frame."""
    good = 0
    for _ in range(tries):
        master.send(READ_ONE)
        answer, _ = await heard(master, len(ANSWER), 0.06)
        good += answer == ANSWER
        await asyncio.sleep(2 * line.silence_s)
    return good


# ---------------------------------------------------------------- serial lines


@pytest.mark.parametrize(("name", "share"), [("noise", 1.0), ("dropped", 1.0), ("merged", 0.5)])
async def test_damage_destroys_frames_and_is_over_when_it_ends(name: str, share: float, tmp_path: Path) -> None:
    async with line_of(tmp_path, 115200) as (line, _, master):
        setattr(line.faults, name, share)
        assert await understood(line, master, 8) == 0
        line.faults.noise = line.faults.dropped = line.faults.merged = 0.0
        await asyncio.sleep(0.05)
        assert await understood(line, master, 4) == 4


async def test_noise_turns_one_bit_of_its_share_of_the_frames(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, _, _master):
        line.faults.noise = 0.3
        turned = [int.from_bytes(line._damaged(ANSWER)) ^ int.from_bytes(ANSWER) for _ in range(1000)]
        assert {bits.bit_count() for bits in turned} == {0, 1}
        assert sum(bits != 0 for bits in turned) == pytest.approx(300, abs=60)


async def test_bytes_dribble(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, _, master):
        line.faults.dribble_s = 0.02
        master.send(READ_ONE)
        answer, took_s = await heard(master, len(ANSWER))
        assert answer == ANSWER
        assert took_s > 0.02 * (len(ANSWER) - 1)
        assert master.received.empty()


async def test_an_adapter_that_echoes(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, _, master):
        line.faults.echo = True
        master.send(READ_ONE)
        assert (await heard(master, len(READ_ONE + ANSWER)))[0] == READ_ONE + ANSWER


async def test_an_adapter_with_a_latency_timer(tmp_path: Path) -> None:
    async with line_of(tmp_path, 115200) as (line, _, master):
        line.faults.latency_s = 0.1
        at = []
        for _ in range(3):
            master.send(READ_ONE)
            assert (await heard(master, len(ANSWER)))[0] == ANSWER
            at.append(time.monotonic() % 0.1)
        assert all(late < 0.05 for late in at), "what comes in between waits for the adapter's next tick"


async def test_a_babbling_unit(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, _, master):
        line.faults.babble_s = 0.02
        said, _ = await heard(master, 40, 2.0)
        assert len(said) >= 40
        line.faults.babble_s = 0.0


async def test_units_at_another_rate_understand_nothing(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, _, master):
        line.faults.baud = 9600
        assert await understood(line, master, 2) == 0
        assert line.counters.crc_errors == 2
        line.faults.baud = 0
        assert await understood(line, master, 2) == 2


async def test_two_units_with_one_id_collide(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (_, unit, master):
        unit.faults.twin = True
        answers = set()
        for _ in range(12):
            master.send(READ_ONE)
            answers.add((await heard(master, 2 * len(ANSWER), 0.05))[0])
        assert ANSWER not in answers
        assert ANSWER + ANSWER in answers, "one right after the other"
        assert any(len(ANSWER) < len(answer) < 2 * len(ANSWER) and crc16(answer) for answer in answers), "both at once"


async def test_a_unit_answers_late_under_another_id_or_what_was_asked_before(tmp_path: Path) -> None:
    async with line_of(tmp_path) as (line, unit, master):
        unit.faults.reply_delay_s = 0.1
        master.send(READ_ONE)
        answer, took_s = await heard(master, len(ANSWER))
        assert (answer, took_s > 0.1) == (ANSWER, True)
        unit.faults.reply_delay_s, unit.faults.answers_as = 0.0, 9
        await asyncio.sleep(2 * line.silence_s)
        master.send(READ_ONE)
        assert (await heard(master, len(ANSWER)))[0] == with_crc(b"\x09" + ANSWER[1:-2])
        unit.faults.answers_as, unit.faults.stale_reply = 0, True
        await asyncio.sleep(2 * line.silence_s)
        master.send(with_crc(bytes.fromhex("010300060001")))
        assert (await heard(master, len(ANSWER)))[0] == with_crc(b"\x09" + ANSWER[1:-2]), "its last frame once more"


# ---------------------------------------------------------------- TCP


@asynccontextmanager
async def socket_of() -> AsyncIterator[tuple[TcpBus, Faulty, Link]]:
    unit = Faulty()
    bus = TcpBus({1: unit})
    await bus.start()
    link = made(tcp_settings("tcp", bus.port))
    await link.open()
    try:
        yield bus, unit, link
    finally:
        await link.close()
        await bus.stop()


def tcp_settings(kind: str, port: int) -> Bus:
    more = {} if kind == "tcp" else {"baud": BAUD}
    return Bus(kind=kind, host=LOOPBACK, port=port, timeout_ms=300, write_budget_ms=300, **more)  # type: ignore[arg-type]


async def read(link: Link, address: int = 5, unit: int = 1, timeout_s: float = 0.3) -> list[int]:
    request = frames.read(unit, "holding", address, 1)
    return request.values(await link.exchange(request, timeout_s))


async def test_replies_that_are_not_for_this_request_are_no_values() -> None:
    async with socket_of() as (_, unit, link):
        assert await read(link) == [5]
        for name, value in (("answers_as", 7), ("stale_reply", True)):
            setattr(unit.faults, name, value)
            with pytest.raises((NoReply, WrongReply)):
                await read(link, 6, timeout_s=0.1)
            setattr(unit.faults, name, type(value)(0))
        assert await read(link, 7) == [7]


async def opened_and_read(link: Link) -> list[int]:
    await link.open()
    return await read(link)


async def test_a_connection_that_is_reset_and_one_beyond_the_limit() -> None:
    async with socket_of() as (bus, unit, link):
        unit.faults.reset = True
        with pytest.raises((LinkError, NoReply)):
            await read(link)
        unit.faults.reset = False
        await link.close()
        await link.open()
        assert await read(link) == [5]
        bus.faults.connection_limit = 1
        other = made(tcp_settings("tcp", bus.port))
        with pytest.raises((LinkError, NoReply)):
            await opened_and_read(other)
        await other.close()
        assert await read(link) == [5], "the first is left alone"


async def test_half_open_takes_and_never_answers_and_dribbling_still_arrives() -> None:
    async with socket_of() as (bus, unit, link):
        bus.faults.half_open = True
        with pytest.raises(NoReply):
            await read(link, timeout_s=0.1)
        bus.faults.half_open, bus.faults.dribble_s = False, 0.005
        begun = time.monotonic()
        assert await read(link, timeout_s=1.0) == [5]
        assert time.monotonic() - begun > 0.04
        bus.faults.dribble_s, unit.refusal = 0.0, 6
        with pytest.raises(Refused) as refused:
            await read(link)
        assert refused.value.code == 6


# ---------------------------------------------------------------- device server


@asynccontextmanager
async def gateway_of() -> AsyncIterator[tuple[Gateway, dict[int, Faulty], Link]]:
    units = {1: Faulty(), 2: Faulty()}
    gateway = Gateway(units, BAUD, wait_s=0.25)
    await gateway.start()
    link = made(tcp_settings("rtu_over_tcp", gateway.port))
    await link.open()
    try:
        yield gateway, units, link
    finally:
        await link.close()
        await gateway.stop()


async def test_device_server_carries_frames_in_the_time_of_its_line() -> None:
    async with gateway_of() as (gateway, units, link):
        begun = time.monotonic()
        for address in range(10):
            assert await read(link, address) == [address]
        assert time.monotonic() - begun > 10 * 15 * gateway.line.character_s
        await link.exchange(frames.write(2, "holding", 3, [77]), 0.3)
        assert units[2].words[3] == 77
        assert gateway.requests == 11


async def test_one_dead_unit_stalls_the_others_masters() -> None:
    async with gateway_of() as (gateway, units, link):
        units[2].silent = True
        other = made(tcp_settings("rtu_over_tcp", gateway.port))
        await other.open()
        dead = asyncio.create_task(read(other, unit=2, timeout_s=0.5))
        while gateway.requests == 0:  # noqa: ASYNC110  it counts in this loop
            await asyncio.sleep(0)
        begun = time.monotonic()
        assert await read(link, timeout_s=0.5) == [5]
        assert time.monotonic() - begun > 0.2, "the server asks one unit at a time and waits for it"
        with pytest.raises(NoReply):
            await dead
        await other.close()


async def test_device_server_has_faults_of_socket_and_of_line() -> None:
    async with gateway_of() as (gateway, _, link):
        gateway.faults.noise = 1.0
        with pytest.raises(NoReply):
            await read(link)
        gateway.faults.noise = 0.0
        assert await read(link) == [5]
        gateway.tcp_faults.half_open = True
        with pytest.raises(NoReply):
            await read(link, timeout_s=0.1)
        gateway.tcp_faults.half_open = False
        gateway.reset_connections()
        with pytest.raises((LinkError, NoReply)):
            await read(link)
        await gateway.unplug()
        await link.close()
        with pytest.raises(LinkError):
            await link.open()
        await gateway.replug()
        await link.open()
        assert await read(link) == [5]


async def test_a_queue_that_is_full_drops_and_counts() -> None:
    async with gateway_of() as (gateway, units, _):
        units[1].silent = True
        _, writer = await asyncio.open_connection(LOOPBACK, gateway.port)
        writer.write(READ_ONE * 40)
        while gateway.dropped == 0:  # noqa: ASYNC110  it counts in this loop
            await asyncio.sleep(0)
        assert gateway.dropped == 40 - 1 - 32
        writer.close()
        await writer.wait_closed()


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A line that comes and goes a hundred times leaves nothing behind."""

    async def come_and_go() -> None:
        for _ in range(50):
            line = RtuLine({1: Faulty()}, BAUD, tmp_path / "line")
            await line.start()
            await line.stop()
            gateway = Gateway({1: Faulty()}, BAUD)
            await gateway.start()
            await gateway.stop()

    asyncio.run(come_and_go())
    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(come_and_go())
    assert len(os.listdir("/proc/self/fd")) == before
