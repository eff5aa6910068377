"""What the service tells systemd: datagrams to $NOTIFY_SOCKET (sd_notify(3)). Telling never fails the service."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

STATUS_MAX = 400


class Notifier:
    """Says READY, WATCHDOG, STATUS and STOPPING. Says nothing where $NOTIFY_SOCKET is not set.

    Attributes:
        watchdog_interval_s: how often ``watchdog`` is to be called, half of systemd's patience
            (sd_watchdog_enabled(3)); None when systemd does not watch this process.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.watchdog_interval_s = _interval_s(environ)
        self._socket: socket.socket | None = None
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in ("/", "@") or len(address) < 2:
            return
        self._address = "\0" + address[1:] if address[0] == "@" else address
        with contextlib.suppress(OSError):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """The first scan is done: what is ordered after the service may start."""
        self._tell("READY=1")

    def watchdog(self) -> None:
        """A scan finished in time."""
        self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """Set the one line that ``systemctl status`` shows; control characters become blanks."""
        self._tell("STATUS=" + "".join(mark if mark.isprintable() else " " for mark in text[:STATUS_MAX]))

    def stopping(self) -> None:
        self._tell("STOPPING=1")

    def extend(self, usec: int) -> None:
        """Ask for ``usec`` microseconds more until the start or the stop counts as failed."""
        self._tell(f"EXTEND_TIMEOUT_USEC={usec}")

    def close(self) -> None:
        if self._socket:
            self._socket.close()
            self._socket = None

    def _tell(self, message: str) -> None:
        if self._socket:
            with contextlib.suppress(OSError, ValueError):  # ValueError: an embedded NUL in a path
                self._socket.sendto(message.encode("utf-8", "replace"), self._address)


def _interval_s(environ: Mapping[str, str]) -> float | None:
    try:
        usec = int(environ.get("WATCHDOG_USEC", "0"))
        pid = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return None
    return usec / 2_000_000 if usec > 0 and pid == os.getpid() else None
