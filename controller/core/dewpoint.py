"""Keeping cold surfaces dry: the dew point as it will be, and the rear doors' water while their coils would sweat."""

from __future__ import annotations

from dataclasses import dataclass

from controller.core.blocks import deadband
from controller.core.loops import Room

RATE_LAG_S = 30.0  # over which the rise of the dew point is taken; humidity probes are no faster
NOISE_K = 0.15  # of a probe's own noise, which is no rise
COIL_SHARE = 0.25  # a coil's surface stands so far from the water towards the air


@dataclass(slots=True)
class DewLead:
    """By how much to stay ahead of a dew point that rises."""

    lead_s: float
    lagged_c: float | None = None
    at: float = 0.0

    def step(self, dew_c: float | None, now: float) -> float:
        """Return in K what the dew point rises in ``lead_s`` at its present rate; 0 while it falls or is not known."""
        if dew_c is None:
            self.lagged_c = None
            return 0.0
        if self.lagged_c is None:
            self.lagged_c, self.at = dew_c, now
        passed, self.at = max(0.0, now - self.at), now
        self.lagged_c += (dew_c - self.lagged_c) * passed / (RATE_LAG_S + passed)
        return self.lead_s / RATE_LAG_S * max(0.0, deadband(dew_c - self.lagged_c, NOISE_K))


@dataclass(slots=True)
class DoorLoop:
    """Whether the rear doors have water. Shut while their coils would sweat, but never at the cost of hot air."""

    room: Room
    shut: bool = False

    def step(self, water_c: float | None, air_c: float | None, dew_c: float | None) -> bool:
        """Return True for water on. What is not known speaks for cooling."""
        room = self.room
        if water_c is None or air_c is None or dew_c is None:
            self.shut = False
        else:
            margin = water_c + COIL_SHARE * (air_c - water_c) - dew_c
            if self.shut:
                self.shut = margin <= room.door_open_margin_k and air_c <= room.door_open_air_c
            else:
                self.shut = margin < room.door_shut_margin_k and air_c < room.door_shut_air_c
        return not self.shut
