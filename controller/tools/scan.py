"""Which unit answers, with which settings, and which profile fits it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass

from controller.config.enclosure import Bus
from controller.config.profile import Probe, Profile
from controller.core.points import Kind, Quality
from controller.fieldbus import frames
from controller.fieldbus.codec import decode
from controller.fieldbus.frames import NoReply, Refused, WrongReply
from controller.tools.access import Access

PROBE_S = 0.07  # for a reply, besides its time on the wire
EVIDENCE_MAX = 8  # rows of a profile that are read to see whether it fits
NOT_THERE = (10, 11)  # the gateway answers, for a unit that does not
SCAN_TIMEOUT_MS, SCAN_BUDGET_MS = 300, 5000


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a profile fits a unit: ``score`` from 0 to 1, above 1 if the register that names the model says so."""

    profile: str
    score: float
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """A unit that answers: what it said to the probe, and the profiles that fit, best first."""

    unit: int
    said: str
    fits: tuple[Fit, ...] = ()


async def answers(access: Access, unit: int, table: str = "holding", address: int = 0) -> str:
    """Return what a unit says to a probe of one register; nothing when it does not answer. An exception is an answer.

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    try:
        (word,) = await access.ask(frames.read(unit, table, address, 1), PROBE_S)
    except Refused as error:
        return "" if error.code in NOT_THERE else str(error)
    except WrongReply as error:
        return f"garbled: {error}"
    except NoReply:
        return ""
    return f"{table} {address} holds 0x{word:04X}"


async def identified(access: Access, unit: int, profiles: Iterable[Profile]) -> tuple[Fit, ...]:
    """Return the profiles that fit ``unit``, best first. What a register holds counts, not that it answers.

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    asker = _Asker(access, unit)
    fits = [fit for profile in profiles if (fit := await _fit(asker, profile))]
    return tuple(sorted(fits, key=lambda fit: -fit.score))


async def _fit(asker: _Asker, profile: Profile) -> Fit | None:
    probe = profile.tables.probe
    named = ""
    if probe is not None:
        words = await asker.read(probe.table, probe.address, probe.words)
        if words is None:
            return None
        if probe.expect is not None:
            if not _as_expected(probe, words):
                return None
            named = f"{probe.table} {probe.address} holds {probe.expect!r}, as it must"
    good, seen = await _evidence(asker, profile)
    if not seen or good * 2 < seen:
        return Fit(profile.name, 1.0, named) if named else None
    rows = f"{good} of {seen} rows in range"
    return Fit(profile.name, good / seen + bool(named), f"{named}; {rows}" if named else rows)


def _as_expected(probe: Probe, words: Sequence[int]) -> bool:
    if isinstance(probe.expect, int):
        return words[0] == probe.expect
    text = b"".join(word.to_bytes(2, "big") for word in words)
    return text.startswith(str(probe.expect).encode())


async def _evidence(asker: _Asker, profile: Profile) -> tuple[int, int]:
    """Return how many rows of a profile hold a usable value, and of how many: numbers and codes all over its map."""
    telling = [row for row in profile.rows.values() if row.access != "w" and row.kind in (Kind.NUMBER, Kind.CODE)]
    telling.sort(key=lambda row: (row.table, row.address))
    rows = telling[:: max(1, len(telling) // EVIDENCE_MAX)][:EVIDENCE_MAX]
    good = 0
    for row in rows:
        words = await asker.read(row.table, row.address, row.width)
        if words is not None:
            reading = decode(row, words, 0.0)
            known = row.kind is not Kind.CODE or reading.value in row.texts
            good += reading.quality is Quality.GOOD and known
    return good, len(rows)


class _Asker:
    """Reads a unit's registers, each only once."""

    def __init__(self, access: Access, unit: int) -> None:
        self._access, self._unit = access, unit
        self._known: dict[tuple[str, int, int], list[int] | None] = {}

    async def read(self, table: str, address: int, count: int) -> list[int] | None:
        key = (table, address, count)
        if key not in self._known:
            try:
                self._known[key] = await self._access.ask(frames.read(self._unit, table, address, count))
            except (NoReply, WrongReply, Refused):
                self._known[key] = None
        return self._known[key]


def numbers(text: str, most: int) -> list[int]:
    """Return the numbers of a list such as ``1-10,20``.

    Raises:
        ValueError: it is none, or goes beyond 0 to ``most``.
    """
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or not int(low) <= int(high or low) <= most:
            raise ValueError(f"{text}: allowed: numbers and ranges from 0 to {most}, such as 1-10,20")
        found += range(int(low), int(high or low) + 1)
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Place:
    """A serial port or a TCP host that is to be scanned, or a bus of the plan that is just that."""

    port: str
    host: str = ""

    def same(self, settings: Bus) -> bool:
        """Return whether a bus of a plan is this place, whatever its path is called."""
        if self.host or settings.host:
            return self.host == settings.host and self.port == str(settings.port)
        return os.path.realpath(self.port) == os.path.realpath(str(settings.port))

    def settings(self, bauds: Sequence[int], parities: Sequence[str]) -> Iterator[Bus]:
        """Return what to try; on a serial line 8 data bits, and two stop bits where there is no parity."""
        common = {"timeout_ms": SCAN_TIMEOUT_MS, "write_budget_ms": SCAN_BUDGET_MS}
        if self.host:
            yield Bus.model_validate({**common, "kind": "tcp", "host": self.host, "port": int(self.port)})
            return
        for baud, parity in itertools.product(bauds, parities):
            line = {"port": self.port, "baud": baud, "parity": parity, "stop_bits": 2 if parity == "none" else 1}
            yield Bus.model_validate({**common, "kind": "rtu", **line})


async def scan(access: Access, units: Iterable[int], profiles: Sequence[Profile]) -> AsyncIterator[Found]:
    """Yield each of ``units`` that answers, with the profiles that fit it.

    Raises:
        LinkError, Denied: as ``access`` does.
    """
    for unit in units:
        said = await answers(access, unit)
        if said:
            yield Found(unit, said, await identified(access, unit, profiles))
