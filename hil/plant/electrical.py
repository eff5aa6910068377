"""Feeds, breakers, outlets and shelves of the racks, in steps of 10 ms. Powers in kW, currents in A of a phase.

A thermal-magnetic release heats as ((I / In)^2 - heat) / 200 s and opens at 1.2^2: no trip up to 1.2 In, 2.55 In within
the 1 to 120 s of IEC 60947-2. The mean of the three poles heats it. Figures are engineering judgement otherwise.
"""

from __future__ import annotations

from hil.plant import slots as at
from hil.plant.kernel import Numbers, kernel
from hil.plant.part import Flag, Number, Part

STEP_S = 0.01
VOLTS, POWER_FACTOR = 415.0, 0.98
AMPS_PER_KW = 1000 / (1.7320508075688772 * VOLTS * POWER_FACTOR)
BRANCH_RATED_A, FEED_RATED_A = 200.0, 2000.0
HEATS_IN_S, TRIPS_AT = 200.0, 1.44
MAGNETIC, MAGNETIC_S = 7.5, 0.02
INRUSH, INRUSH_S = 1.5, 0.3
TRANSFER_S, RETURN_S = 2.0, 300.0  # of the transfer switch: without power, and back again once its first feed is well
HOLD_UP_S = 30.0
CONTROLLER_KW = 0.5
ON_BOTH = 2


@kernel
def heated(heat: float, amps: float, rated: float, dt: float) -> float:
    """Return the heat of a thermal release one step later."""
    ratio = amps / rated
    return heat + (ratio * ratio - heat) * dt / HEATS_IN_S


@kernel
def step_branch(x: Numbers, b: int, inrush_a: float, dt: float) -> None:
    """Set a branch's current, and open its breaker where it is too much or too long."""
    closed = x[at.BRANCH_TRIPPED + b] == 0 and x[at.BRANCH_OPEN + b] == 0
    amps = 0.0
    if closed and x[at.FEED_LIVE + b % at.FEEDS] > 0:
        amps = x[at.BRANCH_KW + b] * AMPS_PER_KW + x[at.BRANCH_FAULT_A + b] + inrush_a
    x[at.BRANCH_A + b] = amps
    x[at.BRANCH_HEAT + b] = heated(x[at.BRANCH_HEAT + b], amps, BRANCH_RATED_A, dt)
    short = amps > MAGNETIC * BRANCH_RATED_A
    x[at.BRANCH_MAGNETIC_S + b] = x[at.BRANCH_MAGNETIC_S + b] + dt if short else 0.0
    if x[at.BRANCH_HEAT + b] >= TRIPS_AT or x[at.BRANCH_MAGNETIC_S + b] >= MAGNETIC_S - 1e-9:
        x[at.BRANCH_TRIPPED + b] = 1.0


@kernel
def branch_live(x: Numbers, b: int) -> bool:
    """Return whether a branch has voltage at its outlets."""
    closed = x[at.BRANCH_TRIPPED + b] == 0 and x[at.BRANCH_OPEN + b] == 0
    return closed and x[at.FEED_LIVE + b % at.FEEDS] > 0


@kernel
def step_outlets(x: Numbers, r: int, dt: float) -> None:
    """Note which outlets of a rack are live, and which have only just become so."""
    first = r * at.OUTLETS_MAX
    for o in range(first, first + int(x[at.OUTLETS + r])):
        live = x[at.OUTLET_ON + o] > 0 and branch_live(x, r * at.FEEDS + int(x[at.OUTLET_FEED + o]))
        if live and x[at.OUTLET_LIVE + o] == 0:
            x[at.OUTLET_INRUSH_S + o] = INRUSH_S
        else:
            x[at.OUTLET_INRUSH_S + o] = max(0.0, x[at.OUTLET_INRUSH_S + o] - dt) if live else 0.0
        x[at.OUTLET_LIVE + o] = 1.0 if live else 0.0
        x[at.OUTLET_KW + o] = 0.0


