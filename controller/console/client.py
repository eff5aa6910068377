"""``podkeeper console``: a person's terminal, or a pipe, on the controller's socket. Needs nothing of the service."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
from collections import deque
from pathlib import Path
from typing import BinaryIO

from controller.console.lines import Lines
from controller.console.session import TOO_LONG
from controller.console.talk import CHUNK, EOT, ETX

PROMPT = b"podkeeper> "


def attach(path: Path, source: BinaryIO | None = None, target: BinaryIO | None = None) -> int:
    """Connect ``source`` (stdin) and ``target`` (stdout) to the console on ``path``; return the exit code.

    One line is sent at a time and its answer awaited. A prompt is shown only if ``source`` is a terminal; piped, the
    answers alone are written. Exit codes: 0 the end of the input, or quit; 1 no service, no right, or connection lost.
    """
    source = sys.stdin.buffer if source is None else source
    target = sys.stdout.buffer if target is None else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        try:
            link.connect(str(path))
        except OSError as error:
            return _failed(_why(path, error))
        try:
            return _Client(link, source, target).run()
        except KeyboardInterrupt:
            return 0
        except BrokenPipeError:  # whoever read our output has gone, or the service has
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), target.fileno())
            return _failed("connection lost")
        except OSError as error:
            return _failed(f"connection lost: {error}")


class _Client:
    def __init__(self, link: socket.socket, source: BinaryIO, target: BinaryIO) -> None:
        self._link, self._source, self._target = link, source, target
        self._asking = source.isatty()
        self._lines = Lines()
        self._waiting: deque[str | None] = deque()  # lines to send; None: one that was too long
        self._ended = False  # no more input
        self._answered = False  # it is our turn
        self._greeted = False

    def run(self) -> int:
        while True:
            if self._answered:
                if not self._waiting and self._ended:
                    return 0
                if self._waiting:
                    self._send(self._waiting.popleft())
                    continue
            listen: list[BinaryIO | socket.socket] = [self._link]
            if self._answered and not self._ended:
                listen.append(self._source)
            ready, _, _ = select.select(listen, [], [])
            if self._source in ready:
                self._read_source()
            if self._link in ready:
                code = self._read_link()
                if code is not None:
                    return code

    def _send(self, line: str | None) -> None:
        if line is None:
            self._show(TOO_LONG.encode() + b"\n")
            self._prompt()
        else:
            self._answered = False
            self._link.sendall(line.encode() + b"\n")

    def _read_source(self) -> None:
        data = os.read(self._source.fileno(), CHUNK)
        self._ended = not data
        for typed in self._lines.feed(data or b"\n"):  # the end of input ends a line too
            if typed.line is not None or typed.too_long:
                self._waiting.append(typed.line)
        if self._ended and self._waiting and self._waiting[-1] == "":
            self._waiting.pop()

    def _read_link(self) -> int | None:
        """Show what the controller said; return the exit code if that was its last word."""
        data = self._link.recv(CHUNK)
        if not data:
            return _failed("the controller closed the connection")
        over, ended = EOT in data, ETX in data
        shown = data.replace(ETX, b"").replace(EOT, b"")
        if self._greeted or self._asking:
            self._show(shown)
        elif over:  # refused before the greeting was over
            return _failed(shown.decode("ascii", "replace").strip())
        if over:
            return 0 if self._greeted else 1
        if ended:
            self._greeted = self._answered = True
            self._prompt()
        return None

    def _prompt(self) -> None:
        if self._asking and not self._waiting:
            self._show(PROMPT)

    def _show(self, data: bytes) -> None:
        self._target.write(data)
        self._target.flush()


def _why(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError | ConnectionRefusedError):
        return f"no controller listens on {path}; is the service running? (systemctl status podkeeper)"
    if isinstance(error, PermissionError):
        return f"no right to use {path}; ask to be made a member of the group of that file"
    return f"can't connect to {path}: {error}"


def _failed(reason: str) -> int:
    sys.stderr.write(f"podkeeper console: {reason}\n")
    return 1
