"""Alarms: delays, hysteresis, the ISA-18.2 states, suppression, restart."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from controller.core.alarms import Alarm, AlarmRow, Alarms, AlarmState
from controller.core.image import Image
from controller.core.points import Reading, Value, bad, good

ROW = AlarmRow(
    "flow_low", "pod.flow", "below", "Flow low", "critical", "Chips throttle.", "Look at the pumps.",
    limit=90.0, hysteresis=5.0, on_delay_s=2.0, off_delay_s=1.0, unless=("bus.lost",),
)  # fmt: skip


def step(alarms: Alarms, now: float, value: Value | None, **others: Value) -> list[Alarm]:
    """Run one scan; return the alarms whose events it told."""
    readings: dict[str, Reading] = {"pod.flow": bad("lost", now) if value is None else good(value, now)}
    readings |= {name.replace("_", ".", 1): good(other, now) for name, other in others.items()}
    return [event.alarm for event in alarms.step(Image(readings, now), now)]


def raised() -> Alarms:
    alarms = Alarms([ROW])
    step(alarms, 0.0, 80.0)
    assert not alarms.standing
    (alarm,) = step(alarms, 2.0, 80.0)
    assert alarm.state is AlarmState.UNACK
    return alarms


def test_a_short_dip_raises_nothing() -> None:
    alarms = Alarms([ROW])
    for now in range(20):
        assert not step(alarms, float(now), 80.0 if now % 2 else 100.0)


def test_acknowledged_alarm_goes_when_its_cause_goes() -> None:
    alarms = raised()
    assert alarms.ack("flow_low", "console:ann", 3.0).ok
    (acked,) = alarms.standing
    assert (acked.state, acked.acked_by) == (AlarmState.ACKED, "console:ann")
    (told,) = step(alarms, 4.0, 96.0)
    assert told == acked
    (gone,) = step(alarms, 5.0, 96.0)
    assert gone.state is AlarmState.NORMAL
    assert not alarms.standing


def test_unacknowledged_alarm_stays_until_somebody_saw_it() -> None:
    alarms = raised()
    step(alarms, 3.0, 96.0)
    (returned,) = step(alarms, 4.0, 96.0)
    assert returned.state is AlarmState.RTN_UNACK
    step(alarms, 5.0, 80.0)
    (again,) = step(alarms, 7.0, 80.0)
    assert (again.state, again.count, again.occurrence) == (AlarmState.UNACK, 2, returned.occurrence)
    step(alarms, 8.0, 96.0)
    step(alarms, 9.0, 96.0)
    assert alarms.ack("*", "console:ann", 10.0).ok
    (gone,) = step(alarms, 10.0, 96.0)
    assert gone.state is AlarmState.NORMAL


def test_hysteresis_holds_an_alarm() -> None:
    alarms = raised()
    for now in range(3, 20):
        assert not step(alarms, float(now), 94.0), "94 is above the limit but inside the hysteresis"


def test_a_value_that_can_not_be_trusted_neither_raises_nor_names_a_number() -> None:
    alarms = Alarms([ROW])
    for now in range(10):
        assert not step(alarms, float(now), None)


def test_suppressed_by_its_cause() -> None:
    alarms = Alarms([ROW])
    for now in range(10):
        step(alarms, float(now), 10.0, bus_lost=True)
        assert not alarms.standing
    assert [alarm.state for alarm in alarms.suppressed] == [AlarmState.SUPPRESSED]


def test_unusable_and_differs() -> None:
    lost = AlarmRow("lost", "pod.flow", "unusable", "Lost", "high", "c", "a")
    differs = AlarmRow("differs", "pod.flow", "differs", "Differs", "high", "c", "a", limit=4.0)
    alarms = Alarms([lost, differs])
    assert {alarm.row.id for alarm in step(alarms, 0.0, None)} == {"lost"}
    step(alarms, 1.0, 5.0)
    step(alarms, 2.5, 5.0)
    states = {alarm.row.id: alarm.state for alarm in alarms.standing}
    assert states == {"lost": AlarmState.RTN_UNACK, "differs": AlarmState.UNACK}


def test_acknowledgement_survives_a_restart() -> None:
    alarms = raised()
    alarms.ack("flow_low", "console:ann", 3.0)
    again = Alarms([ROW])
    again.restore(alarms.saved(), 100.0)
    assert [alarm.state for alarm in again.standing] == [AlarmState.ACKED]
    step(again, 101.0, 99.0)
    step(again, 103.0, 99.0)
    assert not again.standing


def test_an_alarm_that_is_restored_and_never_told_about_again_stays() -> None:
    """An unknown reading is no proof that the cause is gone."""
    switch = AlarmRow("epo", "pod.flow", "on", "EPO", "critical", "c", "a")
    alarms = Alarms([switch])
    step(alarms, 0.0, True)
    alarms.ack("epo", "console:ann", 0.0)
    saved = alarms.saved()
    alarms = Alarms([switch])
    alarms.restore(saved, 0.0)
    for now in range(10):
        step(alarms, float(now), None)
    assert alarms.standing


ROWS = [
    ROW,
    AlarmRow(
        "wet", "io.wet", "on", "Wet", "critical", "c", "a", on_delay_s=1.0, latched=True, realarm_s=20.0, group="leak"
    ),
    AlarmRow("gone", "io.wet", "unusable", "Gone", "low", "c", "a", on_delay_s=3.0, unless=("io.wet",), group="leak"),
]
scan = st.tuples(
    st.sampled_from([70.0, 88.0, 93.0, 100.0, None]),
    st.sampled_from([True, False, None]),
    st.sampled_from(["", "", "", "", "ack", "reset", "shelve", "unshelve"]),
    st.floats(0.1, 4.0),
)


@given(st.lists(st.tuples(scan, st.integers(1, 10)), max_size=25))
@example([((70.0, False, "", 1.0), 9), ((70.0, False, "shelve", 1.0), 20)])  # a shelf that ends while nothing moves
@example([((70.0, True, "", 1.0), 9), ((70.0, True, "ack", 1.0), 40)])  # an acknowledgement that grows old
def test_alarms_at_rest_miss_nothing(spells) -> None:
    """Alarms that are passed by while at rest tell what alarms tell that are all looked at in every scan."""
    resting, tireless, now = Alarms(ROWS), Alarms(ROWS), 0.0
    for (flow, wet, operation, passed), times in spells:
        for alarms in (resting, tireless):
            if operation:
                alarms.operate(
                    operation, "flow_low" if "sh" in operation else "*", "ann", now, reason="r", duration_s=9.0
                )
        for _ in range(times):
            now += passed
            readings = {
                "pod.flow": bad("lost", now) if flow is None else good(flow, now),
                "io.wet": bad("lost", now) if wet is None else good(wet, now),
            }
            tireless._awake = set(range(len(ROWS)))
            assert resting.step(Image(readings, now), now) == tireless.step(Image(readings, now), now)
