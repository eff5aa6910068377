"""One device served alone, as a technician does it; and a pod whose line of pumps is behind a device server."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from controller.config.enclosure import Bus
from controller.fieldbus import frames
from controller.fieldbus.client import made
from hil.devices.alone import alone
from hil.monitor import Monitor
from hil.runner import REFERENCE_POD, Bench, free_port
from hil.serve import find
from hil.wire.gateway import Gateway
from hil.wire.tcp import LOOPBACK

needs_mbpoll = pytest.mark.skipif(not shutil.which("mbpoll"), reason="needs the Debian package mbpoll")


async def served(*arguments: str) -> tuple[asyncio.subprocess.Process, list[str]]:
    """Run the command and return it with the line it prints for each way to the device."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "hil", "serve", *arguments, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    ways = max(1, sum(one.startswith("--") for one in arguments))
    async with asyncio.timeout(60):
        return process, [(await process.stdout.readline()).decode().strip() for _ in range(ways)]


@pytest.mark.peer
@needs_mbpoll
async def test_the_commands_it_prints_read_the_device(tmp_path: Path) -> None:
    port, gateway = free_port(), free_port()
    process, told = await served(
        "eastron_sdm630", "--port", str(port), "--pty", str(tmp_path / "line"), "--gateway", str(gateway)
    )
    try:
        commands = [line.partition(": ")[2] for line in told if "mbpoll" in line]
        assert len(commands) == 2
        for command in commands:
            reader = await asyncio.create_subprocess_exec(*shlex.split(command), stdout=PIPE)
            said = (await reader.communicate())[0].decode()
            assert reader.returncode == 0, said
            words = [int(word) for word in re.findall(r"^\[\d+\]:\s+(\d+)", said, re.MULTILINE)]
            assert len(words) == 2
            assert words[0] == 0x4370, "phase 1 has 240 V"
        link = made(
            Bus(kind="rtu_over_tcp", host=LOOPBACK, port=gateway, baud=19200, timeout_ms=500, write_budget_ms=500)
        )
        await link.open()
        request = frames.read(1, "input", 0, 2)
        assert request.values(await link.exchange(request, 1.0))[0] == 0x4370
        await link.close()
    finally:
        process.terminate()
        assert await process.wait() == 0
    assert not (tmp_path / "line").is_symlink()


async def test_what_can_not_be_served_is_told() -> None:
    for arguments, told in (
        (("zebra",), "no such profile; there are: abb_ach550, "),
        (("xy_md02", "--unit", "300"), "--unit 300; allowed: 1 to 247"),
        (("xy_md02", "--baud", "3"), "--baud 3; allowed: 1200, 2400"),
    ):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hil", "serve", *arguments, stdout=PIPE, stderr=PIPE
        )
        _, error = await process.communicate()
        assert process.returncode == 1
        assert told in error.decode()


def test_two_devices_alone_are_two(tmp_path: Path) -> None:
    one, other = alone(find("danfoss_fc102")), alone(find("danfoss_fc102"))
    one.plant.tcs_pumps[0].run = one.plant.tcs_pumps[1].tripped = True
    assert not other.plant.tcs_pumps[0].run
    assert not other.plant.tcs_pumps[1].tripped
    path = tmp_path / "own.toml"
    path.write_text((REFERENCE_POD.parents[1] / "devices" / "xy_md02.toml").read_text())
    assert find(str(path)).rows


@pytest.mark.slow
async def test_a_pod_whose_pumps_are_behind_a_device_server(tmp_path: Path) -> None:
    text = REFERENCE_POD.read_text()
    line = re.search(r"\[buses\.cooling\]\n.*?\n\n", text, re.DOTALL)
    assert line is not None
    behind = '[buses.cooling]\nkind = "rtu_over_tcp"\nhost = "192.0.2.9"\nport = 4001\nbaud = 19200\n'
    limits = "timeout_ms = 400\nwrite_budget_ms = 100\n\n"
    profiles = f'profiles_dir = "{REFERENCE_POD.parents[1] / "devices"}"'
    enclosure = tmp_path / "pod.toml"
    enclosure.write_text(text.replace(line[0], behind + limits).replace('profiles_dir = "../devices"', profiles))
    async with Bench(enclosure, broker=True) as bench:
        gateway = bench.buses["cooling"]
        assert isinstance(gateway, Gateway)
        monitor = Monitor(LOOPBACK, bench.mqtt_port, bench.root)
        monitor.start()
        try:
            await bench.start_controller()
            async with asyncio.timeout(60):
                while monitor.picture.number("pump_1", "speed") is None:  # noqa: ASYNC110  told by another process
                    await asyncio.sleep(0.1)
                while not bench.plant.tcs_pumps[0].run:  # noqa: ASYNC110  the controller starts it, over the line
                    await asyncio.sleep(0.1)
            assert gateway.counters.crc_errors == gateway.dropped == 0
        finally:
            await monitor.stop()
