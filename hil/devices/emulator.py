"""One emulated device: its registers, what may be read and written of them, and the behaviour that moves them."""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from controller.config.plan import DevicePlan
from controller.config.profile import Row
from controller.core.points import Kind, Value
from hil.devices.defaults import default
from hil.devices.encoder import BIT_TABLES, Bank, exponent_for, meaning, packed, place_bits, placer, spoilt, told
from hil.devices.faults import DeviceFaults
from hil.devices.quirks import QUIRKS, STANDARD
from hil.devices.watch import BusWatch
from hil.record import Record
from hil.wire import faults as wire_faults
from hil.wire.pdu import ILLEGAL_ADDRESS, ModbusFault

REFRESH_S = 0.1
LATE_WRITES_MAX = 1000


@dataclass(frozen=True, slots=True)
class Written:
    """One point as a master wrote it; ``value`` is None for a word that is neither on nor off."""

    name: str
    row: Row
    words: tuple[int, ...]
    value: Value | None


class Channel(Protocol):
    """A transmitter of the plant; hil/plant/README.md lists its modes."""

    @property
    def mode(self) -> str:
        """Return how it fails."""

    @property
    def value(self) -> float:
        """Return what it shows."""


class Behaviour:
    """What moves a device's registers. This one moves nothing: what is written is kept, and nothing follows."""

    def serve(self, names: Collection[str]) -> None:
        """Learn which points the device has: others need not be worked out."""

    def initial(self) -> Mapping[str, Value]:
        """Return the points that are not at their default when power comes on."""
        return {}

    def values(self) -> Mapping[str, Value]:
        """Return the points that change by themselves, as they are now; names the device lacks are passed over.

        A number that is NaN shows as the register's way to say that there is no value.
        """
        return {}

    def channels(self) -> Mapping[str, Channel]:
        """Return the transmitter behind each point that shows one: some of its faults live on the wire."""
        return {}

    def written(self, write: Written) -> None:
        """Take what a master wrote."""

    def take(self, name: str, value: Value) -> None:
        """Obey the device itself, whose bus is silent or has come back."""

    def restart(self) -> None:
        """Lose power: machines stop, latches and commands are gone."""


def _bits(row: Row) -> int:
    """Return how many bits of its registers a row's value takes."""
    return 1 if row.kind is Kind.FLAG or row.type == "text" else told(row)[0].bit_count()


