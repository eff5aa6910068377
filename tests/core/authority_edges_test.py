"""Commands judged without the rest of the scan: each outcome to the letter, each limit to the moment."""

from __future__ import annotations

import dataclasses

import pytest

from controller.core import authority as module
from controller.core.alarms import AlarmRow, Alarms, AlarmState
from controller.core.authority import Goal
from controller.core.commands import Command
from controller.core.image import Image
from controller.core.points import good
from controller.core.slots import Floor
from tests.core.authority_rig import ANN, BMS, EPOCH_S, SP, Desk, pod, racks, told


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_limits_that_docs_tell() -> None:
    assert (module.ISOLATION_SPACING_S, module.ISOLATIONS_MAX, module.ISOLATION_WINDOW_S) == (5.0, 3, 60.0)
    assert (module.CLOSED_PCT, module.ARRIVAL_S, module.RESET_S, module.MOVE_MAX_S) == (5.0, 10.0, 5.0, 120.0)
    assert (module.FOLLOWED_MAX_S, module.NEAR, module.BYPASS_DEFAULT_S) == (14_400.0, 1e-6, 1800.0)
    assert {"confirmed", "failed", "expired", "superseded"} == module.FINAL
    goal = Goal((), ())
    assert goal.lost == ()
    assert not hasattr(goal, "__dict__")
    assert not hasattr(Desk().scene(), "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(goal, dataclasses.fields(goal)[0].name, ("OFF",))


def test_each_command_of_a_scan_is_judged_in_its_order(desk: Desk) -> None:
    commands = [
        Command("a", BMS, "reset", "", 200.0), Command("b", BMS, "heartbeat", "", 99.0),
        Command("c", BMS, "set", SP, 200.0, 99.0, 8), Command("d", BMS, "heartbeat", "", 200.0),
        Command("e", ANN, "lock", "", 200.0, reason="pump work"), Command("f", BMS, "set", SP, 200.0, 30.0, 8),
        Command("g", BMS, "stop", "", 200.0),
    ]  # fmt: skip
    verdict = desk.authority.judge(commands, desk.scene(), desk.alarms)
    assert [(o.id, o.state, o.code) for o in verdict.outcomes] == [
        ("a", "rejected", "forbidden"), ("b", "rejected", "expired"), ("c", "rejected", "out_of_range"),
        ("d", "accepted", ""), ("e", "accepted", ""), ("e", "confirmed", ""), ("f", "rejected", "local_lockout"),
        ("g", "rejected", "local_lockout"),
    ]  # fmt: skip
    assert verdict.outcomes[-1].message == f"local control taken by {ANN}"
    assert (verdict.operations, verdict.isolate) == ({"heartbeat", "lock"}, set())


def test_local_control_is_taken_and_given_back(desk: Desk) -> None:
    desk.ask("set", SP, value=31.0, slot=8, name="s")
    assert [(o.id, o.state) for o in desk.ask("lock", by=ANN, reason="pump work")] == [
        ("c1", "accepted"), ("s", "superseded"), ("c1", "confirmed"),
    ]  # fmt: skip
    lock = desk.authority.slots.lock
    assert lock
    assert (lock.owner, lock.reason, lock.since) == (ANN, "pump work", 100.0)
    assert desk.ask("unlock", by=ANN) == [told("accepted", by=ANN), told("confirmed", by=ANN)]
    assert desk.authority.slots.lock is None
    assert desk.follow() == [], "the setpoint that was put out is told once"


def test_a_heartbeat_is_noted_for_who_sent_it(desk: Desk) -> None:
    desk.ask("set", SP, value=31.0, slot=8)
    assert desk.ask("heartbeat") == [told("accepted")]
    assert desk.authority.step({}, 129.9) == []
    assert [o.code for o in desk.authority.step({}, 130.0)] == ["comms"]


def test_floors_are_laid_over_slots(desk: Desk) -> None:
    desk.authority.step({SP: Floor(35.0, "dew point")}, 100.0)
    assert desk.authority.slots.arrays[SP].winner == 5


def test_what_is_given_back_says_what_holds_now(desk: Desk) -> None:
    usual = desk.authority.slots.value(SP)
    desk.ask("set", SP, value=31.0, slot=8, name="s")
    assert desk.ask("relinquish", SP, slot=8) == [
        told("accepted", effective=usual), told("superseded", message="relinquished by bms", name="s", effective=usual),
        told("confirmed", effective=usual),
    ]  # fmt: skip


def test_alarms_are_operated_as_their_model_answers(desk: Desk) -> None:
    desk.alarms.step(Image({"io.wet": good(True, 100.0)}, 100.0), 100.0)
    assert desk.ask("ack", "wet") == [told("accepted", message="1 acknowledged"), told("confirmed")]
    assert desk.ask("shelve", "wet", reason="noise", ttl_s=60.0) == [told("accepted", until=160.0), told("confirmed")]
    assert desk.ask("shelve", "x", reason="noise") == [told("rejected", "unknown_target", "no such alarm: x")]
    (shelved,) = desk.alarms.standing
    assert (shelved.by, shelved.reason) == (BMS, "noise")
    assert desk.ask("unshelve", "wet")[0].accepted
    assert desk.ask("out_of_service", "wet", by=ANN, reason="order")[0].accepted
    assert desk.alarms.standing[0].state is AlarmState.OUT_OF_SERVICE


def test_who_is_at_the_pod_may_put_a_safety_alarm_aside() -> None:
    desk = Desk()
    desk.alarms = Alarms([AlarmRow("leak", "io.leak", "on", "Leak", "critical", "c", "a", safety=True)])
    assert [desk.ask("shelve", "leak", by=by, reason="r")[0].code for by in (BMS, ANN)] == ["forbidden", ""]


# ---------------------------------------------------------------- bypass


def test_a_bypass_is_put_and_ended(desk: Desk) -> None:
    assert desk.ask("bypass", "warm", by=ANN, reason="new sensor") == [
        told("accepted", by=ANN, until=1900.0), told("confirmed", by=ANN),
    ]  # fmt: skip
    bypass = desk.interlocks.bypasses["warm"]
    assert (bypass.by, bypass.reason, bypass.until) == (ANN, "new sensor", 1900.0)
    assert desk.ask("bypass", "warm", by=ANN, ttl_s=60.0)[0].until == 160.0
    assert desk.ask("unbypass", "warm", by=ANN) == [told("accepted", by=ANN), told("confirmed", by=ANN)]
    assert desk.ask("unbypass", "warm", by=ANN) == [told("rejected", "unknown_target", "no such bypass", by=ANN)]
    refused = told("rejected", "interlock", "warm can be bypassed for 3600 s at most", by=ANN)
    assert desk.ask("bypass", "warm", by=ANN, ttl_s=3601.0) == [refused]


# ---------------------------------------------------------------- isolation


def test_a_rack_is_isolated_by_its_row(desk: Desk) -> None:
    first = racks()[0]
    assert desk.ask("isolate", first) == [told("accepted")]
    assert (desk.verdict.isolate, desk.verdict.operations) == ({f"isolate_{first}"}, {"isolate"})
    desk.now += 5
    desk.ask("isolate_power", racks()[1])
    assert desk.verdict.isolate == {f"isolate_power_{racks()[1]}"}
    words = f"no such rack; there are: {', '.join(racks())}"
    assert desk.ask("isolate", "rack_x") == [told("rejected", "unknown_target", words)]


RATE = told("rejected", "rate", "one rack each 5 s, where no leak is seen here")
HELD = told(
    "rejected", "interlock", "too many racks asked for where no leak is seen here: held until a reset at the console"
)


def test_one_rack_each_five_seconds_and_three_in_a_minute(desk: Desk) -> None:
    names = racks()
    assert desk.ask("isolate", names[0])[0].accepted
    desk.now += 4.9
    assert desk.ask("isolate", names[1]) == [RATE]
    desk.now += 0.1
    assert desk.ask("isolate", names[1])[0].accepted
    desk.now += 5
    assert desk.ask("isolate", names[2])[0].accepted
    desk.now = 159.9
    assert not desk.authority.isolation_held
    assert desk.ask("isolate", names[3]) == [HELD]
    assert desk.authority.isolation_held
    desk.now += 1000
    assert desk.ask("isolate", names[3]) == [HELD], "it does not end by itself"
    assert desk.ask("isolate", names[3], by=ANN)[0].accepted
    desk.ask("reset", by=ANN)
    assert desk.authority.isolation_held is False
    assert desk.ask("isolate", names[4])[0].accepted


def test_the_fourth_rack_after_a_minute_is_no_flood(desk: Desk) -> None:
    for at, name in zip((100.0, 105.0, 110.0, 160.0), racks(), strict=False):
        desk.now = at
        assert desk.ask("isolate", name)[0].accepted, at


def test_a_reset_clears_the_count_and_the_spacing(desk: Desk) -> None:
    desk.ask("isolate", racks()[0])
    assert desk.ask("isolate", racks()[1]) == [RATE]
    desk.ask("reset", by=ANN)
    assert desk.ask("isolate", racks()[1])[0].accepted


def test_what_is_isolated_already_or_wet_or_asked_at_the_pod_does_not_count(desk: Desk) -> None:
    names = racks()
    desk.latched = [f"isolate_{names[0]}", f"isolate_power_{names[1]}"]
    wet = pod().racks[2].leak[0]
    desk.values[wet] = True
    for name, by in ((names[0], BMS), (names[1], BMS), (names[2], BMS), (names[3], ANN)):
        assert desk.ask("isolate", name, by=by)[0].accepted
    assert desk.ask("isolate", names[4])[0].accepted, "and so this is the first that counts"
    assert desk.ask("isolate", names[5]) == [RATE]


def test_a_rack_asked_for_twice_in_a_scan_counts_once(desk: Desk) -> None:
    rack = racks()[0]
    asked = [Command("a", BMS, "isolate_power", rack, 200.0), Command("b", BMS, "isolate", rack, 200.0)]
    verdict = desk.authority.judge(asked, desk.scene(), desk.alarms)
    assert [o.state for o in verdict.outcomes] == ["accepted", "accepted"]
    assert len(verdict.isolate) == 2


def test_the_guard_survives_a_restart() -> None:
    desk = Desk()
    desk.ask("isolate", racks()[0])
    assert "isolated_at" not in desk.authority.saved(None)
    saved = desk.authority.saved(EPOCH_S + 0.4)
    assert saved["isolated_at"] == [EPOCH_S + 100]
    assert saved["isolation_held"] is False
    assert set(saved) == {"applied", "leases", "isolation_held", "isolated_at"}
    assert "isolated_at" not in Desk().authority.saved(EPOCH_S)
    for later_s, answer in ((4.0, [RATE]), (6.0, [told("accepted")])):
        assert Desk(saved, EPOCH_S + later_s).ask("isolate", racks()[1]) == answer
    assert Desk(saved, None).ask("isolate", racks()[1])[0].accepted, "the clock is not known"
    assert Desk({"isolation_held": True}).ask("isolate", racks()[1]) == [HELD]


@pytest.mark.parametrize(
    ("isolated_at", "code"),
    [("x", ""), ([None, "a"], ""), ([EPOCH_S + 98], "rate"), ([EPOCH_S + 98.5], "rate"), ([EPOCH_S + 5000], "rate"),
     ([EPOCH_S + 95], ""), ([EPOCH_S + at for at in (41, 42, 43)], "interlock"),
     ([EPOCH_S + at for at in (40, 42, 43)], "")],
)  # fmt: skip
def test_what_a_store_holds_of_isolations(isolated_at: object, code: str) -> None:
    assert Desk({"isolated_at": isolated_at}, EPOCH_S).ask("isolate", racks()[0])[0].code == code
