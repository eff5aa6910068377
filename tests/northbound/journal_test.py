"""The event journal: what it says, and that its ids neither repeat nor skip."""

from __future__ import annotations

import json
import re
from pathlib import Path

from controller.core.alarms import Alarm, AlarmEvent, AlarmRow, AlarmState
from controller.core.commands import Command, Outcome, rejected
from controller.core.modes import Transition
from controller.northbound.journal import Journal

T0, WALL_MS = 1000.0, 1_780_000_000_000
ROW = AlarmRow("pod_flow_low", "pod.flow_ratio", "below", "TCS flow below need", "critical", "hot", "look", 90.0, 5.0)


def test_events_are_numbered_and_never_retained(picture):
    journal = Journal("r", 17)
    snap = picture(T0)
    alarm = Alarm(ROW, AlarmState.ACKED, 81.0, T0 - 3, acked_at=T0, acked_by="console:kim", occurrence=4)
    event = AlarmEvent(T0, "acknowledged", alarm, AlarmState.UNACK, "operator", "console:kim")
    command = Command("c1", "console:kim", "ack", "*", T0 + 5)
    messages = [
        journal.moved(Transition("OFF", "STARTUP.precheck", "start", T0), snap),
        *journal.alarms([event, event], snap),
        journal.command(command, Outcome("c1", "console:kim", "accepted"), WALL_MS),
        journal.noted("start", "controller", WALL_MS, {"version": "1"}),
    ]
    bodies = [json.loads(message.payload) for message in messages]
    assert [body["id"] for body in bodies] == ["17-1", "17-2", "17-3", "17-4", "17-5"]
    assert [body["event"] for body in bodies] == ["mode", "alarm", "alarm", "command", "start"]
    assert [message.kind for message in messages] == ["event", "event", "event", "audit", "audit"]
    assert all(message.topic == "r/evt" and message.qos == 1 and not message.retain for message in messages)
    assert (bodies[0]["dest"], bodies[0]["t"]) == ("STARTUP.precheck", WALL_MS)
    assert (bodies[1]["state"], bodies[1]["ack_by"], bodies[1]["t_active"]) == ("C", "console:kim", WALL_MS - 3000)
    assert (bodies[1]["what"], bodies[1]["before"], bodies[1]["by"]) == ("acknowledged", "B", "console:kim")
    assert (bodies[3]["by"], bodies[3]["op"], bodies[3]["accepted"]) == ("console:kim", "ack", True)


def test_the_page_shows_an_event_with_the_keys_it_has(picture):
    text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
    (block,) = re.findall(r'```json\n(\{"ts":\d+,"boot":17,"seq":42.*?)```', text, re.DOTALL)
    message = Journal("r", 17).moved(Transition("OFF", "STARTUP.precheck", "start", T0), picture(T0))
    assert list(json.loads(block)) == list(json.loads(message.payload))


def test_what_comes_from_outside_is_cut(picture):
    command = Command("x" * 10_000, "console:kim", "ack", "y" * 10_000, T0)
    message = Journal("r", 1).command(command, rejected(command, "unknown_target", "z" * 10_000), WALL_MS)
    assert len(message.payload) < 4096
