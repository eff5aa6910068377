"""The last frames of a link, kept in a bounded ring, and a pcap of them that Wireshark and tshark decode. Pure."""

from __future__ import annotations

import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

RING_BYTES = 65536
FRAME_BYTES = 64  # what keeping a frame costs besides its bytes
PIECES_S = 0.05  # received bytes that follow one another within this are pieces of one frame
PCAP_MAGIC, PCAP_VERSION, PCAP_SNAP = 0xA1B2C3D4, (2, 4), 65535
LINKTYPE_RAW, LINKTYPE_UPPER_PDU = 101, 252
TAG_DISSECTOR, TAG_SOURCE, TAG_DEST, TAG_PORT_KIND, TAG_SOURCE_PORT, TAG_DEST_PORT = 12, 20, 21, 24, 25, 26
PORT_KIND_TCP = 2
MASTER, SLAVE = ("192.0.2.1", 50000), ("192.0.2.2", 502)  # of the headers that are made up (RFC 5737)
TCP_PSH_ACK = 0x18


class Frame(NamedTuple):
    """Bytes as they went or came, ``at`` so many seconds of the clock that the link reads."""

    at: float
    sent: bool
    data: bytes


class Ring:
    """The last frames. Adding one costs about a microsecond.

    Attributes:
        count: frames since the start; the newest one has this number.
    """

    def __init__(self, most_bytes: int = RING_BYTES) -> None:
        self.count = 0
        self._most = most_bytes
        self._bytes = 0
        self._frames: deque[Frame] = deque()

    def add(self, at: float, sent: bool, data: bytes) -> None:
        self.count += 1
        self._frames.append(Frame(at, sent, data))
        self._bytes += len(data) + FRAME_BYTES
        while self._bytes > self._most:
            self._bytes -= len(self._frames.popleft().data) + FRAME_BYTES

    def after(self, number: int, most: int) -> tuple[int, list[Frame]]:
        """Return the oldest frames kept that came after frame ``number``, at most ``most``, and the first's number."""
        first = max(number, self.count - len(self._frames)) + 1
        skipped = first - 1 - (self.count - len(self._frames))
        return first, [self._frames[index] for index in range(skipped, min(skipped + most, len(self._frames)))]


def pcap(frames: Iterable[Frame], *, serial: bool) -> bytes:
    """Return a pcap file of ``frames``, whose times are seconds since 1970.

    Modbus TCP becomes TCP segments to and from port 502, with made-up addresses. Frames of a serial line are exported
    PDUs for Wireshark's dissector "mbrtu".
    """
    link = LINKTYPE_UPPER_PDU if serial else LINKTYPE_RAW
    packets = _exported(_whole(frames)) if serial else _segments(frames)
    out = [struct.pack("<IHHiIII", PCAP_MAGIC, *PCAP_VERSION, 0, 0, PCAP_SNAP, link)]
    for at, packet in packets:
        micros = round(at * 1_000_000)
        out.append(struct.pack("<IIII", micros // 1_000_000, micros % 1_000_000, len(packet), len(packet)) + packet)
    return b"".join(out)


def _whole(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Return the frames with received pieces put together, as a serial line gives them."""
    last: Frame | None = None
    for frame in frames:
        if last and not last.sent and not frame.sent and frame.at - last.at < PIECES_S:
            last = Frame(frame.at, False, last.data + frame.data)
            continue
        if last:
            yield last
        last = frame
    if last:
        yield last


def _exported(frames: Iterable[Frame]) -> Iterator[tuple[float, bytes]]:
    for at, sent, data in frames:
        (source, source_port), (dest, dest_port) = (MASTER, SLAVE) if sent else (SLAVE, MASTER)
        head = (
            _tag(TAG_DISSECTOR, b"mbrtu")
            + _tag(TAG_SOURCE, socket.inet_aton(source))
            + _tag(TAG_DEST, socket.inet_aton(dest))
            + _tag(TAG_PORT_KIND, PORT_KIND_TCP.to_bytes(4, "big"))
            + _tag(TAG_SOURCE_PORT, source_port.to_bytes(4, "big"))
            + _tag(TAG_DEST_PORT, dest_port.to_bytes(4, "big"))
            + _tag(0, b"")
        )
        yield at, head + data


def _tag(number: int, value: bytes) -> bytes:
    value += b"\0" * (-len(value) % 4)
    return struct.pack(">HH", number, len(value)) + value


def _segments(frames: Iterable[Frame]) -> Iterator[tuple[float, bytes]]:
    sequence = {True: 1, False: 1}
    for identification, (at, sent, data) in enumerate(frames):
        (source, source_port), (dest, dest_port) = (MASTER, SLAVE) if sent else (SLAVE, MASTER)
        addresses = socket.inet_aton(source) + socket.inet_aton(dest)
        ports = (source_port, dest_port, sequence[sent], sequence[not sent], 5 << 4, TCP_PSH_ACK, 0xFFFF)
        segment = struct.pack(">HHIIBBHHH", *ports, 0, 0) + data
        check = _checksum(addresses + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(segment)) + segment)
        segment = segment[:16] + check.to_bytes(2, "big") + segment[18:]
        version, fragment, hops = 0x45, 0x4000, 64
        ip = struct.pack(">BBHHHBBH", version, 0, 20 + len(segment), identification & 0xFFFF, fragment, hops, 6, 0)
        ip += addresses
        yield at, ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:] + segment
        sequence[sent] = (sequence[sent] + len(data)) & 0xFFFFFFFF


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
