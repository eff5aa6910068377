"""Commands against the whole engine: judged, followed to their effect, and kept from what they may not do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.core.authority import Authority, Scene
from controller.core.commands import CODES, OPERATIONS, Command, Outcome
from controller.core.engine import Engine
from tests.core.model import PodModel, Rig, quick_plan

SP = "pod.supply_temp_sp"
WATER = "pod.fws_supply_temp_sp"


class Desk:
    """Gives commands to a rig and keeps every outcome."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.told = rig, []
        self.number = 0

    def ask(self, operation: str, target: str = "", by: str = "bms", **rest: Any) -> str:
        self.number += 1
        name = f"c{self.number}"
        now = self.rig.model.now
        self.step([Command(name, by, operation, target, now + 5, **rest)])  # type: ignore[arg-type]
        return name

    def step(self, commands: list[Command] | None = None) -> None:
        model = self.rig.model
        model.step()
        effects = self.rig.engine.step(model.now, model.inbox, commands or [])
        for write in effects.writes:
            model.write(write.point, write.value)
        self.told += effects.outcomes
        self.rig.effects.append(effects)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.2)):
            self.step()

    def states(self, name: str) -> list[str]:
        return [outcome.state for outcome in self.told if outcome.id == name]

    def last(self, name: str) -> Outcome:
        return [outcome for outcome in self.told if outcome.id == name][-1]


@pytest.fixture
def desk() -> Desk:
    return Desk(Rig.make().running())


def test_a_setpoint_is_followed_until_it_is_in_force(desk: Desk) -> None:
    name = desk.ask("set", SP, value=30.5, slot=8)
    assert desk.states(name) == ["accepted", "applied"]
    assert desk.last(name).effective == 30.5
    desk.run(70)
    assert desk.states(name)[-1] == "confirmed"
    assert desk.rig.engine.authority.slots.value(SP) == pytest.approx(30.5)


def test_the_loops_use_it_in_the_same_scan(desk: Desk) -> None:
    before = desk.rig.effects[-1].view.image.number("pod.flow_needed", otherwise=None)
    desk.ask("set", "pod.flow_min_sp", value=1400.0, slot=8)
    assert before is not None
    assert desk.rig.effects[-1].view.image.number("pod.flow_min_sp", otherwise=0.0) > 585.0  # type: ignore[operator]
    desk.run(90)
    assert desk.rig.effects[-1].view.image.number("pod.flow_needed", otherwise=None) == 1400.0


def test_a_water_setpoint_is_confirmed_by_the_chillers(desk: Desk) -> None:
    name = desk.ask("set", WATER, value=21.0, slot=10)
    desk.run(130)
    assert desk.states(name) == ["accepted", "applied", "confirmed"]
    assert desk.rig.model.values["chiller_1.supply_temp_sp"] == pytest.approx(21.0)


def test_a_chiller_that_does_not_take_it_fails_the_command(desk: Desk) -> None:
    model, write = desk.rig.model, desk.rig.model.write
    model.write = lambda point, value: None if point == "chiller_1.supply_temp_sp" else write(point, value)  # type: ignore[method-assign]
    name = desk.ask("set", WATER, value=21.0, slot=10)
    desk.run(140)
    assert (desk.states(name)[-1], desk.last(name).code) == ("failed", "readback")


def test_a_masked_setpoint_says_by_what(desk: Desk) -> None:
    desk.ask("set", SP, by="console:ann", value=29.0, slot=7, reason="test")
    name = desk.ask("set", SP, value=30.5, slot=8)
    assert desk.states(name) == ["accepted", "applied"]
    assert desk.last(name).effective == 29.0
    assert "slot 7 of console:ann: test" in desk.last(name).message


def test_dew_point_keeps_the_last_word(desk: Desk) -> None:
    for point in desk.rig.model.plan.pod.room.humidities:
        desk.rig.model.values[point] = 95.0
    desk.ask("set", SP, by="console:ann", value=22.0, slot=7)
    desk.run(400)
    dew = desk.rig.effects[-1].view.image.number("pod.dew_point", otherwise=None)
    assert dew is not None
    assert desk.rig.engine.authority.slots.value(SP) == pytest.approx(dew + 4.0, abs=0.01)
    assert desk.rig.engine.authority.slots.arrays[SP].winner == 5


def test_start_and_stop_are_followed() -> None:
    desk = Desk(Rig.make())
    desk.step()
    start = desk.ask("start")
    desk.run(200)
    assert desk.states(start) == ["accepted", "applied", "confirmed"]
    stop = desk.ask("stop")
    desk.run(900)
    assert desk.states(stop) == ["accepted", "applied", "confirmed"]


def test_a_stop_takes_the_place_of_a_start() -> None:
    desk = Desk(Rig.make())
    desk.step()
    start = desk.ask("start")
    desk.run(10)
    assert desk.rig.mode.startswith("STARTUP")
    desk.ask("stop")
    assert desk.states(start)[-1] == "superseded"


