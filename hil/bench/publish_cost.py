"""What the four MQTT contracts cost the processor together: every point of the reference pod changes each second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from controller.clock import SystemClock
from controller.config.plan import load_plan
from controller.core.engine import View
from controller.core.image import freeze
from controller.core.pod import pod_points
from controller.core.points import Kind, Point, Reading, Value, good
from controller.northbound.publishers import PUBLISHERS, Context
from controller.northbound.snapshot import snapshot
from hil.bench.child import Child, Orders
from hil.bench.master import quiet
from hil.bench.publish import BOOT, broker, linked
from hil.bench.result import Result
from hil.runner import REFERENCE_POD

NAME = "publish-cost"
VERSION = "bench"
SETTLE_S = 20.0  # births, discovery and metadata are out by then
ALL_BAR, NATIVE_BAR = 0.15, 0.03


def changed(point: Point, second: int) -> Value:
    """Return a value that differs from that of the second before by more than the deadband."""
    if point.kind is Kind.NUMBER:
        low = point.low or 0.0
        high = point.high if point.high is not None else low + 1000.0
        step = max(3 * point.deadband, (high - low) / 50)
        return low + (high - low) / 3 + step * (second % 7)
    if point.kind is Kind.FLAG:
        return second % 2 == 0
    if point.kind is Kind.TEXT:
        return f"text {second % 9}"
    codes = sorted(point.texts) or [0, 1]
    return codes[second % len(codes)]


async def serve(spec: tuple[tuple[str, ...], int, bool]) -> tuple[int, Orders]:
    """Publish until ended; with ``moves`` false nothing changes, and there is the cost of looking alone."""
    quiet()
    names, port, moves = spec
    plan = load_plan(REFERENCE_POD)
    clock = SystemClock()
    points = {**plan.pod.points, **pod_points(plan.pod)}
    readable = [point for point in plan.pod.points.values() if point.readable]
    links = [linked(plan, port, name, PUBLISHERS[name](Context(plan, VERSION, BOOT, root="bench"))) for name in names]
    inbox: dict[str, Reading] = {}

    async def scans() -> None:
        second, deadline = -1, clock.monotonic()
        while True:
            now = clock.monotonic()
            if int(now) != second and (moves or second < 0):
                second = int(now)
                inbox.update({point.id: good(changed(point, second), now) for point in readable})
            image = freeze(inbox, points, now)
            view = View(now, "OFF", 0.0, "", False, image, (), (), "", (), {})
            picture = snapshot(view, clock.wall_ms(), BOOT)
            for link in links:
                link.scan(picture, now)
            deadline = max(deadline + plan.scan_s, clock.monotonic())
            await asyncio.sleep(deadline - clock.monotonic())

    tasks = [asyncio.create_task(link.run()) for link in links]
    tasks.append(asyncio.create_task(scans()))

    def orders(order: str) -> Any:
        if order == "failed":
            return [repr(task.exception()) for task in tasks if task.done()]
        return {
            "published": sum(link.published for link in links),
            "dropped": sum(link.dropped for link in links),
            "connected": all(link.connected for link in links),
        }

    return len(readable), orders


def cost(names: tuple[str, ...], seconds: float, *, moves: bool = True) -> tuple[float, Mapping[str, Any]]:
    """Return processor seconds a second of a process that does nothing but scan and publish, and what it said."""
    with broker() as port, Child(serve, (names, port, moves)) as child:
        time.sleep(SETTLE_S)
        began, used, before = time.monotonic(), child.cpu_s(), child.ask("told")
        time.sleep(seconds)
        wall, used, after = time.monotonic() - began, child.cpu_s() - used, child.ask("told")
        if failed := child.ask("failed"):
            raise RuntimeError(failed)
        told = {"messages_per_s": (after["published"] - before["published"]) / wall, "dropped": after["dropped"]}
        return used / wall, {**told, "connected": after["connected"], "points": child.told}


def measure(quick: bool) -> Iterator[Result]:
    """Return the cost of the native tree alone and of all four contracts, above that of the scans without them."""
    seconds, turns = (8.0, 1) if quick else (30.0, 3)
    params = {"points": 1517, "each_s": 1.0, "scan_s": 0.2, "seconds": seconds * turns}
    idle = median(cost((), seconds)[0] for _ in range(turns))
    yield Result(NAME, {"figure": "CPU of scan and inbox alone", **params}, idle)
    for names, bar in ((("native",), NATIVE_BAR), (tuple(PUBLISHERS), ALL_BAR)):
        found = [cost(names, seconds) for _ in range(turns)]
        value = median(used for used, _ in found) - idle
        figure = "CPU of native" if len(names) == 1 else "CPU of all four"
        detail = {**found[-1][1], "with_scan": [used for used, _ in found], "publishers": names}
        yield Result(NAME, {"figure": figure, **params}, value, f"<= {bar}", detail)
