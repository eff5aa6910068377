from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.console.lines import Lines
from controller.console.session import LINE_MAX
from controller.console.talk import Pace


def fed(*chunks: bytes, editing: bool = False) -> tuple[list[str | None], bytes]:
    """Return the lines (None: too long) and the echo."""
    lines = Lines(editing=editing)
    typed = [one for chunk in chunks for one in lines.feed(chunk)]
    return [one.line for one in typed if one.line is not None or one.too_long], b"".join(one.echo for one in typed)


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"a\nb\rc\r\nd\n", ["a", "b", "c", "d"]),
        (b"a\r\n\r\nb\n\n", ["a", "", "b", ""]),
        (b"a\tb\n", ["a b"]),
        (b"a\x00\x01\x7fb\xc3\xa9\xff\n", ["ab"]),
        (b"\x1b[31mred\x1b[0m\n", ["red"]),
        (b"\x1b[A\x1bOPx\x1bcy\n", ["xy"]),
        (b"\x1b]0;title\x07x\n", ["x"]),
        (b"\x1b]0;title\x1b\\x\n", ["x"]),
        (b"\x1b]never ended\nstatus\n", ["", "status"]),
        (b"\x9b2Jx\n", ["2Jx"]),
        (b"no end", []),
    ],
)
def test_lines(data: bytes, lines: list[str]) -> None:
    assert fed(data) == (lines, b"")
    assert fed(*(bytes([byte]) for byte in data)) == (lines, b"")


def test_editing() -> None:
    lines, echo = fed(b"stx\x08atus\x7f\x7f\x7f\x7f\x7f\x7f\x7f\x7fok\r", b"dropped\x15", b"gone\x03\r\n", editing=True)
    assert lines == ["ok", "", "", ""]
    assert echo.startswith(b"stx\b \batus")
    assert echo.count(b"\b \b") == 7  # never more than was typed
    assert fed(b"\x1b[2J\x07a\x0e\r", editing=True) == (["a"], b"a\r\n")


def test_too_long_is_told_once_and_at_once() -> None:
    lines = Lines()
    assert not list(lines.feed(b"x" * LINE_MAX))
    assert [typed.too_long for typed in lines.feed(b"x")] == [True]
    for _ in range(256):
        assert not list(lines.feed(b"x" * 4096))
    assert len(lines._line) == 0
    assert [typed.line for typed in lines.feed(b"\nstatus\n")] == ["status"]


@given(st.lists(st.binary(max_size=2000), max_size=5), st.booleans())
def test_whatever_comes_lines_are_clean_and_short(chunks: list[bytes], editing: bool) -> None:
    lines, echo = fed(*chunks, editing=editing)
    for line in lines:
        assert line is None or (len(line) <= LINE_MAX and line.isprintable() and line.isascii())
    assert all(byte in b"\r\n\b" or 32 <= byte < 127 for byte in echo)


@given(st.lists(st.floats(0, 100), max_size=300))
def test_pace_never_gives_more_than_its_burst_and_its_rate(steps: list[float]) -> None:
    pace, now = Pace(0.0, burst=10, per_s=5), 0.0
    for answered, step in enumerate(steps, 1):
        now += step / 1000
        now += pace.wait_s(1, now)
        assert answered <= 10 + 5 * now + 1e-6
