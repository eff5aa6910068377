"""The other contracts on the wire: through the real link to mosquitto and NATS, read by decoders that others wrote."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from controller.clock import SystemClock
from controller.config.plan import load_plan
from controller.core.engine import View
from controller.core.image import freeze
from controller.core.pod import pod_points
from controller.core.points import Kind, good
from controller.northbound.dsx import Dsx
from controller.northbound.homeassistant import HomeAssistant
from controller.northbound.link import Link
from controller.northbound.native import Native
from controller.northbound.snapshot import snapshot
from controller.northbound.sparkplug import Sparkplug
from controller.northbound.sparkplug_codec import BOOLEAN, INT64, as_number, decode
from hil.bench.publish import broker, linked, wait_for
from hil.runner import free_port
from tests.conform.brokers import mosquitto

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
LOOPBACK = "127.0.0.1"
SCAN_S = 0.05
NPM = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--omit-lockfile-registry-resolved"]
pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(
        not (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()) or not shutil.which("mosquitto_sub"),
        reason="needs the Debian packages mosquitto and mosquitto-clients",
    ),
]


@pytest.fixture(scope="session")
def plan():
    return load_plan(ROOT / "profiles" / "enclosures" / "reference-pod.toml")


class Pod:
    """The edge of a pod: its inbox, a scan each 50 ms, and one link for each publisher."""

    def __init__(self, plan, links) -> None:
        self.plan, self.links = plan, links
        self.points = {**plan.pod.points, **pod_points(plan.pod)}
        self.inbox = {}
        self.clock = SystemClock()
        self.commands = []
        self.refresh(20.0)

    def refresh(self, number: float) -> None:
        now = self.clock.monotonic()
        for name, point in self.plan.pod.points.items():
            value = {Kind.NUMBER: number, Kind.FLAG: True, Kind.TEXT: "text"}.get(
                point.kind, min(point.texts, default=0)
            )
            self.inbox[name] = good(value, now)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for link in self.links:
                group.create_task(link.run())
            while True:
                now = self.clock.monotonic()
                image = freeze(self.inbox, self.points, now)
                view = View(now, "OFF", 0.0, "", False, image, (), (), "", (), {})
                for link in self.links:
                    self.commands += link.scan(snapshot(view, self.clock.wall_ms(), 1), now)
                await asyncio.sleep(SCAN_S)


@contextlib.asynccontextmanager
async def running(pod: Pod):
    task = asyncio.create_task(pod.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.contextmanager
def unbounded(folder: Path) -> Iterator[int]:
    """Run a broker that drops nothing for a subscriber that is slower than what is retained comes; yield its port."""
    made = mosquitto(folder, "max_queued_messages 0")
    made.start()
    try:
        yield made.port
    finally:
        made.stop()


END = "all/of/it"  # retained; asked for last, it comes last


@contextlib.contextmanager
def heard(port: int, topic: str, folder: Path, *more: str) -> Iterator[Path]:
    """Keep what a subscriber hears while the block runs: topic, retained, and payload in hexadecimal on each line."""
    path = folder / "heard"
    with path.open("wb") as out:
        command = ["mosquitto_sub", "-h", LOOPBACK, "-p", str(port), "-F", "%t %r %x", "-V", "mqttv311"]
        command += [word for each in (topic, *more) for word in ("-t", each)]
        process = subprocess.Popen(command, stdout=out)
        try:
            yield path
        finally:
            process.terminate()
            process.wait(10)


def lines(path: Path) -> list[tuple[str, bool, bytes]]:
    """Return the messages heard so far; a last line that the subscriber has not ended yet is not one of them."""
    whole = path.read_text().rpartition("\n")[0]
    rows = [line.split(" ") for line in whole.splitlines()]
    return [(topic, flag == "1", bytes.fromhex(data)) for topic, flag, data in rows]


async def until(condition, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def quiet(link: Link) -> None:
    """Wait until a link has nothing more to say than what comes round each second."""
    async with asyncio.timeout(30):
        before = -100
        while link.published - before > 40:
            before = link.published
            await asyncio.sleep(1)


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[int]:
    port, client_port = free_port(), free_port()
    config = folder / "nats.conf"
    config.write_text(
        f'server_name: bench\nlisten: "{LOOPBACK}:{client_port}"\njetstream {{ store_dir: "{folder}/js" }}\n'
        f'mqtt {{ listen: "{LOOPBACK}:{port}" }}\n'
    )
    process = subprocess.Popen(["nats-server", "-c", str(config)], stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        time.sleep(0.5)  # JetStream's own log is ready a moment after the port; nothing tells when
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.skipif(not shutil.which("nats-server"), reason="needs the Debian package nats-server")
async def test_dsx_reaches_nats_by_mqtt_3_1_1_whole(plan, tmp_path):
    with nats(tmp_path) as port, heard(port, "BMS/#", tmp_path) as path:
        dsx = Dsx(plan)
        link = linked(plan, port, "dsx", dsx)
        pod = Pod(plan, [link])
        expected = {f"BMS/v1/PUB/Metadata/{tag.tail}" for tag in dsx.tags}
        expected |= {f"BMS/v1/PUB/Value/{tag.tail}" for tag in dsx.tags if tag.sources or tag.key}
        async with running(pod):
            await until(lambda: expected <= {topic for topic, _, _ in lines(path)}, 60)
            assert link.protocol == "3.1.1"
            await asked_over_the_wire(port, dsx, pod)
    for topic, retained, payload in lines(path):
        if "/Value/" in topic:
            assert not retained
            assert set(json.loads(payload)) == {"value", "timestamp", "quality"}


async def asked_over_the_wire(port: int, dsx: Dsx, pod: Pod) -> None:
    """An integration beats and asks for a setpoint; the pod's link hands on both commands."""
    prefix = next(tag.path for tag in dsx.tags).rpartition("/system/")[0]
    beat = f"BMS/v1/MEPAI/Value/System/HeartbeatTimestampIntegration/{prefix}/system/MEPAI/heartbeat"
    asked = f"BMS/v1/MEPAI/Value/CDU/LiquidTemperatureSpRequest/{prefix}/cdu/supply_temp_sp_request"
    now_ms = time.time_ns() // 1_000_000
    for topic, value in ((beat, now_ms), (asked, 31.5)):
        body = json.dumps({"value": value, "timestamp": now_ms, "quality": 1})
        command = ["mosquitto_pub", "-h", LOOPBACK, "-p", str(port), "-t", topic, "-m", body, "-V", "mqttv311"]
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=10)
        await asyncio.sleep(0.3)
    await until(lambda: len(pod.commands) == 2)
    assert [(c.operation, c.value, c.slot) for c in pod.commands] == [("heartbeat", None, 0), ("set", 31.5, 13)]


