"""Store and forward: order, caps, exact counts, and what a crash, a torn file or a full disk do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.config.enclosure import OutboxLimits
from controller.northbound.outbox import ROW_OVERHEAD, Outbox
from controller.northbound.publisher import AUDIT, EVENT, TELEMETRY, Message

ROOT = Path(__file__).parents[2]
LIMITS = OutboxLimits(max_mib=1, max_age_h=1, every_s=0, drain_per_s=50)


def event(number: int, kind=EVENT, size: int = 0) -> Message:
    return Message("r/evt", b"%d" % number + b" " * size, retain=False, kind=kind)


def value(number: int, size: int = 0) -> Message:
    return Message("r/dev/x", b"%d" % number + b" " * size, kind=TELEMETRY)


def numbers(kept) -> list[int]:
    return [int(held.message.payload) for held in kept]


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def made(tmp_path) -> Iterator:
    boxes: list[Outbox] = []

    def make(**more) -> Outbox:
        boxes.append(Outbox(tmp_path / "outbox.sqlite", more.pop("limits", LIMITS), **more))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


async def test_the_journal_keeps_its_order_and_stays_until_it_is_done(made):
    box = made()
    box.put([event(1), event(2, AUDIT), value(3), event(4)])
    await box.flush()
    taken = await box.take(10, journal=True)
    assert numbers(taken) == [1, 2, 4]
    assert [held.message.kind for held in taken] == [EVENT, AUDIT, EVENT]
    assert numbers(await box.take(2, journal=True)) == [1, 2]
    await box.done(taken[:2])
    assert numbers(await box.take(10, journal=True)) == [4]
    values = await box.take(10, journal=False)
    assert values[0].message == value(3)
    assert (box.kept, sum(box.lost.values())) == ({AUDIT: 0, EVENT: 1, TELEMETRY: 1}, 0)


async def test_the_next_start_finds_everything(made):
    box = made()
    box.put([event(number) for number in range(5)] + [value(9)])
    box.close()
    again = made()
    await again.flush()
    assert again.kept == {AUDIT: 0, EVENT: 5, TELEMETRY: 1}
    assert numbers(await again.take(10, journal=True)) == [0, 1, 2, 3, 4]


async def test_the_cap_takes_the_oldest_of_the_lowest_class_and_counts_it(made):
    size = 1000
    cost = size + len("r/dev/x") + ROW_OVERHEAD + 1
    box = made(max_bytes=10 * cost)
    box.put([value(number, size) for number in range(8)])
    await box.flush()
    box.put([event(number, AUDIT, size) for number in range(4)])
    await box.flush()
    assert box.kept == {AUDIT: 4, EVENT: 0, TELEMETRY: 6}
    assert box.lost == {AUDIT: 0, EVENT: 0, TELEMETRY: 2}
    assert numbers(await box.take(10, journal=False)) == [2, 3, 4, 5, 6, 7]
    box.put([event(number, AUDIT, size) for number in range(4, 8)])
    box.put([event(number, EVENT, size) for number in range(5)])
    await box.flush()
    assert (box.kept[AUDIT], box.kept[TELEMETRY], box.lost[TELEMETRY]) == (8, 0, 8)
    assert (box.kept[EVENT], box.lost[EVENT], box.lost[AUDIT]) == (2, 3, 0)
    assert box.kept_bytes <= 10 * cost
    box.close()
    again = made(max_bytes=10 * cost)
    await again.flush()
    assert again.lost == {AUDIT: 0, EVENT: 3, TELEMETRY: 8}, "losses are counted over a restart"


async def test_age_counts_the_time_that_the_controller_ran(made):
    clock = Clock()
    box = made(now=clock)
    box.put([value(1), event(2)])
    await box.flush()
    clock.at += 3599
    box.put([value(3)])
    await box.flush()
    assert sum(box.lost.values()) == 0
    box.close()
    later = Clock()
    later.at = 5.0  # another boot of the machine: its monotonic clock starts anew
    again = made(now=later)
    again.put([value(4)])
    await again.flush()
    assert sum(again.lost.values()) == 0
    later.at += 3.0
    again.put([value(5)])
    await again.flush()
    assert again.lost == {AUDIT: 0, EVENT: 1, TELEMETRY: 1}
    assert numbers(await again.take(10, journal=False)) == [3, 4, 5]


async def test_what_was_evicted_while_it_was_being_sent_is_counted_once(made):
    box = made(max_bytes=3 * (1000 + ROW_OVERHEAD + 8))
    box.put([value(number, 1000) for number in range(3)])
    await box.flush()
    taken = await box.take(3, journal=False)
    box.put([value(3, 1000)])
    await box.flush()
    await box.done(taken)
    assert (box.kept[TELEMETRY], box.lost[TELEMETRY]) == (1, 1)


async def test_telemetry_waits_for_company_and_events_do_not(made, tmp_path):
    written = threading.Event()
    box = made(available=written.set)
    await box.flush()
    written.clear()
    box.put([value(1)])
    assert not written.wait(0.3)
    box.put([event(2)])
    assert written.wait(5)
    assert numbers(await box.take(5, journal=False)) == [1]


async def test_a_torn_file_is_put_aside_and_said(made, tmp_path):
    box = made()
    box.put([event(number, size=3000) for number in range(200)])
    box.close()
    path = tmp_path / "outbox.sqlite"
    torn = bytearray(path.read_bytes())
    torn[4096:12288] = os.urandom(8192)
    path.write_bytes(torn)
    again = made()
    again.put([event(1)])
    await again.flush()
    assert (tmp_path / "outbox.sqlite.corrupt").exists()
    assert numbers(await again.take(5, journal=True)) == [1]
    assert again.problem == ""


@pytest.mark.parametrize("found", [b"", b"not a database" * 500])
async def test_whatever_the_file_is_events_are_kept(made, tmp_path, found):
    (tmp_path / "outbox.sqlite").write_bytes(found)
    box = made()
    box.put([event(1)])
    await box.flush()
    assert numbers(await box.take(5, journal=True)) == [1]


async def test_without_a_directory_the_journal_lives_in_memory_and_that_is_said(tmp_path):
    clock = Clock()
    box = Outbox(tmp_path / "later" / "outbox.sqlite", LIMITS, now=clock)
    try:
        box.put([event(1), value(2), event(3)])
        await box.flush()
        assert "no directory" in box.problem
        assert box.journal_waits
        taken = await box.take(5, journal=True)
        assert numbers(taken) == [1, 3]
        await box.done(taken[:1])
        assert numbers(await box.take(5, journal=True)) == [3]
        (tmp_path / "later").mkdir()
        clock.at += 11
        await box.flush()
        assert box.problem == ""
        assert numbers(await box.take(5, journal=True)) == [3]
        assert box.kept == {AUDIT: 0, EVENT: 1, TELEMETRY: 1}
    finally:
        box.close()


async def everything(box: Outbox) -> list[int]:
    await box.flush()
    return numbers(await box.take(100_000, journal=True))


CHILD = """
import asyncio, resource, signal, sys
from pathlib import Path
from controller.config.enclosure import OutboxLimits
from controller.northbound.outbox import Outbox
from controller.northbound.publisher import EVENT, Message

