"""Keys that break the bench while the demo runs on a terminal: pick a fault, a target, a value; heal it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from hil.desk import Fault, FaultError, Faults, Standing

CHOICES_PER_PAGE = 9
TYPED_MAX = 12
ENTER, ESCAPE, ERASE = "\r\n", "\x1b", "\x7f\b"
HELP = "f cause a fault · h heal one · H heal all · ? help · Ctrl-C ends the demo"
NEXT = "digit: choose · n: more · Esc: back"


@dataclass(slots=True)
class Menu:
    """What the keys have led to so far. Pure but for ``faults``: a key in, the lines to show out.

    Attributes:
        told: the last outcome, in words.
    """

    faults: Faults
    told: str = ""
    _step: str = ""
    _page: int = 0
    _fault: Fault | None = None
    _target: str = ""
    _typed: str = ""
    _standing: Sequence[Standing] = field(default_factory=tuple)

    @property
    def lines(self) -> list[str]:
        """Return what to show below the table."""
        lines = [f"{item.name} {item.target} acts" for item in self.faults.standing()]
        if self._step == "value" and self._fault:
            row = self._fault
            lines.append(
                f"{row.name} {self._target}: value in {row.unit}, {row.low:g} to {row.high:g}; Enter: {row.default:g}"
            )
            lines.append(f"> {self._typed}_")
        elif self._step:
            start = self._page * CHOICES_PER_PAGE
            shown = self._choices()[start : start + CHOICES_PER_PAGE]
            lines += [f"{place} {text}" for place, text in enumerate(shown, 1)]
            lines.append(NEXT)
        else:
            lines.append(HELP)
        return [*lines, self.told] if self.told else lines

    def _choices(self) -> list[str]:
        if self._step == "fault":
            return [f"{row.name:18} {row.text}" for row in self.faults.catalogue()]
        if self._step == "target" and self._fault:
            return list(self._fault.targets)
        if self._step == "choice" and self._fault:
            return list(self._fault.choices)
        return [f"{item.name} {item.target}" for item in self._standing]

    async def key(self, key: str) -> None:
        """Take one key; what it causes is done when this returns."""
        self.told = ""
        if key == ESCAPE:
            self._open("")
        elif not self._step:
            await self._command(key)
        elif self._step == "value":
            await self._type(key)
        elif key == "n":
            pages = -(-len(self._choices()) // CHOICES_PER_PAGE)
            self._page = (self._page + 1) % max(pages, 1)
        elif key.isascii() and key.isdigit() and key != "0":
            await self._choose(self._page * CHOICES_PER_PAGE + int(key) - 1)

    def _open(self, step: str) -> None:
        self._step, self._page, self._typed = step, 0, ""

    async def _command(self, key: str) -> None:
        if key == "f":
            self._open("fault")
        elif key == "h":
            self._standing = tuple(self.faults.standing())
            if self._standing:
                self._open("heal")
            else:
                self.told = "no fault acts"
        elif key == "H":
            await self.faults.heal()
            self.told = "all healed"
        elif key == "?":
            self.told = (
                "f, then a fault, its target and its value by digits; the fault acts until it is healed by h or H"
            )

    async def _choose(self, index: int) -> None:
        if index >= len(self._choices()):
            return
        if self._step == "fault":
            self._fault = self.faults.catalogue()[index]
            self._open("target")
            if len(self._fault.targets) == 1:
                await self._choose(0)
        elif self._step == "target" and self._fault:
            self._target = self._fault.targets[index]
            if self._fault.unit is None:
                await self._inject(None)
            else:
                self._open("choice" if self._fault.choices else "value")
        elif self._step == "choice" and self._fault:
            await self._inject(self._fault.choices[index])
        elif self._step == "heal":
            item = self._standing[index]
            self._open("")
            with contextlib.suppress(FaultError):  # healed meanwhile, by the page
                await self.faults.heal(item.name, item.target)
            self.told = f"healed {item.name} {item.target}"

    async def _type(self, key: str) -> None:
        if key in ENTER:
            try:
                value = float(self._typed) if self._typed else None
            except ValueError:
                self.told = f"{self._typed!r} is no number"
                self._typed = ""
                return
            await self._inject(value)
        elif key in ERASE:
            self._typed = self._typed[:-1]
        elif (key.isdigit() or key in ".-") and len(self._typed) < TYPED_MAX:
            self._typed += key

    async def _inject(self, value: float | str | None) -> None:
        assert self._fault is not None
        name, target = self._fault.name, self._target
        self._open("")
        try:
            await self.faults.inject(name, target, value)
            self.told = f"caused {name} {target}"
        except FaultError as error:
            self.told = str(error)


@contextlib.asynccontextmanager
async def keys() -> AsyncIterator[asyncio.Queue[str]]:
    """Yield a queue of the keys pressed on stdin, without echo or Enter; the terminal is as before afterwards."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    queue: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def ready() -> None:
        data = os.read(descriptor, 64)
        if not data:
            loop.remove_reader(descriptor)
        for key in data.decode("latin-1"):
            queue.put_nowait(key)

    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, ready)
    try:
        yield queue
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
