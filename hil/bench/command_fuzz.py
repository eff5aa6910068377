"""Requests good, bad and hostile against the real parser and the real engine: nothing may act that should not.

Each message is made right first and then spoilt in one known way, so that what may come of it is known without asking
the parser. Time is virtual: requests, heartbeats and scans follow one another as fast as they can be worked off.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.config.plan import Plan, load_plan
from controller.core.commands import OPERATIONS, Command
from controller.core.engine import Engine
from controller.core.points import Kind, Reading, Value, good
from controller.northbound.native import Native
from controller.northbound.publisher import Arrived
from controller.northbound.snapshot import snapshot
from hil.bench.result import Result

NAME = "command-fuzz"
REFERENCE = Path(__file__).parents[2] / "profiles" / "enclosures" / "reference-pod.toml"
MESSAGES, QUICK_MESSAGES = 100_000, 5_000
SCAN_S = 0.2
FILL_SCANS = 4
WALL_MS = 1_780_000_000_000
NEAR = 1e-6
HUMIDITIES = (30.0, 45.0, 60.0, 80.0)  # the dew point passes from 5 to over 20 Cel
SETPOINTS: Mapping[str, tuple[str, float, float]] = {
    "pod/supply_temp_sp": ("Cel", 22.0, 40.0),
    "pod/fws_supply_temp_sp": ("Cel", 16.0, 28.0),
    "pod/fws_pump_speed_sp": ("%", 60.0, 100.0),
}
SLOTS: Mapping[str, tuple[int, ...]] = {"bms": (8, 10), "optimiser": (13,)}


@dataclass(frozen=True, slots=True)
class Sent:
    """One message, and what may come of it: ``act`` None where a random change may have left it right."""

    topic: str
    payload: bytes
    act: bool | None
    retain: bool = False


@dataclass(slots=True)
class Tally:
    """What came of all messages."""

    messages: int = 0
    acted: int = 0
    wrongly: list[str] = field(default_factory=list)
    unanswered: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Sender:
    """Makes messages from a seed. ``history`` has requests that acted, for replays."""

    def __init__(self, seed: int, root: str) -> None:
        self.dice = random.Random(seed)
        self._root = root
        self._number = 0
        self.history: list[tuple[str, dict[str, Any]]] = []

    def valid(self, wall_ms: int) -> tuple[str, dict[str, Any]]:
        """Return principal and body of a request that may act."""
        dice = self.dice
        self._number += 1
        principal = dice.choice(list(SLOTS))
        target = dice.choice(list(SETPOINTS))
        unit, low, high = SETPOINTS[target]
        body: dict[str, Any] = {"id": f"n{self._number}", "ts": wall_ms, "exp": wall_ms + 20_000, "target": target}
        body["slot"] = dice.choice(SLOTS[principal])
        if dice.random() < 0.15:
            return principal, {**body, "op": "relinquish"}
        value = round(dice.uniform(low, high), 1)
        body |= {"op": "set", "value": value, "unit": unit, "ttl_s": dice.choice((0, 30, 600, 900)), "by": "fuzz"}
        return principal, body

    def message(self, wall_ms: int) -> tuple[str, Sent]:
        """Return the kind of the next message, and the message."""
        principal, body = self.valid(wall_ms)
        kind = self.dice.choice(KINDS)
        if kind in ("replay", "id reuse") and not self.history:
            kind = "valid"
        topic = f"{self._root}/cmd/{principal}/req"
        if kind == "valid":
            return kind, Sent(topic, encoded(body), True)
        if kind == "replay":
            principal, body = self.dice.choice(self.history)
            return kind, Sent(f"{self._root}/cmd/{principal}/req", encoded(body), False)
        if kind == "id reuse":
            principal, known = self.dice.choice(self.history)
            body = {**known, "ts": wall_ms, "exp": wall_ms + 20_000, "why": "another"}
            return kind, Sent(f"{self._root}/cmd/{principal}/req", encoded(body), False)
        if kind == "retained":
            return kind, Sent(topic, encoded(body), False, retain=True)
        if kind == "principal":
            other = self.dice.choice(("nobody", "console:ann", "", "bms ", "..", "protection", "b" * 500))
            return kind, Sent(f"{self._root}/cmd/{other}/req", encoded(body), False)
        if kind == "topic":
            tail = self.dice.choice(
                ("cmd/bms", "cmd/bms/rsp", "hb", "cmd/bms/req/x", "cmd/../bms/req", "override", "status")
            )
            return kind, Sent(f"{self._root}/{tail}", encoded(body), False)
        if kind == "heartbeat":
            return kind, Sent(f"{self._root}/hb/{principal}", self.dice.randbytes(self.dice.randrange(40)), False)
        if kind == "bytes":
            return kind, Sent(topic, self._damaged(encoded(body)), None)
        if kind == "oversize":
            return kind, Sent(topic, encoded(body) + b" " * self.dice.choice((8192, 20_000)), False)
        if kind == "raw":
            return kind, Sent(topic, self.dice.choice(RAW), False)
        return kind, Sent(topic, encoded(self._spoilt(kind, body, principal, wall_ms)), False)

    def _damaged(self, payload: bytes) -> bytes:
        data = bytearray(payload)
        for _ in range(self.dice.randrange(1, 5)):
            at = self.dice.randrange(len(data))
            if self.dice.random() < 0.5:
                data[at] = self.dice.randrange(256)
            else:
                del data[at:]
                data += b"}" * self.dice.randrange(2)
            if not data:
                return b""
        return bytes(data)

    def _spoilt(self, kind: str, body: dict[str, Any], principal: str, wall_ms: int) -> dict[str, Any]:
        dice = self.dice
        changes: Mapping[str, Any] = {
            "expired": lambda: {"ts": wall_ms - dice.choice((20_001, 29_000)), "exp": wall_ms - dice.randrange(20_000)},
            "stale": lambda: {"ts": wall_ms - 3_600_000, "exp": wall_ms + 20_000},
            "future": lambda: {"ts": wall_ms + 60_000, "exp": wall_ms + 90_000},
            "long": lambda: {"exp": wall_ms + 10 ** dice.randrange(6, 15)},
            "type": lambda: {dice.choice(("id", "op", "ts", "exp", "target", "slot")): dice.choice(ODD)},
            "key": lambda: {dice.choice(("force", "Value", "slot ", "__proto__", "retain")): 1},
            "slot": lambda: {"slot": dice.choice([n for n in range(-2, 20) if n not in SLOTS[principal]])},
            "operation": lambda: {"op": dice.choice([op for op in OPERATIONS if op not in ("set", "relinquish")])},
            "target": lambda: {"target": dice.choice(("pod/nothing", "pump_1/speed_cmd", "pod.supply_temp", "", "*"))},
            "settings": lambda: {"if_cfg": "0123456789ab"},
        }
        if kind in changes:
            return {**body, **changes[kind]()}
        if kind == "missing":
            gone = dice.choice(("id", "op", "ts", "exp", "slot"))
            return {key: value for key, value in body.items() if key != gone}
        _, low, high = SETPOINTS[body["target"]]
        unit = SETPOINTS[body["target"]][0]
        poison: tuple[Any, ...] = (
            low - 17,
            high + 20,
            1e9,
            -1e300,
            float("nan"),
            float("inf"),
            10**400,
            "30",
            None,
            True,
            [30],
            {},
        )
        body = {**body, "op": "set", "value": dice.choice(poison), "unit": unit}
        if kind == "unit":
            body |= {"value": low, "unit": dice.choice(("degF", "C", "K", "", None, 5))}
        elif kind == "ttl":
            body |= {"value": low, "ttl_s": dice.choice((-1, 86_401, 1e12, float("nan"), "60", None, True))}
        return body


KINDS = (
    "valid", "valid", "valid", "replay", "id reuse", "retained", "principal", "topic", "heartbeat", "heartbeat",
    "bytes", "raw", "expired", "stale", "future", "long", "type", "key", "oversize", "slot", "operation", "target",
    "settings", "missing", "value", "value", "unit", "ttl",
)  # fmt: skip
ODD: tuple[Any, ...] = (None, True, -1, 3.5, [], {}, "", "x" * 300, {"a": [1]}, 10**30, "\u0000", "a b")
RAW = (
    b"", b"null", b"[]", b"{", b"\xff\xfe\x00", b'{"id":1}', b'{"id":"a","id":"b"}', b"[" * 8000, b'{"a":' * 1600,
    b"1" * 8000, b'"' + b"x" * 8000, b'{"id":"n","op":"set"}', b"set pod/supply_temp_sp 5",
)  # fmt: skip


def encoded(body: Any) -> bytes:
    return json.dumps(body).encode()


def healthy(plan: Plan, engine: Engine, now: float, humidity_pct: float) -> dict[str, Reading]:
    """Return an inbox of a pod at work, every reading fresh."""
    expected = {item.point: item.value for item in plan.pod.expected}
    on = ("running", "run_cmd", "comms", "online", "reservoir_level_ok")
    numbers = {"supply_temp": 30.0, "return_temp": 41.0, "temperature": 24.0, "tcs_flow": 1302.0, "power": 60.0}
    inbox: dict[str, Reading] = {}
    for name, point in engine.points.items():
        value: Value = 0
        if point.kind is Kind.FLAG:
            value = point.name in on or point.name.startswith("outlet")
        elif point.kind is Kind.TEXT:
            value = ""
        elif point.name == "humidity":
            value = humidity_pct
        elif point.kind is Kind.NUMBER:
            value = numbers.get(point.name.rstrip("_0123456789"), 20.0)
        inbox[name] = good(expected.get(name, value), now)
    return inbox


class Stand:
    """Parser and engine together, with a clock set by hand."""

    def __init__(self, seed: int) -> None:
        self.plan = load_plan(REFERENCE)
        self.now = 1000.0
        self.engine = Engine(self.plan.pod, {}, self.now)
        self.native = Native(self.plan, "fuzz", boot=1)
        self.sender = Sender(seed, self.native.root)
        self.tally = Tally()
        self._scans = 0
        self._inbox: dict[str, Reading] = {}
        self._waiting: dict[tuple[str, str], tuple[bool | None, str, bytes]] = {}
        self._commands: list[Command] = []
        self._said: Counter[str] = Counter()
        self._audited = 0
        self._in_force: dict[str, float] = {}
        for _ in range(20):
            self.scan()

    @property
    def wall_ms(self) -> int:
        return WALL_MS + round(1000 * (self.now - 1000.0))

    def send(self, kind: str, sent: Sent) -> None:
        tally = self.tally
        tally.messages += 1
        tally.kinds[kind] += 1
        commands = self.native.received(Arrived(sent.topic, sent.payload, sent.retain, 1, self.wall_ms), self.now)
        for command in commands:
            self._commands.append(command)
            if command.operation != "heartbeat":
                self._waiting[command.principal, command.id] = sent.act, kind, sent.payload

    def scan(self) -> None:
        """Run one scan, give the outcomes back, and look at what is in force."""
        self.now += SCAN_S
        self._scans += 1
        if self._scans % FILL_SCANS == 1:
            humidity = HUMIDITIES[self._scans // 4000 % len(HUMIDITIES)]
            self._inbox = healthy(self.plan, self.engine, self.now, humidity)
        commands, self._commands = self._commands, []
        effects = self.engine.step(self.now, self._inbox, commands)
        told = {(outcome.principal, outcome.id) for outcome in effects.outcomes}
        self.tally.unanswered += sum(1 for command in commands if (command.principal, command.id) not in told)
        for outcome in effects.outcomes:
            key = outcome.principal, outcome.id
            if outcome.state == "accepted" and key in self._waiting:
                self.tally.acted += 1
                act, kind, payload = self._waiting.pop(key)
                if act is False:
                    self.tally.wrongly.append(f"{kind}: {payload[:200]!r}")
                elif act:
                    self.sender.history = [*self.sender.history[-50:], (outcome.principal, json.loads(payload))]
        self.native.answered(effects.outcomes, self.wall_ms)
        for message in self.native.messages(snapshot(effects.view, self.wall_ms, 1, "sync"), self.now):
            tail = message.topic.removeprefix(self.native.root)
            if tail.endswith("/rsp"):
                self._said["answers"] += 1
            elif tail == "/evt":
                self._audited += json.loads(message.payload)["count"]
        self._look()

    def _look(self) -> None:
        """Note a setpoint out of its range, under the dew point's floor, or faster than its slew."""
        for name, array in self.engine.authority.slots.arrays.items():
            row, value = array.setpoint, self.engine.authority.slots.value(name)
            before = self._in_force.get(name, value)
            fastest = max(row.slew_per_s, row.rescue_per_s) * SCAN_S + NEAR
            if not row.low <= value <= row.high or abs(value - before) > fastest:
                self.tally.wrongly.append(f"{name} went from {before} to {value}")
            self._in_force[name] = value

    def finish(self) -> Tally:
        for _ in range(10):
            self.scan()
        tally = self.tally
        tally.counts = self.native.request_counts
        ours = tally.messages - tally.kinds["topic"]
        tally.unanswered += abs(ours - sum(tally.counts.values()))
        tally.unanswered += abs(self._audited - tally.counts["dropped"])
        tally.unanswered += max(0, tally.counts["command"] + tally.counts["answered"] - self._said["answers"])
        return tally


