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
from typing import Any

from hil.desk import Fault, FaultError, Faults, Standing

CHOICES_PER_PAGE = 9
TYPED_MAX = 24
ENTER, ESCAPE, ERASE = "\r\n", "\x1b", "\x7f\b"
HELP = "f cause a fault · h heal one · H heal all · ? help · Ctrl-C ends the demo"
NEXT = "digit: choose · n: more · /: search · Esc: back"


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
    _family: str = ""
    _fault: Fault | None = None
    _target: str = ""
    _typed: str = ""
    _searching: bool = False
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
            found = self._choices()
            start = self._page * CHOICES_PER_PAGE
            lines += [f"{place} {text}" for place, (text, _) in enumerate(found[start : start + CHOICES_PER_PAGE], 1)]
            pages = -(-len(found) // CHOICES_PER_PAGE)
            counted = f" ({self._page + 1} of {pages})" if pages > 1 else ""
            lines.append(f"/{self._typed}_  Enter: search done" if self._searching else NEXT + counted)
        else:
            lines.append(HELP)
        return [*lines, self.told] if self.told else lines

    def _choices(self) -> list[tuple[str, Any]]:
        """Return what may be chosen now: the text, and what it stands for."""
        words = self._typed.lower().split()
        return [one for one in self._all() if all(word in one[0].lower() for word in words)]

    def _all(self) -> list[tuple[str, Any]]:
        rows = self.faults.catalogue()
        if self._step == "family" and not self._typed:
            names = [row.name for row in rows]
            parts = dict.fromkeys(row.family for row in rows)
            return [
                (f"{part:12} {', '.join(n.partition('.')[2] for n in names if n.startswith(f'{part}.'))}", part)
                for part in parts
            ]
        if self._step in ("family", "fault"):
            of = self._family if self._step == "fault" else ""
            return [(f"{row.name:18} {row.text}", row) for row in rows if of in ("", row.family)]
        if self._step == "target" and self._fault:
            return [(target, target) for target in self.faults.targets(self._fault.kind)]
        if self._step == "choice" and self._fault:
            return [(word, word) for word in self._fault.choices]
        return [(f"{item.name} {item.target}", item) for item in self._standing]

    async def key(self, key: str) -> None:
        """Take one key; what it causes is done when this returns."""
        self.told = ""
        if key == ESCAPE:
            self._open("")
        elif not self._step:
            await self._command(key)
        elif self._step == "value":
            await self._type(key)
        elif self._searching:
            self._search(key)
        elif key == "/":
            self._searching, self._typed, self._page = True, "", 0
        elif key == "n":
            pages = -(-len(self._choices()) // CHOICES_PER_PAGE)
            self._page = (self._page + 1) % max(pages, 1)
        elif key.isascii() and key.isdigit() and key != "0":
            await self._choose(self._page * CHOICES_PER_PAGE + int(key) - 1)

    def _search(self, key: str) -> None:
        if key in ENTER:
            self._searching = False
        elif key in ERASE:
            self._typed = self._typed[:-1]
        elif key.isprintable() and len(self._typed) < TYPED_MAX:
            self._typed += key

    def _open(self, step: str) -> None:
        self._step, self._page, self._typed, self._searching = step, 0, "", False

    async def _command(self, key: str) -> None:
        if key == "f":
            self._open("family")
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
                "f, then a family, a fault, its target and its value by digits, or / and a part of its name; the fault "
                "acts until it is healed by h or H"
            )

    async def _choose(self, index: int) -> None:
        found = self._choices()
        if index >= len(found):
            return
        chosen = found[index][1]
        if isinstance(chosen, Fault):
            self._fault = chosen
            self._open("target")
            if len(self._choices()) == 1:
                await self._choose(0)
        elif self._step == "family":
            self._family = chosen
            self._open("fault")
        elif self._step == "target" and self._fault:
            self._target = chosen
            if not self._fault.unit:
                await self._inject(None)
            else:
                self._open("choice" if self._fault.choices else "value")
        elif self._step == "choice":
            await self._inject(chosen)
        elif self._step == "heal":
            self._open("")
            with contextlib.suppress(FaultError):  # healed meanwhile, by the page
                await self.faults.heal(chosen.name, chosen.target)
            self.told = f"healed {chosen.name} {chosen.target}"

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
