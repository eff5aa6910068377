"""The commands, as a technician runs them: in front of emulated devices, with the service stopped and running."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.config.plan import load_plan
from controller.fieldbus.guard import owned_points
from controller.tools.access import running
from hil.runner import Bench
from tests.fieldbus.rig import until

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]
ROOT = Path(__file__).parents[2]
PODKEEPER = "from controller.cli import main; main()"
DOCUMENTED = (ROOT / "docs" / "tools.md").read_text()


class Desk:
    """A bench, and the command line in front of it."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.door = bench.folder / "fieldbus.sock"

    async def run(self, *arguments: str, config: bool = True) -> tuple[int, str]:
        """Return the exit code and all that was printed."""
        more = ("--config", str(self.bench.site_file)) if config else ()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PODKEEPER, *arguments, *more,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode()

    async def service(self) -> None:
        await self.bench.start_controller()
        await until(lambda: running(self.door), 30)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    command = (sys.executable, "-c", PODKEEPER, "run")
    async with Bench(overrides={"operation": {"autostart": False}}, command=command) as bench:
        yield Desk(bench)


async def test_points_are_read_and_written_without_a_service(desk: Desk) -> None:
    code, said = await desk.run("read", "pump_1.speed", "io_1.supply_temp_1")
    assert code == 0, said
    assert re.search(r"^pump_1.speed  0 %  GOOD  words 0x0000  \[holding 50209 int16 .*cooling unit 1\]$", said, re.M)
    assert re.search(r"^io_1.supply_temp_1  \d\d(\.\d)? Cel  GOOD", said, re.M)
    assert await desk.run("write", "pump_1.speed_cmd", "42") == (
        0, "pump_1.speed_cmd  verified  words 0x1AE1  read back 0x1AE1\n",
    )  # fmt: skip
    code, said = await desk.run("write", "pump_1.speed_cmd", "150")
    assert (code, "outside 0 to 100" in said) == (1, True)
    code, said = await desk.run("read", "pump_1.sped")
    assert (code, said) == (1, "no such point: pump_1.sped; nearest is pump_1.speed\n")
    desk.bench.silence("pump_1")
    code, said = await desk.run("read", "pump_1.speed", "pump_2.speed")
    assert code == 3
    assert "pump_1.speed  -  no answer" in said
    assert "pump_2.speed  0 %  GOOD" in said
    desk.bench.exception("pump_2", 4)
    code, said = await desk.run("read", "pump_2.speed")
    assert (code, "exception 4 (device failure)" in said) == (4, True)


async def test_dumps_are_taken_and_compared(desk: Desk, tmp_path: Path) -> None:
    first, second = tmp_path / "first.tsv", tmp_path / "second.tsv"
    area = ("--from", "50005", "--to", "50010")
    assert (await desk.run("dump", "pump_1", *area, "--out", str(first)))[0] == 0
    await desk.run("write", "pump_1.speed_cmd", "42")
    assert (await desk.run("dump", "cooling:1", *area, "--out", str(second)))[0] == 0
    assert await desk.run("diff", str(first), str(first), config=False) == (0, "")
    code, said = await desk.run("diff", str(first), str(second))
    assert code == 4
    assert said == "50009\t0x0000 -> 0x1AE1\nspeed_cmd\t0 % -> 41.99829102 %\n"
    profile = str(ROOT / "profiles" / "devices" / "danfoss_fc102.toml")
    assert (await desk.run("diff", str(second), "--profile", profile, config=False))[0] == 0
    code, said = await desk.run("dump", "cooling:999", *area)
    assert (code, said) == (1, "cooling:999: allowed: DEVICE, or BUS:UNIT with a unit from 0 to 255\n")


async def test_a_scan_without_a_service_tries_settings(desk: Desk) -> None:
    profiles = str(ROOT / "profiles" / "devices")
    line = desk.bench.buses["cooling"]
    code, said = await desk.run(
        "scan", "--port", str(line.link), "--baud", "19200", "--parity", "none", "--units", "1-4",  # type: ignore[union-attr]
        "--profiles", profiles,
    )  # fmt: skip
    assert code == 0, said
    assert re.findall(r"19200 none 2  unit (\d)", said) == ["1", "2", "3"]
    assert said.count("    danfoss_fc102: ") == 3
    code, said = await desk.run("scan", "--bus", "cooling", "--units", "7")
    assert (code, said) == (3, "nothing answers\n")
    code, said = await desk.run("scan", "--units", "7")
    assert (code, said) == (1, "give one of --bus, --port, --host\n")


async def test_everything_goes_through_the_service_while_it_runs(desk: Desk, tmp_path: Path) -> None:
    await desk.service()
    plan = load_plan(desk.bench.site_file)
    line = desk.bench.buses["cooling"]
    polled = line.counters.requests  # type: ignore[union-attr]
    started = asyncio.get_running_loop().time()
    code, said = await desk.run("read", "pump_1.speed", "io_1.supply_temp_1", "room_1.temperature")
    assert (code, said.count("GOOD")) == (0, 3), said

    for name in ("pump_1.speed_cmd", "chiller_1.supply_temp_sp"):
        code, said = await desk.run("write", name, "20")
        assert (code, "output of the control" in said) == (1, True), said

    owned = owned_points(plan.pod)
    expected = next(item for item in plan.pod.expected if item.point not in owned)
    device = next(d for d in plan.devices if d.name == expected.point.partition(".")[0])
    point = next(p for p in device.points if p.point.id == expected.point)
    if point.row.access == "rw":
        value = "on" if expected.value is True else f"{expected.value:g}"
        code, said = await desk.run("write", expected.point, value)
        assert (code, "verified" in said) == (0, True), said

    code, said = await desk.run("scan", "--bus", "cooling", "--units", "1-4")
    assert [code, *re.findall(r"unit \d \((\w+)\)", said)] == [0, "pump_1", "pump_2", "pump_3"], said
    code, said = await desk.run("scan", "--port", str(line.link))  # type: ignore[union-attr]
    assert (code, "other settings would blind it" in said) == (1, True), said

    code, said = await desk.run("commission", "holes", "room_1", "--lease", "20")
    assert (code, "max_hole_words = " in said) == (0, True), said

    out = tmp_path / "cooling.pcap"
    code, said = await desk.run("capture", "cooling", "--out", str(out), "--seconds", "1")
    assert re.fullmatch(r"\d+ frames, 0 lost\n", said), said
    assert out.read_bytes()[:4] == b"\xd4\xc3\xb2\xa1"

    rate = (line.counters.requests - polled) / (asyncio.get_running_loop().time() - started)  # type: ignore[union-attr]
    assert rate > 10, "polling went on all the while"
    assert line.counters.short_gaps == 0  # type: ignore[union-attr]
    await desk.bench.stop_controller()


async def test_a_capture_needs_a_service(desk: Desk, tmp_path: Path) -> None:
    code, said = await desk.run("capture", "cooling", "--out", str(tmp_path / "x.pcap"))
    assert (code, said) == (1, "no service runs: there is nothing to capture\n")


def test_the_page_names_every_command_and_exit_code() -> None:
    for command in ("read", "write", "dump", "diff", "scan", "capture", "commission holes"):
        assert f"podkeeper {command} " in DOCUMENTED, command
    for code in (0, 1, 3, 4):
        assert f"| {code} |" in DOCUMENTED
