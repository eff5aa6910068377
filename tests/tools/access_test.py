"""The two ways onto a bus behave alike, a direct one stands aside for a service, and a broken door is told."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controller.config.plan import BusPlan, Plan
from controller.fieldbus import frames
from controller.fieldbus.frames import LinkError, NoReply, Refused
from controller.fieldbus.lane import Denied
from controller.tools.access import Access, Direct, Through, captured, reach
from hil.bench import plans
from hil.wire.rtu import RtuLine
from tests.fieldbus.rig import Memory, Served, serial_line, served, settings

WAYS = ("direct", "through")


def bus_plan(line: RtuLine) -> BusPlan:
    rows = {"value": plans.row(100), "limit": plans.row(110, access="rw")}
    return plans.bus(settings(line), [plans.device("dev", 1, rows, period_s=0.05, device_time_s=0.001)])


@contextlib.asynccontextmanager
async def way(kind: str, line: RtuLine, folder: Path) -> AsyncIterator[tuple[Access, Served | None]]:
    """Give an Access to the line: over its own link, or through a door with a worker behind it."""
    plan = bus_plan(line)
    if kind == "direct":
        direct = Direct(plan.settings)
        await direct.open()
        yield direct, None
        await direct.close()
        return
    async with served(plan, folder) as host:
        through = Through(host.path, plan.name)
        await through.open()
        yield through, host
        await through.close()


@pytest.mark.parametrize("kind", WAYS)
async def test_both_ways_give_the_same(kind: str, tmp_path: Path) -> None:
    unit = Memory({at: 3 * at for at in range(100, 120)})
    async with serial_line({1: unit}, tmp_path) as line, way(kind, line, tmp_path) as (access, _):
        assert await access.ask(frames.read(1, "holding", 100, 4)) == [300, 303, 306, 309]
        assert await access.ask(frames.read(1, "coil", 1, 3)) == [1, 0, 1]
        assert await access.ask(frames.write(1, "holding", 110, [9])) == []
        assert await access.ask(frames.read(1, "holding", 110, 1)) == [9]
        with pytest.raises(Refused, match="exception 2"):
            await access.ask(frames.read(1, "holding", 119, 2))
        started = time.monotonic()
        with pytest.raises(NoReply):
            await access.ask(frames.read(7, "holding", 0, 1), 0.03)
        assert time.monotonic() - started < 1.0
        assert line.counters.short_gaps == 0


def pod(line: RtuLine, folder: Path) -> Plan:
    plan = plans.enclosure([bus_plan(line)], 1)
    return dataclasses.replace(plan, console=plan.console.model_copy(update={"socket": str(folder / "console.sock")}))


async def test_a_direct_tool_stands_aside_when_a_service_comes_up(tmp_path: Path) -> None:
    unit = Memory({at: at for at in range(100, 120)})
    async with serial_line({1: unit}, tmp_path) as line, reach(pod(line, tmp_path), "line") as access:
        assert isinstance(access, Direct)
        assert await access.ask(frames.read(1, "holding", 100, 1)) == [100]
        service = await asyncio.start_unix_server(lambda *_: None, tmp_path / "fieldbus.sock")
        asked = line.counters.requests
        with pytest.raises(Denied, match="has come up"):
            await access.ask(frames.read(1, "holding", 100, 1))
        assert line.counters.requests == asked
        service.close()
        await service.wait_closed()


async def test_a_running_service_is_gone_through_if_it_runs_the_same_file(tmp_path: Path) -> None:
    async with serial_line({1: Memory(dict.fromkeys(range(100, 120), 5))}, tmp_path) as line:
        plan = dataclasses.replace(pod(line, tmp_path), revision="r1")
        async with served(plan.buses[0], tmp_path):
            async with reach(plan, "line") as access:
                assert isinstance(access, Through)
                assert await access.ask(frames.read(1, "holding", 100, 1)) == [5]
            with pytest.raises(Denied, match="runs revision r1, this file is r2"):
                async with reach(dataclasses.replace(plan, revision="r2"), "line"):
                    pass


async def test_a_service_without_a_door_is_never_passed_by(tmp_path: Path) -> None:
    async with serial_line({1: Memory({100: 5})}, tmp_path) as line:
        service = await asyncio.start_unix_server(lambda *_: None, tmp_path / "console.sock")
        with pytest.raises(Denied, match=r"door .* is shut"):
            async with reach(pod(line, tmp_path), "line"):
                pass
        assert line.counters.requests == 0
        service.close()
        await service.wait_closed()


async def test_a_line_that_another_holds_is_not_opened(tmp_path: Path) -> None:
    async with serial_line({1: Memory({100: 5})}, tmp_path) as line, way("direct", line, tmp_path):
        with pytest.raises(LinkError, match="can't open"):
            await Direct(settings(line)).open()


async def test_a_service_that_goes_away_is_told(tmp_path: Path) -> None:
    async with serial_line({1: Memory(dict.fromkeys(range(100, 120), 5))}, tmp_path) as line:
        through = Through(tmp_path / "fieldbus.sock", "line")
        async with served(bus_plan(line), tmp_path):
            await through.open()
            await through.ask(frames.read(1, "holding", 100, 1))
        with pytest.raises(LinkError, match="the service is gone"):
            await through.ask(frames.read(1, "holding", 100, 1))
        await through.close()
        with pytest.raises(Denied, match="can't connect"):
            await through.open()


async def test_frames_are_captured_without_a_gap(tmp_path: Path) -> None:
    unit = Memory(dict.fromkeys(range(100, 120), 5))
    async with serial_line({1: unit}, tmp_path) as line, way("through", line, tmp_path) as (access, _):
        assert isinstance(access, Through)
        before = time.time()
        taken, lost = await captured(access, 0.5)
        assert lost == 0
        assert len(taken) >= 2 * 0.5 / 0.05 * 0.5
        assert {frame.data[0] for frame in taken} == {1}
        assert all(a.at <= b.at for a, b in itertools.pairwise(taken))
        assert before - 5 < taken[-1].at < time.time() + 1
