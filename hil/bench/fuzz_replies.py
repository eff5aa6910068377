"""Whatever comes back on a serial line: no exception leaves the worker, and no value changes without a sound frame.

A script of bytes says what the line answers to each request: the reply that is due, another one, a piece of it, noise.
Scripts come from hypothesis in the tests, and from atheris (guided by coverage) here.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import tty
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from controller.clock import SystemClock
from controller.core.interlocks import Write
from controller.core.points import Quality, Reading
from controller.fieldbus.bus import BusWorker
from hil.bench import plans
from hil.bench.master import ended, quiet, run
from hil.bench.result import Missing, Result
from hil.wire.rtu import crc16, frame_length, with_crc

NAME = "fuzz-replies"
FULL_S, QUICK_S = 600, 30
SESSION_S = 0.1
UNITS, BLOCKS, OUTPUT = (1, 2), {100: 1, 200: 2, 300: 3, 400: 5, 500: 8, 600: 13}, 700
TIMEOUT_MS = 4  # shorter than a real bus may have, for many inputs a second
READ_FUNCTION = 3
WORST_EXIT_S = 60
INSTRUMENTED = """
import atheris
with atheris.instrument_imports(include=["controller.fieldbus"]):
    from hil.bench import fuzz_replies
fuzz_replies.main()
"""


class Line:
    """The far end of a serial line that answers by a script."""

    def __init__(self, script: bytes) -> None:
        self._script = list(script[::-1])
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        self.path = os.ttyname(self.slave)
        self.told = b""  # since the last request
        self.asked = b""  # the last request
        self.done = asyncio.Event()
        self._last = b""  # the reply that was due before
        asyncio.get_running_loop().add_reader(self.master, self._readable)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.master)
        os.close(self.master)
        os.close(self.slave)

    def _next(self) -> int:
        return self._script.pop() if self._script else 0

    def _readable(self) -> None:
        frame = os.read(self.master, 4096)
        if frame_length(frame) != len(frame):
            return
        if not self._script:
            self.done.set()
            return
        self.asked, self.told = frame, b""
        due = self._due(frame)
        for _ in range(1 + self._next() % 3):
            self._tell(self._piece(due))
        self._last = due

    def _tell(self, data: bytes) -> None:
        self.told += data
        if data:
            os.write(self.master, data)

    def _due(self, frame: bytes) -> bytes:
        if frame[1] != READ_FUNCTION:
            return with_crc(frame[:6])
        count = frame[5]
        words = bytes(self._next() for _ in range(2 * count))
        return with_crc(frame[:2] + bytes((2 * count,)) + words)

    def _piece(self, due: bytes) -> bytes:
        """Return what comes next: nothing, the reply, a part, a spoilt or foreign one, the one before, noise."""
        kind, number = self._next() % 8, self._next()
        if kind == 1:
            return due
        if kind == 2:
            return due[: number % len(due)]
        if kind == 3:
            spoilt = bytearray(due)
            spoilt[number % len(due)] ^= 1 + self._next() % 255
            return bytes(spoilt)
        if kind == 4:
            return self._last
        if kind == 5:
            return with_crc(bytes((UNITS[number % 2], self._next())) + due[2:-2])
        if kind == 6:
            return with_crc(bytes((due[0], due[1] | 0x80, number)))
        return bytes(self._next() for _ in range(number % 40)) if kind == 7 else b""


class Watched(dict[str, Reading]):
    """An inbox that lets a number in only where a sound frame on the line has brought it."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line
        self.unsound: list[str] = []
        self.numbers = 0

    def __setitem__(self, point: str, reading: Reading) -> None:
        super().__setitem__(point, reading)
        device, _, name = point.partition(".")
        if reading.quality is Quality.GOOD and name.startswith("r"):
            self.numbers += 1
            if not self._brought(int(device.removeprefix("unit_")), int(name[1:]), reading.value):
                self.unsound.append(f"{point} = {reading.value} after {self._line.told.hex()}")

    def _brought(self, unit: int, address: int, value: object) -> bool:
        asked, told = self._line.asked, self._line.told
        first, count = int.from_bytes(asked[2:4], "big"), asked[5]
        if asked[:2] != bytes((unit, READ_FUNCTION)) or not first <= address < first + count:
            return False
        head, size, place = bytes((unit, READ_FUNCTION, 2 * count)), 5 + 2 * count, 3 + 2 * (address - first)
        frames = (told[at : at + size] for at in range(len(told) - size + 1))
        sound = (frame for frame in frames if frame.startswith(head) and crc16(frame) == 0)
        return any(int.from_bytes(frame[place : place + 2], "big") == value for frame in sound)