@kernel
def share_shelf(x: Numbers, r: int, shelf: int, power: float) -> float:
    """Let the live outlets of one shelf carry its power, A and B nearly alike; return what they carry."""
    first, weight = r * at.OUTLETS_MAX, 0.0
    last = first + int(x[at.OUTLETS + r])
    for o in range(first, last):
        if int(x[at.OUTLET_SHELF + o]) == shelf and x[at.OUTLET_LIVE + o] > 0:
            weight += x[at.SHARE_A + r] if x[at.OUTLET_FEED + o] == 0 else 1 - x[at.SHARE_A + r]
    if weight == 0.0:
        return 0.0
    for o in range(first, last):
        if int(x[at.OUTLET_SHELF + o]) == shelf and x[at.OUTLET_LIVE + o] > 0:
            part = x[at.SHARE_A + r] if x[at.OUTLET_FEED + o] == 0 else 1 - x[at.SHARE_A + r]
            x[at.OUTLET_KW + o] = power * part / weight
    return power


@kernel
def step_rack_power(x: Numbers, r: int, dt: float) -> None:
    """Spread a rack's demand over its shelves, outlets and branches."""
    step_outlets(x, r, dt)
    shelves, wanted = int(x[at.SHELVES + r]), x[at.RACK_KW] * x[at.DEMAND + r] * x[at.THROTTLE + r]
    power, first = 0.0, r * at.OUTLETS_MAX
    for shelf in range(shelves):
        power += share_shelf(x, r, shelf, wanted / shelves)
    x[at.RACK_IT_KW + r] = power
    inrush_a, inrush_b = 0.0, 0.0
    x[at.BRANCH_KW + r * at.FEEDS] = x[at.BRANCH_KW + r * at.FEEDS + 1] = 0.0
    energised = False
    for o in range(first, first + int(x[at.OUTLETS + r])):
        branch = r * at.FEEDS + int(x[at.OUTLET_FEED + o])
        x[at.BRANCH_KW + branch] += x[at.OUTLET_KW + o]
        surge = INRUSH * BRANCH_RATED_A / shelves if x[at.OUTLET_INRUSH_S + o] > 0 else 0.0
        energised = energised or x[at.OUTLET_LIVE + o] > 0
        if x[at.OUTLET_FEED + o] == 0:
            inrush_a += surge
        else:
            inrush_b += surge
    if not energised:
        x[at.LATCHED_OFF + r] = 0.0
    step_branch(x, r * at.FEEDS, inrush_a, dt)
    step_branch(x, r * at.FEEDS + 1, inrush_b, dt)


@kernel
def source_live(x: Numbers, source: int) -> bool:
    """Return whether feed 0 or feed 1 is live; for anything else, whether one of them is."""
    if source < ON_BOTH:
        return x[at.FEED_LIVE + source] > 0
    return x[at.FEED_LIVE] > 0 or x[at.FEED_LIVE + 1] > 0


@kernel
def step_transfer(x: Numbers, d: int, dt: float) -> None:
    """Step a drive's transfer switch and say whether the drive has power."""
    if x[at.DRIVE_SOURCE + d] < ON_BOTH:
        powered = source_live(x, int(x[at.DRIVE_SOURCE + d]))
    else:
        now = int(x[at.ATS_FEED + d])
        powered = source_live(x, now)
        other = source_live(x, 1 - now)
        waits = (not powered and other) or (now == 1 and other)
        x[at.ATS_WAITED_S + d] = x[at.ATS_WAITED_S + d] + dt if waits else 0.0
        if waits and x[at.ATS_WAITED_S + d] >= (RETURN_S if powered else TRANSFER_S) - 1e-9:
            x[at.ATS_FEED + d], x[at.ATS_WAITED_S + d] = 1.0 - now, 0.0
            powered = True
    x[at.DRIVE_POWERED + d] = 1.0 if powered and x[at.DRIVE_UNPOWERED + d] == 0 else 0.0


@kernel
def step_consumers(x: Numbers, dt: float) -> None:
    """Say which drives, chillers and the controller have power."""
    for d in range(at.DRIVES):
        step_transfer(x, d, dt)
    for c in range(int(x[at.CHILLERS])):
        powered = source_live(x, c % at.FEEDS) and x[at.CHILLER_UNPOWERED + c] == 0
        x[at.CHILLER_POWERED + c] = 1.0 if powered else 0.0
    x[at.HOLD_UP_S] = HOLD_UP_S if source_live(x, ON_BOTH) else max(0.0, x[at.HOLD_UP_S] - dt)
    x[at.CONTROLLER_POWERED] = 1.0 if x[at.HOLD_UP_S] > 0 else 0.0


