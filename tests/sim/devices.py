"""Emulated devices that fail in ways of their own: slow, deaf to writes, late with them, full of rubbish, rebooting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.config.profile import Row
from hil.devices.emulator import Emulator
from hil.wire.pdu import ILLEGAL_ADDRESS, ModbusFault

GARBAGE = {"ffff": 0xFFFF, "8000": 0x8000, "nan": 0x7FC0}  # every register holds this


@dataclass(slots=True)
class DeviceFaults:
    """Faults of one device by the names of the bench's catalogue; neutral values are the defaults."""

    reply_delay_s: float = 0.0
    ignores_writes: bool = False
    write_delay_s: float = 0.0
    map_shift: int = 0


class FaultyEmulator(Emulator):
    """An emulator with ``faults``, ``spoil`` and ``reboot``."""

    def __init__(self, like: Emulator) -> None:
        self.faults = DeviceFaults()
        self._own_s, self._back_at, self._silenced = 0.0, float("-inf"), False
        super().__init__(like.plan, like.behaviour, like.record, like.clock)
        self._spoilt: dict[str, str] = {}
        self._held: dict[str, tuple[int, ...]] = {}
        self._late: list[tuple[float, str, int, tuple[int, ...]]] = []

    @property
    def device_time_s(self) -> float:
        return self._own_s + self.faults.reply_delay_s

    @device_time_s.setter
    def device_time_s(self, seconds: float) -> None:
        self._own_s = seconds

    @property
    def silent(self) -> bool:
        return self._silenced or self.clock() < self._back_at

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._silenced = silent

    def reboot(self, seconds: float) -> None:
        """Be away for so long; then every register is as at power-on until the plant says otherwise."""
        self._back_at = self.clock() + seconds
        for name, value in self.power_on.items():
            self._put(name, value)
        self._shown.clear()

    def spoil(self, point: str, how: str) -> None:
        """Let the registers of ``point`` hold rubbish; an empty ``how`` ends it."""
        self._spoilt.pop(point, None)
        self._held.pop(point, None)
        if how:
            self._spoilt[point] = how

    def tick(self) -> None:
        """Obey the writes that are due now."""
        due = [write for write in self._late if write[0] <= self.clock()]
        for write in due:
            self._late.remove(write)
            super().write(*write[1:])

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        address -= self.faults.map_shift
        if self.faults.ignores_writes:
            return
        if self.faults.write_delay_s:
            self._late.append((self.clock() + self.faults.write_delay_s, table, address, tuple(values)))
            return
        super().write(table, address, values)

    def read(self, table: str, address: int, count: int) -> Sequence[int]:
        if self.faults.map_shift:
            if address < self.faults.map_shift:
                raise ModbusFault(ILLEGAL_ADDRESS)
            return super().read(table, address - self.faults.map_shift, count)
        words = list(super().read(table, address, count))
        for point, how in self._spoilt.items():
            row = self.rows[point]
            if row.table == table and address <= row.address and row.address + row.width <= address + count:
                first = row.address - address
                words[first : first + row.width] = self._rubbish(point, row, how, words[first : first + row.width])
        return words

    def _rubbish(self, point: str, row: Row, how: str, words: list[int]) -> list[int]:
        if row.table in ("coil", "discrete"):
            return [1 - word for word in words]
        if how == "stuck":
            return list(self._held.setdefault(point, tuple(words)))
        if how == "swapped":
            return words[::-1] if len(words) > 1 else [words[0] << 8 & 0xFFFF | words[0] >> 8]
        if how == "negated":
            return [-word & 0xFFFF for word in words]
        if how == "times_10":
            return [word * 10 & 0xFFFF for word in words]
        return [GARBAGE[how]] * len(words)
