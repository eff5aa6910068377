"""Wiring only: a TaskGroup of edges around the fixed-deadline scan."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import selectors
import signal
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import structlog

from controller.clock import Clock, SystemClock, Trust
from controller.config.plan import Plan
from controller.console.server import serve
from controller.console.tty import serve_tty
from controller.core.commands import Command, Operation, Outcome, rejected
from controller.core.engine import Effects, Engine, View
from controller.core.pod import LINK_DEVICE, Pod
from controller.core.points import Point, Reading, Value, good
from controller.fieldbus.bus import BusWorker
from controller.fieldbus.door import door_of, serve_door
from controller.fieldbus.frames import Request
from controller.fieldbus.guard import needed_points, objection, owned_points
from controller.northbound.journal import Journal
from controller.northbound.link import Link
from controller.northbound.outbox import Outbox
from controller.northbound.publisher import Message
from controller.northbound.publishers import PUBLISHERS, Context
from controller.northbound.snapshot import snapshot
from controller.store import Store
from controller.systemd import Notifier

COMMANDS_MAX = 64
COMMAND_TTL_S = 5.0
BD_SEQ = "sparkplug_bd_seq"  # key in the store
EARLY_SCAN_S = 0.02  # a chattering safety input may not turn the scan into a busy loop
CONSOLE_BAUD = 115200
CANCEL_AGAIN_S = 1.0  # a library may swallow a cancel; it is said again
EDGE_RESTART_S = 5.0
RECENT_S = 600.0  # how long a late scan or a failed edge keeps its alarm up
RECENT_MAX = 1000
TRUST_S = 10.0  # how often is asked whether the wall clock can be believed
EPOCH_STEP_S = 1.0  # a smaller move of the wall clock changes no expiry
FAULTS_LOGGED_EVERY = 1000
FAREWELL_S = 3.0  # how long a stopping controller may take to say so to its broker

Edge = Callable[[], Awaitable[None]]

_log = structlog.get_logger("service")


def precise_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose waits are exact to a tenth of a millisecond.

    epoll rounds them up to whole milliseconds, which is half the silence between two frames at 19200 baud.
    """
    return asyncio.SelectorEventLoop(_Selector())


