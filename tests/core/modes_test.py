"""The transition table is whole, and its rules read from protection down to progress."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core import modes
from controller.core.commands import ALLOWED_MODES, Command, refused
from controller.core.engine import POSTURES
from tests.core.model import reference_plan

TIMES = reference_plan().pod.startup


def leaves() -> set[str]:
    found: set[str] = set()
    for state in modes.STATES:
        if isinstance(state, str):
            found.add(state)
        else:
            found |= {f"{state['name']}.{child}" for child in state["children"]}
    return found


def test_every_mode_has_a_posture_and_every_posture_a_mode() -> None:
    assert set(POSTURES) == leaves()


def test_every_rule_fires_a_transition_of_the_table() -> None:
    table = {(source, trigger) for source, trigger, _ in modes.table()}
    for rule in modes.RULES:
        for mode in rule.modes:
            assert (mode, rule.trigger) in table


def test_every_transition_has_a_rule() -> None:
    fired = {(mode, rule.trigger) for rule in modes.RULES for mode in rule.modes}
    assert {(source, trigger) for source, trigger, _ in modes.table()} == fired


def test_every_mode_can_be_reached_and_left() -> None:
    edges = {(source, dest) for source, _, dest in modes.table()}
    seen, ahead = {modes.OFF}, [modes.OFF]
    while ahead:
        here = ahead.pop()
        for source, dest in edges:
            if source == here and dest not in seen:
                seen.add(dest)
                ahead.append(dest)
    assert seen == leaves()
    assert {source for source, _ in edges} == leaves()


def test_auto_transitions_are_off() -> None:
    assert not hasattr(modes.Modes(0.0), "to_NORMAL")


def test_trip_beats_everything_else_in_the_same_scan() -> None:
    machine = modes.Modes(0.0)
    machine.state = modes.NORMAL
    moved = machine.step(modes.Facts(5.0, trip="flow lost", stop=True, cooling_lost="x"), TIMES, 5.0)
    assert moved is not None
    assert (moved.dest, moved.cause) == (modes.TRIPPED, "flow lost")


@pytest.mark.parametrize("saved", ["", "NORMAL", "STARTUP.proving", "nonsense", modes.COOLING_LOST])
def test_a_restart_begins_in_off_unless_the_mode_must_not_end_by_itself(saved: str) -> None:
    assert modes.Modes(0.0, saved).state == modes.OFF


@pytest.mark.parametrize("saved", modes.KEPT)
def test_modes_that_survive_a_restart(saved: str) -> None:
    assert modes.Modes(0.0, saved).state == saved


def command(operation: str, target: str = "", expires: float = 10.0) -> Command:
    return Command("1", "console:ann", operation, target, expires)  # type: ignore[arg-type]


def test_commands_are_refused_by_mode_time_and_place() -> None:
    def code(asked: Command, mode: str, now: float = 0.0, locked_by: str = "") -> str:
        found = refused(asked, mode, now, locked_by)
        return found.code if found else ""

    assert not code(command("start"), "OFF")
    assert code(command("start"), "NORMAL") == "not_in_mode"
    assert code(command("start"), "OFF", 11.0) == "expired"
    assert code(command("start", expires=float("nan")), "OFF") == "expired"
    assert not code(command("reset"), modes.TRIPPED)
    remote = replace(command("reset"), principal="bms")
    assert code(remote, modes.TRIPPED) == "forbidden"
    assert code(replace(remote, operation="start"), "OFF", locked_by="console:ann") == "local_lockout"
    assert not code(replace(remote, operation="isolate"), "OFF", locked_by="console:ann")
    assert not code(command("start"), "OFF", locked_by="console:bob")


def test_allowed_modes_are_modes() -> None:
    for allowed in ALLOWED_MODES.values():
        assert all(any(leaf.startswith(mode) for leaf in leaves()) for mode in allowed)
