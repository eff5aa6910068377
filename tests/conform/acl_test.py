"""The shipped broker settings on a real mosquitto: every principal tries everything, and gets only what is its own."""

from __future__ import annotations

import getpass
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from tests.conform.authority import documented
from tests.conform.brokers import Broker, free_port, needs_mosquitto

SHIPPED = Path(__file__).parents[2] / "systemd" / "mosquitto"
PODS = {"reference-pod": "podkeeper/v1/factory/reference-pod", "pod-7": "podkeeper/v1/leipzig/pod-7"}
READERS = ("bms-operator", "historian")
PRINCIPALS = (*PODS, *READERS)
DOCUMENTS = (
    "status", "meta", "meta/pump_1", "state", "dev/pump_1", "alarm/pod_flow_low", "alarms", "override", "evt",
    "hist/pump_1",
)  # fmt: skip
OUTSIDE = ("podkeeper/v1/factory/reference-pod", "podkeeper", "$SYS/broker/uptime", "BMS/v1/PUB/Value/CDU/x", "other")
pytestmark = [pytest.mark.peer, needs_mosquitto]


def topics() -> set[str]:
    found = {f"{root}/{document}" for root in PODS.values() for document in DOCUMENTS}
    for root in PODS.values():
        found |= {f"{root}/cmd/{name}/{leaf}" for name in (*PRINCIPALS, "nobody") for leaf in ("req", "rsp")}
        found |= {f"{root}/hb/{name}" for name in PRINCIPALS}
    return found | set(OUTSIDE)


def may_write(name: str, topic: str) -> bool:
    own = PODS.get(name)
    if own and topic in {f"{own}/{document}" for document in DOCUMENTS}:
        return True
    if own and topic.startswith(f"{own}/cmd/") and topic.endswith("/rsp"):
        return True
    return any(topic in (f"{root}/cmd/{name}/req", f"{root}/hb/{name}") for root in PODS.values())


def may_read(name: str, topic: str) -> bool:
    own = PODS.get(name, "-")
    if topic in (f"{own}/status", f"{own}/alarm/pod_flow_low"):
        return True
    if (topic.startswith(f"{own}/cmd/") and topic.endswith("/req")) or topic.startswith(f"{own}/hb/"):
        return True
    for root in PODS.values():
        if topic == f"{root}/cmd/{name}/rsp":
            return True
        document = topic.removeprefix(f"{root}/")
        if name == "bms-operator" and document in DOCUMENTS and document != "hist/pump_1":
            return True
        if name == "historian" and document in ("meta", "meta/pump_1", "dev/pump_1", "evt", "hist/pump_1"):
            return True
    return False


class Peer:
    """A client of the broker that remembers what it hears and how its publishes were answered."""

    def __init__(self, port: int, name: str = "", keys: Path | None = None) -> None:
        self.heard: set[tuple[str, bytes]] = set()
        self.answers: dict[int, int] = {}
        self.up = threading.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, f"{name}-test", protocol=MQTTProtocolVersion.MQTTv5)
        if keys:
            self.client.tls_set(str(keys / "ca.crt"), str(keys / f"{name}.crt"), str(keys / f"{name}.key"))
        self.client.on_message = lambda _c, _d, message: self.heard.add((message.topic, message.payload))
        self.client.on_publish = lambda _c, _d, mid, reason, _p: self.answers.update({mid: reason.value})
        self.client.on_subscribe = lambda *_: self.up.set()
        self.client.connect("localhost", port)
        self.client.loop_start()

    def hear_all(self) -> None:
        self.client.subscribe("#", qos=1)
        assert self.up.wait(10)

    def publish(self, topic: str, payload: bytes) -> int:
        info = self.client.publish(topic, payload, qos=1)
        info.wait_for_publish(10)
        deadline = time.monotonic() + 10
        while info.mid not in self.answers:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        return self.answers[info.mid]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped settings, on other ports and paths, with a second door without rules for an onlooker."""
    folder = tmp_path_factory.mktemp("acl")
    keys = documented(folder / "keys")
    secure, spy = free_port(), free_port()
    text = (SHIPPED / "podkeeper.conf").read_text().replace("listener 8883", f"listener {secure} 127.0.0.1")
    text = text.replace("/etc/mosquitto/podkeeper/podkeeper.acl", str(SHIPPED / "podkeeper.acl"))
    text = text.replace("/etc/mosquitto/podkeeper/", f"{keys}/").replace("log_dest syslog", "log_dest stderr")
    text = f"user {getpass.getuser()}\n{text}\nlistener {spy} 127.0.0.1\nallow_anonymous true\n"
    (folder / "mosquitto.conf").write_text(text)
    broker = Broker(["mosquitto", "-c", str(folder / "mosquitto.conf")], spy, folder / "mosquitto.log")
    broker.start()
    peers = {name: Peer(secure, name, keys) for name in PRINCIPALS}
    onlooker = Peer(spy, "onlooker")
    yield peers, onlooker, secure, keys
    for peer in (*peers.values(), onlooker):
        peer.close()
    broker.stop()


def settled(peer: Peer, topic: str, payload: bytes) -> None:
    """Wait until ``peer`` has heard this; what was published before it has come by then."""
    deadline = time.monotonic() + 10
    while (topic, payload) not in peer.heard:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_nobody_writes_what_is_not_its_own(shipped):
    peers, onlooker, _, _ = shipped
    onlooker.hear_all()
    wanted = sorted(topics() - {"$SYS/broker/uptime"})
    accepted = {
        (name, topic): peer.publish(topic, f"{name} writes".encode()) < 0x80
        for name, peer in peers.items()
        for topic in wanted
    }
    onlooker.publish("last", b"last")
    settled(onlooker, "last", b"last")
    for name in peers:
        for topic in wanted:
            passed = (topic, f"{name} writes".encode()) in onlooker.heard
            assert passed == accepted[name, topic] == may_write(name, topic), (name, topic)
    assert sum(accepted.values()) == sum(may_write(name, topic) for name in peers for topic in wanted)
    assert len(accepted) > 200


def test_nobody_reads_what_is_not_for_it(shipped):
    peers, onlooker, _, _ = shipped
    for peer in peers.values():
        peer.hear_all()
    for topic in sorted(topics()):
        if not topic.startswith("$"):
            onlooker.publish(topic, b"to read")
    for name, peer in peers.items():
        last = next(topic for topic in sorted(topics(), reverse=True) if may_read(name, topic))
        settled(peer, last, b"to read")
        heard = {topic for topic, payload in peer.heard if payload == b"to read"}
        assert heard == {topic for topic in topics() if may_read(name, topic)}, name


def test_nobody_comes_in_without_a_certificate_of_our_authority(shipped, tmp_path):
    _, _, secure, keys = shipped
    strangers = documented(tmp_path / "strangers")
    (strangers / "ca.crt").write_bytes((keys / "ca.crt").read_bytes())
    peer = Peer(secure, "bms-operator", strangers)
    try:
        peer.client.subscribe("#", qos=1)
        assert not peer.up.wait(1.5)
    finally:
        peer.close()
