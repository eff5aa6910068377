"""DSX against its own contract: every message of a pod's run validated with the components of NVIDIA's AsyncAPI file.

The file is not part of this repository; ``PODKEEPER_CONTRACTS`` names the folder that holds ``dsx/bms.yaml``.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from controller.config.plan import load_plan
from controller.core.engine import Engine, View
from controller.core.image import freeze
from controller.core.pod import pod_points
from controller.core.points import Kind, Point, Reading, good
from controller.northbound.dsx import Dsx
from controller.northbound.publisher import Message
from controller.northbound.snapshot import snapshot

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("PODKEEPER_CONTRACTS", "")
CONTRACT = Path(FOLDER) / "dsx" / "bms.yaml"
WALL_MS = 1_780_000_000_000
OLDER_KEYS = ("rackName", "rackId")  # said on purpose; consumers older than the contract look for them
OBJECT_TYPES = {"Rack", "CDU", "Pump", "Chiller", "Valve", "PowerMeter", "BESS", "Sensor", "System"}
pytestmark = pytest.mark.skipif(not FOLDER or not CONTRACT.is_file(), reason="PODKEEPER_CONTRACTS has no dsx/bms.yaml")


class Oracle:
    """The contract as validators: one for each pair of object type and point type, and one for values."""

    def __init__(self) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self.document: dict[str, Any] = yaml.load(CONTRACT.read_text(), loader)
        self.metadata: dict[tuple[str, str], Mapping[str, Any]] = {}
        for channel in self.document["channels"].values():
            parts = channel["address"].split("/")
            if parts[3] == "Metadata":
                for message in channel["messages"].values():
                    name = message["$ref"].rpartition("/")[2]
                    payload = self.document["components"]["messages"][name]["payload"]
                    for kind in self.point_types(payload):
                        self.metadata[parts[4], kind] = payload
        self.value = self.document["components"]["messages"]["ValueMessage"]["payload"]
        self._made: dict[Any, Any] = {}

    def point_types(self, schema: Any) -> set[str]:
        """Return the point types that a schema allows."""
        if not isinstance(schema, dict):
            return set()
        if "$ref" in schema:
            found: Any = self.document
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return self.point_types(found)
        own = set(schema.get("properties", {}).get("pointType", {}).get("enum", ()))
        return own.union(*(self.point_types(part) for part in schema.get("allOf", ())))

    def errors(self, message: Message, draft: Any) -> list[str]:
        parts = message.topic.split("/")
        assert parts[:3] == ["BMS", "v1", "PUB"]
        body = json.loads(message.payload)
        if parts[3] == "Value":
            schema: Mapping[str, Any] = self.value
        else:
            schema = self.metadata[parts[4], parts[5]]
            assert (body["objectType"], body["pointType"]) == (parts[4], parts[5])
            if draft is Draft202012Validator:
                body = {key: value for key, value in body.items() if key not in OLDER_KEYS}
        key = (id(schema), draft)
        if key not in self._made:
            self._made[key] = draft({**schema, "components": self.document["components"]})
        return [f"{message.topic}: {error.message[:120]}" for error in self._made[key].iter_errors(body)]


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture(scope="module")
def plan():
    return load_plan(ROOT / "profiles" / "enclosures" / "reference-pod.toml")


def reading(point: Point, now: float, scan: int) -> Reading:
    """Return a likely value of a point; it moves with each second."""
    if point.kind is Kind.FLAG:
        return good(bool(scan // 400 % 2) if "leak" in point.name else scan % 500 > 3, now)
    if point.kind is Kind.NUMBER:
        low, high = point.low or 0.0, point.high if point.high is not None else 100.0
        return good(low + (high - low) * (0.5 + scan // 5 % 7 / 100), now)
    if point.kind is Kind.TEXT:
        return good("text", now)
    return good(min(point.texts, default=0), now)


def run(plan, seconds: float):
    """Yield (now, message) of a pod's engine and adapter in virtual time, one scan each 200 ms."""
    engine = Engine(plan.pod, {}, 0.0)
    dsx = Dsx(plan)
    inbox: dict[str, Reading] = {}
    for scan in range(int(seconds * 5)):
        now = scan * 0.2
        if scan % 5 == 0:
            inbox |= {name: reading(p, now, scan) for name, p in plan.pod.points.items() if p.readable}
        view: View = engine.step(now, inbox, []).view
        picture = snapshot(view, WALL_MS + round(now * 1000), 1)
        yield from ((now, message) for message in dsx.messages(picture, now))


