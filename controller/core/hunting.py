"""Loops that swing by themselves: an output that turns to and fro while the load stands still."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from controller.core.alarm_states import AlarmRow
from controller.core.points import Reading, good

TURN_PCT = 3.0  # a smaller swing is noise
TURNS = 6
WINDOW_S = 300.0
LOAD_SHARE = 0.1  # of its rating: a load that moves by more moves the loops too, and nothing is told from that


@dataclass(slots=True)
class Turns:
    """Counts how often one output turned round within WINDOW_S."""

    times: deque[float] = field(default_factory=lambda: deque(maxlen=TURNS))
    extreme: float | None = None
    rising: bool = False

    def step(self, output_pct: float, now: float) -> bool:
        """Return whether it hunts."""
        if self.extreme is None:
            self.extreme = output_pct
        ahead = output_pct > self.extreme if self.rising else output_pct < self.extreme
        if ahead:
            self.extreme = output_pct
        elif abs(output_pct - self.extreme) >= TURN_PCT:
            self.extreme, self.rising = output_pct, not self.rising
            self.times.append(now)
        while self.times and now - self.times[0] > WINDOW_S:
            self.times.popleft()
        return len(self.times) == TURNS


@dataclass(slots=True)
class Hunting:
    """Watches the exchanger's valve and the pumps' common speed.

    Attributes:
        rated_kw: of all racks.
    """

    rated_kw: float
    valve: Turns = field(default_factory=Turns)
    pumps: Turns = field(default_factory=Turns)
    load_kw: float | None = None

    def step(
        self, valve_pct: float | None, speed_pct: float | None, it_kw: float | None, now: float
    ) -> dict[str, Reading]:
        """Return the flags of both loops; what is not known does not hunt."""
        moved = it_kw is None or self.load_kw is None or abs(it_kw - self.load_kw) > LOAD_SHARE * self.rated_kw
        if moved:
            self.load_kw, self.valve, self.pumps = it_kw, Turns(), Turns()
        found: dict[str, Reading] = {}
        for name, turns, output in (("valve", self.valve, valve_pct), ("pumps", self.pumps, speed_pct)):
            found[f"pod.{name}_hunting"] = good(output is not None and turns.step(output, now), now)
        return found


def alarm_rows() -> Iterable[AlarmRow]:
    """Return the alarms of both loops."""
    for name, words, part in (("valve", "Heat exchanger valve", "valve"), ("pumps", "TCS pump speed", "drives")):
        yield AlarmRow(
            f"pod_{name}_hunting", f"pod.{name}_hunting", "on", f"{words} hunts", "low",
            f"Temperature and flow swing at a steady load, and the {part} wear out.",
            "Look for a part that sticks, air in the loop or a probe that lags; then for tuning that does not fit.",
        )  # fmt: skip
