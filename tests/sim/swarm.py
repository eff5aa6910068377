"""From a seed to a swarm of faults: what is struck, when, how hard, for how long; under which load and weather.

Each run enables a few kinds only, so that rare ones get time to themselves; never more than two are at work at once,
and the end of the controller beside them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.core.points import Value

CONCURRENT_MAX = 2
FIRST_S = 60.0  # after the controller has taken over
HEAL_SHARE = 0.4  # of the run; the rest is for recovery
PROFILES = ("manual", "training", "inference", "square", "random")
COMMANDS = ("commands.good", "commands.bad", "commands.hostile")
WALL_CLOCK = "clock.jump"
KILLED_SHARE = 0.25  # of runs with a fault, in which the controller is killed beside
SPARE_SHARE = 0.3  # of runs in which one pump of the TCS fewer is on duty where that is enough, and stands by
BUSY_RACKS = (0, 0, 1, 2)  # how many racks have work in a run of steady load, 0 for all of them
IDLE_LOAD = 0.1  # of the others
HUMID_SHARE, HUMID_DEW_C = 0.15, (21.0, 26.0)  # of runs in which the air is so damp that the supply has to be warmer


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of fault and its strengths. ``like`` picks targets by a part of their name; ``flaps`` repeats it."""

    fault: str
    values: tuple[Value | None, ...] = (None,)
    like: tuple[str, ...] = ("",)
    flaps: bool = False
    short: bool = False  # lasts seconds, not minutes


