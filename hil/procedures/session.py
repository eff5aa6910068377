"""One procedure on one bench: preconditions before it, a clean bench after it, and the product's own tools between."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controller.config.plan import DevicePlan
from controller.core.pod import outputs
from controller.core.points import Value
from hil.desk import Desk
from hil.monitor import Monitor, Picture
from hil.procedures.bench_file import MixedBench
from hil.procedures.record import Journal
from hil.wire.rtu import RtuLine
from hil.wire.tcp import LOOPBACK

TOOL_MAX_S = 180.0
LOOK_S = 0.2
PODKEEPER = str(Path(sys.executable).parent / "podkeeper")
LINE_COUNTERS = ("crc_errors", "collisions", "unfinished")


@dataclass(slots=True)
class Session:
    """What a procedure works with.

    Attributes:
        seconds: how long what may last longer or shorter lasts.
        before: the outputs of the tested devices as they were found.
    """

    bench: MixedBench
    desk: Desk
    journal: Journal
    seconds: float
    before: dict[str, str] = field(default_factory=dict)

    @property
    def devices(self) -> list[DevicePlan]:
        """Return the devices under test."""
        return [device for device in self.bench.plan.devices if device.name in self.bench.tested]

    async def tool(self, *arguments: str) -> tuple[int, str]:
        """Run a tool of podkeeper on this bench; return exit code and output.

        Raises:
            TimeoutError: it took longer than TOOL_MAX_S; it has been ended then.
        """
        command = (PODKEEPER, *arguments, "--config", str(self.bench.site_file))
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
        try:
            async with asyncio.timeout(TOOL_MAX_S):
                out, _ = await process.communicate()
        except BaseException:
            if process.returncode is None:
                process.kill()
                await process.wait()
            raise
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace").strip()

    async def read(self, points: Iterable[str]) -> tuple[int, dict[str, str]]:
        """Return the tool's exit code, and each point's line without its name."""
        code, out = await self.tool("read", *points)
        return code, {line.partition("  ")[0]: line.partition("  ")[2] for line in out.splitlines() if "  " in line}

    async def write(self, point: str, value: Value) -> bool:
        """Write a point and say in the record whether it was verified by reading it back."""
        told = {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
        code, out = await self.tool("write", point, told)
        return self.journal.note(f"podkeeper write {point} {told}", "verified by its register", out, code == 0)

    def readable(self, device: DevicePlan) -> list[str]:
        return [item.point.id for item in device.points if item.row.access != "w"]

    def output_points(self) -> list[str]:
        """Return the outputs of the tested devices that can be read back."""
        names = {output.point for output in outputs(self.bench.plan.pod)}
        return [point for device in self.devices for point in self.readable(device) if point in names]

    async def preconditions(self) -> bool:
        """Check that the bench is fit to begin, and note how its outputs stand."""
        note, bench = self.journal.note, self.bench
        known = f"all of {', '.join(bench.tested)}"
        fine = note("devices are in the enclosure file", known, ", ".join(bench.unknown) or "all", not bench.unknown)
        for bus in dict.fromkeys(bench.bus_of(device.name) for device in self.devices):
            problem = bench.missing_port(bus)
            fine &= note(f"wire of bus {bus}", "there", problem or "there", not problem)
        if fine:
            points = self.output_points()
            code, self.before = await self.read(points) if points else (0, {})
            good = code == 0 and len(self.before) == len(points)
            seen = "; ".join(f"{point} {value_of(line)}" for point, line in self.before.items()) or "none"
            fine &= note("outputs can be read, and how they stand", "every one GOOD", seen, good)
        return fine

    async def teardown(self, *, moved: bool) -> None:
        """Assert a clean bench: no controller, no fault, nothing forced, counters clean, outputs as found.

        Args:
            moved: a controller has run and may have moved outputs; they are put back and that is no mistake.
        """
        self.journal.phase = "teardown"
        note, bench = self.journal.note, self.bench
        code = await bench.stop_controller()
        note("the controller ends in good order", "exit code 0, or none ran", f"{code}", code in (0, None))
        left = [f"{item.name} {item.target}" for item in self.desk.standing()]
        note("no fault is left", "none", ", ".join(left) or "none", not left)
        forced = [f"{name}.{point}" for name, emulator in bench.emulators.items() for point in emulator.forced]
        note("no point is forced", "none", ", ".join(forced) or "none", not forced)
        dirty = dict(self._dirty())
        told = ", ".join(f"{name}: {text}" for name, text in dirty.items())
        note("error counters of emulated lines", "all 0", told or "all 0", not dirty)
        await self._outputs_as_before(moved)

    def _dirty(self) -> Iterable[tuple[str, str]]:
        for name, bus in self.bench.buses.items():
            counts = {key: getattr(bus.counters, key) for key in LINE_COUNTERS} if isinstance(bus, RtuLine) else {}
            if any(counts.values()):
                yield name, ", ".join(f"{key} {count}" for key, count in counts.items() if count)

    async def _outputs_as_before(self, moved: bool) -> None:
        if not self.before:
            return
        _, now = await self.read(self.before)
        changed = [point for point, line in self.before.items() if value_of(now.get(point, "")) != value_of(line)]
        if moved:
            for point in changed:
                await self.tool("write", point, value_of(self.before[point]).split(" ")[0])
            _, now = await self.read(self.before)
            changed = [point for point, line in self.before.items() if value_of(now.get(point, "")) != value_of(line)]
        seen = "; ".join(
            f"{point}: {value_of(self.before[point])} -> {value_of(now.get(point, ''))}" for point in changed
        )
        self.journal.note("outputs are as they were found", "each as before", seen or "as before", not changed)

    async def watch(self, texts: Sequence[str], monitor: Monitor, within_s: float) -> bool:
        """Wait until the controller is in one of the modes ``texts``."""
        try:
            async with asyncio.timeout(within_s):
                while monitor.picture.mode not in texts:  # noqa: ASYNC110  told by another process
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            return False
        return True

    def monitor(self) -> Monitor:
        return Monitor(LOOPBACK, self.bench.mqtt_port, self.bench.root)

    def running(self, picture: Picture) -> dict[str, bool]:
        """Return which machines say that they run."""
        pod = self.bench.plan.pod
        machines = (*pod.tcs.pumps, *pod.fws.pumps, *pod.fws.chillers)
        return {name: picture.value(name, "running") is True for name in machines}


def value_of(line: str) -> str:
    """Return the value, with its unit, of a line that podkeeper read prints after the point's name."""
    return line.strip().partition("  ")[0]
