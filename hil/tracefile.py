"""The trace of one run as reports read it: a JSON file, checked before anything is drawn from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

SCHEMA = 1
FILE_BYTES_MAX = 64 * 2**20
SAMPLES_MAX = 5_000  # of one channel
CHANNELS_MAX = 400
ENTRIES_MAX = 20_000  # of each list: writes, alarms, events and so on
GROUPS = ("temperature", "flow", "power", "pressure", "valves and speeds", "electrical", "level", "room")

Verdict = Literal["pass", "fail", "known"]
Number = Annotated[float, Field(allow_inf_nan=False)]


class TraceError(ValueError):
    """A trace that can't be read: which file, where in it, and what is allowed."""


class Part(BaseModel):
    """Keys that this version does not know are ignored: the trace may grow."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Scenario(Part):
    id: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    name: str
    family: str = ""
    text: str = ""


class Check(Part):
    """``figure`` is None where the check is of words or order; ``known`` says what is missing, empty if nothing is."""

    text: str
    figure: Number | None = None
    bar: str = ""
    ok: bool
    known: str = ""


class Channel(Part):
    """``t`` seconds since the scenario's t = 0, not falling; ``v`` in ``unit``, None where there was no value."""

    unit: str
    group: str
    label: str
    t: Annotated[list[Number], Field(max_length=SAMPLES_MAX)]
    v: Annotated[list[Number | None], Field(max_length=SAMPLES_MAX)]

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if len(self.t) != len(self.v):
            raise ValueError(f"{len(self.t)} times but {len(self.v)} values; allowed: as many of one as of the other")
        if any(late < early for early, late in zip(self.t, self.t[1:], strict=False)):
            raise ValueError("times go back; allowed: times that never fall")
        return self


class Limit(Part):
    channel: str
    value: Number
    label: str
    severity: str = ""


class Mode(Part):
    t: Number
    mode: str
    cause: str = ""


class Alarm(Part):
    """One change of one alarm. ``state``: a name of ISA-18.2's or its letter, A to D."""

    t: Number
    id: str
    title: str = ""
    priority: str = ""
    state: str


class Write(Part):
    t: Number
    point: str
    value: float | bool | str | None = None


class Event(Part):
    """One injected fault. ``until`` None: it stands to the end."""

    t: Number
    until: Number | None = None
    fault: str
    target: str = ""
    value: float | bool | str | None = None
    text: str = ""


class Interlock(Part):
    t: Number
    text: str


class Trace(Part):
    schema_version: Literal[1] = Field(alias="schema")
    scenario: Scenario
    commit: str = ""
    enclosure: str = ""
    seed: int | None = None
    body: Literal["real", "virtual"]
    seconds: Number
    verdict: Verdict
    checks: list[Check] = []
    channels: Annotated[dict[str, Channel], Field(max_length=CHANNELS_MAX)] = {}
    limits: Annotated[list[Limit], Field(max_length=ENTRIES_MAX)] = []
    modes: Annotated[list[Mode], Field(max_length=ENTRIES_MAX)] = []
    alarms: Annotated[list[Alarm], Field(max_length=ENTRIES_MAX)] = []
    writes: Annotated[list[Write], Field(max_length=ENTRIES_MAX)] = []
    events: Annotated[list[Event], Field(max_length=ENTRIES_MAX)] = []
    interlocks: Annotated[list[Interlock], Field(max_length=ENTRIES_MAX)] = []
    first_out: str | None = ""

    @property
    def start_s(self) -> float:
        """Return the first moment that anything is told of."""
        return min((channel.t[0] for channel in self.channels.values() if channel.t), default=0.0)

    @property
    def end_s(self) -> float:
        """Return the last moment, after ``start_s``."""
        last = max((channel.t[-1] for channel in self.channels.values() if channel.t), default=self.seconds)
        return max(last, self.seconds, self.start_s + 1.0)


def read_trace(path: Path) -> Trace:
    """Return the trace at ``path``.

    Raises:
        TraceError: the file can't be read, is too large, or is no trace; names file and key.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise TraceError(f"{path}: {path.stat().st_size} bytes; allowed: at most {FILE_BYTES_MAX}")
        return Trace.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TraceError(f"{path}: can't be read: {error.strerror}") from error
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()]
        raise TraceError("\n".join(problems[:10])) from error


def natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a key that sorts B2 before B10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part)