def fuzz(messages: int, seed: int) -> Tally:
    """Return what came of ``messages`` messages."""
    started = time.perf_counter()
    stand = Stand(seed)
    dice = stand.sender.dice
    while stand.tally.messages < messages:
        for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 3, 50)) if dice.random() < 0.2 else 2):
            stand.send(*stand.sender.message(stand.wall_ms))
        stand.scan()
    tally = stand.finish()
    tally.seconds = time.perf_counter() - started
    return tally


def measure(quick: bool) -> Iterator[Result]:
    """Return how many messages acted that should not have, and how many were neither answered nor audited."""
    seed = 1
    tally = fuzz(QUICK_MESSAGES if quick else MESSAGES, seed)
    params = {"seed": seed, "principals": list(SLOTS), "setpoints": list(SETPOINTS)}
    detail = {
        "messages": tally.messages,
        "acted": tally.acted,
        "seconds": tally.seconds,
        "kinds": dict(tally.kinds),
        "done_with_them": dict(tally.counts),
        "examples": tally.wrongly[:5],
    }
    yield Result(NAME, {"figure": "acted that should not have", **params}, len(tally.wrongly), "== 0", detail)
    yield Result(NAME, {"figure": "neither answered nor audited", **params}, tally.unanswered, "== 0")
    bar = "" if quick else f">= {MESSAGES}"
    yield Result(NAME, {"figure": "messages, none of which raised", **params}, tally.messages, bar)
