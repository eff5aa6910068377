"""structlog set-up: one JSON object a line for machines, text for a person at a terminal; and repeats kept short."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error", "critical"]
PRIORITIES = {"critical": 2, "error": 3, "exception": 3, "warning": 4, "warn": 4, "info": 6, "debug": 7}  # syslog(3)
KEYS_MAX = 1000


def configure(level: Level = "info", stream: TextIO | None = None) -> None:
    """Send every log line of this process to ``stream`` (stdout by default).

    Under systemd ($JOURNAL_STREAM set) a line is ``<N>`` + one JSON object, where N is journald's priority.
    Elsewhere it is text on a terminal and JSON in a file or pipe. Loggers of libraries come through from WARNING on,
    in the same form.
    """
    stream = sys.stdout if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _renderers(stream)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)


def _renderers(stream: TextIO) -> list[Processor]:
    if "JOURNAL_STREAM" in os.environ:
        return [structlog.processors.format_exc_info, _Journal()]
    if stream.isatty():
        return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


class _Journal:
    """Renders JSON behind the priority that journald takes off again (sd-daemon(3))."""

    def __init__(self) -> None:
        self._json = structlog.processors.JSONRenderer()

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> str:
        priority = PRIORITIES.get(str(event.get("level")), 6)
        rendered = self._json(logger, name, event)
        return f"<{priority}>{rendered if isinstance(rendered, str) else rendered.decode()}"


@dataclass(slots=True)
class _Trouble:
    failures: int = 0  # since the last line about this key
    total: int = 0  # since the log last said that it works
    failed_at: float = float("-inf")
    said_failing: bool = False
    said_at: float = float("-inf")


class Repeats:
    """Logs a trouble that repeats: its first failure, every Nth, and when it is over, with how often it failed.

    What flaps says at most two lines (failing, working) in ``settle_s``, however fast it flaps.
    """

    def __init__(
        self,
        failing: str,
        working: str,
        *,
        every: int = 100,
        settle_s: float = 60.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """``failing`` and ``working`` are the events to log."""
        self._failing, self._working = failing, working
        self._every, self._settle_s, self._now = every, settle_s, now
        self._troubles: dict[str, _Trouble] = {}
        self._log = structlog.get_logger()

    def failed(self, key: str, **details: Any) -> None:
        """``key`` failed (again)."""
        if key not in self._troubles and len(self._troubles) >= KEYS_MAX:
            self._troubles.pop(next(iter(self._troubles)))
        trouble = self._troubles.setdefault(key, _Trouble())
        trouble.failures += 1
        trouble.total += 1
        trouble.failed_at = self._now()
        new = not trouble.said_failing and self._now() - trouble.said_at >= self._settle_s
        if new or trouble.failures >= self._every:
            self._log.warning(self._failing, key=key, failures=trouble.total, **details)
            trouble.failures, trouble.said_failing, trouble.said_at = 0, True, self._now()

    def worked(self, key: str, **details: Any) -> None:
        """``key`` worked; costs next to nothing when it did so before."""
        trouble = self._troubles.get(key)
        if trouble is None:
            return
        if trouble.said_failing:
            self._log.info(self._working, key=key, failures=trouble.total, **details)
            trouble.failures, trouble.total, trouble.said_failing, trouble.said_at = 0, 0, False, self._now()
        elif self._now() - trouble.failed_at >= self._settle_s:
            del self._troubles[key]
