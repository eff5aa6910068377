"""Bytes of a terminal, a pipe or an attacker -> lines. Pure, and never holds more than one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.console.session import LINE_MAX

LF, CR, TAB, ESC, BEL, BACKSPACE, DELETE = 10, 13, 9, 27, 7, 8, 127
CANCEL = (3, 21)  # Ctrl-C and Ctrl-U
RUBOUT = b"\b \b"


@dataclass(frozen=True, slots=True)
class Typed:
    """What came of some bytes: echo for the terminal, and a whole line, or that one was too long."""

    echo: bytes = b""
    line: str | None = None
    too_long: bool = False


class Lines:
    """Splits at CR, LF and CRLF. Keeps printable ASCII only: control bytes, ANSI sequences and the rest are dropped.

    A line that grows over LINE_MAX is reported once, at that moment; the rest of it is dropped unseen.
    With ``editing``, backspace, Ctrl-C and Ctrl-U work, and what is typed is echoed.
    """

    def __init__(self, *, editing: bool = False) -> None:
        self._editing = editing
        self._line = bytearray()
        self._echo = bytearray()
        self._dropping = False
        self._after_cr = False
        self._escape = ""  # "", "esc" after ESC, "csi" inside ESC [, "text" inside ESC ] and its like

    def feed(self, data: bytes) -> Iterator[Typed]:
        for byte in data:
            typed = self._take(byte)
            if typed:
                yield typed
        if self._echo:
            yield Typed(self._taken_echo())

    def _take(self, byte: int) -> Typed | None:
        after_cr, self._after_cr = self._after_cr, byte == CR
        if byte in (CR, LF):
            self._escape = ""
            return None if byte == LF and after_cr else self._end()
        if self._escape or byte == ESC:
            self._skip_escape(byte)
        elif self._editing and byte in (BACKSPACE, DELETE):
            if self._line:
                self._line.pop()
                self._echo += RUBOUT
        elif self._editing and byte in CANCEL:
            self._line.clear()
            return self._end()
        elif (32 <= byte < 127 or byte == TAB) and not self._dropping:
            return self._grow(32 if byte == TAB else byte)
        return None

    def _grow(self, byte: int) -> Typed | None:
        if len(self._line) == LINE_MAX:
            self._line.clear()
            self._dropping = True
            return Typed(self._taken_echo(b"\r\n"), too_long=True)
        self._line.append(byte)
        if self._editing:
            self._echo.append(byte)
        return None

    def _end(self) -> Typed | None:
        if self._dropping:
            self._dropping = False
            return None
        line = self._line.decode("ascii")
        self._line.clear()
        return Typed(self._taken_echo(b"\r\n"), line)

    def _taken_echo(self, more: bytes = b"") -> bytes:
        echo = bytes(self._echo + more) if self._editing else b""
        self._echo.clear()
        return echo

    def _skip_escape(self, byte: int) -> None:
        """Drop an escape sequence (ECMA-48) up to its end; a line's end ends it too."""
        if byte == ESC:
            self._escape = "esc"
        elif self._escape == "esc":
            self._escape = {0x5B: "csi", 0x4F: "ss3"}.get(byte, "text" if byte in b"]PX^_" else "")
        elif self._escape == "ss3" or (self._escape == "csi" and 0x40 <= byte <= 0x7E) or byte == BEL:
            self._escape = ""