class Emulator:
    """A slave made from a device's rows. README.md lists its fault hooks.

    Attributes:
        forced: points held at a value whatever the behaviour says, for tests: a wet leak cable, a pressed EPO.
        faults: what it does wrong. watch: its own watch over the bus.
        forbidden_reads: requests that ran into a range the profile forbids.
    """

    def __init__(
        self, plan: DevicePlan, behaviour: Behaviour, record: Record, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.unit, self.plan = plan.name, plan.unit, plan
        self.behaviour, self.record, self.clock = behaviour, record, clock
        self.device_time_s = plan.profile.link.device_time_ms / 1000
        self.quirks = QUIRKS.get(plan.profile.name, STANDARD)
        self.faults = DeviceFaults()
        self.forbidden_reads = 0
        self.forced: dict[str, Value] = {}
        self.rows = {point.point.name: point.row for point in plan.points}
        self.banks: dict[str, Bank] = {table: {} for table in ("holding", "input", *BIT_TABLES)}
        self.inside: dict[str, set[int]] = {table: set() for table in self.banks}
        self.writable: dict[str, set[int]] = {table: set() for table in self.banks}
        for row in self.rows.values():
            self._lay_out(row)
        self._lay_out_scales()
        self._fill_holes()
        self._writable_rows = [(name, row) for name, row in self.rows.items() if row.access != "r"]
        self._placers = {name: placer(row) for name, row in self.rows.items()}
        self._shown: dict[str, Value] = {}  # what the behaviour's points were when they were last laid down
        self._names: set[str] = set()  # of the points that the behaviour gave last
        self._order: tuple[str, ...] = ()
        self._sharers = self._flags_in_words()
        self._spoilt: dict[str, tuple[str, list[int]]] = {}
        behaviour.serve(self.rows.keys())
        self._channels: dict[Channel, list[str]] = {}  # the points that show each transmitter
        for name, channel in behaviour.channels().items():
            if name in self.rows:
                self._channels.setdefault(channel, []).append(name)
        self._overlay: dict[str, Bank] = {}
        self._late: deque[tuple[float, str, int, Sequence[int]]] = deque()
        self._boots_at: float | None = None
        self.watch = BusWatch(self)
        self.power_on = self._at_power_on()
        for name, value in self.power_on.items():
            self._put(name, value)
        self._refreshed = float("-inf")

    # ------------------------------------------------------------ registers

    def _lay_out(self, row: Row) -> None:
        addresses = range(row.address, row.address + row.value_words)
        for address in addresses:
            self.banks[row.table].setdefault(address, 0)
            if row.access != "r":
                self.writable[row.table].add(address)
        if row.type != "text":
            self.inside[row.table].update(addresses[1:])

    def _lay_out_scales(self) -> None:
        """Give every scale-factor register one value that suits all its points, and what lies between a reading."""
        sharing: dict[tuple[str, int], list[Row]] = {}
        for row in self.rows.values():
            if row.scale_from is not None:
                sharing.setdefault((row.table, row.scale_from), []).append(row)
                for address in range(row.address, row.scale_from):
                    self.banks[row.table].setdefault(address, 0)
        for (table, address), rows in sharing.items():
            self.banks[table][address] = exponent_for(rows) & 0xFFFF

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
        device_class, probe = self.plan.profile.device_class, self.plan.profile.tables.probe
        values = {name: default(device_class, name, row) for name, row in self.rows.items()}
        values |= {item.point: item.value for item in self.plan.profile.comm_loss.expect}
        values |= {name: value for name, value in self.behaviour.initial().items() if name in self.rows}
        if probe is not None and isinstance(probe.expect, int):
            self.banks[probe.table].setdefault(probe.address, probe.expect)
        elif probe is not None and isinstance(probe.expect, str):
            values |= {
                name: probe.expect
                for name, row in self.rows.items()
                if (row.table, row.address, row.type) == (probe.table, probe.address, "text")
            }
        return dict(sorted(values.items(), key=lambda item: -_bits(self.rows[item[0]])))

    def _put(self, name: str, value: Value) -> None:
        row = self.rows[name]
        bank, limits = self.banks[row.table], row.range
        if isinstance(value, float) and math.isnan(value):
            self._put_nothing(row, bank)
            return
        if limits is not None and not isinstance(value, str):
            value = min(limits[1], max(limits[0], float(value)))
        self._placers[name](bank, value)

    @staticmethod
    def _put_nothing(row: Row, bank: Bank) -> None:
        """Put what the device sends in place of a value it hasn't got: its sentinel, else all ones, of a float NaN."""
        if row.type.startswith("float"):
            place_bits(bank, row, packed(row, math.nan))
        else:
            place_bits(bank, row, row.sentinels[0] if row.sentinels else -1)

    def value(self, name: str) -> Value | None:
        """Return what the registers of a point that has a meaning on its own hold now."""
        row = self.rows[name]
        bank = self.banks[row.table]
        return meaning(row, [bank[at] for at in range(row.address, row.address + row.value_words)])

    def refresh(self) -> None:
        """Bring the registers up to date, at most every 100 ms."""
        now = self.clock()
        if now - self._refreshed < REFRESH_S:
            return
        self._refreshed = now
        values, swapped = dict(self.behaviour.values()), list[str]()
        for channel, names in self._channels.items():
            mode = channel.mode
            if mode == "dropout":
                values |= dict.fromkeys(names, math.nan)
            elif mode == "word_swap":
                swapped += names
        if self.forced:
            values |= self.forced
        self._show(values)
        if self._spoilt or swapped or self._overlay:
            self._lay_over({**dict.fromkeys(swapped, ("swapped", [])), **self._spoilt})

    def _show(self, values: Mapping[str, Value]) -> None:
        """Lay down what has changed; flags after the whole words that they share."""
        if values.keys() != self._names:
            self._names = set(values)
            self._order = tuple(sorted((name for name in values if name in self.rows), key=self._is_flag))
        shown, again = self._shown, set[str]()
        for name in self._order:
            value = values[name]
            if shown.get(name) != value or name in again:
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
            for address in range(row.address, row.address + row.value_words)
            if (flags := words.get((row.table, address)))
        }

    def _lay_over(self, rubbish: Mapping[str, tuple[str, list[int]]]) -> None:
        self._overlay = {}
        for name, (how, stuck) in rubbish.items():
            row = self.rows[name]
            bank, addresses = self.banks[row.table], range(row.address, row.address + row.value_words)
            words = stuck if how == "stuck" else spoilt(row, [bank[at] for at in addresses], how)
            self._overlay.setdefault(row.table, {}).update(zip(addresses, words, strict=True))

    # ------------------------------------------------------------ what masters ask

    def read(self, table: str, address: int, count: int) -> Sequence[int]:
        """Return words or bits.

        Raises:
            ModbusFault: 3 for more than the device gives at once, 2 for an address it does not have, for half of a
                multi-register value, and for a read across a barrier; other codes where the device's maker has others.
        """
        self.watch.heard()
        address -= self.faults.map_shift
        bank, words = self.banks[table], table not in BIT_TABLES
        if words:
            self._judge_read(table, address, count)
        self.refresh()
        seen = [*map(bank.get, range(address, address + count))]
        if None in seen:
            if self.quirks.hole_word is None or not words:
                raise ModbusFault(self.quirks.hole_code)
            seen = [self.quirks.hole_word if word is None else word for word in seen]
        if self._overlay:
            over = self._overlay.get(table, {})
            seen = [over.get(at, word) for at, word in zip(range(address, address + count), seen, strict=True)]
        return seen  # type: ignore[return-value]  # no None is left

    @property
    def plain(self) -> bool:
        """Whether the device answers in its own time and with what its registers hold."""
        faults = self.faults
        return not (
            self._boots_at is not None
            or self._overlay
            or self._spoilt
            or faults.silent
            or faults.refusal
            or faults.reply_delay_s
            or faults.map_shift
        )

    def look(self, table: str, address: int, count: int) -> Callable[[], tuple[int, ...]] | None:
        """Return what ``read`` comes to while the device is ``plain`` and after it was ``touched``.

        None where it would be refused, or registers that are not there would be read.
        """
        bank, addresses = self.banks[table], range(address, address + count)
        if not all(at in bank for at in addresses):
            return None
        if table not in BIT_TABLES:
            if self._forbidden(address, address + count):
                return None
            try:
                self._judge_read(table, address, count)
            except ModbusFault:
                return None
        words = itemgetter(*addresses)
        return (lambda: (words(bank),)) if count == 1 else (lambda: words(bank))

    def touched(self) -> bool:
        """Take note of a request and bring the registers up to date; return whether they may be looked at."""
        self.watch.heard()
        self.refresh()
        return not self._overlay

    def _judge_read(self, table: str, address: int, count: int) -> None:
        link, inside, end = self.plan.profile.link, self.inside[table], address + count
        if count > link.max_read_words or (self.quirks.even_reads and count % 2):
            raise ModbusFault(self.quirks.value_code)
        if address in inside or end in inside or any(address < barrier < end for barrier in link.barriers):
            raise ModbusFault(ILLEGAL_ADDRESS)
        if self._forbidden(address, end):
            self.forbidden_reads += 1
            raise ModbusFault(ILLEGAL_ADDRESS)

    def _forbidden(self, address: int, end: int) -> bool:
        return any(first < end and address <= last for first, last in self.plan.profile.link.forbidden)

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        """Take words or bits, all or none.

        Raises:
            ModbusFault: 2 for an address that can't be written or half of a value, 3 for a value out of range; other
                codes where the device's maker has others.
        """
        self.watch.heard()
        address -= self.faults.map_shift
        end, inside = address + len(values), self.inside[table]
        if not self.writable[table].issuperset(range(address, end)) or address in inside or end in inside:
            raise ModbusFault(self.quirks.hole_code)
        writes = self._writes(table, address, values)
        for write in writes:
            self.record.wrote(f"{self.name}.{write.name}", write.value)
        if self.faults.ignores_writes:
            return
        if self.faults.write_delay_s:
            if len(self._late) < LATE_WRITES_MAX:
                self._late.append((self.clock() + self.faults.write_delay_s, table, address, values))
            return
        self._obey(table, address, values, writes)

    def _writes(self, table: str, address: int, values: Sequence[int]) -> list[Written]:
        """Return which points a master meant; raises ModbusFault for a value that one of them can't have."""
        return [
            self._judged(name, row, tuple(values[row.address - address : row.address - address + row.value_words]))
            for name, row in self._writable_rows
            if row.table == table and address <= row.address < address + len(values)
        ]

    def _obey(self, table: str, address: int, values: Sequence[int], writes: Sequence[Written]) -> None:
        for offset, word in enumerate(values):
            self.banks[table][address + offset] = word
        for write in writes:
            self.watch.written(write.name)
            self.behaviour.written(write)
        self._stale()

    def _stale(self) -> None:
        """Have every register laid down anew at the next read."""
        self._shown.clear()
        self._refreshed = float("-inf")

    def _judged(self, name: str, row: Row, words: tuple[int, ...]) -> Written:
        value = meaning(row, words)
        if row.kind is Kind.CODE and value not in row.texts:
            raise ModbusFault(self.quirks.value_code)
        if row.kind is Kind.NUMBER and row.range is not None:
            low, high = row.range
            if not isinstance(value, float | int) or not low <= value <= high:
                raise ModbusFault(self.quirks.value_code)
        return Written(name, row, words, value)

    # ------------------------------------------------------------ faults

    @property
    def booting(self) -> bool:
        return self._boots_at is not None

    @property
    def bus_lost(self) -> bool:
        """Whether the device has given up its bus and reacts to it."""
        return self.watch.lost

    @property
    def silent(self) -> bool:
        return self.faults.silent or self._boots_at is not None

    @silent.setter
    def silent(self, silent: bool) -> None:
        self.faults.silent = silent

    @property
    def refusal(self) -> int:
        return self.faults.refusal

    @refusal.setter
    def refusal(self, code: int) -> None:
        self.faults.refusal = code

    def _known(self, name: str) -> Row:
        row = self.rows.get(name)
        if row is None:
            raise KeyError(f"{self.name} has no point {name}")
        return row

    def force(self, name: str, value: Value | None) -> None:
        """Hold a point at ``value``; None lets it go, back to what it was at power-on or to what the plant says.

        Raises:
            KeyError: the device has no such point.
        """
        self._known(name)
        if value is not None:
            self.forced[name] = value
        elif self.forced.pop(name, None) is not None:
            self._put(name, self.power_on[name])
        self._stale()

    def spoil(self, name: str, how: str) -> None:
        """Let a point's registers hold rubbish (encoder.WAYS); nothing heals it.

        Raises:
            KeyError: the device has no such point.
            ValueError: no such way, or not for a point of this type.
        """
        row = self._known(name)
        self._stale()
        self.refresh()
        words = [self.banks[row.table][at] for at in range(row.address, row.address + row.value_words)]
        if how:
            spoilt(row, words, how)
            self._spoilt[name] = how, words
        else:
            self._spoilt.pop(name, None)
        self._stale()

    @property
    def spoilt_points(self) -> dict[str, str]:
        """How each point that is spoilt is."""
        return {name: how for name, (how, _) in self._spoilt.items()}

    def reboot(self, off_s: float, *, settings_lost: bool = False) -> None:
        """Lose power for ``off_s`` seconds. Where ``settings_lost``, what was commissioned is at its default after."""
        self._boots_at = self.clock() + off_s
        self._late.clear()
        self.behaviour.restart()
        if settings_lost:
            for item in self.plan.profile.comm_loss.expect:
                self.power_on[item.point] = default("", item.point, self.rows[item.point], commissioned=False)

    def clear_faults(self) -> None:
        """Make every fault neutral; what was written late comes into effect at the next tick."""
        wire_faults.clear(self.faults)
        for name in [*self._spoilt]:
            self.spoil(name, "")
        for name in [*self.forced]:
            self.force(name, None)

    def tick(self) -> None:
        """Do what is due: late writes, the end of a reboot, the watch over the bus."""
        if self._boots_at is None and not self._late and not self.watch.watches:
            return
        now = self.clock()
        if self._boots_at is not None and now >= self._boots_at:
            self._boots_at = None
            self.watch.restart()
            for name, value in self.power_on.items():
                self._put(name, value)
                if self.rows[name].access != "r":
                    self.behaviour.take(name, value)
            self._stale()
        while self._late and self._late[0][0] <= now:
            _, table, address, values = self._late.popleft()
            self._obey(table, address, values, self._writes(table, address, values))
        if self._boots_at is None:
            self.watch.tick(now)
