"""What a transmitter makes of the truth: lag, bias and noise, the same in every run with the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

NOISE_PERIOD_S = 0.5


@dataclass(slots=True)
class Sensor:
    """One transmitter. ``value`` is what it shows."""

    lag_s: float
    noise: float
    bias: float
    random: random.Random
    filtered: float | None = None
    value: float = 0.0
    until_noise_s: float = 0.0

    def step(self, truth: float, dt: float) -> None:
        if self.filtered is None:
            self.filtered = truth
        self.filtered += (truth - self.filtered) * dt / (self.lag_s + dt)
        self.until_noise_s -= dt
        if self.until_noise_s <= 0:
            self.until_noise_s = NOISE_PERIOD_S
            self.value = self.filtered + self.bias + self.random.gauss(0.0, self.noise)
