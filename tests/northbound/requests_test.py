"""The command protocol: understood strictly, answered once for each state, never done twice."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from controller.config.enclosure import Principal
from controller.core.commands import Outcome
from controller.core.engine import View
from controller.core.image import freeze
from controller.core.pod import setpoint_rows
from controller.northbound import requests
from controller.northbound.publisher import AUDIT, Arrived
from controller.northbound.requests import Requests
from controller.northbound.snapshot import snapshot
from controller.store import NoAnswers, Store
from hil.bench import command_fuzz
from tests.core.model import reference_plan
from tests.northbound.conftest import T0, WALL_MS

ROOT = "r"
PRINCIPALS = {
    "bms": Principal(roles=["setpoints", "alarms"], slots=[8, 10]),
    "guard": Principal(roles=["isolation"]),
    "optimiser": Principal(roles=["setpoints"], slots=[13]),
}


class Talk:
    """A Requests with a clock set by hand, and what it says."""

    def __init__(self, plan: Any, picture: Callable[..., Any], answers: Any = None, clock: str = "sync") -> None:
        self.requests = Requests(ROOT, PRINCIPALS, setpoint_rows(plan.pod), plan.revision, 17, answers or NoAnswers())
        self.revision, self._picture, self._clock, self.now = plan.revision, picture, clock, T0
        self.said()

    @property
    def wall_ms(self) -> int:
        return WALL_MS + round(1000 * (self.now - T0))

    def body(self, **changed: Any) -> dict[str, Any]:
        wall_ms = self.wall_ms
        made: dict[str, Any] = {
            "id": "1", "op": "set", "target": "pod/supply_temp_sp", "value": 31.0, "unit": "Cel", "slot": 8,
            "ts": wall_ms, "exp": wall_ms + 10_000,
        }  # fmt: skip
        made |= changed
        return {key: value for key, value in made.items() if value is not ...}

    def ask(self, body: Any, by: str = "bms", retain: bool = False, tail: str = "req") -> list[Any]:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.requests.received(Arrived(f"{ROOT}/cmd/{by}/{tail}", payload, retain, 1, self.wall_ms), self.now)

    def said(self) -> list[dict[str, Any]]:
        self.now += 1.0
        picture = self._picture(self.now)
        snapshot = type(picture)(picture.view, self.wall_ms, 17, self._clock)
        self.messages = self.requests.messages(snapshot, self.now)
        return [json.loads(message.payload) for message in self.messages]

    def code(self, body: Any, **how: Any) -> str:
        assert self.ask(body, **how) == []
        (reply,) = self.said()
        return str(reply["code"] or reply["st"])


@pytest.fixture
def talk(plan, picture):
    return Talk(plan, picture)


def test_a_good_request_becomes_a_command(talk):
    (command,) = talk.ask(talk.body(ttl_s=60, by="j.doe", why="free cooling", if_cfg=talk.revision))
    assert (command.principal, command.operation, command.target) == ("bms", "set", "pod.supply_temp_sp")
    assert (command.value, command.slot, command.ttl_s) == (31.0, 8, 60.0)
    assert command.expires == pytest.approx(talk.now + 10)
    assert command.reason == "j.doe: free cooling"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"force": True}, "bad_request"),
        ({"op": "fly"}, "bad_request"),
        ({"op": ["set"]}, "bad_request"),
        ({"op": "reset", "target": ..., "value": ..., "unit": ..., "slot": ...}, "forbidden"),
        ({"op": "heartbeat", "target": ..., "value": ..., "unit": ..., "slot": ...}, "forbidden"),
        ({"op": "isolate", "target": "rack_1", "value": ..., "unit": ..., "slot": ...}, "forbidden"),
        ({"op": "ack"}, "bad_request"),
        ({"op": "ack", "value": ..., "unit": ..., "slot": ..., "target": ...}, "bad_request"),
        ({"slot": 13}, "forbidden"),
        ({"slot": 5}, "forbidden"),
        ({"slot": True}, "bad_request"),
        ({"slot": ...}, "forbidden"),
        ({"target": "pod/flow"}, "unknown_target"),
        ({"target": "pump_1/speed_cmd"}, "unknown_target"),
        ({"value": "31"}, "bad_request"),
        ({"value": None}, "bad_request"),
        ({"value": True}, "bad_request"),
        ({"value": ...}, "bad_request"),
        ({"value": 10**400}, "bad_request"),
        ({"unit": "degF"}, "bad_unit"),
        ({"unit": ...}, "bad_unit"),
        ({"ttl_s": -1}, "bad_request"),
        ({"ttl_s": "60"}, "bad_request"),
        ({"ts": WALL_MS - 40_000}, "expired"),
        ({"ts": WALL_MS + 40_000, "exp": WALL_MS + 50_000}, "expired"),
        ({"ts": WALL_MS - 20_000, "exp": WALL_MS - 1}, "expired"),
        ({"exp": ...}, "expired"),
        ({"exp": WALL_MS + 10_000_000}, "expired"),
        ({"ts": 1.5}, "bad_request"),
        ({"ts": ...}, "bad_request"),
        ({"if_cfg": "000000000000"}, "bad_request"),
        ({"why": "x" * 201}, "bad_request"),
        ({"by": 7}, "bad_request"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(talk, changed, code):
    assert talk.code(talk.body(**changed)) == code
    assert talk.messages[0].topic == f"{ROOT}/cmd/bms/rsp"
    assert not talk.messages[0].retain


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 8000, "not JSON"),
        (b'{"id":"1","value":NaN}', "not JSON"),
        (b'{"id":"1","id":"2"}', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "no usable id"),
        (b'{"id":"a b"}', "no usable id"),
        (b'{"id":"' + b"x" * 65 + b'"}', "no usable id"),
        (b" " * 8193, "more than 8192 bytes"),
    ],
)
def test_what_can_not_be_answered_is_audited(talk, payload, why):
    assert talk.ask(payload) == []
    (told,) = talk.said()
    assert (told["by"], told["why"], told["count"]) == ("bms", why, 1)
    assert talk.messages[0].kind == AUDIT


def test_a_retained_request_is_dropped(talk):
    assert talk.ask(talk.body(), retain=True) == []
    assert talk.said()[0]["why"] == "retained"


def test_a_stranger_is_dropped_and_named(talk):
    assert talk.ask(talk.body(), by="mallory") == []
    (told,) = talk.said()
    assert (told["by"], told["example"], told["why"]) == ("(unknown)", "mallory", "unknown principal")


def test_a_name_of_the_console_is_a_stranger(talk):
    assert talk.ask(talk.body(), by="console:ann") == []
    assert talk.said()[0]["why"] == "unknown principal"


def test_every_state_is_answered_and_the_last_is_kept(talk):
    body = talk.body()
    talk.ask(body)
    accepted = Outcome("1", "bms", "accepted", effective=31.0, until=talk.now + 3600)
    confirmed = Outcome("1", "bms", "confirmed", effective=31.0)
    talk.requests.answered([accepted, confirmed, Outcome("1", "other", "accepted")], talk.wall_ms)
    first, second = talk.said()
    assert (first["st"], first["eff"], second["st"]) == ("accepted", 31.0, "confirmed")
    assert first["until"] == pytest.approx(WALL_MS + round(1000 * (talk.now - T0)) + 3_599_000, abs=2)
    assert talk.ask(body) == []
    assert talk.said() == [second]
    assert talk.code(talk.body(value=32.0)) == "id_reuse"


def test_an_answer_survives_a_restart(tmp_path, plan, picture):
    store = Store(tmp_path)
    talk = Talk(plan, picture, store)
    body = talk.body()
    talk.ask(body)
    talk.requests.answered([Outcome("1", "bms", "accepted")], talk.wall_ms)
    (told,) = talk.said()
    store.close()
    store = Store(tmp_path)
    again = Talk(plan, picture, store)
    assert again.ask(body) == []
    assert again.said() == [told]
    store.close()


def test_one_principal_has_nothing_of_the_ids_of_another(talk):
    assert talk.ask(talk.body())
    assert talk.ask(talk.body(slot=13), by="optimiser")


def test_an_older_request_is_superseded(talk):
    newer = talk.body(id="new")
    older = talk.body(id="old", ts=newer["ts"] - 5000)
    talk.ask(newer)
    talk.requests.answered([Outcome("new", "bms", "accepted")], talk.wall_ms)
    talk.said()
    assert talk.code(older) == "superseded"
    assert talk.ask(talk.body(id="other", ts=newer["ts"] - 4000, slot=10)), "another slot is another matter"


def test_a_rejected_request_supersedes_nothing(talk):
    newer = talk.body(id="new", value=99.0)
    talk.ask(newer)
    talk.requests.answered([Outcome("new", "bms", "rejected", "out_of_range")], talk.wall_ms)
    assert talk.ask(talk.body(id="old", ts=newer["ts"] - 5000))


def test_a_flood_is_cut_answered_a_little_and_counted_wholly(talk):
    commands = [command for n in range(500) for command in talk.ask(talk.body(id=f"n{n}"))]
    said = talk.said()
    assert len(commands) == 20
    assert [reply["code"] for reply in said if "code" in reply] == ["rate"] * 20
    assert [told["count"] for told in said if "count" in told] == [460]
    assert len(talk.ask(talk.body(id="later"))) == 1


def test_a_flood_of_one_does_not_touch_another(talk):
    for n in range(500):
        talk.ask(talk.body(id=f"n{n}"))
    assert talk.ask(talk.body(slot=13), by="optimiser")


def test_without_a_clock_only_the_times_of_the_request_count(plan, picture):
    talk = Talk(plan, picture, clock="unknown")
    (command,) = talk.ask(talk.body(ts=5000, exp=9000))
    assert command.expires == pytest.approx(talk.now + 4.0)
    assert talk.code(talk.body(id="2", ts=9000, exp=9000)) == "expired"


def test_heartbeats_are_paced_and_retained_ones_dropped(talk):
    def beat(by="bms", retain=False):
        return talk.requests.received(Arrived(f"{ROOT}/hb/{by}", b"x", retain, 0, talk.wall_ms), talk.now)

    (command,) = beat()
    assert (command.operation, command.principal) == ("heartbeat", "bms")
    assert beat() == []
    assert beat(retain=True) == beat("mallory") == []
    assert {told["why"] for told in talk.said()} == {"retained heartbeat", "unknown principal"}


async def test_memory_of_answers_is_bounded(plan, picture, monkeypatch, tmp_path):
    monkeypatch.setattr(requests, "REMEMBERED", 10)
    store = Store(tmp_path)
    talk = Talk(plan, picture, store)
    for n in range(30):
        talk.now += 1
        talk.ask(talk.body(id=f"n{n}"))
        talk.requests.answered([Outcome(f"n{n}", "bms", "accepted")], talk.wall_ms)
    assert await asyncio.wait_for(store.flush(), 10)
    store.close()
    assert [answer.id for answer in Store(tmp_path).answers()] == [f"n{n}" for n in range(20, 30)]


# ---------------------------------------------------------------- fuzz

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


class Hostile(RuleBasedStateMachine):
    """A BMS that says anything at any time, against a model of what may become a command."""

    def __init__(self) -> None:
        super().__init__()
        plan = reference_plan()
        self.requests = Requests(ROOT, PRINCIPALS, setpoint_rows(plan.pod), plan.revision, 17, NoAnswers())
        self.view = View(T0, "OFF", T0, "", False, freeze({}, {}, T0), (), (), "", (), {})
        self.now, self.sent, self.acting = T0, 0, set()
        self.heard = Counter()
        self.pass_time(1.0)

    @property
    def wall_ms(self) -> int:
        return WALL_MS + round(1000 * (self.now - T0))

    def send(self, topic: str, payload: bytes, retain: bool = False) -> list[Any]:
        self.sent += 1
        return self.requests.received(Arrived(f"{ROOT}/{topic}", payload, retain, 1, self.wall_ms), self.now)

    @rule(seconds=st.sampled_from([0.0, 0.2, 1.0, 31.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for message in self.requests.messages(snapshot(self.view, self.wall_ms, 17, "sync"), self.now):
            self.heard["dropped" if message.topic.endswith("evt") else "answers"] += (
                json.loads(message.payload)["count"] if message.topic.endswith("evt") else 1
            )

    @rule(
        changed=st.dictionaries(st.sampled_from([*requests.ALLOWED, "odd"]), JSON, max_size=2),
        by=st.sampled_from(["bms", "guard", "mallory"]),
    )
    def ask(self, changed: dict[str, Any], by: str) -> None:
        right = {"id": f"n{self.sent}", "op": "set", "target": "pod/supply_temp_sp", "value": 30, "unit": "Cel"}
        body = {**right, "slot": 8, "ts": self.wall_ms, "exp": self.wall_ms + 1000, **changed}
        commands = self.send(f"cmd/{by}/req", json.dumps(body).encode())
        if not changed and by != "bms":
            assert not commands
        for command in commands:
            assert by == "bms"
            assert "odd" not in changed
            assert (command.operation, command.slot) in {("set", 8), ("set", 10)}
            assert (by, command.id) not in self.acting, "never twice"
            self.acting.add((by, command.id))
            self.requests.answered([Outcome(command.id, by, "accepted")], self.wall_ms)

    @rule(data=st.binary(max_size=60), by=st.sampled_from(["bms", "mallory", "", "#"]))
    def shout(self, data: bytes, by: str) -> None:
        assert self.send(f"cmd/{by}/req", data) == []

    @rule(data=st.binary(max_size=5), by=st.sampled_from(["bms", "mallory"]), retain=st.booleans())
    def beat(self, data: bytes, by: str, retain: bool) -> None:
        commands = self.send(f"hb/{by}", data, retain)
        assert not commands or (by == "bms" and not retain and commands[0].operation == "heartbeat")

    def teardown(self) -> None:
        self.pass_time(2.0)
        counts = self.requests.counts
        assert sum(counts.values()) == self.sent
        assert self.heard["dropped"] == counts["dropped"]
        assert self.heard["answers"] == counts["answered"] + counts["command"]


Hostile.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHostile = Hostile.TestCase


@pytest.mark.parametrize("seed", [11, 12])
def test_no_hostile_request_acts_and_every_one_is_answered_or_audited(seed):
    tally = command_fuzz.fuzz(2500, seed)
    assert tally.wrongly == []
    assert tally.unanswered == 0
    assert tally.acted > 50
    assert set(tally.kinds) == set(command_fuzz.KINDS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("SKEW_MS", 10**12), ("PAYLOAD_MAX", 10**6), ("NEEDED", ("id", "op", "ts")), ("LIFE_MAX_MS", 10**16)],
)
def test_the_fuzz_sees_a_check_that_is_missing(monkeypatch, name, value):
    monkeypatch.setattr(requests, name, value)
    try:
        tally = command_fuzz.fuzz(1500, 5)
    except KeyError:
        return
    assert tally.wrongly


def test_the_fuzz_sees_retained_requests_that_act(monkeypatch):
    received = Requests.received
    monkeypatch.setattr(Requests, "received", lambda self, it, now: received(self, it._replace(retain=False), now))
    assert command_fuzz.fuzz(1500, 5).wrongly


def test_the_fuzz_sees_replays_that_act(monkeypatch):
    monkeypatch.setattr(requests, "REMEMBERED_MS", -1)
    assert command_fuzz.fuzz(1500, 5).wrongly
