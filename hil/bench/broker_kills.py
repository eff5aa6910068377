"""A broker that is killed under load again and again, and one that hangs: what is lost, and who waits.

A twin with the same devices and a broker that nobody touches runs beside it: what both feel alike is the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import getpass
import itertools
import json
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from controller.clock import SystemClock
from controller.config.enclosure import OutboxLimits
from controller.config.plan import Plan
from controller.core.modes import Transition
from controller.core.points import Reading
from controller.fieldbus.bus import BusWorker
from controller.northbound.journal import Journal
from controller.northbound.outbox import Outbox
from controller.northbound.snapshot import Snapshot
from hil.bench import plans
from hil.bench.child import Child, Orders
from hil.bench.master import Inbox, quiet
from hil.bench.poll_cost import ADDRESSES, UNIT, serve
from hil.bench.publish import BOOT, Edge, program, wait_for
from hil.bench.result import Result
from hil.runner import free_port
from hil.wire.tcp import LOOPBACK

NAME = "broker-kills"
DEVICES, PERIOD_S = 8, 0.5
LIMITS = OutboxLimits(max_mib=64, max_age_h=72, every_s=1.0, drain_per_s=200)
BACK_OFF_S = 0.5
UP_S = (1.2, 2.5)
DOWN_S = (0.1, 1.0)
SETTLE_S = 5.0
CATCH_UP_S = 60.0
JITTER_BAR = 0.05
EVENTS = "bench/evt"


def retry(ceiling_s: float) -> float:
    """Return a short back-off: a hundred broken connections fit into the time, and come as often as they can."""
    return random.uniform(0.0, min(ceiling_s, BACK_OFF_S))


class Talking(Edge):
    """Publishes two events a scan, audit and event in turn, and notes how late each scan was."""

    def __init__(self, plan: Plan, inbox: Mapping[str, Reading], folder: Path) -> None:
        self.outbox = Outbox(folder / "outbox.sqlite", LIMITS)
        super().__init__(plan, inbox, outbox=self.outbox, delay=retry)
        self._journal = Journal(plan.native.root, BOOT)
        self.events = 0
        self.talking = True
        self.scans: list[float] = []

    def scanned(self, picture: Snapshot, now: float) -> None:
        self.scans.append(now)
        if self.talking:
            moved = Transition("OFF", "STARTUP.precheck", "bench", now)
            self.link.offer([self._journal.moved(moved, picture), self._journal.noted("login", "b", picture.wall_ms)])
            self.events += 2


async def pod(spec: tuple[list[int], int, str]) -> tuple[None, Orders]:
    """The controller's edges: a worker for each device, the native tree, the journal and the outbox."""
    quiet()
    ports, mqtt_port, folder = spec
    rows = {f"r{at}": plans.row(at) for at in ADDRESSES}
    buses = [
        plans.bus(
            plans.tcp(port),
            [plans.device(f"d{n}", UNIT, rows, bus=f"bus{n}", period_s=PERIOD_S, device_time_s=0.0)],
            f"bus{n}",
        )
        for n, port in enumerate(ports)
    ]
    inbox = Inbox()
    plan = plans.enclosure(buses, mqtt_port)
    links = {name: link.model_copy(update={"outbox": LIMITS}) for name, link in plan.links.items()}
    edge = Talking(dataclasses.replace(plan, links=links), inbox, Path(folder))
    tasks = [asyncio.create_task(BusWorker(bus, inbox, SystemClock(), lambda: None).run()) for bus in buses]
    tasks.append(asyncio.create_task(edge.run()))

    def orders(order: str) -> Any:
        if order == "times":
            scans, polls = list(edge.scans), [list(inbox.good[f"d{n}.r0"]) for n in range(len(ports))]
            edge.scans.clear()
            for n in range(len(ports)):
                inbox.good[f"d{n}.r0"].clear()
            return scans, polls
        if order == "silence":
            edge.talking = False
            return edge.events
        assert order == "state"
        failed = [repr(task.exception()) for task in tasks if task.done()]
        return {"kept": edge.outbox.kept, "lost": edge.outbox.lost, "connects": edge.link.connects, "failed": failed}

    return None, orders


async def listen(port: int) -> tuple[None, Orders]:
    """A subscriber with a session that outlives the broker; it keeps the journal in the order of arrival."""
    kept: list[bytes] = []

    def keep(_client: Client, _data: Any, message: MQTTMessage) -> None:
        kept.append(bytes(message.payload))

    client = Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
    client.on_message = keep
    client.on_connect = lambda client, *_: client.subscribe(EVENTS, qos=1)
    client.reconnect_delay_set(1, 1)
    client.connect(LOOPBACK, port, keepalive=5)
    client.loop_start()

    def orders(order: str) -> Any:
        return (client.is_connected(), len(kept)) if order == "state" else list(kept)

    return None, orders


