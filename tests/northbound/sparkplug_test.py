"""Sparkplug: assertions of the edge role, named after the specification's tck-ids, on one session played through."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import pytest

from controller.core.alarms import Alarm, AlarmState
from controller.core.commands import Outcome
from controller.core.pod import alarm_rows
from controller.core.points import good
from controller.northbound.publisher import Arrived
from controller.northbound.sparkplug import REBIRTH, Sparkplug
from controller.northbound.sparkplug_codec import (
    BOOLEAN,
    DOUBLE,
    INT32,
    INT64,
    QUALITY_BAD,
    QUALITY_GOOD,
    QUALITY_STALE,
    STRING,
    Payload,
    decode,
    metric,
    name_field,
    payload,
)  # fmt: skip

T0, WALL_MS = 1000.0, 1_780_000_000_000
NODE = "spBv1.0/factory/%s/reference-pod"
SETPOINT = "setpoint/supply_temp_sp"


def wall(now):
    return WALL_MS + round((now - T0) * 1000)


def ncmd(now, *metrics, topic=NODE % "NCMD", retain=False, age_ms=0):
    return Arrived(topic, payload(wall(now) - age_ms, metrics, None), retain, 0, wall(now))


def rebirth(now, **more):
    return ncmd(now, name_field(REBIRTH) + b"\x70\x01", **more)  # without a datatype, as commands should be


def host(online, ts, name="scada"):
    body = json.dumps({"online": online, "timestamp": ts}).encode()
    return Arrived(f"spBv1.0/STATE/{name}", body, True, 1, WALL_MS)


@dataclass
class Said:
    verb: str
    topic: str
    qos: int
    retain: bool
    payload: Payload
    device: str = ""

    def metric(self, name):
        return next(item for item in self.payload.metrics if item.name == name)


@dataclass
class Session:
    """One node, its clock, and everything it said."""

    node: Sparkplug
    picture: object
    plan: object = None
    now: float = T0
    inbox: dict = field(default_factory=dict)
    said: list = field(default_factory=list)
    view: dict = field(default_factory=dict)

    def take(self, messages):
        found = [read(message) for message in messages]
        self.said += found
        return found

    def scan(self, seconds=0.2):
        out = []
        for _ in range(round(seconds / 0.2)):
            self.now = round(self.now + 0.2, 3)
            out += self.take(self.node.messages(self.picture(self.now, self.inbox, **self.view), self.now))
        return out

    def connect(self):
        self.will = read(self.node.will(wall(self.now)))
        self.node.connected(wall(self.now))
        return self.will


def read(message):
    parts = message.topic.split("/")
    found = decode(message.payload, 10_000)
    return Said(parts[2], message.topic, message.qos, message.retain, found, parts[4] if len(parts) > 4 else "")


@pytest.fixture
def session(plan, picture):
    return Session(Sparkplug(plan, "0.1.0"), picture, plan)


@pytest.fixture(scope="module")
def play(plan, picture):
    """A session with births, data, a device that dies and comes back, a rebirth, and a farewell."""
    made = Session(Sparkplug(plan, "0.1.0"), picture)
    made.connect()
    made.inbox = {"pump_1.speed": good(50.0, T0 - 1), "pump_1.running": good(True, T0 - 2)}
    made.births = made.scan(3)
    for step in range(300):
        made.inbox["pump_1.speed"] = good(20.0 + step % 50, made.now)
        made.inbox["pod.flow"] = good(700.0 + 10 * (step % 9), made.now)
        made.scan(1.2)
    made.inbox["pump_2.comms"] = good(False, made.now)
    made.scan(1)
    made.inbox["pump_2.comms"] = good(True, made.now)
    made.scan(1)
    made.node.received(rebirth(made.now), made.now)
    made.rebirth = made.scan(4)
    made.take(made.node.farewell(wall(made.now)))
    return made


def of(play, *verbs):
    found = [said for said in play.said if said.verb in verbs]
    assert found
    return found


ALL, BIRTHS, DATA = ("NBIRTH", "DBIRTH", "NDATA", "DDATA", "DDEATH"), ("NBIRTH", "DBIRTH"), ("NDATA", "DDATA")


def check_delivery(*verbs):
    return lambda play: all((said.qos, said.retain) == (0, False) for said in of(play, *verbs))


def check_topic(verb):
    tail = {"N": 4, "D": 5}[verb[0]]
    return lambda play: all(
        said.topic.startswith(NODE % verb) and said.topic.count("/") + 1 == tail for said in of(play, verb)
    )


def check_timestamp(*verbs):
    return lambda play: all(WALL_MS <= said.payload.timestamp <= wall(play.now) for said in of(play, *verbs))


def sequence_counts_up(play):
    numbers = [said.payload.seq for said in play.said if said.verb in ALL]
    verbs = [said.verb for said in play.said if said.verb in ALL]
    pairs = zip(itertools.pairwise(numbers), verbs[1:], strict=True)
    assert {0, 255} <= set(numbers)  # it did go round
    return all(b == (0 if verb == "NBIRTH" else (a + 1) % 256) for (a, b), verb in pairs)


def births_come_first(play):
    first_data = next(n for n, said in enumerate(play.said) if said.verb in DATA)
    born = [said.verb for said in play.said[:first_data]]
    return born[0] == "NBIRTH" and set(born[1:]) == {"DBIRTH"} and len(born) == 1 + len(play.node._groups)


def births_are_complete(play):
    """Whatever is said later was declared at birth."""
    declared = {}
    for said in play.said:
        if said.verb in BIRTHS:
            declared[said.device] = {item.name for item in said.payload.metrics}
        elif said.verb in DATA and not {item.name for item in said.payload.metrics} <= declared[said.device]:
            return False
    return True


def in_order_of_time(*verbs):
    def check(play):
        for said in of(play, *verbs):
            times = [item.timestamp for item in said.payload.metrics]
            if times != sorted(times):
                return False
        return True

    return check


def every_metric(test, *verbs):
    return lambda play: all(test(item) for said in of(play, *verbs) for item in said.payload.metrics)


def birth(play):
    return of(play, "NBIRTH")[0]


def same_bdseq(play):
    return {said.metric("bdSeq").value for said in of(play, "NBIRTH", "NDEATH")} == {play.will.metric("bdSeq").value}


def rebirth_is_whole(play):
    verbs = [said.verb for said in play.rebirth]
    last = max(n for n, verb in enumerate(verbs) if verb in BIRTHS)
    first = verbs.index("NBIRTH")
    return set(verbs[first : last + 1]) == set(BIRTHS) and verbs.count("DBIRTH") == len(play.node._groups)


def declares(name, datatype, value):
    return lambda play: all(
        (said.metric(name).datatype, said.metric(name).value) == (datatype, value) for said in of(play, "NBIRTH")
    )


def will_is(test):
    return lambda play: test(play.will)


def case_folds(names):
    names = list(names)
    return len({name.casefold() for name in names}) == len(names)


IS_DEATH = will_is(lambda will: will.verb == "NDEATH")
WILL_QOS = will_is(lambda will: will.qos == 1)
WILL_RETAIN = will_is(lambda will: not will.retain)
BDSEQ = will_is(lambda will: will.metric("bdSeq").datatype == INT64)
ONLY_BDSEQ = will_is(lambda will: [item.name for item in will.payload.metrics] == ["bdSeq"])
NO_SEQ = will_is(lambda will: will.payload.seq is None)
NAMED = every_metric(lambda item: item.name and item.alias is None, *BIRTHS, *DATA)
DATED = every_metric(lambda item: item.timestamp and item.timestamp >= WALL_MS - 10_000, *BIRTHS, *DATA)
TYPED = every_metric(lambda item: item.datatype in (INT32, INT64, DOUBLE, BOOLEAN, STRING), *BIRTHS)
UNTYPED = every_metric(lambda item: item.datatype is None, *DATA)
QUALITY = every_metric(
    lambda item: item.quality in (None, QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE), *BIRTHS, *DATA
)  # fmt: skip
ASSERTIONS = {
    "case-sensitivity-metric-names": lambda p: all(
        case_folds(item.name for item in said.payload.metrics) for said in of(p, *BIRTHS)
    ),
    "case-sensitivity-sparkplug-ids": lambda p: case_folds(said.device for said in p.births if said.verb == "DBIRTH"),
    "message-flow-device-birth-publish-dbirth-match-edge-node-topic": check_topic("DBIRTH"),
    "message-flow-device-birth-publish-dbirth-payload-seq": sequence_counts_up,
    "message-flow-device-birth-publish-dbirth-qos": check_delivery("DBIRTH"),
    "message-flow-device-birth-publish-dbirth-retained": check_delivery("DBIRTH"),
    "message-flow-device-birth-publish-dbirth-topic": check_topic("DBIRTH"),
    "message-flow-device-birth-publish-nbirth-wait": births_come_first,
    "message-flow-edge-node-birth-publish-nbirth-payload-bdSeq": same_bdseq,
    "message-flow-edge-node-birth-publish-nbirth-payload-seq": lambda p: birth(p).payload.seq == 0,
    "message-flow-edge-node-birth-publish-nbirth-qos": check_delivery("NBIRTH"),
    "message-flow-edge-node-birth-publish-nbirth-retained": check_delivery("NBIRTH"),
    "message-flow-edge-node-birth-publish-nbirth-topic": check_topic("NBIRTH"),
    "message-flow-edge-node-birth-publish-will-message": IS_DEATH,
    "message-flow-edge-node-birth-publish-will-message-payload": ONLY_BDSEQ,
    "message-flow-edge-node-birth-publish-will-message-payload-bdSeq": BDSEQ,
    "message-flow-edge-node-birth-publish-will-message-qos": WILL_QOS,
    "message-flow-edge-node-birth-publish-will-message-topic": will_is(lambda w: w.topic == NODE % "NDEATH"),
    "message-flow-edge-node-birth-publish-will-message-will-retained": WILL_RETAIN,
    "message-flow-edge-node-ncmd-subscribe": lambda p: NODE % "NCMD" in p.node.subscriptions,
    "message-flow-device-dcmd-subscribe": lambda p: f"{NODE % 'DCMD'}/+" in p.node.subscriptions,
    "operational-behavior-data-commands-rebirth-action-2": rebirth_is_whole,
    "operational-behavior-data-commands-rebirth-action-3": same_bdseq,
    "operational-behavior-data-commands-rebirth-datatype": declares(REBIRTH, BOOLEAN, False),
    "operational-behavior-data-commands-rebirth-name": declares(REBIRTH, BOOLEAN, False),
    "operational-behavior-data-commands-rebirth-name-aliases": lambda p: birth(p).metric(REBIRTH).alias is None,
    "operational-behavior-data-commands-rebirth-value": declares(REBIRTH, BOOLEAN, False),
    "operational-behavior-data-publish-dbirth": births_are_complete,
    "operational-behavior-data-publish-dbirth-change": lambda p: all(s.payload.metrics for s in of(p, "DDATA")),
    "operational-behavior-data-publish-dbirth-order": in_order_of_time("DBIRTH", "DDATA"),
    "operational-behavior-data-publish-dbirth-values": TYPED,
    "operational-behavior-data-publish-nbirth": births_are_complete,
    "operational-behavior-data-publish-nbirth-change": lambda p: all(s.payload.metrics for s in of(p, "NDATA")),
    "operational-behavior-data-publish-nbirth-order": in_order_of_time("NBIRTH", "NDATA"),
    "operational-behavior-data-publish-nbirth-values": TYPED,
    "operational-behavior-device-ddeath": lambda p: [s.device for s in of(p, "DDEATH")] == ["pump_2"],
    "operational-behavior-edge-node-intentional-disconnect-ndeath": lambda p: p.said[-1].verb == "NDEATH",
    "payloads-dbirth-order": births_come_first,
    "payloads-dbirth-seq-inc": sequence_counts_up,
    "payloads-dbirth-timestamp": check_timestamp("DBIRTH"),
    "payloads-ddata-order": births_come_first,
    "payloads-ddata-qos": check_delivery("DDATA"),
    "payloads-ddata-seq-inc": sequence_counts_up,
    "payloads-ddata-timestamp": check_timestamp("DDATA"),
    "payloads-ddeath-seq-inc": sequence_counts_up,
    "payloads-ddeath-timestamp": check_timestamp("DDEATH"),
    "payloads-metric-datatype-not-req": UNTYPED,
    "payloads-metric-datatype-req": TYPED,
    "payloads-metric-datatype-value": TYPED,
    "payloads-metric-timestamp-in-UTC": DATED,
    "payloads-name-birth-data-requirement": DATED,
    "payloads-name-requirement": NAMED,
    "payloads-nbirth-bdseq": same_bdseq,
    "payloads-nbirth-bdseq-repeat": same_bdseq,
    "payloads-nbirth-rebirth-req": declares(REBIRTH, BOOLEAN, False),
    "payloads-nbirth-seq": lambda p: birth(p).payload.seq == 0,
    "payloads-nbirth-timestamp": check_timestamp("NBIRTH"),
    "payloads-ndata-order": births_come_first,
    "payloads-ndata-qos": check_delivery("NDATA"),
    "payloads-ndata-seq-inc": sequence_counts_up,
    "payloads-ndata-timestamp": check_timestamp("NDATA"),
    "payloads-ndeath-bdseq": same_bdseq,
    "payloads-ndeath-seq": NO_SEQ,
    "payloads-ndeath-will-message": IS_DEATH,
    "payloads-ndeath-will-message-publisher": lambda p: p.said[-1].verb == "NDEATH",
    "payloads-ndeath-will-message-qos": WILL_QOS,
    "payloads-ndeath-will-message-retain": WILL_RETAIN,
    "payloads-propertyset-quality-value-value": QUALITY,
    "payloads-sequence-num-always-included": lambda p: all(s.payload.seq is not None for s in of(p, *ALL)),
    "payloads-sequence-num-incrementing": sequence_counts_up,
    "payloads-timestamp-in-UTC": check_timestamp(*ALL),
    "principles-birth-certificates-order": lambda p: p.said[0].verb == "NBIRTH",
    "principles-rbe-recommended": lambda p: max(len(s.payload.metrics) for s in of(p, "DDATA")) < 5,
    "topics-dbirth-mqtt": check_delivery("DBIRTH"),
    "topics-ddata-mqtt": check_delivery("DDATA"),
    "topics-ddata-topic": check_topic("DDATA"),
    "topics-ddeath-mqtt": check_delivery("DDEATH"),
    "topics-ddeath-topic": check_topic("DDEATH"),
    "topics-nbirth-bdseq-matching": same_bdseq,
    "topics-nbirth-metric-reqs": births_are_complete,
    "topics-nbirth-mqtt": check_delivery("NBIRTH"),
    "topics-nbirth-rebirth-metric": declares(REBIRTH, BOOLEAN, False),
    "topics-nbirth-seq-num": lambda p: all(s.payload.seq == 0 for s in of(p, "NBIRTH")),
    "topics-ndata-mqtt": check_delivery("NDATA"),
    "topics-ndata-topic": check_topic("NDATA"),
    "topics-ndeath-payload": ONLY_BDSEQ,
    "topics-ndeath-seq": NO_SEQ,
    "topics-ndeath-topic": will_is(lambda will: will.topic == NODE % "NDEATH"),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_tck_id(play, name):
    assert ASSERTIONS[name](play)


def test_tck_id_topics_nbirth_bdseq_increment(plan, picture):
    """One more for each CONNECT, 255 then 0; kept before it is used, so that a crash can't use it again."""
    kept = []
    node = Sparkplug(plan, "0.1.0", keep=kept.append)
    numbers = [read(node.will(WALL_MS)).metric("bdSeq").value for _ in range(300)]
    assert numbers == [n % 256 for n in range(300)] == kept
    again = Sparkplug(plan, "0.1.0", bd_seq=kept[-1])
    assert read(again.will(WALL_MS)).metric("bdSeq").value == 300 % 256


