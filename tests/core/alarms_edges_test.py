"""The alarm model's every event to the letter: what, why, who, since when, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from controller.core import alarms as module
from controller.core.alarm_states import NEVER, Alarm, AlarmEvent, AlarmRow
from controller.core.alarms import Alarms, Answer
from controller.core.image import Image
from controller.core.points import Value, bad, good
from tests.core.alarm_rig import ANN, A, B, C, D, E, F, G, Plant, row

QUICK = {"off_delay_s": 0.0}


def plant(*more: AlarmRow, **settings: Any) -> Plant:
    """Return a plant whose one alarm comes and goes with its flag, at once."""
    made = Plant(row("wet", **{**QUICK, **settings}), *more)
    made.step()
    return made


def shown(of: Plant, name: str = "wet") -> Alarm:
    found = of.alarm(name)
    assert found is not None
    return found


def brief(events: list[AlarmEvent]) -> list[tuple[object, ...]]:
    return [(e.alarm.row.id, e.what, e.before, e.alarm.state, e.source, e.user, e.comment) for e in events]


def test_the_limits_that_docs_tell() -> None:
    assert (module.SHELVE_DEFAULT_S, module.SHELVED_MAX, module.REASON_MAX) == (3600.0, 20, 200)
    assert (module.OCCURRENCES_RESERVED, module.FIGURES_S, module.BOOTING) == (100, 1.0, "pod.booting")
    assert module.__all__ == ["Alarm", "AlarmEvent", "AlarmRow", "AlarmState", "Alarms", "Answer", "Priority"]


def test_one_whole_life() -> None:
    life = plant()
    (came,) = life.step(1.0, io__wet=True)
    assert came == AlarmEvent(
        1001.0, "came", Alarm(life.rows[0], B, True, 1001.0, occurrence=1, boot=1), A, "condition", "", ""
    )
    assert life.alarms.standing == [came.alarm]
    assert life.alarms.ack("wet", ANN, 1002.0, "seen") == Answer("", "1 acknowledged")
    (acked,) = life.step(1.0)
    assert acked == AlarmEvent(
        1002.0, "acknowledged", dataclasses.replace(came.alarm, state=C, acked_at=1002.0, acked_by=ANN), B, "operator",
        ANN, "seen",
    )  # fmt: skip
    (gone,) = life.step(1.0, io__wet=False)
    assert gone == AlarmEvent(
        1003.0, "returned", dataclasses.replace(acked.alarm, state=A, returned_at=1003.0), C, "condition", "", ""
    )
    assert life.alarms.standing == []
    (again,) = life.step(1.0, io__wet=True)
    assert again.alarm == Alarm(life.rows[0], B, True, 1004.0, occurrence=2, boot=1), "a new occurrence"


def test_what_comes_again_before_it_was_acknowledged_is_the_same_occurrence() -> None:
    life = plant()
    life.step(1.0, io__wet=True)
    life.step(1.0, io__wet=False)
    assert (life.state(), shown(life).returned_at) == (D, 1002.0)
    (again,) = life.step(1.0, io__wet=True)
    assert again.alarm == Alarm(life.rows[0], B, True, 1003.0, count=2, occurrence=1, boot=1)
    life.step(1.0, io__wet=False)
    assert life.alarms.ack("wet", ANN, life.now).message == "1 acknowledged"
    (event,) = life.step()
    assert (event.before, event.alarm.state, event.alarm.acked_by) == (D, A, ANN)


def test_of_rows_with_one_name_the_last_counts() -> None:
    twice = Alarms([row("wet"), row("wet", safety=True)])
    assert [found.safety for found in twice.rows()] == [True]
    assert twice.ids == {"wet"}
    (event,) = twice.step(Image({"io.wet": good(True, 0.0)}, 0.0), 0.0)
    assert event.alarm.boot == 0, "a controller that does not count its starts"


def test_acknowledging_says_how_many_and_tells_one_from_all() -> None:
    life = plant(row("door"), row("gate"))
    life.step(1.0, io__wet=True, io__door=True)
    assert life.alarms.ack("gone", ANN, life.now) == Answer("unknown_target", "no such alarm: gone")
    assert life.alarms.ack("gate", ANN, life.now) == Answer("", "there was nothing to acknowledge")
    assert life.alarms.ack("door", ANN, life.now).message == "1 acknowledged"
    assert (life.state("wet"), life.state("door")) == (B, C)
    life.step(1.0, io__gate=True)
    assert life.alarms.ack("*", ANN, life.now).message == "2 acknowledged"
    assert life.alarms.ack("*", ANN, life.now).message == "there was nothing to acknowledge"


@pytest.mark.parametrize(
    ("operation", "events"),
    [("ack", ["acknowledged"]), ("shelve", ["shelved"]), ("out_of_service", ["out_of_service"]), ("reset", []),
     ("start", [])],
)  # fmt: skip
def test_operations_by_their_names(operation: str, events: list[str]) -> None:
    life = plant()
    life.step(1.0, io__wet=True)
    answer = life.alarms.operate(operation, "wet", ANN, life.now, reason="noise", duration_s=60.0)
    told = life.step()
    assert [event.what for event in told] == events
    assert answer.ok
    assert all((event.user, event.comment) == (ANN, "noise") for event in told)
    assert answer.until == (life.now + 60.0 if operation == "shelve" else None)
    assert answer.message == {"ack": "1 acknowledged", "reset": "0 reset"}.get(operation, "")


def test_an_operation_lasts_as_long_as_needs_no_question_and_needs_a_reason() -> None:
    life = plant()
    assert life.alarms.operate("shelve", "wet", ANN, life.now).code == "bad_request"
    assert life.alarms.operate("shelve", "wet", ANN, life.now, reason="r").until == life.now + 3600.0
    assert life.alarms.shelve("wet", ANN, life.now, reason="r", duration_s=0.5).until == life.now + 0.5
    leak = plant(safety=True).alarms
    assert leak.shelve("wet", ANN, 1.0, reason="r").code == "forbidden", "nobody is at the pod who does not say so"
    assert leak.out_of_service("wet", ANN, 1.0, reason="r").code == "forbidden"


def test_operations_by_their_names_bring_back_too_and_know_who_is_at_the_pod() -> None:
    life = plant(safety=True)
    for aside, back in (("shelve", "unshelve"), ("out_of_service", "return_to_service")):
        told = life.alarms.operate(aside, "wet", "bms", life.now, reason="x")
        assert told.code == "forbidden"
        assert told.message == "wet is a leak or safety alarm: it can be put aside at the pod only"
        assert life.alarms.operate(aside, "wet", ANN, life.now, reason="x", local=True).ok
        assert life.alarms.operate(back, "wet", ANN, life.now) == Answer()
    assert [event.what for event in life.step()] == [
        "shelved", "unshelved", "out_of_service", "returned_to_service",
    ]  # fmt: skip


def test_a_reset_tells_how_many_and_who() -> None:
    life = plant(row("door", latched=True, **QUICK), row("gate", latched=True, **QUICK), latched=True)
    life.step(1.0, io__wet=True, io__door=True, io__gate=True)
    life.alarms.ack("wet", ANN, life.now)
    life.step(1.0, io__wet=False, io__door=False)
    assert (life.state(), life.state("door"), life.state("gate")) == (C, B, B)
    assert life.alarms.reset(ANN, life.now) == Answer("", "2 reset")
    assert brief(life.step()) == [
        ("wet", "reset", C, A, "operator", ANN, ""), ("door", "reset", B, D, "operator", ANN, ""),
    ]  # fmt: skip
    assert life.state("gate") is B, "its condition is there"


def test_refusals_of_who_puts_aside_say_why() -> None:
    life = plant()
    alarms, now = life.alarms, life.now
    unknown = Answer("unknown_target", "no such alarm: x")
    assert alarms.shelve("x", ANN, now, reason="r") == alarms.out_of_service("x", ANN, now, reason="r") == unknown
    assert alarms.unshelve("x", ANN, now) == alarms.return_to_service("x", ANN, now) == unknown
    needed = Answer("bad_request", "a reason is needed, of at most 200 characters")
    assert alarms.shelve("wet", ANN, now, reason=" ") == needed
    assert alarms.out_of_service("wet", ANN, now, reason="x" * 201) == needed
    assert alarms.out_of_service("wet", ANN, now, reason="") == needed
    longest = Answer("out_of_range", "an alarm may be shelved for at most 28800 s")
    assert alarms.shelve("wet", ANN, now, reason="r", duration_s=28_800.1) == longest
    assert alarms.shelve("wet", ANN, now, reason="r", duration_s=-0.1) == longest
    assert alarms.unshelve("wet", ANN, now) == Answer("not_in_mode", "wet is not shelved")
    assert alarms.return_to_service("wet", ANN, now) == Answer("not_in_mode", "wet is not out of service")
    assert life.step() == []
    assert alarms.shelve("wet", ANN, now, reason="x" * 200, duration_s=28_800.0) == Answer("", "", now + 28_800.0)
    assert alarms.out_of_service("wet", ANN, now, reason="order") == Answer()
    assert alarms.shelve("wet", ANN, now, reason="r") == Answer("not_in_mode", "wet is out of service")
    assert alarms.unshelve("wet", ANN, now) == Answer(), "the shelf is under the work"
    assert life.state() is G


def test_twenty_may_be_shelved_and_the_next_is_told_so() -> None:
    life = Plant(*(row(f"n{n}") for n in range(21)))
    for n in range(20):
        assert life.alarms.shelve(f"n{n}", ANN, life.now, reason="r").ok
    busy = life.alarms.shelve("n20", ANN, life.now, reason="r")
    assert busy == Answer("busy", "20 alarms are shelved already, and that is the most")
    assert life.alarms.shelve("n19", ANN, life.now, reason="again").ok


def test_who_shelved_what_until_when_and_how_it_ended() -> None:
    life = plant()
    life.step(1.0, io__wet=True)
    life.alarms.ack("wet", ANN, life.now)
    life.alarms.shelve("wet", ANN, life.now, reason="noise", duration_s=60.0)
    assert brief(life.step())[1:] == [("wet", "shelved", C, E, "operator", ANN, "noise")]
    alarm = shown(life)
    assert (alarm.by, alarm.reason, alarm.until, alarm.acked_at, alarm.acked_by) == (ANN, "noise", 1061.0, None, "")
    assert life.step(59.9) == []
    assert brief(life.step(0.1)) == [("wet", "shelf_expired", E, B, "timer", "", "")]
    alarm = shown(life)
    assert (alarm.by, alarm.reason, alarm.until) == ("", "", None)
    life.alarms.shelve("wet", ANN, life.now, reason="noise")
    life.step()
    life.alarms.unshelve("wet", "console:bob", life.now)
    assert brief(life.step()) == [("wet", "unshelved", E, B, "operator", "console:bob", "")]


def test_a_shelf_that_ends_over_nothing_leaves_nothing() -> None:
    life = plant()
    life.alarms.shelve("wet", ANN, life.now, reason="noise", duration_s=60.0)
    (event,) = life.step()
    assert event.alarm == Alarm(
        life.rows[0], E, None, NEVER, count=0, until=life.now + 60.0, by=ANN, reason="noise"
    )  # fmt: skip
    assert brief(life.step(60.0)) == [("wet", "shelf_expired", E, A, "timer", "", "")]
    assert life.alarms.standing == []


def test_what_comes_on_the_shelf_for_the_first_time_is_an_occurrence() -> None:
    life = plant(row("door"), group="leak")
    life.alarms.shelve("wet", ANN, life.now, reason="noise", duration_s=60.0)
    life.step()
    (came,) = life.step(1.0, io__wet=True)
    assert came.alarm == Alarm(
        life.rows[0], E, True, 1001.0, occurrence=1, boot=1, until=1060.0, by=ANN, reason="noise"
    )  # fmt: skip
    assert life.alarms.figures(life.now)["alarm_rate"] == 0.0, "it asked for nobody"
    assert brief(life.step(59.0)) == [("wet", "shelf_expired", E, B, "timer", "", "")]
    assert shown(life).first_out
    assert life.alarms.figures(life.now)["alarm_rate"] == 1.0


def test_work_on_an_alarm_has_no_end_of_its_own() -> None:
    life = plant()
    life.step(1.0, io__wet=True)
    life.alarms.out_of_service("wet", ANN, life.now, reason="order 7")
    assert brief(life.step()) == [("wet", "out_of_service", B, G, "operator", ANN, "order 7")]
    assert (shown(life).until, shown(life).reason) == (None, "order 7")
    assert life.step(1e6) == []
    life.alarms.return_to_service("wet", ANN, life.now)
    assert brief(life.step()) == [("wet", "returned_to_service", G, B, "operator", ANN, "")]
    assert life.alarms.saved(0.0)["standing"]["wet"]["service"] is None


def test_a_rule_names_the_points_that_suppress() -> None:
    life = plant(unless=("bus.lost", "bus.slow", "bus.off"))
    life.step(1.0, io__wet=True)
    assert brief(life.step(0.0, bus__slow=True, bus__lost=True)) == [
        ("wet", "suppressed", B, F, "rule", "", "bus.lost, bus.slow")
    ]
    assert (shown(life).by, shown(life).reason, shown(life).until) == ("", "bus.lost, bus.slow", None)
    assert (life.alarms.standing, [alarm.state for alarm in life.alarms.suppressed]) == ([], [F])
    assert life.step(0.0, bus__slow=False) == []
    assert brief(life.step(0.0, bus__lost=False)) == [("wet", "unsuppressed", F, B, "rule", "", "")]
    assert shown(life).reason == ""
    life.step(0.0, bus__lost=True)
    life.step(1.0, io__wet=False)
    assert brief(life.step(0.0, bus__lost=False)) == [("wet", "unsuppressed", F, A, "rule", "", "")]


def test_what_comes_while_its_cause_is_there_is_told_once_and_as_suppressed() -> None:
    life = plant(unless=("bus.lost",))
    life.step(0.0, bus__lost=True)
    assert brief(life.step(1.0, io__wet=True)) == [("wet", "came", A, F, "condition", "", "")]
    assert shown(life).reason == "bus.lost"


def test_a_cause_counts_only_while_it_is_known() -> None:
    life = plant(unless=("bus.lost",))
    for reading in (bad("spoilt", 0.0), good(False, 0.0)):
        image = Image({"io.wet": good(True, 0.0), "bus.lost": reading}, 1001.0)
        life.alarms.step(image, 1001.0)
        assert life.state() is B


def test_while_the_controller_boots_only_what_was_suppressed_stays_so() -> None:
    life = plant(unless=("bus.lost",))
    life.step(0.0, pod__booting=True)
    life.step(1.0, io__wet=True)
    assert life.state() is B, "booting is no cause by itself"
    life.step(0.0, bus__lost=True)
    life.step(1.0, bus__lost=False)
    assert life.state() is F
    life.step(0.0, pod__booting=False)
    assert life.state() is B


def test_asking_again_takes_the_acknowledgement_back() -> None:
    life = plant(realarm_s=600.0)
    life.step(1.0, io__wet=True)
    life.alarms.ack("wet", ANN, life.now)
    life.step()
    assert life.step(599.9) == []
    assert brief(life.step(0.1)) == [("wet", "realarmed", C, B, "timer", "", "")]
    assert (shown(life).acked_at, shown(life).acked_by) == (None, "")
    latched = plant(realarm_s=600.0, latched=True)
    latched.step(1.0, io__wet=True)
    latched.alarms.ack("wet", ANN, latched.now)
    latched.step(1.0, io__wet=False)
    latched.step(700.0)
    assert latched.state() is C, "what has gone does not ask again"


def test_a_second_limit_asks_again_only_of_who_acknowledged_and_only_once() -> None:
    hot = dataclasses.replace(row("hot"), test="above", limit=2.0, hysteresis=1.0, further=4.0, off_delay_s=0.0)
    life = Plant(hot)
    life.values = {"io.hot": 0.0}
    life.step()
    life.step(1.0, io__hot=5.0)
    life.alarms.ack("hot", ANN, life.now)
    life.step()
    assert life.step(1.0, io__hot=6.0) == [], "it was beyond already when it was acknowledged"
    life.step(1.0, io__hot=3.0)
    assert brief(life.step(1.0, io__hot=4.1)) == [("hot", "escalated", C, B, "condition", "", "")]
    assert (shown(life, "hot").value, shown(life, "hot").acked_by) == (4.1, "")
    assert life.step(1.0, io__hot=3.0) == life.step(1.0, io__hot=4.5) == [], "nobody has acknowledged it since"
    life.alarms.ack("hot", ANN, life.now)
    life.step(1.0, io__hot=3.0)
    spoilt = Image({"io.hot": bad("spoilt", life.now)}, life.now)
    assert life.alarms.step(spoilt, life.now)[0].what == "returned"


def test_what_is_beyond_its_second_limit_before_its_delay_is_over_is_not_beyond_yet() -> None:
    hot = dataclasses.replace(row("hot"), test="above", limit=2.0, further=4.0, on_delay_s=5.0, off_delay_s=0.0)
    life = Plant(hot)
    life.values = {"io.hot": 0.0}
    life.step()
    life.step(1.0, io__hot=9.0)
    assert not life.alarms._watches["hot"].beyond
    life.step(5.0)
    assert life.alarms._watches["hot"].beyond


def test_chattering_is_told_as_it_begins_and_as_it_ends() -> None:
    life = plant()
    for _ in range(2):
        life.step(1.0, io__wet=True)
        life.step(1.0, io__wet=False)
    told = life.step(1.0, io__wet=True)
    assert brief(told) == [
        ("wet", "came", D, B, "condition", "", ""), ("wet", "chattering", B, B, "condition", "", ""),
    ]  # fmt: skip
    assert shown(life).chattering
    assert told[0].alarm == told[1].alarm == shown(life)
    assert life.step(1.0, io__wet=False) == []
    assert life.step(3.9) == []
    assert brief(life.step(0.1)) == [("wet", "returned", B, D, "condition", "", "")]
    assert brief(life.step(596.0)) == [("wet", "chattering_ended", D, D, "timer", "", "")]
    assert not shown(life).chattering
    assert life.alarms.standing[0].chattering is False
    life.step(1.0, io__wet=True)
    assert brief(life.step(1.0, io__wet=False)) == [("wet", "returned", B, D, "condition", "", "")]
    for _ in range(3):
        life.step(1.0, io__wet=True)
        life.step(10.0, io__wet=False)
        life.step(10.0)
    life.step(1.0, io__wet=True)
    life.step(600.0)
    assert brief(life.step(1.0, io__wet=False))[-1][1] == "returned", "held no longer, though it never went"


def test_chattering_ends_for_an_alarm_that_is_no_longer_listed() -> None:
    life = plant()
    for _ in range(3):
        life.step(1.0, io__wet=True)
        life.alarms.ack("wet", ANN, life.now)
        life.step(1.0, io__wet=False)
    life.step(10.0)
    life.step(0.0)
    assert life.state() is A
    (event,) = life.step(600.0)
    assert event == AlarmEvent(life.now, "chattering_ended", Alarm(life.rows[0], A, None, NEVER, count=0), A, "timer")


def test_an_incident_names_its_first_and_forgets_it_with_the_next() -> None:
    life = plant(row("dry", group="leak", on_delay_s=9.0), row("door"), group="leak")
    life.step(1.0, io__wet=True, io__dry=True, io__door=True)
    life.step(9.0)
    found = {alarm.row.id: (alarm.first_out, alarm.cause) for alarm in life.alarms.standing}
    assert found == {"wet": (True, ""), "dry": (False, "wet"), "door": (False, "")}
    assert [alarm.row.id for alarm in life.alarms.standing] == ["wet", "door", "dry"], "newest last"


def test_figures() -> None:
    life = Plant(*(row(name, **QUICK) for name in "abcdef"), row("s", unless=("bus.lost",)))
    life.step()
    empty = life.alarms.figures(life.now)
    assert {name: value for name, value in empty.items() if name.startswith("alarms")} == {
        "alarms_standing": 0.0, "alarms_unacked": 0.0, "alarms_shelved": 0.0, "alarms_suppressed": 0.0,
        "alarms_out_of_service": 0.0, "alarms_chattering": 0.0, "alarms_stale": 0.0,
    }  # fmt: skip
    life.step(1.0, bus__lost=True, io__s=True, **{f"io__{name}": True for name in "abcde"})
    life.alarms.ack("a", ANN, life.now)
    life.alarms.shelve("b", ANN, life.now, reason="r")
    life.alarms.out_of_service("c", ANN, life.now, reason="r")
    life.step(1.0, io__d=False)
    figures = life.alarms.figures(life.now)
    assert {name: figures[name] for name in empty} == {
        "alarms_standing": 3.0, "alarms_unacked": 2.0, "alarms_shelved": 1.0, "alarms_suppressed": 1.0,
        "alarms_out_of_service": 1.0, "alarms_chattering": 0.0, "alarms_stale": 0.0, "alarm_flood": False,
        "alarm_rate": 5.0, "alarm_rate_mean": 5.0, "alarm_rate_peak": 5.0, "alarm_flood_share": 0.0,
        "alarm_critical_share": 0.0, "alarm_high_share": 100.0, "alarm_medium_share": 0.0, "alarm_low_share": 0.0,
    }  # fmt: skip
    life.step(86_400.0)
    assert life.alarms.figures(life.now)["alarms_stale"] == 3.0, "a, e, and b whose shelf has ended; not what went"


def test_figures_are_worked_out_each_second_and_after_each_move() -> None:
    life = plant()
    first = life.alarms.figures(2000.0)
    assert life.alarms.figures(2000.9) is first
    second = life.alarms.figures(2001.0)
    assert second is not first
    life.step(1.0, io__wet=True)
    assert life.alarms.figures(2001.1)["alarms_standing"] == 1.0


# ---------------------------------------------------------------- over a restart


def test_numbers_of_occurrences_are_saved_a_hundred_ahead() -> None:
    life = plant()
    assert life.alarms.saved() == {"occurrences": 100, "standing": {}}
    for reached, ahead in ((98, 100), (99, 200)):
        life.alarms._occurrences = reached
        life.step(1.0, io__wet=True)
        life.alarms.ack("wet", ANN, life.now)
        life.step(1.0, io__wet=False)
        life.step(300.0)
        assert life.alarms.saved()["occurrences"] == ahead
    again = Alarms(life.rows, 2)
    again.restore({}, 0.0)
    assert again.saved()["occurrences"] == 100
    (event,) = again.step(Image({"io.wet": good(True, 0.0)}, 0.0), 0.0)
    assert event.alarm.occurrence == 1
    again.restore({"occurrences": "200"}, 0.0)
    assert again.saved()["occurrences"] == 300


def test_what_stands_is_saved_by_name_and_made_anew_when_it_changed() -> None:
    life = plant()
    life.step(1.0, io__wet=True)
    saved = life.alarms.saved(0.0)
    assert list(saved["standing"]) == ["wet"]
    assert saved["standing"]["wet"]["times"] == [1001.0, None, None]
    assert life.alarms.saved(0.0)["standing"]["wet"] is saved["standing"]["wet"]
    assert life.alarms.saved(None)["standing"]["wet"]["times"] == [None, None, None]
    assert life.alarms.saved(5.0)["standing"]["wet"]["times"] == [1006.0, None, None]
    life.alarms.ack("wet", ANN, life.now)
    assert life.alarms.saved(5.0)["standing"]["wet"]["state"] == "ACKED"


def test_one_spoilt_entry_costs_itself_alone() -> None:
    life = plant(row("door", **QUICK))
    life.step(1.0, io__wet=True, io__door=True)
    saved = json.loads(json.dumps(life.alarms.saved(0.0)))
    saved["standing"]["wet"]["times"] = None
    again = Alarms(life.rows, 2)
    again.restore({**saved, "standing": {"gone": {}, **saved["standing"]}}, life.now, 0.0)
    assert [alarm.row.id for alarm in again.standing] == ["door"]
    life.alarms = again
    assert brief(life.step(1.0)) == [("wet", "came", A, B, "condition", "", "")], "it comes anew"
    assert shown(life).boot == 2
    life.alarms.shelve("wet", ANN, life.now, reason="r", duration_s=10.0)
    assert [event.what for event in life.step(10.0)] == ["shelved", "shelf_expired"]


def test_a_store_that_contradicts_itself_stops_no_scan() -> None:
    """An alarm that was saved as gone and as active is gone for whoever acknowledges it, and can't go once more."""
    life = plant()
    life.step(1.0, io__wet=True)
    saved = json.loads(json.dumps(life.alarms.saved(0.0)))
    saved["standing"]["wet"] |= {"state": "RTN_UNACK", "active": True}
    life.alarms = Alarms(life.rows, 2)
    life.alarms.restore(saved, life.now, 0.0)
    life.alarms.ack("wet", ANN, life.now)
    assert brief(life.step()) == [("wet", "acknowledged", D, A, "operator", ANN, "")]
    assert life.step(1.0, io__wet=False) == []
    assert [event.what for event in life.step(1.0, io__wet=True)] == ["came"]


