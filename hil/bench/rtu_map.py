"""How long one refresh of a real device's whole register map takes, published over MQTT meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from controller.config.plan import DevicePlan
from controller.config.profile import Row, load_profile
from controller.fieldbus.planner import plan_spans, read_s
from hil.bench import plans
from hil.bench.master import Inbox, run, working
from hil.bench.publish import Edge, broker, subscriber
from hil.bench.result import Result
from hil.bench.slave import Line, served
from hil.wire.rtu import Exchange

NAME = "rtu-map"
MAPS = "PODKEEPER_MAPS"
PUBLIC_MAP = "rackmon/orv3_rpu.json"
OWN_MAP = Path(__file__).parents[2] / "profiles" / "devices" / "delta_rpu_rdf040.toml"
UNIT, BAUD, DEVICE_TIME_S = 12, 19200, 0.005
DEVICE = "rpu"
REFRESH_BAR_S, FASTER_BAR, PREDICTED_BAR = 0.625, 6.0, 0.03
PEER_S = 0.630


@dataclass(frozen=True, slots=True)
class Registers:
    """A register map: the first register of every entry and how many it has."""

    source: str
    entries: tuple[tuple[int, int], ...]

    @property
    def words(self) -> int:
        return sum(words for _, words in self.entries)


@dataclass(frozen=True, slots=True)
class Refresh:
    """One run: seconds and requests of a full refresh as the slave saw them, and what the subscriber got."""

    line: Line
    exchanges: list[Exchange]
    requests: int
    documents: int = 0
    values: int = 0
    wrong: int = 0

    @property
    def seconds(self) -> float:
        first = self.exchanges[0].arrived
        rounds = (len(self.exchanges) - 1) // self.requests
        return (self.exchanges[rounds * self.requests].arrived - first) / rounds

    @property
    def least_s(self) -> float:
        return sum(map(self.line.legal_s, self.exchanges[: self.requests]))

    @property
    def short_gaps(self) -> int:
        pairs = pairwise(self.exchanges)
        return sum(after.arrived - before.written < self.line.silence_s for before, after in pairs)


def registers() -> Registers:
    """Return rackmon's public map if PODKEEPER_MAPS says where it is, else the profile made from it."""
    folder = os.environ.get(MAPS)
    if folder and (found := Path(folder) / PUBLIC_MAP).is_file():
        listed = json.loads(found.read_text())["registers"]
        return Registers(PUBLIC_MAP, tuple((entry["begin"], entry["length"]) for entry in listed))
    rows = [row for row in load_profile(OWN_MAP).rows.values() if row.table == "holding" and row.access != "w"]
    return Registers(OWN_MAP.name, tuple(sorted({row.address: row.width for row in rows}.items())))


def rpu(entries: Registers, *, joined: bool) -> DevicePlan:
    """Return the unit as a device; not ``joined``: every entry is read by itself.

    Its device time is what a technician would measure: from the request's end to the reply's start, which on a
    conforming slave holds t3.5 and then the device's own time.
    """
    barriers = [] if joined else [address for address, _ in entries.entries]
    rows: dict[str, Row] = {f"r{address}": plans.row(address, words) for address, words in entries.entries}
    seen = DEVICE_TIME_S + Line(BAUD, (UNIT,)).silence_s
    return plans.device(DEVICE, UNIT, rows, device_time_s=seen, barriers=barriers)


def measure(quick: bool) -> Iterator[Result]:
    """Return seconds for a refresh, how much faster that is than entry by entry, and how well it was foreseen."""
    entries = registers()
    rounds, single_rounds = (20, 2) if quick else (150, 20)
    run, single = _run(entries, rounds, joined=True), _run(entries, single_rounds, joined=False)
    params = {
        "map": entries.source,
        "entries": len(entries.entries),
        "words": entries.words,
        "baud": BAUD,
        "format": "8N2",
        "device_time_ms": 1000 * DEVICE_TIME_S,
        "published": "over MQTT, as the service does: a document of all values, at most one a second",
    }
    same_map = entries.source == PUBLIC_MAP
    bar = f"<= {REFRESH_BAR_S}" if same_map else f"<= {run.least_s * REFRESH_BAR_S / 0.608:.3f}"
    detail = {
        "requests": run.requests,
        "legal_minimum_s": run.least_s,
        "best_legal_peer_s": PEER_S if same_map else None,
        "refreshes": len(run.exchanges) // run.requests,
        "short_gaps": run.short_gaps,
        "documents": run.documents,
        "values_at_subscriber": run.values,
        "wrong_values": run.wrong,
    }
    yield Result(NAME, {"figure": "s for a full refresh", **params}, run.seconds, bar, detail)
    faster = single.seconds / run.seconds
    detail = {"one_by_one_s": single.seconds, "requests": single.requests, "legal_minimum_s": single.least_s}
    yield Result(NAME, {"figure": "times faster than one read per entry", **params}, faster, f">= {FASTER_BAR}", detail)
    predicted = predicted_s(entries)
    error = abs(run.seconds / predicted - 1)
    detail = {"predicted_s": predicted, "measured_s": run.seconds}
    yield Result(NAME, {"figure": "off the planner's prediction", **params}, error, f"<= {PREDICTED_BAR}", detail)


def predicted_s(entries: Registers) -> float:
    """Return what the planner expects of a refresh: the sum of its spans."""
    unit = rpu(entries, joined=True)
    bus = plans.serial("line", BAUD)
    return sum(read_s(bus, span) for span in plan_spans(unit, bus))


def _run(entries: Registers, rounds: int, *, joined: bool) -> Refresh:
    line, unit = Line(BAUD, (UNIT,), DEVICE_TIME_S, moving=True), rpu(entries, joined=joined)
    requests = len(plan_spans(unit, plans.serial("line", BAUD)))
    with served(line) as slaves, broker() as port, subscriber(port, f"bench/dev/{DEVICE}") as kept:
        run(_poll(slaves.told, port, unit, rounds))
        documents = [json.loads(payload)["pts"] for _, _, payload in kept.ask("take")]
        exchanges = slaves.ask("exchanges")[requests:]
    return Refresh(line, exchanges, requests, len(documents), *_judged(entries, documents))


async def _poll(port: str, mqtt_port: int, unit: DevicePlan, rounds: int) -> None:
    bus = plans.bus(plans.serial(port, BAUD), [unit])
    inbox = Inbox()
    edge = Edge(plans.enclosure([bus], mqtt_port), inbox)
    publishing = asyncio.create_task(edge.run())
    first = f"{unit.name}.{unit.points[0].point.name}"
    async with working([bus], inbox):
        while len(inbox.good[first]) < rounds + 2:  # noqa: ASYNC110  a count in a dictionary
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)


def _judged(entries: Registers, documents: list[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many values came, and how many of them were not what their registers hold."""
    expected: dict[str, tuple[int, int]] = {}
    for address, words in entries.entries:
        held = [plans.word(UNIT, address + at) for at in range(words)]
        if words == 1:
            expected[f"r{address}"] = plans.STILL, held[0]
        elif words == 2:
            expected[f"r{address}"] = plans.STILL << 16 | plans.STILL, held[0] << 16 | held[1]
    values = [(name, shown["v"]) for points in documents for name, shown in points.items() if name in expected]
    known = [(*expected[name], value) for name, value in values if value is not None]
    return len(known), sum((int(value) ^ right) & mask != 0 for mask, right, value in known)
