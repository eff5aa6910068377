"""One device's watch over its bus: armed by the first request, run out after a silence, over with the next request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.core.points import Kind, Value
from hil.devices.watchdogs import NO_WATCH, OUTPUTS_OFF, WATCHES, Reaction, Watch
from hil.record import BUS_LOST

if TYPE_CHECKING:
    from hil.devices.emulator import Emulator


class BusWatch:
    """What a device does by itself while nobody talks to it.

    Attributes:
        rule: the profile's; another may be put in its place. lost: whether it has run out and the reaction is on.
    """

    __slots__ = ("_armed", "_emulator", "_heard_at", "_taken", "lost", "rule")

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self.rule: Watch = WATCHES.get(emulator.plan.profile.name, NO_WATCH)
        self.lost = False
        self._armed = False
        self._heard_at = 0.0
        self._taken: list[str] = []

    @property
    def watches(self) -> bool:
        return self.rule is not NO_WATCH

    def restart(self) -> None:
        """Forget everything: power came on."""
        self._armed, self.lost = False, False
        self._taken = []

    def heard(self) -> None:
        """Note that a request came for the device."""
        if self.rule is not NO_WATCH and not self.rule.beat:
            self._beaten()

    def written(self, name: str) -> None:
        """Note that a master wrote a point."""
        if name == self.rule.beat:
            self._beaten()

    def _beaten(self) -> None:
        self._armed, self._heard_at = True, self._emulator.clock()
        if self.lost:
            self.lost = False
            self._emulator.record.add(BUS_LOST, self._emulator.name, "", False)
            self._resume()

    def tick(self, now: float) -> None:
        """React, if the silence has lasted long enough."""
        if not self._armed or self.lost:
            return
        time_s = self._number(self.rule.time)
        if time_s > 0 and now - self._heard_at >= time_s:
            self.lost = True
            self._emulator.record.add(BUS_LOST, self._emulator.name, "", True)
            function = int(self._number(self.rule.function)) if self.rule.function else 0
            self._react(self.rule.reactions.get(function, {}))

    def _number(self, where: float | str) -> float:
        """Return a number given, or what the point of that name holds: a forced one, as it is forced."""
        if not isinstance(where, str):
            return where
        value = self._emulator.forced.get(where, self._emulator.value(where))
        return float(value) if isinstance(value, int | float) else 0.0

    def _react(self, reaction: Reaction) -> None:
        emulator = self._emulator
        if OUTPUTS_OFF in reaction:
            for name, row in emulator.rows.items():
                if row.access != "r" and name not in (self.rule.time, self.rule.function, "watchdog_restart"):
                    self._take(name, False if row.kind is Kind.FLAG else 0.0)
                    emulator._put(name, False if row.kind is Kind.FLAG else 0.0)
            return
        for name, asked in reaction.items():
            self._take(name, self._number(asked) if isinstance(asked, str) else asked)

    def _take(self, name: str, value: Value) -> None:
        self._taken.append(name)
        self._emulator.behaviour.take(name, value)

    def _resume(self) -> None:
        """Obey again what the registers hold. A trip stays."""
        taken, self._taken = self._taken, []
        for name in taken:
            row = self._emulator.rows.get(name)
            value = self._emulator.value(name) if row is not None and row.access != "r" else None
            if value is not None:
                self._emulator.behaviour.take(name, value)
