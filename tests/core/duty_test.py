"""Duty and standby of a group of real sequences; staging of chillers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from controller.core.duty import FLAP_S, FLAPS, HOUR_S, Duty, Rotation, saved_hours
from controller.core.image import Image
from controller.core.points import Reading, good
from controller.core.sequences import RunSequence, RunState
from controller.core.staging import ChillerStaging
from tests.core.model import reference_plan

NAMES = ("a", "b", "c")
ROTATION = Rotation(
    swap_h=2.0, overlap_s=5.0, exercise_h=1.0, exercise_s=10.0,
    starts_max=3, starts_window_s=600.0, start_stagger_s=10.0, stop_gap_s=60.0,
)  # fmt: skip


@dataclass
class Group:
    """Machines that do what they are told within a second, but for those that are broken, silent or run on."""

    stagger: bool = False
    exercise: bool = False
    run_s: dict[str, float] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    by_themselves: set[str] = field(default_factory=set)
    told: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(NAMES, False))
    now: float = 0.0
    min_off_s: float = 0.0

    def __post_init__(self) -> None:
        self.machines = [RunSequence(name, 5.0, min_off_s=self.min_off_s) for name in NAMES]
        self.duty = Duty(self.machines, ROTATION, self.run_s, stagger=self.stagger, exercise=self.exercise)

    def step(self, count: int, seconds: float = 1.0, *, rotate: bool = False) -> set[str]:
        """Go on for so long; return who runs."""
        for _ in range(round(seconds)):
            readings: dict[str, Reading] = {}
            for name in NAMES:
                if name not in self.silent:
                    readings[f"{name}.running"] = good(
                        (self.told[name] or name in self.by_themselves) and name not in self.broken, self.now
                    )
                    readings[f"{name}.run_cmd"] = good(self.told[name], self.now)
            image = Image(readings, self.now)
            for machine in self.machines:
                machine.observe(image, self.now)
            wanted = self.duty.step(count, self.now, may_rotate=rotate)
            for machine in self.machines:
                for demand in machine.step(machine.device in wanted, self.now):
                    self.told[machine.device] = bool(demand.value)
            self.now += 1.0
        return {machine.device for machine in self.machines if machine.proven}

    def state(self, name: str) -> RunState:
        return next(machine.state for machine in self.machines if machine.device == name)


def test_the_standby_starts_when_one_on_duty_fails() -> None:
    group = Group()
    assert group.step(2, 5) == {"a", "b"}
    group.broken.add("a")
    assert group.step(2, 5) == {"b", "c"}
    assert group.state("a") is RunState.FAILED


def test_what_runs_is_taken_over_and_not_changed_for_the_order_of_names() -> None:
    group = Group(told={"a": False, "b": True, "c": False})
    assert group.step(1, 60, rotate=True) == {"b"}


@pytest.mark.parametrize("seconds", [1, 2])
def test_one_that_is_not_heard_for_a_moment_goes_on_alone(seconds: int) -> None:
    """A lost frame makes its state old: that is no reason to start another, and less to stop it."""
    group = Group(told={"a": True, "b": False, "c": False})
    assert group.step(1, 60) == {"a"}
    group.silent.add("a")
    group.step(1, seconds)
    group.silent.clear()
    for _ in range(60):
        assert group.step(1) == {"a"}
        assert group.told == {"a": True, "b": False, "c": False}


def test_one_that_is_not_heard_for_long_is_stopped_only_when_its_replacement_runs() -> None:
    group = Group(told={"a": True, "b": False, "c": False})
    assert group.step(1, 60) == {"a"}
    group.silent.add("a")
    group.broken |= {"b", "c"}
    group.step(1, 5)
    group.silent.clear()
    for _ in range(60):
        assert "a" in group.step(1)
        assert group.told["a"]


def test_hours_are_evened_out_with_an_overlap() -> None:
    group = Group(run_s={"a": 3 * HOUR_S, "b": 2 * HOUR_S, "c": 0.0}, told={"a": True, "b": False, "c": False})
    assert group.step(1, 3, rotate=False) == {"a"}
    assert group.step(1, 4, rotate=True) == {"a", "c"}
    assert group.step(1, 20, rotate=True) == {"c"}


def test_run_hours_count_while_running_and_go_through_the_store() -> None:
    group = Group()
    group.step(1, 1802)
    saved = saved_hours([group.duty])
    assert saved == {"a": 0.5, "b": 0.0, "c": 0.0}
    again = Group(run_s={name: hours * HOUR_S for name, hours in saved.items()})
    assert again.duty.run_h()["a"] == 0.5


def test_an_idle_machine_is_exercised_for_a_short_while() -> None:
    group = Group(exercise=True)
    group.step(2, HOUR_S - 60, rotate=True)
    assert group.step(2, 1, rotate=True) == {"a", "b"}
    seen = [group.step(2, 1, rotate=True) for _ in range(120)]
    assert {"a", "b", "c"} in seen
    assert seen.count({"a", "b", "c"}) == pytest.approx(ROTATION.exercise_s, abs=3)
    assert seen[-1] == {"a", "b"}


def test_nothing_is_exercised_while_it_may_not_be() -> None:
    group = Group(exercise=True)
    group.step(2, 2 * HOUR_S)
    assert group.duty.run_h()["c"] == 0.0


def test_too_many_starts_lock_a_machine_out_while_another_is_able() -> None:
    group = Group(run_s={"b": HOUR_S, "c": HOUR_S})
    for _ in range(ROTATION.starts_max):
        assert group.step(1, 5) == {"a"}
        group.step(0, 65)
    assert group.duty.locked_out == {"a"}
    assert group.step(1, 5) == {"b"}
    group.step(1, ROTATION.starts_window_s)
    assert not group.duty.locked_out


def test_a_machine_that_stops_answering_and_answers_again_was_not_started() -> None:
    group = Group()
    group.step(3, 30)
    for _ in range(2 * ROTATION.starts_max):
        group.silent = {"a"}
        group.step(3, 5)
        assert group.state("a") is RunState.UNKNOWN
        assert not group.duty.locked_out
        group.silent = set()
        assert group.step(3, 5) == {"a", "b", "c"}


def flap(group: Group, names: set[str], times: int) -> None:
    """Take power from machines and give it back, so that they start again by themselves."""
    for _ in range(times):
        group.broken = names
        group.step(3, 3)
        group.broken = set()
        group.step(3, 1)


def test_a_machine_whose_feed_flaps_is_left_off_while_another_runs_on() -> None:
    group = Group(by_themselves={"c"})
    group.step(3, FLAP_S + 5)
    flap(group, {"c"}, 1)
    assert group.state("c") is RunState.RUNNING, "once may be a dip"
    flap(group, {"c"}, 1)
    assert group.state("c") is RunState.FAILED
    assert not group.told["c"]
    assert group.step(3, FLAP_S) == {"a", "b"}
    group.machines[2].reset(group.now)
    assert group.step(3, 5) == {"a", "b", "c"}


def test_a_machine_that_returns_seldom_is_taken_each_time() -> None:
    group = Group(by_themselves={"c"})
    group.step(3, FLAP_S + 5)
    for _ in range(FLAPS + 1):
        flap(group, {"c"}, 1)
        assert group.step(3, FLAP_S) == {"a", "b", "c"}


def test_machines_that_dip_together_are_taken_each_time() -> None:
    group = Group(by_themselves=set(NAMES))
    group.step(3, FLAP_S + 5)
    flap(group, set(NAMES), FLAPS + 1)
    assert {group.state(name) for name in NAMES} == {RunState.RUNNING}


def test_a_machine_found_running_was_not_started() -> None:
    group = Group(silent=set(NAMES))
    group.told["a"] = True
    group.step(1, 3)
    group.silent = set()
    for _ in range(ROTATION.starts_max):
        group.step(1, 5)
        group.step(0, 65)
    group.step(0, 1)
    assert not group.duty.locked_out


def test_the_last_able_machine_is_started_however_often_it_was() -> None:
    group = Group(broken={"b", "c"})
    for _ in range(2):
        group.step(3, 10)  # b and c fail their proof
    for _ in range(2 * ROTATION.starts_max):
        group.step(0, 65)
        assert group.step(1, 5) == {"a"}
    group.step(0, 65)
    assert group.duty.locked_out == {"a"}


def test_starts_of_one_group_keep_their_distance() -> None:
    group = Group(stagger=True)
    group.step(3, 4)
    assert sum(group.told.values()) == 1
    group.step(3, 10)
    assert sum(group.told.values()) == 2
    group.step(3, 10)
    assert sum(group.told.values()) == 3


def test_stops_of_one_group_keep_their_distance() -> None:
    group = Group()
    group.step(3, 5)
    assert len(group.step(1, 5)) == 2
    assert len(group.step(1, 40)) == 2
    assert len(group.step(1, 30)) == 1


def test_a_machine_that_must_rest_is_passed_over() -> None:
    group = Group(min_off_s=300.0)
    group.step(2, 5)
    group.step(1, 5)
    resting = next(name for name in ("a", "b") if not group.told[name])
    assert group.step(2, 5) == {"a", "b", "c"} - {resting}


def test_one_that_does_not_answer_is_neither_counted_nor_stopped() -> None:
    group = Group()
    group.step(2, 5)
    group.silent.add("a")
    assert group.step(2, 5) == {"b", "c"}
    assert "a" in group.duty.wanted


def test_only_a_machine_that_is_not_missed_is_spare() -> None:
    group = Group(told=dict.fromkeys(NAMES, True))
    group.step(3, 3)
    assert group.duty.spare == frozenset()
    group.duty.step(2, group.now, may_rotate=False)
    assert group.duty.spare == frozenset(), "nobody has run for long enough to carry what another one gives up"
    group.step(3, 5)
    group.duty.step(2, group.now, may_rotate=False)
    assert len(group.duty.spare) == 1
    group.broken.update(group.duty.wanted)
    group.step(2, 3)
    assert group.duty.spare == frozenset()


# ---------------------------------------------------------------- chillers


def staged(it_kw: float | None, seconds: float, *, staging: ChillerStaging, start: float = 0.0, **seen: float) -> int:
    """Return how many are wanted after so long."""
    count, now = staging.count, start
    while now <= start + seconds:
        count = staging.step(it_kw, seen.get("supply_c", 20.0), 20.0, seen.get("capacity_pct", 100.0), now)
        now += 0.2
    return count


def test_the_second_chiller_comes_ahead_of_the_heat() -> None:
    staging = ChillerStaging(reference_plan().pod.fws)
    assert staged(560.0, 60.0, staging=staging) == 1
    assert staged(570.0, 2.5, staging=staging, start=100.0) == 1
    assert staged(570.0, 1.0, staging=staging, start=102.8) == 2


def test_hot_weather_brings_it_earlier() -> None:
    staging = ChillerStaging(reference_plan().pod.fws)
    assert staged(560.0, 4.0, staging=staging, capacity_pct=90.0) == 2


def test_unknown_power_wants_all() -> None:
    assert staged(None, 4.0, staging=ChillerStaging(reference_plan().pod.fws)) == 2


def test_warm_water_brings_it_late() -> None:
    staging = ChillerStaging(reference_plan().pod.fws)
    assert staged(400.0, 59.0, staging=staging, supply_c=22.0) == 1
    assert staged(400.0, 3.0, staging=staging, start=59.2, supply_c=22.0) == 2


def test_one_goes_early_at_low_load_and_late_at_part_load() -> None:
    low = ChillerStaging(reference_plan().pod.fws, count=2)
    assert staged(104.0, 29.0, staging=low) == 2
    assert staged(104.0, 2.0, staging=low, start=29.2) == 1
    part = ChillerStaging(reference_plan().pod.fws, count=2)
    assert staged(400.0, 1190.0, staging=part) == 2
    assert staged(400.0, 15.0, staging=part, start=1190.2) == 1


def test_one_chiller_always_stays() -> None:
    assert staged(0.0, 2000.0, staging=ChillerStaging(reference_plan().pod.fws)) == 1


def test_a_chiller_that_comes_up_as_its_time_is_over_is_not_told_to_run_right_after_its_stop() -> None:
    machine, told = RunSequence("a", 60.0, min_off_s=600.0), list[bool]()
    for now in range(100):
        image = Image({"a.running": good(62 <= now < 66 or now >= 80, float(now))}, float(now))
        machine.observe(image, float(now))
        told += [bool(demand.value) for demand in machine.step(True, float(now))]
        if now == 79:
            assert machine.state is RunState.FAILED
            assert told[62:] == [False] * 18
    assert machine.state is RunState.RUNNING, "it runs on, stop or no stop: that is capacity"


@pytest.mark.parametrize("proves_at", [5, 400])
def test_a_chiller_that_was_started_runs_for_its_least_time_whoever_wants_it_off(proves_at: int) -> None:
    machine, told = RunSequence("a", 600.0, min_on_s=300.0), dict[int, list[bool]]()
    for now in range(310):
        image = Image({"a.running": good(now >= proves_at, float(now))}, float(now))
        machine.observe(image, float(now))
        told[now] = [bool(demand.value) for demand in machine.step(now < 2, float(now))]
    assert all(told[now] == [True] for now in range(1, 300))
    assert told[300] == [False]


def test_a_chiller_that_was_told_to_stop_is_not_told_to_run_before_it_shows_so() -> None:
    machine, told = RunSequence("a", 60.0, min_off_s=600.0), dict[int, list[bool]]()
    for now in range(700):
        image = Image({"a.running": good(now < 5, float(now)), "a.run_cmd": good(now < 3, float(now))}, float(now))
        machine.observe(image, float(now))
        told[now] = [bool(demand.value) for demand in machine.step(now not in (2, 3), float(now))]
    assert [told[now] for now in (1, 2, 3)] == [[True], [False], [False]]
    assert not any(told[now] for now in range(4, 606)), "it shows as running until 5 s, and has its least time off then"
    assert told[610] == [True]


def test_a_chiller_that_runs_on_after_a_stop_that_did_not_reach_it_is_told_to_run_again() -> None:
    machine = RunSequence("a", 60.0, min_off_s=600.0, state=RunState.RUNNING)
    image = Image({"a.running": good(True, 0.0), "a.run_cmd": good(True, 0.0)}, 0.0)
    machine.observe(image, 0.0)
    assert [demand.value for demand in machine.step(False, 0.0)] == [False]
    assert machine.step(True, 9.5) == []
    assert [demand.value for demand in machine.step(True, 10.0)] == [True]


def test_a_pump_that_runs_again_is_taken_back_at_once() -> None:
    machine = RunSequence("a", 5.0)
    for now, running in enumerate((True, True, False, False, False, True)):
        image = Image({"a.running": good(running, float(now)), "a.run_cmd": good(True, float(now))}, float(now))
        machine.observe(image, float(now))
    assert machine.state is RunState.RUNNING
