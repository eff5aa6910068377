from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.console import server, talk
from controller.console.server import SESSIONS_MAX, serve
from controller.console.session import TOO_LONG
from controller.console.talk import EOT, ETX
from controller.unixsocket import SocketError
from tests.console.desk import FakeDesk, running
from tests.console.doors import WAIT_S, Socket, appears, serving, until

MEGABYTE = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "console.sock"


@pytest.fixture
async def desk(path: Path) -> AsyncIterator[FakeDesk]:
    """A desk whose console is being served."""
    desk = running()
    async with serving(serve(path, desk)):
        await appears(path)
        yield desk


async def joined(desk: FakeDesk, path: Path) -> Socket:
    reader, writer = await asyncio.open_unix_connection(path, limit=MEGABYTE)
    one = Socket(desk, reader, writer)
    await one.answer()
    return one


async def test_the_socket_is_for_its_owner_and_group(desk: FakeDesk, path: Path) -> None:
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


async def test_sessions_are_few_and_a_place_comes_free(desk: FakeDesk, path: Path) -> None:
    sessions = [await joined(desk, path) for _ in range(SESSIONS_MAX)]
    reader, ninth = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), WAIT_S) == b"8 sessions are open already; try again later.\n" + EOT
    ninth.close()
    assert "No alarms" in await sessions[-1].ask("alarms")
    sessions[0].writer.close()
    async with asyncio.timeout(WAIT_S):
        while True:
            reader, writer = await asyncio.open_unix_connection(path)
            if (await reader.read(1000)).endswith(ETX):
                break
            writer.close()
    for one in [*sessions, Socket(desk, reader, writer)]:
        one.writer.close()


async def test_silence_ends_a_session(path: Path) -> None:
    async with serving(serve(path, running(), idle_s=0.05)):
        await appears(path)
        reader, writer = await asyncio.open_unix_connection(path)
        said = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
        assert said.endswith(b"Nothing typed for 0 s; closed.\n" + EOT)


async def test_a_reader_that_takes_nothing_is_dropped_and_the_others_do_not_wait(
    desk: FakeDesk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "STALLED_S", 2.0)
    deaf = socket.socket(socket.AF_UNIX)
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(str(path))
    deaf.sendall(b"points *\n" * 90)
    other = await joined(desk, path)
    for _ in range(5):
        started = asyncio.get_running_loop().time()
        await other.ask("alarms")
        assert asyncio.get_running_loop().time() - started < 1.0, "half of what the deaf one may stall"
    async with asyncio.timeout(WAIT_S):  # the session goes, whatever is left unread
        while True:
            try:
                deaf.send(b"x\n", socket.MSG_DONTWAIT)
            except BrokenPipeError:
                break
            except BlockingIOError:
                pass
            await asyncio.sleep(0.01)
    deaf.close()
    other.writer.close()


async def test_one_who_vanishes_in_the_middle_costs_nothing(desk: FakeDesk, path: Path) -> None:
    for _ in range(2 * SESSIONS_MAX):
        rude = socket.socket(socket.AF_UNIX)
        rude.connect(str(path))
        rude.sendall(b"points *\n" * 20)
        rude.close()
        await asyncio.sleep(0)
    answer = ""
    async with asyncio.timeout(WAIT_S):
        while answer != "No alarms.":
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                one = await joined(desk, path)
                answer = await one.ask("alarms")
    others = [await joined(desk, path) for _ in range(SESSIONS_MAX - 1)]
    assert [await other.ask("alarms") for other in others] == ["No alarms."] * len(others), "every place is free again"
    for session in (one, *others):
        session.writer.close()


async def test_a_megabyte_without_an_end_is_refused_once(
    desk: FakeDesk, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "BURST", 10_000)
    one = await joined(desk, path)
    one.writer.write(b"x" * MEGABYTE + b"\nalarms\n")
    await one.writer.drain()
    assert await one.answer() == TOO_LONG
    assert await one.answer() == "No alarms."
    one.writer.close()


async def test_a_megabyte_of_lines_is_answered_in_order_at_a_pace(desk: FakeDesk, path: Path) -> None:
    one = await joined(desk, path)
    loop = asyncio.get_running_loop()
    pasting = asyncio.create_task(pasted(one, b"".join(b"v%d\n" % number for number in range(130_000))))
    started = loop.time()
    for number in range(int(talk.BURST) + 20):
        assert (await one.answer()).startswith(f'No verb "v{number}"')
    assert loop.time() - started > 0.5  # a burst at once, then LINES_PER_S
    assert not pasting.done()  # the rest waits in the sender, not in the service
    pasting.cancel()
    one.writer.transport.abort()
    await asyncio.gather(pasting, return_exceptions=True)


async def pasted(one: Socket, data: bytes) -> None:
    one.writer.write(data)
    await one.writer.drain()


async def test_half_closed_it_still_answers_what_was_asked(desk: FakeDesk, path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"alarms\nquit now\nunfinished")
    writer.write_eof()
    said = (await asyncio.wait_for(reader.read(), WAIT_S)).decode().split(ETX.decode())
    writer.close()
    assert said[1:] == ["No alarms.\n", "Too many words. Usage: quit\n", ""]


async def test_stopping_ends_the_sessions_and_removes_the_socket(path: Path) -> None:
    async with serving(serve(path, running())):
        await appears(path)
        one = await joined(running(), path)
    assert await asyncio.wait_for(one.reader.read(), WAIT_S) == b""
    one.writer.close()
    assert path.name not in os.listdir(path.parent)


# ---------------------------------------------------------------- the socket file


