"""What polling 800 points a second and publishing them costs the processor, beside collectd doing the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from controller.clock import SystemClock
from controller.core.points import Reading
from controller.fieldbus.bus import BusWorker
from hil.bench import plans
from hil.bench.child import Child, Orders, cpu_s
from hil.bench.master import quiet
from hil.bench.publish import Edge, broker, program, subscriber
from hil.bench.result import Missing, Result
from hil.wire.tcp import LOOPBACK, TcpBus

NAME = "poll-cost"
DEVICES, POINTS, STEP, PERIOD_S, UNIT = 20, 40, 3, 1.0, 1
ADDRESSES = range(0, POINTS * STEP, STEP)
COUNT_BITS = 10  # of a register's value; the others say which of the device's points it is
SETTLE_S = 5.0
CPU_BAR, REQUESTS_BAR = 0.5, 0.05
PLUGINS = Path("/usr/lib/collectd")
TYPES = Path("/usr/share/collectd/types.db")
Value = tuple[float, str, int]  # monotonic time, device and point, what was published


class Counting:
    """A unit whose every register tells which point it is and how often it has been read."""

    device_time_s = 0.0
    silent = False
    refusal = 0

    def __init__(self) -> None:
        self._reads: Counter[int] = Counter()

    def read(self, table: str, address: int, count: int) -> Sequence[int]:  # noqa: ARG002  all tables are alike
        self._reads.update(range(address, address + count))
        low = (1 << COUNT_BITS) - 1
        return [(at // STEP << COUNT_BITS | self._reads[at] & low) & 0xFFFF for at in range(address, address + count)]

    def write(self, table: str, address: int, values: Sequence[int]) -> None:
        """Nothing is written here."""


async def serve(devices: int) -> tuple[list[int], Orders]:
    """Run the devices, each on a port of its own; the parent is told the ports."""
    buses = [TcpBus({UNIT: Counting()}) for _ in range(devices)]
    for bus in buses:
        await bus.start()

    def orders(order: str) -> Any:
        assert order == "requests"
        return sum(bus.requests for bus in buses)

    return [bus.port for bus in buses], orders


async def poll(spec: tuple[list[int], int]) -> tuple[None, Orders]:
    """The controller's edges: a worker for each device, and the way to the broker."""
    quiet()
    ports, mqtt_port = spec
    rows = {f"r{at}": plans.row(at) for at in ADDRESSES}
    buses = []
    for number, port in enumerate(ports):
        device = plans.device(
            f"d{number}",
            UNIT,
            rows,
            bus=f"bus{number}",
            period_s=PERIOD_S,
            device_time_s=0.0,
            max_hole_words=STEP - 1,
        )
        buses.append(plans.bus(plans.tcp(port), [device], f"bus{number}"))
    inbox: dict[str, Reading] = {}
    edge = Edge(plans.enclosure(buses, mqtt_port), inbox)
    tasks = [asyncio.create_task(BusWorker(bus, inbox, SystemClock(), lambda: None).run()) for bus in buses]
    tasks.append(asyncio.create_task(edge.run()))

    def orders(order: str) -> Any:
        assert order == "failed"
        return [repr(task.exception()) for task in tasks if task.done()]

    return None, orders


@dataclass(frozen=True, slots=True)
class Cost:
    """One turn: processor seconds a second, requests a second, and how many values the subscriber lacks."""

    cpu: float
    requests: float
    missing: int
    values: int
    wrong: int


def measure(quick: bool) -> Iterator[Result]:
    """Return the processor time of worker and publisher over collectd's, likewise the requests, and what is lost.

    The two take turns at the same devices and broker. Every register counts its reads, so a lost value leaves a hole.
    """
    if not (PLUGINS / "modbus.so").is_file():
        raise Missing("collectd's plugins modbus and mqtt, of the Debian package collectd-core")
    seconds, turns = (17.0, 1) if quick else (30.0, 3)
    ours, theirs = [], []
    for _ in range(turns):
        theirs.append(_turn(_collectd, _from_collectd, seconds))
        ours.append(_turn(_podkeeper, _from_native, seconds))
    params = {
        "devices": DEVICES,
        "points": POINTS,
        "over_words": POINTS * STEP,
        "period_s": PERIOD_S,
        "seconds": seconds * turns,
        "ours": "bus workers and the native MQTT tree (QoS 1), without engine and store",
        "theirs": "collectd 5, plugins modbus and mqtt (QoS 0), as Debian has them",
    }
    cpu = [our.cpu / their.cpu for our, their in zip(ours, theirs, strict=True)]
    detail: dict[str, Any] = {"ours_cpu": [cost.cpu for cost in ours], "collectd_cpu": [cost.cpu for cost in theirs]}
    yield Result(NAME, {"figure": "CPU / collectd's", **params}, median(cpu), f"<= {CPU_BAR}", detail)
    detail = {
        "values": sum(cost.values for cost in ours),
        "wrong": sum(cost.wrong for cost in ours),
        "collectd_missing": sum(cost.missing for cost in theirs),
        "collectd_values": sum(cost.values for cost in theirs),
    }
    missing = sum(cost.missing + cost.wrong for cost in ours)
    yield Result(NAME, {"figure": "values of a second not delivered", **params}, missing, "== 0", detail)
    requests = median(our.requests for our in ours) / median(their.requests for their in theirs)
    detail = {"ours_per_s": ours[0].requests, "collectd_per_s": theirs[0].requests}
    yield Result(NAME, {"figure": "requests / collectd's", **params}, requests, f"<= {REQUESTS_BAR}", detail)


