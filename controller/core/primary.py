"""The facility water side: which of its pumps and chillers run, what the chillers are set to, and the rear doors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Literal

from controller.core import assess, loops
from controller.core.commands import number
from controller.core.dewpoint import DoorLoop
from controller.core.duty import Duty
from controller.core.image import Image
from controller.core.pod import Pod
from controller.core.sequences import Demand, RunSequence
from controller.core.slots import Slots
from controller.core.staging import ChillerStaging

DOOR_OPEN_PCT = 100.0
TIMES = ("started_at", "stopped_at")  # of a chiller, which least times count from
Wish = Literal["run", "off", "drain", "hold"]


class Primary:
    """FWS pumps, chillers and doors of one pod.

    Attributes:
        pumps, chillers: their sequences.
        duties: both groups.
    """

    def __init__(self, pod: Pod, hours: Mapping[str, float]) -> None:
        self._pod = pod
        fws = pod.fws
        self.pumps = [RunSequence(name, pod.startup.pump_prove_s) for name in fws.pumps]
        self.chillers = [
            RunSequence(name, pod.startup.primary_prove_max_s, fws.chiller_min_on_s, fws.chiller_min_off_s)
            for name in fws.chillers
        ]
        pumps = Duty(self.pumps, pod.rotation, hours, stagger=True, exercise=True)
        self.duties = (pumps, Duty(self.chillers, pod.rotation, hours, stagger=True, exercise=False))
        self._staging = ChillerStaging(fws)
        self._doors = DoorLoop(pod.room)

    def saved(self, epoch_s: float | None) -> dict[str, Any]:
        """Return when chillers were started and stopped, by the wall clock; nothing while that is not known."""
        times = {c.device: [getattr(c, name) + (epoch_s or 0.0) for name in TIMES] for c in self.chillers}
        known = {name: [math.ceil(at) if math.isfinite(at) else None for at in found] for name, found in times.items()}
        return {} if epoch_s is None else known

    def restore(self, saved: Mapping[str, Any], now: float, epoch_s: float | None) -> None:
        """Go on with the least times that an earlier process began. One that lies ahead of the clock began just now."""
        for chiller in self.chillers if epoch_s is not None else ():
            for name, at in zip(TIMES, saved.get(chiller.device, ()), strict=False):
                if (found := number(at)) is not None:
                    setattr(chiller, name, min(now, found - (epoch_s or 0.0)))

    def proven(self, image: Image) -> bool:
        """Return whether water flows and a chiller runs, where the pod has any of its own."""
        return self.water(image) and (not self.chillers or any(chiller.proven for chiller in self.chillers))

    def water(self, image: Image) -> bool:
        """Return whether a pump runs; of water from outside, whether its meter shows flow."""
        if self.pumps:
            return any(pump.proven for pump in self.pumps)
        limits = self._pod.protection
        return min(image.numbers(limits.fws_flow), default=0.0) > limits.fws_flow_lost_lpm

    def adopt(self) -> None:
        """Take what runs as what is wanted."""
        self._staging.count = max(1, sum(chiller.proven for chiller in self.chillers))

    def step(self, wish: Wish, image: Image, slots: Slots, *, may_stop: bool, may_rotate: bool) -> Iterable[Demand]:
        """Return what to ask of the machines.

        Args:
            wish: ``drain``: no heat is coming, so what runs takes out the rest, and nothing is started for it;
                ``hold``: everything stays as it is.
            may_stop: False soon after a take-over.
        """
        now, on = image.at, wish in ("run", "drain")
        water_sp_c = slots.value("pod.fws_supply_temp_sp")
        water_c = image.number("pod.fws_supply_temp", otherwise=None)
        count = 0
        if self.chillers:
            able_pct = assess.chiller_pct(self._pod, image, water_sp_c if water_c is None else water_c)
            it_kw = image.number("pod.it_power", otherwise=None)
            count = self._staging.step(it_kw, water_c, water_sp_c, able_pct, now)
        wanted = self._wanted(wish, count, now, may_rotate=may_rotate)
        for machine in (*self.pumps, *self.chillers):
            run = machine.device in wanted
            # Without proven water no chiller starts, and none is stopped for it: a stop costs its minimum time off.
            dry = on and machine in self.chillers and not self.water(image)
            left = wish == "hold" or dry or not (run or may_stop)
            yield from machine.step(None if left else run, now)
        if on:
            yield from loops.pump_demands(self.pumps, slots.value("pod.fws_pump_speed_sp"))
            yield from (Demand(f"{c.device}.supply_temp_sp", water_sp_c, "setpoint") for c in self.chillers)
            yield from self._door_demands(image, water_c)

    def _wanted(self, wish: Wish, count: int, now: float, *, may_rotate: bool) -> AbstractSet[str]:
        if wish == "drain":
            return {machine.device for machine in (*self.pumps, *self.chillers) if machine.proven}
        if wish != "run":
            return frozenset()
        pumps, chillers = self.duties
        return pumps.step(1, now, may_rotate=may_rotate) | chillers.step(
            count, now, may_rotate=may_rotate and count == 1
        )

    def _door_demands(self, image: Image, water_c: float | None) -> Iterable[Demand]:
        room = self._pod.room
        air = max(image.numbers(room.temperatures), default=None)
        water = self._doors.step(water_c, air, image.number("pod.dew_point", otherwise=None))
        why = "air is cooled" if water else "coils would sweat"
        return [Demand(f"{door}.position_cmd", DOOR_OPEN_PCT if water else 0.0, why) for door in room.door_valves]
