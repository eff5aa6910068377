from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.systemd import STATUS_MAX, Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A datagram socket as systemd listens on, and the environment that names it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@podkeeper-test-{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name[0] == "@" else name)
        listening.settimeout(5)
        yield listening, {"NOTIFY_SOCKET": name}


def test_every_message_arrives_as_systemd_reads_it(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environ = manager
    notifier = Notifier(environ)
    notifier.extend(5_000_000)
    notifier.ready()
    notifier.watchdog()
    notifier.status("NORMAL, 2 alarms")
    notifier.stopping()
    notifier.close()
    told = [listening.recv(4096).decode() for _ in range(5)]
    assert told == ["EXTEND_TIMEOUT_USEC=5000000", "READY=1", "WATCHDOG=1", "STATUS=NORMAL, 2 alarms", "STOPPING=1"]


def test_a_status_cannot_smuggle_in_another_message(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listening, environ = manager
    notifier = Notifier(environ)
    notifier.status("fine\nWATCHDOG=1\0\x1b[2J" + "x" * 10_000)
    notifier.close()
    told = listening.recv(65536).decode()
    assert told.startswith("STATUS=fine WATCHDOG=1  [2J")
    assert len(told) <= STATUS_MAX + len("STATUS=")
    assert told.isprintable()


@pytest.mark.parametrize("address", [None, "", "@", "vsock:2:1234", "relative", "/nobody/listens", "/" + "x" * 300])
def test_nothing_is_raised_when_nobody_listens(address: str | None) -> None:
    notifier = Notifier({} if address is None else {"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.status("\ud800")
    notifier.watchdog()
    notifier.close()
    notifier.close()
    notifier.stopping()


def test_a_full_queue_is_not_waited_for(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(path)
        notifier = Notifier({"NOTIFY_SOCKET": path})
        for _ in range(2000):
            notifier.watchdog()
        notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "me"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ: dict[str, str], interval_s: float | None) -> None:
    assert Notifier(environ).watchdog_interval_s == interval_s
