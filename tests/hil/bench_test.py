"""The bench as a whole: what it offers to tests, its site file, faults, processes and the demo's words."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient

from controller.config.plan import load_plan
from controller.config.problems import ConfigError
from hil import demo, screen
from hil.monitor import Picture
from hil.record import OUTLET, RUNNING
from hil.runner import SHORT_TIMES, Bench, toml_lines
from hil.wire.rtu import RtuLine
from hil.wire.tcp import LOOPBACK, TcpBus

STUB = Path(__file__).with_name("stub_controller.py")


def stub(behaviour: str) -> tuple[str, ...]:
    return (sys.executable, str(STUB), behaviour)


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  what is waited for is in another process
            await asyncio.sleep(0.02)


def tcp_port(bench: Bench, name: str) -> int:
    bus = bench.buses[name]
    assert isinstance(bus, TcpBus)
    return bus.port


async def test_site_file_leads_to_every_emulated_device() -> None:
    async with Bench() as bench:
        plan = load_plan(bench.site_file)
        assert plan.pod.autostart
        assert plan.pod.power.rack_stagger_s == SHORT_TIMES["power"]["rack_stagger_s"]
        assert plan.links["native"].port == bench.mqtt_port
        assert Path(plan.console.socket) == bench.console_socket
        for bus in plan.buses:
            if bus.settings.kind == "tcp":
                assert isinstance(bus.settings.port, int)
                client = AsyncModbusTcpClient(str(bus.settings.host), port=bus.settings.port, timeout=2, retries=0)
                assert await client.connect()
                for device in bus.devices:
                    row = next(point.row for point in device.points if point.row.table in ("holding", "input"))
                    read = client.read_holding_registers if row.table == "holding" else client.read_input_registers
                    assert not (await read(row.address, count=row.width, device_id=device.unit)).isError()
                client.close()
            else:
                assert os.readlink(str(bus.settings.port)).startswith("/dev/pts/")
        folder = bench.folder
    assert not folder.exists()


async def test_full_times_and_overrides() -> None:
    overrides = {"scan": {"period_ms": 500}, "power": {"rack_stagger_s": 9.0}}
    async with Bench(short=False, overrides=overrides) as bench:
        plan = load_plan(bench.site_file)
        assert plan.scan_s == 0.5
        assert plan.pod.power.rack_stagger_s == 9.0
        assert plan.pod.startup == load_plan(bench.enclosure).pod.startup
        assert bench.plant.facility.chillers[0].start_s == 60


def test_wrong_override_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="period_ms"):
        Bench(overrides={"scan": {"period_ms": 7}})


async def test_plant_follows_the_wire_in_real_time() -> None:
    async with Bench() as bench:
        mark = bench.record.clock()
        line = bench.buses["cooling"]
        assert isinstance(line, RtuLine)
        pump = AsyncModbusSerialClient(str(line.link), baudrate=line.baud, stopbits=2, timeout=0.5, retries=0)
        pdu = AsyncModbusTcpClient(LOOPBACK, port=tcp_port(bench, "feed_3a"), timeout=2, retries=0)
        assert await pump.connect()
        assert await pdu.connect()
        await pump.write_register(50009, 0x4000, device_id=1)
        await pump.write_register(49999, 0x047C, device_id=1)
        await pdu.write_coil(0, True, device_id=1)
        await until(lambda: bench.record.since(mark, RUNNING))
        await until(lambda: bench.plant.flow_lpm > 20)
        assert bench.plant.it_kw > 0
        assert [event.device for event in bench.record.since(mark, OUTLET)] == ["pdu_3a"]
        assert bench.record.stops(mark) == []
        assert bench.plant.now == pytest.approx(bench.record.clock() - mark, abs=0.5)
        pump.close()
        pdu.close()


async def test_faults_of_devices_and_buses() -> None:
    async with Bench() as bench:
        port = tcp_port(bench, "io")
        client = AsyncModbusTcpClient(LOOPBACK, port=port, timeout=2, retries=0, reconnect_delay=0)
        assert await client.connect()
        bench.exception("io_1", 6)
        assert (await client.read_discrete_inputs(0, count=1)).exception_code == 6
        bench.exception("io_1", 0)
        for held, seen in ((True, True), (None, False)):
            bench.force("io_1.epo", held)
            assert (await client.read_discrete_inputs(0, count=1)).bits[0] is seen
        with pytest.raises(KeyError, match="no point"):
            bench.force("io_1.nothing", True)
        await bench.unplug("io")
        await until(lambda: not client.connected)
        await bench.replug("io")
        assert await client.connect()
        assert not (await client.read_discrete_inputs(0, count=1)).isError()
        client.close()
        before = os.readlink(bench.folder / "cooling")
        await bench.unplug("cooling")
        assert not (bench.folder / "cooling").is_symlink()
        await bench.replug("cooling")
        assert os.readlink(bench.folder / "cooling").startswith("/dev/pts/"), before


async def test_controller_starts_stops_and_is_killed() -> None:
    async with Bench(broker=True, command=stub("normal")) as bench:
        await bench.start_controller()
        await until(lambda: "ready" in bench.stderr_tail)
        with pytest.raises(RuntimeError, match="runs already"):
            await bench.start_controller()
        assert await bench.stop_controller() == 0
        assert await bench.stop_controller() is None
        process = await bench.start_controller()
        await until(lambda: "ready" in bench.stderr_tail)
        await bench.kill_controller()
        assert process.returncode == -signal.SIGKILL


async def test_stubborn_controller_is_killed_in_the_end() -> None:
    async with Bench(broker=True, command=stub("stubborn")) as bench:
        process = await bench.start_controller()
        await until(lambda: "ready" in bench.stderr_tail)
        with pytest.raises(TimeoutError):
            await bench.stop_controller(timeout_s=0.3)
        assert process.returncode == -signal.SIGKILL


async def test_demo_of_a_sound_pod_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = await demo.run(Bench(broker=True, command=stub("normal")), 3.0)
    demo.report(outcome)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[-1] == "demo: mode=NORMAL devices=2 points=3 scans=430 overruns=0 mqtt_messages=9"
    assert "mosquitto_sub -h 127.0.0.1" in out
    assert "podkeeper console --socket" in out
    assert "Shortened times" in out
    assert outcome.exit_code(timed=True) == 0


async def test_demo_tells_how_the_controller_died(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = await demo.run(Bench(broker=True, command=stub("die")), 30.0)
    demo.report(outcome)
    out, err = capsys.readouterr()
    assert "ended by itself with exit code 3" in err
    assert "no such port" in err
    assert out.splitlines()[-1].startswith("demo: mode=unknown devices=unknown")
    assert outcome.exit_code(timed=True) == outcome.exit_code(timed=False) == 1


async def test_demo_ends_on_a_signal() -> None:
    running = asyncio.create_task(demo.run(Bench(broker=True, command=stub("normal")), None))
    await asyncio.sleep(1.0)
    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(10):
        outcome = await running
    assert outcome.interrupted
    assert outcome.exit_code(timed=False) == 0
    assert outcome.exit_code(timed=True) == 130


def test_demo_judges_by_mode_and_overruns() -> None:
    picture = Picture("root")
    assert demo.Outcome(picture).exit_code(timed=True) == 1
    picture.take("root/state", b'{"mode": "NORMAL"}')
    assert demo.Outcome(picture).exit_code(timed=True) == 1, "overruns unknown"
    picture.take("root/dev/controller", b'{"pts": {"overruns": {"v": 0}}}')
    assert demo.Outcome(picture).exit_code(timed=True) == 0
    picture.take("root/dev/controller", b'{"pts": {"overruns": {"v": 1}}}')
    assert demo.Outcome(picture).exit_code(timed=True) == 1
    picture.take("root/alarm/leak", b'{"state": "UNACK"}')
    picture.take("root/state", b"not json")
    assert picture.alarms == ["leak"]
    picture.take("root/alarm/leak", b"")
    assert picture.alarms == []
    assert picture.messages == 6
    assert "mode=NORMAL" in screen.line(picture, 5)


@pytest.mark.parametrize("seconds", ["0", "-5", "nan", "soon"])
def test_demo_refuses_a_time_that_is_none(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        demo.main(["demo", "--seconds", seconds])
    assert "allowed: 1 to 86400" in capsys.readouterr().err


def test_demo_words_a_missing_enclosure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["demo", "--enclosure", str(tmp_path / "none.toml")]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_site_tables_are_toml() -> None:
    lines = "".join(toml_lines({"a": 'x"y', "b": {"c": True, "d": {"e": [1, 2.5]}}}))
    assert lines == 'a = "x\\"y"\n\n[b]\nc = true\n\n[b.d]\ne = [1, 2.5]\n'
