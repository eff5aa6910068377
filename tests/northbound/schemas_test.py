"""Every native document follows its schema, and the schemas see what does not."""

from __future__ import annotations

import json
import re

import pytest
from jsonschema import Draft202012Validator

from controller.core.alarms import Alarm, AlarmRow, AlarmState
from controller.core.engine import Engine
from controller.core.points import Kind, Quality, Reading, good
from controller.northbound.native import DOCUMENTS, Native
from controller.northbound.schemas import SCHEMAS, document
from controller.northbound.snapshot import snapshot

ROOT = "podkeeper/v1/factory/reference-pod"
WALL_MS = 1_780_000_000_000
VALIDATORS = {topic: Draft202012Validator(document(topic)) for topic in SCHEMAS}


def row_of(topic):
    """Return the row of the topic list that a topic belongs to."""

    def pattern(template):
        return re.sub(r"\\{[a-z]+\\}", "[^/]+", re.escape(template.replace("{r}", ROOT)))

    found = [template for template in SCHEMAS if re.fullmatch(pattern(template), topic)]
    assert len(found) == 1, topic
    return found[0]


def faults(topic, payload):
    return [error.message for error in VALIDATORS[row_of(topic)].iter_errors(json.loads(payload))]


def test_every_document_has_a_schema_that_is_one():
    assert set(SCHEMAS) == {row.topic for row in DOCUMENTS}
    for topic in SCHEMAS:
        Draft202012Validator.check_schema(document(topic))


def test_every_document_of_a_run_follows_its_schema(plan):
    """A pod's engine and native tree in virtual time, with values of every kind, bad ones and alarms among them."""
    engine, native = Engine(plan.pod, {}, 0.0), Native(plan, "0.1.0", ROOT, boot=3)
    seen, inbox = set(), {}
    native.connected(WALL_MS)
    for scan in range(600):
        now = scan * 0.2
        if scan % 10 == 0:
            for number, (name, point) in enumerate(plan.pod.points.items()):
                value = {Kind.NUMBER: 20.0 + scan % 9, Kind.FLAG: scan % 40 > 5, Kind.TEXT: "x"}.get(point.kind, 1)
                broken = (number + scan // 10) % 17 == 0
                inbox[name] = Reading(None, Quality.BAD, now, "sentinel") if broken else good(value, now)
        for message in native.messages(snapshot(engine.step(now, inbox, []).view, WALL_MS + scan * 200, 3), now):
            if message.payload:
                seen.add(row_of(message.topic))
                assert not faults(message.topic, message.payload), message.topic
    for state in ("online", "offline", "lost"):
        message = native.status(state, WALL_MS)
        assert not faults(message.topic, message.payload)
    assert seen == set(SCHEMAS)


@pytest.mark.parametrize(
    ("topic", "key", "value"),
    [
        ("dev/pump_1", "pts", {"speed": {"v": 1.0, "q": 0x8031_0000, "t": None}}),  # a bad value is null
        ("dev/pump_1", "pts", {"speed": {"v": 1.0, "q": 7, "t": None}}),
        ("dev/pump_1", "ts", "now"),
        ("state", "mode", None),
        ("alarm/pod_flow_low", "priority", "urgent"),
        ("alarm/pod_flow_low", "state", "Z"),
    ],
)
def test_the_schemas_see_what_is_wrong(plan, picture, topic, key, value):
    native = Native(plan, "0.1.0", ROOT)
    row = AlarmRow("pod_flow_low", "pod.flow_ratio", "below", "low", "critical", "hot", "look", 90.0)
    alarms = (Alarm(row, AlarmState.UNACK, 81.0, 1000.0),)
    said = {m.topic: m.payload for m in native.messages(picture(1000.0, alarms=alarms), 1000.0)}
    payload = said[f"{ROOT}/{topic}"]
    assert not faults(f"{ROOT}/{topic}", payload)
    assert faults(f"{ROOT}/{topic}", json.dumps({**json.loads(payload), key: value}))
    without = {name: part for name, part in json.loads(payload).items() if name != key}
    assert faults(f"{ROOT}/{topic}", json.dumps(without))
