"""What a part of the controller with a bug might ask for: the gate has to refuse all of it, at any time.

A run stays as it is with it: every demand here is one that must come to nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from controller.core.engine import Engine
from controller.core.image import Image
from controller.core.pod import outputs
from controller.core.points import Kind, Value
from controller.core.sequences import Demand, RunState

REASON = "a bug"
SHARE = 0.05  # of scans
NUMBERS: tuple[Value, ...] = (math.nan, math.inf, -math.inf, True, "x")  # nothing a number's output may take
FLAGS: tuple[Value, ...] = (0.0, 1.0, math.nan, "x")


def nonsense(engine: Engine, image: Image, chance: random.Random) -> Iterator[Demand]:
    """Yield what this scan's bug asks, if it has one. What has been asked rightly has to have been asked before."""
    if chance.random() >= SHARE:
        return
    wrong = [*_unlisted(engine), *_ill_typed(engine, chance), *_stops(engine, image), *_of_tripped_racks(engine)]
    point, value = chance.choice(wrong)
    yield Demand(point, value, REASON)


def _unlisted(engine: Engine) -> Iterator[tuple[str, Value]]:
    yield "nobody.run_cmd", True
    for machine in engine.machines:
        yield f"{machine.device}.running", False


def _ill_typed(engine: Engine, chance: random.Random) -> Iterator[tuple[str, Value]]:
    for output in outputs(engine.pod):
        flag = engine.points[output.point].kind is Kind.FLAG
        yield output.point, chance.choice(FLAGS if flag else NUMBERS)


def _stops(engine: Engine, image: Image) -> Iterator[tuple[str, Value]]:
    """Yield the stop of every pump, and of every rack's water, that racks which are on depend on."""
    live = [rack for rack in engine.pod.racks if rack.energised(image)]
    for pump in engine.pumps if live else ():
        if pump.state is not RunState.FAILED and pump.device not in engine.tcs_duty.spare:
            yield pump.run_cmd_id, False
    yield from ((rack.valve_cmd_id, 0.0) for rack in live if rack.valve)


def _of_tripped_racks(engine: Engine) -> Iterator[tuple[str, Value]]:
    tripped = engine.interlocks.racks_tripped()
    yield from ((outlet, True) for rack in engine.pod.racks if rack.name in tripped for outlet in rack.outlets)