@pytest.fixture(scope="session")
def capture(plan, tmp_path_factory) -> list[tuple[str, bytes]]:
    """What a Sparkplug node said over mosquitto: births, data, its farewell."""
    folder = tmp_path_factory.mktemp("sparkplug")

    async def played() -> list[tuple[str, bytes]]:
        with broker() as port, heard(port, "spBv1.0/#", folder) as path:
            await asyncio.sleep(0.5)
            pod = Pod(plan, [linked(plan, port, "sparkplug", Sparkplug(plan, "0.1.0"))])
            async with running(pod):
                await until(lambda: sum("DBIRTH" in topic for topic, _, _ in lines(path)) == len(list(plan.devices)))
                pod.refresh(-7.25)
                await until(lambda: any("DDATA" in topic for topic, _, _ in lines(path)))
                await asyncio.sleep(1.5)
            await until(lambda: any("NDEATH" in topic for topic, _, _ in lines(path)))
            found = lines(path)
        assert not any(retained for _, retained, _ in found)
        return [(topic, payload) for topic, _, payload in found]

    return asyncio.run(played())


def test_the_wire_has_births_before_data_and_a_whole_sequence(capture):
    verbs = [topic.split("/")[2] for topic, _ in capture]
    assert verbs[0] == "NBIRTH"
    assert verbs[-1] == "NDEATH"
    numbers = [decode(payload, 10_000).seq for _, payload in capture[:-1]]
    assert numbers == [number % 256 for number in range(len(numbers))]


def compare(payload: bytes, theirs: dict) -> int:
    """Compare one payload as another decoder reads it with what ours reads; return how many metrics it has."""
    ours = decode(payload, 10_000)
    assert theirs["timestamp"] == ours.timestamp
    assert theirs.get("seq") == ours.seq
    assert len(theirs["metrics"]) == len(ours.metrics)
    for mine, other in zip(ours.metrics, theirs["metrics"], strict=True):
        assert other["name"] == mine.name
        assert other["timestamp"] == mine.timestamp
        value = other.get("value")
        if mine.value is None:
            assert value is None
        elif isinstance(mine.value, float):
            assert math.isclose(value, mine.value)
        elif mine.datatype == INT64:
            assert as_number(value, INT64) == as_number(mine.value, INT64)
        elif mine.datatype == BOOLEAN:
            assert value is mine.value
        else:
            assert value == mine.value
        if mine.quality is not None:
            told = other["properties"]["Quality"]["value"] if "properties" in other else other["quality"]
            assert told == mine.quality
    return len(ours.metrics)


