"""Commands followed without the rest of the scan: what is told when, and when patience is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from controller.core.commands import Operation, Outcome
from controller.core.image import Image
from controller.core.points import Value, good
from tests.core.authority_rig import ANN, SP, WATER, Desk, pod, racks, told


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_isolation_is_followed_to_its_effect(desk: Desk) -> None:
    rack = pod().racks[0]
    row, position = f"isolate_{rack.name}", f"{rack.valve}.position"
    desk.values = {**dict.fromkeys(rack.outlets, True), position: 100.0}
    desk.ask("isolate", rack.name)
    assert desk.follow() == [], "in its own scan the row can't act yet"
    desk.latched = [row]
    assert desk.follow(0.2) == []
    desk.values |= dict.fromkeys(rack.outlets, False)
    assert desk.follow(0.2) == [told("applied", message="outlets off")]
    assert desk.follow(0.2) == []
    desk.values[position] = 5.1
    assert desk.follow(0.2) == []
    desk.values[position] = 5.0
    assert desk.follow(0.2) == [told("confirmed", message="outlets off, valve shut")]
    assert desk.follow(0.2) == [], "told once"


def test_power_asked_off_is_done_with_the_outlets(desk: Desk) -> None:
    rack = pod().racks[0]
    desk.values = {**dict.fromkeys(rack.outlets, False), f"{rack.valve}.position": 100.0}
    desk.ask("isolate_power", rack.name)
    desk.latched = [f"isolate_power_{rack.name}"]
    assert desk.follow(0.2) == [told("confirmed", message="outlets off")]


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ({"on": True, "position": 100.0}, ("readback", "outlets not off, valve at 100.0 %")),
        ({"on": False, "position": 50.0}, ("readback", "outlets off, valve at 50.0 %")),
        ({"on": False}, ("comms", "outlets off, valve at None %")),
    ],
)
def test_isolation_that_is_not_seen_fails(desk: Desk, values: dict[str, Value], outcome: tuple[str, str]) -> None:
    rack = pod().racks[0]
    desk.values = dict.fromkeys(rack.outlets, values["on"])
    if "position" in values:
        desk.values[f"{rack.valve}.position"] = values["position"]
    desk.ask("isolate", rack.name)
    desk.latched = [f"isolate_{rack.name}"]
    patience_s = pod().protection.rack_off_before_valve_s + 120.0
    assert [o.state for o in desk.follow(patience_s)] == (["applied"] if values["on"] is False else [])
    assert desk.follow(0.1) == [told("failed", *outcome)]
    assert desk.follow(0.1) == []


def test_isolation_ends_with_a_reset(desk: Desk) -> None:
    desk.ask("isolate", racks()[0])
    assert desk.follow() == []
    assert desk.follow(0.2) == [told("superseded", message="reset")]


def test_one_isolation_takes_the_place_of_another_of_its_rack_alone(desk: Desk) -> None:
    desk.ask("isolate", racks()[0], by=ANN, name="a")
    assert [o.state for o in desk.ask("isolate_power", racks()[0], by=ANN, name="b")] == ["accepted"]
    assert [o.state for o in desk.ask("isolate", racks()[1], by=ANN, name="c")] == ["accepted"]
    assert desk.ask("isolate", racks()[0], by="console:bob", name="d") == [
        told("accepted", by="console:bob", name="d"),
        told("superseded", message="isolate by console:bob", by=ANN, name="a"),
    ]


# ---------------------------------------------------------------- reset


def test_a_reset_is_confirmed_when_nothing_is_held(desk: Desk) -> None:
    desk.latched = ["leak", "flow"]
    assert desk.ask("reset", by=ANN) == [told("accepted", by=ANN)]
    assert desk.follow(5.0) == []
    assert desk.follow(0.1) == [told("failed", "interlock", "still held: leak, flow", by=ANN)]
    desk.latched = []
    assert desk.follow(0.1) == []
    desk.mode = "FAULT.tripped"
    desk.ask("reset", by=ANN, name="c2")
    assert desk.follow(5.1) == [told("failed", "interlock", "still FAULT.tripped", by=ANN, name="c2")]
    desk.ask("reset", by=ANN, name="c3")
    desk.mode = "OFF"
    assert desk.follow(0.2) == [told("confirmed", by=ANN, name="c3")]


def test_a_reset_releases_alarms_in_the_name_of_who_gave_it(desk: Desk) -> None:
    for now, wet in ((100.0, True), (101.0, False)):
        desk.alarms.step(Image({"io.wet": good(wet, now)}, now), now)
    desk.ask("reset", by=ANN)
    (event,) = desk.alarms.step(Image({}, 102.0), 102.0)
    assert (event.what, event.user, event.at) == ("reset", ANN, 100.0)


# ---------------------------------------------------------------- modes

Scans = list[tuple[float, str, list[Outcome]]]


def progress(desk: Desk, scans: Scans) -> None:
    for seconds, mode, outcomes in scans:
        desk.mode = mode
        assert desk.follow(seconds) == outcomes, mode


@pytest.mark.parametrize(
    ("operation", "begin", "scans"),
    [
        ("start", "OFF", [(0.0, "OFF", []), (1.0, "STARTUP.fill", [told("applied", message="STARTUP.fill")]),
                          (1.0, "STARTUP.proving", []), (1.0, "NORMAL", [told("confirmed", message="why")])]),
        ("start", "OFF", [(1.0, "STARTUP.fill", [told("applied", message="STARTUP.fill")]),
                          (1.0, "OFF", [told("failed", "interlock", "OFF: why")]), (1.0, "OFF", [])]),
        ("start", "OFF", [(1.0, "COOLDOWN", [told("failed", "interlock", "COOLDOWN: why")])]),
        ("start", "OFF", [(1.0, "FAULT.tripped", [told("failed", "interlock", "FAULT.tripped: why")])]),
        ("start", "OFF", [(120.0, "OFF", []), (0.1, "OFF", [told("failed", "readback", "still OFF")])]),
        ("start", "OFF", [(1.0, "STARTUP.fill", [told("applied", message="STARTUP.fill")]),
                          (14_399.0, "STARTUP.fill", []),
                          (0.1, "STARTUP.fill", [told("failed", "readback", "still STARTUP.fill")])]),
        ("stop", "NORMAL", [(0.0, "NORMAL", []), (1.0, "COOLDOWN", [told("applied", message="COOLDOWN")]),
                            (900.0, "OFF", [told("confirmed", message="why")])]),
        ("stop", "NORMAL", [(1.0, "FAULT.tripped", [told("failed", "interlock", "FAULT.tripped: why")])]),
        ("maintain", "OFF", [(0.0, "OFF", []), (1.0, "MAINTENANCE", [told("confirmed", message="why")])]),
        ("release", "MAINTENANCE", [(1.0, "OFF", [told("confirmed", message="why")])]),
        ("release", "MAINTENANCE", [(121.0, "MAINTENANCE", [told("failed", "readback", "still MAINTENANCE")])]),
        ("energise", "NORMAL", [(0.0, "NORMAL", []),
                                (1.0, "STARTUP.energise", [told("applied", message="STARTUP.energise")]),
                                (1.0, "NORMAL", [told("confirmed", message="why")])]),
        ("energise", "NORMAL", [(1.0, "STARTUP.proving", []),
                                (1.0, "COOLDOWN", [told("failed", "interlock", "COOLDOWN: why")])]),
        ("energise", "NORMAL", [(1.0, "OFF", [told("failed", "interlock", "OFF: why")])]),
        ("energise", "NORMAL", [(1.0, "FAULT.tripped", [told("failed", "interlock", "FAULT.tripped: why")])]),
    ],
)  # fmt: skip
def test_an_operation_of_the_mode_is_followed(operation: Operation, begin: str, scans: Scans) -> None:
    desk = Desk()
    desk.mode, desk.cause = begin, "why"
    desk.ask(operation, by=ANN)
    assert desk.verdict.operations == {operation}
    progress(desk, [(s, m, [dataclasses.replace(o, principal=ANN) for o in outcomes]) for s, m, outcomes in scans])


def test_of_two_operations_of_the_mode_the_later_is_followed(desk: Desk) -> None:
    desk.mode = "OFF"
    desk.ask("start", name="a")
    desk.mode = "STARTUP.fill"
    assert desk.ask("stop", by=ANN, name="b") == [
        told("accepted", by=ANN, name="b"), told("superseded", message=f"stop by {ANN}", name="a"),
    ]  # fmt: skip
    desk.mode = "OFF"
    assert desk.follow(1.0) == [told("confirmed", by=ANN, name="b")]


# ---------------------------------------------------------------- setpoints


def test_a_setpoint_is_applied_at_once_and_confirmed_in_force(desk: Desk) -> None:
    slots = desk.authority.slots
    desk.authority.step({}, 100.0)
    before = slots.value(SP)
    assert desk.ask("set", SP, value=before + 0.01, slot=8, ttl_s=600.0) == [
        told("accepted", effective=before + 0.01, until=700.0)
    ]
    assert desk.follow() == [told("applied", effective=before + 0.01, until=700.0)]
    assert desk.follow(0.2) == []
    desk.authority.step({}, 200.0)
    desk.now = 200.0
    assert desk.follow() == [told("confirmed", effective=before + 0.01, until=700.0)]
    assert desk.follow(0.2) == []


def test_a_masked_setpoint_is_told_by_whom_and_waits(desk: Desk) -> None:
    desk.ask("set", SP, by=ANN, value=29.0, slot=7, name="a")
    desk.follow()
    desk.ask("set", SP, value=29.0, slot=8, name="b", ttl_s=600.0)
    masked = f"masked by slot 7 of {ANN}: no reason given"
    assert desk.follow() == [told("applied", message=masked, name="b", effective=29.0, until=700.0)]
    desk.authority.step({}, 101.0)
    assert desk.follow(1.0) == [], "not its own doing, though the value is there"
    desk.ask("relinquish", SP, by=ANN, slot=7, name="r")
    assert [(o.id, o.state) for o in desk.follow(1.0)] == [("b", "confirmed")]


def test_a_setpoint_that_was_replaced_is_followed_no_more(desk: Desk) -> None:
    desk.ask("set", SP, value=29.0, slot=8, name="a")
    again = desk.ask("set", SP, value=33.0, slot=8, name="b")
    assert [(o.id, o.state) for o in again] == [("b", "accepted"), ("a", "superseded")]
    assert [(o.id, o.state) for o in desk.follow()] == [("b", "applied"), ("b", "confirmed")]
    desk.ask("set", SP, value=33.0, slot=10, name="c")
    desk.ask("set", WATER, value=20.0, slot=8, name="d")
    assert [(o.id, o.state) for o in desk.follow()] == [("c", "applied"), ("d", "applied")]
    desk.authority.step({}, 1e6)
    assert desk.follow() == [], "all leases have ended, and the slots have told it"
    assert not desk.authority._followed


def shown_at(value: Value | None) -> Callable[[Desk], None]:
    def change(desk: Desk) -> None:
        points = desk.authority.slots.arrays[WATER].setpoint.seen_at
        desk.values = {} if value is None else dict.fromkeys(points, value)

    return change


def asked_of_chillers(change: Callable[[Desk], None]) -> tuple[Desk, float, str]:
    """Return a desk at which the water setpoint was asked and is in force, its value and who shows it."""
    desk = Desk()
    row = desk.authority.slots.arrays[WATER].setpoint
    value = row.default + 1.0
    desk.authority.step({}, 100.0)
    desk.ask("set", WATER, value=value, slot=10, ttl_s=3600.0)
    desk.follow()
    desk.authority.step({}, 1000.0)
    desk.now = 1000.0
    change(desk)
    return desk, value, " and ".join(row.seen_at)


@pytest.mark.parametrize(("shown", "code"), [(None, "comms"), (0.0, "readback")])
def test_what_devices_do_not_show_in_time_fails_and_is_still_asked(shown: Value | None, code: str) -> None:
    desk, value, points = asked_of_chillers(shown_at(shown))
    assert desk.follow() == desk.follow(10.0) == []
    words = f"{points} did not show it within 10 s; it is still asked"
    assert desk.follow(0.1) == [told("failed", code, words, effective=value, until=3700.0)]
    assert desk.authority.slots.arrays[WATER].wanted == value
    assert desk.follow(0.1) == []


def test_each_device_must_show_it_within_the_tolerance() -> None:
    desk, value, _ = asked_of_chillers(shown_at(0.0))
    row = desk.authority.slots.arrays[WATER].setpoint
    assert len(row.seen_at) > 1
    for off, confirmed in ((row.tolerance * 1.01, False), (-row.tolerance * 1.01, False), (row.tolerance * 0.99, True)):
        desk.values = {**dict.fromkeys(row.seen_at, value), row.seen_at[-1]: value + off}
        assert [o.state for o in desk.follow(0.1)] == (["confirmed"] if confirmed else [])


def test_the_time_to_arrive_begins_anew_when_the_value_was_out_of_force() -> None:
    desk, value, _ = asked_of_chillers(shown_at(None))
    assert desk.follow() == []
    desk.ask("set", WATER, by=ANN, value=value - 1.0, slot=7, name="a")
    assert [o.id for o in desk.follow(9.0)] == ["a"]
    desk.ask("relinquish", WATER, by=ANN, slot=7, name="r")
    assert desk.follow(2.0) == []
    assert desk.follow(9.9) == []
    assert [o.state for o in desk.follow(0.2)] == ["failed"]