def test_every_message_of_a_run_is_valid(plan, oracle):
    """Both by the draft that AsyncAPI names and by the strict one, in which no schema allows a key it doesn't know."""
    said = list(run(plan, 115.0))
    checked: set[bytes] = set()
    wrong: list[str] = []
    for _, message in said:
        mark = message.payload if "/Metadata/" in message.topic else message.payload[:9] + message.topic.encode()
        if mark not in checked:
            checked.add(mark)
            wrong += oracle.errors(message, Draft7Validator) + oracle.errors(message, Draft202012Validator)
    assert not wrong, wrong[:5]
    assert {message.topic.split("/")[4] for _, message in said} == OBJECT_TYPES
    tails = {message.topic.split("/", 4)[4] for _, message in said}
    values = {m.topic.split("/", 4)[4] for _, m in said if "/Value/" in m.topic}
    written_elsewhere = {tail for tail in tails if "Request/" in tail or "Tray/" in tail or "Integration/" in tail}
    assert tails - values == written_elsewhere


def test_every_value_of_a_run_is_one(plan, oracle):
    for _, message in run(plan, 20.0):
        if "/Value/" in message.topic:
            body = json.loads(message.payload)
            assert set(body) == {"value", "timestamp", "quality"}
            assert body["value"] is None or type(body["value"]) in (int, float)
            assert type(body["timestamp"]) is int
            assert body["quality"] in (0, 1)


def test_the_oracle_sees_what_is_wrong(plan, oracle):
    """A key too many, an open unit in a closed place, and both ways to name an object at once."""
    metadata = {
        (m.topic.split("/")[4], m.topic.split("/")[5]): m for _, m in run(plan, 12.0) if "/Metadata/" in m.topic
    }

    def broken(kind: tuple[str, str], **change: Any) -> Message:
        body = {**copy.deepcopy(json.loads(metadata[kind].payload)), **change}
        return metadata[kind]._replace(payload=json.dumps(body).encode())

    assert oracle.errors(broken(("CDU", "LiquidTemperature"), engUnit="Cel"), Draft7Validator)
    assert oracle.errors(broken(("Pump", "PumpSpeed"), associateId="x"), Draft7Validator)
    assert oracle.errors(broken(("Pump", "PumpSpeed"), colour="red"), Draft202012Validator)
    value = next(m for _, m in run(plan, 12.0) if "/Value/" in m.topic)
    assert oracle.errors(value._replace(payload=b'{"value":1,"timestamp":1,"quality":1,"unit":"C"}'), Draft7Validator)


def test_names_hold_nothing_that_nats_refuses(plan):
    dsx = Dsx(plan)
    for tag in dsx.tags:
        assert not set(" .#+") & set(tag.tail), tag.tail
    assert len({tag.tail for tag in dsx.tags}) == len(dsx.tags)


def test_every_reference_leads_to_an_object(plan):
    """servesId and associateId name objects or racks that this pod publishes."""
    dsx = Dsx(plan)
    known = {tag.metadata.get("objectId") or tag.metadata.get("rackLocationId") for tag in dsx.tags}
    for tag in dsx.tags:
        for other in [*tag.metadata.get("servesId", ()), tag.metadata.get("associateId")]:
            assert other is None or other in known, (tag.tail, other)


def test_points_of_one_run_are_frozen_as_the_service_does(plan):
    """The run above takes the engine's own view; an image made without it has the same points."""
    image = freeze({}, {**plan.pod.points, **pod_points(plan.pod)}, 0.0)
    assert {source for tag in Dsx(plan).tags for source in tag.sources} <= set(image)
