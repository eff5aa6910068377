"""One emulated device: its registers, what may be read and written of them, and the behaviour that moves them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.config.plan import DevicePlan
from controller.config.profile import Row
from controller.core.points import Kind, Value
from hil.devices.defaults import default
from hil.devices.encoder import Bank, meaning, place
from hil.record import Record
from hil.wire.pdu import ILLEGAL_ADDRESS, ILLEGAL_VALUE, ModbusFault

REFRESH_S = 0.1
BIT_TABLES = ("coil", "discrete")


@dataclass(frozen=True, slots=True)
class Written:
    """One point as a master wrote it; ``value`` is None for a word that is neither on nor off."""

    name: str
    row: Row
    words: tuple[int, ...]
    value: Value | None


class Behaviour(Protocol):
    """What moves a device's registers."""

    def initial(self) -> Mapping[str, Value]:
        """Return the points that are not at their default when power comes on."""

    def values(self) -> Mapping[str, Value]:
        """Return the points that change by themselves, as they are now; names the device lacks are passed over."""

    def written(self, write: Written) -> None:
        """Take what a master wrote."""


class Constant:
    """A device whose registers nothing moves."""

    def initial(self) -> Mapping[str, Value]:
        return {}

    def values(self) -> Mapping[str, Value]:
        return {}

    def written(self, write: Written) -> None:
        """Keep the words; nothing follows from them."""


