"""The real body of the stage: the controller as a process of its own in front of sockets, ptys and a broker."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from controller.core.points import Value
from hil.channels import Recorder, channels_of
from hil.monitor import Monitor, Picture
from hil.runner import REFERENCE_POD, Bench
from hil.scenarios.model import Scenario, ScenarioError
from hil.stage import Stage
from hil.virtual import Parts, VirtualStage, follow_caps, set_clock, virtual_plan
from hil.warm import warm_up
from hil.wire.tcp import LOOPBACK

SAMPLE_STEPS = 4  # of 50 ms
LETTERS = dict(
    zip("ABCDEFG", ("NORMAL", "UNACK", "ACKED", "RTN_UNACK", "SHELVED", "SUPPRESSED", "OUT_OF_SERVICE"), strict=True)
)


class _Heard(Picture):
    """A picture that tells of every document."""

    def __init__(self, root: str, told: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(root)
        self.told = told

    def take(self, topic: str, payload: bytes | bytearray) -> None:
        super().take(topic, payload)
        name = topic.removeprefix(self.root).strip("/")
        self.told(name, self.table(name))


class BenchStage(Stage):
    """A bench as the catalogue of faults knows it. Whoever makes it runs the bench.

    Attributes:
        alive: whether the controller is to run; False while a fault keeps it down.
        started: set while a controller that the stage has started runs, or has ended by itself.
    """

    body = "real"

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.plan, self.plant, self.record = bench.plan, bench.plant, bench.record
        self.emulators = bench.emulators
        self.alive = True
        self.started = asyncio.Event()
        self._killed: Process | None = None
        self._clock_file = bench.folder / "wall_offset"
        self._began = time.monotonic()
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._errors: list[BaseException] = []

    def set_clock_up(self) -> None:
        """Have the controller started with a wall clock that ``jump_clock`` can set off; a stand-in keeps its own."""
        if self.bench.stand_in:
            return
        self.bench.command = (sys.executable, "-m", "hil.wallclock", str(self._clock_file), "run")

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    async def run(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.active.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ------------------------------------------------------------ what takes time

    def _later(self, work: Coroutine[Any, Any, object]) -> None:
        """Do it after what was asked before."""
        task = asyncio.get_running_loop().create_task(self._in_turn(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _in_turn(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            async with self._turn:
                await work
        finally:
            work.close()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)

    async def done(self) -> None:
        """Wait until everything that was asked for has been done."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._errors:
            raise self._errors.pop(0)

    def controller(self, alive: bool) -> None:
        self.alive = alive
        if not alive:
            self._killed = self.bench.controller
            self.started.clear()
        self._later(self.start() if alive else self.bench.kill_controller())

    async def start(self) -> None:
        """Start the controller."""
        await self.bench.start_controller()
        self.started.set()

    async def died(self) -> int:
        """Return the exit code of a controller that ended though no fault ended it."""
        while True:
            await self.started.wait()
            process = self.bench.controller
            assert process is not None
            code = await process.wait()
            if process is not self._killed:
                return code

    def plug(self, bus: str, plugged: bool) -> None:
        self._later(self.bench.replug(bus) if plugged else self.bench.unplug(bus))

    def line_noise(self, bus: str, name: str, value: Value) -> None:
        wire: Any = self.bench.buses[bus]
        faults = wire.faults if hasattr(wire.faults, name) else wire.tcp_faults  # a device server has both
        before = getattr(faults, name)
        setattr(faults, name, type(before)(value))

    def broker(self, up: bool) -> None:
        assert self.bench.broker is not None
        self._later(self.bench.broker.start(self.bench.mqtt_port) if up else self.bench.broker.stop())

    def jump_clock(self, seconds: float) -> None:
        self._clock_file.write_text(str(seconds))

    def publish(self, messages: Iterable[tuple[str, bytes, bool]]) -> None:
        self._later(asyncio.to_thread(_publish, self.bench.mqtt_port, self.bench.root, list(messages)))