class _Selector(selectors.SelectSelector):
    """``select`` that forgets a descriptor that was closed under it, as epoll does, and does not fail for all."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return super().select(timeout)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        for key in list(self.get_map().values()):
            try:
                os.fstat(key.fd)
            except OSError:
                self.unregister(key.fd)
                _log.error("a closed descriptor was still watched", descriptor=key.fd)
        return []


def _busy(command: Command) -> Outcome:
    return rejected(command, "busy", "too many commands are waiting")


class Service:
    """One pod's controller. ``run`` returns after SIGTERM or SIGINT; equipment is left running as it is."""

    def __init__(self, plan: Plan, environ: Mapping[str, str] | None = None, clock: Clock | None = None) -> None:
        self._plan = plan
        self._clock = clock or SystemClock()
        self._store = Store(plan.state_dir)
        self._boot = self._store.boot()
        pod = plan.pod
        if (
            self._store.problem
        ):  # a latched trip may be forgotten: racks that run are taken over, nothing starts by itself
            pod = replace(pod, autostart=False)
        self._trust: Trust = self._clock.trust()
        self._trusted_at = self._clock.monotonic()
        self._epoch_s: float | None = None
        self._engine = Engine(pod, self._store.load(), self._clock.monotonic(), self._boot, self._epoch())
        self._inbox: dict[str, Reading] = {}
        self._safety = asyncio.Event()
        self._workers = [BusWorker(bus, self._inbox, self._clock, self._safety.set) for bus in plan.buses]
        self._owned = owned_points(plan.pod)
        for worker in self._workers:
            worker.tools.kept = needed_points(plan.pod)
        self._writers = {point: worker for worker in self._workers for point in worker.points}
        self._journal = Journal(plan.native.root, self._boot)
        self._environ = os.environ if environ is None else environ
        self._bd_seq = self._store.load().get(BD_SEQ, -1)
        self._links = [self._link(name) for name in plan.links]
        self._notifier = Notifier(self._environ)
        self._commands: dict[Command, asyncio.Future[Outcome]] = {}
        self._from_links: list[Command] = []
        self._view: View | None = None
        self._saved: dict[str, object] = {}
        self._scans = 0
        self._overruns = 0
        self._edge_faults = 0
        self._late: deque[float] = deque(maxlen=RECENT_MAX)
        self._recent_faults: deque[float] = deque(maxlen=RECENT_MAX)

    # What the console sees of the service (console.session.Desk).

    def view(self) -> View | None:
        return self._view

    @property
    def pod(self) -> Pod:
        return self._plan.pod

    @property
    def points(self) -> Mapping[str, Point]:
        return self._engine.points

    @property
    def about(self) -> Mapping[str, str]:
        plan = self._plan
        return {"name": plan.name, "site": plan.site, "version": version("podkeeper"), "revision": plan.revision}

    def now(self) -> float:
        return self._clock.monotonic()

    async def submit(
        self,
        operation: Operation,
        target: str,
        principal: str,
        *,
        value: Value | None = None,
        slot: int = 0,
        ttl_s: float = 0.0,
        reason: str = "",
    ) -> Outcome:
        """Hand a command to the next scan and return what became of it in that scan."""
        expires = self.now() + COMMAND_TTL_S
        command = Command(str(uuid.uuid4()), principal, operation, target, expires, value, slot, ttl_s, reason)
        if len(self._commands) >= COMMANDS_MAX:
            return _busy(command)
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._commands[command] = future
        return await future

    def links(self) -> Mapping[str, str]:
        """Return how each link to the outside stands, and what went wrong on each bus, in words."""
        words = {f"mqtt {link.name}": link.in_words() for link in self._links}
        return words | {worker.name: told for worker in self._workers if (told := worker.in_words())}

    # What tools see of it (fieldbus.door.Host).

    @property
    def workers(self) -> Mapping[str, BusWorker]:
        return {worker.name: worker for worker in self._workers}

    def objection(self, bus: str, request: Request) -> str:
        """Return why a tool may not send ``request`` now, or nothing."""
        plan = next(plan for plan in self._plan.buses if plan.name == bus)
        return objection(plan, request, self._view.mode if self._view else "", self._owned)

    async def run(self) -> None:
        """Serve until told to stop."""
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        gc.collect()
        gc.freeze()  # the plan and the imports live as long as the process: keep them out of every collection
        _log.info("started", boot=self._boot, **self.about)
        self._tell_links([self._journal.noted("start", "controller", self._clock.wall_ms(), self.about)])
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(self._kept_up(name, edge), name=name) for name, edge in self._edges()}
            await self._scan_until(stopping)
            self._notifier.stopping()
            self._tell_links([self._journal.noted("stop", "controller", self._clock.wall_ms())])
            for link in self._links:
                link.close()
            if self._links:
                await asyncio.wait({tasks[f"mqtt {link.name}"] for link in self._links}, timeout=FAREWELL_S)
            while left := [task for task in tasks.values() if not task.done()]:
                for task in left:
                    task.cancel()
                await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for link in self._links:
            if link.outbox:
                link.outbox.close()
        self._store.close()
        self._notifier.close()
        _log.info("stopped; equipment is left as it is")

    def _edges(self) -> Iterator[tuple[str, Edge]]:
        console = self._plan.console
        for worker in self._workers:
            yield f"bus {worker.name}", worker.run
        for link in self._links:
            yield f"mqtt {link.name}", link.run
        yield "console", partial(serve, Path(console.socket), self)
        yield "tools", partial(serve_door, door_of(console.socket), self)
        if console.tty:
            yield "console tty", partial(serve_tty, console.tty, CONSOLE_BAUD, self)

    async def _kept_up(self, name: str, edge: Edge) -> None:
        """Run an edge; should it fail, say so and run it again: no edge may take control down with it."""
        while True:
            try:
                await edge()
            except Exception:
                self._edge_faults += 1
                self._recent_faults.append(self.now())
                _log.exception("an edge failed and is started again", edge=name, faults=self._edge_faults)
                await asyncio.sleep(EDGE_RESTART_S)
            else:
                return

    async def _scan_until(self, stopping: asyncio.Event) -> None:
        """Scan at fixed deadlines, and at once when a safety input changes."""
        period = self._plan.scan_s
        deadline = self.now()
        while not stopping.is_set():
            started = self.now()
            self._safety.clear()
            self._scan(started)
            await self._store_changes()
            ended = self.now()
            self._health(ended, ended - started)
            if ended - started <= period:
                self._notifier.watchdog()
            while deadline <= ended:
                deadline += period
                if deadline <= ended:
                    self._overruns += 1
                    self._late.append(ended)
            await asyncio.sleep(EARLY_SCAN_S)
            await self._next_scan(deadline, stopping)

    async def _next_scan(self, deadline: float, stopping: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(self._safety.wait()), asyncio.ensure_future(stopping.wait())]
        try:
            await asyncio.wait(waits, timeout=max(0.0, deadline - self.now()), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _scan(self, now: float) -> None:
        commands, self._commands = self._commands, {}
        asked = [*commands, *self._from_links]
        effects = self._engine.step(now, self._inbox, asked)
        self._scans += 1
        self._view = effects.view
        for write in effects.writes:
            self._writers[write.point].submit(write)
        self._answer(commands, asked, effects.outcomes)
        self._tell(effects)
        self._from_links = self._publish(effects, now)
        if self._scans == 1:
            self._notifier.ready()

    def _answer(
        self, waiting: Mapping[Command, asyncio.Future[Outcome]], asked: Sequence[Command], outcomes: Sequence[Outcome]
    ) -> None:
        """Log what was asked and what became of it; answer the console with the last word of this scan."""
        by_id = {(command.principal, command.id): command for command in asked}
        last = {(outcome.principal, outcome.id): outcome for outcome in outcomes}
        wall_ms = self._clock.wall_ms()
        for outcome in outcomes:
            command = by_id.get((outcome.principal, outcome.id))
            if command is not None and command.operation == "heartbeat":
                continue
            _log.info(
                "command", id=outcome.id, principal=outcome.principal, state=outcome.state, code=outcome.code,
                operation=command.operation if command else None, target=command.target if command else None,
                reason=outcome.message,
            )  # fmt: skip
            self._tell_links([self._journal.command(command, outcome, wall_ms)])
        for link in self._links:
            link.answered(outcomes, wall_ms)
        for command, future in waiting.items():
            if not future.done():
                future.set_result(last[command.principal, command.id])

    def _epoch(self) -> float | None:
        """Return Unix seconds at monotonic 0, None while the wall clock can't be believed; steady unless it is set."""
        now = self.now()
        if now - self._trusted_at >= TRUST_S:
            self._trust, self._trusted_at = self._clock.trust(), now
        if self._trust != "sync":
            return None
        epoch_s = self._clock.wall_ms() / 1000 - now
        if self._epoch_s is None or abs(epoch_s - self._epoch_s) > EPOCH_STEP_S:
            self._epoch_s = epoch_s
        return self._epoch_s

    def _link(self, name: str) -> Link:
        """Return one link with its publisher and its outbox."""
        plan, settings = self._plan, self._plan.links[name]
        folder = self._environ.get("CREDENTIALS_DIRECTORY")
        outbox = Outbox(plan.state_dir / f"outbox-{name}.sqlite", settings.outbox) if settings.outbox else None
        made_of = Context(plan, self.about["version"], self._boot, self._bd_seq, self._keep_bd_seq, answers=self._store)
        publisher = PUBLISHERS[settings.publisher](made_of)
        credentials = Path(folder) if folder else None
        prepare = self._bd_seq_kept if settings.publisher == "sparkplug" else None
        return Link(
            settings, publisher, name=name, outbox=outbox, credentials=credentials, clock=self._clock, prepare=prepare
        )

    def _publish(self, effects: Effects, now: float) -> list[Command]:
        """Let every link see this scan; return what was asked over them. What goes wrong is a fault of one link."""
        picture = snapshot(effects.view, self._clock.wall_ms(), self._boot, self._trust)
        asked: list[Command] = []
        moved = [self._journal.moved(effects.transition, picture)] if effects.transition else []
        self._tell_links([*moved, *self._journal.alarms(effects.alarms, picture)])
        for link in self._links:
            try:
                commands = link.scan(picture, now)
                room = COMMANDS_MAX - len(asked)
                asked += commands[:room]
                link.answered([_busy(command) for command in commands[room:]], picture.wall_ms)
            except Exception:
                self._edge_faults += 1
                self._recent_faults.append(now)
                if self._edge_faults % FAULTS_LOGGED_EVERY == 1:
                    _log.exception("a publisher failed", link=link.name, faults=self._edge_faults)
        return asked

    def _tell_links(self, events: list[Message]) -> None:
        """Hand events to the links of the native tree; no other contract has a journal."""
        for link in self._links:
            if self._plan.links[link.name].publisher == "native":
                link.offer(events)

    def _keep_bd_seq(self, number: int) -> None:
        self._bd_seq = number  # on its way to the disk with the next scan's changes

    async def _bd_seq_kept(self) -> None:
        """Return once the number of the next Sparkplug connection is on disk, so that no crash can use it twice.

        A disk that can't be written does not keep the node away; it has an alarm of its own.
        """
        await self._store_changes()
        await self._store.flush()

    def _tell(self, effects: Effects) -> None:
        """Log what happened in this scan; nothing is logged when nothing happened."""
        if effects.transition:
            moved = effects.transition
            _log.warning("mode", source=moved.source, dest=moved.dest, cause=moved.cause)
            self._notifier.status(f"{moved.dest}: {moved.cause}")
        for event in effects.alarms:
            alarm = event.alarm
            _log.warning(
                "alarm", id=alarm.row.id, what=event.what, state=alarm.state.name, before=event.before.name,
                source=event.source, user=event.user, comment=event.comment, occurrence=alarm.occurrence,
                title=alarm.row.title, value=alarm.value,
            )  # fmt: skip
        for denial in effects.denials:
            _log.warning("output denied", point=denial.point, value=denial.value, reason=denial.reason)

    def _health(self, now: float, took_s: float) -> None:
        for times in (self._late, self._recent_faults):
            while times and now - times[0] > RECENT_S:
                times.popleft()
        numbers = {
            "scans": self._scans,
            "overruns": self._overruns,
            "late_scans": len(self._late),
            "recent_edge_faults": len(self._recent_faults),
            "scan_time": round(1000 * took_s, 2),
            "edge_faults": self._edge_faults,
        }
        for link in self._links:
            points = link.readings(now)
            self._inbox.update({f"{LINK_DEVICE}{link.name}.{name}": good(value, now) for name, value in points.items()})
        self._inbox["controller.store_failing"] = good(bool(self._store.problem), now)
        self._inbox.update({f"controller.{name}": good(float(value), now) for name, value in numbers.items()})

    async def _store_changes(self) -> None:
        self._engine.wall_offset_s = self._epoch()
        saved = {**self._engine.saved(), BD_SEQ: self._bd_seq}
        if saved != self._saved:
            self._saved = saved
            await self._store.save(saved)
