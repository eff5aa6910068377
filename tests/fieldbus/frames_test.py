"""Requests, replies, and the reply path under everything a wire can bring."""

from __future__ import annotations

import asyncio
import os
import pty
import socket
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.config.enclosure import Bus
from controller.fieldbus import frames
from controller.fieldbus.client import RtuLink, RtuOverTcpLink
from controller.fieldbus.frames import LinkError, NoReply, Refused, Request, WrongReply
from controller.fieldbus.tcp import TcpLink
from hil.wire.rtu import with_crc

READ = frames.read(1, "holding", 100, 2)
REPLY = bytes((3, 4, 0, 11, 0, 22))
OTHER = frames.read(1, "holding", 500, 3)
OTHER_REPLY = bytes((3, 6, 0, 1, 0, 2, 0, 3))


def test_requests_as_the_specification_writes_them() -> None:
    """MODBUS Application Protocol V1.1b3, the examples of chapter 6."""
    assert frames.read(1, "coil", 19, 19).pdu.hex() == "0100130013"
    assert frames.read(1, "discrete", 196, 22).pdu.hex() == "0200c40016"
    assert frames.read(1, "holding", 107, 3).pdu.hex() == "03006b0003"
    assert frames.read(1, "input", 8, 1).pdu.hex() == "0400080001"
    assert frames.write(1, "coil", 172, [1]).pdu.hex() == "0500acff00"
    assert frames.write(1, "holding", 1, [3]).pdu.hex() == "0600010003"
    assert frames.write(1, "holding", 1, [10, 0x102]).pdu.hex() == "1000010002040 00a0102".replace(" ", "")


def test_replies_as_the_specification_writes_them() -> None:
    assert frames.read(1, "holding", 107, 3).values(bytes.fromhex("0306022b00000064")) == [555, 0, 100]
    coils = frames.read(1, "coil", 19, 19).values(bytes.fromhex("0103cd6b05"))
    assert coils == [1, 0, 1, 1, 0, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1]
    with pytest.raises(Refused) as caught:
        READ.values(bytes((0x83, 2)))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("code", "shorter_may_help"), [(1, False), (2, True), (3, True), (4, False), (6, False), (11, False), (64, True)]
)
def test_an_exception_says_whether_a_shorter_read_may_be_answered(code: int, *, shorter_may_help: bool) -> None:
    """64 is what Danfoss drives answer for an address they do not have (MG.11.B4.22 p.152)."""
    assert Refused(code).not_mapped is shorter_may_help


@given(st.binary(min_size=1, max_size=260))
def test_only_the_right_shape_answers(pdu: bytes) -> None:
    write = frames.write(1, "holding", 7, [42])
    for request in (READ, frames.read(1, "coil", 0, 9), write):
        if request.answers(pdu):
            exception = pdu[0] == request.function | 0x80 and len(pdu) == 2
            assert exception or (pdu[0] == request.function and len(pdu) == request.reply_bytes)
            if not exception and not request.count:
                assert pdu == write.pdu
            with suppress(Refused):
                assert len(request.values(pdu)) == request.count


class Wire:
    """The far end of a serial line: what is written here is what the link reads."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)

    def send(self, data: bytes) -> None:
        os.write(self.master, data)

    def heard(self) -> bytes:
        with suppress(BlockingIOError):
            return os.read(self.master, 4096)
        return b""

    def close(self) -> None:
        for descriptor in (self.master, self.slave):
            with suppress(OSError):
                os.close(descriptor)


class ServerWire(Wire):
    """The same behind a device server: a connection that carries the bytes."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.connection: socket.socket | None = None

    def accept(self) -> None:
        self.connection, _ = self.listening.accept()
        self.connection.setblocking(False)
        self.master = self.connection.fileno()

    def close(self) -> None:
        self.listening.close()
        if self.connection is not None:
            self.connection.close()


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[tuple[Wire, RtuLink]]:
    wire = Wire() if kind == "rtu" else ServerWire()
    if isinstance(wire, ServerWire):
        port = wire.listening.getsockname()[1]
        link: RtuLink = RtuOverTcpLink(
            Bus(kind="rtu_over_tcp", host="127.0.0.1", port=port, baud=115200, timeout_ms=50, write_budget_ms=100)
        )
    else:
        link = RtuLink(
            Bus(kind="rtu", port=wire.path, baud=115200, parity="none", stop_bits=2, timeout_ms=50, write_budget_ms=100)
        )
    await link.open()
    if isinstance(wire, ServerWire):
        wire.accept()
    try:
        yield wire, link
    finally:
        await link.close()
        wire.close()


@pytest.fixture(params=["rtu", "rtu_over_tcp"])
async def line(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Wire, RtuLink]]:
    async with opened(request.param) as both:
        yield both


