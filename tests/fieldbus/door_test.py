"""The tools' door: who comes in, what is answered, and that no guest harms the bus or the other guests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from controller.fieldbus import door, frames
from controller.fieldbus.door import LINE_MAX, SESSIONS_MAX, serve_door
from controller.unixsocket import SocketError
from hil.bench import plans
from tests.fieldbus.rig import WAIT_S, Memory, Served, running, serial_line, served, settings, until

ME = f"tool:{pwd.getpwuid(os.getuid()).pw_name}"
PERIOD_S = 0.05


class Guest:
    """A tool that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def at(cls, host: Served) -> Guest:
        return cls(*await asyncio.open_unix_connection(host.path, limit=1_000_000))

    async def heard(self) -> Any:
        """Return what the door says; None when it has closed the connection."""
        async with asyncio.timeout(WAIT_S):
            try:
                line = await self.reader.readline()
            except ConnectionError:
                return None
        return json.loads(line) if line else None

    async def raw(self, line: bytes) -> Any:
        self.writer.write(line)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        return await self.heard()

    async def say(self, **asked: Any) -> Any:
        return await self.raw(json.dumps(asked).encode() + b"\n")

    async def ask(self, request: frames.Request) -> Any:
        return await self.say(do="ask", bus="line", unit=request.unit, pdu=request.pdu.hex())


@pytest.fixture
def unit() -> Memory:
    return Memory({at: at for at in range(100, 120)})


@pytest.fixture
async def host(unit: Memory, tmp_path: Path) -> AsyncIterator[Served]:
    async with serial_line({1: unit}, tmp_path) as line:
        rows = {
            "guarded": plans.row(100, safety=True),
            "idle": plans.row(105),
            "limit": plans.row(110, access="rw"),
            "output": plans.row(115, access="rw"),
        }
        plan = plans.bus(settings(line), [plans.device("dev", 1, rows, period_s=PERIOD_S, device_time_s=0.001)])
        async with served(plan, tmp_path) as host:
            host.owned = frozenset({"dev.output"})
            yield host


async def still_well(host: Served) -> None:
    """Polling goes on, and a well-behaved tool is served."""
    read = len(host.inbox.good["dev.guarded"])
    guest = await Guest.at(host)
    assert await guest.ask(frames.read(1, "holding", 100, 2)) == {"words": [100, 101]}
    guest.writer.close()
    await until(lambda: len(host.inbox.good["dev.guarded"]) > read)


async def test_the_socket_is_for_its_owner_and_group(host: Served) -> None:
    mode = os.stat(host.path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    with pytest.raises(SocketError, match="another controller listens"):
        await serve_door(host.path, host)
    await still_well(host)


async def test_answers_and_refusals(host: Served) -> None:
    guest = await Guest.at(host)
    assert (await guest.say(do="hello")) == {"about": dict(host.about), "buses": ["line"]}
    assert await guest.ask(frames.read(1, "holding", 100, 3)) == {"words": [100, 101, 102]}
    assert await guest.ask(frames.read(1, "holding", 99, 1)) == {
        "error": "exception", "code": 2, "why": "exception 2 (illegal data address)",
    }  # fmt: skip
    assert (await guest.ask(frames.read(9, "holding", 0, 1)))["error"] == "no reply"
    assert (await guest.ask(frames.read(0, "holding", 0, 1)))["error"] == "denied"
    assert (await guest.say(do="ask", bus="attic", unit=1, pdu="0300640001"))["why"] == "no such bus; there are: line"
    first, frames_ = (await guest.say(do="frames", bus="line", after=0)).values()
    assert first == 1
    assert frames_[0][1] is True
    assert bytes.fromhex(frames_[0][2])[0] == 1
    guest.writer.close()


async def test_writes_are_judged_and_each_is_logged_with_who_asked(host: Served, unit: Memory) -> None:
    guest = await Guest.at(host)
    with capture_logs() as logs:
        assert await guest.ask(frames.write(1, "holding", 110, [7])) == {"words": []}
        assert "output of the control" in (await guest.ask(frames.write(1, "holding", 115, [7])))["why"]
        host.mode = "NORMAL"
        assert "in OFF and MAINTENANCE only" in (await guest.ask(frames.write(1, "holding", 110, [8])))["why"]
    assert unit.writes == [(110, [7])]
    told = [entry for entry in logs if entry["event"] == "tool write"]
    assert [entry["principal"] for entry in told] == [ME] * 3
    assert next(entry["outcome"] for entry in told) == "done"
    assert "output of the control" in told[1]["outcome"]
    guest.writer.close()


async def test_a_lease_goes_with_its_connection(host: Served) -> None:
    ann, bob = await Guest.at(host), await Guest.at(host)
    assert "error" not in await ann.say(do="lease", bus="line", name="quiet", seconds=50)
    denied = await bob.say(do="lease", bus="line", name="mine", seconds=5)
    assert denied["error"] == "denied"
    assert "quiet" in denied["why"]
    ann.writer.close()
    await until(lambda: host.worker.tools.lease(asyncio.get_running_loop().time()) is None)
    assert "error" not in await bob.say(do="lease", bus="line", name="mine", seconds=5)
    assert await bob.say(do="return", bus="line") == {"held": True}
    bob.writer.close()


async def test_a_lease_goes_with_a_connection_that_is_lost_in_the_middle_of_a_request(host: Served) -> None:
    guest = await Guest.at(host)
    await guest.say(do="lease", bus="line", name="quiet", seconds=50)
    silent = frames.read(9, "holding", 0, 1)
    guest.writer.write(json.dumps({"do": "ask", "bus": "line", "unit": 9, "pdu": silent.pdu.hex()}).encode() + b"\n")
    guest.writer.transport.abort()
    await until(lambda: host.worker.tools.lease(asyncio.get_running_loop().time()) is None)
    await still_well(host)


async def test_a_megabyte_without_an_end_is_cut_off(host: Served) -> None:
    guest = await Guest.at(host)
    answer = await guest.raw(b"x" * 1_000_000)
    assert answer is None or answer["why"] == f"a line is at most {LINE_MAX} bytes long"
    await still_well(host)


BAD = [
    b"", b"null", b"[]", b"7", b'"ask"', b"{", b"\xff\xfe", b"{}", b'{"do": 7}', b'{"do": "ask"}', b"[" * 4000,
    b'{"do": "ask", "bus": "line", "unit": 1}', b'{"do": "ask", "bus": "line", "unit": -1, "pdu": "0300640001"}',
    b'{"do": "ask", "bus": "line", "unit": 1e999, "pdu": "0300640001"}',
    b'{"do": "ask", "bus": "line", "unit": NaN, "pdu": "0300640001"}',
    b'{"do": "ask", "bus": "line", "unit": true, "pdu": "0300640001"}',
    b'{"do": "ask", "bus": "line", "unit": 1, "pdu": "zz"}', b'{"do": "ask", "bus": "line", "unit": 1, "pdu": ""}',
    b'{"do": "ask", "bus": "line", "unit": 1, "pdu": "080001"}',
    b'{"do": "ask", "bus": "line", "unit": 1, "pdu": "0300640001", "timeout_ms": "soon"}',
    b'{"do": "lease", "bus": "line", "name": "x", "seconds": 1e9}', b'{"do": "lease", "bus": "line", "seconds": 5}',
    b'{"do": "lease", "bus": "line", "name": "a\\nb", "seconds": 5}', b'{"do": "frames", "bus": "line", "after": []}',
    b'{"do": "frames", "bus": {"a": 1}, "after": 0}', b"1" * 4090,
]  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=range(len(BAD)))
async def test_garbage_is_told_so(host: Served, line: bytes) -> None:
    guest = await Guest.at(host)
    with capture_logs() as logs:
        answer = await guest.raw(line + b"\n")
    assert answer["error"] == "malformed", answer
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert "about" in await guest.say(do="hello"), "the session goes on"
    guest.writer.close()


