"""What IT may draw in this scan: limits from measurements and protection, the permit, and the racks shed under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from controller.core.assess import LOOP, reading
from controller.core.headroom import Headroom, Seen
from controller.core.image import Image
from controller.core.permit import IDLE_PCT, Limit, Load, Permit
from controller.core.pod import Pod
from controller.core.points import Reading, good
from controller.core.power import EnergiseSequence, off_demands
from controller.core.sequences import Demand, RunSequence
from controller.core.slots import Slots

RACK_POINTS = ("it_permit", "it_cap", "limited", "shed", "flow_wrong")
SHED = "power cap not followed"


class Allowance:
    """Headroom and permit of one pod, and the racks that were shed. ``shed`` names those found so at start."""

    def __init__(self, pod: Pod, shed: Iterable[str] = ()) -> None:
        self._pod = pod
        self.headroom = Headroom(pod)
        self.permit = Permit(pod.cooling, [rack.name for rack in pod.racks], shed)
        self._restore = EnergiseSequence(pod.power, pod.racks)
        self._ids = {rack.name: [f"{rack.name}.{name}" for name in RACK_POINTS] for rack in pod.racks}

    @property
    def shed(self) -> set[str]:
        return self.permit.shed

    @property
    def limiting(self) -> str:
        """Return why power is held down now, or nothing."""
        return self.permit.limiting

    def step(
        self,
        image: Image,
        slots: Slots,
        pumps: Sequence[RunSequence],
        chillers: Sequence[RunSequence],
        water_share: float | None = None,
        asked: Iterable[Limit] = (),
    ) -> Image:
        """Return the image with what IT may draw now. Nothing is capped before the image can be whole after a start.

        Args:
            water_share: what a valve that can't be moved passes of the facility water; None while it can.
            asked: limits that protection asks for.
        """
        now, heat = image.at, seen(image, slots, self._pod.fws.supply_temp_sp_c)
        limits = [*self.headroom.step(image, heat, pumps, chillers, water_share, now), *asked]
        if image.flag("pod.booting", otherwise=True):
            limits = []
        self.permit.step(limits, loads(self._pod, image, heat.power_kw), heat.power_kw, now)
        return image.with_derived(self._published(heat.power_kw, now))

    def demands(self, image: Image, blocked: AbstractSet[str], now: float, *, normal: bool) -> Iterable[Demand]:
        """Keep shed racks off; bring them back one after another while the permit leaves room.

        Args:
            blocked: racks that must stay off for another reason.
            normal: whether the mode lets racks come back.
        """
        shed, racks = self.permit.shed, self._pod.racks
        if not (self.permit.restoring and normal):
            self._restore.clear()
            yield from off_demands([rack for rack in racks if rack.name in shed], SHED)
            return
        others = {rack.name for rack in racks} - shed
        yield from self._restore.step(image, {*blocked, *others}, now)
        shed -= {rack.name for rack in racks if not rack.pending(image)}

    def _published(self, power_kw: float | None, at: float) -> dict[str, Reading]:
        headroom, permit = self.headroom, self.permit
        found = {point: reading(value, at) for point, value in headroom.numbers.items()}
        pod = permit.pod
        found["pod.it_limit"] = good(pod.cause, at)
        found["pod.it_permit"], found["pod.it_cap"] = good(pod.kw, at), good(pod.cap_pct, at)
        held = bool(pod.cause) and (power_kw is None or power_kw > IDLE_PCT / 100 * pod.kw)
        found["pod.it_held"] = good(held, at)
        for name, (it_permit, it_cap, limited, shed, flow_wrong) in self._ids.items():
            grant = permit.racks[name]
            found[it_permit], found[it_cap] = good(grant.kw, at), good(grant.cap_pct, at)
            found[limited] = good(bool(grant.cause) and grant.cause != pod.cause, at)
            found[shed] = good(name in permit.shed, at)
            if name in headroom.metered:
                found[flow_wrong] = good(name in headroom.wrong_meters, at)
        return found


def seen(image: Image, slots: Slots, water_sp_c: float) -> Seen:
    """Return what this scan measured of the loop; facility water from outside is held to ``water_sp_c``."""
    supply, back, water, flow, power = (image.number(point, otherwise=None) for point in LOOP)
    setpoint, water_sp_c = slots.value("pod.supply_temp_sp"), slots.value("pod.fws_supply_temp_sp", water_sp_c)
    return Seen(supply, back, water, flow, power, setpoint, water_sp_c)


def loads(pod: Pod, image: Image, power_kw: float | None) -> list[Load]:
    """Return every rack as the permit sees it; one without meters that can be trusted has its share of the whole."""
    rated = sum(rack.rated_kw for rack in pod.racks)
    found = []
    for rack in pod.racks:
        said = rack.seen(image)
        own = said.power_kw
        power = power_kw * rack.rated_kw / rated if own is None and power_kw is not None else own
        found.append(Load(rack.name, rack.rated_kw, rack.shed_tier, said.energised, power))
    return found
