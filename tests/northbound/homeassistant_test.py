"""Home Assistant: what its discovery documents say, read as it reads them."""

from __future__ import annotations

import json

import pytest

from controller.core.points import good
from controller.northbound.homeassistant import HomeAssistant
from controller.northbound.native import Native
from controller.northbound.publisher import Arrived

T0, WALL_MS = 1000.0, 1_780_000_000_000
ROOT = "podkeeper/v1/factory/reference-pod"


@pytest.fixture
def discovery(plan):
    return HomeAssistant(plan, "0.1.0", ROOT)


def told(discovery, picture, scans=20):
    return [m for scan in range(scans) for m in discovery.messages(picture(T0 + scan), T0 + scan)]


def test_every_device_once_after_each_connect_and_each_birth_of_home_assistant(discovery, picture, plan):
    assert told(discovery, picture) == []
    discovery.connected(WALL_MS)
    documents = told(discovery, picture)
    assert len({m.topic for m in documents}) == len(documents) >= len(list(plan.devices))
    assert all(m.retain and m.topic.startswith("homeassistant/device/podkeeper_factory_") for m in documents)
    assert told(discovery, picture) == []
    (status,) = discovery.subscriptions
    assert discovery.received(Arrived(status, b"offline", False, 0, WALL_MS), T0) == []
    assert told(discovery, picture) == []
    discovery.received(Arrived(status, b"online", False, 0, WALL_MS), T0)
    assert told(discovery, picture) == documents


def test_documents_are_what_home_assistant_asks_for(discovery, picture):
    """By its rules of device discovery: identifiers, origin with a name, platform and unique id of each component."""
    discovery.connected(WALL_MS)
    unique = set()
    for message in told(discovery, picture):
        body = json.loads(message.payload)
        assert body["device"]["identifiers"]
        assert body["origin"]["name"] == "podkeeper"
        assert body["availability_topic"] == f"{ROOT}/status"
        assert len(message.payload) < 65_536
        assert not any("command" in key for key in message.payload.decode().split('"'))
        for component in body["components"].values():
            assert component["platform"] in ("sensor", "binary_sensor")
            assert component["unique_id"] not in unique
            unique.add(component["unique_id"])
            assert component.get("device_class") != ""
            if component["platform"] == "binary_sensor":
                assert "unit_of_measurement" not in component


def test_they_read_what_the_native_tree_says(discovery, picture, plan):
    """Each component's topic and key exist in the documents that the native publisher makes."""
    discovery.connected(WALL_MS)
    native = Native(plan, "0.1.0", ROOT)
    inbox = {"pump_1.speed": good(50.0, T0)}
    documents = {m.topic: json.loads(m.payload) for m in native.messages(picture(T0, inbox), T0) if m.payload}
    documents[f"{ROOT}/status"] = json.loads(native.status("online", WALL_MS).payload)
    for message in told(discovery, picture):
        body = json.loads(message.payload)
        assert body["availability_topic"] in documents
        for name, component in body["components"].items():
            document = documents[component.get("state_topic", body["state_topic"])]
            if "state_topic" not in component:
                assert name in document["pts"]
                assert f"value_json.pts.{name}." in component["value_template"]


def test_templates_give_what_they_should(discovery, picture):
    jinja2 = pytest.importorskip("jinja2", reason="needs the package jinja2, the template language of Home Assistant")
    discovery.connected(WALL_MS)
    bodies = [json.loads(m.payload) for m in told(discovery, picture)]
    pump = next(b for b in bodies if b["state_topic"].endswith("/dev/pump_1"))["components"]

    def shown(name, **value):
        document = {"pts": {name: {"q": 0, **value}}}
        return jinja2.Template(pump[name]["value_template"]).render(value_json=document)

    assert shown("speed", v=50.5) == "50.5"
    assert shown("speed", v=None, q=0x80310000) == "None"
    assert [shown("running", v=value) for value in (True, False, None)] == ["ON", "OFF", "None"]
    code = next(name for name, part in pump.items() if ".get(" in part["value_template"])
    assert shown(code, v=4242) == "4242"
