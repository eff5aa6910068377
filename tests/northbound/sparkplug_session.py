"""One Sparkplug node played through: its clock, what it hears, and everything it said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from controller.northbound.publisher import Arrived
from controller.northbound.sparkplug import REBIRTH, Sparkplug
from controller.northbound.sparkplug_codec import Payload, decode, name_field, payload

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
    raw: bytes = b""

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
    return Said(
        parts[2], message.topic, message.qos, message.retain, found, parts[4] if len(parts) > 4 else "", message.payload
    )
