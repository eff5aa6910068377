"""A day without a broker: what the outbox keeps, what it gives up, and how the backlog leaves again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.config.enclosure import OutboxLimits
from controller.config.plan import Plan
from controller.core.points import Reading, good
from controller.northbound.outbox import MIB, Outbox
from controller.northbound.publisher import TELEMETRY, Message
from hil.bench import plans
from hil.bench.child import Child
from hil.bench.master import run
from hil.bench.publish import Edge, broker, subscriber
from hil.bench.result import Result

NAME = "outage"
DAY_S = 86_400.0
DEVICES, POINTS = 40, 12
CHUNK = 500
EARLIER_BOOT = 0
FILE_BAR = 1.25
LIVE_BAR_S = 1.0
DRAIN_MAX_S = 400.0


class Day:
    """A clock that a day passes on while ``count`` messages come."""

    def __init__(self, count: int) -> None:
        self._step_s = DAY_S / count
        self.at = 0.0

    def __call__(self) -> float:
        return self.at

    def advance(self, messages: int) -> None:
        self.at += messages * self._step_s


def sample(root: str, number: int) -> Message:
    """Return one device document of the size that they have in the reference pod."""
    device = f"d{number % DEVICES}"
    points = {f"r{n}": {"v": (number + n) % 1000, "q": 0, "t": 1_780_000_000_000 + number} for n in range(POINTS)}
    body = {"ts": 1_780_000_000_000 + number, "boot": EARLIER_BOOT, "seq": number, "clk": "sync", "pts": points}
    return Message(f"{root}/dev/{device}", json.dumps(body, separators=(",", ":")).encode(), kind=TELEMETRY)


def measure(quick: bool) -> Iterator[Result]:
    """Return whether caps hold, whether losses are counted exactly, and how old live values become meanwhile."""
    count, mib, per_s = (40_000, 4, 400) if quick else (1_000_000, 64, 500)
    limits = OutboxLimits(max_mib=mib, max_age_h=72, every_s=0, drain_per_s=per_s)
    with tempfile.TemporaryDirectory(prefix="podkeeper-outage-") as name:
        path = Path(name) / "outbox.sqlite"
        day = Day(count)
        filled = run(_fill(path, limits, count, day))
        size = sum(file.stat().st_size for file in Path(name).glob("outbox.sqlite*"))
        with broker() as port, subscriber(port, "bench/#") as ear:
            drained = run(_drain(path, limits, port, ear))
    params: dict[str, Any] = {"samples": count, "hours": 24, "cap_mib": mib, "drain_per_s": per_s}
    missed = count - filled["kept"] - filled["lost"]
    detail = {"kept": filled["kept"], "lost": filled["lost"], "put_per_s": filled["per_s"]}
    yield Result(NAME, {"figure": "messages neither kept nor counted as lost", **params}, missed, "== 0", detail)
    detail = {"kept_mib": filled["bytes"] / MIB, "file_mib": size / MIB}
    yield Result(NAME, {"figure": "kept / cap", **params}, filled["bytes"] / (mib * MIB), "<= 1.0", detail)
    yield Result(NAME, {"figure": "file / cap", **params}, size / (mib * MIB), f"<= {FILE_BAR}", detail)
    figure = "p99 of what the scan pays for a kept message, us"
    yield Result(NAME, {"figure": figure, **params}, 1e6 * filled["put_p99_s"], "<= 50")
    detail = {key: drained[key] for key in ("took_s", "history", "documents", "live_p99_s")}
    wrong = filled["kept"] - drained["history"] + drained["unordered"]
    yield Result(NAME, {"figure": "kept messages not delivered in order", **params}, wrong, "== 0", detail)
    yield Result(NAME, {"figure": "oldest live value, s", **params}, drained["live_max_s"], f"<= {LIVE_BAR_S}", detail)


async def _fill(path: Path, limits: OutboxLimits, count: int, day: Day) -> dict[str, float]:
    """Put ``count`` samples in, as fast as the disk takes them; note what each put costs the scan that makes it."""
    box = Outbox(path, limits, now=day)
    await box.flush()
    costs: list[float] = []
    started = time.monotonic()
    for first in range(0, count, CHUNK):
        samples = [sample("bench", number) for number in range(first, min(first + CHUNK, count))]
        before = time.perf_counter()
        box.put(samples)
        costs.append((time.perf_counter() - before) / len(samples))
        day.advance(len(samples))
        await box.flush()
    took_s = time.monotonic() - started
    costs.sort()
    found = {"kept": box.kept[TELEMETRY], "lost": box.lost[TELEMETRY], "bytes": box.kept_bytes}
    await asyncio.to_thread(box.close)
    return found | {"per_s": count / took_s, "put_p99_s": costs[int(0.99 * (len(costs) - 1))]}


async def _drain(path: Path, limits: OutboxLimits, port: int, ear: Child) -> dict[str, float]:
    """Let a controller with live values send the backlog; return what came, in which order and how old."""
    plan = _plan(port, limits)
    inbox: dict[str, Reading] = {}
    box = Outbox(path, limits)
    edge = Edge(plan, inbox, outbox=box)

    async def live() -> None:
        number = 0
        while True:
            number += 1
            now = time.monotonic()
            inbox.update({point: good(float(number % 1000), now) for point in plan.pod.points})
            await asyncio.sleep(1.0)

    started = time.monotonic()
    tasks = [asyncio.create_task(edge.run()), asyncio.create_task(live())]
    heard: list[tuple[float, str, bytes]] = []
    async with asyncio.timeout(DRAIN_MAX_S):
        while True:
            await asyncio.sleep(1.0)
            heard += await asyncio.to_thread(ear.ask, "take")
            if edge.link.connected and not box.telemetry_waits and edge.link.published:
                break
    took_s = time.monotonic() - started
    await asyncio.sleep(0.5)
    heard += await asyncio.to_thread(ear.ask, "take")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(box.close)
    return {"took_s": took_s, **_judged(heard)}


def _judged(heard: list[tuple[float, str, bytes]]) -> dict[str, float]:
    offset_s = time.time() - time.monotonic()
    seen, unordered, ages = -1, 0, []
    numbers: set[int] = set()
    for at, topic, payload in heard:
        body = json.loads(payload)
        if topic.startswith("bench/hist/") and body["boot"] == EARLIER_BOOT:
            unordered += body["seq"] < seen and body["seq"] not in numbers
            seen = max(seen, body["seq"])
            numbers.add(body["seq"])
        elif topic.startswith("bench/dev/d"):
            ages.append(at + offset_s - body["ts"] / 1000)
    ages.sort()
    return {
        "history": len(numbers),
        "unordered": unordered,
        "documents": len(ages),
        "live_p99_s": ages[int(0.99 * (len(ages) - 1))] if ages else float("inf"),
        "live_max_s": ages[-1] if ages else float("inf"),
    }


def _plan(port: int, limits: OutboxLimits) -> Plan:
    rows = {f"r{n}": plans.row(n) for n in range(POINTS)}
    devices = [plans.device(f"d{n}", n + 1, rows, bus="line", period_s=1.0) for n in range(DEVICES)]
    plan = plans.enclosure([plans.bus(plans.tcp(1), devices, "line")], port)
    return dataclasses.replace(
        plan, links={name: link.model_copy(update={"outbox": limits}) for name, link in plan.links.items()}
    )
