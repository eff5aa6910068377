"""Loops that swing by themselves: an output that turns to and fro while the load stands still."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from controller.core.image import Image
from controller.core.pod import Pod
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
    rising: bool | None = None

    def step(self, output_pct: float, now: float) -> bool:
        """Return whether it hunts."""
        if self.extreme is None:
            self.extreme = output_pct
        moved = output_pct - self.extreme
        if self.rising is not None and (moved > 0) is self.rising:
            self.extreme = output_pct
        elif abs(moved) >= TURN_PCT:
            if self.rising is not None:
                self.times.append(now)
            self.extreme, self.rising = output_pct, moved > 0
        while self.times and now - self.times[0] > WINDOW_S:
            self.times.popleft()
        return len(self.times) == TURNS


class Hunting:
    """Watches the exchanger's valve and the pumps' common speed of one pod."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._band_kw = LOAD_SHARE * sum(rack.rated_kw for rack in pod.racks)
        self._load_kw: float | None = None
        self._valve, self._pumps = Turns(), Turns()

    def step(self, image: Image) -> dict[str, Reading]:
        """Return the flags of both loops; what is not known does not hunt."""
        it_kw = image.number("pod.it_power", otherwise=None)
        if it_kw is None or self._load_kw is None or abs(it_kw - self._load_kw) > self._band_kw:
            self._load_kw, self._valve, self._pumps = it_kw, Turns(), Turns()
        tcs, at = self._pod.tcs, image.at
        valve = image.number(f"{tcs.valve}.position", otherwise=None)
        speed = max(image.numbers(f"{pump}.speed" for pump in tcs.pumps), default=None)
        return {
            "pod.valve_hunting": good(valve is not None and self._valve.step(valve, at), at),
            "pod.pumps_hunting": good(speed is not None and self._pumps.step(speed, at), at),
        }
