"""Tools beside polling: their lane, the lease, and that what control needs is read as before."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest

from controller.config.plan import BusPlan
from controller.fieldbus import frames
from controller.fieldbus.frames import NoReply, Refused, Request
from controller.fieldbus.lane import ASKS_MAX, LEASE_MAX_S, PATIENCE_S, Denied, ToolLane
from hil.bench import plans
from hil.wire.rtu import RtuLine
from tests.fieldbus.rig import Memory, serial_line, served, settings, until

ONE = frames.read(1, "holding", 100, 1)
PERIOD_S = 0.1


class Hand:
    """A clock that is set by hand."""

    at = 100.0

    def monotonic(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return 0


def never(request: Request) -> float:
    return 0.0


async def laned() -> tuple[ToolLane, Hand]:
    clock = Hand()
    bus = plans.serial("/dev/null", 19200).model_copy(update={"timeout_ms": 60, "write_budget_ms": 100})
    return ToolLane(bus, clock, asyncio.Event()), clock


async def asked(lane: ToolLane, request: Request = ONE) -> asyncio.Task[list[int]]:
    task = asyncio.create_task(lane.ask(request))
    await asyncio.sleep(0)
    return task


async def test_an_ask_waits_for_a_pause_it_fits_into_and_not_for_ever() -> None:
    lane, clock = await laned()
    task = await asked(lane)
    cost_s = 0.06 + 15 * 11 / 19200
    assert lane.next(clock.at, clock.at + cost_s / 2, 0.002, never) == (None, clock.at + cost_s / 2)
    ask, _ = lane.next(clock.at, clock.at + cost_s + 0.003, 0.002, never)
    assert ask is not None
    assert ask.timeout_s == pytest.approx(cost_s)
    ask.answer.set_result([7])
    assert await task == [7]
    task = await asked(lane)
    clock.at += PATIENCE_S - 0.01
    assert lane.next(clock.at, clock.at + 5 * PATIENCE_S, 0.002, never)[0] is not None, "a long pause"
    task.cancel()
    task = await asked(lane)
    assert lane.next(clock.at, clock.at + 0.03, 0.002, never)[0] is None
    clock.at += PATIENCE_S
    assert lane.next(clock.at, clock.at + 0.03, 0.002, never)[0] is not None
    task.cancel()


async def test_no_ask_takes_longer_than_the_write_budget() -> None:
    lane, clock = await laned()
    task = asyncio.create_task(lane.ask(frames.read(1, "holding", 0, 60), 5.0))
    await asyncio.sleep(0)
    ask, _ = lane.next(clock.at, clock.at + 60, 0.0, never)
    assert ask is not None
    assert ask.timeout_s == pytest.approx(0.1)
    task.cancel()
    with pytest.raises(Denied, match="write_budget_ms = 100"):
        await lane.ask(frames.read(1, "holding", 0, 125))


async def test_what_may_not_be_sent_yet_waits() -> None:
    lane, clock = await laned()
    task = await asked(lane)
    assert lane.next(clock.at, clock.at + 9, 0.0, lambda request: clock.at + 2.5) == (None, clock.at + 2.5)
    task.cancel()


async def test_asks_are_bounded_and_those_given_up_are_forgotten() -> None:
    lane, clock = await laned()
    tasks = [await asked(lane) for _ in range(ASKS_MAX)]
    with pytest.raises(Denied, match="wait for this bus already"):
        await lane.ask(ONE)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert lane.next(clock.at, 1e9, 0.0, never) == (None, 1e9)


async def test_a_lease_has_one_owner_and_an_end() -> None:
    lane, clock = await laned()
    assert lane.take("scan", "ann", 1e6).until == clock.at + LEASE_MAX_S
    with pytest.raises(Denied, match="ann holds it for 60 s more: scan"):
        lane.take("dump", "bob", 5)
    assert not lane.give_back("bob")
    clock.at += LEASE_MAX_S
    assert lane.lease(clock.at) is None
    lane.take("dump", "bob", 5)
    assert lane.give_back("bob")
    assert lane.lease(clock.at) is None


# ---------------------------------------------------------------- on a line


def plan_of(line: RtuLine, **more: int) -> BusPlan:
    """One unit: a safety point, one that control needs, and one that nobody needs, far apart; an output."""
    rows = {
        "guarded": plans.row(100, safety=True),
        "needed": plans.row(200),
        "idle": plans.row(300),
        "output": plans.row(400, access="rw"),
    }
    device = plans.device("dev", 1, rows, period_s=PERIOD_S, device_time_s=0.001)
    return plans.bus(settings(line, **more), [device])


def memory() -> Memory:
    return Memory(dict.fromkeys([*range(100, 110), *range(200, 210), *range(300, 310), *range(400, 410)], 5))


async def test_an_ask_is_answered_beside_polling_and_says_nothing_about_the_unit(tmp_path: Path) -> None:
    async with serial_line({1: memory()}, tmp_path) as line, served(plan_of(line), tmp_path) as host:
        assert await host.worker.tools.ask(frames.read(1, "holding", 100, 10)) == [5] * 10
        with pytest.raises(Refused, match="exception 2"):
            await host.worker.tools.ask(frames.read(1, "holding", 999, 1))
        for _ in range(4):
            with pytest.raises(NoReply):
                await host.worker.tools.ask(frames.read(9, "holding", 0, 1), 0.02)
        assert host.inbox["dev.comms"].value is True
        assert host.worker.counters["timeouts"] == 0
        assert host.worker.counters["exception 2"] == 0
        assert line.counters.short_gaps == 0


@pytest.mark.slow
async def test_safety_reads_go_on_as_before_while_tools_ask_all_the_time(tmp_path: Path) -> None:
    async with serial_line({1: memory()}, tmp_path) as line, served(plan_of(line), tmp_path) as host:

        async def times() -> list[float]:
            host.inbox.good.clear()
            await asyncio.sleep(20 * PERIOD_S)
            return list(host.inbox.good["dev.guarded"])

        alone = await times()
        done = 0

        async def hammer(unit: int) -> None:
            nonlocal done
            while True:
                with contextlib.suppress(NoReply):
                    await host.worker.tools.ask(frames.read(unit, "holding", 100, 10))
                done += 1

        hammers = [asyncio.create_task(hammer(unit)) for unit in (1, 1, 9)]
        beside = await times()
        for task in hammers:
            task.cancel()
        await asyncio.gather(*hammers, return_exceptions=True)
        assert done >= 4
        assert len(beside) >= len(alone) - 1
        worst = max(after - before for before, after in itertools.pairwise(beside))
        assert worst <= PERIOD_S + 0.1 + 0.05, "late by the write budget at the most, and by what the machine adds"
        assert line.counters.short_gaps == 0


async def test_a_lease_pauses_only_what_nobody_needs_and_ends_by_itself(tmp_path: Path) -> None:
    unit = memory()
    async with serial_line({1: unit}, tmp_path) as line, served(plan_of(line), tmp_path) as host:
        host.worker.tools.kept = {"dev.needed", "dev.output"}
        host.worker.tools.take("quiet", "ann", 0.6)
        await asyncio.sleep(PERIOD_S)
        host.inbox.good.clear()
        await until(lambda: len(host.inbox.good["dev.guarded"]) >= 3 and len(host.inbox.good["dev.needed"]) >= 3)
        assert "dev.idle" not in host.inbox.good
        await until(lambda: len(host.inbox.good["dev.idle"]) >= 2, 3.0)
        assert host.worker.tools.lease(asyncio.get_running_loop().time()) is None


async def test_a_write_goes_on_under_a_lease_and_ahead_of_tools(tmp_path: Path) -> None:
    from controller.core.interlocks import Write

    unit = memory()
    async with serial_line({1: unit}, tmp_path) as line, served(plan_of(line), tmp_path) as host:
        host.worker.tools.take("quiet", "ann", 30)
        waiting = [asyncio.create_task(host.worker.tools.ask(ONE)) for _ in range(ASKS_MAX)]
        await asyncio.sleep(0)
        host.worker.submit(Write("dev.output", 9.0, True, "test"))
        await until(lambda: unit.writes)
        assert unit.writes == [(400, [9])]
        assert sum(task.done() for task in waiting) <= 1
        await asyncio.gather(*waiting)


async def test_a_silent_unit_that_control_needs_is_probed_under_a_lease(tmp_path: Path) -> None:
    unit = memory()
    async with serial_line({1: unit}, tmp_path) as line, served(plan_of(line), tmp_path) as host:
        unit.silent = True
        await until(lambda: host.inbox["dev.comms"].value is False)
        host.worker.tools.take("quiet", "ann", 30)
        unit.silent = False
        await until(lambda: host.inbox["dev.comms"].value is True)