Start = Callable[[list[int], int], contextlib.AbstractContextManager[Callable[[], float]]]


def _turn(start: Start, parse: Callable[[float, str, bytes], Iterator[Value]], seconds: float) -> Cost:
    with Child(serve, DEVICES) as devices, broker() as port, subscriber(port, "#") as kept:
        with start(devices.told, port) as cpu:
            time.sleep(SETTLE_S)
            begun, used, requests = time.monotonic(), cpu(), devices.ask("requests")
            time.sleep(seconds)
            wall, used = time.monotonic() - begun, cpu() - used
            requests = devices.ask("requests") - requests
            time.sleep(1.0)
        values = [value for message in kept.ask("take") for value in parse(*message)]
    inside = [value for value in values if begun <= value[0] < begun + wall]
    return Cost(used / wall, requests / wall, *judged(inside, seconds))


def judged(values: Sequence[Value], seconds: float) -> tuple[int, int, int]:
    """Return how many values are missing, how many there are, and how many stood under another point's name.

    Missing are the holes in a point's counts, and what it lacks of one value a second (the first and last excepted).
    """
    counts: dict[str, set[int]] = defaultdict(set)
    wrong = 0
    for _, name, value in values:
        point = int(name.rpartition("r")[2]) // STEP
        if value >> COUNT_BITS != point:
            wrong += 1
        else:
            counts[name].add(value & (1 << COUNT_BITS) - 1)
    holes = sum(max(seen) - min(seen) + 1 - len(seen) for seen in counts.values())
    lacking = sum(max(0, int(seconds / PERIOD_S) - 1 - (max(seen) - min(seen) + 1)) for seen in counts.values())
    unseen = (DEVICES * POINTS - len(counts)) * int(seconds / PERIOD_S)
    return holes + lacking + unseen, sum(map(len, counts.values())), wrong


@contextlib.contextmanager
def _podkeeper(ports: list[int], mqtt_port: int) -> Iterator[Callable[[], float]]:
    with Child(poll, (ports, mqtt_port)) as child:
        yield child.cpu_s
        if failed := child.ask("failed"):
            raise RuntimeError(failed)


def _from_native(at: float, topic: str, payload: bytes) -> Iterator[Value]:
    device = topic.removeprefix("bench/dev/")
    if device != topic and device.startswith("d"):
        for point, shown in json.loads(payload)["pts"].items():
            if point.startswith("r") and shown["v"] is not None:
                yield at, f"{device}/{point}", int(shown["v"])


def _from_collectd(at: float, topic: str, payload: bytes) -> Iterator[Value]:
    parts = topic.split("/")
    if parts[0] == "collectd" and parts[-1].startswith("gauge-"):
        value = payload.rstrip(b"\0").split(b":")[1]
        if value != b"nan":
            yield at, f"{parts[1]}/{parts[-1].removeprefix('gauge-')}", int(float(value))


@contextlib.contextmanager
def _collectd(ports: list[int], mqtt_port: int) -> Iterator[Callable[[], float]]:
    path = program("collectd", "collectd-core")
    with tempfile.TemporaryDirectory(prefix="podkeeper-collectd-") as folder:
        settings = Path(folder) / "collectd.conf"
        settings.write_text(_settings(folder, ports, mqtt_port))
        process = subprocess.Popen([path, "-f", "-C", str(settings)], stdout=subprocess.DEVNULL)
        try:
            yield lambda: cpu_s(process.pid)
        finally:
            process.terminate()
            process.wait(10)


def _settings(folder: str, ports: list[int], mqtt_port: int) -> str:
    lines = [
        f'BaseDir "{folder}"',
        f'PIDFile "{folder}/pid"',
        f'PluginDir "{PLUGINS}"',
        f'TypesDB "{TYPES}"',
        'Hostname "bench"',
        "FQDNLookup false",
        f"Interval {PERIOD_S:g}",
        "LoadPlugin modbus",
        "LoadPlugin mqtt",
        "<Plugin modbus>",
    ]
    for at in ADDRESSES:
        lines += [f'<Data "r{at}">', f"RegisterBase {at}", "RegisterType Uint16", "RegisterCmd ReadHolding"]
        lines += ["Type gauge", f'Instance "r{at}"', "</Data>"]
    for number, port in enumerate(ports):
        lines += [f'<Host "d{number}">', f'Address "{LOOPBACK}"', f'Port "{port}"', f"Interval {PERIOD_S:g}"]
        lines += [f"<Slave {UNIT}>", f'Instance "d{number}"', *(f'Collect "r{at}"' for at in ADDRESSES)]
        lines += ["</Slave>", "</Host>"]
    lines += ["</Plugin>", "<Plugin mqtt>", '<Publish "bench">', f'Host "{LOOPBACK}"', f'Port "{mqtt_port}"']
    lines += ['ClientId "collectd"', 'Prefix "collectd"', "StoreRates false", "</Publish>", "</Plugin>"]
    return "\n".join(lines) + "\n"
