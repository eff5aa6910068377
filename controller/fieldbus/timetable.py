"""A bus's timetable, played through exchange by exchange as its worker would. Pure; times are whole microseconds."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from functools import lru_cache

from controller.fieldbus.units import ONCE_DEADLINE_S
from controller.fieldbus.writes import BACK_S

US = 1_000_000
READ_BACK_US = int(BACK_S * US)
EXCHANGES_MAX = 20_000  # of the timetable played through


def us(seconds: float) -> int:
    """Return a time in microseconds, rounded up."""
    return math.ceil(round(seconds * US, 3))


@dataclass(frozen=True, slots=True)
class Read:
    """A span in the timetable, in microseconds; the silence after it is part of its cost. Once: it has no period."""

    cost: int
    silence: int
    period: int | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """An output in the timetable: written each period, and then its span (by index) is read back."""

    cost: int
    period: int
    span: int | None


@lru_cache(maxsize=256)
def timetable(reads: tuple[Read, ...], refreshes: tuple[Refresh, ...] = ()) -> tuple[int, ...]:
    """Return the worst staleness of each read in microseconds, 0 if unseen: from a request to the end of the next one.

    Plays the worker's discipline through from a start at which everything is due at once, as it is when the service
    starts, for as long as it takes to repeat itself (or ``EXCHANGES_MAX`` exchanges).
    """
    until = _horizon([*(read.period for read in reads if read.period), *(refresh.period for refresh in refreshes)])
    releases = [0] * len(reads)
    turns = [0] * len(reads)  # an entry of a heap with another turn is out of date
    started: list[int | None] = [None] * len(reads)
    worst = [0] * len(reads)
    later = [(0, index, 0) for index in range(len(reads))]
    ready: list[tuple[int, int]] = []
    writes = [(0, index) for index in range(len(refreshes))]

    def release(index: int, at: int) -> None:
        releases[index], turns[index] = at, turns[index] + 1
        heapq.heappush(later, (at, index, turns[index]))

    now, once = 0, us(ONCE_DEADLINE_S)
    while now < until:
        if writes and writes[0][0] <= now:
            at, index = heapq.heappop(writes)
            refresh = refreshes[index]
            heapq.heappush(writes, (at + refresh.period, index))
            now += refresh.cost
            if refresh.span is not None and releases[refresh.span] > now + READ_BACK_US:
                release(refresh.span, now + READ_BACK_US)
            continue
        while later and later[0][0] <= now:
            at, index, turn = heapq.heappop(later)
            if turn == turns[index]:
                heapq.heappush(ready, (at + (reads[index].period or once), index))
        if not ready:
            now = min((queue[0][0] for queue in (later, writes) if queue), default=until)
            continue
        _, index = heapq.heappop(ready)
        read, before = reads[index], started[index]
        started[index] = now
        if read.period:
            release(index, releases[index] + read.period * max(1, (now - releases[index]) // read.period))
        now += read.cost
        if before is not None:
            worst[index] = max(worst[index], now - read.silence - before)
    return tuple(worst)


def _horizon(periods: list[int]) -> int:
    if not periods:
        return 0
    longest = max(periods)
    whole = math.lcm(*periods) + 2 * longest
    return max(3 * longest, min(whole, int(EXCHANGES_MAX / sum(1 / period for period in periods))))
