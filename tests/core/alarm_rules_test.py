"""One alarm by itself: when its condition holds, what it remembers, what of it is saved and taken up."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any, get_args

import pytest

from controller.core import alarm_states as module
from controller.core.alarm_states import HIDDEN, NEVER, Alarm, AlarmEvent, AlarmRow, Answer, Test, holds
from controller.core.alarm_watch import SHELVE_MAX_S, Aside, Watch, restore_watch, saved_watch
from controller.core.points import Quality, Reading, Value, bad, good
from tests.core.alarm_rig import ANN, A, B, C, D, E, F, G

LOST = bad("sensor failed", 0.0)
OFFSET_S = 1000.0  # wall clock over monotonic


def row(test: Test, limit: Value = 0.0, **more: Any) -> AlarmRow:
    return AlarmRow("x", "io.x", test, "X", "high", "c", "a", limit, **more)


def alarm(**more: Any) -> Alarm:
    made = Alarm(row("on"), B, True, 5.0, occurrence=7, boot=3)
    return dataclasses.replace(made, **more)


def watch(of: Alarm | None = None, **more: Any) -> Watch:
    return Watch(row("on", **more), 4, of)


def test_names_and_numbers_that_leave_the_controller() -> None:
    assert [(state.name, state.value, state.letter) for state in module.AlarmState] == [
        ("NORMAL", 1, "A"), ("UNACK", 2, "B"), ("ACKED", 3, "C"), ("RTN_UNACK", 4, "D"), ("SHELVED", 5, "E"),
        ("SUPPRESSED", 6, "F"), ("OUT_OF_SERVICE", 7, "G"),
    ]  # fmt: skip
    assert (HIDDEN, module.UNACKNOWLEDGED) == ((E, F, G), (B, D))
    assert get_args(module.Test) == ("above", "below", "on", "off", "differs", "unusable")
    assert get_args(module.What) == (
        "came", "returned", "acknowledged", "reset", "shelved", "unshelved", "shelf_expired", "suppressed",
        "unsuppressed", "out_of_service", "returned_to_service", "realarmed", "escalated", "chattering",
        "chattering_ended",
    )  # fmt: skip
    assert get_args(module.Source) == ("condition", "operator", "timer", "rule")
    assert get_args(module.Code) == (
        "", "unknown_target", "forbidden", "bad_request", "out_of_range", "not_in_mode", "busy",
    )  # fmt: skip
    assert -math.inf == NEVER


def test_nothing_is_asked_of_an_alarm_that_its_row_does_not_say() -> None:
    plain = AlarmRow("x", "io.x", "on", "X", "high", "c", "a")
    assert dataclasses.astuple(plain)[7:] == (0.0, 0.0, 0.0, 1.0, (), False, False, 0.0, None, "")
    fresh = Alarm(plain, B, None, 0.0)
    assert dataclasses.astuple(fresh)[4:] == (None, None, "", 1, 0, 0, None, "", "", "", False, False)
    for each in (plain, fresh):
        assert not hasattr(each, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(each, dataclasses.fields(each)[0].name, 1)
    assert Answer() == ("", "", None)
    assert Answer().ok
    assert not Answer("busy").ok
    assert AlarmEvent(1.0, "came", fresh, A, "condition")[5:] == ("", "")


@pytest.mark.parametrize(
    ("test", "limit", "value", "active", "held"),
    [
        ("above", 5.0, 5.0, False, False), ("above", 5.0, 5.1, False, True), ("above", 5.0, 4.0, True, False),
        ("above", 5.0, 4.1, True, True), ("below", 5.0, 5.0, False, False), ("below", 5.0, 4.9, False, True),
        ("below", 5.0, 6.0, True, False), ("below", 5.0, 5.9, True, True), ("above", 0.0, True, False, True),
        ("on", 0.0, True, False, True), ("on", 0.0, False, True, False), ("on", 0.0, 2, False, True),
        ("off", 0.0, True, True, False), ("off", 0.0, False, False, True), ("off", 0.0, 0, False, True),
        ("unusable", 0.0, -1.0, True, False), ("differs", 4, 4, False, False), ("differs", 4, 5, False, True),
        ("differs", True, True, False, False), ("differs", True, False, False, True),
        ("differs", "a", "a", True, False), ("differs", "a", "b", False, True),
        ("differs", 1.0, "a", False, True), ("differs", 1.0, True, False, False),
        ("differs", 0.0, 0.0005, False, False), ("differs", 0.0, 0.001, False, False),
        ("differs", 0.0, 0.0011, False, True), ("differs", 0.0, -0.0011, False, True),
        ("differs", 100.0, 100.09, False, False), ("differs", 100.0, 100.11, False, True),
        ("differs", -100.0, -100.09, False, False), ("differs", 0.5, 0.5009, False, False),
    ],
)  # fmt: skip
def test_a_condition_holds(test: Test, limit: Value, value: Value, active: bool, held: bool) -> None:
    assert holds(row(test, limit, hysteresis=1.0), good(value, 0.0), active) is held
    assert holds(row(test, limit, hysteresis=1.0), good(value, 0.0), active, booting=True) is held


@pytest.mark.parametrize("reading", [LOST, Reading(9.0, Quality.STALE, 0.0), Reading(None, Quality.GOOD, 0.0)])
@pytest.mark.parametrize("test", get_args(module.Test))
def test_what_can_not_be_trusted(test: Test, reading: Reading) -> None:
    stays = test in ("on", "off", "differs", "unusable")
    assert holds(row(test), reading, True) is stays
    assert holds(row(test), reading, False) is (test == "unusable")
    assert holds(row(test), reading, True, booting=True) is True
    assert holds(row(test), reading, False, booting=True) is False


def test_active_latched_and_annunciated() -> None:
    assert alarm().active
    assert not alarm(returned_at=6.0).active
    assert not alarm(active_at=NEVER).active
    latching = row("on", latched=True)
    waiting = {
        state.letter: alarm(row=latching, state=state, returned_at=6.0).latched for state in module.AlarmState
    }  # fmt: skip
    assert waiting == {"A": True, "B": True, "C": True, "D": False, "E": True, "F": True, "G": True}
    assert not alarm(row=latching).latched, "its condition is there"
    assert not alarm(returned_at=6.0).latched, "its row does not latch"
    assert [state for state in module.AlarmState if alarm(state=state).annunciated] == [B, D]


# ---------------------------------------------------------------- what one alarm remembers


def test_a_watch_begins_at_rest_with_the_delays_of_its_row() -> None:
    fresh = watch(on_delay_s=2.0, off_delay_s=3.0)
    assert (fresh.place, fresh.alarm, fresh.seen, fresh.beyond, fresh.shelf, fresh.service, fresh.entry) == (
        4, None, None, False, None, None, None,
    )  # fmt: skip
    assert (fresh.delay.on_s, fresh.delay.off_s, fresh.rule.on_s, fresh.rule.off_s) == (2.0, 3.0, 0.0, 2.0)
    assert (fresh.chatter.off_delay_s, fresh.further, fresh.restless) == (3.0, None, False)
    assert not hasattr(fresh, "__dict__")
    assert watch(further=0.0).further == dataclasses.replace(row("on"), further=0.0, limit=0.0)
    assert watch(limit=2.0, further=9.0).further == row("on", 9.0, further=9.0)


def test_of_several_reasons_to_hide_the_one_hardest_to_leave() -> None:
    hidden = watch(alarm())
    assert hidden.hiding(alarm()) is None
    hidden.rule.state = True
    assert hidden.hiding(alarm()) is F
    assert hidden.hiding(alarm(occurrence=0)) is None, "a rule suppresses only what came"
    assert hidden.hiding(None) is None
    hidden.shelf = Aside(ANN, "noise", 9.0)
    assert hidden.hiding(None) is E
    hidden.service = Aside(ANN, "order 7", math.inf)
    assert hidden.hiding(alarm()) is G


@pytest.mark.parametrize(
    ("state", "acked_at", "realarm_s", "asks", "restless"),
    [(C, 5.0, 10.0, True, True), (C, 5.1, 10.0, False, True), (C, None, 10.0, False, True),
     (B, 5.0, 10.0, False, False), (C, 5.0, 0.0, False, False), (C, 5.0, 0.5, True, True)],
)  # fmt: skip
def test_an_acknowledgement_grows_old(
    state: module.AlarmState, acked_at: float | None, realarm_s: float, asks: bool, restless: bool
) -> None:
    acked = watch(alarm(state=state, acked_at=acked_at), realarm_s=realarm_s)
    assert (acked.asks_again(15.0), acked.restless) == (asks, restless)
    assert not watch(None, realarm_s=1.0).asks_again(15.0)
    assert not watch(None, realarm_s=1.0).restless


def test_what_has_a_timer_is_restless() -> None:
    for change in (
        lambda w: w.delay.step(True, 0.0), lambda w: setattr(w, "shelf", Aside(ANN, "noise", 9.0)),
        lambda w: setattr(w.chatter, "flagged", True), lambda w: setattr(w.rule, "since", 1.0),
    ):  # fmt: skip
        timed = watch(alarm(), on_delay_s=1.0)
        assert not timed.restless
        change(timed)
        assert timed.restless


# ---------------------------------------------------------------- saved and taken up

ACKED = {
    "state": "ACKED", "value": True, "active": True, "times": [1005.0, None, 1008.0], "acked_by": ANN, "count": 2,
    "occurrence": [3, 7], "first": ["pump", False], "reason": "", "shelf": None, "service": None,
}  # fmt: skip


def acked() -> Alarm:
    return alarm(state=C, acked_at=8.0, acked_by=ANN, count=2, cause="pump")


def test_an_alarm_is_saved_by_the_wall_clock() -> None:
    assert saved_watch(watch(acked()), OFFSET_S) == ACKED
    assert saved_watch(watch(acked()), None)["times"] == [None, None, None]
    gone = saved_watch(watch(alarm(returned_at=6.00049, active_at=NEVER, value=math.inf, first_out=True)), 0.0)
    assert (gone["times"], gone["value"], gone["active"], gone["first"]) == ([None, 6.0, None], None, False, ["", True])
    assert saved_watch(watch(alarm(value=2.5)), 0.0)["value"] == 2.5
    assert saved_watch(watch(alarm(value="text")), 0.0)["value"] == "text"
    assert saved_watch(watch(alarm(returned_at=6.0006)), 0.0)["times"][1] == 6.001


def test_what_is_aside_is_saved_with_it() -> None:
    hidden = watch(alarm(state=G, reason="order 7"))
    hidden.shelf, hidden.service = Aside(ANN, "noise", 20.0), Aside("console:bob", "order 7", math.inf)
    saved = saved_watch(hidden, OFFSET_S)
    assert (saved["shelf"], saved["service"]) == ([ANN, "noise", 1020.0], ["console:bob", "order 7"])
    assert (saved["state"], saved["reason"]) == ("OUT_OF_SERVICE", "order 7")
    assert saved_watch(hidden, None)["shelf"] == [ANN, "noise", None]


def taken_up(now: float = 10.0, offset_s: float | None = OFFSET_S, **changed: Any) -> Watch:
    fresh = watch()
    restore_watch(fresh, json.loads(json.dumps(ACKED | changed)), now, offset_s)
    return fresh


def test_an_alarm_is_taken_up_as_it_was_saved() -> None:
    again = taken_up()
    assert again.alarm == acked()
    assert (again.delay.state, again.rule.state, again.shelf, again.service) == (True, False, None, None)
    assert taken_up(now=500.0, offset_s=505.0).alarm == dataclasses.replace(acked(), active_at=500.0, acked_at=500.0), (
        "nothing came in the future"
    )
    assert (taken_up(offset_s=None).alarm or pytest.fail("gone")).active_at == 10.0


def test_one_that_has_gone_is_taken_up_as_gone() -> None:
    again = taken_up(state="RTN_UNACK", active=False, times=[1005.0, 1006.5, None], acked_by="", first=["", True])
    assert again.alarm == alarm(state=D, returned_at=6.5, count=2, first_out=True)
    assert not again.delay.state
    suppressed = taken_up(state="SUPPRESSED", reason="bus.lost")
    assert (suppressed.rule.state, (suppressed.alarm or pytest.fail("gone")).reason) == (True, "bus.lost")
    assert (suppressed.alarm or pytest.fail("gone")).acked_at is None


def test_one_that_was_put_aside_before_it_ever_came() -> None:
    again = taken_up(
        state="SHELVED", active=False, value=None, times=[None, None, None], acked_by="", count=0, occurrence=[0, 0],
        first=["", False], reason="noise", shelf=[ANN, "noise", 1030.0],
    )  # fmt: skip
    assert again.alarm == Alarm(
        row("on"), E, None, NEVER, count=0, until=30.0, by=ANN, reason="noise", returned_at=None
    )  # fmt: skip
    assert again.shelf == Aside(ANN, "noise", 30.0)


@pytest.mark.parametrize(
    ("until", "offset_s", "ends"),
    [(1030.0, OFFSET_S, 30.0), (1010.0, OFFSET_S, 10.0), (900.0, OFFSET_S, 10.0), (None, OFFSET_S, 10.0),
     (1030.0, None, 10.0), (1e9, OFFSET_S, 10.0 + SHELVE_MAX_S)],
)  # fmt: skip
def test_shelving_ends_by_the_wall_clock_or_at_once(until: float | None, offset_s: float | None, ends: float) -> None:
    again = taken_up(offset_s=offset_s, state="SHELVED", shelf=[ANN, "noise", until])
    assert again.shelf == Aside(ANN, "noise", ends)
    assert (again.alarm or pytest.fail("gone")).until == ends


def test_out_of_service_shows_before_the_shelf_and_has_no_end() -> None:
    again = taken_up(state="OUT_OF_SERVICE", shelf=[ANN, "noise", 1030.0], service=["console:bob", "order 7"])
    assert again.service == Aside("console:bob", "order 7", math.inf)
    shown = again.alarm or pytest.fail("gone")
    assert (shown.by, shown.reason, shown.until) == ("console:bob", "order 7", None)


def test_what_a_store_holds_as_numbers_is_text_again() -> None:
    again = taken_up(
        acked_by=7, count="2", occurrence=["3", "7"], first=[1, 1], reason=5, shelf=[1, 2, 1030.0], service=[3, 4],
        active=1,
    )  # fmt: skip
    shown = again.alarm or pytest.fail("gone")
    assert (again.shelf, again.service) == (Aside("1", "2", 30.0), Aside("3", "4", math.inf))
    assert (shown.acked_by, shown.count, shown.boot, shown.occurrence) == ("7", 2, 3, 7)
    assert (shown.cause, shown.first_out, shown.reason, again.delay.state) == ("1", True, "4", True)
    assert (taken_up(reason=5).alarm or pytest.fail("gone")).reason == "5"


@pytest.mark.parametrize("missing", ACKED)
def test_an_entry_that_lacks_anything_is_refused(missing: str) -> None:
    with pytest.raises(KeyError):
        restore_watch(watch(), {name: value for name, value in ACKED.items() if name != missing}, 0.0, 0.0)


def test_the_longest_shelving_is_a_shift() -> None:
    assert SHELVE_MAX_S == 28_800.0