async def main():
    limits = OutboxLimits(max_mib=64, max_age_h=1, every_s=0, drain_per_s=50)
    box = Outbox(Path(sys.argv[1]), limits)
    await box.flush()
    if sys.argv[2] == "full":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    for number in range(100_000):
        box.put([Message("r/evt", b"%d" % number + b" " * 500, retain=False, kind=EVENT)])
        await box.flush()
        if box.problem:
            print("problem", number, len(await box.take(100_000, journal=True)), flush=True)
            box.put([Message("r/evt", b"last", retain=False, kind=EVENT)])
            return
        print(number, flush=True)

asyncio.run(main())
"""


def test_sigkill_loses_nothing_that_was_on_disk(made, tmp_path):
    command = [sys.executable, "-c", CHILD, str(tmp_path / "outbox.sqlite"), "kill"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        for line in child.stdout:
            if int(line) == 50:
                break
        child.send_signal(signal.SIGKILL)
        said = [50, *(int(line) for line in child.stdout)]
    found = asyncio.run(everything(made()))
    assert found[: said[-1] + 1] == list(range(said[-1] + 1))
    assert len(found) in (said[-1] + 1, said[-1] + 2)


def test_a_full_disk_is_said_and_what_was_written_is_still_there(made, tmp_path):
    path = tmp_path / "outbox.sqlite"
    command = [sys.executable, "-c", CHILD, str(path), "full"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "problem", done.stdout[-500:]
    found = asyncio.run(everything(made()))
    assert found == list(range(len(found)))
    assert len(found) >= int(last[1]) > 5


def test_a_file_of_a_later_release_is_put_aside(tmp_path):
    path = tmp_path / "outbox.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    box = Outbox(path, LIMITS)
    box.put([event(1)])
    box.close()
    assert (tmp_path / "outbox.sqlite.corrupt").exists()