class RealStage(BenchStage):
    """A pod of the bench in real time. Entering it brings the pod up in virtual time first, unless it is to be cold."""

    def __init__(self, scenario: Scenario, *, enclosure: Path = REFERENCE_POD, seed: int = 1) -> None:
        load, overrides = scenario.start.load, scenario.start.overrides
        super().__init__(Bench(enclosure, short=False, broker=True, load=load, seed=seed, overrides=overrides))
        self.seed, self.alive = seed, False
        self._cold = scenario.start.cold
        if any(event.fault == "clock.jump" for event in scenario.event):
            self.set_clock_up()
        self._racks = {rack.name for rack in self.plan.pod.racks}
        self.plant.ambient_c = scenario.start.ambient_c
        self._passed, self._began = 0.0, 0.0
        self._steps = 0
        self._monitor: Monitor | None = None
        self._alarms: dict[str, str] = {}
        self._acting: list[str] = []

    @property
    def now(self) -> float:
        return self._passed + (time.monotonic() - self._began if self._began else 0.0)

    async def __aenter__(self) -> Self:
        parts = Parts(self.plant, self.record, self.bench.emulators)
        warm = VirtualStage(virtual_plan(self.plan), seed=self.seed, parts=parts)
        if not self._cold:
            with _one_at_a_time():
                warm_up(warm)
        self._passed = warm.now
        self.record.clock, self.record.listener = self._now, self.written
        for emulator in self.emulators.values():
            set_clock(emulator, self._now)
        self.recorder = Recorder({channel.name: channel for channel in channels_of(self.plan, self.plant)})
        self.bench.on_step = self._stepped
        self._began = time.monotonic()
        await self.bench.__aenter__()
        self._monitor = Monitor(LOOPBACK, self.bench.mqtt_port, self.bench.root)
        self._monitor.picture = _Heard(self.bench.root, self._heard)
        self._monitor.start()
        return self

    def _now(self) -> float:
        return self.now

    async def __aexit__(self, *_: object) -> None:
        self.alive = False
        await super().__aexit__()
        if self._monitor is not None:
            await self._monitor.stop()
        await self.bench.__aexit__(None, None, None)

    async def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            if self._errors:
                raise self._errors[0]
            left = end - self.now
            if left <= 0:
                return
            await asyncio.sleep(min(left, 1.0))
            process = self.bench.controller
            if self.alive and process is not None and process.returncode is not None:
                said = "\n".join(self.bench.stderr_tail)
                raise ScenarioError(f"the controller ended by itself with exit code {process.returncode}\n{said}")

    def _stepped(self) -> None:
        self._steps += 1
        if self._steps % SAMPLE_STEPS == 0:
            self.recorder.sample(self.now)

    # ------------------------------------------------------------ what the controller says

    def _heard(self, name: str, document: dict[str, Any]) -> None:
        seen, now = self.seen, self.now
        if name == "state" and document:
            mode, acting = str(document.get("mode", "")), list(document.get("interlocks") or ())
            if mode != seen.mode:
                seen.note(seen.modes, now, mode=mode, cause=str(document.get("cause", "")))
            for one in acting:
                if one not in self._acting:
                    seen.note(seen.interlocks, now, text=str(one))
            self._acting = acting
            seen.first_out = seen.first_out or str(document.get("first_out") or "")
        elif name == "dev/pod" or name.removeprefix("dev/") in self._racks:
            follow_caps(self.plant, self.plan, self._said_by_mqtt)
        elif name.startswith("alarm/"):
            self._alarm(name.removeprefix("alarm/"), document, now)
        elif name == "dev/controller" and self._monitor is not None:
            picture = self._monitor.picture
            seen.scan_ms = max(seen.scan_ms, picture.number("controller", "scan_time") or 0.0)
            seen.overruns = picture.number("controller", "overruns") or 0.0

    def _said_by_mqtt(self, point: str) -> float | None:
        device, _, name = point.partition(".")
        return self._monitor.picture.number(device, name) if self._monitor is not None else None

    def _alarm(self, name: str, document: dict[str, Any], now: float) -> None:
        state = LETTERS.get(str(document.get("state", "A")), "NORMAL")
        if self._alarms.get(name, "NORMAL") == state:
            return
        self._alarms[name] = state
        title, priority = str(document.get("title", "")), str(document.get("priority", ""))
        self.seen.note(self.seen.alarms, now, id=name, title=title, priority=priority, state=state)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait until no other process makes a warm start: each takes a core from pods that run in real time."""
    with Path(tempfile.gettempdir(), f"podkeeper-warm-start-{os.getuid()}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _publish(port: int, root: str, messages: list[tuple[str, bytes, bool]]) -> None:
    """Send messages from a client of its own, and wait until the broker has them."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="bench-poison")
    client.connect(LOOPBACK, port)
    client.loop_start()
    sent = [client.publish(f"{root}/{topic}", payload, qos=1, retain=retain) for topic, payload, retain in messages]
    for one in sent:
        one.wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
