"""Keys that break the bench: the menu by itself, and the demo on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence

import pytest

from hil.desk import Fault, FaultError, Standing
from hil.keyboard import Menu


class Recorded:
    """Faults as the menu needs them, of an enclosure of two pumps."""

    def __init__(self) -> None:
        self.acting: list[Standing] = []

    def catalogue(self) -> Sequence[Fault]:
        return (
            Fault("pump.trip", "pump", "trips"),
            Fault("pump.worn", "pump", "gives less", "share", 0.1, 1, 0.8),
            Fault("load.step", "pod", "asks", "%", 0, 110, 100),
            Fault("point.spoil", "point", "holds rubbish", "choice", default="nan", choices=("ffff", "nan")),
        )

    def targets(self, kind: str) -> Sequence[str]:
        return {"pump": [f"pump_{number}" for number in range(1, 13)], "pod": ["pod"], "point": ["a.b"]}[kind]

    def standing(self) -> Sequence[Standing]:
        return tuple(self.acting)

    async def inject(self, name: str, target: str, value: float | str | None) -> None:
        if isinstance(value, float) and value > 110:
            raise FaultError("load.step: allowed: 0 to 110 %")
        self.acting.append(Standing(name, target, value))

    async def heal(self, name: str = "", target: str = "") -> None:
        self.acting = [item for item in self.acting if name and (item.name, item.target) != (name, target)]


@pytest.mark.parametrize(
    ("typed", "acting", "told"),
    [
        ("f112", [Standing("pump.trip", "pump_2", None)], "caused pump.trip pump_2"),
        ("f11n3", [Standing("pump.trip", "pump_12", None)], "caused pump.trip pump_12"),
        ("f11/12\r1", [Standing("pump.trip", "pump_12", None)], "caused pump.trip pump_12"),
        ("f121.\x7f.5\r", [Standing("pump.worn", "pump_1", 0.5)], "caused pump.worn pump_1"),
        ("f21\r", [Standing("load.step", "pod", None)], "caused load.step pod"),
        ("f2135\x7f0\r", [Standing("load.step", "pod", 30.0)], "caused load.step pod"),
        ("f312", [Standing("point.spoil", "a.b", "nan")], "caused point.spoil a.b"),
        ("f/rubbish\r12", [Standing("point.spoil", "a.b", "nan")], "caused point.spoil a.b"),
        ("f/pumq\x7fp tri\r11", [Standing("pump.trip", "pump_1", None)], "caused pump.trip pump_1"),
        ("f/nothing is called so\r1", [], ""),
        ("f21999\r", [], "load.step: allowed: 0 to 110 %"),
        ("f21--\r", [], "'--' is no number"),
        ("f11\x1b2", [], ""),
        ("f9", [], ""),
        ("f112f111h1", [Standing("pump.trip", "pump_1", None)], "healed pump.trip pump_2"),
        ("f112f111H", [], "all healed"),
        ("h", [], "no fault acts"),
    ],
)
async def test_keys_lead_through_the_menu(typed: str, acting: list[Standing], told: str) -> None:
    faults = Recorded()
    menu = Menu(faults)
    for key in typed:
        await menu.key(key)
    assert faults.acting == acting
    assert menu.told == told


async def test_the_menu_says_what_may_be_pressed() -> None:
    menu = Menu(Recorded())
    assert "f cause a fault" in menu.lines[0]
    await menu.key("f")
    assert menu.lines[0].startswith("1 pump ")
    assert "trip, worn" in menu.lines[0]
    await menu.key("2")
    assert menu.lines[0].startswith("1 load.step")
    await menu.key("1")
    assert "0 to 110" in menu.lines[0]


@pytest.mark.slow
def test_the_demo_takes_keys_on_a_terminal_and_leaves_it_as_it_was() -> None:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    command = (sys.executable, "-m", "hil", "demo")
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "50"}
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environ) as process:
        try:
            assert "f cause a fault" in shown(master, "Ctrl-C ends", 40)
            shown(master, "STARTUP", 40)
            for key, answer in (
                ("f", "1 pump "),
                ("1", "1 pump.trip"),
                ("1", "1 pump_1"),
                ("2", "caused pump.trip pump_2"),
                ("H", "all healed"),
            ):
                os.write(master, key.encode())
                shown(master, answer, 10)
        finally:
            process.send_signal(signal.SIGINT)
            shown(master, "demo: mode=", 30)
            assert process.wait(30) == 0
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def shown(master: int, text: str, within_s: float) -> str:
    """Return what the terminal has shown, when ``text`` is in it."""
    seen, end = "", time.monotonic() + within_s
    while text not in seen:
        assert select.select([master], [], [], max(0.0, end - time.monotonic()))[0], f"{text!r} not in:\n{seen}"
        seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(master, 65536).decode(errors="replace"))
    return seen
