"""Ten minutes of the real controller on the bench, heard by a subscriber of the DSX contract: every message judged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from controller.northbound.dsx import Dsx
from hil.bench.dsx_oracle import Oracle, contract
from hil.bench.publish import broker, subscriber
from hil.bench.result import Result
from hil.runner import Bench
from hil.wire.tcp import LOOPBACK

NAME = "dsx-conformance"
RUN_S, QUICK_S = 600.0, 45.0
OLDEST_S = 100.0
SLACK_S = 0.5  # of a busy machine, on top of what the contract allows
BEAT_S = 10.0
LATE_S = 3.0
SHOWN_MAX = 5
Heard = list[tuple[float, str, bytes]]


async def _run(port: int, seconds: float) -> Dsx:
    link = {"host": LOOPBACK, "port": port, "keepalive_s": 15, "publisher": "dsx", "client_id": "dsx"}
    links = {"native": {"port": port, "protocol": "auto"}, "dsx": link}
    async with Bench(overrides={"links": links}) as bench:
        dsx = Dsx(bench.plan)
        await bench.start_controller()
        integration = Client(CallbackAPIVersion.VERSION2)
        integration.connect(LOOPBACK, port)
        integration.loop_start()
        try:
            ends = time.monotonic() + seconds
            while (left := ends - time.monotonic()) > 0:
                _ask(integration, dsx)
                await asyncio.sleep(min(BEAT_S, left))
        finally:
            integration.disconnect()
            integration.loop_stop()
        return dsx


def _ask(client: Client, dsx: Dsx) -> None:
    """Beat, and ask for a supply temperature, as an integration does."""
    for kind, value in (("HeartbeatTimestampIntegration", None), ("LiquidTemperatureSpRequest", 31.0)):
        tag = next(tag for tag in dsx.tags if tag.point_type == kind and tag.integration == "MEPAI")
        now_ms = time.time_ns() // 1_000_000
        body = {"value": now_ms if value is None else value, "timestamp": now_ms, "quality": 1}
        client.publish(f"BMS/v1/MEPAI/Value/{tag.tail}", json.dumps(body))


def measure(quick: bool) -> Iterator[Result]:
    """Return how many messages break the contract, and which of its rules on the wire are broken."""
    oracle, seconds = Oracle(contract()), QUICK_S if quick else RUN_S
    with broker() as port:
        with subscriber(port, "BMS/v1/PUB/#") as kept:
            dsx = asyncio.run(_run(port, seconds))
            heard: Heard = kept.ask("take")
        with subscriber(port, "BMS/v1/PUB/Value/#") as late:
            time.sleep(LATE_S)
            retained = late.ask("take")
    params = {"seconds": seconds, "tags": len(dsx.tags), "controller": "real, on the bench", "broker": "mosquitto"}
    wrong = [error for _, topic, payload in heard for error in oracle.errors(topic, payload)]
    detail: dict[str, Any] = {"messages": len(heard), "first": wrong[:SHOWN_MAX]}
    yield Result(NAME, {"figure": "messages that break the contract", **params}, len(wrong), "== 0", detail)
    tails = {topic.split("/", 4)[4] for _, topic, _ in heard}
    missing = sorted({tag.tail for tag in dsx.tags} - tails)
    objects = sorted({tail.split("/")[0] for tail in tails})
    detail = {"object_types": objects, "first": missing[:SHOWN_MAX]}
    yield Result(NAME, {"figure": "tags never heard", **params}, len(missing), "== 0", detail)
    yield Result(NAME, {"figure": "values retained", **params}, len(retained), "== 0")
    yield Result(
        NAME, {"figure": "longest silence of a topic, s", **params}, _silence(heard), f"<= {OLDEST_S + SLACK_S}"
    )
    early = _values_before_metadata(heard)
    yield Result(NAME, {"figure": "values before their metadata", **params}, early, "== 0")
    states = [payload for _, topic, payload in heard if "/Value/" in topic and topic.endswith("/ai_control/state")]
    state = [json.loads(payload)["value"] for payload in states]
    detail = {"states": sorted(set(state))}
    yield Result(NAME, {"figure": "AI control told as enabled", **params}, float(1 in state), "== 1", detail)


def _silence(heard: Heard) -> float:
    """Return the longest time between two messages of one topic, the end of the run included."""
    last: dict[str, float] = {}
    worst = 0.0
    for at, topic, _ in heard:
        worst = max(worst, at - last.get(topic, at))
        last[topic] = at
    end = heard[-1][0] if heard else 0.0
    return max([worst, *(end - at for at in last.values())])


def _values_before_metadata(heard: Heard) -> int:
    known: set[str] = set()
    early = 0
    for _, topic, _ in heard:
        kind, tail = topic.split("/", 4)[3:]
        if kind == "Metadata":
            known.add(tail)
        else:
            early += tail not in known
    return early
