"""Whatever happens to alarms in whatever order, with restarts in between: what must hold all the same."""

from __future__ import annotations

import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controller.core.alarm_states import HIDDEN
from controller.core.alarm_watch import SHELVE_MAX_S
from controller.core.alarms import Alarms
from tests.core.alarm_rig import ANN, A, B, E, Plant, row

NAMES = ("plain", "leak", "quiet")


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, with restarts and a wall clock that is right."""

    @initialize()
    def begin(self) -> None:
        self.wall_offset_s = 1e9
        self.plant = Plant(
            row("plain", on_delay_s=2.0, realarm_s=7200.0),
            row("leak", safety=True, latched=True),
            row("quiet", on_delay_s=3.0, unless=("bus.lost",), group="bus"),
        )
        self.acked: set[str] = set()
        self.seen = 0
        self.states = dict.fromkeys(NAMES, A)
        self.plant.step()

    @rule(name=st.sampled_from(NAMES), on=st.booleans())
    def condition(self, name: str, on: bool) -> None:
        self.plant.step(**{f"io__{name}": on})

    @rule(on=st.booleans())
    def cause(self, on: bool) -> None:
        self.plant.step(bus__lost=on)

    @rule(seconds=st.sampled_from([0.2, 1.0, 3.0, 30.0, 700.0, 4000.0]))
    def wait(self, seconds: float) -> None:
        self.plant.step(seconds)

    @rule(which=st.sampled_from([*NAMES, "*"]))
    def ack(self, which: str) -> None:
        shown = {alarm.row.id for alarm in self.plant.alarms.standing if alarm.state is B}
        assert self.plant.alarms.ack(which, ANN, self.plant.now).ok
        self.plant.step()
        self.acked |= shown if which == "*" else shown & {which}

    @rule(name=st.sampled_from(NAMES), seconds=st.sampled_from([1.0, 600.0, SHELVE_MAX_S]), local=st.booleans())
    def shelve(self, name: str, seconds: float, local: bool) -> None:
        answer = self.plant.alarms.shelve(name, ANN, self.plant.now, reason="r", duration_s=seconds, local=local)
        assert answer.code != "" or local or name != "leak"
        self.plant.step()

    @rule(name=st.sampled_from(NAMES))
    def unshelve(self, name: str) -> None:
        self.plant.alarms.unshelve(name, ANN, self.plant.now)
        self.plant.step()

    @rule(name=st.sampled_from(NAMES), out=st.booleans())
    def service(self, name: str, out: bool) -> None:
        if out:
            self.plant.alarms.out_of_service(name, ANN, self.plant.now, reason="order", local=True)
        else:
            self.plant.alarms.return_to_service(name, ANN, self.plant.now)
        self.plant.step()

    @rule()
    def reset(self) -> None:
        self.plant.alarms.reset(ANN, self.plant.now)
        self.plant.step()

    @rule(down_s=st.sampled_from([0.0, 5.0]))
    def restart(self, down_s: float) -> None:
        plant = self.plant
        kept = {name: self.told(name) for name in NAMES}
        saved = json.loads(json.dumps(plant.alarms.saved(self.wall_offset_s)))
        ends = [alarm.until for alarm in plant.alarms.standing if alarm.until is not None]
        plant.alarms = Alarms(plant.rows, 2)
        plant.now += down_s
        shift = 500.0 - plant.now  # the monotonic clock begins anew
        plant.now, self.wall_offset_s = 500.0, self.wall_offset_s - shift
        plant.alarms.restore(saved, plant.now, self.wall_offset_s)
        plant.step()
        if not any(end <= plant.now - shift for end in ends):
            assert {name: self.told(name) for name in NAMES} == kept

    def told(self, name: str) -> tuple[object, ...]:
        alarm = self.plant.alarm(name)
        if alarm is None:
            return ()
        until = None if alarm.until is None else round(alarm.until + self.wall_offset_s)
        came = round(alarm.active_at + self.wall_offset_s) if alarm.occurrence else None
        return (alarm.state, alarm.active, alarm.latched, alarm.boot, alarm.occurrence, alarm.count, alarm.acked_by,
                alarm.by, alarm.reason, until, came, alarm.first_out, alarm.cause)  # fmt: skip

    @invariant()
    def every_event_begins_where_the_last_one_ended(self) -> None:
        for event in self.plant.events[self.seen :]:
            name = event.alarm.row.id
            assert event.before is self.states[name]
            self.states[name] = event.alarm.state
            if event.what == "came" or event.alarm.state in (*HIDDEN, A) or event.alarm.state is B:
                self.acked.discard(name)
        self.seen = len(self.plant.events)
        assert self.states == {name: self.plant.state(name) for name in NAMES}

    @invariant()
    def what_is_there_and_not_acknowledged_asks(self) -> None:
        for name in NAMES:
            alarm = self.plant.alarm(name)
            there = alarm is not None and alarm.active
            if there and alarm and alarm.state not in HIDDEN and name not in self.acked:
                assert alarm.annunciated
                assert alarm.state is B

    @invariant()
    def shelving_ends(self) -> None:
        for alarm in self.plant.alarms.standing:
            if alarm.state is E:
                assert alarm.until is not None
                assert self.plant.now < alarm.until <= self.plant.now + SHELVE_MAX_S

    @invariant()
    def who_hides_is_told(self) -> None:
        for alarm in self.plant.alarms.standing:
            assert (alarm.state in HIDDEN) == bool(alarm.by)
            assert (alarm.state in HIDDEN) == bool(alarm.reason)

    @rule()
    def all_delays_pass(self) -> None:
        """After more than any delay what is active is what is there."""
        for _ in range(3):
            self.plant.step(700.0)
        for name in NAMES:
            alarm = self.plant.alarm(name)
            assert bool(alarm and alarm.active) == bool(self.plant.values[f"io.{name}"])


AnyOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestAnyOrder = AnyOrder.TestCase