def test_tck_id_operational_behavior_data_commands_rebirth_action_1(session):
    """Data stops at once and comes only after the last birth; a storm of requests is one rebirth in 2 s."""
    session.connect()
    session.scan(6)
    for _ in range(50):
        session.node.received(rebirth(session.now), session.now)
        session.inbox["pump_1.speed"] = good(session.now % 100, session.now)
        session.scan(0.2)
    births = [said for said in session.said if said.verb == "NBIRTH"]
    assert 5 <= len(births) - 1 <= 6
    waiting = 0
    for said in session.said:
        if said.verb == "NBIRTH":
            waiting = len(session.node._groups)
        elif said.verb == "DBIRTH":
            waiting -= 1
        else:
            assert waiting == 0


def primary(plan):
    settings = plan.sparkplug.model_copy(update={"primary_host": "scada"})
    return type(plan)(**{**{f: getattr(plan, f) for f in plan.__slots__}, "sparkplug": settings})


def test_tck_id_message_flow_edge_node_birth_publish_phid_wait(plan, picture):
    """With -id, -online, -timestamp, edge-node-birth-sequence-wait and edge-node-termination-host-offline."""
    session = Session(Sparkplug(primary(plan), "0.1.0"), picture)
    session.connect()
    assert "spBv1.0/STATE/scada" in session.node.subscriptions
    assert session.scan(2) == []
    session.node.received(host(True, 50, "other"), session.now)
    session.node.received(host(False, 100), session.now)
    session.node.received(host(True, 99), session.now)  # older: counts for nothing
    session.node.received(Arrived("spBv1.0/STATE/scada", b"ONLINE", True, 1, WALL_MS), session.now)
    assert session.scan(2) == []
    session.node.received(host(True, 100), session.now)
    assert session.scan(0.2)[0].verb == "NBIRTH"
    session.scan(2)
    session.node.received(host(False, 99), session.now)
    assert not session.node.leaving
    session.node.received(host(False, 101), session.now)
    assert session.node.leaving
    assert session.scan(2) == []
    assert [read(message).verb for message in session.node.farewell(WALL_MS)] == ["NDEATH"]
    session.connect()
    assert not session.node.leaving
    assert session.scan(1) == []
    session.node.received(host(True, 102), session.now)
    assert session.scan(0.2)[0].verb == "NBIRTH"


