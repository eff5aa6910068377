"""What follows from an image: which pumps turn."""

from __future__ import annotations

import pytest

from controller.core.assess import pumps_turning
from controller.core.image import Image
from controller.core.points import good
from controller.core.sequences import RunSequence, RunState

RUNNING, STOPPED = RunState.RUNNING, RunState.STOPPED


def turning(*pumps: tuple[RunState, float | None]) -> tuple[int, float | None]:
    """Return what is seen of pumps in a state, with the speed that each says, or none."""
    machines = [RunSequence(f"pump_{place}", 5.0, state=state) for place, (state, _) in enumerate(pumps)]
    said = {f"pump_{place}.speed": good(speed, 1.0) for place, (_, speed) in enumerate(pumps) if speed is not None}
    return pumps_turning(Image(said, 1.0), machines)


@pytest.mark.parametrize(
    ("pumps", "seen"),
    [
        ([(RUNNING, 60.0), (RUNNING, 70.0), (STOPPED, 0.0)], (2, 65.0)),
        ([(RUNNING, 70.0), (RUNNING, 34.9), (RUNNING, 0.0)], (1, 70.0)),
        ([(RUNNING, 70.0), (RUNNING, 35.0)], (2, 52.5)),
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
