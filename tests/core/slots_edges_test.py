"""Slots at their edges: the last moment of a lease, the words of every refusal, what a store keeps and gives back."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from controller.core import slots as module
from controller.core.commands import Code, Command, Outcome
from controller.core.slots import ASKED, Array, Ended, Floor, Lease, Lock, Setpoint, SlotRule, Slots

ROW = Setpoint("pod.sp", "Cel", 30.0, 22.0, 40.0, slew_per_s=0.1, rescue_per_s=0.2)
EPOCH_S = 1_780_000_000.0
ANN = "console:ann"


def slots(saved: dict[str, Any] | None = None, now: float = 0.0, epoch_s: float | None = None) -> Slots:
    return Slots([ROW], saved or {}, now, epoch_s)


def wish(slot: int = 8, by: str = "bms", value: Any = 31.0, name: str = "c1", **more: Any) -> Command:
    return Command(name, by, "set", more.pop("target", "pod.sp"), 5.0, value, slot, **more)


def give_back(slot: int, by: str, **more: Any) -> Command:
    return Command("r1", by, "relinquish", more.pop("target", "pod.sp"), 5.0, None, slot, **more)


def array(to: Slots) -> Array:
    found = to.array("pod.sp")
    assert found is not None
    return found


def test_who_owns_which_slot_and_for_how_long() -> None:
    assert {
        slot: dataclasses.astuple(rule) for slot, rule in ASKED.items()
    } == {7: ("technician at the console", 3600.0, 28800.0, False), 8: ("BMS operator", 3600.0, 86400.0, False),
            10: ("BMS automatic", 3600.0, 86400.0, False), 13: ("optimiser", 900.0, 900.0, True)}  # fmt: skip
    assert (module.PROTECTION, module.LOCKED_FROM, module.HEARTBEAT_S, module.REMOTE) == (5, 8, 30.0, (8, 10, 13))


def test_what_others_see_of_slots_can_not_be_changed_by_them() -> None:
    lease = Lease(31.0, "bms", "c1", "", 0.0, 1.0)
    seen = (ROW, lease, Floor(1.0, ""), Ended(8, "bms", "", 0.0), Lock(ANN, "", 0.0), SlotRule("x", 1.0, 1.0))
    for each in (*seen, Array(ROW, {}, 0, 30.0, {})):
        assert not hasattr(each, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(each, dataclasses.fields(each)[0].name, 1)
    assert (ROW.clamps, ROW.seen_at, ROW.tolerance) == (False, (), 0.0)


def test_a_setpoint_that_nobody_knows_is_refused_by_name() -> None:
    to = Slots([ROW, dataclasses.replace(ROW, point="pod.least")], {}, 0.0, None)
    words = "no such setpoint; there are: pod.sp, pod.least"
    for told in (to.set(wish(target="pod.x"), 0.0), to.relinquish(give_back(8, "bms", target="pod.x"), 0.0)):
        assert [(one.state, one.code, one.message) for one in told] == [("rejected", "unknown_target", words)]
    assert to.array("pod.x") is None
    assert list(to.names) == ["pod.sp", "pod.least"]


def test_a_setpoint_stands_at_its_default_inside_its_range_until_something_moves_it() -> None:
    assert slots().value("pod.sp") == 30.0
    low, high = (Slots([dataclasses.replace(ROW, default=far)], {}, 0.0, None) for far in (-5.0, 99.0))
    assert (low.value("pod.sp"), high.value("pod.sp")) == (22.0, 40.0)
    fresh = slots()
    fresh.set(wish(), 0.0)
    assert fresh.value("pod.sp") == 31.0, "what was never in force is not left by a ramp"


def test_each_refusal_of_a_value_says_what_is_allowed() -> None:
    to = slots()
    assert to.set(wish(value=22.0), 0.0)[0].accepted
    assert to.set(wish(value=40.0), 0.0)[0].accepted
    before = array(to)
    refusals: list[tuple[Command, Code, str]] = [
        (wish(value=21.9), "out_of_range", "allowed: 22 to 40 Cel"),
        (wish(value=40.1), "out_of_range", "allowed: 22 to 40 Cel"),
        (wish(value="30"), "bad_request", "value must be a finite number"),
        (wish(ttl_s=-1.0), "out_of_range", "ttl_s allowed in slot 8: to 86400"),
        (wish(ttl_s=86_401.0), "out_of_range", "ttl_s allowed in slot 8: to 86400"),
        (wish(slot=7), "forbidden", "slots that bms may write: 8, 10, 13"),
        (wish(by=ANN), "forbidden", "slots that console:ann may write: 7"),
    ]
    for command, code, words in refusals:
        assert to.set(command, 0.0) == [Outcome("c1", command.principal, "rejected", code, words)]
    assert array(to) is before


def test_a_lease_is_what_was_asked_and_its_answer_says_until_when() -> None:
    to = slots()
    assert to.set(wish(ttl_s=100.0, reason="why"), 7.0) == [
        Outcome("c1", "bms", "accepted", effective=31.0, until=107.0)
    ]
    assert array(to).leases == {8: Lease(31.0, "bms", "c1", "why", 7.0, 107.0)}
    assert to.set(wish(ttl_s=86_400.0), 7.0)[0].until == 86_407.0
    assert to.set(wish(), 7.0)[0].until == 3607.0


def test_who_is_replaced_is_told_by_whom_and_what_holds_now() -> None:
    to = slots()
    to.set(wish(name="old"), 0.0)
    told = to.set(wish(by="other", value=33.0, name="new"), 1.0)
    assert told == [
        Outcome("new", "other", "accepted", effective=33.0, until=3601.0),
        Outcome("old", "bms", "superseded", "", "replaced by other", 33.0),
    ]
    assert array(to).ended == {}, "a lease that is replaced has not ended"


def test_a_lease_without_a_command_is_replaced_in_silence() -> None:
    saved = {"leases": [["pod.sp", 8, 33.0, "bms", "", "", EPOCH_S + 50.0]]}
    to = slots(saved, epoch_s=EPOCH_S)
    assert [told.state for told in to.set(wish(), 0.0)] == ["accepted"]


def test_what_ended_is_told_until_the_slot_is_taken_again() -> None:
    to = slots()
    to.set(wish(name="a"), 0.0)
    told = to.relinquish(give_back(8, ANN, reason="pump work"), 2.0)
    why = "relinquished by console:ann: pump work"
    assert told == [Outcome("r1", ANN, "accepted", effective=30.0), Outcome("a", "bms", "superseded", "", why, 30.0)]
    assert array(to).ended == {8: Ended(8, "bms", why, 2.0)}
    to.set(wish(name="b"), 3.0)
    assert array(to).ended == {}
    assert to.relinquish(give_back(8, "bms"), 4.0)[1].message == "relinquished by bms"


def test_to_empty_an_empty_slot_is_no_mistake_and_ends_nothing() -> None:
    to = slots()
    assert to.relinquish(give_back(8, "bms"), 0.0) == [Outcome("r1", "bms", "accepted", effective=30.0)]
    assert array(to).ended == {}


def test_who_may_empty_which_slot() -> None:
    to = slots()
    for by, slot, words in (
        ("bms", 7, "slots that bms may empty: 8, 10, 13"),
        ("bms", 5, "slots that bms may empty: 8, 10, 13"),
        (ANN, 5, "slots that console:ann may empty: 7, 8, 10, 13"),
    ):
        assert to.relinquish(give_back(slot, by), 0.0) == [Outcome("r1", by, "rejected", "forbidden", words)]
    assert all(to.relinquish(give_back(slot, ANN), 0.0)[0].accepted for slot in ASKED)
    assert all(to.relinquish(give_back(slot, "bms"), 0.0)[0].accepted for slot in (8, 10, 13))


def test_local_control_is_told_to_everybody_it_puts_out() -> None:
    to = slots()
    for slot, name in ((8, "a"), (10, "b")):
        to.set(wish(slot, name=name), 0.0)
    to.set(wish(7, by=ANN, name="c", value=26.0), 0.0)
    why = "local control taken by console:ann"
    assert to.lock_out(ANN, "pump work", 1.0) == [
        Outcome("a", "bms", "superseded", "local_lockout", why, 26.0),
        Outcome("b", "bms", "superseded", "local_lockout", why, 26.0),
    ]
    assert to.lock == Lock(ANN, "pump work", 1.0)
    assert to.set(wish(), 1.0) == [Outcome("c1", "bms", "rejected", "local_lockout", why)]
    assert to.set(wish(7, by=ANN), 1.0)[0].accepted, "the console's own slot is not blocked"
    assert array(to).ended[10] == Ended(10, "bms", why, 1.0)
    to.unlock()
    assert to.lock is None


def test_a_lease_ends_at_its_time_and_says_so() -> None:
    to = slots()
    to.set(wish(ttl_s=10.0), 0.0)
    assert to.step({}, 9.9) == []
    assert to.step({}, 10.0) == [Outcome("c1", "bms", "expired", "expired", "its time is over", 30.0)]
    assert array(to).ended == {8: Ended(8, "bms", "its time is over", 10.0)}
    for slot, name in ((8, "a"), (10, "b")):
        to.set(wish(slot, name=name, ttl_s=10.0), 20.0)
    assert [told.id for told in to.step({}, 30.0)] == ["a", "b"], "each of those that end at once"


def test_silence_is_told_in_seconds() -> None:
    to = slots()
    to.set(wish(13, by="opt"), 5.0)
    assert to.step({}, 34.9) == []
    assert to.step({}, 35.4) == [Outcome("c1", "opt", "expired", "comms", "no heartbeat of opt for 30 s", 30.0)]


def test_a_heartbeat_counts_from_the_lease_where_that_is_younger() -> None:
    to = slots()
    to.set(wish(8), 0.0)
    to.beat("bms", 1.0)
    to.set(wish(8, name="c2"), 20.0)
    assert to.step({}, 49.9) == []
    assert to.step({}, 50.0)[0].message == "no heartbeat of bms for 30 s"


def test_the_console_is_not_held_to_a_heartbeat() -> None:
    to = slots()
    to.set(wish(7, by=ANN), 0.0)
    to.beat(ANN, 1.0)
    assert to.step({}, 3599.0) == []
    assert list(array(to).leases) == [7]


def test_a_heartbeat_of_who_holds_nothing_is_not_remembered() -> None:
    to = slots()
    to.beat("bms", 1.0)
    to.set(wish(), 2.0)
    assert to.step({}, 100.0) == [], "it began to beat before it held anything, and so was never counted"
    to.beat("bms", 100.0)
    to.beat("bms", 120.0)
    to.relinquish(give_back(8, "bms"), 121.0)
    to.beat("bms", 140.0)
    to.set(wish(), 141.0)
    to.beat("bms", 165.0)
    assert to.step({}, 194.9) == []
    assert to.step({}, 195.0)[0].code == "comms", "one that has beaten once is held to it for good"


def test_an_array_is_made_anew_only_when_something_in_it_changed() -> None:
    to = slots()
    to.set(wish(10, name="b"), 0.0)
    first = array(to)
    to.step({}, 1.0)
    assert array(to) is first
    to.set(wish(8, name="a"), 1.0)
    assert array(to) is not first
    assert list(array(to).leases) == [8, 10], "the lowest first, whoever came first"
    to.step({"pod.sp": Floor(35.0, "dew point")}, 2.0)
    held = array(to)
    to.step({"pod.sp": Floor(35.0, "dew point")}, 3.0)
    assert array(to) is held, "the same floor is no news"


def test_a_floor_is_laid_where_it_is_needed_and_nowhere_else() -> None:
    to = slots()
    to.step({"pod.sp": Floor(30.0, "dew point")}, 1.0)
    assert array(to).winner == 0, "the default is warm enough"
    to.step({"pod.sp": Floor(30.1, "dew point")}, 2.0)
    assert array(to).leases == {5: Lease(30.1, "protection", "", "dew point", 2.0, math.inf)}
    to.step({"pod.sp": Floor(31.0, "wet")}, 3.0)
    assert array(to).leases == {5: Lease(31.0, "protection", "", "wet", 2.0, math.inf)}, "since it began"
    to.set(wish(10, value=31.0), 4.0)
    to.step({"pod.sp": Floor(31.0, "wet")}, 4.0)
    assert array(to).winner == 10
    to.step({"pod.sp": Floor(math.nan, "lost")}, 5.0)
    assert array(to).winner == 10, "no number is no floor"
    to.step({"pod.sp": Floor(1.0, "dry")}, 6.0)
    to.step({}, 7.0)
    assert list(array(to).leases) == [10]
    to.step({"pod.sp": Floor(99.0, "wet")}, 8.0)
    to.step({}, 9.0)
    assert list(array(to).leases) == [10], "with the floor goes its lease"
    assert array(to).ended == {}


def test_the_lowest_of_the_others_is_measured_against_the_floor() -> None:
    to = slots()
    to.set(wish(7, by=ANN, value=36.0), 0.0)
    to.set(wish(8, value=23.0), 0.0)
    to.step({"pod.sp": Floor(35.0, "dew point")}, 1.0)
    assert array(to).winner == 7
    to.set(wish(7, by=ANN, value=34.0), 1.0)
    to.step({"pod.sp": Floor(35.0, "dew point")}, 2.0)
    assert array(to).wanted == 35.0


def test_the_rescue_is_for_what_is_below_the_floor_alone() -> None:
    to = slots()
    to.step({}, 0.0)
    to.set(wish(value=40.0), 0.0)
    to.step({"pod.sp": Floor(30.0, "dew point")}, 1.0)
    assert to.value("pod.sp") == pytest.approx(30.1), "at the floor it moves as ever"
    to.step({"pod.sp": Floor(30.2, "dew point")}, 2.0)
    assert to.value("pod.sp") == pytest.approx(30.3)
    to.step({}, 3.0)
    assert to.value("pod.sp") == pytest.approx(30.4)
    to.set(wish(value=22.0), 3.0)
    to.step({}, 4.0)
    assert to.value("pod.sp") == pytest.approx(30.3), "down as fast as up"


def test_what_is_saved() -> None:
    to = slots()
    to.step({}, 0.0)
    assert to.saved(None) == {"applied": {"pod.sp": 30.0}}
    assert to.saved(EPOCH_S) == {"applied": {"pod.sp": 30.0}, "leases": []}
    to.set(wish(value=35.0, reason="why", ttl_s=100.0), 0.0)
    to.step({"pod.sp": Floor(38.0, "dew point")}, 1.26)
    to.lock = Lock(ANN, "pump work", 1.0)
    assert to.saved(EPOCH_S) == {
        "applied": {"pod.sp": 30.3},
        "lock": [ANN, "pump work"],
        "leases": [["pod.sp", 8, 35.0, "bms", "c1", "why", EPOCH_S + 100]],
    }, "protection is not saved: it is found anew"


def test_what_was_saved_is_taken_up_to_the_letter() -> None:
    saved = {
        "applied": {"gone": 1.0, "pod.sp": 33.0},
        "lock": [ANN, "pump work"],
        "leases": [
            ["gone", 8, 31.0, "bms", "c0", "", EPOCH_S + 60],
            ["pod.sp", 9, 31.0, "bms", "c0", "", EPOCH_S + 60],
            ["pod.sp", 10, 22.0, "bms", "c1", "why", EPOCH_S + 60],
            ["pod.sp", 13, 40.0, "opt", "c2", "", EPOCH_S + 21],
            ["pod.sp", 8, 30.0, "bms", "c3", "", EPOCH_S + 20],
        ],
    }
    to = slots(saved, now=20.0, epoch_s=EPOCH_S)
    assert to.value("pod.sp") == 33.0
    assert to.lock == Lock(ANN, "pump work", 20.0)
    assert array(to).leases == {
        10: Lease(22.0, "bms", "c1", "why", 20.0, 60.0), 13: Lease(40.0, "opt", "c2", "", 20.0, 21.0),
    }  # fmt: skip
    to.step({}, 21.0)
    assert to.value("pod.sp") == pytest.approx(32.9), "it moves on from where it stood, and from then"
    far = slots({"applied": {"pod.sp": 99.0}})
    assert far.value("pod.sp") == 40.0
    assert slots({"applied": {"pod.sp": -99.0}}).value("pod.sp") == 22.0


@pytest.mark.parametrize("lock", [[ANN], [ANN, "a", "b"], "ab", {"a": 1, "b": 2}, None])
def test_half_a_lock_is_none(lock: Any) -> None:
    assert slots({"lock": lock}).lock is None


@pytest.mark.parametrize(
    "lease",
    [
        "pod.sp8", ["pod.sp", 8, 30.0, "a", "b", "c"], ["pod.sp", 8, 30.0, "a", "b", "c", EPOCH_S + 50, 1],
        ["pod.sp", "8", 30.0, "a", "b", "c", EPOCH_S + 50], ["pod.sp", 8, None, "a", "b", "c", EPOCH_S + 50],
        ["pod.sp", 8, 30.0, "a", "b", "c", None], [8, 8, 30.0, "a", "b", "c", EPOCH_S + 50],
        ["pod.sp", 8, 21.9, "a", "b", "c", EPOCH_S + 50], ["pod.sp", 8, 40.1, "a", "b", "c", EPOCH_S + 50],
    ],
)  # fmt: skip
def test_a_lease_that_can_not_be_read_is_left_out_and_the_next_taken_up(lease: Any) -> None:
    sound = ["pod.sp", 10, 31.0, "bms", "c1", "", EPOCH_S + 50]
    assert list(array(slots({"leases": [lease, sound]}, epoch_s=EPOCH_S)).leases) == [10]
