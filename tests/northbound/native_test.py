"""The native tree: which document, when, and what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controller.core.alarms import Alarm, AlarmRow, AlarmState
from controller.core.engine import pod_points
from controller.core.pod import setpoint_rows
from controller.core.points import NEVER_READ, Kind, Quality, Reading, good
from controller.core.slots import Slots
from controller.northbound.native import ASKING, DOCUMENTS, DOCUMENTS_PER_SCAN, Native
from controller.northbound.publisher import Arrived, Message
from controller.northbound.snapshot import STATUS_NAMES

T0, WALL_MS = 1000.0, 1_780_000_000_000
ROOT = "podkeeper/v1/factory/reference-pod"
SIZE_MAX = 65_536  # what a broker may be set to take at most in one packet
ROW = AlarmRow("pod_flow_low", "pod.flow_ratio", "below", "TCS flow below need", "critical", "hot", "look", 90.0, 5.0)
LEAK = AlarmRow("leak_1_wet", "leak_1.leak", "on", "Leak", "high", "wet", "mop")


@pytest.fixture
def native(plan):
    return Native(plan, "0.1.0", boot=17)


def topics(messages):
    return {message.topic.removeprefix(f"{ROOT}/"): message for message in messages}


def body(messages, topic):
    return json.loads(topics(messages)[topic].payload)


def of_device(messages):
    return {topic for topic in topics(messages) if topic.startswith("dev/")}


def test_first_scan_tells_everything(native, picture, plan):
    messages = native.messages(picture(T0), T0)
    pseudo = {*(bus.name for bus in plan.buses), *(point.device for point in pod_points(plan.pod).values())}
    assert {"pod", "controller", "link_native"} <= pseudo
    names = {*(device.name for device in plan.devices), *pseudo}
    expected = {"meta", "state", "alarms", *(f"dev/{n}" for n in names), *(f"meta/{n}" for n in names)}
    assert set(topics(messages)) == expected
    assert len(messages) == len(expected)
    assert all(message.qos == 1 and message.retain for message in messages)
    assert max(len(message.payload) for message in messages) < SIZE_MAX


def test_nothing_new_nothing_said(native, picture):
    inbox = {"pump_1.speed": good(50.0, T0)}
    native.messages(picture(T0, inbox), T0)
    assert native.messages(picture(T0 + 0.2, inbox), T0 + 0.2) == []


def test_device_document(native, picture):
    inbox = {"pump_1.speed": good(50.123456, T0 - 0.5), "pump_1.running": good(True, T0 - 1)}
    document = body(native.messages(picture(T0, inbox), T0), "dev/pump_1")
    assert {key: document[key] for key in ("ts", "boot", "seq", "clk")} == {
        "ts": WALL_MS,
        "boot": 17,
        "seq": 1,
        "clk": "unknown",
    }
    assert document["pts"]["running"] == {"v": True, "q": 0, "t": WALL_MS - 1000}
    assert document["pts"]["speed"]["v"] == pytest.approx(50.123456, abs=0.5)
    assert document["pts"]["fault"] == {"v": None, "q": 0x80310000, "t": None}
    assert {"comms", "failed"} <= document["pts"].keys()


def test_what_is_read_each_second_is_published_each_second(native, picture, plan):
    """Neither a scan that comes a little early nor one that comes late makes a document skip a reading."""
    step = 10 * plan.pod.points["pump_1.speed"].deadband
    published = []
    for scan in range(100):
        now = T0 + 0.2 * scan + 0.001 * (scan % 7 - 3)
        inbox = {"pump_1.speed": good(20.0 + step * (scan // 5), T0 + scan // 5)}
        if of_device(native.messages(picture(now, inbox), now)):
            published.append(scan // 5)
    assert published == sorted(set(range(20)))


def test_what_changes_each_scan_is_published_once_a_second(native, picture, plan):
    step = 2 * plan.pod.points["pump_1.speed"].deadband
    scans = 50
    published = 0
    for scan in range(scans):
        now = T0 + 0.2 * scan
        inbox = {"pump_1.speed": good(20.0 + step * (scan % 2), now)}
        published += bool(of_device(native.messages(picture(now, inbox), now)))
    assert scans / 5 <= published <= scans / 5 + 1


def test_values_wait_for_their_second(native, picture, plan):
    band = plan.pod.points["pump_1.speed"].deadband
    native.messages(picture(T0, {"pump_1.speed": good(50.0, T0)}), T0)
    inside = {"pump_1.speed": good(50.0 + band / 2, T0 + 0.2)}
    assert not of_device(native.messages(picture(T0 + 1.2, inside), T0 + 1.2))
    beyond = {"pump_1.speed": good(51.0 + band, T0 + 1.4)}
    assert of_device(native.messages(picture(T0 + 1.4, beyond), T0 + 1.4)) == {"dev/pump_1"}
    again = {"pump_1.speed": good(55.0 + band, T0 + 1.6)}
    for tick in (1.6, 1.8, 2.0):
        assert not of_device(native.messages(picture(T0 + tick, again), T0 + tick))
    messages = native.messages(picture(T0 + 2.5, again), T0 + 2.5)
    assert body(messages, "dev/pump_1")["seq"] == 3
    assert body(messages, "dev/pump_1")["pts"]["speed"]["v"] == pytest.approx(55.0 + band, abs=0.01)


def test_slow_drift_is_not_lost(native, picture, plan):
    band = plan.pod.points["pump_1.speed"].deadband or 0.1
    native.messages(picture(T0, {"pump_1.speed": good(50.0, T0)}), T0)
    now, said = T0, 0
    for step in range(1, 40):
        now = T0 + step * 2
        said += bool(of_device(native.messages(picture(now, {"pump_1.speed": good(50.0 + step * band / 4, now)}), now)))
    assert 5 <= said <= 20


def test_quality_is_told_at_once(native, picture):
    inbox = {"pump_1.speed": good(50.0, T0), "pump_2.speed": good(50.0, T0)}
    native.messages(picture(T0, inbox), T0)
    inbox["pump_1.speed"] = Reading(None, Quality.BAD, T0 + 0.2, "sentinel")
    messages = native.messages(picture(T0 + 0.2, inbox), T0 + 0.2)
    assert of_device(messages) == {"dev/pump_1"}
    assert body(messages, "dev/pump_1")["pts"]["speed"] == {"v": None, "q": 0x808C0000, "t": WALL_MS + 200}


def test_stale_keeps_its_value_and_time_until_the_device_is_known_silent(native, picture):
    inbox = {"pump_1.speed": good(50.0, T0)}
    native.messages(picture(T0, inbox), T0)
    messages = native.messages(picture(T0 + 60, inbox), T0 + 60)
    assert body(messages, "dev/pump_1")["pts"]["speed"] == {"v": 50, "q": 0x40900000, "t": WALL_MS}
    inbox["pump_1.comms"] = good(False, T0 + 60.1)
    messages = native.messages(picture(T0 + 60.2, inbox), T0 + 60.2)
    assert body(messages, "dev/pump_1")["pts"]["speed"] == {"v": None, "q": 0x80310000, "t": WALL_MS, "lv": 50}


def test_nothing_is_older_than_100_s(native, picture):
    last: dict[str, float] = {}
    for scan in range(1100):
        now = T0 + scan * 0.2
        for message in native.messages(picture(now), now):
            last[message.topic] = now
        if scan % 50 == 0:
            late = {topic for topic, at in last.items() if now - at > 100 and "/meta" not in topic}
            assert not late


def test_one_scan_never_pays_for_all_devices(native, picture, plan):
    points = [point for point in plan.pod.points.values() if point.kind is Kind.NUMBER]
    native.messages(picture(T0, {p.id: good(1.0, T0) for p in points}), T0)
    told: list[str] = []
    for tick in (2.0, 2.2, 2.4, 2.6, 2.8):
        later = {p.id: good(100.0 + 2 * p.deadband, T0 + tick) for p in points}
        said = of_device(native.messages(picture(T0 + tick, later), T0 + tick))
        assert len(said) <= DOCUMENTS_PER_SCAN
        told += said
    assert len(told) == len(set(told)) == len({p.device for p in points})


def kept(topic, payload=b"{}", retain=True):
    return Arrived(f"{ROOT}/{topic}", payload, retain, 1, WALL_MS)


def test_a_new_connection_is_told_everything_and_what_the_broker_kept_too_long_is_emptied(native, picture):
    alarm = Alarm(ROW, AlarmState.UNACK, 81.0, T0)
    first = native.messages(picture(T0, alarms=(alarm,)), T0)
    native.connected(WALL_MS)
    for arrived in (kept("alarm/pod_flow_low"), kept("alarm/ghost"), kept("alarm/live", retain=False)):
        assert native.received(arrived, T0 + 1) == []
    second = native.messages(picture(T0 + 1, alarms=(alarm,)), T0 + 1)
    assert set(topics(second)) == {*topics(first), "alarm/ghost", "status"}
    assert json.loads(second[0].payload)["state"] == "online"
    assert topics(second)["alarm/ghost"].payload == b""
    assert topics(second)["alarm/ghost"].retain
    assert native.messages(picture(T0 + 1.2, alarms=(alarm,)), T0 + 1.2) == []
    native.received(kept("alarm/slow_to_come"), T0 + 1.3)
    third = topics(native.messages(picture(T0 + 1.4, alarms=(alarm,)), T0 + 1.4))
    assert third["alarm/slow_to_come"].payload == b""
    assert set(third) == {"alarm/slow_to_come", "alarms"}


def test_a_document_of_a_device_that_comes_late_goes_to_the_history(native):
    late = native.late(Message(f"{ROOT}/dev/pump_1", b"{}"))
    assert (late.topic, late.retain, late.payload) == (f"{ROOT}/hist/pump_1", False, b"{}")


def test_alarm_record(native, picture):
    alarm = Alarm(ROW, AlarmState.UNACK, 81.234, T0 - 3, occurrence=4, boot=17)
    record = body(native.messages(picture(T0, alarms=(alarm,)), T0), "alarm/pod_flow_low")
    assert record == {
        "ts": WALL_MS, "boot": 17, "id": "pod_flow_low", "occ": "17-4", "point": "pod/flow_ratio",
        "title": "TCS flow below need", "priority": "critical", "severity": 900, "state": "B", "state_no": 2,
        "active": True, "acked": False, "test": "below", "value": 81.2, "limit": 90.0, "hysteresis": 5.0, "unit": "%",
        "t_active": WALL_MS - 3000, "t_rtn": None, "t_ack": None, "ack_by": "", "count": 1,
        "latched": False, "first_out": False, "cause": "", "chattering": False, "until": None, "by": "", "reason": "",
        "consequence": "hot", "action": "look",
    }  # fmt: skip


def test_alarm_is_updated_and_emptied(native, picture):
    unack = Alarm(ROW, AlarmState.UNACK, 81.0, T0)
    acked = Alarm(ROW, AlarmState.ACKED, 81.0, T0, acked_at=T0 + 1, acked_by="console:kim")
    native.messages(picture(T0, alarms=(unack,)), T0)
    record = body(native.messages(picture(T0 + 1, alarms=(acked,)), T0 + 1), "alarm/pod_flow_low")
    assert (record["state"], record["ack_by"], record["t_ack"]) == ("C", "console:kim", WALL_MS + 1000)
    messages = topics(native.messages(picture(T0 + 2), T0 + 2))
    assert messages["alarm/pod_flow_low"].payload == b""
    assert json.loads(messages["alarms"].payload)["total"] == 0


def test_a_suppressed_alarm_has_a_record_and_is_no_standing_one(native, picture):
    hidden = Alarm(ROW, AlarmState.SUPPRESSED, 81.0, T0, reason="pod.flow")
    messages = native.messages(picture(T0, suppressed=(hidden,)), T0)
    record, summary = body(messages, "alarm/pod_flow_low"), body(messages, "alarms")
    assert (record["state"], record["state_no"], record["reason"]) == ("F", 6, "pod.flow")
    assert (summary["total"], summary["unacked"], summary["state"]["F"]) == (0, 0, 1)
    assert topics(native.messages(picture(T0 + 1), T0 + 1))["alarm/pod_flow_low"].payload == b""


def test_alarm_summary(native, picture):
    alarms = (
        Alarm(ROW, AlarmState.ACKED, 81.0, T0 - 9),
        Alarm(LEAK, AlarmState.RTN_UNACK, True, T0 - 5, T0 - 1),
    )
    summary = body(native.messages(picture(T0, alarms=alarms), T0), "alarms")
    assert summary["state"] == {"B": 0, "C": 1, "D": 1, "E": 0, "F": 0, "G": 0}
    assert summary["priority"] == {"critical": 1, "high": 1, "medium": 0, "low": 0}
    assert (summary["total"], summary["active"], summary["unacked"]) == (2, 1, 1)
    assert summary["newest"] == {"id": "leak_1_wet", "title": "Leak", "priority": "high", "t_active": WALL_MS - 5000}


def test_state(native, picture):
    native.messages(picture(T0), T0)
    tripped = {"mode": "FAULT.tripped", "since": T0 + 0.2, "cause": "leak", "acting": ("epo",), "first_out": "epo"}
    messages = native.messages(picture(T0 + 0.2, **tripped), T0 + 0.2)
    document = body(messages, "state")
    assert document["mode"] == "FAULT.tripped"
    assert document["since"] == WALL_MS + 200
    assert document["interlocks"] == ["epo"]
    soon = native.messages(picture(T0 + 0.4, missing=("no flow",), **tripped), T0 + 0.4)
    assert "state" not in topics(soon)
    later = native.messages(picture(T0 + 1.4, missing=("no flow",), **tripped), T0 + 1.4)
    assert body(later, "state")["missing"] == ["no flow"]


def test_meta_names_every_point_once(native, picture, plan):
    messages = native.messages(picture(T0), T0)
    meta = body(messages, "meta")
    assert (meta["name"], meta["site"], meta["cfg_rev"]) == (plan.name, plan.site, plan.revision)
    assert meta["devices"]["pump_1"]["vendor"]
    assert meta["devices"]["pod"] == {"class": "pod"}
    ids = [
        point["id"]
        for topic in topics(messages)
        if topic.startswith("meta/")
        for point in body(messages, topic)["pts"].values()
    ]
    assert sorted(ids) == sorted(name.replace(".", "/", 1) for name in {**plan.pod.points, **pod_points(plan.pod)})
    speed = body(messages, "meta/pump_1")["pts"]["speed_cmd"]
    assert speed["unit"] == "%"
    assert speed["writable"] is True


def test_a_set_clock_corrects_every_time_told(native, picture):
    alarm = Alarm(ROW, AlarmState.UNACK, 81.0, T0)
    native.messages(picture(T0, alarms=(alarm,)), T0)
    assert native.messages(picture(T0 + 0.2, alarms=(alarm,), jump_ms=1500), T0 + 0.2) == []
    messages = native.messages(picture(T0 + 0.4, alarms=(alarm,), jump_ms=60_000), T0 + 0.4)
    assert body(messages, "alarm/pod_flow_low")["t_active"] == WALL_MS + 60_000


def test_status(native):
    message = native.will(WALL_MS)
    assert message.topic == f"{ROOT}/status"
    assert json.loads(message.payload) == {"state": "lost", "ts": WALL_MS, "boot": 17, "ver": "0.1.0"}


def test_every_topic_is_in_the_table(native, picture, plan):
    alarm = Alarm(ROW, AlarmState.UNACK, 81.0, T0)
    slots = Slots(setpoint_rows(plan.pod), {}, T0, None).arrays
    for principal, payload in (("bms", b'{"id":"1"}'), ("stranger", b"")):
        native.received(Arrived(f"{ROOT}/cmd/{principal}/req", payload, False, 1, WALL_MS), T0)
    messages = [*native.messages(picture(T0, alarms=(alarm,), slots=slots), T0), native.status("online", WALL_MS)]
    told = {(m.topic.removeprefix(f"{ROOT}/").split("/")[0], m.topic.count("/"), m.qos, m.retain) for m in messages}
    depth = ROOT.count("/")
    answers = [row for row in ASKING if row.topic.endswith("/rsp")]
    rows = {(d.topic.split("/")[1], d.topic.count("/") + depth, d.qos, d.retain) for d in (*DOCUMENTS, *answers)}
    assert told == rows | {("evt", depth + 1, 1, False)}
    heard = {row.topic.replace("{principal}", "+").replace("{r}", ROOT) for row in ASKING if row not in answers}
    assert heard == set(native.subscriptions) - {f"{ROOT}/alarm/+"}


READINGS = st.one_of(
    st.just(NEVER_READ),
    st.builds(
        Reading,
        st.one_of(st.none(), st.floats(), st.integers(-(2**64), 2**64), st.booleans(), st.text(max_size=200)),
        st.sampled_from(Quality),
        st.floats(0, 2 * T0),
    ),
)


def refuse(name):
    raise AssertionError(f"{name} is not JSON")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.lists(READINGS, min_size=30, max_size=30), st.sampled_from(["pump_1", "leak_1", "pod", "cooling"]))
def test_whatever_is_read_the_documents_are_json(plan, picture, readings, device):
    names = [n for n in {**plan.pod.points, **pod_points(plan.pod)} if n.startswith(f"{device}.")]
    inbox = dict(zip(names, readings, strict=False))
    for message in Native(plan, "0.1.0").messages(picture(T0, inbox), T0):
        assert len(message.payload) < SIZE_MAX
        document = json.loads(message.payload, parse_constant=refuse)
        for point in document["pts"].values() if "/dev/" in message.topic else ():
            assert point["v"] is None or point["q"] < 0x80000000


def test_a_scan_is_cheap(native, picture, plan):
    """A coarse ceiling that any machine keeps; measured: 1.2 ms a scan with every point on the move."""
    points = [*plan.pod.points.values(), *pod_points(plan.pod).values()]
    inbox, spent = {}, 0.0
    for scan in range(100):
        now = T0 + scan * 0.2
        for index, point in enumerate(points):
            if index % 5 == scan % 5:
                inbox[point.id] = good(50.0 + scan if point.kind is Kind.NUMBER else 1, now)
        snap = picture(now, inbox)
        started = time.perf_counter()
        native.messages(snap, now)
        spent += time.perf_counter() - started
    assert spent / 100 < 0.02


def test_docs_list_every_document_and_quality():
    text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
    for document in (*DOCUMENTS, *ASKING):
        retained = "yes" if document.retain else "no"
        assert f"| `{document.topic}` | {document.qos} | {retained} | {document.content} |" in text
    for code, name in STATUS_NAMES.items():
        assert f"| {code} (0x{code:08X}) | {name} |" in text


def test_docs_show_documents_with_the_keys_they_have(native, picture):
    text = (Path(__file__).parents[2] / "docs" / "mqtt.md").read_text()
    blocks = [json.loads(block.split("```")[0]) for block in text.split("```json")[1:]]
    alarm = Alarm(ROW, AlarmState.UNACK, 81.0, T0)
    messages = [native.status("online", WALL_MS), *native.messages(picture(T0, alarms=(alarm,)), T0)]
    told = [
        body(messages, topic) for topic in ("status", "meta", "state", "dev/pump_1", "alarm/pod_flow_low", "alarms")
    ]
    shown = [block for block in blocks if "dev" not in block and "event" not in block]
    assert [list(block) for block in shown] == [list(document) for document in told]