async def test_a_socket_left_behind_is_replaced(path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_unix_connection(path)
    desk = running()
    async with serving(serve(path, desk)):
        await appears(path)
        one = await joined(desk, path)
        assert await one.ask("alarms") == "No alarms."
        one.writer.close()


async def test_a_controller_that_listens_is_left_alone(desk: FakeDesk, path: Path) -> None:
    with pytest.raises(SocketError, match="another controller listens"):
        await serve(path, running())
    one = await joined(desk, path)
    assert await one.ask("alarms") == "No alarms."
    one.writer.close()


async def test_a_file_in_its_place_is_left_alone(path: Path) -> None:
    path.write_text("precious")  # noqa: ASYNC240
    with pytest.raises(SocketError, match="not a socket"):
        await serve(path, running())
    assert os.stat(path).st_size == 8


@pytest.mark.parametrize("place", ["absent/console.sock", "x" * 120])
async def test_a_place_that_cannot_be_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(SocketError, match=r"no directory|can't make|can't tell"):
        await serve(tmp_path / place, running())


async def test_another_socket_in_its_place_is_not_removed_at_the_end(path: Path) -> None:
    async with serving(serve(path, running())):
        await appears(path)
        os.rename(path, f"{path}.old")
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    assert path.name in os.listdir(path.parent)
    other.close()


# ---------------------------------------------------------------- fuzz


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chunks=st.lists(st.one_of(st.binary(max_size=600), st.sampled_from([b"status\n", b"\x1b[", b"\r", b"ack *\r\n"])))
)
def test_whatever_bytes_come_the_service_goes_on(tmp_path: Path, chunks: list[bytes]) -> None:
    async def attacked() -> None:
        path, desk = tmp_path / "fuzz.sock", running_once()
        async with serving(serve(path, desk)):
            await appears(path)
            reader, writer = await asyncio.open_unix_connection(path, limit=MEGABYTE)
            for chunk in chunks:
                writer.write(chunk)
            writer.write(b"\n")
            writer.write_eof()
            said = await asyncio.wait_for(reader.read(), WAIT_S)
            writer.close()
            lines = sum(chunk.count(b"\n") + chunk.count(b"\r") for chunk in chunks) + 2
            assert said.count(ETX) + said.count(EOT) <= lines
            assert all(byte in (3, 4, 10) or 32 <= byte < 127 for byte in said)
            assert max(map(len, said.replace(ETX, b"\n").split(b"\n"))) <= 100
            one = await joined(desk, path)
            assert await one.ask("help quit") == "quit: leave."
            one.writer.close()

    asyncio.run(attacked())


def running_once(known: list[FakeDesk] = []) -> FakeDesk:  # noqa: B006 - built once for all examples
    if not known:
        known.append(running())
    return known[0]


# ---------------------------------------------------------------- the client

CLIENT = """
import sys
from pathlib import Path
from controller.console.client import attach
sys.exit(attach(Path(sys.argv[1])))
"""


async def client(path: Path, typed: bytes) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(path),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    said, wrong = await asyncio.wait_for(process.communicate(typed), WAIT_S)
    return process.returncode, said.decode(), wrong.decode()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (b"alarms\n", "No alarms.\n"),
        (b"alarms", "No alarms.\n"),
        (b"alarms\r\nnope\n", 'No alarms.\nNo verb "nope"; nearest is mode. help lists all.\n'),
        (b"quit\nalarms\n", "Bye.\n"),
        (b"", ""),
        (b"\n\n", ""),
        (b"x" * MEGABYTE + b"\nalarms\n", TOO_LONG + "\nNo alarms.\n"),
    ],
)
async def test_piped_it_prints_the_answers_alone(desk: FakeDesk, path: Path, typed: bytes, said: str) -> None:
    assert await client(path, typed) == (0, said, "")


async def test_a_script_longer_than_the_burst_is_answered_whole(desk: FakeDesk, path: Path) -> None:
    count = int(talk.BURST) + 10
    code, said, _ = await client(path, b"alarms\n" * count)
    assert (code, said) == (0, "No alarms.\n" * count)


async def test_without_a_service_it_says_so(path: Path) -> None:
    code, said, wrong = await client(path, b"status\n")
    assert (code, said) == (1, "")
    assert "is the service running?" in wrong


async def test_with_too_many_sessions_it_says_so(desk: FakeDesk, path: Path) -> None:
    sessions = [await joined(desk, path) for _ in range(SESSIONS_MAX)]
    code, said, wrong = await client(path, b"status\n")
    assert (code, said) == (1, "")
    assert "8 sessions are open already" in wrong
    for one in sessions:
        one.writer.close()


async def test_a_service_that_dies_is_told(path: Path) -> None:
    async with serving(serve(path, desk := running())) as task:
        await appears(path)
        desk.deaf = True
        asking = asyncio.create_task(client(path, b"mode stop\n"))
        await until(lambda: desk.asked)
        task.cancel()
        code, _, wrong = await asking
    assert code == 1
    assert "closed the connection" in wrong or "connection lost" in wrong


async def test_at_a_terminal_it_greets_and_prompts(desk: FakeDesk, path: Path) -> None:
    master, slave = os.openpty()
    os.set_blocking(master, False)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(path), stdin=slave, stdout=slave, stderr=slave, cwd=Path(__file__).parents[2]
    )
    os.close(slave)
    seen = b""

    async def until(text: bytes) -> None:
        nonlocal seen
        async with asyncio.timeout(WAIT_S):
            while text not in seen:
                with contextlib.suppress(BlockingIOError):
                    seen += os.read(master, 4096)
                await asyncio.sleep(0.005)

    await until(b"Type help.\r\npodkeeper> ")
    os.write(master, b"alarms\n")
    await until(b"No alarms.\r\npodkeeper> ")
    os.write(master, b"quit\n")
    await until(b"Bye.")
    assert await asyncio.wait_for(process.wait(), WAIT_S) == 0
    os.close(master)
