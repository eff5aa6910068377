from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.store import EMPTY, FILE, SCHEMA, Store

KILLS = 20
SAVED = {"mode": "NORMAL", "latched": ["epo"], "acked": {"pod_epo": "console:ann"}}


async def saved(directory: Path, values: dict[str, object]) -> None:
    store = Store(directory)
    await store.save(values)
    assert await store.flush()
    store.close()


def problems(lines: list[dict[str, object]]) -> list[str]:
    return [str(line["problem"]) for line in lines if line["event"] == "store_problem"]


async def test_what_was_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    first = Store(tmp_path)
    assert first.load() == {}
    assert first.boot() == 1
    await first.save(SAVED)
    first.close()
    second = Store(tmp_path)
    assert second.boot() == 2
    assert second.load() == SAVED
    assert second.problem == ""
    second.close()
    second.close()


async def test_the_newest_of_many_wins_and_the_main_file_alone_has_it(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(1000):
        await store.save({"number": number})
    assert await store.flush()
    shutil.copy(tmp_path / FILE, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(f"file:{tmp_path / 'copy'}?immutable=1", uri=True)) as copy:
        assert json.loads(copy.execute("SELECT content FROM kept").fetchone()[0]) == {"number": 999}
    store.close()


async def test_only_a_change_is_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.save({"a": 1, "b": 2})
    await store.flush()
    assert store._database is not None
    before = store._database.total_changes
    for _ in range(10):
        await store.save({"b": 2, "a": 1})
    await store.flush()
    assert store._database.total_changes == before
    store.close()


async def test_saving_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    store = Store(tmp_path)
    hold = asyncio.Event()
    loop = asyncio.get_running_loop()
    release = store._pool.submit(lambda: asyncio.run_coroutine_threadsafe(hold.wait(), loop).result())
    await asyncio.wait_for(store.save({"number": 1}), 0.5)
    await asyncio.wait_for(store.save({"number": 2}), 0.5)
    assert not release.done()
    assert store._written == EMPTY
    hold.set()
    assert await store.flush()
    assert store.load() == {"number": 2}
    store.close()


async def test_what_is_saved_last_before_the_end_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.save({"number": 1})
    store.close()
    await store.save({"number": 2})  # too late, and harmless
    assert Store(tmp_path).load() == {"number": 1}


async def test_what_is_not_json_is_told_and_not_saved(tmp_path: Path) -> None:
    store = Store(tmp_path)
    await store.save({"number": 1})
    await store.save({"number": float("nan")})
    assert "not JSON" in store.problem
    await store.save({"number": 2})
    assert await store.flush()
    assert store.problem == ""
    store.close()


# ---------------------------------------------------------------- corrupt files


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(20_000))


def overwritten(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)


def foreign(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE contacts (name TEXT)")
        other.commit()


def altered(statement: str) -> object:
    def alter(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute(statement)
            database.commit()

    return alter


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        garbage,
        overwritten,
        foreign,
        altered("UPDATE kept SET content = '{\"mode\": '"),
        altered("UPDATE kept SET content = '[1]'"),
        altered("UPDATE kept SET content = x'ff00fe'"),
        altered("UPDATE kept SET content = CAST(x'ff00fe' AS TEXT)"),
        altered("UPDATE kept SET boots = 'many'"),
        altered("DELETE FROM kept"),
        altered("UPDATE schema SET version = 'x'"),
    ],
)
async def test_a_corrupt_file_is_put_aside_and_told_once(tmp_path: Path, damage: object) -> None:
    await saved(tmp_path, SAVED)
    assert callable(damage)
    damage(tmp_path / FILE)
    broken = (tmp_path / FILE).read_bytes()
    with capture_logs() as lines:
        store = Store(tmp_path)
        assert store.load() == {}
        assert store.boot() == 1
        await store.save({"new": True})
        assert await store.flush()
    assert len(problems(lines)) == 1
    assert "corrupt" in store.problem
    assert f"{FILE}.corrupt-1" in store.problem
    assert (tmp_path / f"{FILE}.corrupt-1").read_bytes() == broken
    store.close()
    again = Store(tmp_path)
    assert again.load() == {"new": True}
    assert again.problem == ""
    again.close()


async def test_each_corrupt_file_gets_a_name_of_its_own(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        garbage(tmp_path / FILE)
        Store(tmp_path).close()
        assert (tmp_path / f"{FILE}.corrupt-{number}").exists()


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE).touch()
    store = Store(tmp_path)
    assert store.boot() == 1
    assert store.problem == ""
    store.close()


async def test_a_later_schema_is_refused_and_left_untouched(tmp_path: Path) -> None:
    await saved(tmp_path, SAVED)
    altered(f"UPDATE schema SET version = {SCHEMA + 1}")(tmp_path / FILE)  # type: ignore[operator]
    before = (tmp_path / FILE).read_bytes()
    with capture_logs() as lines:
        store = Store(tmp_path)
        assert store.load() == {}
        assert store.boot() == 1
        await store.save({"new": True})
        assert not await store.flush()
        store.close()
    assert len(problems(lines)) == 1
    assert f"has schema {SCHEMA + 1}, this release knows up to {SCHEMA}" in store.problem
    assert (tmp_path / FILE).read_bytes() == before
    assert os.listdir(tmp_path) == [FILE]


