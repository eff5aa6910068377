"""Protection of one pod in one place: evidence, interlock rows, what they ask, racks shed by tier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from controller.core.evidence import Evidence, Machines
from controller.core.fault_rows import isolation_id, power_isolation_id, row_point
from controller.core.image import Image
from controller.core.interlocks import Interlocks
from controller.core.pod import Pod, interlock_rows
from controller.core.points import Reading, good
from controller.core.response import NOTHING, Responder, Shedding


class Shield:
    """See the module.

    Attributes:
        response: what protection asks since the last step.
        evidence: figures of the loop and the branches.
    """

    def __init__(self, pod: Pod, saved: Mapping[str, Any], now: float, epoch_s: float | None) -> None:
        limits = pod.protection
        self.interlocks = Interlocks(interlock_rows(pod), saved.get("latched", ()))
        self.interlocks.restore_bypasses(dict(saved.get("bypasses", {})), now, epoch_s)
        self.evidence = Evidence(pod)
        self.response = NOTHING
        self.shedding = Shedding(pod.racks, limits.shed_step_s, limits.restore_step_s, limits.restores_per_h_max)
        self._responder = Responder(pod)
        self._asked = {row_of(rack.name) for rack in pod.racks for row_of in (isolation_id, power_isolation_id)}
        self._told: dict[str, Reading] = {}
        self._told_of: tuple[str, ...] = ()

    def step(self, image: Image, machines: Machines, mode: str, asked: Iterable[str], *, reset: bool) -> None:
        """Advance every row by what ``image`` shows.

        Args:
            asked: rows of racks that somebody may have isolated in this scan.
        """
        self.evidence.isolated = len(self.interlocks.racks_isolated())
        conditions = self.evidence.step(image, machines, mode) | dict.fromkeys(asked, True)
        self.interlocks.step(conditions, image.at, reset=reset)
        rows = self.interlocks.acting_rows
        shares = {unit: branch.share for unit, branch in self.evidence.branches.items()} if rows else {}
        self.response = self._responder.step(rows, image, shares)
        self.shedding.step(bool(self.response.shed), image.at)
        if reset:
            self.shedding.reset()
        for pump in machines.pumps:
            if pump.device in self.response.pumps_lost and sum(one.proven for one in machines.pumps) > 1:
                pump.fail(image.at)

    def told(self, at: float) -> dict[str, Reading]:
        """Return a flag for each row, made anew when one has changed, and the figures behind them."""
        interlocks = self.interlocks
        acting = (*interlocks.acting, *interlocks.bypasses, *(("shed",) if self.shedding.at_work(at) else ()))
        if acting != self._told_of or not self._told:
            flags = {row.id: row.id in acting for row in interlocks.rows}
            flags |= {"bypassed": bool(interlocks.bypasses), "shed": "shed" in acting}
            self._told = {row_point(name): good(flag, at) for name, flag in flags.items()}
            isolated = {row.rack for row in interlocks.acting_rows if row.id in self._asked}
            self._told["pod.racks_isolated"] = good(float(len(isolated)), at)
            self._told_of = acting
        return self._told | self.evidence.readings(at)

    def saved(self, epoch_s: float | None) -> dict[str, Any]:
        return {"latched": self.interlocks.latched(), "bypasses": self.interlocks.saved_bypasses(epoch_s)}
