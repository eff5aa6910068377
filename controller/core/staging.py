"""How many chillers are to run: ahead of the heat, not behind the temperature; never two that would cut out together.

A chiller's own thermostat stops it when the water gets colder than its least load can keep; then it is locked out for
its least time off. Two that share too little heat do so at the same moment, and the next job finds none. So the second
goes off by order, and early, while the first one stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from controller.core.blocks import Delay
from controller.core.loops import Fws

LEAST_LOADS_EACH = 1.2  # heat for each running chiller, in its own least load, with which none of them cuts out


@dataclass(slots=True)
class ChillerStaging:
    """One chiller always; the next ahead of the heat, or when the water stays warm; one less slowly, or at low load."""

    fws: Fws
    ahead: Delay = field(init=False)
    warm: Delay = field(init=False)
    spare: Delay = field(init=False)
    low: Delay = field(init=False)
    count: int = 1

    def __post_init__(self) -> None:
        self._anew()

    def _anew(self) -> None:
        fws = self.fws
        self.ahead, self.warm = Delay(fws.stage_up_s), Delay(fws.stage_up_temp_s)
        self.spare, self.low = Delay(fws.stage_down_s), Delay(fws.stage_low_s)

    def step(
        self, it_kw: float | None, supply_c: float | None, setpoint_c: float, capacity_pct: float, now: float
    ) -> int:
        """Return how many are wanted.

        Args:
            it_kw: IT power; all are wanted while it is not known.
            supply_c: facility water.
            capacity_pct: of its rating that a chiller can give in this weather.
        """
        fws = self.fws
        each = fws.chiller_capacity_kw * capacity_pct / 100
        heat = None if it_kw is None else it_kw + fws.stage_extra_kw
        high = heat is None or heat > fws.stage_up_pct / 100 * self.count * each
        ahead = self.ahead.step(high, now)
        warm = self.warm.step(supply_c is not None and supply_c > setpoint_c + fws.stage_up_temp_k, now)
        few = heat is not None and self.count > 1
        spare = self.spare.step(few and (heat or 0.0) < fws.stage_down_pct / 100 * (self.count - 1) * each, now)
        low = self.low.step(few and (heat or 0.0) < self.count * LEAST_LOADS_EACH * fws.chiller_least_kw, now)
        if (ahead or (warm and not low)) and self.count < len(fws.chillers):
            self.count += 1
            self._anew()
        elif spare or low:
            self.count -= 1
            self._anew()
        return self.count
