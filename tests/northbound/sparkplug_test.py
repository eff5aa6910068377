"""Sparkplug: connections, the primary host, history, silent devices, and what may be asked."""

from __future__ import annotations

import pytest

from controller.core.alarms import Alarm, AlarmState
from controller.core.commands import Outcome
from controller.core.pod import alarm_rows
from controller.core.points import good
from controller.northbound.publisher import Arrived
from controller.northbound.sparkplug import Sparkplug
from controller.northbound.sparkplug_codec import BOOLEAN, DOUBLE, QUALITY_BAD, STRING, metric, name_field
from tests.northbound.sparkplug_session import NODE, SETPOINT, T0, WALL_MS, Session, host, ncmd, read, rebirth, wall


@pytest.fixture
def session(plan, picture):
    return Session(Sparkplug(plan, "0.1.0"), picture, plan)


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
