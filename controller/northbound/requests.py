"""The native command protocol: requests of principals in, commands for the scan out, and an answer to every one.

``{r}/cmd/{principal}/req`` takes one JSON object; ``{r}/cmd/{principal}/rsp`` has what became of it, in one message
for each state. The broker's access list makes the principal in the topic true. Whatever is not answered, because its
sender is unknown or it can't be read, is counted and said on ``{r}/evt``. Nothing that comes in raises.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controller.config.enclosure import Principal
from controller.core.commands import OPERATIONS, Code, Command, Operation, Outcome, State
from controller.core.slots import Setpoint
from controller.northbound.publisher import AUDIT, EVENT, Arrived, Message
from controller.northbound.snapshot import Snapshot
from controller.store import Answer, Answers

PAYLOAD_MAX: Final = 8192
SKEW_MS: Final = 30_000  # how far the sender's clock may be off
LIFE_MAX_MS: Final = 300_000  # how long a request may stay good
HEARTBEAT_LIFE_S: Final = 5.0
BEAT_SPACING_S: Final = 1.0
RATE_PER_S, BURST = 5.0, 20.0
REMEMBERED: Final = 4096  # answers of each principal
REMEMBERED_MS: Final = 24 * 3600 * 1000
AUDIT_SPACING_S: Final = 1.0
TEXT_MAX: Final = 200
UNKNOWN: Final = "(unknown)"
ROLES: Mapping[str, tuple[Operation, ...]] = {
    "setpoints": ("set", "relinquish"),
    "alarms": ("ack", "shelve", "unshelve"),
    "modes": ("start", "stop", "energise"),
    "isolation": ("isolate", "isolate_power"),
}
ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
NEEDED: Final = ("id", "op", "ts", "exp")
ALLOWED: Final = (*NEEDED, "target", "value", "unit", "slot", "ttl_s", "if_cfg", "by", "why")
# Keys that only make sense with some operations; a request that has one elsewhere means something else than it says.
ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "value": ("set",),
    "unit": ("set",),
    "slot": ("set", "relinquish"),
    "ttl_s": ("set", "shelve"),
}
TARGETED: Final = ("set", "relinquish", "ack", "shelve", "unshelve", "isolate", "isolate_power")
encode: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class _RefusedError(Exception):
    """A request that goes no further, with code and words for its sender."""

    def __init__(self, code: Code, message: str, state: State = "rejected") -> None:
        super().__init__(message)
        self.code, self.message, self.state = code, message, state


@dataclass(slots=True)
class Bucket:
    """Token bucket: RATE_PER_S, BURST at most."""

    tokens: float = BURST
    at: float = -math.inf

    def take(self, now: float) -> bool:
        self.tokens = min(BURST, self.tokens + RATE_PER_S * max(0.0, now - self.at))
        self.at = max(self.at, now)
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


@dataclass(slots=True)
class _Sender:
    """What is kept of one principal."""

    rights: Principal
    requests: Bucket = field(default_factory=Bucket)
    refusals: Bucket = field(
        default_factory=Bucket
    )  # answers to what came too fast: a flood is not answered by another
    beaten_at: float = -math.inf
    answers: OrderedDict[str, Answer] = field(default_factory=OrderedDict)

    def operations(self) -> set[str]:
        return {operation for role in self.rights.roles for operation in ROLES[role]}


class Requests:
    """Understands requests, remembers their answers, and says both what was answered and what was dropped.

    Args:
        root: first levels of every topic.
        principals: who may ask what.
        setpoints: what ``set`` may be about.
        revision: of the settings, for ``if_cfg``.
        boot: number of this start of the controller.
        answers: keeps answers over a restart.

    Attributes:
        counts: what came in, by what was done with it: ``command``, ``heartbeat``, ``answered``, ``dropped``.
    """

    def __init__(
        self,
        root: str,
        principals: Mapping[str, Principal],
        setpoints: Sequence[Setpoint],
        revision: str,
        boot: int,
        answers: Answers,
    ) -> None:
        self._root, self._revision, self._boot, self._answers = root, revision, boot, answers
        self._senders = {name: _Sender(rights) for name, rights in principals.items()}
        self._units = {row.point: row.unit for row in setpoints}
        self._newest: dict[tuple[str, str, int], int] = {}
        self._asked: dict[tuple[str, str], tuple[tuple[str, str, int], int]] = {}
        self._said: list[Message] = []
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], str] = {}
        self._audited_at = -math.inf
        self._audits = 0
        self._synchronised = False
        self._offset_ms = 0.0
        self.counts: Counter[str] = Counter()
        for answer in answers.answers():
            sender = self._senders.get(answer.principal)
            if sender:
                sender.answers[answer.id] = answer

    @property
    def subscriptions(self) -> tuple[str, ...]:
        return (f"{self._root}/cmd/+/req", f"{self._root}/hb/+") if self._senders else ()

    def received(self, arrived: Arrived, now: float) -> list[Command]:
        """Return the command in a message, if there is one that may go to the scan."""
        levels = arrived.topic.removeprefix(f"{self._root}/").split("/")
        self._offset_ms = arrived.wall_ms - 1000 * now
        if len(levels) == 2 and levels[0] == "hb":
            return self._beaten(levels[1], arrived, now)
        if len(levels) == 3 and levels[0] == "cmd" and levels[2] == "req":
            return self._requested(levels[1], arrived, now)
        return []

    def answered(self, outcomes: Sequence[Outcome], wall_ms: int) -> None:
        """Answer the senders of commands that came from here, now or in an earlier run."""
        for outcome in outcomes:
            sender = self._senders.get(outcome.principal)
            known = sender.answers.get(outcome.id) if sender else None
            if sender is None or known is None:
                continue
            asked = self._asked.pop((outcome.principal, outcome.id), None)
            if asked and outcome.accepted:
                self._newest[asked[0]] = asked[1]
            until = None if outcome.until is None else round(outcome.until * 1000 + self._offset_ms)
            reply = self._reply(outcome, until, wall_ms)
            self._say(outcome.principal, reply)
            self._remember(sender, known._replace(reply=reply, at_ms=wall_ms))

    def messages(self, snapshot: Snapshot, now: float) -> list[Message]:
        """Return the answers, and once a second what was dropped."""
        self._synchronised = snapshot.clock == "sync"
        self._offset_ms = snapshot.offset_ms
        if self._dropped and now - self._audited_at >= AUDIT_SPACING_S:
            self._audited_at = now
            self._said += [self._audit(*key, count, snapshot.wall_ms) for key, count in self._dropped.items()]
            self._dropped.clear()
            self._examples.clear()
        said, self._said = self._said, []
        return said

    # ------------------------------------------------------------------ what comes in

    def _beaten(self, principal: str, arrived: Arrived, now: float) -> list[Command]:
        sender = self._senders.get(principal)
        if sender is None or arrived.retain:
            return self._drop(principal, "retained heartbeat" if sender else "unknown principal")
        self.counts["heartbeat"] += 1
        if now - sender.beaten_at < BEAT_SPACING_S:
            return []
        sender.beaten_at = now
        return [Command("", principal, "heartbeat", "", now + HEARTBEAT_LIFE_S)]

    def _requested(self, principal: str, arrived: Arrived, now: float) -> list[Command]:
        sender = self._senders.get(principal)
        if sender is None:
            return self._drop(principal, "unknown principal")
        if arrived.retain:
            return self._drop(principal, "retained")
        if len(arrived.payload) > PAYLOAD_MAX:
            return self._drop(principal, f"more than {PAYLOAD_MAX} bytes")
        in_time = sender.requests.take(now)
        if not in_time and not sender.refusals.take(now):
            return self._drop(principal, "too fast")
        body, why = _parsed(arrived.payload)
        if body is None:
            return self._drop(principal, why)
        try:
            if not in_time:
                raise _RefusedError("rate", f"allowed: {RATE_PER_S:g} a second, {BURST:g} at once")
            return self._command(principal, sender, body, arrived, now)
        except _RefusedError as refused:
            outcome = Outcome(body["id"], principal, refused.state, refused.code, refused.message)
            self._say(principal, self._reply(outcome, None, arrived.wall_ms))
            self.counts["answered"] += 1
            return []

    def _command(
        self, principal: str, sender: _Sender, body: dict[str, Any], arrived: Arrived, now: float
    ) -> list[Command]:
        """Return the command, or nothing where its answer is known already; raise what stands against it."""
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]
        known = sender.answers.get(body["id"])
        waits = (principal, body["id"]) in self._asked
        if known and (known.reply or waits) and arrived.wall_ms - known.at_ms <= REMEMBERED_MS:
            if known.digest != digest:
                raise _RefusedError("id_reuse", "this id was used for another request")
            if known.reply:  # else the scan has not judged it yet; its answer is for both
                self._say(principal, known.reply)
            self.counts["answered"] += 1
            return []
        _check_keys(body)
        expires = now + self._life_ms(body, arrived.wall_ms) / 1000
        operation, target = self._permitted(sender.rights, sender.operations(), body)
        slot, value = body.get("slot", 0), body.get("value")
        subject = ("set" if operation == "relinquish" else operation, target, slot)
        if body["ts"] < self._newest.get(subject, 0):
            raise _RefusedError("", "a newer request was accepted already", "superseded")
        self._remember(sender, Answer(principal, body["id"], digest, "", arrived.wall_ms))
        self._asked[principal, body["id"]] = subject, body["ts"]
        by, why = body.get("by", ""), body.get("why", "")
        reason = f"{by}: {why}" if by and why else by or why
        self.counts["command"] += 1
        ttl_s = float(body.get("ttl_s", 0.0))
        return [Command(body["id"], principal, operation, target, expires, value, slot, ttl_s, reason)]

    def _life_ms(self, body: dict[str, Any], wall_ms: int) -> int:
        """Return for how long the request is still good. Without a clock to trust, only its own times count."""
        sent, until = body["ts"], body["exp"]
        if self._synchronised and abs(sent - wall_ms) > SKEW_MS:
            raise _RefusedError("expired", f"ts is {wall_ms - sent} ms old; allowed: {SKEW_MS} either way")
        if not 0 < until - sent <= LIFE_MAX_MS:
            raise _RefusedError("expired", f"allowed: exp up to {LIFE_MAX_MS} ms after ts")
        life: int = until - (wall_ms if self._synchronised else sent)
        if life <= 0:
            raise _RefusedError("expired", "exp is past")
        return life

    def _permitted(self, rights: Principal, operations: set[str], body: dict[str, Any]) -> tuple[Operation, str]:
        """Return operation and target as the core names them."""
        operation, target = body["op"], body.get("target", "")
        if operation not in operations:
            raise _RefusedError("forbidden", f"allowed: {', '.join(sorted(operations)) or 'nothing'}")
        if body.get("if_cfg", self._revision) != self._revision:
            raise _RefusedError("bad_request", f"if_cfg: the settings are {self._revision} now")
        if operation in ("set", "relinquish"):
            if body.get("slot") not in rights.slots:
                raise _RefusedError("forbidden", f"slots allowed: {', '.join(map(str, rights.slots)) or 'none'}")
            target = target.replace("/", ".", 1)
            if target not in self._units:
                known = ", ".join(name.replace(".", "/", 1) for name in self._units)
                raise _RefusedError("unknown_target", f"allowed: {known}")
        if operation == "set":
            if "value" not in body:
                raise _RefusedError("bad_request", "value is missing")
            if body.get("unit") != self._units[target]:
                raise _RefusedError("bad_unit", f'allowed: "{self._units[target]}"')
        return operation, target

    # ------------------------------------------------------------------ what goes out

    def _reply(self, outcome: Outcome, until_ms: int | None, wall_ms: int) -> str:
        body = {"id": outcome.id, "st": outcome.state, "code": outcome.code, "msg": outcome.message[:TEXT_MAX]}
        return encode({**body, "eff": outcome.effective, "until": until_ms, "ts": wall_ms})

    def _say(self, principal: str, reply: str) -> None:
        self._said.append(Message(f"{self._root}/cmd/{principal}/rsp", reply.encode(), retain=False, kind=EVENT))

    def _remember(self, sender: _Sender, answer: Answer) -> None:
        sender.answers[answer.id] = answer
        sender.answers.move_to_end(answer.id)
        gone = None
        if len(sender.answers) > REMEMBERED:
            gone, _ = sender.answers.popitem(last=False)
            self._asked.pop((answer.principal, gone), None)
        if answer.reply or gone:
            self._answers.keep_answer(answer, forget=gone)

    def _drop(self, principal: str, why: str) -> list[Command]:
        self.counts["dropped"] += 1
        key = principal if principal in self._senders else UNKNOWN, why
        self._dropped[key] += 1
        self._examples[key] = principal[:TEXT_MAX]
        return []

    def _audit(self, principal: str, why: str, count: int, wall_ms: int) -> Message:
        self._audits += 1
        head = {"id": f"{self._boot}-req-{self._audits}", "ts": wall_ms, "boot": self._boot, "kind": AUDIT}
        example = self._examples.get((principal, why), "")
        body = {**head, "event": "request_dropped", "by": principal, "example": example, "why": why, "count": count}
        return Message(f"{self._root}/evt", encode(body).encode(), retain=False, kind=AUDIT)


def _parsed(payload: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the JSON object of a request that has a usable id, or why there is none."""
    try:
        body = json.loads(payload.decode(), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        return None, "not JSON"
    if not isinstance(body, dict):
        return None, "not a JSON object"
    if not isinstance(body.get("id"), str) or not ID.fullmatch(body["id"]):
        return None, "no usable id"
    return body, ""


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _check_keys(body: dict[str, Any]) -> None:
    """Raise what is wrong with keys and their types."""
    for key in body:
        if key not in ALLOWED:
            raise _RefusedError("bad_request", f"unknown key {key[:40]!a}; allowed: {', '.join(ALLOWED)}")
    for key in NEEDED:
        if key not in body:
            raise _RefusedError("expired" if key == "exp" else "bad_request", f"{key} is missing")
    if body["op"] not in OPERATIONS:
        raise _RefusedError("bad_request", f"op: allowed: {', '.join(OPERATIONS)}")
    for key, operations in ONLY_WITH.items():
        if key in body and body["op"] not in operations:
            raise _RefusedError("bad_request", f"{key} is only for {' and '.join(operations)}")
    for key in ("ts", "exp"):
        if type(body[key]) is not int or not 0 <= body[key] < 2**53:
            raise _RefusedError("bad_request", f"{key}: allowed: milliseconds since 1970")
    if "slot" in body and type(body["slot"]) is not int:
        raise _RefusedError("bad_request", "slot: allowed: a whole number")
    ttl_s = body.get("ttl_s", 0)
    if type(ttl_s) not in (int, float) or not 0 <= ttl_s <= 1e9:
        raise _RefusedError("bad_request", "ttl_s: allowed: seconds")
    if type(body.get("value", 0)) not in (int, float) or not abs(body.get("value", 0)) < 1e15:
        raise _RefusedError("bad_request", "value: allowed: a number")
    for key in ("target", "unit", "if_cfg", "by", "why"):
        if not isinstance(body.get(key, ""), str) or len(body.get(key, "")) > TEXT_MAX:
            raise _RefusedError("bad_request", f"{key}: allowed: text of up to {TEXT_MAX} characters")
    if (body["op"] in TARGETED) != bool(body.get("target")):
        raise _RefusedError("bad_request", f"target: {'needed' if body['op'] in TARGETED else 'not'} for {body['op']}")