class Broker:
    """A mosquitto that keeps its sessions on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._settings = folder / "mosquitto.conf"
        self._settings.write_text(
            f"listener {self.port} {LOOPBACK}\nallow_anonymous true\nuser {getpass.getuser()}\npersistence true\n"
            f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\nmax_inflight_messages 0\n"
            "max_queued_messages 0\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [program("mosquitto", "mosquitto"), "-c", str(self._settings)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port)

    def end(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait(5)
            self._process = None

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Broker]:
    """Run a broker that keeps its sessions in ``folder``."""
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.end()


def measure(quick: bool) -> Iterator[Result]:
    """Return what the journal lost, in which order it came, and how much later than a twin scans and polls came."""
    kills, stalls, stall_s = (8, 1, 10.0) if quick else (100, 2, 60.0)
    with (
        tempfile.TemporaryDirectory(prefix="podkeeper-kills-") as name,
        tempfile.TemporaryDirectory(prefix="podkeeper-twin-") as other,
        Child(serve, DEVICES) as devices,
        running(Path(name)) as broker,
        running(Path(other)) as spared,
        Child(listen, broker.port) as ear,
        Child(pod, (devices.told, broker.port, name)) as mouth,
        Child(pod, (devices.told, spared.port, other)) as twin,
    ):
        time.sleep(SETTLE_S)
        mouth.ask("times")
        twin.ask("times")
        _torment(broker, ear, kills, stalls, stall_s)
        rough, calm = mouth.ask("times"), twin.ask("times")
        said = mouth.ask("silence")
        _caught_up(ear, mouth, said)
        heard, state = ear.ask("all"), mouth.ask("state")
    params = {"kills": kills, "stalls": stalls, "stall_s": stall_s, "events": said, "back_off_max_s": BACK_OFF_S}
    yield from _journal(heard, said, state, params)
    period_s = 0.2
    scans = p99(itertools.pairwise(rough[0]), period_s) - p99(itertools.pairwise(calm[0]), period_s)
    detail = {"twin_ms": 1000 * p99(itertools.pairwise(calm[0]), period_s), "more_ms": 1000 * scans}
    figure = "p99 of the scan's jitter, more than the twin's, / its period"
    yield Result(NAME, {"figure": figure, **params}, scans / period_s, f"<= {JITTER_BAR}", detail)
    both = [p99((pair for times in part[1] for pair in itertools.pairwise(times)), PERIOD_S) for part in (calm, rough)]
    detail = {"twin_ms": 1000 * both[0], "more_ms": 1000 * (both[1] - both[0])}
    figure = "p99 of the polls' jitter, more than the twin's, / their period"
    yield Result(NAME, {"figure": figure, **params}, (both[1] - both[0]) / PERIOD_S, f"<= {JITTER_BAR}", detail)


def p99(pairs: Any, period_s: float) -> float:
    """Return the 99th percentile of how far apart from ``period_s`` two times in a row are, in seconds."""
    found = sorted(abs(after - before - period_s) for before, after in pairs)
    return found[int(0.99 * (len(found) - 1))] if found else float("inf")


def _torment(broker: Broker, ear: Child, kills: int, stalls: int, stall_s: float) -> None:
    dice = random.Random(1)
    for number in range(kills):
        time.sleep(dice.uniform(*UP_S))
        deadline = time.monotonic() + 10  # what a broker holds for a listener that is away dies with it
        while not ear.ask("state")[0] and time.monotonic() < deadline:
            time.sleep(0.02)
        broker.end()
        time.sleep(dice.uniform(*DOWN_S))
        broker.start()
        if stalls and (number + 1) % (kills // stalls) == 0:
            time.sleep(max(UP_S))
            with broker.stalled():
                time.sleep(stall_s)


def _caught_up(ear: Child, mouth: Child, said: int) -> None:
    """Wait until the journal has been sent; a lost event would make this wait in vain, so there is a limit."""
    deadline = time.monotonic() + CATCH_UP_S
    while time.monotonic() < deadline:
        kept = mouth.ask("state")["kept"]
        if not kept["audit"] + kept["event"] and ear.ask("state")[1] >= said:
            return
        time.sleep(0.2)


def _journal(
    heard: Sequence[bytes], said: int, state: Mapping[str, Any], params: Mapping[str, Any]
) -> Iterator[Result]:
    first: dict[int, bytes] = {}
    other, late, newest = 0, 0, 0
    for payload in heard:
        number = json.loads(payload)["seq"]
        if number in first:
            other += first[number] != payload
            continue
        first[number] = payload
        late += number < newest
        newest = max(newest, number)
    lost = len(set(range(1, said + 1)) - first.keys())
    detail = {"heard": len(heard), "repeated": len(heard) - len(first), "connects": state["connects"]}
    detail |= {"failed": state["failed"], "lost_in_outbox": sum(state["lost"].values())}
    yield Result(NAME, {"figure": "events lost", **params}, lost + len(state["failed"]), "== 0", detail)
    yield Result(NAME, {"figure": "events out of order", **params}, late, "== 0")
    yield Result(NAME, {"figure": "repeated with another content", **params}, other, "== 0")
