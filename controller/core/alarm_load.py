"""What alarms do to the person who reads them: chattering, floods, first-out, and the figures of ISA-18.2 clause 16."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Priority = Literal["critical", "high", "medium", "low"]
PRIORITIES: tuple[Priority, ...] = ("critical", "high", "medium", "low")

CHATTER_ACTIVATIONS = 3  # so many within CHATTER_WINDOW_S are chattering
CHATTER_WINDOW_S = 60.0
CHATTER_STRETCH = 4.0  # by how much the off-delay grows each time
CHATTER_OFF_DELAY_MAX_S = 600.0
CHATTER_QUIET_S = 600.0  # without an activation for so long it has ended
FLOOD_WINDOW_S = 600.0
FLOOD_STARTS = 10  # new alarms within the window
FLOOD_ENDS = 5  # fewer than so many
FIRST_OUT_WINDOW_S = 5.0
STALE_S = 24 * 3600.0
BUCKET_S = 600.0
BUCKETS_MAX = 144  # of ten minutes: one day
NEW_MAX = 1000  # new alarms that one flood window remembers


@dataclass(slots=True)
class Chatter:
    """Tells whether one alarm comes too often, and how long it must then be gone to count as gone.

    Args:
        off_delay_s: off-delay of the alarm while it does not chatter.
    """

    off_delay_s: float
    flagged: bool = False
    stretched_s: float = 0.0
    times: deque[float] = field(default_factory=lambda: deque(maxlen=CHATTER_ACTIVATIONS))

    def activated(self, now: float) -> bool:
        """Take in one activation; return whether it begins chattering, or goes on with it in spite of the stretch."""
        self.times.append(now)
        if len(self.times) < CHATTER_ACTIVATIONS or now - self.times[0] > CHATTER_WINDOW_S:
            return False
        before = self.stretched_s if self.flagged else max(self.off_delay_s, 1.0)
        self.flagged = True
        self.stretched_s = max(self.off_delay_s, min(CHATTER_STRETCH * before, CHATTER_OFF_DELAY_MAX_S))
        self.times.clear()
        self.times.append(now)
        return True

    def quiet(self, now: float) -> bool:
        """Return whether chattering has ended with this scan."""
        if not self.flagged or now - self.times[-1] < CHATTER_QUIET_S:
            return False
        self.flagged = False
        self.times.clear()
        return True

    @property
    def off_s(self) -> float:
        return self.stretched_s if self.flagged else self.off_delay_s


@dataclass(slots=True)
class FirstOut:
    """Which alarm of a group came first. One for each group.

    An alarm belongs to the incident if its condition began no later than FIRST_OUT_WINDOW_S after the newest member
    came: a slow alarm with a long delay still finds its cause.
    """

    first: str = ""
    newest_at: float = float("-inf")

    def joined(self, name: str, began: float, now: float) -> str:
        """Return the first alarm of the incident that ``name`` belongs to; ``name`` itself when it is the first."""
        if not self.first or began > self.newest_at + FIRST_OUT_WINDOW_S:
            self.first = name
        self.newest_at = now
        return self.first


@dataclass(slots=True)
class _Bucket:
    """What ten minutes held."""

    began: float
    new: dict[Priority, int] = field(default_factory=lambda: dict.fromkeys(PRIORITIES, 0))
    flood_s: float = 0.0


@dataclass(slots=True)
class Load:
    """New alarms over time: floods, rates and shares, over one day at most."""

    flood: bool = False
    _new: deque[float] = field(default_factory=lambda: deque(maxlen=NEW_MAX))
    _buckets: deque[_Bucket] = field(default_factory=lambda: deque(maxlen=BUCKETS_MAX))
    _at: float | None = None

    def came(self, priority: Priority, now: float) -> None:
        """Count one alarm that was annunciated."""
        self._new.append(now)
        self._bucket(now).new[priority] += 1

    def step(self, now: float) -> bool:
        """Let time pass; return whether there is a flood."""
        bucket = self._bucket(now)
        if self.flood and self._at is not None:
            bucket.flood_s = min(BUCKET_S, bucket.flood_s + max(0.0, now - self._at))
        self._at = now
        while self._new and now - self._new[0] >= FLOOD_WINDOW_S:
            self._new.popleft()
        self.flood = len(self._new) >= (FLOOD_ENDS if self.flood else FLOOD_STARTS)
        return self.flood

    def figures(self, now: float) -> dict[str, float]:
        """Return new alarms in ten minutes (now, mean, most), share of time in flood in %, share of each priority in %.

        Mean, most and shares are over the last day, or since the start where that is less.
        """
        per_bucket = [sum(bucket.new.values()) for bucket in self._buckets]
        total = sum(per_bucket)
        watched_s = max(now - self._buckets[0].began, 1.0) if self._buckets else 1.0
        flood_s = sum(bucket.flood_s for bucket in self._buckets)
        figures = {
            "rate": float(len(self._new)),
            "rate_mean": total / max(watched_s / BUCKET_S, 1.0),
            "rate_peak": float(max(per_bucket, default=0)),
            "flood_share": min(100.0, 100 * flood_s / watched_s),
        }
        for priority in PRIORITIES:
            came = sum(bucket.new[priority] for bucket in self._buckets)
            figures[f"{priority}_share"] = 100 * came / total if total else 0.0
        return figures

    def _bucket(self, now: float) -> _Bucket:
        began = now - now % BUCKET_S
        if not self._buckets or self._buckets[-1].began < began:
            self._buckets.append(_Bucket(began if self._buckets else now))
        return self._buckets[-1]


def groups(names: Iterable[str]) -> Mapping[str, FirstOut]:
    return {name: FirstOut() for name in names if name}


def stale(active_since: Sequence[float], now: float) -> int:
    """Return how many alarms have stood for longer than STALE_S."""
    return sum(now - since > STALE_S for since in active_since)
