"""What a scenario file may say, and how it is read. Every mistake is told with file, table, key and what is allowed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from controller.core.points import Value
from hil import faults

FOLDER = Path(__file__).parent
FAMILIES = "ABCDEFGHS"  # of the acceptance list; S for the fault classes beside it
COMMON = (
    "junction", "throttled", "condensation", "chiller_starts", "pump_starts", "last_pump", "scan", "flood", "recovery",
)  # fmt: skip
SECONDS_MAX = 90_000.0
STATISTICS = (
    "max",
    "min",
    "peak",
    "final",
    "mean",
    "rms",
    "sd",
    "integral",
    "rises",
    "travel",
    "steepest",
    "seconds_above",
)
Statistic = Literal[
    "max", "min", "peak", "final", "mean", "rms", "sd", "integral", "rises", "travel", "steepest", "seconds_above"
]
Seconds = Annotated[float, Field(ge=0, le=SECONDS_MAX)]


class ScenarioError(ValueError):
    """A scenario that can't be read or run; the text says what is allowed."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(_Table):
    """How the pod stands before: ``load`` as share of the rating; ``cold``: nothing runs, and t = 0 is the start.

    ``pumps``: so many TCS pumps are on duty, and the others stand by; as the enclosure file says without it.
    """

    load: Annotated[float, Field(ge=0, le=1.5)] = 1.0
    ambient_c: Annotated[float, Field(ge=-30, le=55)] = 30.0
    cold: bool = False
    pumps: Annotated[int, Field(ge=1, le=16)] | None = None

    @property
    def overrides(self) -> dict[str, dict[str, int]]:
        """The tables that a site file would need for it."""
        return {} if self.pumps is None else {"tcs": {"pumps_on_duty": self.pumps, "pumps_on_duty_low": self.pumps}}


class Event(_Table):
    """A fault at ``at`` seconds, until ``until`` (to the end without it), on one target or on several."""

    at: Seconds
    fault: str
    target: str | list[str] = ""
    value: Value | None = None
    until: Seconds | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        faults.checked_value(faults.find(self.fault), self.value)
        if self.until is not None and self.until <= self.at:
            raise ValueError(f"until = {self.until:g} is not after at = {self.at:g}")
        return self

    @property
    def targets(self) -> list[str]:
        return [self.target] if isinstance(self.target, str) else self.target


class Expect(_Table):
    """One expectation, of exactly one sort.

    - ``channel`` with ``statistic`` between ``from_s`` and ``to_s``, ``at_most`` and/or ``at_least``. ``peak`` is the
      largest amount; ``integral`` that of the amount, in unit x s; ``rises`` counts; ``travel`` is the way of a 100 %
      stroke in strokes; ``steepest`` the fastest rise per second; ``seconds_above`` counts time over ``level``.
    - ``mode``: reached after ``from_s`` ``within_s``; with ``never`` it must not be.
    - ``alarm``: pattern of an alarm's id; raised ``within_s`` after ``from_s``; with ``never`` it must not be.
    - ``write``: pattern of a point, with ``value`` if given; ``within_s``, or ``never``.
    - ``starts``, ``stops``: pattern of machines that are started, or told to stop, ``at_most`` so often in all.
    - ``first_out``: the interlock that came first; empty means none.
    """

    channel: str = ""
    statistic: Statistic = "max"
    level: float = 0.0
    mode: str = ""
    alarm: str = ""
    write: str = ""
    value: Value | None = None
    starts: str = ""
    stops: str = ""
    first_out: str | None = None
    from_s: Seconds = 0.0
    to_s: Seconds | None = None
    within_s: Seconds | None = None
    never: bool = False
    at_most: float | None = None
    at_least: float | None = None
    text: str = ""
    known: str = ""

    @model_validator(mode="after")
    def _one_sort(self) -> Self:
        sorts = [name for name in ("channel", "mode", "alarm", "write", "starts", "stops") if getattr(self, name)]
        sorts += ["first_out"] if self.first_out is not None else []
        if len(sorts) != 1:
            raise ValueError(
                f"{len(sorts)} of channel, mode, alarm, write, starts, stops, first_out are given; allowed: one"
            )
        bars = (self.at_most, self.at_least) != (None, None)
        if sorts[0] in ("channel", "starts", "stops") and not bars:
            raise ValueError(f"{sorts[0]} needs at_most or at_least")
        if sorts[0] in ("mode", "alarm", "write") and (self.within_s is None) is not self.never:
            raise ValueError(f"{sorts[0]} needs within_s or never = true")
        return self


class Common(_Table):
    """What of the common pass is different here: left out for a reason, or known to be missing in the control core."""

    relax: str = ""
    known: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.relax) is bool(self.known):
            raise ValueError("needs relax or known, with the reason")
        return self


class Scenario(_Table):
    """One scenario file.

    ``fast``: can run in virtual time; ``real``: part of the real-time selection; ``long``: only where asked for.
    ``settle_s``: time in NORMAL before t = 0.
    """

    id: Annotated[str, Field(pattern=r"^[A-HS]\d{1,2}[a-z]?$")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{3,40}$")]
    family: Annotated[str, Field(pattern=rf"^[{FAMILIES}]$")]
    text: Annotated[str, Field(min_length=10)]
    fast: bool = True
    real: bool = False
    long: bool = False
    seconds: Annotated[float, Field(ge=5, le=SECONDS_MAX)]
    settle_s: Seconds = 60.0
    start: Start = Start()
    event: tuple[Event, ...] = ()
    expect: tuple[Expect, ...]
    common: dict[Literal[COMMON], Common] = {}  # type: ignore[valid-type]

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if not self.id.startswith(self.family):
            raise ValueError(f"id {self.id} is not of family {self.family}")
        late = [event.fault for event in self.event if event.at >= self.seconds]
        if late:
            raise ValueError(f"{late[0]} comes after the end at {self.seconds:g} s")
        real = [event.fault for event in self.event if not faults.find(event.fault).virtual]
        if self.fast and real:
            raise ValueError(f"fast = true, but {real[0]} can't be made in virtual time")
        return self

    @property
    def marks(self) -> list[str]:
        """What is known to be missing for it."""
        found = [expect.known for expect in self.expect] + [common.known for common in self.common.values()]
        return [known for known in found if known]


def read(path: Path) -> Scenario:
    """Return the scenario at ``path``.

    Raises:
        ScenarioError: with every mistake in it.
    """
    try:
        return Scenario.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            where = ".".join(str(part) for part in item["loc"]) or "file"
            lines.append(f"{path.name}: {where}: {item['msg']}; given: {str(item.get('input'))[:60]}")
        raise ScenarioError("\n".join(lines)) from None


def every(folder: Path = FOLDER) -> list[Scenario]:
    """Return all scenarios of a folder, by id.

    Raises:
        ScenarioError: one can't be read, or two have the same id or name.
    """
    found = [read(path) for path in sorted(folder.glob("*.toml"))]
    for key in ("id", "name"):
        names = [getattr(scenario, key) for scenario in found]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ScenarioError(f"{folder}: {key} {min(twice)} is there twice")
    return sorted(
        found, key=lambda scenario: (scenario.family, int("".join(filter(str.isdigit, scenario.id))), scenario.id)
    )


def find(name: str, scenarios: Iterable[Scenario]) -> Scenario:
    """Return the scenario with this id or name.

    Raises:
        ScenarioError: there is none.
    """
    known = list(scenarios)
    for scenario in known:
        if name in (scenario.id, scenario.name):
            return scenario
    raise ScenarioError(f"no scenario {name!r}; there are: {', '.join(f'{s.id} {s.name}' for s in known)}")
