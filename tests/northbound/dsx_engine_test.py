"""An integration's requests through the adapter to the real core, and back as points of AI control."""

from __future__ import annotations

import json

import pytest

from controller.core.commands import Command
from controller.core.engine import Engine
from controller.core.points import good
from controller.northbound.dsx import Dsx
from controller.northbound.publisher import Arrived
from controller.northbound.snapshot import snapshot

WALL_MS = 1_780_000_000_000
TAG = "factory/reference-pod"


class Loop:
    """Adapter and core as the service joins them: commands of one scan are judged in the next."""

    def __init__(self, plan) -> None:
        self.engine, self.dsx, self.now = Engine(plan.pod, {}, 0.0), Dsx(plan), 0.0
        self.dsx.connected(WALL_MS)
        self.inbox = {name: good(30.0, 0.0) for name in plan.pod.tcs.supply_temps}
        self.commands, self.outcomes, self.told = [], [], {}
        self.view = None

    def wall(self) -> int:
        return WALL_MS + round(self.now * 1000)

    def say(self, writer: str, kind: str, path: str, value: float | None) -> None:
        body = {"value": value, "timestamp": self.wall(), "quality": 1}
        topic = f"BMS/v1/{writer}/Value/{kind}/{TAG}/{path}"
        self.commands += self.dsx.received(Arrived(topic, json.dumps(body).encode(), False, 1, self.wall()), self.now)

    def beat(self, writer: str) -> None:
        self.say(writer, "System/HeartbeatTimestampIntegration", f"system/{writer}/heartbeat", self.wall())

    def run(self, seconds: float, *writers: str) -> None:
        """Scan for some time while these writers beat each 10 s."""
        for scan in range(round(seconds * 5)):
            if scan % 50 == 0:
                for writer in writers:
                    self.beat(writer)
            self.now = round(self.now + 0.2, 3)
            commands, self.commands = self.commands, []
            effects = self.engine.step(self.now, self.inbox, commands)
            self.view = effects.view
            self.outcomes += effects.outcomes
            self.dsx.answered(effects.outcomes, self.wall())
            self.commands += self.dsx.pending(self.now)
            for message in self.dsx.messages(snapshot(effects.view, self.wall(), 1), self.now):
                if "/Value/" in message.topic:
                    self.told[message.topic.split("/", 4)[4]] = json.loads(message.payload)["value"]

    def states(self) -> tuple[int, str]:
        key = f"System/GenericPoint/{TAG}/system/ai_control/"
        texts = next(tag for tag in self.dsx.tags if tag.key == "ai_reason").metadata["stateText"]
        return self.told[f"{key}state"], texts[self.told[f"{key}reason"]]["text"]


@pytest.fixture
def loop(plan) -> Loop:
    made = Loop(plan)
    made.run(6.0)
    return made


def test_a_setpoint_holds_while_its_writer_lives_and_is_kicked_out_after(loop):
    path = "cdu/supply_temp_sp_request"
    loop.run(0.4, "MEPAI")
    loop.say("MEPAI", "CDU/LiquidTemperatureSpRequest", path, 33.0)
    loop.run(0.6)
    array = loop.view.slots["pod.supply_temp_sp"]
    assert (array.winner, array.wanted) == (13, 33.0)
    loop.run(40.0, "MEPAI")
    assert loop.view.slots["pod.supply_temp_sp"].winner == 13
    assert loop.states() == (1, "none")
    loop.run(45.0)  # silence
    assert loop.view.slots["pod.supply_temp_sp"].winner != 13
    assert loop.states() == (2, "comms")


@pytest.mark.parametrize("value", [5.0, 60.0])
def test_a_setpoint_outside_its_range_changes_nothing_and_is_told(loop, value):
    loop.run(0.4, "MEPAI")
    loop.say("MEPAI", "CDU/LiquidTemperatureSpRequest", "cdu/supply_temp_sp_request", value)
    loop.run(2.0)
    assert loop.view.slots["pod.supply_temp_sp"].winner != 13
    assert loop.states() == (2, "out_of_range")


def test_isolation_reaches_the_interlock_of_that_rack_alone(loop, plan):
    loop.run(0.4, "NICO")
    loop.say("NICO", "Rack/RackLiquidIsolationRequest", "rack_3/RackLiquidIsolationRequest", 1)
    loop.run(1.6)
    assert not any(row.startswith("isolate_") for row in loop.view.acting)
    loop.run(1.5)
    assert [row for row in loop.view.acting if row.startswith("isolate_")] == ["isolate_rack_3"]
    loop.say("NICO", "Rack/RackLiquidIsolationRequest", "rack_3/RackLiquidIsolationRequest", 0)
    loop.run(20.0, "NICO")
    assert "isolate_rack_3" in loop.view.acting  # nothing opens it again from outside


def test_a_bad_publisher_does_not_take_the_pod_down(loop, plan):
    """All racks asked for at once: few go, the rest is held and an alarm stands."""
    loop.run(0.4, "NICO")
    for rack in plan.pod.racks:
        path = f"{rack.name}/RackLiquidIsolationRequest"
        loop.say("NICO", "Rack/RackLiquidIsolationRequest", path, 1)
    loop.run(55.0, "NICO")
    isolated = [row for row in loop.view.acting if row.startswith("isolate_")]
    assert 1 <= len(isolated) <= 3
    assert "pod_isolation_held" in {alarm.row.id for alarm in loop.view.alarms}
    assert loop.told[f"System/GenericPoint/{TAG}/system/alarm/pod_isolation_held"] == 2


def test_a_rack_that_has_to_wait_for_another_writers_goes_after_it(loop):
    """The guard refuses what comes too soon; its writer can't hear that, so the adapter asks again."""
    loop.run(0.4, "NICO")
    loop.say("NICO", "Rack/RackLiquidIsolationRequest", "rack_2/RackLiquidIsolationRequest", 1)
    loop.run(1.8)
    loop.commands.append(Command("x", "bms", "isolate", "rack_1", loop.now + 5))
    loop.run(12.0, "NICO")
    codes = [(o.principal, o.code) for o in loop.outcomes if o.code]
    assert ("NICO", "rate") in codes
    assert {"isolate_rack_1", "isolate_rack_2"} <= set(loop.view.acting)