def test_history_keeps_its_times_and_is_marked(session):
    """What the link kept while it had no connection comes after the births, in sequence."""
    session.connect()
    session.scan(3)
    session.node.will(wall(session.now))  # the connection is gone, a new one is tried
    session.inbox["pump_1.speed"] = good(77.0, session.now)
    snapshot = session.picture(session.now, session.inbox)
    kept = [message for message in session.node.messages(snapshot, session.now) if message.kind == "telemetry"]
    assert kept
    session.now += 60
    session.connect()
    session.said.clear()
    assert all(session.node.late(message) is None for message in kept)
    session.scan(4)
    late = [said for said in session.said if any(item.historical for item in said.payload.metrics)]
    assert [(said.verb, said.device) for said in late] == [("DDATA", "pump_1")]
    speed = late[0].metric("speed")
    assert (speed.value, speed.historical) == (77.0, True)
    assert speed.timestamp < wall(session.now) - 60_000
    assert session.said.index(late[0]) > max(n for n, s in enumerate(session.said) if s.verb == "DBIRTH")
    assert [s.payload.seq for s in session.said] == [n % 256 for n in range(len(session.said))]


def test_a_silent_device_has_no_birth_until_it_is_back(session):
    session.inbox["pump_1.comms"] = good(False, T0)
    session.connect()
    born = {said.device for said in session.scan(3) if said.verb == "DBIRTH"}
    assert "pump_1" not in born
    assert "pump_2" in born
    session.inbox["pump_1.comms"] = good(True, session.now)
    assert "pump_1" in {said.device for said in session.scan(1) if said.verb == "DBIRTH"}