def test_a_start_that_fails_says_why() -> None:
    desk = Desk(Rig.make())
    desk.rig.model.values[desk.rig.model.plan.pod.tcs.level_ok] = False
    desk.step()
    start = desk.ask("start")
    desk.run(200)
    assert desk.states(start)[-1] == "failed"
    assert "level" in desk.last(start).message


@pytest.mark.parametrize("operation", ["reset", "maintain", "release", "lock", "unlock", "bypass", "unbypass"])
def test_what_needs_a_person_at_the_pod_is_refused_from_outside(desk: Desk, operation: str) -> None:
    assert desk.last(desk.ask(operation)).code == "forbidden"


def test_isolation_takes_power_first_and_water_after(desk: Desk) -> None:
    rack = desk.rig.model.plan.pod.racks[3]
    name = desk.ask("isolate", rack.name)
    assert desk.states(name)[0] == "accepted"
    desk.run(30)
    assert desk.states(name) == ["accepted", "applied", "confirmed"]
    log = [(at, point, value) for at, point, value in desk.rig.model.log if at > desk.rig.model.now - 31]
    off = max(at for at, point, value in log if point in rack.outlets and value is False)
    shut = min(at for at, point, value in log if point == f"{rack.valve}.position_cmd" and value == 0.0)
    assert shut - off >= desk.rig.model.plan.pod.protection.rack_off_before_valve_s - 0.2
    others = {outlet for other in desk.rig.model.plan.pod.racks if other is not rack for outlet in other.outlets}
    assert not [point for _, point, value in log if point in others and value is False]
    assert "pod_racks_isolated" in desk.rig.alarms()


def test_power_asked_off_leaves_the_valve_open(desk: Desk) -> None:
    rack = desk.rig.model.plan.pod.racks[4]
    name = desk.ask("isolate_power", rack.name)
    desk.run(20)
    assert desk.states(name) == ["accepted", "confirmed"]
    assert not any(desk.rig.model.values[outlet] for outlet in rack.outlets)
    assert desk.rig.model.values[f"{rack.valve}.position_cmd"] == 100.0
    assert "pod_racks_isolated" in desk.rig.alarms()


def test_a_bypass_is_the_persons_at_the_pod_and_stands_as_an_alarm(desk: Desk) -> None:
    name = desk.ask("bypass", "air_warm", by="console:anna", ttl_s=60.0, reason="sensor is being moved")
    assert desk.last(name).accepted
    desk.run(2)
    assert "bypassed" in desk.rig.alarms()
    assert desk.rig.effects[-1].view.bypasses["air_warm"].reason == "sensor is being moved"
    assert desk.last(desk.ask("bypass", "flow_lost", by="console:anna", reason="x")).code == "interlock"
    assert desk.last(desk.ask("unbypass", "air_warm", by="console:anna")).accepted
    assert desk.last(desk.ask("unbypass", "air_warm", by="console:anna")).code == "unknown_target"
    desk.run(2)
    assert not desk.rig.effects[-1].view.bypasses


def test_only_a_reset_at_the_pod_brings_a_rack_back(desk: Desk) -> None:
    rack = desk.rig.model.plan.pod.racks[0]
    desk.ask("isolate", rack.name)
    desk.run(20)
    saved = desk.rig.engine.saved()
    assert f"isolate_{rack.name}" in saved["latched"]
    assert desk.last(desk.ask("reset")).code == "forbidden"
    assert desk.rig.engine.interlocks.racks_tripped() == {rack.name}
    name = desk.ask("reset", by="console:ann")
    desk.run(2)
    assert desk.states(name) == ["accepted", "confirmed"]
    assert not desk.rig.engine.interlocks.racks_tripped()


def test_a_reset_releases_latched_alarms_too(desk: Desk) -> None:
    leak = desk.rig.model.plan.pod.protection.cdu_leak[0]
    alarm = leak.replace(".", "_")
    desk.rig.model.values[leak] = True
    desk.run(3)
    desk.rig.model.values[leak] = False
    desk.run(3)
    assert desk.last(desk.ask("ack", alarm)).state == "confirmed"
    assert alarm in desk.rig.alarms(), "latched"
    desk.ask("reset", by="console:ann")
    assert alarm not in desk.rig.alarms()


def test_a_publisher_gone_wrong_does_not_take_the_pod_down(desk: Desk) -> None:
    racks = [rack.name for rack in desk.rig.model.plan.pod.racks]
    desk.ask("isolate", racks[0])
    assert desk.last(desk.ask("isolate", racks[1])).code == "rate"
    for rack in racks[1:3]:
        desk.run(6)
        assert desk.last(desk.ask("isolate", rack)).accepted
    desk.run(6)
    assert desk.last(desk.ask("isolate", racks[3])).code == "interlock"
    desk.run(120)
    assert desk.last(desk.ask("isolate", racks[3])).code == "interlock", "held until a person looks"
    assert "pod_isolation_held" in desk.rig.alarms()
    assert desk.rig.engine.interlocks.racks_tripped() == set(racks[:3])
    again = Engine(desk.rig.model.plan.pod, desk.rig.engine.saved(), desk.rig.model.now)
    assert again.authority.isolation_held
    assert desk.last(desk.ask("isolate", racks[4], by="console:ann")).accepted


