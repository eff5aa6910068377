"""One technician's session: a line of text in, text out. No I/O; whoever carries the text calls ``answer``."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from controller.console import screens
from controller.console.orders import ORDERS, Reply, Request, order
from controller.console.screens import WIDTH, Picture, plain, wrapped
from controller.core.commands import MODE_OPERATIONS, Operation, Outcome
from controller.core.engine import View
from controller.core.pod import Pod
from controller.core.points import Point, Value

LINE_MAX = 512
SUBMIT_MAX_S = 5.0  # how long the scan may take to judge a command
TOO_LONG = f"Line refused: longer than {LINE_MAX} characters."


class Desk(Protocol):
    """What a console needs of the service."""

    @property
    def pod(self) -> Pod: ...

    @property
    def points(self) -> Mapping[str, Point]:
        """Every point of the engine by id, those that the scan derives too."""

    @property
    def about(self) -> Mapping[str, str]:
        """``name``, ``site``, ``version`` and ``revision``."""

    def links(self) -> Mapping[str, str]:
        """Return how each link to the outside stands, in words."""

    def view(self) -> View | None:
        """Return what the newest scan found; None before the first."""

    def now(self) -> float:
        """Return monotonic seconds, on the clock of the scan."""

    async def submit(
        self,
        operation: Operation,
        target: str,
        principal: str,
        *,
        value: Value | None = None,
        slot: int = 0,
        ttl_s: float = 0.0,
        reason: str = "",
    ) -> Outcome:
        """Hand a command to the next scan and return how it was judged."""


# verb: (usage, one line, more)
HELP: Mapping[str, tuple[str, str, str]] = {
    "help": ("help [VERB]", "this list, or more about one verb", ""),
    "status": ("status", "the whole pod on one page", "Whatever is not GOOD stands with its reason at the end."),
    "points": (
        "points [FILTER]",
        "devices, or the points that match",
        "FILTER is a device, a part of a point's id, a pattern with * such as *.speed, or a quality: "
        "good, stale, bad, forced. Without it: every device with how many points it has and how good they are.",
    ),
    "alarms": (
        "alarms [suppressed|figures]",
        "standing alarms: what they mean and what to do",
        "The most urgent one comes first, what is put aside last. suppressed: those whose cause has an alarm of its "
        "own. figures: how many come, floods, chattering, stale.",
    ),
    "mode": (
        "mode [start|stop|reset|energise|maintain|release]",
        "the mode, or ask for another",
        "start: from OFF through all checks to NORMAL. stop: racks off, loop cooled down, OFF. "
        "reset: after the cause of a trip or of a failed machine is gone. "
        "energise: in NORMAL, put on racks that are off. "
        "maintain: from OFF, automatic control leaves everything as it is. release: back from it.",
    ),
    "ack": (
        "ack ID|*",
        "acknowledge one alarm, or all",
        "Says that a person knows. Changes nothing in the plant, and does not reset a trip.",
    ),
    "shelve": (
        "shelve ID [TIME] REASON",
        "put one alarm aside for a time",
        "TIME is 30m or 2h, at most 8h; 1h without it. The alarm goes on being watched and logged, and comes back by "
        "itself at the end.",
    ),
    "unshelve": ("unshelve ID", "bring a shelved alarm back now", ""),
    "out_of_service": (
        "out_of_service ID REASON",
        "take one alarm out for work",
        "It stays out, over a restart too, until return_to_service. REASON names the work.",
    ),
    "return_to_service": ("return_to_service ID", "bring it back after the work", ""),
    "slots": (
        "slots [SETPOINT]",
        "setpoints that may be asked: who asks what, what wins, what is in force",
        "The lowest slot wins: 5 protection, 7 console, 8 and 10 BMS, 13 optimiser; without any, the default.",
    ),
    "set": (
        "set SETPOINT VALUE [TIME] REASON",
        "ask for a setpoint, in slot 7",
        "TIME is 30m or 2h, at most 8h; 1h without it. It beats every slot of the BMS, and never the dew point.",
    ),
    "relinquish": (
        "relinquish SETPOINT [SLOT]",
        "give slot 7 back, or put out who holds another",
        "The value moves to the next slot, or to the default, without a bump.",
    ),
    "local": (
        "local REASON",
        "take local control: nobody outside may set, start, stop or energise",
        "Empties slots 8 to 16 of every setpoint and keeps them empty until remote. Protection goes on, and a rack "
        "may still be isolated from outside.",
    ),
    "remote": ("remote", "give local control back", "Nothing comes back by itself: who was put out must ask again."),
    "isolate": (
        "isolate RACK REASON",
        "take a rack off: its outlets at once, then its valve",
        "Latched until mode reset.",
    ),
    "isolate_power": (
        "isolate_power RACK REASON",
        "take a rack's power off and leave its water alone",
        "Latched until mode reset.",
    ),
    "bypass": (
        "bypass INTERLOCK [TIME] REASON",
        "defeat one interlock for a time",
        "TIME is 30m or 2h; 30m without it. Only rows that allow it, for as long as they allow (docs/hazards.md). An "
        "alarm stands while it lasts, and it ends by itself. What it has tripped already stays tripped.",
    ),
    "unbypass": ("unbypass INTERLOCK", "end a bypass now", ""),
    "links": ("links", "buses, their load and errors, and who does not answer", ""),
    "quit": ("quit", "leave", ""),
}
MODES: Mapping[str, Operation] = {operation: operation for operation in MODE_OPERATIONS}


class Session:
    """Understands lines and draws screens. ``principal`` is who types, as it will stand in the journal."""

    def __init__(self, desk: Desk, principal: str) -> None:
        self.desk = desk
        self.principal = principal

    def greeting(self) -> str:
        about = self.desk.about
        return _folded(f"Podkeeper console of {about.get('name', '?')} at {about.get('site', '?')}. Type help.")

    def line(self, text: str) -> Reply:
        """Return the answer to one line."""
        reply = self._line(text)
        return replace(reply, text=_folded(reply.text))

    def _line(self, text: str) -> Reply:
        if len(text) > LINE_MAX:
            return Reply(TOO_LONG)
        words = plain(text).split()
        if not words:
            return Reply("")
        verb, rest = words[0].lower(), words[1:]
        if verb not in HELP:
            return Reply(_unknown("verb", verb, list(HELP)) + " help lists all.")
        if verb in ORDERS:
            return order(verb, rest, HELP[verb][0])
        if len(rest) > (0 if verb in ("status", "links", "quit") else 1):
            return Reply(f"Too many words. Usage: {HELP[verb][0]}")
        return self._act(verb, rest[0] if rest else "")

    def judged(self, request: Request, outcome: Outcome) -> str:
        """Return how the scan judged what was asked."""
        asked = f"{request.operation} {request.target}".strip()
        if outcome.accepted:
            return _folded(f"Accepted: {asked}{self._in_force(request, outcome)}.")
        return _folded(f"Refused: {asked}: {outcome.message or 'no reason given'} ({outcome.code or 'rejected'}).")

    def _in_force(self, request: Request, outcome: Outcome) -> str:
        """Return what wins now and until when, for an order about a setpoint."""
        if request.operation not in ("set", "relinquish") or outcome.effective is None:
            return ""
        wins = screens.value_text(self.desk.points.get(request.target), outcome.effective)
        lasts = "" if outcome.until is None else f", lasts {screens.span(outcome.until - self.desk.now())}"
        masked = f"; {outcome.message}" if outcome.message else ""
        return f": {wins} wins{lasts}{masked}"

    def _act(self, verb: str, word: str) -> Reply:
        if verb == "help":
            return Reply(_help(word.lower()))
        if verb == "quit":
            return Reply("Bye.", over=True)
        if verb == "alarms" and word not in ("", "suppressed", "figures"):
            return Reply(f"Usage: {HELP['alarms'][0]}")
        if verb == "ack":
            return Reply("", Request("ack", word)) if word else Reply(f"Which alarm? Usage: {HELP['ack'][0]}")
        if verb == "mode" and word:
            operation = MODES.get(word.lower())
            if operation is None:
                return Reply(_unknown("operation", word, list(MODES)) + f" Usage: {HELP['mode'][0]}")
            return Reply("", Request(operation))
        return Reply(self._screen(verb, word))

    def _screen(self, verb: str, word: str) -> str:
        view = self.desk.view()
        if view is None:
            return "The first scan has not finished yet; try again in a moment."
        desk = self.desk
        picture = Picture(view, desk.pod, desk.points, desk.about, desk.now(), desk.links())
        if verb == "points":
            return screens.points(picture, word)
        if verb == "alarms" and word:
            return screens.alarm_figures(picture) if word == "figures" else screens.suppressed(picture)
        if verb == "slots":
            return screens.slots(picture, word)
        draw = {"status": screens.status, "alarms": screens.alarms, "mode": screens.mode, "links": screens.links}
        return draw[verb](picture)


async def answer(session: Session, text: str) -> Reply:
    """Return the answer to one line, after the scan has judged the command in it, if there is one."""
    reply = session.line(text)
    if reply.request is None:
        return reply
    try:
        async with asyncio.timeout(SUBMIT_MAX_S):
            outcome = await session.desk.submit(
                reply.request.operation, reply.request.target, session.principal,
                value=reply.request.value, slot=reply.request.slot, ttl_s=reply.request.ttl_s,
                reason=reply.request.reason,
            )  # fmt: skip
    except TimeoutError:
        return Reply(f"No answer from the scan within {SUBMIT_MAX_S:.0f} s; it may still act. See: status")
    return Reply(session.judged(reply.request, outcome))


def _folded(text: str) -> str:
    """Return text with every line that is too wide folded; a screen passes as it is."""
    lines = [part for line in text.split("\n") for part in ([line] if len(line) <= WIDTH else wrapped(line, ""))]
    return "\n".join(map(plain, lines))


def _unknown(what: str, given: str, known: list[str]) -> str:
    shown = given if len(given) <= 24 else given[:23] + "~"
    nearest = difflib.get_close_matches(given[:24], known, 1, cutoff=0.0)
    return f'No {what} "{shown}"; nearest is {nearest[0]}.'


def _help(verb: str) -> str:
    if not verb:
        return screens.screen(screens.table([(usage, short) for usage, short, _ in HELP.values()], ""))
    if verb not in HELP:
        return _unknown("verb", verb, list(HELP)) + " help lists all."
    usage, short, more = HELP[verb]
    return screens.screen([f"{usage}: {short}.", *(screens.wrapped(more, "") if more else [])])
