"""Unix sockets for the rooms that serve one: made with care, removed at the end, and who is at the other side."""

from __future__ import annotations

import contextlib
import socket
import stat
import struct
from pathlib import Path

MODE = 0o660
PROBE_S = 1.0
PASSWD = Path("/etc/passwd")


class SocketError(Exception):
    """A socket can't be served; the message says why and what to do."""


def bound(path: Path, setting: str) -> socket.socket:
    """Return a socket bound to ``path`` for its owner and group, not listening yet.

    Args:
        setting: the key of the enclosure file that the path comes from.

    Raises:
        SocketError: the socket can't be made, or another controller serves it.
    """
    if not path.parent.is_dir():
        raise SocketError(f"no directory {path.parent} for {setting}; systemd makes it (RuntimeDirectory)")
    _remove_stale(path, setting)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.bind(str(path))
        path.chmod(MODE)
    except OSError as error:
        made.close()
        raise SocketError(f"can't make the socket {path} ({setting}): {error}") from error
    return made


def remove(path: Path, inode: int) -> None:
    """Remove the socket file, unless another one stands in its place."""
    with contextlib.suppress(OSError):
        if path.stat().st_ino == inode:
            path.unlink()


def listens(path: Path) -> bool:
    """Return whether somebody listens on ``path``.

    Raises:
        OSError: it can't be told, as without the right to connect.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_S)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            return False
        except BlockingIOError:  # somebody does, and has too many waiting
            return True
    return True


def _remove_stale(path: Path, setting: str) -> None:
    """Remove a socket file that nobody listens on, such as a kill leaves behind."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SocketError(f"{path} exists and is not a socket; remove it, or set {setting} to another path")
        taken = listens(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketError(f"can't tell whether somebody listens on {path}: {error}") from error
    if taken:
        raise SocketError(f"another controller listens on {path}")
    path.unlink(missing_ok=True)


def peer(connection: socket.socket) -> str:
    """Return who opened the connection, as the kernel knows it: a user's name, or ``uid`` and a number."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    names = {}
    with contextlib.suppress(OSError, UnicodeDecodeError):  # the local file alone: a directory service could block
        names = {fields[2]: fields[0] for line in PASSWD.read_text().splitlines() if len(fields := line.split(":")) > 2}
    return names.get(str(uid), f"uid{uid}")