def test_a_point_that_was_never_read_is_no_news() -> None:
    life = Plant(dataclasses.replace(row("lost"), test="unusable"), row("wet"))
    life.values = {}
    assert [event.what for event in life.step()] == ["came"]
    assert shown(life, "lost").value is None
    assert life.step(1.0) == []


def test_a_value_that_is_read_again_and_is_the_same_moves_nothing_and_one_of_another_quality_does() -> None:
    lost = dataclasses.replace(row("lost"), test="unusable", off_delay_s=0.0)
    alarms = Alarms([lost])
    assert alarms.step(Image({"io.lost": good(1.0, 0.0)}, 0.0), 0.0) == []
    assert alarms.step(Image({"io.lost": good(1.0, 1.0)}, 1.0), 1.0) == []
    stale: Value = 1.0
    reading = dataclasses.replace(bad("old", 1.0), value=stale)
    assert [event.what for event in alarms.step(Image({"io.lost": reading}, 2.0), 2.0)] == ["came"]


def test_an_alarm_that_is_aside_for_ever_is_told_as_such() -> None:
    assert math.isinf(NEVER)
    life = plant()
    life.alarms.out_of_service("wet", ANN, life.now, reason="order")
    (event,) = life.step()
    assert (event.alarm.active_at, event.alarm.count, event.alarm.value) == (NEVER, 0, None)
