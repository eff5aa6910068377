"""What follows from an image: which pumps turn, which of them may stop, when the heat is out."""

from __future__ import annotations

import pytest

from controller.core.assess import carried, cooled, pumps_turning
from controller.core.image import Image
from controller.core.points import good
from controller.core.sequences import RunSequence, RunState
from tests.core.model import quick_plan

RUNNING, STOPPED = RunState.RUNNING, RunState.STOPPED


def turning(*pumps: tuple[RunState, float | None], leaves: str = "") -> tuple[int, float | None]:
    """Return what is seen of pumps in a state, with the speed that each says, or none; one may be to stop."""
    machines = [RunSequence(f"pump_{place}", 5.0, state=state) for place, (state, _) in enumerate(pumps)]
    said = {f"pump_{place}.speed": good(speed, 1.0) for place, (_, speed) in enumerate(pumps) if speed is not None}
    return pumps_turning(Image(said, 1.0), machines, {machine.device for machine in machines} - {leaves})


@pytest.mark.parametrize(
    ("pumps", "seen"),
    [
        ([(RUNNING, 60.0), (RUNNING, 70.0), (STOPPED, 0.0)], (2, 65.0)),
        ([(RUNNING, 70.0), (RUNNING, 55.9), (RUNNING, 0.0)], (1, 70.0)),
        ([(RUNNING, 70.0), (RUNNING, 56.0)], (2, 63.0)),
        ([(RUNNING, 0.0), (RUNNING, 0.0)], (2, 0.0)),
        ([(RUNNING, 70.0), (RUNNING, None)], (2, 70.0)),
        ([(RUNNING, None)], (1, None)),
        ([], (0, None)),
    ],
    ids=["both", "two run up", "just there", "all from rest", "one not known", "none known", "none"],
)
def test_a_pump_that_runs_up_moves_nothing_yet(
    pumps: list[tuple[RunState, float | None]], seen: tuple[int, float | None]
) -> None:
    assert turning(*pumps) == seen


def test_a_pump_that_leaves_is_not_counted_and_the_flow_tells_nothing_while_it_runs() -> None:
    assert turning((RUNNING, 70.0), (RUNNING, 70.0), (RUNNING, 70.0), leaves="pump_2") == (2, None)
    assert turning((RUNNING, 70.0), (RUNNING, 70.0), (STOPPED, 0.0), leaves="pump_2") == (2, 70.0)


def rest(*speeds: float | None) -> bool:
    """Return whether the first pump may leave the loop to the others, which all run."""
    machines = [RunSequence(f"pump_{place}", 5.0, state=RUNNING) for place in range(len(speeds))]
    said = {f"pump_{place}.speed": good(speed, 1.0) for place, speed in enumerate(speeds) if speed is not None}
    return carried(Image(said, 1.0), machines[0], machines[1:])


def test_a_pump_that_is_far_faster_than_the_others_carries_all() -> None:
    assert not rest(100.0, 30.0, 79.9)
    assert rest(100.0, 30.0, 80.0)
    assert rest(60.0, 60.0)
    assert rest(100.0, None), "one that tells no speed is not doubted"
    assert rest(None, 30.0)
    assert not rest(60.0), "nobody is left"


def test_a_loop_that_stands_still_is_not_waited_for_to_get_cooler() -> None:
    pod = quick_plan().pod
    outlets = {outlet: good(False, 1.0) for rack in pod.racks for outlet in rack.outlets}
    warm = outlets | {"pod.supply_temp": good(27.0, 1.0), "pod.return_temp": good(31.0, 1.0)}
    late = pod.startup.cooldown_min_s + 1.0
    assert cooled(pod, Image(warm | {"pod.pumps_running": good(0.0, 1.0)}, 1.0), late, late)
    assert not cooled(pod, Image(warm | {"pod.pumps_running": good(1.0, 1.0)}, 1.0), late, late)
    assert not cooled(pod, Image(warm | {"pod.pumps_running": good(0.0, 1.0)}, 1.0), late, late - 2.0)
