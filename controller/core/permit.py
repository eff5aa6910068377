"""How much power IT may draw now: the lowest of all limits, asked of the site's cluster manager, shed where it is deaf.

A permit falls at once and rises slowly: it holds for a while after its cause has gone, then is let go at a steady rate.
The cap is a request. Where the measured power does not follow it, racks are put off, the highest shed tier first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.blocks import Delay
from controller.core.capacity import Cooling, share_pct
from controller.core.points import record

ACTS_S = 1.0  # a permit under the power acts when it lasts so long
IDLE_PCT = 90.0  # of the permit: with less power than that for IDLE_S the permit is no limit
IDLE_S = 10.0
SLACK_PCT = 5.0  # meters and manager are no better than this
METER_LAG_S = 1.0
SHED_PAUSE_S = 5.0  # between two racks that are shed: power has to be seen falling first
RESTORE_S = 30.0  # the permit must have left room for one more rack so long before a shed one comes back
NEVER_SHED_TIER = 0


@record
class Limit:
    """A cap that somebody asks for: on the whole pod, or on one rack. ``cause`` is what people read."""

    cause: str
    kw: float
    rack: str = ""


NO_LIMIT = Limit("", math.inf)


@record
class Load:
    """One rack as the permit sees it; ``power_kw`` is None where it is not known."""

    name: str
    rated_kw: float
    shed_tier: int
    on: bool
    power_kw: float | None


@record
class Grant:
    """What one target (the pod or a rack) may draw: kW, the same as a share of its rating, and why no more."""

    kw: float
    cap_pct: float
    cause: str = ""


@dataclass(slots=True)
class _Target:
    """Permit of one target: falls at once, holds, rises slowly; and whether it acts and is followed."""

    cooling: Cooling
    kw: float = math.inf
    cause: str = ""
    low_at: float = float("-inf")
    at: float = float("-inf")
    acts: Delay = field(default_factory=lambda: Delay(ACTS_S, IDLE_S))
    why: str = ""
    over_since: float | None = None
    over_kw: float = 0.0

    def step(self, limits: Sequence[Limit], rated_kw: float, now: float) -> Grant:
        least = min(limits, key=lambda limit: limit.kw) if limits else NO_LIMIT
        wanted = min(rated_kw, max(0.0, least.kw))
        kw = min(self.kw, rated_kw)
        passed, self.at = max(0.0, now - self.at), now
        if wanted <= kw:
            kw, self.low_at, self.cause = wanted, now, least.cause if wanted < rated_kw else ""
        elif now - self.low_at >= self.cooling.release_hold_s:
            kw = min(wanted, kw + self.cooling.release_pct_per_s / 100 * rated_kw * min(passed, 1.0))
        if kw >= rated_kw:
            self.cause = ""
        self.kw = math.inf if kw >= rated_kw else kw
        return Grant(kw, share_pct(kw, rated_kw), self.cause)

    def limiting(self, grant: Grant, power_kw: float | None, now: float) -> str:
        """Return why the permit holds the power down, or nothing; nothing while the power is unknown."""
        self.why = grant.cause or self.why
        held = bool(grant.cause) and power_kw is not None
        share = IDLE_PCT / 100 if self.acts.state else 1.0
        return self.why if self.acts.step(held and (power_kw or 0.0) > share * grant.kw, now) else ""

    def deaf(self, grant: Grant, rated_kw: float, power_kw: float | None, now: float) -> bool:
        """Return whether IT had time enough to follow and does not."""
        if power_kw is None or not grant.cause or power_kw <= (1 + SLACK_PCT / 100) * grant.kw + self._noise(rated_kw):
            self.over_since = None
            return False
        if self.over_since is None:
            self.over_since, self.over_kw = now, power_kw
        late = now - self.over_since - self.cooling.answer_s - METER_LAG_S
        return late >= 0 and power_kw > self.over_kw - self.cooling.follow_pct_per_s / 100 * rated_kw * late

    def wait(self, now: float) -> None:
        """Give the power time to be seen falling after a rack was shed."""
        self.over_since = now - self.cooling.answer_s - METER_LAG_S + SHED_PAUSE_S

    @staticmethod
    def _noise(rated_kw: float) -> float:
        return SLACK_PCT / 100 * rated_kw / 5


class Permit:
    """The permit of a pod and of each of its racks.

    Attributes:
        pod: what the whole pod may draw now.
        racks: what each rack may draw now; a share of the pod's permit where that is less.
        limiting: why the power of the pod is held down now, or nothing; a cap on one rack leaves the pod as it is.
        shed: racks put off because nobody followed the cap; they come back one by one while the permit leaves room.
        restoring: whether those may come back now.
    """

    def __init__(self, cooling: Cooling, racks: Iterable[str], shed: Iterable[str] = ()) -> None:
        self._cooling = cooling
        self._pod = _Target(cooling)
        self._racks = {name: _Target(cooling) for name in racks}
        self._room = Delay(RESTORE_S)
        self.pod = Grant(0.0, 100.0)
        self.racks: Mapping[str, Grant] = {}
        self.limiting = ""
        self.shed = {name for name in shed if name in self._racks}
        self.restoring = False

    def step(self, limits: Iterable[Limit], loads: Sequence[Load], power_kw: float | None, now: float) -> None:
        """Take the lowest of ``limits``.

        Args:
            power_kw: of all racks, as it was voted; None where it is not known.
        """
        asked: dict[str, list[Limit]] = {}
        for limit in limits:
            asked.setdefault(limit.rack, []).append(limit)
        on = [load for load in loads if load.on]
        rated = sum(load.rated_kw for load in on or loads)
        self.pod = self._pod.step(asked.get("", ()), rated, now)
        self.limiting = self._pod.limiting(self.pod, power_kw, now)
        racks: dict[str, Grant] = {}
        for load in loads:
            target = self._racks[load.name]
            own = target.step(asked.get(load.name, ()), load.rated_kw, now)
            share = Grant(self.pod.cap_pct / 100 * load.rated_kw, self.pod.cap_pct, self.pod.cause)
            racks[load.name] = share if share.kw < own.kw else own
            if target.deaf(own, load.rated_kw, load.power_kw, now) and load.on:
                self.shed.add(load.name)
        self.racks = racks
        self._shed_for_the_pod(on, rated, power_kw, now)
        off = [load.rated_kw for load in loads if load.name in self.shed and not load.on]
        limit_kw = min((limit.kw for limit in asked.get("", ())), default=math.inf)
        room = min(limit_kw, self._pod.kw) >= sum(load.rated_kw for load in on) + max(off, default=0.0)
        free = not any(grant.cause not in ("", self.pod.cause) for grant in racks.values())
        self.restoring = self._room.step(room and free, now) and bool(self.shed)

    def _shed_for_the_pod(self, on: Sequence[Load], rated_kw: float, power_kw: float | None, now: float) -> None:
        if not self._pod.deaf(self.pod, rated_kw, power_kw, now):
            return
        able = [load for load in on if load.shed_tier > NEVER_SHED_TIER and load.name not in self.shed]
        if able:
            self.shed.add(max(able, key=lambda load: (load.shed_tier, load.power_kw or 0.0)).name)
            self._pod.wait(now)
