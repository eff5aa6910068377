"""Actuators verified by effect: does a valve come to where it is sent, and does heat go where the valve says it goes.

Temperatures in degrees Celsius, flows in L/min, heat in kW, positions in %.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from controller.core.blocks import Delay, clamp
from controller.core.exchanger import Exchanger, coolant_kw, share_pct

AWAY_PCT = 8.0  # from its command: more than dead band, noise and the poll period explain
PROGRESS_PCT = 2.0  # a valve that moves by so much in STILL_S is slow, not stuck
STILL_S = 5.0
SUSPECT_K = 1.5  # supply against model, and supply against setpoint: the valve does not do what it says
SUSPECT_S, CLEAR_S = 6.0, 5.0
LEARN_S = 300.0  # how slowly the model takes up its own error, so that no fault is learnt as one
LEARN_MAX_K = 3.0
FLOW_LEAST_LPM = 50.0  # under this the exchanger's model says nothing


@dataclass(slots=True)
class Stroke:
    """True while a valve stands away from its command and makes no way towards it."""

    anchor_pct: float = 0.0
    since: float | None = None
    stuck: bool = False

    def step(self, command_pct: float | None, position_pct: float | None, now: float) -> bool:
        """Return whether the valve is stuck; what is not known changes nothing."""
        if command_pct is None or position_pct is None:
            return self.stuck
        if abs(command_pct - position_pct) <= AWAY_PCT:
            self.since, self.stuck = None, False
            return False
        towards = 1.0 if command_pct > self.anchor_pct else -1.0
        if self.since is None or towards * (position_pct - self.anchor_pct) >= PROGRESS_PCT:
            self.since, self.anchor_pct, self.stuck = now, position_pct, False
        elif now - self.since >= STILL_S:
            self.stuck = True
        return self.stuck


class Heat(NamedTuple):
    """What the balance of the exchanger is made of."""

    supply_c: float
    return_c: float
    water_c: float
    flow_lpm: float
    position_pct: float


@dataclass(slots=True)
class SupplyModel:
    """What the supply temperature must be by return temperature, flow, facility water and the valve's feedback.

    Its own steady error is learnt slowly while it agrees with the supply.
    """

    exchanger: Exchanger
    rangeability: float
    offset_k: float = 0.0
    learnt_s: float = 0.0
    at: float = 0.0

    def expected_c(self, heat: Heat) -> float:
        """Return the supply temperature that the valve's feedback stands for."""
        share = share_pct(heat.position_pct, self.rangeability) / 100
        taken = self.exchanger.heat_kw(heat.flow_lpm, heat.return_c, share, heat.water_c)
        return heat.return_c - taken / coolant_kw(heat.flow_lpm, 1.0, self.exchanger.coolant_kj) + self.offset_k

    def learn(self, heat: Heat, now: float) -> None:
        """Take up a part of the present error, unless it is too large to be the model's own."""
        error = heat.supply_c - self.expected_c(heat)
        passed, self.at = clamp(now - self.at, 0.0, 1.0), now
        if abs(error) > SUSPECT_K / 2 and self.learnt_s > SUSPECT_S:
            return
        self.learnt_s = min(LEARN_S, self.learnt_s + passed)
        part = passed / max(self.learnt_s, passed, 1.0)
        self.offset_k = clamp(self.offset_k + part * error, -LEARN_MAX_K, LEARN_MAX_K)


@dataclass(slots=True)
class ValveWatch:
    """Watches the exchanger's valve by its feedback and by the heat it lets through.

    One that does not answer is taken to stand where it was seen last, since nobody can move it.

    Attributes:
        no_effect: the supply is warmer than it should be, and warmer than the valve's feedback would make it: the stem
            is stuck, facility water does not flow, or the exchanger is fouled.
    """

    model: SupplyModel
    stroke: Stroke = field(default_factory=Stroke)
    suspect: Delay = field(default_factory=lambda: Delay(SUSPECT_S, CLEAR_S))
    silent: Delay = field(default_factory=lambda: Delay(STILL_S))
    seen_pct: float | None = None

    @property
    def no_effect(self) -> bool:
        return self.suspect.state

    def step(
        self, command_pct: float | None, position_pct: float | None, heat: Heat | None, setpoint_c: float, now: float
    ) -> float | None:
        """Return the share (0 to 1) of the water that a valve passes which can't be moved; None while it can.

        Args:
            heat: None while something of it is not known, or too little flows.
        """
        stuck = self.stroke.step(command_pct, position_pct, now)
        if heat is not None:
            error, apart = heat.supply_c - setpoint_c, heat.supply_c - self.model.expected_c(heat)
            self.suspect.step(apart > SUSPECT_K / 2 if self.no_effect else min(error, apart) > SUSPECT_K, now)
            if self.no_effect:
                return self._measured(heat)
            if not stuck:
                self.model.learn(heat, now)
        silent = self.silent.step(position_pct is None, now)
        self.seen_pct = self.seen_pct if position_pct is None else position_pct
        if not (stuck or silent) or self.seen_pct is None:
            return None
        told = share_pct(self.seen_pct, self.model.rangeability) / 100
        return told if heat is None else max(told, self._measured(heat))

    def _measured(self, heat: Heat) -> float:
        """Return the share that the heat which really leaves stands for."""
        exchanger = self.model.exchanger
        taken = coolant_kw(heat.flow_lpm, heat.return_c - heat.supply_c, exchanger.coolant_kj)
        return exchanger.share_for(taken, heat.flow_lpm, heat.return_c, heat.water_c)
