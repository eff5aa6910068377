"""What the rows that act ask of loops, racks and the power permit: of several the one towards more cooling wins."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from controller.core.image import Image
from controller.core.interlocks import Row
from controller.core.permit import NEVER_SHED_TIER, Limit
from controller.core.pod import Pod
from controller.core.power import Rack

BRANCH_TARGET_SHARE = 0.9  # of a branch's rating: what a capped rack may take through it
HOUR_S = 3600.0
BACK_S = 120.0  # from the end of shedding until the last rack is energised again


@dataclass(frozen=True, slots=True)
class Response:
    """What protection asks of one scan. A text says why, and is empty where nothing is asked.

    Attributes:
        limits: caps of IT power, for the power permit.
        pumps_lost: pumps on which no capacity is counted any more.
        pumps_restart: pumps that stopped together are told to run, failed or not.
        pumps_full, flow_high: full speed; the most flow there is.
        pumps_eased: no more speed than the need asks; gives way to ``pumps_full``.
        pumps_off: pumps stop once every rack has been off for a while.
        valve_shut: facility water by-passes the exchanger.
        hold_on: nothing more is energised.
        shed: whether racks are to go off by tier.
        stop: the pod is shut down in order.
    """

    limits: tuple[Limit, ...] = ()
    pumps_lost: frozenset[str] = frozenset()
    pumps_restart: str = ""
    pumps_full: str = ""
    flow_high: str = ""
    pumps_eased: str = ""
    pumps_off: str = ""
    valve_shut: str = ""
    hold_on: str = ""
    shed: str = ""
    stop: str = ""


NOTHING = Response()
WHYS = (
    "pumps_restart", "pumps_full", "flow_high", "pumps_eased", "pumps_off", "valve_shut", "hold_on", "shed", "stop",
)  # fmt: skip


class Responder:
    """Turns acting rows into one response."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._held_kw: float | None = None

    def step(self, rows: Sequence[Row], image: Image, branch_shares_pct: Mapping[str, float]) -> Response:
        """Return what ``rows`` ask now.

        Args:
            rows: those that act, the first of them first.
            branch_shares_pct: of each power unit's rated current.
        """
        if not rows:
            self._held_kw = None
            return NOTHING
        whys: dict[str, str] = {}
        for row in rows:
            for action in row.actions:
                if action.what in WHYS:
                    whys.setdefault(action.what, row.cause)
        lost = frozenset(row.device for row in rows if row.does("pump_lost"))
        limits = [limit for row in rows for limit in self._limits(row, image, branch_shares_pct)]
        if not any(row.does("hold_load") for row in rows):
            self._held_kw = None
        return Response(limits=tuple(limits), pumps_lost=lost, **whys)

    def _limits(self, row: Row, image: Image, branch_shares_pct: Mapping[str, float]) -> Iterable[Limit]:
        rated = self._pod.rated_kw
        for action in row.actions:
            match action.what:
                case "cap":
                    yield Limit(row.cause, action.amount / 100 * rated)
                case "cap_flow":
                    ratio = image.number("pod.flow_ratio", otherwise=100.0) or 0.0
                    yield Limit(row.cause, min(100.0, ratio) / 100 * rated)
                case "cap_warm":
                    yield Limit(row.cause, max(0.0, 100 - action.amount * self._too_warm_k(row, image)) / 100 * rated)
                case "cap_branch":
                    yield from self._branch_limit(row, image, branch_shares_pct)
                case "hold_load":
                    if self._held_kw is None:
                        self._held_kw = image.number("pod.it_power", otherwise=rated)
                    yield Limit(row.cause, self._held_kw or 0.0)

    def _too_warm_k(self, row: Row, image: Image) -> float:
        """Return by how many kelvin the row's temperature is over where its cap begins."""
        limits = self._pod.protection
        if row.id == "return_warm":
            return (image.number("pod.return_temp", otherwise=None) or 0.0) - limits.return_temp_cap_c
        return (image.number("pod.supply_temp_error", otherwise=None) or 0.0) - limits.supply_temp_cap_k / 2

    def _branch_limit(self, row: Row, image: Image, shares_pct: Mapping[str, float]) -> Iterable[Limit]:
        """Cap the rack to what this branch carries of it now, scaled to what it may carry."""
        rack = next(rack for rack in self._pod.racks if rack.name == row.rack)
        power, share = rack.power_kw(image), shares_pct[row.device] / 100
        if power is not None and share > 0:
            yield Limit(row.cause, power * BRANCH_TARGET_SHARE / share, rack.name)


@dataclass(slots=True)
class Shedding:
    """Puts racks off by tier, the highest first, one tier each ``step_s``; brings them back in reverse.

    Tier 0 is never shed. Coming back is tried at most so often in an hour: a cause that returns each time is not over.
    """

    racks: Sequence[Rack]
    step_s: float
    restore_s: float
    tries_max: int
    tiers: list[int] = field(init=False)
    level: int = 0
    moved_at: float = float("-inf")
    wanted: bool = False
    trying: bool = False
    tries: deque[float] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.tiers = sorted({rack.shed_tier for rack in self.racks} - {NEVER_SHED_TIER}, reverse=True)

    def step(self, wanted: bool, now: float) -> set[str]:
        """Return the racks that are to be off."""
        if wanted:
            self.trying = False
            if self.level < len(self.tiers) and (not self.level or now - self.moved_at >= self.step_s):
                self.level, self.moved_at = self.level + 1, now
        elif self.wanted:
            self.moved_at = now
        elif self.level and now - self.moved_at >= self.restore_s and (self.trying or self._try(now)):
            self.level, self.moved_at, self.trying = self.level - 1, now, True
        self.wanted = wanted
        return self.off

    @property
    def off(self) -> set[str]:
        shed = self.tiers[: self.level]
        return {rack.name for rack in self.racks if rack.shed_tier in shed}

    def at_work(self, now: float) -> bool:
        """Return whether tiers are off, or the last of them came back so lately that its racks may be off still."""
        return bool(self.level) or now - self.moved_at < BACK_S

    def reset(self) -> None:
        """Forget the tries, on the operator's order."""
        self.tries.clear()

    def _try(self, now: float) -> bool:
        """Return whether a series of tiers may begin to come back."""
        while self.tries and now - self.tries[0] > HOUR_S:
            self.tries.popleft()
        if len(self.tries) >= self.tries_max:
            return False
        self.tries.append(now)
        return True
