"""The bench: every device of an enclosure file emulated on real sockets and ptys, around one plant in real time."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from controller.config.enclosure import read_enclosure
from controller.config.plan import Plan, load_plan
from controller.core.points import Value
from hil.broker import Broker
from hil.devices.build import emulators_of, plant_of, split
from hil.plant.plant import STEP_S
from hil.record import Record, Watch
from hil.wire.gateway import Gateway
from hil.wire.rtu import RtuLine
from hil.wire.tcp import LOOPBACK, TcpBus

REFERENCE_POD = Path(__file__).parents[1] / "profiles" / "enclosures" / "reference-pod.toml"
BEHIND_MAX_S = 1.0  # a plant that lags more than this drops the time: the machine was asleep or far too busy
STOP_MAX_S = 20.0
PR_SET_PDEATHSIG = 1  # prctl(2)
STDERR_LINES = 20
STDERR_LINE_BYTES = 65536

# What --full leaves alone: times that make a start-up last minutes on a real pod.
SHORT_TIMES: Mapping[str, Mapping[str, float]] = {
    "startup": {"pump_start_hold_s": 5.0, "primary_prove_s": 3.0, "ready_hold_s": 5.0},
    "power": {"rack_stagger_s": 2.0, "outlet_stagger_s": 0.2},
    "fws": {"chiller_min_on_s": 20.0, "chiller_min_off_s": 20.0},
}
SHORT_CHILLER_START_S, SHORT_CHILLER_IDLE_S = 5.0, 20.0
Bus = RtuLine | TcpBus | Gateway


def short_times(enclosure: Path) -> dict[str, dict[str, float]]:
    """Return the short times of what the enclosure has."""
    given = read_enclosure(enclosure).data
    return {
        name: {key: value for key, value in table.items() if key in given.get(name, {})}
        for name, table in SHORT_TIMES.items()
    }


class Bench:
    """Emulated devices, plant, and the controller as a process of its own. Use it as an async context manager.

    Args:
        enclosure: the enclosure file whose devices are emulated.
        short: shorten start-up, stagger and chiller times (SHORT_TIMES).
        broker: run an embedded MQTT broker; without it ``mqtt_port`` is one that nothing listens on.
        overrides: tables laid over the site file last.
        command: what starts the controller, in place of the installed ``podkeeper run``; ``stand_in`` says so.

    Attributes:
        plan, plant, record, emulators (by device), buses (by name), site_file, mqtt_port, root (of MQTT topics).
        behind_s: how late the plant's last step was; steps_lost: plant steps given up because of it.
    """

    def __init__(
        self,
        enclosure: Path = REFERENCE_POD,
        *,
        short: bool = True,
        broker: bool = False,
        load: float = 0.6,
        seed: int = 1,
        overrides: Mapping[str, Any] | None = None,
        command: Sequence[str] = (),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="podkeeper-bench-"))
        try:
            self.enclosure, self.short, self.overrides = enclosure.resolve(), short, overrides or {}
            self.plan = self._first_plan()
            self.record = Record()
            self.plant = plant_of(self.plan, load, seed)
            self.emulators = emulators_of(self.plan, self.plant, self.record)
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        self.buses = {bus.name: self._bus(bus.name) for bus in self.plan.buses}
        self.broker = Broker() if broker else None
        self.mqtt_port = 0
        self.behind_s, self.steps_lost = 0.0, 0
        self.on_step: Callable[[], object] = lambda: None
        self.stand_in = bool(command)
        self.command = tuple(command) or (str(Path(sys.executable).parent / "podkeeper"), "run")
        self.controller: Process | None = None
        self.stderr_tail: deque[str] = deque(maxlen=STDERR_LINES)
        self._tasks: list[asyncio.Task[None]] = []
        self._reader: asyncio.Task[None] | None = None

    # ------------------------------------------------------------ site file

    @property
    def site_file(self) -> Path:
        return self.folder / "site.toml"

    @property
    def console_socket(self) -> Path:
        return self.folder / "console.sock"

    @property
    def root(self) -> str:
        return self.plan.native.root

    def _first_plan(self) -> Plan:
        """Return the plan before ports are known, so that every override has been checked."""
        self._write_site({})
        return load_plan(self.site_file)

    def _write_site(self, wiring: Mapping[str, Any]) -> None:
        site: dict[str, Any] = {
            "state_dir": str(self.folder / "state"),
            "operation": {"autostart": True},
            "console": {"socket": str(self.console_socket)},
        }
        if self.short:
            site |= {name: table for name, table in short_times(self.enclosure).items() if table}
        site = merged(merged(site, wiring), self.overrides)
        text = f"base = {json.dumps(str(self.enclosure))}\n" + "".join(toml_lines(site))
        self.site_file.write_text(text)

    def _wiring(self) -> dict[str, Any]:
        buses: dict[str, Any] = {}
        for name, bus in self.buses.items():
            if isinstance(bus, RtuLine):
                buses[name] = {"port": str(bus.link)}
            else:
                buses[name] = {"host": bus.host, "port": bus.port}
        mqtt = {"host": LOOPBACK, "port": self.mqtt_port, "protocol": "3.1.1"}  # all the embedded broker speaks
        return {"buses": buses, "links": dict.fromkeys(self.plan.links, mqtt)}

    # ------------------------------------------------------------ life

    def _bus(self, name: str) -> Bus:
        settings = next(bus.settings for bus in self.plan.buses if bus.name == name)
        units = {emulator.unit: emulator for emulator in self.emulators.values() if emulator.plan.bus == name}
        if settings.kind == "tcp":
            return TcpBus(units)
        assert settings.baud is not None
        if settings.kind == "rtu_over_tcp":
            return Gateway(units, settings.baud)
        return RtuLine(units, settings.baud, self.folder / name)

    async def __aenter__(self) -> Self:
        try:
            if self.short:
                for chiller in self.plant.facility.chillers:
                    chiller.start_s, chiller.least_idle_s = SHORT_CHILLER_START_S, SHORT_CHILLER_IDLE_S
                    chiller.start_to_start_s = SHORT_CHILLER_IDLE_S
            self.plant.step()
            for bus in self.buses.values():
                await bus.start()
            self.mqtt_port = await self.broker.start() if self.broker else free_port()
            (self.folder / "state").mkdir(exist_ok=True)
            self._write_site(self._wiring())
            load_plan(self.site_file)
            self._tasks.append(asyncio.create_task(self._run_plant(), name="plant"))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                await self.stop_controller()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for bus in self.buses.values():
                await bus.stop()
            if self.broker:
                await self.broker.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _run_plant(self) -> None:
        deadline = time.monotonic()
        watch = Watch(self.plan, self.plant, self.record)
        while True:
            deadline += STEP_S
            self.behind_s = max(0.0, time.monotonic() - deadline)
            if self.behind_s > BEHIND_MAX_S:
                self.steps_lost += int(self.behind_s / STEP_S)
                deadline = time.monotonic()
            await asyncio.sleep(deadline - time.monotonic())
            self.plant.step()
            for emulator in self.emulators.values():
                emulator.tick()
            watch.look()
            self.on_step()

    # ------------------------------------------------------------ faults

    async def unplug(self, bus: str) -> None:
        """Pull a bus: the pty hangs up, or the sockets close and connections are refused."""
        await self.buses[bus].unplug()

    async def replug(self, bus: str) -> None:
        await self.buses[bus].replug()

    def silence(self, device: str, *, silent: bool = True) -> None:
        """Let a device take requests and answer none of them."""
        self.emulators[device].silent = silent

    def exception(self, device: str, code: int) -> None:
        """Let a device answer everything with a Modbus exception; 0 ends it."""
        self.emulators[device].refusal = code

    def force(self, point: str, value: Value | None) -> None:
        """Hold a point of a device at a value, whatever the plant does; None lets go."""
        device, name = split(point)
        self.emulators[device].force(name, value)

    # ------------------------------------------------------------ the controller's process

    async def start_controller(self, *arguments: str) -> Process:
        """Start the controller as systemd would: its own process, stopped by SIGTERM. Its stderr's tail is kept.

        Raises:
            FileNotFoundError: the podkeeper command is not installed beside this Python.
        """
        if self.controller is not None and self.controller.returncode is None:
            raise RuntimeError("the controller runs already")
        self.stderr_tail.clear()
        self.controller = await asyncio.create_subprocess_exec(
            *self.command,
            "--config",
            str(self.site_file),
            *arguments,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            limit=STDERR_LINE_BYTES,
            start_new_session=True,  # Ctrl-C on the terminal is for the bench, which then sends SIGTERM
            preexec_fn=_end_with_the_bench,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._reader = asyncio.create_task(self._read_stderr(self.controller), name="controller stderr")
        return self.controller

    async def _read_stderr(self, process: Process) -> None:
        assert process.stderr is not None
        while True:
            try:
                line = await process.stderr.readline()
            except ValueError:
                continue  # a line beyond the limit; the reader has dropped it
            if not line:
                return
            self.stderr_tail.append(line.decode(errors="replace").rstrip())

    async def stop_controller(self, timeout_s: float = STOP_MAX_S) -> int | None:
        """Send SIGTERM and wait; return the exit code, or None if no controller runs.

        Raises:
            TimeoutError: it did not stop in time; it has been killed then.
        """
        process = self.controller
        if process is None:
            return None
        try:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            return await self._gone(timeout_s)
        except TimeoutError:
            await self.kill_controller()
            raise

    async def kill_controller(self) -> None:
        """End the controller with SIGKILL, as a crash would, and wait until it is gone."""
        if self.controller is not None:
            if self.controller.returncode is None:
                self.controller.kill()
            await self._gone(STOP_MAX_S)

    async def _gone(self, timeout_s: float) -> int:
        assert self.controller is not None
        async with asyncio.timeout(timeout_s):
            code = await self.controller.wait()
            if self._reader:
                await self._reader
        self.controller, self._reader = None, None
        return code


def _end_with_the_bench() -> None:
    """Have the kernel end this process when its parent ends, however that is: a controller left over would go on
    opening the paths of its serial lines, and the next bench's pseudo-terminals may bear the same names."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid over it, table by table."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def toml_lines(tables: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[str]:
    """Return TOML of nested tables of strings, numbers, booleans and lists of them; JSON writes those alike."""
    plain = {key: value for key, value in tables.items() if not isinstance(value, Mapping)}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in plain.items()]
    if above and plain:
        lines.insert(0, f"\n[{'.'.join(above)}]\n")
    for key, value in tables.items():
        if isinstance(value, Mapping):
            lines += toml_lines(value, (*above, key))
    return lines


def free_port() -> int:
    """Return a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
