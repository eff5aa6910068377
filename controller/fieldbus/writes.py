"""Writes on their way to the devices of one bus: who goes first, what has become too old, what became of each. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from controller.config.plan import PointPlan
from controller.core.interlocks import Write

WRITES_MAX = 256
LIFE_S = 3.0  # a write that could not be made for so long is not made any more; the gate asks again while it is wanted
RETRY_S = 0.1  # after a write that nobody answered
BACK_S = 0.3  # how soon after a write its register is read again, and again while it does not agree
VERIFY_S = 3.0  # a register that differs for so long from what was written will not agree any more


class Fate(Enum):
    """What became of a write."""

    ACCEPTED = "accepted"  # waits, or is under way
    WRITTEN = "written"  # the device has confirmed it
    VERIFIED = "verified"  # and its register holds it
    MISMATCH = "mismatch"  # its register holds something else
    REFUSED = "refused"  # the device, or the register's type, does not take it
    EXPIRED = "expired"  # it could not be made in time


@dataclass(slots=True)
class Order:
    """One write and how far it has come.

    Attributes:
        plan: its point.
        at: monotonic seconds at which it was accepted, and of the newest change of its fate.
        steps: words still to be written, one list for each write in turn; None until it is begun.
        words: what its register holds in the end.
        not_before: when its next word may go.
        doubted_since: since when its register has been written without ever agreeing; None when nothing is in doubt.
        fault: the device refused this write or one before it, or did not take it, and has taken none since.
    """

    write: Write
    plan: PointPlan
    at: float
    expires: float
    fate: Fate = Fate.ACCEPTED
    why: str = ""
    steps: list[list[int]] | None = None
    words: Sequence[int] = ()
    not_before: float = 0.0
    doubted_since: float | None = None
    fault: bool = False

    def holds(self, words: Sequence[int]) -> bool:
        """Return whether a register that holds ``words`` holds what was written, as far as it belongs to the point."""
        mask = self.plan.row.mask
        return all(one & mask == other & mask for one, other in zip(self.words, words, strict=False))


class Writes:
    """The writes of one bus. The newest for a point replaces an older one, in the queue and under way.

    Attributes:
        counters: how many writes came to each end.
    """

    def __init__(self, plans: Mapping[str, PointPlan]) -> None:
        self.counters: Counter[Fate] = Counter()
        self._plans = plans
        self._orders: dict[str, Order] = {}  # the newest of each point, whatever became of it
        self._open: dict[str, Order] = {}  # those that still have words to write
        self._doubted: dict[str, Order] = {}  # those whose register is still to be seen

    def accept(self, write: Write, now: float) -> bool:
        """Queue a write; return False when there are too many."""
        open_, before = self._open.get(write.point), self._orders.get(write.point)
        if open_ is not None and open_.steps is not None and open_.write.value == write.value:
            return True  # its sequence is under way
        if open_ is None and len(self._open) >= WRITES_MAX:
            return False
        order = Order(write, self._plans[write.point], now, now + LIFE_S)
        if before is not None:
            order.doubted_since, order.fault = before.doubted_since, before.fault
        self._orders[write.point] = self._open[write.point] = order
        self._doubted.pop(write.point, None)
        return True

    def expire(self, now: float) -> list[Order]:
        """Give up the writes that have become too old, and return them; a sequence under way is gone through with."""
        if not self._open:
            return []
        late = [order for order in self._open.values() if now > order.expires and order.steps is None]
        for order in late:
            self._end(order, Fate.EXPIRED, order.why or f"not made within {LIFE_S:g} s", now)
        return late

    def next(self, now: float) -> Order | None:
        """Return the write to make now: safety first, then the oldest."""
        if not self._open:
            return None
        ready = (order for order in self._open.values() if order.not_before <= now)
        return min(ready, key=lambda order: (not order.write.safety, order.at), default=None)

    def next_at(self, otherwise: float) -> float:
        """Return when the next write may be made."""
        return min((order.not_before for order in self._open.values()), default=otherwise)

    def put_off(self, order: Order, why: str, until: float) -> None:
        """Nobody answered, or the unit is silent: try again, from the first word of its sequence."""
        order.steps, order.not_before, order.why = None, until, why

    def stepped(self, order: Order, rest: list[list[int]], at: float) -> None:
        """A word of a sequence is written; the next may go at ``at``."""
        order.steps, order.not_before = rest, at

    def cut_short(self) -> None:
        """The link was lost: a sequence under way begins anew."""
        for order in self._open.values():
            order.steps = None

    def written(self, order: Order, now: float) -> None:
        """The device has confirmed the last word."""
        self._end(order, Fate.WRITTEN, "", now)
        if order.plan.row.access != "rw":
            order.fault = False
        elif self._orders.get(order.write.point) is order:
            order.doubted_since = now if order.doubted_since is None else order.doubted_since
            self._doubted[order.write.point] = order

    def refused(self, order: Order, why: str, now: float) -> None:
        self._end(order, Fate.REFUSED, why, now)

    @property
    def doubting(self) -> bool:
        """Whether any register was written and has not been seen to agree yet."""
        return bool(self._doubted)

    def in_doubt(self, point: str) -> bool:
        """Return whether the register of ``point`` was written and has not been seen to agree yet."""
        return point in self._doubted

    def seen(self, point: str, words: Sequence[int], asked_at: float, now: float) -> Order | None:
        """Compare a register that was asked for at ``asked_at`` with what was written.

        Returns:
            The order while it does not agree: its register should be read again soon.
        """
        order = self._doubted.get(point)
        if order is None or asked_at < order.at:
            return None
        if order.holds(words):
            del self._doubted[point]
            order.doubted_since = None
            self._judge(order, Fate.VERIFIED, "", now)
            return None
        if order.doubted_since is not None and now - order.doubted_since > VERIFY_S:
            del self._doubted[point]
            found, wanted = (" ".join(f"0x{word:04X}" for word in some) for some in (words, order.words))
            self._judge(order, Fate.MISMATCH, f"written {wanted}, reads {found}", now)
            return None
        return order

    def __getitem__(self, point: str) -> Order:
        """Return the newest write of a point, whatever became of it."""
        return self._orders[point]

    def faults(self, points: Iterable[str]) -> list[Order]:
        """Return the newest writes of those of ``points`` that refuse what is written, or do not take it."""
        orders = (self._orders.get(point) for point in points)
        return [order for order in orders if order is not None and order.fault]

    def _end(self, order: Order, fate: Fate, why: str, now: float) -> None:
        if self._open.get(order.write.point) is order:
            del self._open[order.write.point]
        self._judge(order, fate, why, now)

    def _judge(self, order: Order, fate: Fate, why: str, now: float) -> None:
        order.fate, order.why, order.at = fate, why, now
        if fate in (Fate.MISMATCH, Fate.REFUSED):
            order.fault = True
        elif fate is Fate.VERIFIED:
            order.fault = False
        self.counters[fate] += 1


def needs_current(plan: PointPlan, steps: list[list[int]]) -> bool:
    """A command sequence, or a flag that shares its word, depends on what the word is now."""
    return plan.row.table == "holding" and (len(steps) > 1 or plan.row.mask != 0xFFFF)


def remaining(plan: PointPlan, steps: list[list[int]], current: int | None) -> list[list[int]]:
    """Return the writes still needed: a sequence whose last word stands already must not run again."""
    if current is None:
        return steps
    mask = plan.row.mask
    if mask != 0xFFFF:
        return [[current & ~mask | word & mask] for (word,) in steps]
    return steps[-1:] if current == steps[-1][0] else steps