async def session(script: bytes) -> int:
    """Run a worker on a line that answers by ``script``; return how many values came.

    Raises:
        AssertionError: a value came that no sound frame brought. Whatever leaves the worker is raised too.
    """
    line = Line(script)
    addresses = [at for first, count in BLOCKS.items() for at in range(first, first + count)]
    rows = {f"r{at}": plans.row(at) for at in addresses} | {"out": plans.row(OUTPUT, access="w")}
    devices = [plans.device(f"unit_{unit}", unit, rows, device_time_s=0.001) for unit in UNITS]
    inbox = Watched(line)
    settings = plans.serial(line.path, 115200).model_copy(update={"timeout_ms": TIMEOUT_MS})
    worker = BusWorker(plans.bus(settings, devices), inbox, SystemClock(), lambda: None)
    for unit in UNITS:
        worker.submit(Write(f"unit_{unit}.out", float(len(script)), False, "fuzz"))
    task, done = asyncio.create_task(worker.run()), asyncio.create_task(line.done.wait())
    try:
        await asyncio.wait({task, done}, timeout=SESSION_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        done.cancel()
        await ended(task)
        line.close()
    if not task.cancelled():
        task.result()
    if inbox.unsound:
        raise AssertionError(inbox.unsound)
    return inbox.numbers


def measure(quick: bool) -> Iterator[Result]:
    """Return how many inputs of atheris made a worker fail, or take a value that no sound frame brought."""
    if find_spec("atheris") is None:
        raise Missing("the Python package atheris, which is for this measurement alone: pip install atheris")
    seconds = QUICK_S if quick else FULL_S
    with tempfile.TemporaryDirectory(prefix="podkeeper-fuzz-") as folder:
        command = (sys.executable, "-c", INSTRUMENTED, folder, "--seconds", str(seconds))
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + WORST_EXIT_S, check=False)
        corpus = len(list(Path(folder).iterdir()))
    counted = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
    covered = re.findall(r"cov: (\d+)", done.stderr)
    detail = {
        "inputs": int(counted[1]) if counted else None,
        "kept": corpus,
        "branches_covered": int(covered[-1]) if covered else None,
        "said": "" if counted and not done.returncode else (done.stdout + done.stderr)[-2000:],
    }
    failed = 0 if counted and not done.returncode else 1
    yield Result(NAME, {"figure": "failures under atheris", "seconds": seconds}, failed, "== 0", detail)


def main() -> None:
    """Run atheris, which must have seen the import of what it is to guide; it ends the process itself."""
    atheris = import_module("atheris")  # for this alone, so that nothing else needs it
    parser = argparse.ArgumentParser(prog="python -m hil.bench.fuzz_replies")
    parser.add_argument("corpus", help="folder where inputs that reach something new are kept")
    parser.add_argument("--seconds", type=int, default=FULL_S)
    given = parser.parse_args()
    quiet()

    def once(data: bytes) -> None:
        run(session(data))

    atheris.Setup(
        [sys.argv[0], f"-max_total_time={given.seconds}", "-max_len=300", "-len_control=0", given.corpus], once
    )
    atheris.Fuzz()
