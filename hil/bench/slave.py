"""Slaves on a serial line with the timing of a real one, in a process of their own, and what they saw."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hil.bench.child import Child, Orders
from hil.bench.plans import STILL, word
from hil.wire.rtu import Exchange, RtuLine, exchange_s

SPIN_S = 0.0004


@dataclass(frozen=True, slots=True)
class Line:
    """A serial line to be emulated."""

    baud: int
    units: tuple[int, ...]
    device_time_s: float = 0.005
    silent: tuple[int, ...] = ()
    moving: bool = False
    path: str = ""

    @property
    def silence_s(self) -> float:
        """t3.5"""
        return exchange_s(self.baud, 0, 0, 0.0)

    def legal_s(self, exchange: Exchange) -> float:
        """Return the least time an exchange may take: request, t3.5, device time, reply, t3.5."""
        sizes = exchange.request_bytes, exchange.reply_bytes
        return exchange_s(self.baud, *sizes, self.device_time_s) + self.silence_s


class Words:
    """A unit every register of which holds ``word`` of its address; writes are taken and change nothing.

    Where it is ``moving``, the lowest four bits of every register count how often it was read.
    """

    def __init__(self, unit: int, device_time_s: float, *, moving: bool) -> None:
        self.unit = unit
        self.moving = moving
        self.reads: Counter[int] = Counter()
        self.device_time_s = device_time_s
        self.silent = False
        self.refusal = 0

    def read(self, table: str, address: int, count: int) -> Sequence[int]:  # noqa: ARG002  all tables are alike
        held = [word(self.unit, at) for at in range(address, address + count)]
        if not self.moving:
            return held
        self.reads[address] += 1
        return [value & STILL | self.reads[address] & ~STILL & 0xFFFF for value in held]

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        """Take the words."""


async def serve(line: Line) -> tuple[str, Orders]:
    units = {unit: Words(unit, line.device_time_s, moving=line.moving) for unit in line.units}
    for unit in line.silent:
        units[unit].silent = True
    wire = RtuLine(units, line.baud, Path(line.path), exchanges=deque(), spin_s=SPIN_S)
    await wire.start()

    def orders(order: str, *arguments: Any) -> Any:
        if order == "exchanges":
            return list(wire.exchanges)
        if order == "counters":
            return asdict(wire.counters)
        if order == "silent":
            for unit, words in units.items():
                words.silent = unit in arguments
            return None
        raise ValueError(order)

    return line.path, orders


@contextlib.contextmanager
def served(line: Line) -> Iterator[Child]:
    """Run the line's slaves; ``told`` is the path of the port a master opens."""
    with (
        tempfile.TemporaryDirectory(prefix="podkeeper-measure-") as folder,
        Child(serve, replace(line, path=f"{folder}/line"), realtime=True) as child,
    ):
        yield child


@dataclass(frozen=True, slots=True)
class Use:
    """How a stretch of time on a line was used.

    Attributes:
        utilisation: least legal time of the exchanges over the time they took.
        gaps_s: silences between a reply's last byte leaving the slave and the next request reaching it.
        late_s: how late the slave itself was with its replies, on average.
    """

    utilisation: float
    exchanges: int
    wall_s: float
    gaps_s: tuple[float, ...]
    late_s: float

    def short(self, least_s: float) -> int:
        return sum(gap < least_s for gap in self.gaps_s)


def use(line: Line, exchanges: Sequence[Exchange]) -> Use:
    """Return what the exchanges, all answered and one after another, made of their line."""
    wall_s = exchanges[-1].arrived - exchanges[0].arrived
    gaps = tuple(after.arrived - before.written for before, after in itertools.pairwise(exchanges))
    late = sum(exchange.written - exchange.due for exchange in exchanges) / len(exchanges)
    return Use(sum(map(line.legal_s, exchanges[:-1])) / wall_s, len(exchanges), wall_s, gaps, late)