def decoded_by(command: list[str], capture, cwd: Path) -> list[dict]:
    given = "\n".join(payload.hex() for _, payload in capture)
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, cwd=cwd, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not shutil.which("npm"), reason="needs npm")
def test_sparkplug_payload_of_npm_reads_every_metric(capture, tmp_path):
    for name in ("package.json", "package-lock.json", "decode.js"):
        shutil.copy(PEERS / name, tmp_path)
    installed = subprocess.run(NPM, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    if installed.returncode:
        pytest.skip(f"npm can't install the peer: {installed.stderr[-200:]}")
    births = [(topic, payload) for topic, payload in capture if "BIRTH" in topic or "DEATH" in topic]
    theirs = decoded_by(["node", "decode.js"], births, tmp_path)
    assert sum(compare(payload, body) for (_, payload), body in zip(births, theirs, strict=True)) > 1500


def test_protobuf_of_pysparkplug_reads_every_metric(capture, tmp_path):
    """In an environment of its own: it wants an older paho."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=60)
    python = tmp_path / "venv" / "bin" / "python"
    command = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pysparkplug==0.6.1"]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if installed.returncode:
        pytest.skip(f"pip can't install the peer: {installed.stderr[-200:]}")
    theirs = decoded_by([str(python), str(PEERS / "decode_protobuf.py")], capture, tmp_path)
    assert sum(compare(payload, body) for (_, payload), body in zip(capture, theirs, strict=True)) > 1500


def devices(topics: Iterable[str]) -> list[str]:
    return [topic for topic in topics if topic.startswith("homeassistant/device/")]


async def test_all_four_contracts_stand_beside_each_other(plan, tmp_path):
    """One broker, four links; a new subscriber finds the native tree, DSX metadata and the discovery retained."""
    root = plan.native.root
    with unbounded(tmp_path) as port:
        publishers = {
            "native": Native(plan, "0.1.0", boot=1),
            "dsx": Dsx(plan),
            "sparkplug": Sparkplug(plan, "0.1.0"),
            "homeassistant": HomeAssistant(plan, "0.1.0", root),
        }
        links = {name: linked(plan, port, name, publisher) for name, publisher in publishers.items()}
        pod = Pod(plan, list(links.values()))
        async with running(pod):
            await until(lambda: all(link.connected for link in links.values()))
            await quiet(links["dsx"])
            wanted = {f"BMS/v1/PUB/Metadata/{tag.tail}" for tag in publishers["dsx"].tags}
            await say(port, END, "")
            wanted |= {f"{root}/status"}
            found: set[str] = set()
            async with asyncio.timeout(60):
                while not wanted <= found or len(devices(found)) < len(list(plan.devices)):
                    with heard(port, "BMS/#", tmp_path, "homeassistant/#", "spBv1.0/#", f"{root}/#", END) as path:
                        await until(lambda path=path: END in {topic for topic, *_ in lines(path)})
                        found = {topic for topic, retained, _ in lines(path) if retained}
            assert not any(link.dropped for link in links.values())
    assert not any(topic.startswith(("spBv1.0/", "BMS/v1/PUB/Value")) for topic in found)


def test_plans_without_the_tables_have_no_other_publishers(plan):
    bare = dataclasses.replace(plan, dsx=None, sparkplug=None, homeassistant=None)
    for made in (lambda: Dsx(bare), lambda: Sparkplug(bare, ""), lambda: HomeAssistant(bare, "", "r")):
        with pytest.raises(ValueError, match="no table"):
            made()


async def say(port: int, topic: str, body: object) -> None:
    command = ["mosquitto_pub", "-h", LOOPBACK, "-p", str(port), "-t", topic, "-m", json.dumps(body), "-r", "-q", "1"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=10)


async def test_a_sparkplug_node_leaves_with_its_primary_host_and_comes_back(plan, tmp_path):
    """On the wire: silence until the host is online, NDEATH when it goes, a new connection with the next bdSeq."""
    settings = plan.sparkplug.model_copy(update={"primary_host": "scada"})
    guarded = dataclasses.replace(plan, sparkplug=settings)
    with broker() as port, heard(port, "spBv1.0/factory/#", tmp_path) as path:
        await asyncio.sleep(0.5)
        link = linked(guarded, port, "sparkplug", Sparkplug(guarded, "0.1.0"))

        def verbs(verb: str) -> list[int]:
            """Return the bdSeq of each certificate of the node."""
            payloads = [payload for topic, _, payload in lines(path) if topic.split("/")[2] == verb]
            return [item.value for p in payloads for item in decode(p, 10_000).metrics if item.name == "bdSeq"]

        async with running(Pod(guarded, [link])):
            await until(lambda: link.connected)
            await asyncio.sleep(1)
            assert not lines(path)
            await say(port, "spBv1.0/STATE/scada", {"online": True, "timestamp": 1000})
            await until(lambda: verbs("NBIRTH") == [0])
            await say(port, "spBv1.0/STATE/scada", {"online": False, "timestamp": 1001})
            await until(lambda: verbs("NDEATH") == [0])
            await until(lambda: link.connects == 2 and link.connected)
            await asyncio.sleep(1)
            assert verbs("NBIRTH") == [0]
            await say(port, "spBv1.0/STATE/scada", {"online": True, "timestamp": 1002})
            await until(lambda: verbs("NBIRTH") == [0, 1])
        await until(lambda: verbs("NDEATH") == [0, 1])
