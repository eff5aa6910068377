"""Several requests at once to a TCP device whose profile allows it, and never to one whose profile does not."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from controller.config.enclosure import Bus
from controller.config.plan import BusPlan
from controller.config.profile import Profile
from controller.core.interlocks import Write
from controller.fieldbus import frames
from controller.fieldbus.frames import LinkError, NoReply
from controller.fieldbus.schedule import analyse
from controller.fieldbus.tcp import TcpLink
from controller.fieldbus.units import Unit
from hil.bench import plans
from hil.bench.master import Inbox, until, working

WORDS = 4


class Peer:
    """A device that answers when ``wanted`` requests wait, the last one first; each register holds its address.

    Attributes:
        most: requests that waited at once.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted, self.most, self.port = wanted, 0, 0
        self.connections: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        waiting: list[bytes] = []
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(7)
                pdu = await reader.readexactly(int.from_bytes(head[4:6], "big") - 1)
                waiting.append(head + pdu)
                self.most = max(self.most, len(waiting))
                if len(waiting) >= self.wanted or pdu[0] == 6:
                    for request in reversed(waiting):
                        writer.write(self.answer(request))
                    waiting.clear()
        writer.close()

    @staticmethod
    def answer(request: bytes) -> bytes:
        head, pdu = request[:7], request[7:]
        if pdu[0] == 6:
            return request
        address, count = int.from_bytes(pdu[1:3], "big"), int.from_bytes(pdu[3:5], "big")
        data = b"".join((address + at).to_bytes(2, "big") for at in range(count))
        reply = bytes((pdu[0], len(data))) + data
        return head[:4] + (len(reply) + 1).to_bytes(2, "big") + head[6:7] + reply


@asynccontextmanager
async def listening(wanted: int) -> AsyncIterator[Peer]:
    peer = Peer(wanted)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for writer in peer.connections:
            writer.close()


@asynccontextmanager
async def linked(wanted: int) -> AsyncIterator[tuple[Peer, TcpLink]]:
    async with listening(wanted) as peer:
        link = TcpLink(Bus(kind="tcp", host="127.0.0.1", port=peer.port, timeout_ms=100, write_budget_ms=100))
        await link.open()
        try:
            yield peer, link
        finally:
            await link.close()


def read(address: int) -> frames.Request:
    return frames.read(1, "holding", address, 1)


def taking(peer: Peer, pipeline: int, *, timeout_ms: int = 300, write_budget_ms: int = 500) -> BusPlan:
    """Return a bus with one device of four registers that can't be read together."""
    rows = {f"r{at}": plans.row(100 * at) for at in range(WORDS)} | {"out": plans.row(4000, access="w")}
    made = plans.device("unit_1", 1, rows)
    link = made.profile.tables.link.model_copy(update={"pipeline": pipeline})
    profile = Profile("unit_1", made.profile.tables.model_copy(update={"link": link}))
    settings = plans.tcp(peer.port, timeout_ms).model_copy(update={"write_budget_ms": write_budget_ms})
    return plans.bus(settings, [dataclasses.replace(made, profile=profile)])


async def test_each_answer_finds_its_request_whatever_their_order() -> None:
    async with linked(wanted=5) as (_, link):
        requests = [read(address) for address in range(10, 60, 10)]
        answers = await asyncio.gather(*(link.exchange(request, 2.0) for request in requests))
        values = [request.values(answer) for request, answer in zip(requests, answers, strict=True)]
        assert values == [[10], [20], [30], [40], [50]]


async def test_one_that_is_not_answered_takes_no_other_with_it() -> None:
    async with linked(wanted=2) as (_, link):
        late = asyncio.ensure_future(link.exchange(read(10), 0.05))
        with pytest.raises(NoReply):
            await late
        assert link.faults["timeout"] == 1
        answer = await link.exchange(read(20), 2.0)  # the peer answers both now
        assert read(20).values(answer) == [20]
        await until(lambda: link.faults["late"] == 1)


async def test_a_lost_connection_fails_all_of_them_at_once() -> None:
    async with linked(wanted=9) as (peer, link):
        running = [asyncio.ensure_future(link.exchange(read(address), 30.0)) for address in range(3)]
        await until(lambda: peer.most == 3)
        peer.connections[0].transport.abort()
        ends = await asyncio.gather(*running, return_exceptions=True)
        assert all(isinstance(end, LinkError) for end in ends)


async def test_a_device_that_takes_several_is_asked_several() -> None:
    inbox = Inbox()
    async with listening(wanted=WORDS) as peer, working([taking(peer, WORDS)], inbox):
        peer.wanted = 1  # until it is known to answer, it is asked one by one
        await until(lambda: all(inbox.good[f"unit_1.r{at}"] for at in range(WORDS)))
        peer.wanted, peer.most = WORDS, 0
        seen = len(inbox.good["unit_1.r3"])
        await until(lambda: len(inbox.good["unit_1.r3"]) >= seen + 5)
        assert peer.most == WORDS
        assert [inbox[f"unit_1.r{at}"].value for at in range(WORDS)] == [0, 100, 200, 300]


async def test_a_device_whose_profile_says_nothing_is_asked_one_by_one() -> None:
    inbox = Inbox()
    async with listening(wanted=1) as peer, working([taking(peer, 1)], inbox):
        await until(lambda: all(len(inbox.good[f"unit_1.r{at}"]) > 3 for at in range(WORDS)))
        assert peer.most == 1


@pytest.mark.parametrize(("write_budget_ms", "together"), [(500, 4), (19, 3), (13, 2), (11, 1)])
def test_what_is_asked_together_keeps_to_the_write_budget(write_budget_ms: int, together: int) -> None:
    """A read is planned for 6 ms."""
    peer = Peer(1)
    peer.port = 502
    plan = taking(peer, WORDS, write_budget_ms=write_budget_ms)
    unit = Unit(plan.devices[0], plan.settings, 0.0)
    assert len(unit.together(unit.spans[0], 1.0)) == 1, "not known to answer yet"
    unit.answered(1.0)
    assert len(unit.together(unit.spans[0], 1.0)) == together
    assert analyse(plan, ["unit_1.out"], 2.0).blocking_s == pytest.approx(min(0.024, write_budget_ms / 1000))


async def test_a_write_goes_through_between_them() -> None:
    inbox = Inbox()
    async with listening(wanted=1) as peer, working([taking(peer, WORDS)], inbox) as (worker,):
        await until(lambda: all(inbox.good[f"unit_1.r{at}"] for at in range(WORDS)))
        worker.submit(Write("unit_1.out", 7.0, True, "test"))
        await until(lambda: worker.counters["writes"] == 1)