def test_bad_values_are_null_with_their_quality(session):
    session.connect()
    session.scan(3)
    session.inbox["pump_1.speed"] = good(float("nan"), session.now)
    (said,) = [said for said in session.scan(0.2) if said.device == "pump_1"]
    assert (said.metric("speed").value, said.metric("speed").quality) == (None, QUALITY_BAD)


def test_alarms_are_told_by_their_state_and_suppressed_is_not_normal(session):
    session.connect()
    session.scan(3)
    row = next(row for row in alarm_rows(session.plan.pod) if row.id == "pod_flow_low")
    session.view = {"suppressed": (Alarm(row, AlarmState.SUPPRESSED, 80.0, T0),)}
    (said,) = [said for said in session.scan(0.2) if said.verb == "NDATA"]
    assert said.metric("alarm/pod_flow_low").value == 6
    session.view = {}
    assert session.scan(0.2)[0].metric("alarm/pod_flow_low").value == 1


@pytest.mark.parametrize("datatype", [DOUBLE, None])
def test_a_command_asks_for_slot_10(session, datatype):
    session.connect()
    encoded = metric(name_field(SETPOINT), DOUBLE, 29.5, wall(T0), birth=datatype is not None)
    (command,) = session.node.received(ncmd(T0, encoded), T0)
    asked = (command.operation, command.target, command.value, command.slot, command.principal)
    assert asked == ("set", "pod.supply_temp_sp", 29.5, 10, "sparkplug")
    session.node.answered([Outcome(command.id, "sparkplug", "rejected", "local_lockout", "by kim")], wall(T0))
    outcome = session.scan(3)[0].metric("command/outcome").value
    assert "local_lockout" in str(outcome)
    null = metric(name_field(SETPOINT), DOUBLE, None, wall(T0))
    (command,) = session.node.received(ncmd(T0, null), T0)
    assert (command.operation, command.slot) == ("relinquish", 10)


