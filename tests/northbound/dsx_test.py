"""DSX: what is published when, and what an integration may ask for. The contract itself is held in conform."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.alarms import Alarm, AlarmRow, AlarmState
from controller.core.commands import Outcome
from controller.core.points import Quality, Reading, good
from controller.northbound.dsx import BIRTHS_PER_SCAN, VALUES_PER_SCAN, Dsx
from controller.northbound.publisher import Arrived

T0, WALL_MS = 1000.0, 1_780_000_000_000
TAG = "factory/reference-pod"
SETPOINT = f"BMS/v1/MEPAI/Value/CDU/LiquidTemperatureSpRequest/{TAG}/cdu/supply_temp_sp_request"
ISOLATE = f"BMS/v1/NICO/Value/Rack/RackLiquidIsolationRequest/{TAG}/rack_%d/RackLiquidIsolationRequest"
ISOLATE_POWER = ISOLATE.replace("Liquid", "Electrical")
BEAT = f"BMS/v1/%s/Value/System/HeartbeatTimestampIntegration/{TAG}/system/%s/heartbeat"


def wall(now):
    return WALL_MS + round((now - T0) * 1000)


def arrived(topic, now, value, *, age_ms=0, quality=1, retain=False):
    body = {"value": value, "timestamp": wall(now) - age_ms, "quality": quality}
    return Arrived(topic, json.dumps(body).encode(), retain, 1, wall(now))


def beat(dsx, writer, now):
    return dsx.received(arrived(BEAT % (writer, writer), now, wall(now)), now)


def settle(dsx, picture, inbox=None, scans=60, start=T0):
    said = []
    for scan in range(scans):
        now = start + 0.2 * scan
        said += [(now, message) for message in dsx.messages(picture(now, inbox), now)]
    return said


@pytest.fixture
def dsx(plan, picture):
    made = Dsx(plan)
    made.messages(picture(T0 - 1), T0 - 1)
    made.connected(WALL_MS)
    return made


def values(messages):
    return {m.topic.removeprefix("BMS/v1/PUB/Value/"): json.loads(m.payload) for m in messages if "/Value/" in m.topic}


def test_metadata_comes_before_each_value_and_in_portions(dsx, picture):
    seen = set()
    for scan in range(60):
        now = T0 + 0.2 * scan
        messages = dsx.messages(picture(now), now)
        assert len(messages) <= 2 * BIRTHS_PER_SCAN + VALUES_PER_SCAN
        for message in messages:
            tail = message.topic.split("/", 4)[4]
            if "/Metadata/" in message.topic:
                assert (message.retain, message.qos) == (True, 1)
                seen.add(tail)
            else:
                assert (message.retain, message.qos) == (False, 0)
                assert tail in seen
    assert len(seen) == len(dsx.tags)


def test_a_value_has_three_keys_and_the_time_of_its_reading(dsx, picture):
    settle(dsx, picture)
    now = T0 + 20
    point = "Pump/PumpSpeed/" + TAG + "/pump_1/motor_speed"
    messages = dsx.messages(picture(now, {"pump_1.motor_speed": good(1450.0, now - 0.3)}), now)
    assert values(messages)[point] == {"value": 1450, "timestamp": wall(now - 0.3), "quality": 1}
    broken = Reading(None, Quality.BAD, now, "sentinel")
    messages = dsx.messages(picture(now + 0.2, {"pump_1.motor_speed": broken}), now + 0.2)
    assert values(messages)[point] == {"value": None, "timestamp": wall(now), "quality": 0}


def test_all_is_said_again_within_100_s_and_never_all_at_once(dsx, picture):
    last, worst, busiest = {}, 0.0, 0
    for scan in range(1100):
        now = T0 + 0.2 * scan
        messages = dsx.messages(picture(now), now)
        if scan > 100:
            busiest = max(busiest, len(messages))
        for message in messages:
            worst = max(worst, now - last.get(message.topic, now))
            last[message.topic] = now
    assert worst <= 100
    assert all(now - at <= 100 for at in last.values())
    assert busiest < 20


def test_heartbeat_each_10_s(dsx, picture):
    said = settle(dsx, picture, scans=300)
    times = [now for now, message in said if "HeartbeatTimestampBms" in message.topic and "/Value/" in message.topic]
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gaps
    assert all(9.9 <= gap <= 10.3 for gap in gaps)


def test_number_moves_wait_for_their_second(dsx, picture):
    settle(dsx, picture, {"pump_1.motor_speed": good(1000.0, T0)})
    told = 0
    for scan in range(50):
        now = T0 + 20 + 0.2 * scan
        messages = dsx.messages(picture(now, {"pump_1.motor_speed": good(1000.0 + 50 * (scan % 2), now)}), now)
        told += sum(m.topic.endswith("Pump/PumpSpeed/" + TAG + "/pump_1/motor_speed") for m in messages)
    assert 8 <= told <= 13  # ten seconds; a refresh may come in between


def test_what_several_points_say_together(dsx, picture, plan):
    settle(dsx, picture)
    rack = plan.pod.racks[0]
    now = T0 + 30
    inbox = {outlet: good(False, now) for outlet in rack.outlets}
    inbox |= {point: good(2.5, now) for point in rack.power}
    inbox |= {rack.leak[0]: good(True, now), f"{rack.valve}.position": good(0.5, now)}
    said = values(dsx.messages(picture(now, inbox), now))
    assert said[f"Rack/RackElectricalIsolationStatus/{TAG}/rack_1/electrical_isolation"]["value"] == 1
    assert said[f"Rack/RackLiquidIsolationStatus/{TAG}/rack_1/liquid_isolation"]["value"] == 1
    assert said[f"Rack/RackPower/{TAG}/rack_1/power"]["value"] == 2.5 * len(rack.power)
    assert said[f"Rack/RackLeakDetect/{TAG}/rack_1/leak"]["value"] == 1
    inbox[rack.power[0]] = Reading(None, Quality.BAD, now + 2, "no value")
    inbox[rack.outlets[0]] = good(True, now + 2)
    said = values(dsx.messages(picture(now + 2, inbox), now + 2))
    assert said[f"Rack/RackPower/{TAG}/rack_1/power"] == {"value": None, "timestamp": wall(now), "quality": 0}
    assert said[f"Rack/RackElectricalIsolationStatus/{TAG}/rack_1/electrical_isolation"]["value"] == 0


def test_alarms_are_points_of_the_system(dsx, picture):
    settle(dsx, picture)
    row = AlarmRow("pod_flow_low", "pod.flow_ratio", "below", "low", "critical", "hot", "look", 90.0)
    now = T0 + 30
    said = values(dsx.messages(picture(now, alarms=(Alarm(row, AlarmState.UNACK, 80.0, now),)), now))
    assert said[f"System/GenericPoint/{TAG}/system/alarm/pod_flow_low"]["value"] == 2
    assert said[f"System/GenericPoint/{TAG}/system/alarms/critical"]["value"] == 1
    hidden = Alarm(row, AlarmState.SUPPRESSED, 80.0, now, reason="pod.flow")
    said = values(dsx.messages(picture(now + 1, suppressed=(hidden,)), now + 1))
    assert said[f"System/GenericPoint/{TAG}/system/alarm/pod_flow_low"]["value"] == 6
    assert said[f"System/GenericPoint/{TAG}/system/alarms/critical"]["value"] == 0


def test_a_setpoint_needs_a_live_writer(dsx):
    assert dsx.received(arrived(SETPOINT, T0, 31.0), T0) == []
    (sign,) = beat(dsx, "MEPAI", T0)
    assert (sign.operation, sign.principal) == ("heartbeat", "MEPAI")
    (command,) = dsx.received(arrived(SETPOINT, T0 + 1, 31.0, quality="1"), T0 + 1)
    asked = (command.operation, command.target, command.value, command.slot, command.principal)
    assert asked == ("set", "pod.supply_temp_sp", 31.0, 13, "MEPAI")
    assert dsx.received(arrived(SETPOINT, T0 + 32, 31.5), T0 + 32) == []
    beat(dsx, "NICO", T0 + 33)  # another's heart does not count
    assert dsx.received(arrived(SETPOINT, T0 + 33, 31.5), T0 + 33) == []
    beat(dsx, "MEPAI", T0 + 34)
    (command,) = dsx.received(arrived(SETPOINT, T0 + 35, None), T0 + 35)
    assert (command.operation, command.slot) == ("relinquish", 13)


@pytest.mark.parametrize(
    "message",
    [
        arrived(SETPOINT, T0 + 1, 31.0, age_ms=60_001),
        arrived(SETPOINT, T0 + 1, 31.0, age_ms=-60_001),
        arrived(SETPOINT, T0 + 1, 31.0, quality=0),
        arrived(SETPOINT, T0 + 1, 31.0, quality=True),
        arrived(SETPOINT, T0 + 1, 31.0, quality="good"),
        arrived(SETPOINT, T0 + 1, 31.0, retain=True),
        arrived(SETPOINT, T0 + 1, "31"),
        arrived(SETPOINT, T0 + 1, True),
        arrived(SETPOINT, T0 + 1, float("nan")),
        arrived(SETPOINT, T0 + 1, float("inf")),
        arrived(SETPOINT.replace("MEPAI", "NICO"), T0 + 1, 31.0),
        arrived(SETPOINT + "/more", T0 + 1, 31.0),
        Arrived(SETPOINT, b"[" * 8000, False, 1, wall(T0 + 1)),
        Arrived(SETPOINT, b'{"value":1}', False, 1, wall(T0 + 1)),
        Arrived(SETPOINT, b"\xff", False, 1, wall(T0 + 1)),
        Arrived(SETPOINT, b"1" * 5000, False, 1, wall(T0 + 1)),
    ],
)
def test_what_cannot_be_believed_asks_nothing(dsx, message):
    beat(dsx, "MEPAI", T0)
    assert dsx.received(message, T0 + 1) == []
    assert dsx.pending(T0 + 10) == []


def test_a_writer_whose_clock_is_wrong_is_told_so(dsx, picture):
    settle(dsx, picture)

    def reason(now):
        return values(dsx.messages(picture(now), now)).get(f"System/GenericPoint/{TAG}/system/ai_control/reason")

    texts = next(tag for tag in dsx.tags if tag.key == "ai_reason").metadata["stateText"]
    expired = next(entry["value"] for entry in texts if entry["text"] == "expired")
    now = T0 + 20
    dsx.received(arrived(BEAT % ("MEPAI", "MEPAI"), now, wall(now), age_ms=61_000), now)
    assert reason(now)["value"] == expired
    beat(dsx, "MEPAI", now + 2)
    assert reason(now + 2)["value"] == 0


def test_a_flood_of_setpoints_is_one_a_second(dsx):
    beat(dsx, "MEPAI", T0)
    asked = [dsx.received(arrived(SETPOINT, T0 + 0.005 * n, 30.0 + n / 100), T0 + 0.005 * n) for n in range(600)]
    assert sum(map(len, asked)) == 3


def test_the_state_of_ai_control_is_told_with_its_reason(dsx, picture):
    settle(dsx, picture)
    beat(dsx, "MEPAI", T0 + 20)
    (command,) = dsx.received(arrived(SETPOINT, T0 + 20, 31.0), T0 + 20)
    dsx.answered([Outcome(command.id, "MEPAI", "accepted")], wall(T0 + 20))
    said = values(dsx.messages(picture(T0 + 20.2), T0 + 20.2))
    assert said[f"System/GenericPoint/{TAG}/system/ai_control/state"]["value"] == 1
    dsx.answered([Outcome(command.id, "MEPAI", "expired", "comms", "no heartbeat")], wall(T0 + 60))
    said = values(dsx.messages(picture(T0 + 60), T0 + 60))
    assert said[f"System/GenericPoint/{TAG}/system/ai_control/state"]["value"] == 2
    reason = next(tag for tag in dsx.tags if tag.key == "ai_reason").metadata["stateText"]
    number = said[f"System/GenericPoint/{TAG}/system/ai_control/reason"]["value"]
    assert {entry["value"]: entry["text"] for entry in reason}[number] == "comms"


def test_isolation_must_stand_for_two_seconds(dsx):
    beat(dsx, "NICO", T0)
    assert dsx.received(arrived(ISOLATE % 1, T0, 1), T0) == []
    assert dsx.pending(T0 + 1.9) == []
    (command,) = dsx.pending(T0 + 2.0)
    assert (command.operation, command.target, command.principal) == ("isolate", "rack_1", "NICO")
    assert dsx.pending(T0 + 10) == []  # once


@pytest.mark.parametrize(("value", "acts"), [(0, False), (-1, True), (None, True)])
def test_what_takes_an_isolation_back(dsx, value, acts):
    """0 before the two seconds are over takes it back; unknown and no value change nothing."""
    beat(dsx, "NICO", T0)
    dsx.received(arrived(ISOLATE % 1, T0, 1), T0)
    dsx.received(arrived(ISOLATE % 1, T0 + 1, value), T0 + 1)
    assert bool(dsx.pending(T0 + 3)) is acts


def test_an_electrical_request_alone_leaves_the_water_alone(dsx):
    """Power alone when power alone is asked; water too as soon as that is asked, whichever came first."""
    beat(dsx, "NICO", T0)
    dsx.received(arrived(ISOLATE_POWER % 1, T0, 1), T0)
    (command,) = dsx.pending(T0 + 2.0)
    assert (command.operation, command.target) == ("isolate_power", "rack_1")
    beat(dsx, "NICO", T0 + 9)
    dsx.received(arrived(ISOLATE % 1, T0 + 9, 1), T0 + 9)
    (command,) = dsx.pending(T0 + 11.0)
    assert (command.operation, command.target) == ("isolate", "rack_1")
    dsx.received(arrived(ISOLATE % 2, T0 + 12, 1), T0 + 12)
    dsx.received(arrived(ISOLATE_POWER % 2, T0 + 12, 1), T0 + 12)
    (command,) = dsx.pending(T0 + 16.5)
    assert (command.operation, command.target) == ("isolate", "rack_2")
    assert dsx.pending(T0 + 25) == []


def test_isolation_dies_with_its_writer_and_nothing_opens_again(dsx):
    beat(dsx, "NICO", T0)
    dsx.received(arrived(ISOLATE % 1, T0 + 29, 1), T0 + 29)
    assert dsx.pending(T0 + 31.5) == []
    beat(dsx, "NICO", T0 + 32)
    assert dsx.pending(T0 + 40) == []
    dsx.received(arrived(ISOLATE % 1, T0 + 41, 1), T0 + 41)
    assert len(dsx.pending(T0 + 43.5)) == 1
    assert dsx.received(arrived(ISOLATE % 1, T0 + 44, 0), T0 + 44) == []
    assert dsx.pending(T0 + 50) == []


def test_racks_go_one_in_five_seconds_unless_their_own_detector_is_wet(dsx, picture, plan):
    beat(dsx, "NICO", T0)
    for rack in (1, 2, 3):
        dsx.received(arrived(ISOLATE % rack, T0, 1), T0)
    asked = {}
    for scan in range(100):
        now = T0 + 0.2 * scan
        asked |= {command.target: now - T0 for command in dsx.pending(now)}
    assert asked["rack_2"] - asked["rack_1"] == pytest.approx(5.0, abs=0.21)
    assert asked["rack_3"] - asked["rack_2"] == pytest.approx(5.0, abs=0.21)
    wet = {rack.leak[0]: good(True, T0 + 25) for rack in plan.pod.racks if rack.name in ("rack_4", "rack_5")}
    dsx.messages(picture(T0 + 25, wet), T0 + 25)
    beat(dsx, "NICO", T0 + 25)
    for rack in (4, 5):
        dsx.received(arrived(ISOLATE % rack, T0 + 25, 1), T0 + 25)
    assert {command.target for command in dsx.pending(T0 + 27.1)} == {"rack_4", "rack_5"}


def test_subscriptions_reach_this_pod_only(dsx):
    assert set(dsx.subscriptions) == {f"BMS/v1/MEPAI/Value/+/+/{TAG}/#", f"BMS/v1/NICO/Value/+/+/{TAG}/#"}


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from([1, "1", 0, -1])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.fixed_dictionaries({"value": JSON, "timestamp": st.one_of(JSON, st.just(WALL_MS)), "quality": JSON}),
        st.dictionaries(st.sampled_from(["value", "timestamp", "quality", "x"]), JSON),
        JSON,
    ),
    st.sampled_from([SETPOINT, ISOLATE % 2, BEAT % ("MEPAI", "MEPAI")]),
)
def test_whatever_comes_only_a_finite_number_of_good_quality_asks_anything(dsx, body, topic):
    beat(dsx, "MEPAI", T0)
    beat(dsx, "NICO", T0)
    for command in dsx.received(Arrived(topic, json.dumps(body).encode(), False, 1, WALL_MS), T0 + 5):
        assert body["quality"] in (1, "1")
        assert not isinstance(body["quality"], bool)
        assert abs(body["timestamp"] - WALL_MS) < 60_000
        assert command.operation in ("set", "relinquish", "heartbeat")
        if command.operation == "set":
            assert -1e15 <= command.value <= 1e15
    for command in dsx.pending(T0 + 7.5):
        assert (command.operation, body["value"]) == ("isolate", 1)
    dsx.connected(WALL_MS)
    dsx.received(arrived(ISOLATE % 2, T0 + 8, 0), T0 + 8)  # the next example starts without a request
