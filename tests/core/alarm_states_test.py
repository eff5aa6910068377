"""The state table of ISA-18.2, one transition after the other; then limits, latches, chattering, floods, restarts."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from controller.core.alarm_watch import SHELVE_MAX_S
from controller.core.alarms import SHELVED_MAX, AlarmRow, Alarms, AlarmState
from tests.core.alarm_rig import ANN, A, B, C, D, E, F, G, Plant, row
from tests.core.model import quick_plan


def brought_to(state: AlarmState, **more: object) -> Plant:
    """Return a plant whose one alarm is in ``state``."""
    plant = Plant(row("wet", on_delay_s=2.0, unless=("bus.lost",), **more))
    plant.settle()
    if state is not A:
        plant.settle(io__wet=True)
    if state is C:
        assert plant.alarms.ack("wet", ANN, plant.now).ok
    if state is D:
        plant.settle(io__wet=False)
    if state is E:
        assert plant.alarms.shelve("wet", ANN, plant.now, reason="noise").ok
    if state is F:
        plant.settle(bus__lost=True)
    if state is G:
        assert plant.alarms.out_of_service("wet", ANN, plant.now, reason="order 7").ok
    plant.step()
    assert plant.state() is state
    return plant


Act = Callable[[Plant], object]
ACTS: dict[str, Act] = {
    "comes": lambda p: p.settle(io__wet=True),
    "goes": lambda p: p.settle(io__wet=False),
    "ack": lambda p: p.alarms.ack("wet", ANN, p.now),
    "shelve": lambda p: p.alarms.shelve("wet", ANN, p.now, reason="noise", duration_s=60.0),
    "unshelve": lambda p: p.alarms.unshelve("wet", ANN, p.now),
    "cause": lambda p: p.settle(bus__lost=True),
    "cause gone": lambda p: p.settle(bus__lost=False),
    "out": lambda p: p.alarms.out_of_service("wet", ANN, p.now, reason="order 7"),
    "back": lambda p: p.alarms.return_to_service("wet", ANN, p.now),
    "hour": lambda p: p.settle(3601.0),
    "reset": lambda p: p.alarms.reset(ANN, p.now),
}
TABLE = [
    (A, "comes", B), (B, "ack", C), (B, "goes", D), (C, "goes", A), (D, "ack", A), (D, "comes", B),
    *((state, "shelve", E) for state in (A, B, C, D)), *((state, "out", G) for state in (A, B, C, D, E, F)),
    *((state, "cause", F) for state in (B, C, D)), (A, "cause", A), (E, "cause", E), (G, "cause", G),
    (E, "unshelve", B), (E, "hour", B), (F, "cause gone", B), (G, "back", B), (F, "shelve", E),
    (E, "ack", E), (F, "ack", F), (G, "ack", G), (A, "ack", A), (C, "ack", C), (G, "hour", G), (G, "shelve", G),
    (E, "goes", E), (F, "goes", F), (G, "goes", G), (C, "hour", C), (D, "hour", D), (F, "hour", F),
    *((state, "reset", state) for state in AlarmState), (A, "unshelve", A), (B, "back", B),
]  # fmt: skip


@pytest.mark.parametrize(("before", "act", "after"), TABLE, ids=lambda x: x.letter if isinstance(x, AlarmState) else x)
def test_transition(before: AlarmState, act: str, after: AlarmState) -> None:
    plant = brought_to(before)
    plant.events.clear()
    ACTS[act](plant)
    plant.step()
    assert plant.state() is after
    moves = [event for event in plant.events if event.before is not event.alarm.state]
    assert bool(moves) == (before is not after)
    if act in ("ack", "shelve", "unshelve", "out", "back", "reset"):
        assert all((event.source, event.user) == ("operator", ANN) for event in plant.events)


@pytest.mark.parametrize(("hidden", "back"), [(E, "unshelve"), (F, "cause gone"), (G, "back")])
def test_what_went_while_hidden_comes_back_as_normal(hidden: AlarmState, back: str) -> None:
    plant = brought_to(hidden)
    plant.settle(io__wet=False)
    ACTS[back](plant)
    plant.step()
    assert plant.state() is A


def test_hidden_alarms_are_still_evaluated_and_logged() -> None:
    plant = brought_to(E)
    occurrence = (plant.alarm() or pytest.fail("gone")).occurrence
    plant.settle(io__wet=False)
    plant.settle(io__wet=True)
    assert [(e.what, e.alarm.state, e.source) for e in plant.events[-2:]] == [
        ("returned", E, "condition"),
        ("came", E, "condition"),
    ]
    alarm = plant.alarm()
    assert alarm
    assert (alarm.active, alarm.count, alarm.occurrence, alarm.annunciated) == (True, 2, occurrence, False)


def test_out_of_service_shows_before_shelved_and_shelving_ends_meanwhile() -> None:
    plant = brought_to(E)
    ACTS["out"](plant)
    plant.step()
    assert plant.state() is G
    plant.alarms.return_to_service("wet", ANN, plant.now)
    plant.step()
    assert (plant.state(), (plant.alarm() or pytest.fail("gone")).reason) == (E, "noise")
    ACTS["out"](plant)
    plant.settle(3601.0)
    assert plant.state() is G
    ACTS["back"](plant)
    assert plant.state() is B


def test_a_suppressed_alarm_has_its_delay_to_go_after_the_cause() -> None:
    plant = brought_to(F)
    plant.step(bus__lost=False)
    plant.step(1.9)
    assert plant.state() is F
    plant.step(0.1)
    assert plant.state() is B
    late = brought_to(F)
    late.step(bus__lost=False, io__wet=False)
    late.settle()
    assert late.state() is A


def test_what_comes_as_its_suppression_ends_names_no_cause() -> None:
    plant = brought_to(F)
    plant.settle(io__wet=False)
    plant.step(bus__lost=False, io__wet=True)
    plant.step(10.0)
    alarm = plant.alarm()
    assert alarm
    assert (alarm.state, alarm.reason, alarm.count) == (B, "", 2)


def test_a_restart_keeps_a_suppressed_alarm_quiet_until_its_cause_is_known() -> None:
    plant = brought_to(F)
    again = Alarms(plant.rows, 2)
    again.restore(plant.alarms.saved(0.0), plant.now, 0.0)
    plant.alarms = again
    del plant.values["bus.lost"]
    plant.settle(pod__booting=True)
    assert (plant.state(), (plant.alarm() or pytest.fail("gone")).reason) == (F, "bus.lost")
    plant.settle(pod__booting=False, bus__lost=False)
    assert plant.state() is B


def test_limits_of_shelving() -> None:
    plant = Plant(*(row(f"n{n}") for n in range(SHELVED_MAX + 1)), row("leak", safety=True))
    alarms, now = plant.alarms, plant.now

    def code(target: str, reason: str = "noise", duration_s: float = 0.0, *, local: bool = True) -> str:
        return alarms.shelve(target, ANN, now, reason=reason, duration_s=duration_s, local=local).code

    assert code("nobody") == "unknown_target"
    assert code("*") == "unknown_target"
    assert code("n0", " ") == "bad_request"
    assert code("n0", "x" * 201) == "bad_request"
    for bad in (-1.0, SHELVE_MAX_S + 0.1, float("nan"), float("inf")):
        assert code("n0", duration_s=bad) == "out_of_range"
    assert code("leak", local=False) == "forbidden"
    assert alarms.out_of_service("leak", "bms", now, reason="x").code == "forbidden"
    assert code("leak") == ""
    assert alarms.unshelve("leak", ANN, now).ok
    assert alarms.unshelve("leak", ANN, now).code == "not_in_mode"
    assert alarms.return_to_service("leak", ANN, now).code == "not_in_mode"
    assert alarms.shelve("n0", ANN, now, reason="noise").until == now + 3600.0
    assert [code(f"n{n}") for n in range(1, SHELVED_MAX)] == [""] * (SHELVED_MAX - 1)
    assert code(f"n{SHELVED_MAX}") == "busy"
    assert code("n0", duration_s=60.0) == "", "shelving again needs no further place"


def test_a_latched_alarm_waits_for_a_reset() -> None:
    plant = brought_to(C, latched=True)
    plant.settle(io__wet=False)
    alarm = plant.alarm()
    assert alarm
    assert (alarm.state, alarm.latched, alarm.active) == (C, True, False)
    plant.settle(io__wet=True)
    assert plant.state() is B, "it came again"
    plant.settle(io__wet=False)
    assert plant.state() is B
    plant.alarms.reset(ANN, plant.now)
    assert plant.state() is D, "gone and reset, but nobody has acknowledged"
    standing = brought_to(C, latched=True)
    standing.alarms.reset(ANN, standing.now)
    assert standing.state() is C, "its condition is there"
    shelved = brought_to(E, latched=True)
    shelved.settle(io__wet=False)
    shelved.alarms.reset(ANN, shelved.now)
    assert shelved.state() is E, "a reset resets what a person can see"
    seen_nowhere = brought_to(A, latched=True)
    seen_nowhere.alarms.shelve("wet", ANN, seen_nowhere.now, reason="noise", duration_s=60.0)
    seen_nowhere.settle(io__wet=True)
    seen_nowhere.settle(io__wet=False)
    seen_nowhere.settle(61.0)
    assert seen_nowhere.state() is B, "a leak that came and went on the shelf is told about"


def test_an_acknowledged_alarm_asks_again() -> None:
    plant = brought_to(C, realarm_s=600.0)
    plant.step(599.0)
    assert plant.state() is C
    (event,) = plant.step(1.0)
    assert (event.what, event.source, plant.state()) == ("realarmed", "timer", B)


def test_an_acknowledged_alarm_asks_again_beyond_its_second_limit() -> None:
    hot = AlarmRow("hot", "io.hot", "above", "Hot", "high", "c", "a", 2.0, 1.0, further=4.0)
    plant = Plant(hot)
    plant.settle(io__hot=3.0)
    plant.alarms.ack("hot", ANN, plant.now)
    plant.settle(io__hot=3.9)
    assert plant.state("hot") is C
    (event,) = plant.step(io__hot=4.5)
    assert (event.what, event.alarm.value, plant.state("hot")) == ("escalated", 4.5, B)
    plant.alarms.ack("hot", ANN, plant.now)
    plant.settle(io__hot=3.5)
    plant.settle(io__hot=4.5)
    assert plant.state("hot") is C, "within the hysteresis it never left"
    plant.settle(io__hot=2.5)
    plant.settle(io__hot=4.5)
    assert plant.state("hot") is B


def test_chattering_is_marked_held_and_ends() -> None:
    plant = Plant(row("wet"))
    for _ in range(3):
        plant.step(5.0, io__wet=True)
        plant.step(5.0, io__wet=False)
        plant.step(1.0)
    assert [event.what for event in plant.events].count("chattering") == 1
    assert plant.alarms.figures(plant.now)["alarms_chattering"] == 1.0
    alarm = plant.alarm()
    assert alarm
    assert alarm.chattering
    assert alarm.active, "held: 1 s gone is not enough any more"
    plant.step(3.0)
    assert plant.state() is D
    plant.step(590.0)
    assert (plant.alarm() or pytest.fail("gone")).chattering
    plant.step(20.0)
    assert plant.events[-1].what == "chattering_ended"
    assert not (plant.alarm() or pytest.fail("gone")).chattering
    plant.settle(io__wet=True)
    plant.step(0.0, io__wet=False)
    plant.step(1.0)
    assert plant.state() is D, "the off-delay is what it was"


def test_chattering_that_goes_on_is_held_for_ten_minutes_at_most() -> None:
    plant = Plant(row("wet"))
    held = 0.0
    for _ in range(40):
        plant.step(0.1, io__wet=True)
        gone_at = plant.now
        plant.step(0.1, io__wet=False)
        while (plant.alarm() or pytest.fail("gone")).active:
            plant.step(1.0)
        held = max(held, plant.now - gone_at)
    assert 16.0 <= held <= 601.0


def test_flood_starts_and_ends() -> None:
    plant = Plant(*(row(f"n{n}") for n in range(12)))
    for n in range(9):
        plant.step(1.0, **{f"io__n{n}": True})
    assert plant.alarms.figures(plant.now)["alarm_flood"] is False
    plant.step(1.0, io__n9=True)
    plant.step(1.0)
    figures = plant.alarms.figures(plant.now)
    assert (figures["alarm_flood"], figures["alarm_rate"], figures["alarms_standing"]) == (True, 10.0, 10.0)
    assert figures["alarm_high_share"] == 100.0
    plant.step(593.0)
    assert plant.alarms.figures(plant.now)["alarm_flood"] is True, "five of them are younger than ten minutes"
    plant.step(3.0)
    figures = plant.alarms.figures(plant.now)
    assert figures["alarm_flood"] is False
    assert 90.0 < figures["alarm_flood_share"] <= 100.0


def test_stale_alarms_are_counted() -> None:
    plant = brought_to(C)
    plant.step(24 * 3600.0)
    plant.step(2.0)
    assert plant.alarms.figures(plant.now)["alarms_stale"] == 1.0


def test_first_out_and_its_consequences() -> None:
    pump, flow, hot, other = (row(name, group="cooling", on_delay_s=delay) for name, delay in
                              (("pump", 0.0), ("flow", 5.0), ("hot", 60.0), ("other", 0.0)))  # fmt: skip
    plant = Plant(pump, flow, hot, other, row("door"))
    plant.step(io__pump=True)
    plant.step(1.0, io__flow=True)
    plant.step(5.0)
    plant.step(3.0, io__hot=True)
    plant.step(60.0)
    told = {alarm.row.id: (alarm.first_out, alarm.cause) for alarm in plant.alarms.standing}
    assert told == {"pump": (True, ""), "flow": (False, "pump"), "hot": (False, "pump")}
    plant.step(5.1, io__other=True, io__door=True)
    told = {alarm.row.id: (alarm.first_out, alarm.cause) for alarm in plant.alarms.standing}
    assert told["other"] == (True, ""), "an incident of its own"
    assert told["door"] == (False, ""), "no group"
    same = Plant(pump, other)
    same.step(io__other=True, io__pump=True)
    assert (same.alarm("other") or pytest.fail("gone")).cause == "pump", "in one scan the order of the rows counts"


def test_every_row_says_what_it_means_and_what_to_do() -> None:
    from controller.core.pod import alarm_rows, pod_points

    pod = quick_plan().pod
    rows = alarm_rows(pod)
    known = {**pod.points, **pod_points(pod)}
    assert len({r.id for r in rows}) == len(rows)
    for r in rows:
        assert len(r.consequence) > 10, r.id
        assert len(r.action) > 10, r.id
        assert r.point in known, r.id
        assert not (r.safety and r.unless), f"{r.id}: a leak or safety alarm may not be suppressed"
        watched = r.point in (pod.protection.epo, *pod.protection.watched, *pod.protection.cdu_leak)
        assert r.safety or not (watched or ("leak" in r.id and r.priority == "critical")), r.id


def test_a_store_that_makes_no_sense_costs_an_acknowledgement_and_not_the_start() -> None:
    plant = brought_to(C)
    saved = json.loads(json.dumps(plant.alarms.saved(0.0)))
    for broken in ({}, None, {"state": "BOILED"}, {**saved["standing"]["wet"], "times": None}, 7):
        again = Alarms(plant.rows, 2)
        again.restore({**saved, "standing": {"wet": broken, "gone": broken}}, 0.0, 0.0)
        assert again.standing == []


def test_without_a_clock_nothing_stays_shelved() -> None:
    plant = brought_to(E)
    for offset_s in (None, 0.0):
        again = Alarms(plant.rows, 2)
        again.restore(plant.alarms.saved(None), plant.now, offset_s)
        plant.alarms = again
        plant.step()
        assert plant.state() is B


def test_restart_while_the_controller_boots_loses_no_acknowledgement() -> None:
    lost = AlarmRow("lost", "io.lost", "unusable", "Lost", "high", "c", "a")
    low = AlarmRow("low", "io.low", "below", "Low", "high", "c", "a", limit=5.0)
    plant = Plant(lost, low)
    plant.values = {"io.low": 1.0}
    plant.settle()
    plant.alarms.ack("*", ANN, plant.now)
    again = Alarms(plant.rows, 2)
    again.restore(plant.alarms.saved(0.0), plant.now, 0.0)
    plant.alarms = again
    plant.values = {"pod.booting": True}
    plant.settle()
    assert (plant.state("lost"), plant.state("low")) == (C, C)
    plant.values = {"pod.booting": False, "io.low": 1.0, "io.lost": 3.0}
    plant.settle()
    assert (plant.state("lost"), plant.state("low")) == (A, C)


def test_an_occurrence_number_is_never_used_twice() -> None:
    plant = brought_to(A)
    saved = plant.alarms.saved()
    plant.settle(io__wet=True)
    first = plant.alarm()
    again = Alarms(plant.rows, 1)
    again.restore(saved, plant.now)
    plant.alarms = again
    plant.settle()
    second = plant.alarm()
    assert first
    assert second
    assert first.occurrence != second.occurrence


def test_nothing_is_saved_anew_while_nothing_changes() -> None:
    plant = brought_to(E)
    before = plant.alarms.saved(5000.0)
    plant.step(0.2)
    assert plant.alarms.saved(5000.0000123) == before