def test_a_restart_does_not_begin_the_count_of_isolations_anew(desk: Desk) -> None:
    racks = [rack.name for rack in desk.rig.model.plan.pod.racks]
    epoch_s = 1_780_000_000.0
    for rack in racks[:3]:
        assert desk.last(desk.ask("isolate", rack)).accepted
        desk.run(6)
    desk.rig.engine.wall_offset_s = epoch_s
    saved, now = json.loads(json.dumps(desk.rig.engine.saved())), desk.rig.model.now
    for later_s, code in ((20.0, "interlock"), (90.0, "")):  # by the wall clock, over a monotonic one that begins anew
        offset_s = epoch_s + now + later_s
        again = Authority(desk.rig.model.plan.pod, saved["authority"], 0.0, offset_s)
        scene = Scene(desk.rig.effects[-1].view.image, "NORMAL", "", (), 0.0, desk.rig.engine.interlocks)
        verdict = again.judge([Command("x", "bms", "isolate", racks[3], 5.0)], scene, desk.rig.engine.alarms)
        assert verdict.outcomes[0].code == code


def test_a_leak_that_is_seen_here_needs_no_guard(desk: Desk) -> None:
    for rack in desk.rig.model.plan.pod.racks[:5]:
        desk.rig.model.values |= dict.fromkeys(rack.leak, True)
        desk.step()
        assert desk.last(desk.ask("isolate", rack.name)).accepted


def test_local_control_leaves_isolation_and_takes_the_rest(desk: Desk) -> None:
    sp = desk.ask("set", SP, value=31.0, slot=8)
    desk.ask("lock", by="console:ann", reason="work on pump 1")
    assert (desk.last(sp).state, desk.last(sp).code) == ("superseded", "local_lockout")
    assert desk.last(desk.ask("stop")).code == "local_lockout"
    assert desk.last(desk.ask("isolate", "rack_1")).accepted
    assert desk.rig.effects[-1].view.lock is not None
    desk.ask("unlock", by="console:bob")
    assert desk.last(desk.ask("set", SP, value=31.0, slot=8)).accepted


def test_two_acknowledgements_in_one_scan_are_both_answered(desk: Desk) -> None:
    now = desk.rig.model.now
    desk.step([Command(name, name, "ack", "*", now + 5) for name in ("a", "b")])
    assert desk.states("a") == desk.states("b") == ["accepted", "confirmed"]


def test_poison_of_a_bms_never_leaves_the_range(desk: Desk) -> None:
    """Scenario E5: 5, 60, NaN, 1e9 and 200 messages a second; what is in force stays in range and within its slew."""
    poison = (5.0, 60.0, float("nan"), 1e9, 22.0, 40.0, -1e300, float("inf"))
    slots = desk.rig.engine.authority.slots
    before = slots.value(SP)
    for at in range(300):
        now = desk.rig.model.now
        asked = [Command(f"{at}-{n}", "bms", "set", SP, now + 5, poison[(at + n) % 8], 8) for n in range(40)]
        desk.step(asked)
        value = slots.value(SP)
        dew = desk.rig.effects[-1].view.image.number("pod.dew_point", otherwise=None)
        assert dew is not None
        assert max(22.0, dew + 4.0) <= value <= 40.0
        assert abs(value - before) <= 0.5 / 60 * 0.2 + 1e-9
        before = value
    assert {(outcome.principal, outcome.code) for outcome in desk.told if outcome.state == "rejected"} == {
        ("bms", "out_of_range"), ("bms", "bad_request"),
    }  # fmt: skip


VALUES = st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5))
COMMANDS = st.builds(
    Command,
    id=st.text(max_size=5),
    principal=st.sampled_from(["bms", "optimiser", "dsx", "", "console:ann"]),
    operation=st.sampled_from(OPERATIONS),
    target=st.sampled_from(["", "*", SP, WATER, "rack_1", "rack_2", "pod_epo", "nothing", "hx_valve.position_cmd"]),
    expires=st.one_of(st.floats(), st.just(1e9)),
    value=VALUES,
    slot=st.one_of(st.integers(), st.sampled_from([5, 7, 8, 13])),
    ttl_s=st.floats(),
    reason=st.text(max_size=5),
)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(st.lists(COMMANDS, max_size=8), max_size=8))
def test_whatever_comes_is_answered_and_nothing_raises(batches: list[list[Command]]) -> None:
    model = PodModel(quick_plan())
    engine = Engine(model.plan.pod, {}, model.now, 1e9)
    for batch in batches:
        model.step()
        effects = engine.step(model.now, model.inbox, batch)
        told = {(outcome.principal, outcome.id) for outcome in effects.outcomes}
        assert all((command.principal, command.id) in told for command in batch)
        assert all(outcome.code in CODES for outcome in effects.outcomes)
        held = [lease for array in effects.view.slots.values() for lease in array.leases.items()]
        assert all(slot in (5, 7, 8, 10, 13) for slot, _ in held)
        assert all(lease.principal.startswith("console:") for slot, lease in held if slot == 7)