@pytest.mark.parametrize(
    "arrived",
    [
        ncmd(T0, metric(name_field(SETPOINT), DOUBLE, float("nan"), 0)),
        ncmd(T0, metric(name_field(SETPOINT), STRING, "30", 0)),
        ncmd(T0, metric(name_field(SETPOINT), BOOLEAN, True, 0)),
        ncmd(T0, metric(name_field("pod/supply_temp_sp"), DOUBLE, 30.0, 0)),
        ncmd(T0, metric(name_field("supply_temp_sp"), DOUBLE, 30.0, 0)),
        ncmd(T0, metric(b"", DOUBLE, 30.0, 0)),
        ncmd(T0, metric(name_field(SETPOINT), DOUBLE, 30.0, 0), retain=True),
        ncmd(T0, metric(name_field(SETPOINT), DOUBLE, 30.0, 0), age_ms=30_001),
        ncmd(T0, metric(name_field(SETPOINT), DOUBLE, 30.0, 0), topic=f"{NODE % 'DCMD'}/pump_1"),
        Arrived(NODE % "NCMD", b"\xff" * 40, False, 0, WALL_MS),
        Arrived(NODE % "NCMD", b"\x12" + b"\xff\x7f" * 9, False, 0, WALL_MS),
        Arrived(NODE % "NCMD", b"x" * 9000, False, 0, WALL_MS),
    ],
)
def test_what_is_no_command_asks_nothing(session, arrived):
    session.connect()
    assert session.node.received(arrived, T0) == []
    assert session.node.refused == 1