async def asked(wire: Wire, link: RtuLink, request: Request, *answers: bytes, timeout_s: float = 0.05) -> bytes:
    """Run one exchange; the wire answers once the request has come."""
    running = asyncio.ensure_future(link.exchange(request, timeout_s))
    while not wire.heard():  # noqa: ASYNC110  the far end of a pty has no event
        await asyncio.sleep(0)
    for answer in answers:
        wire.send(answer)
    return await running


def frame(unit: int, pdu: bytes) -> bytes:
    return with_crc(bytes((unit,)) + pdu)


async def test_a_reply_in_pieces_is_put_together(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    whole = frame(1, REPLY)
    assert await asked(wire, link, READ, whole[:3], whole[3:]) == REPLY


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (frame(1, REPLY)[:-1] + b"\x00", "crc"),
        (frame(1, bytes((3, 2, 0, 11))), "wrong shape"),
        (frame(1, bytes((4, 4, 0, 11, 0, 22))), "timeout"),
        (frame(2, REPLY), "timeout"),
        (frame(1, REPLY)[:5], "timeout"),
        (b"", "timeout"),
    ],
)
async def test_what_does_not_answer_is_no_answer(line: tuple[Wire, RtuLink], answer: bytes, fault: str) -> None:
    wire, link = line
    with pytest.raises((NoReply, WrongReply)):
        await asked(wire, link, READ, answer)
    assert link.faults[fault] == 1


