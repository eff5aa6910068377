"""The loop that everybody has, to measure ours against: one PI from supply temperature to valve, pumps at one speed.

It is not part of the controller. It works on the plant itself: it reads the same transmitters once a second, and its
commands arrive at once, without a bus between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from controller.core.blocks import Delay, Pi
from hil.plant import slots as at
from hil.plant.plant import Plant

GAIN_PER_K, INTEGRAL_S = 0.035, 12.0  # SIMC tuning (Skogestad) of an integrating process with 3 s of dead time
SPEED = 0.7825  # at which three pumps keep the pressure of the design flow
PERIOD_S = 1.0
STAGE_UP_KW, STAGE_UP_S = 0.9 * 650.0 - 20.0, 3.0  # IT power at which the second chiller is started
SUPPLY_PROBES = ("supply_temp_1", "supply_temp_2", "supply_temp_3")


def twin(plant: Plant) -> Plant:
    """Return another plant in the very same state, with the same luck."""
    other = Plant(plant.layout)
    for mine, its in ((other.x, plant.x), (other.streams, plant.streams), (other.history, plant.history)):
        mine[:] = its
    return other


@dataclass(slots=True)
class PlainPi:
    """Controls a plant that runs; begins where the valve stands."""

    plant: Plant
    supply_sp_c: float
    pi: Pi = field(default_factory=lambda: Pi(GAIN_PER_K, INTEGRAL_S, 0.0, 1.0))
    staging: Delay = field(default_factory=lambda: Delay(STAGE_UP_S))
    due_s: float = 0.0

    def __post_init__(self) -> None:
        self.due_s = float(self.plant.now)
        self.pi.preset(self.plant.valve.position, self._error_k(), self.plant.now)
        for pump in self.plant.tcs_pumps:
            pump.command = SPEED

    def _error_k(self) -> float:
        return float(median(self.plant.sensors[name].value for name in SUPPLY_PROBES)) - self.supply_sp_c

    def step(self, dt: float) -> None:
        """Let ``dt`` seconds pass, a step of the plant or several."""
        plant, now = self.plant, float(self.plant.now)
        if now >= self.due_s - 1e-6:
            self.due_s += PERIOD_S
            plant.valve.command = self.pi.step(self._error_k(), now)
            if self.staging.step(plant.it_kw > STAGE_UP_KW * float(plant.x[at.SCALE]), now):
                for chiller in plant.facility.chillers:
                    chiller.run = True
        plant.advance(dt)