json_like = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
asked = st.fixed_dictionaries(
    {"do": st.sampled_from(["hello", "lease", "return", "frames", "ask"]) | json_like},
    optional=dict.fromkeys(("bus", "unit", "pdu", "name", "seconds", "after", "timeout_ms"), json_like),
)


@hypothesis_settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    line=st.binary(max_size=200).map(lambda data: data.replace(b"\n", b""))
    | asked.map(lambda o: json.dumps(o).encode())
)
async def test_whatever_is_said_is_answered_in_one_line(host: Served, line: bytes) -> None:
    guest = await Guest.at(host)
    with capture_logs() as logs:
        answer = await guest.raw(line[: LINE_MAX - 2] + b"\n")
    assert isinstance(answer, dict)
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    guest.writer.close()


async def test_guests_are_few_and_a_place_comes_free(host: Served) -> None:
    guests = [await Guest.at(host) for _ in range(SESSIONS_MAX)]
    for guest in guests:
        assert "about" in await guest.say(do="hello")
    over = await Guest.at(host)
    assert (await over.heard())["why"] == f"{SESSIONS_MAX} tools are connected already"
    assert await over.heard() is None
    over.writer.close()
    for guest in guests:
        guest.writer.close()
    async with asyncio.timeout(WAIT_S):
        while True:
            guest = await Guest.at(host)
            if "about" in await guest.say(do="hello"):
                guest.writer.close()
                break
            guest.writer.close()


async def test_a_flood_of_connections_costs_polling_nothing(host: Served) -> None:
    read = len(host.inbox.good["dev.guarded"])
    started = asyncio.get_running_loop().time()
    for _ in range(300):
        rude = socket.socket(socket.AF_UNIX)
        rude.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            rude.connect(str(host.path))
            rude.send(b'{"do": "hello"}\n')
        rude.close()
        await asyncio.sleep(0)
    took = asyncio.get_running_loop().time() - started
    await until(lambda: len(host.inbox.good["dev.guarded"]) >= read + 0.5 * took / PERIOD_S)
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(OSError, AssertionError):
                await still_well(host)
                break


async def test_a_reader_that_takes_nothing_is_dropped(host: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "STALLED_S", 0.2)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(str(host.path))
    deaf.setblocking(False)
    line = json.dumps({"do": "frames", "bus": "line", "after": 0}).encode() + b"\n"
    gone = False
    async with asyncio.timeout(WAIT_S):
        while not gone:
            try:
                deaf.send(line)
            except BlockingIOError:
                pass
            except OSError:
                gone = True
            await asyncio.sleep(0.005)
    deaf.close()
    await still_well(host)


async def test_silence_ends_a_session(host: Served, tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    async with running(serve_door(path, host, idle_s=0.05)):
        await until(path.exists)
        guest = Guest(*await asyncio.open_unix_connection(path))
        assert (await guest.heard())["why"] == "nothing asked for 0 s"
        assert await guest.heard() is None
        guest.writer.close()
    assert not path.exists()
