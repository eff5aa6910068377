"""A node that is killed while it connects: no number of a connection is ever used twice."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path

from controller.northbound.sparkplug import Sparkplug
from controller.northbound.sparkplug_codec import decode
from hil.bench.publish import linked
from hil.runner import Bench

RUNS, CONNECTS = 3, 3
TOPIC = b"spBv1.0/factory/NDEATH/reference-pod"


def will_number(connect: bytes) -> int:
    """Return the bdSeq in the will of an MQTT 3.1.1 CONNECT."""
    after = connect.index(TOPIC) + len(TOPIC)
    size = int.from_bytes(connect[after : after + 2], "big")
    (only,) = decode(connect[after + 2 : after + 2 + size], 10).metrics
    assert only.name == "bdSeq"
    assert isinstance(only.value, int)
    return only.value


def kept_number(folder: Path) -> int:
    """Return the number as a fresh start would find it."""
    with sqlite3.connect(folder / "state" / "podkeeper.sqlite") as database:
        ((content,),) = database.execute("SELECT content FROM kept").fetchall()
    database.close()
    return int(json.loads(content)["sparkplug_bd_seq"])


async def serving(heard: asyncio.Queue[bytes]) -> asyncio.Server:
    """Listen on the loopback as a broker that closes each connection once it has read its CONNECT."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packet = b""
        while TOPIC not in packet or b"bdSeq" not in packet:
            packet += await reader.read(4096)
        heard.put_nowait(packet)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_tck_id_principles_persistence_clean_session_311(plan):
    """With message-flow-edge-node-birth-publish-connect: level 4, a clean session, a will of QoS 1 not retained."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    async with await serving(heard) as server:
        port = server.sockets[0].getsockname()[1]
        link = linked(plan, port, "sparkplug", Sparkplug(plan, "0.1.0"))
        running = asyncio.create_task(link.run())
        packet = await asyncio.wait_for(heard.get(), 10)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    at = packet.index(b"MQTT") + 4
    assert packet[at] == 4
    assert packet[at + 1] & 0b0011_1110 == 0b0000_1110  # clean session, will, its QoS 1, not retained


async def test_tck_id_payloads_nbirth_bdseq_inc():
    """The process dies the moment its CONNECT is there: what the will says is on disk, and the next one counts on."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    server = await serving(heard)
    port = server.sockets[0].getsockname()[1]
    link = {
        "publisher": "sparkplug", "protocol": "3.1.1", "host": "127.0.0.1", "port": port, "keepalive_s": 15,
        "client_id": "node",
    }  # fmt: skip
    said: list[int] = []
    async with server, Bench(overrides={"links": {"scada": link}}) as bench:
        for _ in range(RUNS):
            await bench.start_controller()
            async with asyncio.timeout(60):
                for _ in range(CONNECTS):
                    said.append(will_number(await heard.get()))
            assert bench.controller is not None
            bench.controller.kill()
            await bench.kill_controller()
            while not heard.empty():  # one more may have been on its way
                said.append(will_number(heard.get_nowait()))
            assert kept_number(bench.folder) == said[-1]
    assert said == list(range(len(said)))