TEMPERATURES = ("supply_temp", "return_temp", "fws_supply")
KINDS: tuple[Kind, ...] = (
    Kind("sensor.noisy", (0.3, 1.0), TEMPERATURES),
    Kind("sensor.biased", (-2.0, -0.5, 0.5, 2.0), TEMPERATURES),
    Kind("sensor.drift", (-0.05, -0.01, 0.01, 0.05), TEMPERATURES),
    Kind("sensor.stuck"),
    Kind("sensor.stuck_at", (20.0, 29.8, 35.0), TEMPERATURES),
    Kind("sensor.spike", (-20.0, 10.0, 40.0)),
    Kind("sensor.invalid"),
    Kind("sensor.scaled", (0.1, 10.0)),
    Kind("sensor.delayed", (10.0, 30.0)),
    Kind("sensor.dropout"),
    Kind("sensor.chatter", (1.0, 5.0), ("rope",)),
    Kind("point.garbage", ("ffff", "8000", "swapped", "negated", "times_10", "stuck")),
    Kind("device.silent"),
    Kind("device.slow", (0.1, 0.5, 3.0)),
    Kind("device.exception", (4.0, 6.0, 11.0)),
    Kind("device.ignores_writes"),
    Kind("device.late_writes", (2.0, 10.0)),
    Kind("device.reboot", (5.0, 20.0)),
    Kind("device.map_shift", (1.0,)),
    Kind("wire.unplugged"),
    Kind("wire.crc_noise", (0.2, 0.6)),
    Kind("wire.half_open"),
    Kind("pump.trip"),
    Kind("pump.dip", short=True),
    Kind("pump.no_flow"),
    Kind("pump.worn", (0.7, 0.85)),
    Kind("pump.limited", (0.6, 0.8)),
    Kind("valve.jammed"),
    Kind("valve.slow", (3.0, 6.0)),
    Kind("valve.lying"),
    Kind("valve.fails_open"),
    Kind("valve.sticky", (0.03,)),
    Kind("strainer.clogged", (1.5, 2.5)),
    Kind("exchanger.fouled", (0.6, 0.8)),
    Kind("chiller.trip"),
    Kind("chiller.dip", short=True, flaps=True),
    Kind("chiller.weak", (0.3, 0.7)),
    Kind("dry_cooler.trip"),
    Kind("doors.fans_lost", short=True),
    Kind("room.door_open", (0.3, 0.5)),
    Kind("room.moisture", (0.001, 0.003)),
    Kind("leak.rack", (0.05, 0.2, 0.8)),
    Kind("leak.cdu", (0.05, 0.2)),
    Kind("rack.blocked", (0.6, 0.85)),
    Kind("feed.lost"),
    Kind("feed.lost", flaps=True, short=True),
    Kind("load.step", (0.1, 1.0)),
    Kind("load.step", (1.0,)),  # a job that comes and goes, while a chiller rests
    Kind("load.crash", short=True),
    Kind("controller.killed", short=True),
    Kind(WALL_CLOCK, (-7200.0, 7200.0, 4_294_080.0)),
    *(Kind(name) for name in COMMANDS),
)


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault on one target: from ``at`` to ``until``, in seconds from the take-over; on and off ``flaps`` times."""

    at: float
    until: float
    fault: str
    target: str
    value: Value | None = None
    flaps: int = 0

    def __str__(self) -> str:
        value = "" if self.value is None else f" = {self.value}"
        often = f", {self.flaps} times" if self.flaps else ""
        return f"{self.at:.0f} s to {self.until:.0f} s: {self.fault} {self.target}{value}{often}"

    @property
    def name(self) -> str:
        return f"{self.fault} {self.target}"


@dataclass(frozen=True, slots=True)
class Swarm:
    """One run. Times in seconds from the take-over; what is at work at ``heal_at`` is healed then.

    ``spare`` is for a run in which one TCS pump stands by where the others are enough, ``busy`` for one in which only
    so many racks have work and the others idle.
    """

    seed: int
    seconds: float
    heal_at: float
    load: float
    profile: str
    ambient_c: float
    dew_point_c: float
    strikes: tuple[Strike, ...]
    spare: bool = False
    busy: int = 0

    def of(self, strikes: Sequence[Strike]) -> Swarm:
        """Return the same run with other strikes."""
        return replace(self, strikes=tuple(strikes))

    @property
    def kinds(self) -> set[str]:
        return {strike.fault for strike in self.strikes}


def drawn(seed: int, minutes: float, targets: dict[str, list[str]]) -> Swarm:
    """Return the run of a seed.

    Args:
        targets: by fault, what it may be aimed at on this pod.
    """
    rng = random.Random(f"swarm {seed}")
    seconds = 60 * minutes
    heal_at = HEAL_SHARE * seconds
    ambient_c = rng.uniform(5.0, 38.0)
    dew_point_c = min(ambient_c - 1, rng.uniform(-5.0, 20.0))
    if ambient_c > HUMID_DEW_C[1] + 1 and rng.random() < HUMID_SHARE:
        dew_point_c = rng.uniform(*HUMID_DEW_C)
    whole = Swarm(
        seed, seconds, heal_at,
        load=rng.choice((0.1, 0.35, 0.6, 0.85, 1.0)), profile=rng.choice(PROFILES),
        ambient_c=round(ambient_c, 1), dew_point_c=round(dew_point_c, 1), strikes=(),
    )  # fmt: skip
    how_many = rng.choice((0, 1, 1, 1, *range(2, 9))) if seed else 0
    enabled = rng.sample([kind for kind in KINDS if targets[kind.fault]], 6)
    strikes: list[Strike] = []
    for _ in range(how_many):
        strike = _strike(rng, rng.choice(enabled), heal_at, targets)
        beside = [other for other in strikes if other.at < strike.until and strike.at < other.until]
        if len(beside) < CONCURRENT_MAX and all(other.name != strike.name for other in strikes):
            strikes.append(strike)
    if strikes and rng.random() < KILLED_SHARE and all(strike.fault != "controller.killed" for strike in strikes):
        strikes.append(_killed_after(rng, rng.choice(strikes), heal_at))
    whole = replace(whole, spare=rng.random() < SPARE_SHARE)
    if whole.profile == "manual":
        whole = replace(whole, busy=rng.choice(BUSY_RACKS))
    return whole.of(sorted(strikes, key=lambda strike: (strike.at, strike.name)))


def _killed_after(rng: random.Random, strike: Strike, heal_at: float) -> Strike:
    """Return the end of the controller while it deals with a fault, or has just done so."""
    at = min(strike.at + rng.uniform(0.5, 60.0), heal_at - 10.0)
    return Strike(round(at, 1), round(min(heal_at, at + rng.uniform(2.0, 8.0)), 1), "controller.killed", "pod")


def _strike(rng: random.Random, kind: Kind, heal_at: float, targets: dict[str, list[str]]) -> Strike:
    part = rng.choice(kind.like)
    fitting = [name for name in targets[kind.fault] if part in name] or targets[kind.fault]
    at = rng.uniform(FIRST_S, heal_at - 10.0)
    lasts = rng.uniform(2.0, 15.0) if kind.short else rng.choice((20.0, 60.0, 180.0, 3600.0))
    flaps = rng.randint(3, 10) if kind.flaps else 0
    until = min(heal_at, at + lasts * max(1, 2 * flaps))
    return Strike(round(at, 1), round(until, 1), kind.fault, rng.choice(fitting), rng.choice(kind.values), flaps)
