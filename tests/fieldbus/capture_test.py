"""The frame ring stays within its bytes; tshark reads its pcaps as Modbus, queries and responses apart."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from controller.fieldbus import frames
from controller.fieldbus.capture import FRAME_BYTES, Frame, Ring, pcap
from controller.fieldbus.client import made
from controller.fieldbus.tcp import TcpLink
from hil.bench import plans
from hil.wire.tcp import TcpBus
from tests.fieldbus.rig import Memory, serial_line, settings

TSHARK = shutil.which("tshark")
REQUESTS = [
    frames.read(1, "holding", 100, 10),
    frames.read(1, "holding", 999, 1),  # not there: an exception
    frames.read(1, "coil", 0, 11),
    frames.write(1, "holding", 101, [7]),
    frames.write(1, "holding", 102, [8, 9]),
]


def test_a_ring_keeps_the_newest_within_its_bytes() -> None:
    ring = Ring(10 * (FRAME_BYTES + 8))
    for number in range(1, 101):
        ring.add(float(number), True, bytes(8))
    first, kept = ring.after(0, 100)
    assert (first, [frame.at for frame in kept]) == (91, [float(n) for n in range(91, 101)])
    assert ring.after(95, 2) == (96, [Frame(96.0, True, bytes(8)), Frame(97.0, True, bytes(8))])
    assert ring.after(100, 5) == (101, [])
    ring.add(0.0, False, bytes(100_000))
    assert ring.after(100, 5) == (102, []), "one frame larger than the ring is not kept"


def decoded(path: Path, *options: str) -> list[str]:
    assert TSHARK
    command = [TSHARK, "-r", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.mark.peer
@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed")
@pytest.mark.parametrize("kind", ["rtu", "tcp"])
async def test_tshark_decodes_both_kinds_as_query_and_response(kind: str, tmp_path: Path) -> None:
    units = {1: Memory({at: at for at in range(100, 120)})}
    async with serial_line(units, tmp_path) as line:
        tcp = TcpBus(units)
        await tcp.start()
        link = made(settings(line) if kind == "rtu" else plans.tcp(tcp.port))
        await link.open()
        for request in REQUESTS:
            await link.exchange(request, 1.0)
        await link.close()
        await tcp.stop()
    _, kept = link.ring.after(0, 1000)
    path = tmp_path / "out.pcap"
    path.write_bytes(pcap([frame._replace(at=frame.at + 1_700_000_000) for frame in kept], serial=kind == "rtu"))
    options = ("-o", "mbrtu.tcp.port:502", "-o", "mbrtu.crc_verification:TRUE") if kind == "rtu" else ()
    lines = decoded(path, *options)
    assert len(lines) == 2 * len(REQUESTS)
    assert not [line for line in lines if "Modbus RTU" not in line and "Modbus/TCP" not in line]
    assert all("Query: " in line for line in lines[0::2]), lines
    assert all("Response: " in line for line in lines[1::2]), lines
    assert "Exception returned" in lines[3]
    fields = decoded(path, *options, "-T", "fields", "-e", "modbus.reference_num", "-e", "modbus.regval_uint16")
    assert fields[0].split() == ["100"]
    assert fields[1].split("\t")[-1] == ",".join(str(at) for at in range(100, 110))
    assert not decoded(path, *options, "-Y", "_ws.malformed or _ws.expert.severity == 8388608 and mbrtu")
    if kind == "tcp":
        assert isinstance(link, TcpLink)
        assert not decoded(path, "-o", "tcp.check_checksum:TRUE", "-Y", "tcp.checksum.status == 0")


@pytest.mark.peer
@pytest.mark.skipif(TSHARK is None, reason="tshark is not installed")
def test_a_reply_that_came_in_pieces_is_one_frame(tmp_path: Path) -> None:
    query, reply = bytes.fromhex("0103006b00037417"), bytes.fromhex("010306022b0000006405 7a".replace(" ", ""))
    heard = [Frame(1.0, True, query), *(Frame(1.01 + at / 1000, False, reply[at : at + 1]) for at in range(len(reply)))]
    path = tmp_path / "out.pcap"
    path.write_bytes(pcap(heard, serial=True))
    assert len(decoded(path)) == 2
    assert "Response" in decoded(path)[1]
