from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from controller import log

LIBRARIES = ("pymodbus", "pymodbus.logging", "mqtt", "transitions", "transitions.core", "asyncio")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging as it was before, whatever a test configures."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    muted = {name: logging.getLogger(name).level for name in LIBRARIES}  # the bench's broker mutes some
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.NOTSET)
    yield
    for name, before in muted.items():
        logging.getLogger(name).setLevel(before)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    structlog.get_logger().info("mode_changed", cause="two\nlines", dest="NORMAL")
    structlog.get_logger().debug("not at this level")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry["event"] == "mode_changed"
    assert entry["cause"] == "two\nlines"
    assert entry["level"] == "info"
    assert entry["timestamp"].endswith("Z")


def test_what_json_does_not_know_is_still_logged() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    structlog.get_logger().warning("odd", value={1, 2}, number=float("nan"))
    assert json.loads(stream.getvalue())["event"] == "odd"


@pytest.mark.parametrize(
    ("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)]
)
def test_journald_gets_its_priority(monkeypatch: pytest.MonkeyPatch, level: log.Level, priority: int) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    stream = Terminal()
    log.configure("debug", stream)
    getattr(structlog.get_logger(), level)("said")
    prefix, entry = stream.getvalue()[:3], json.loads(stream.getvalue()[3:])
    assert prefix == f"<{priority}>"
    assert entry["level"] == level


def test_an_exception_is_one_line_for_journald(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    stream = io.StringIO()
    log.configure("info", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("<3>")
    assert "ValueError: broken" in json.loads(line[3:])["exception"]


def test_a_terminal_gets_text_without_colour() -> None:
    stream = Terminal()
    log.configure("info", stream)
    structlog.get_logger().info("mode_changed", dest="NORMAL")
    assert "mode_changed" in stream.getvalue()
    assert "dest=NORMAL" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_come_through_from_warning_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    stream = io.StringIO()
    log.configure("debug", stream)
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("no answer from %s", "unit 3")
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line[3:])
    assert line.startswith("<4>")
    assert entry["event"] == "no answer from unit 3"
    assert entry["logger"] == name


def test_configured_twice_says_things_once() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    log.configure("info", stream)
    logging.getLogger("mqtt").error("gone")
    assert len(stream.getvalue().splitlines()) == 1


class Watch:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_repeats_log_the_first_every_nth_and_the_end_with_the_count() -> None:
    repeats = log.Repeats("device_silent", "device_back", every=10, now=Watch())
    with capture_logs() as lines:
        repeats.worked("pump_1")
        for _ in range(25):
            repeats.failed("pump_1", reason="timeout")
        repeats.worked("pump_1")
        repeats.worked("pump_1")
    assert [(line["event"], line["failures"]) for line in lines] == [
        ("device_silent", 1),
        ("device_silent", 11),
        ("device_silent", 21),
        ("device_back", 25),
    ]
    assert lines[0]["key"] == "pump_1"
    assert lines[0]["reason"] == "timeout"


def test_keys_do_not_share_a_count() -> None:
    repeats = log.Repeats("silent", "back", now=Watch())
    with capture_logs() as lines:
        repeats.failed("pump_1")
        repeats.failed("pump_2")
        repeats.worked("pump_2")
    assert [(line["event"], line["key"]) for line in lines] == [
        ("silent", "pump_1"),
        ("silent", "pump_2"),
        ("back", "pump_2"),
    ]


def test_what_flaps_does_not_flood() -> None:
    watch = Watch()
    repeats = log.Repeats("silent", "back", every=10_000, settle_s=60, now=watch)
    with capture_logs() as lines:
        for _ in range(3600):
            watch.at += 0.5
            repeats.failed("pump_1")
            watch.at += 0.5
            repeats.worked("pump_1")
    assert len(lines) <= 2 * (3600 / 60 + 1)
    assert [line["event"] for line in lines] == ["silent", "back"] * (len(lines) // 2)
    assert sum(line["failures"] for line in lines if line["event"] == "back") > 3500


def test_trouble_that_stays_is_told_even_right_after_a_recovery() -> None:
    watch = Watch()
    repeats = log.Repeats("silent", "back", every=10_000, settle_s=60, now=watch)
    with capture_logs() as lines:
        repeats.failed("pump_1")
        repeats.worked("pump_1")
        for _ in range(70):
            watch.at += 1
            repeats.failed("pump_1")
    assert [line["event"] for line in lines] == ["silent", "back", "silent"]


def test_a_key_that_settled_is_forgotten_and_their_number_is_bounded() -> None:
    watch = Watch()
    repeats = log.Repeats("silent", "back", settle_s=60, now=watch)
    with capture_logs():
        for number in range(log.KEYS_MAX + 50):
            repeats.failed(f"device_{number}")
        assert len(repeats._troubles) == log.KEYS_MAX
        repeats.worked(f"device_{log.KEYS_MAX}")
        watch.at += 61
        repeats.worked(f"device_{log.KEYS_MAX}")
    assert len(repeats._troubles) == log.KEYS_MAX - 1