# ---------------------------------------------------------------- disks that can't be written


@pytest.mark.parametrize("missing", ["absent", "absent/deeper", "/proc/self"])
async def test_without_a_directory_it_can_write_to_it_runs_in_memory(tmp_path: Path, missing: str) -> None:
    with capture_logs() as lines:
        store = Store(tmp_path / missing)
        assert store.boot() == 1
        for number in range(5):
            await store.save({"number": number})
        assert not await store.flush()
    assert len(problems(lines)) == 1
    assert "can't be written" in store.problem
    store.close()


async def test_a_directory_in_the_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    store = Store(tmp_path)
    assert store.boot() == 1
    assert "can't be written" in store.problem
    store.close()


async def test_two_controllers_on_one_directory_are_told(tmp_path: Path) -> None:
    first = Store(tmp_path)
    await first.save({"who": "first"})
    assert await first.flush()
    second = Store(tmp_path)
    assert "locked" in second.problem
    await second.save({"who": "second"})
    second.close()
    first.close()
    assert Store(tmp_path).load() == {"who": "first"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real, tiny file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_full_disk_is_told_once_and_recovers_by_itself(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.store.RETRY_S", 0.05)
    store = Store(disk)
    store.boot()
    await store.save(SAVED)
    assert await store.flush()
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(b"x" * 1_000_000)
    big = {"text": "y" * 100_000}
    with capture_logs() as lines:
        await store.save(big)
        assert not await store.flush()
        assert "can't be written" in store.problem
        await asyncio.sleep(0.2)  # some retries, all silent
        assert len(problems(lines)) == 1
        (disk / "filler").unlink()
        async with asyncio.timeout(10):
            while store.problem:  # noqa: ASYNC110 - nobody saves anything: the store tries by itself
                await asyncio.sleep(0.01)
    assert [line["event"] for line in lines] == ["store_problem", "store_back"]
    store.close()
    assert Store(disk).load() == big


async def test_a_disk_that_is_full_at_boot_still_gives_what_was_saved(disk: Path) -> None:
    await saved(disk, SAVED)
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(b"x" * 1_000_000)
    store = Store(disk)
    assert store.load() == SAVED
    assert store.boot() == 1
    assert "can't be written" in store.problem
    store.close()
    (disk / "filler").unlink()
    assert Store(disk).load() == SAVED


async def test_a_read_only_file_system_still_gives_what_was_saved(disk: Path) -> None:
    writing = Store(disk)
    writing.boot()
    await writing.save(SAVED)
    assert await writing.flush()
    copies = {name: (disk / name).read_bytes() for name in os.listdir(disk)}  # as after a power cut: not closed
    writing.close()
    for name, data in copies.items():
        (disk / name).write_bytes(data)
    await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,ro", str(disk)], check=True)
    with capture_logs() as lines:
        store = Store(disk)
        assert store.load() == SAVED
        assert store.boot() == 2
        await store.save({"new": True})
        assert not await store.flush()
    assert len(problems(lines)) == 1
    assert "can't be written" in store.problem
    store.close()


CHILD = """
import asyncio, resource, sys
from pathlib import Path
from controller.store import Store

async def main():
    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    store = Store(Path(sys.argv[1]))
    store.boot()
    number = store.load().get("number", 0)
    while True:
        number += 1
        await store.save({"number": number, "same": number, "filler": "z" * (number % 50) * 200})
        if await store.flush():
            print(number, flush=True)
        elif store.problem:
            print(store.problem.replace(chr(10), " "), flush=True)
            return

asyncio.run(main())
"""


def child(directory: Path, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(directory), str(limit)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


def test_a_limit_of_the_file_size_is_told_like_a_full_disk(tmp_path: Path) -> None:
    with child(tmp_path, limit=10_000) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "can't be written" in said.splitlines()[-1]
    store = Store(tmp_path)
    assert store.problem == ""
    store.close()


def test_killed_in_the_middle_of_saves_it_always_has_the_last_or_the_one_before(tmp_path: Path) -> None:
    chance = random.Random(7)
    for boots in range(1, KILLS + 1):
        with child(tmp_path) as process:
            assert process.stdout is not None
            told = int(process.stdout.readline())
            time.sleep(chance.uniform(0.0, 0.05))  # where in a write the kill comes is up to chance
            process.send_signal(signal.SIGKILL)
            told = max([told, *(int(line) for line in process.stdout.read().splitlines())])
        shutil.copytree(tmp_path, tmp_path.with_name("look"), dirs_exist_ok=True)
        store = Store(tmp_path.with_name("look"))
        kept = store.load()
        assert store.problem == ""
        assert store.boot() == boots + 1
        assert told <= kept["number"] <= told + 1
        assert kept["same"] == kept["number"]
        store.close()
        shutil.rmtree(tmp_path.with_name("look"))
