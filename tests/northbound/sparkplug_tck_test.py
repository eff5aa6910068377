"""Sparkplug: assertions of the edge role, named after the specification's tck-ids, on one session played through."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from controller.core.points import good
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
)  # fmt: skip
from tests.northbound.sparkplug_claims import BY_TEST, NOT_OURS, SESSION_IDS
from tests.northbound.sparkplug_session import NODE, T0, WALL_MS, Session, rebirth, wall

TESTS = Path(__file__).parents[1]


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


def ids_are_topic_levels(play):
    """Every level is of our namespace's own characters, and there are four or five of them."""
    return all(re.fullmatch(r"spBv1\.0(/[A-Za-z0-9_-]+){3,4}", said.topic) for said in play.said)


def changes_are_told(verb, device, name):
    """A metric that was moved 300 times was told again and again, with new values."""

    def check(play):
        told = [s.metric(name).value for s in of(play, verb) if s.device == device and has(s, name)]
        return sum(a != b for a, b in itertools.pairwise(told)) > 100

    return check


def has(said, name):
    return any(item.name == name for item in said.payload.metrics)


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
    "intro-device-id-chars": ids_are_topic_levels,
    "intro-device-id-string": ids_are_topic_levels,
    "intro-edge-node-id-chars": ids_are_topic_levels,
    "intro-edge-node-id-string": ids_are_topic_levels,
    "intro-group-id-chars": ids_are_topic_levels,
    "intro-group-id-string": ids_are_topic_levels,
    "message-flow-device-birth-publish-dbirth-payload": births_are_complete,
    "message-flow-edge-node-birth-publish-nbirth-payload": births_are_complete,
    "operational-behavior-primary-application-state-with-multiple-servers-single-server": lambda p: (
        sum(said.verb == "NBIRTH" for said in p.births) == 1
    ),
    "payloads-dbirth-qos": check_delivery("DBIRTH"),
    "payloads-dbirth-retain": check_delivery("DBIRTH"),
    "payloads-dbirth-seq": sequence_counts_up,
    "payloads-ddata-retain": check_delivery("DDATA"),
    "payloads-ddata-seq": sequence_counts_up,
    "payloads-ddeath-seq": sequence_counts_up,
    "payloads-ddeath-seq-number": sequence_counts_up,
    "payloads-nbirth-qos": check_delivery("NBIRTH"),
    "payloads-nbirth-retain": check_delivery("NBIRTH"),
    "payloads-ndata-retain": check_delivery("NDATA"),
    "payloads-ndata-seq": sequence_counts_up,
    "payloads-sequence-num-zero-nbirth": lambda p: all(s.payload.seq == 0 for s in of(p, "NBIRTH")),
    "topic-structure": ids_are_topic_levels,
    "topic-structure-namespace-a": lambda p: all(said.topic.startswith("spBv1.0/") for said in p.said),
    "topic-structure-namespace-device-id-associated-message-types": lambda p: all(
        bool(said.device) for said in of(p, "DBIRTH", "DDATA", "DDEATH")
    ),
    "topic-structure-namespace-device-id-non-associated-message-types": lambda p: (
        not any(said.device for said in of(p, "NBIRTH", "NDATA", "NDEATH"))
    ),
    "topic-structure-namespace-unique-device-id": lambda p: case_folds(
        said.device for said in p.births if said.verb == "DBIRTH"
    ),
    "topic-structure-namespace-valid-device-id": ids_are_topic_levels,
    "topic-structure-namespace-valid-edge-node-id": ids_are_topic_levels,
    "topic-structure-namespace-valid-group-id": ids_are_topic_levels,
    "topics-dbirth-metric-reqs": births_are_complete,
    "topics-dbirth-metrics": TYPED,
    "topics-dbirth-seq": sequence_counts_up,
    "topics-dbirth-timestamp": check_timestamp("DBIRTH"),
    "topics-dbirth-topic": check_topic("DBIRTH"),
    "topics-ddata-payload": changes_are_told("DDATA", "pump_1", "speed"),
    "topics-ddata-seq-num": sequence_counts_up,
    "topics-ddata-timestamp": check_timestamp("DDATA"),
    "topics-ddeath-seq-num": sequence_counts_up,
    "topics-nbirth-bdseq-included": same_bdseq,
    "topics-nbirth-metrics": TYPED,
    "topics-nbirth-timestamp": check_timestamp("NBIRTH"),
    "topics-nbirth-topic": check_topic("NBIRTH"),
    "topics-ndata-payload": changes_are_told("NDATA", "", "pod/flow"),
    "topics-ndata-seq-num": sequence_counts_up,
    "topics-ndata-timestamp": check_timestamp("NDATA"),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_tck_id(play, name):
    assert ASSERTIONS[name](play)


def test_the_table_of_assertions_is_that_of_the_tests():
    """What docs/sparkplug.md says is held by a session is held by it; a test it names exists."""
    assert set(SESSION_IDS) == set(ASSERTIONS)
    for where in set(BY_TEST.values()):
        path, name = where.split(": ")
        assert f"def {name}(" in (TESTS / path).read_text(), where
    listed = [name for names in (SESSION_IDS, BY_TEST, *NOT_OURS.values()) for name in names]
    assert len(listed) == len(set(listed))


def fields(data):
    """Return (number, value) of each field of a protobuf message, without a schema."""
    found, at = [], 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = data[at : at + size], at + size
        found.append((key >> 3, value))
    return found


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def test_tck_id_payloads_propertyset_on_the_wire(play):
    """Read without our own decoder: as many keys as values, the one property Quality as an Int32 of a known code."""
    seen = set()
    for said in of(play, *BIRTHS, *DATA):
        for item in [fields(value) for number, value in fields(said.raw) if number == 2]:
            datatypes = [value for number, value in item if number == 4]
            assert datatypes in ([], [INT32], [INT64], [DOUBLE], [BOOLEAN], [STRING])
            assert datatypes or said.verb in DATA
            for properties in [fields(value) for number, value in item if number == 9]:
                keys = [value for number, value in properties if number == 1]
                values = [fields(value) for number, value in properties if number == 2]
                assert keys == [b"Quality"]
                assert len(values) == 1
                assert dict(values[0])[1] == 3
                seen.add(dict(values[0])[3])
    assert seen <= {QUALITY_BAD, QUALITY_GOOD, QUALITY_STALE}
    assert len(seen) > 1
