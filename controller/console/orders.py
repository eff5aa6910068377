"""Orders that need more than one word: alarms put aside, setpoints asked, local control. A line in, a request out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.core.commands import Operation, number
from controller.core.points import Value
from controller.core.slots import CONSOLE

TIME = re.compile(r"(\d{1,4})([mh])")
UNIT_S: Mapping[str, float] = {"m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Request:
    """A command that a line asks for."""

    operation: Operation
    target: str = ""
    value: Value | None = None
    slot: int = 0
    ttl_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to show; a command to submit first, if there is one; and whether the session is over."""

    text: str
    request: Request | None = None
    over: bool = False


class _UsageError(Exception):
    """What is wrong with an order, in words."""


def order(verb: str, words: Sequence[str], usage: str) -> Reply:
    """Return the request of one of ORDERS, or what is wrong with the line."""
    try:
        return Reply("", ORDERS[verb](list(words)))
    except _UsageError as error:
        return Reply(f"{error} Usage: {usage}")


def _taken(words: list[str], question: str) -> str:
    if not words:
        raise _UsageError(question)
    return words.pop(0)


def _time_s(words: list[str]) -> float:
    """Take a time from the front of ``words``, if one stands there; return seconds, 0 without one."""
    time = TIME.fullmatch(words[0].lower()) if words else None
    if time is None:
        return 0.0
    if not int(time[1]):
        raise _UsageError("A time of nothing.")
    words.pop(0)
    return int(time[1]) * UNIT_S[time[2]]


def _reason(words: list[str]) -> str:
    if not words:
        raise _UsageError("Why?")
    return " ".join(words)


def _ended(words: list[str]) -> None:
    if words:
        raise _UsageError("Too many words.")


def _setpoint(words: list[str]) -> str:
    name = _taken(words, "Which setpoint?").lower().replace("/", ".")
    return name if "." in name else f"pod.{name}"


def _shelve(words: list[str]) -> Request:
    target, ttl_s = _taken(words, "Which alarm?"), _time_s(words)
    return Request("shelve", target, ttl_s=ttl_s, reason=_reason(words))


def _out_of_service(words: list[str]) -> Request:
    target = _taken(words, "Which alarm?")
    return Request("out_of_service", target, reason=_reason(words))


def _back(operation: Any) -> Callable[[list[str]], Request]:
    def taken(words: list[str]) -> Request:
        target = _taken(words, "Which alarm?")
        _ended(words)
        return Request(operation, target)

    return taken


def _set(words: list[str]) -> Request:
    target, text = _setpoint(words), _taken(words, "Which value?")
    try:
        value = number(float(text))
    except ValueError:
        value = None
    if value is None:
        raise _UsageError("The value is no number.")
    ttl_s = _time_s(words)
    return Request("set", target, value, CONSOLE, ttl_s, _reason(words))


def _relinquish(words: list[str]) -> Request:
    target = _setpoint(words)
    text = words.pop(0) if words else str(CONSOLE)
    _ended(words)
    if not (text.isascii() and text.isdecimal() and len(text) <= 2):
        raise _UsageError("The slot is no number.")
    return Request("relinquish", target, slot=int(text), reason="from the console")


def _local(words: list[str]) -> Request:
    return Request("lock", reason=_reason(words))


def _remote(words: list[str]) -> Request:
    _ended(words)
    return Request("unlock")


def _isolate(operation: Any) -> Callable[[list[str]], Request]:
    def taken(words: list[str]) -> Request:
        target = _taken(words, "Which rack?")
        return Request(operation, target, reason=_reason(words))

    return taken


def _bypass(words: list[str]) -> Request:
    target, ttl_s = _taken(words, "Which interlock?"), _time_s(words)
    return Request("bypass", target, ttl_s=ttl_s, reason=_reason(words))


def _unbypass(words: list[str]) -> Request:
    target = _taken(words, "Which interlock?")
    _ended(words)
    return Request("unbypass", target)


ORDERS: Mapping[str, Callable[[list[str]], Request]] = {
    "shelve": _shelve,
    "unshelve": _back("unshelve"),
    "out_of_service": _out_of_service,
    "return_to_service": _back("return_to_service"),
    "set": _set,
    "relinquish": _relinquish,
    "local": _local,
    "remote": _remote,
    "isolate": _isolate("isolate"),
    "isolate_power": _isolate("isolate_power"),
    "bypass": _bypass,
    "unbypass": _unbypass,
}