async def test_a_reply_behind_one_of_another_unit_is_found(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    assert await asked(wire, link, READ, frame(2, REPLY) + frame(1, REPLY)) == REPLY
    assert link.faults["wrong unit"] == 1


async def test_a_late_reply_of_the_same_shape_is_never_taken(line: tuple[Wire, RtuLink]) -> None:
    """The unit answers the first question while the second waits: the link does not even ask before it is safe."""
    wire, link = line
    loop = asyncio.get_running_loop()
    with pytest.raises(NoReply):
        await asked(wire, link, READ)
    same = frames.read(1, "holding", 500, 2)
    other = frames.read(1, "holding", 500, 3)
    assert link.free_at(same) > loop.time() + 2
    assert link.free_at(other) == 0
    late, answer = frame(1, REPLY), frame(1, bytes((3, 6, 0, 1, 0, 2, 0, 3)))
    assert await asked(wire, link, other, late + answer) == bytes((3, 6, 0, 1, 0, 2, 0, 3))
    assert link.faults["late"] == 1
    assert link.free_at(same) == 0, "it answered in turn, so it is in step again"


async def test_a_cancelled_request_leaves_its_shape_suspect(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    running = asyncio.ensure_future(link.exchange(READ, 30.0))
    while not wire.heard():  # noqa: ASYNC110  the far end of a pty has no event
        await asyncio.sleep(0)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert link.free_at(frames.read(1, "holding", 500, 2)) > asyncio.get_running_loop().time() + 2


async def test_a_late_exception_is_not_taken_for_another_request(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    with pytest.raises(NoReply):
        await asked(wire, link, READ)
    other = frames.read(1, "holding", 500, 3)
    answer = bytes((3, 6, 0, 1, 0, 2, 0, 3))
    assert await asked(wire, link, other, frame(1, bytes((0x83, 2))) + frame(1, answer)) == answer


async def test_a_late_echo_of_another_write_is_not_taken(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    first, second = frames.write(1, "holding", 7, [1]), frames.write(1, "holding", 7, [2])
    with pytest.raises(NoReply):
        await asked(wire, link, first)
    assert link.free_at(second) == 0, "a safety write never waits"
    assert await asked(wire, link, second, frame(1, first.pdu) + frame(1, second.pdu)) == second.pdu


async def test_a_repeated_write_answered_by_the_first_ones_echo_clears_no_suspicion(line: tuple[Wire, RtuLink]) -> None:
    """A heartbeat is the same write again and again: its echo does not tell that the unit is in step."""
    wire, link = line
    heartbeat = frames.write(1, "holding", 7, [1])
    for request in (heartbeat, READ):
        with pytest.raises(NoReply):
            await asked(wire, link, request)
    assert await asked(wire, link, heartbeat, frame(1, heartbeat.pdu)) == heartbeat.pdu
    assert link.free_at(READ) > 0
    assert await asked(wire, link, OTHER, frame(1, OTHER_REPLY)) == OTHER_REPLY
    assert link.free_at(READ) == 0


async def test_a_frame_of_another_unit_clears_no_suspicion(line: tuple[Wire, RtuLink]) -> None:
    """The number of its unit may be wrong."""
    wire, link = line
    with pytest.raises(NoReply):
        await asked(wire, link, READ)
    second = frames.read(2, "holding", 100, 2)
    assert await asked(wire, link, second, frame(1, REPLY) + frame(2, REPLY)) == REPLY
    assert link.free_at(READ) > 0


async def test_bytes_flushed_before_a_request_are_no_lost_line() -> None:
    """Late bytes wake the reader, but sending throws them away first: a read of nothing must not end the line."""
    async with opened("rtu") as (wire, link):
        for _ in range(20):
            wire.send(b"late")
            await asyncio.sleep(0)  # the next look at the line sees them while the request is being sent
            assert await asked(wire, link, READ, frame(1, REPLY), timeout_s=5.0) == REPLY
        assert link.connected
        assert link.faults["link"] == 0


async def test_a_lost_line_leaves_its_request_suspect(line: tuple[Wire, RtuLink]) -> None:
    """The line may come back before the reply: an adapter that was pulled and plugged."""
    wire, link = line
    running = asyncio.ensure_future(link.exchange(READ, 30.0))
    while not wire.heard():  # noqa: ASYNC110  the far end of a pty has no event
        await asyncio.sleep(0)
    wire.close()
    with pytest.raises(LinkError):
        await asyncio.wait_for(running, 2)
    assert link.free_at(READ) > 0


async def test_a_lost_line_fails_the_pending_request_at_once(line: tuple[Wire, RtuLink]) -> None:
    wire, link = line
    running = asyncio.ensure_future(link.exchange(READ, 30.0))
    while not wire.heard():  # noqa: ASYNC110  the far end of a pty has no event
        await asyncio.sleep(0)
    wire.close()
    with pytest.raises(LinkError):
        await asyncio.wait_for(running, 2)
    assert not link.connected


@pytest.mark.parametrize("kind", ["rtu", "rtu_over_tcp"])
@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=0, max_size=40), max_size=6), st.booleans())
def test_any_bytes_end_in_an_answer_or_a_named_failure(kind: str, chunks: list[bytes], genuine: bool) -> None:
    async def run() -> None:
        async with opened(kind) as (wire, link):
            answers = [*chunks, frame(1, REPLY)] if genuine else chunks
            with suppress(NoReply, WrongReply):
                reply = await asked(wire, link, READ, *[c for c in answers if c], timeout_s=0.01)
                assert READ.answers(reply)

    asyncio.run(run())


async def test_nobody_at_the_device_server_is_an_error_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    link = RtuOverTcpLink(
        Bus(kind="rtu_over_tcp", host="127.0.0.1", port=port, baud=9600, timeout_ms=50, write_budget_ms=100)
    )
    with pytest.raises(LinkError, match=rf"can't connect to 127\.0\.0\.1:{port}"):
        await link.open()
    assert not link.connected


@pytest.fixture
async def peer() -> AsyncIterator[tuple[TcpLink, Callable[[Callable[[bytes], bytes]], None]]]:
    """A TCP peer whose answers the test makes from the request."""
    answer: list[Callable[[bytes], bytes]] = [lambda request: request]

    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                body = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                writer.write(answer[0](head + body))
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = TcpLink(Bus(kind="tcp", host="127.0.0.1", port=port, timeout_ms=100, write_budget_ms=100))
    await link.open()

    def set_answer(made: Callable[[bytes], bytes]) -> None:
        answer[0] = made

    yield link, set_answer
    await link.close()
    await ended.wait()
    server.close()
    await server.wait_closed()


def mbap(request: bytes, pdu: bytes, *, transaction: int | None = None, unit: int | None = None) -> bytes:
    number = int.from_bytes(request[:2], "big") if transaction is None else transaction
    return number.to_bytes(2, "big") + bytes((0, 0)) + (len(pdu) + 1).to_bytes(2, "big") + bytes(
        (request[6] if unit is None else unit,)
    ) + pdu  # fmt: skip


async def test_tcp_matches_by_transaction(peer: tuple[TcpLink, Callable[[Callable[[bytes], bytes]], None]]) -> None:
    link, answers = peer
    answers(lambda r: mbap(r, bytes((3, 4, 0, 1, 0, 1)), transaction=0xABCD) + mbap(r, REPLY))
    assert await link.exchange(READ, 1.0) == REPLY
    assert link.faults["late"] == 1


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda r: mbap(r, bytes((3, 2, 0, 1))), WrongReply),
        (lambda r: mbap(r, REPLY, unit=9), WrongReply),
        (lambda r: mbap(r, REPLY, transaction=1234), NoReply),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", LinkError),
        (lambda _: b"", NoReply),
    ],
)
async def test_tcp_refuses_what_was_not_asked(
    peer: tuple[TcpLink, Callable[[Callable[[bytes], bytes]], None]],
    made: Callable[[bytes], bytes],
    error: type[Exception],
) -> None:
    link, answers = peer
    answers(made)
    with pytest.raises(error):
        await link.exchange(READ, 0.1)