class Emulator:
    """A slave made from a device's rows.

    Attributes:
        forced: points held at a value whatever the behaviour says, for tests: a wet leak cable, a pressed EPO.
        silent, refusal: fault hooks of the wire (hil.wire.pdu.Responder).
    """

    def __init__(
        self, plan: DevicePlan, behaviour: Behaviour, record: Record, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.unit, self.plan = plan.name, plan.unit, plan
        self.behaviour, self.record, self.clock = behaviour, record, clock
        self.device_time_s = plan.profile.link.device_time_ms / 1000
        self.silent = False
        self.refusal = 0
        self.forced: dict[str, Value] = {}
        self.rows = {point.point.name: point.row for point in plan.points}
        self.banks: dict[str, Bank] = {table: {} for table in ("holding", "input", *BIT_TABLES)}
        self.inside: dict[str, set[int]] = {table: set() for table in self.banks}
        self.writable: dict[str, set[int]] = {table: set() for table in self.banks}
        for row in self.rows.values():
            self._lay_out(row)
        self._fill_holes()
        self._shown: dict[str, Value] = {}  # what the behaviour's points were when they were last laid down
        self._names: set[str] = set()  # of the points that the behaviour gave last
        self._order: tuple[str, ...] = ()
        self._sharers = self._flags_in_words()
        self.power_on = self._at_power_on()
        for name, value in self.power_on.items():
            self._put(name, value)
        self._refreshed = float("-inf")

    def _lay_out(self, row: Row) -> None:
        addresses = range(row.address, row.address + row.width)
        for address in addresses:
            self.banks[row.table].setdefault(address, 0)
            if row.access != "r":
                self.writable[row.table].add(address)
        if row.type != "text":
            self.inside[row.table].update(addresses[1:])

    def _fill_holes(self) -> None:
        """Let reads run over the small holes that the profile says the device bears."""
        bearable = self.plan.profile.link.max_hole_words
        for table in ("holding", "input"):
            known = sorted(self.banks[table])
            for before, after in itertools.pairwise(known):
                if 1 < after - before <= bearable + 1:
                    self.banks[table].update(dict.fromkeys(range(before + 1, after), 0))

    def _at_power_on(self) -> dict[str, Value]:
        """Return every point's first value: whole registers before the flags that share them."""
        device_class = self.plan.profile.device_class
        values = {name: default(device_class, name, row) for name, row in self.rows.items()}
        values |= {item.point: item.value for item in self.plan.profile.comm_loss.expect}
        values |= {name: value for name, value in self.behaviour.initial().items() if name in self.rows}
        return dict(sorted(values.items(), key=lambda item: self.rows[item[0]].kind is Kind.FLAG))

    def _put(self, name: str, value: Value) -> None:
        row = self.rows[name]
        place(self.banks[row.table], row, self._kept_in_range(row, value))

    def force(self, name: str, value: Value | None) -> None:
        """Hold a point at ``value``; None lets it go, back to what it was at power-on or to what the plant says."""
        if name not in self.rows:
            raise KeyError(f"{self.name} has no point {name}")
        if value is not None:
            self.forced[name] = value
        elif self.forced.pop(name, None) is not None:
            self._put(name, self.power_on[name])
        self._shown.clear()
        self._refreshed = float("-inf")

    def refresh(self) -> None:
        """Bring the registers up to date, at most every 100 ms."""
        now = self.clock()
        if now - self._refreshed < REFRESH_S:
            return
        self._refreshed = now
        values = {**self.behaviour.values(), **self.forced}
        if values.keys() != self._names:
            self._names = set(values)
            self._order = tuple(sorted((name for name in values if name in self.rows), key=self._is_flag))
        shown, again = self._shown, set[str]()
        for name in self._order:
            value = values[name]
            if name not in shown or shown[name] != value or name in again:
                self._put(name, value)
                shown[name] = value
                again.update(self._sharers.get(name, ()))

    def _is_flag(self, name: str) -> bool:
        return self.rows[name].kind is Kind.FLAG

    def _flags_in_words(self) -> dict[str, list[str]]:
        """Return, for each whole register, the flags that are bits of it and must be laid down after it."""
        words: dict[tuple[str, int], list[str]] = {}
        for name, row in self.rows.items():
            if row.kind is Kind.FLAG and row.table not in BIT_TABLES:
                words.setdefault((row.table, row.address), []).append(name)
        return {
            name: flags
            for name, row in self.rows.items()
            for address in range(row.address, row.address + row.width)
            if (flags := words.get((row.table, address)))
        }

    @staticmethod
    def _kept_in_range(row: Row, value: Value) -> Value:
        if row.range is None or isinstance(value, str):
            return value
        return min(row.range[1], max(row.range[0], float(value)))

    def read(self, table: str, address: int, count: int) -> Sequence[int]:
        """Return words or bits.

        Raises:
            ModbusFault: 3 for more than the device gives at once, 2 for an address it does not have, for half of a
                multi-register value, and for a read across a barrier.
        """
        link, bank, inside = self.plan.profile.link, self.banks[table], self.inside[table]
        if table not in BIT_TABLES and count > link.max_read_words:
            raise ModbusFault(ILLEGAL_VALUE)
        if address in inside or address + count in inside:
            raise ModbusFault(ILLEGAL_ADDRESS)
        if table not in BIT_TABLES and any(address < barrier < address + count for barrier in link.barriers):
            raise ModbusFault(ILLEGAL_ADDRESS)
        self.refresh()
        try:
            return [bank[at] for at in range(address, address + count)]
        except KeyError:
            raise ModbusFault(ILLEGAL_ADDRESS) from None

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        """Take words or bits, all or none.

        Raises:
            ModbusFault: 2 for an address that can't be written or half of a value, 3 for a value out of range.
        """
        end = address + len(values)
        if not all(at in self.writable[table] for at in range(address, end)):
            raise ModbusFault(ILLEGAL_ADDRESS)
        if address in self.inside[table] or end in self.inside[table]:
            raise ModbusFault(ILLEGAL_ADDRESS)
        writes = [
            self._judged(name, row, tuple(values[row.address - address : row.address - address + row.width]))
            for name, row in self.rows.items()
            if row.table == table and row.access != "r" and address <= row.address < end
        ]
        for offset, word in enumerate(values):
            self.banks[table][address + offset] = word
        for write in writes:
            self.record.wrote(f"{self.name}.{write.name}", write.value)
            self.behaviour.written(write)
        self._shown.clear()
        self._refreshed = float("-inf")

    @staticmethod
    def _judged(name: str, row: Row, words: tuple[int, ...]) -> Written:
        value = meaning(row, words)
        if row.kind is Kind.CODE and value not in row.texts:
            raise ModbusFault(ILLEGAL_VALUE)
        if row.kind is Kind.NUMBER and row.range is not None:
            low, high = row.range
            if not isinstance(value, float | int) or not low <= value <= high:
                raise ModbusFault(ILLEGAL_VALUE)
        return Written(name, row, words, value)