@kernel
def add_on_both(x: Numbers, kw: float) -> None:
    """Spread a load that hangs on both feeds over those that are live."""
    live = x[at.FEED_LIVE] + x[at.FEED_LIVE + 1]
    if live > 0:
        x[at.FEED_KW] += kw * x[at.FEED_LIVE] / live
        x[at.FEED_KW + 1] += kw * x[at.FEED_LIVE + 1] / live


@kernel
def sum_feeds(x: Numbers) -> None:
    """Add up what hangs on each feed: racks and machines as they were in the last thermal step."""
    for f in range(at.FEEDS):
        x[at.FEED_IT_KW + f] = 0.0
        for r in range(int(x[at.RACKS])):
            x[at.FEED_IT_KW + f] += x[at.BRANCH_KW + r * at.FEEDS + f]
        x[at.FEED_KW + f] = x[at.FEED_IT_KW + f]
    for d in range(at.FAN_DRIVE):
        source = int(x[at.DRIVE_SOURCE + d])
        if x[at.DRIVE_POWERED + d] > 0:
            x[at.FEED_KW + (source if source < ON_BOTH else int(x[at.ATS_FEED + d]))] += x[at.DRIVE_KW + d]
    for c in range(int(x[at.CHILLERS])):
        if x[at.CHILLER_POWERED + c] > 0:
            x[at.FEED_KW + c % at.FEEDS] += x[at.CHILLER_ELECTRIC_KW + c]
    add_on_both(x, x[at.DRY_KW] + x[at.DOOR_FANS_KW] + CONTROLLER_KW)
    x[at.IT_KW] = x[at.FEED_IT_KW] + x[at.FEED_IT_KW + 1]
    x[at.TOTAL_KW] = x[at.FEED_KW] + x[at.FEED_KW + 1]


@kernel
def set_feeds(x: Numbers, dt: float) -> None:
    """Say which feeds are live, and heat their main breakers."""
    for f in range(at.FEEDS):
        live = x[at.BUS_LIVE] > 0 and x[at.FEED_LOST + f] == 0 and x[at.FEED_TRIPPED + f] == 0
        x[at.FEED_LIVE + f] = 1.0 if live else 0.0
        amps = x[at.FEED_KW + f] * AMPS_PER_KW if live else 0.0
        x[at.FEED_HEAT + f] = heated(x[at.FEED_HEAT + f], amps, FEED_RATED_A, dt)
        if x[at.FEED_HEAT + f] >= TRIPS_AT:
            x[at.FEED_TRIPPED + f] = 1.0


class Branch(Part):
    """A rack's branch on one feed: ``amps`` and ``phase_amps``, ``heat`` of its breaker (opens at 1.44), ``closed``.

    Faults, neutral value in brackets: ``open`` (False: opened by hand), ``fault_amps`` (0, beside the rack's).
    """

    __slots__ = ()
    open, fault_amps = Flag(at.BRANCH_OPEN), Number(at.BRANCH_FAULT_A)
    kw, amps, heat, tripped = Number(at.BRANCH_KW), Number(at.BRANCH_A), Number(at.BRANCH_HEAT), Flag(at.BRANCH_TRIPPED)

    @property
    def closed(self) -> bool:
        return not self.open and not self.tripped

    @property
    def live(self) -> bool:
        return self.closed and bool(self.x[at.FEED_LIVE + self.i % at.FEEDS] > 0)

    @property
    def phase_amps(self) -> tuple[float, float, float]:
        first, amps = at.PHASE_SHARE + 3 * self.i, self.amps
        return amps * float(self.x[first]), amps * float(self.x[first + 1]), amps * float(self.x[first + 2])

    def reset(self) -> None:
        """Close a breaker that has opened by itself; a hot one keeps its heat."""
        self.tripped = False


class Feed(Part):
    """A feed with all that hangs on it. Fault ``lost`` (False). ``kw`` and ``amps`` of racks and machines together."""

    __slots__ = ()
    lost, tripped, live = Flag(at.FEED_LOST), Flag(at.FEED_TRIPPED), Flag(at.FEED_LIVE)
    kw, it_kw, heat = Number(at.FEED_KW), Number(at.FEED_IT_KW), Number(at.FEED_HEAT)

    @property
    def amps(self) -> float:
        return self.kw * AMPS_PER_KW if self.live else 0.0

    @property
    def breaker_closed(self) -> bool:
        return not self.tripped

    def reset(self) -> None:
        """Close a main breaker that has opened by itself."""
        self.tripped = False
