"""The procedures of a real bench: all of them against emulators, and that they find what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.config.problems import ConfigError
from hil.demo import main
from hil.desk import Desk
from hil.procedures import run
from hil.procedures.bench_file import BENCH_FILE, MixedBench, read_bench
from hil.procedures.record import Journal
from hil.procedures.run import PROCEDURES, same
from hil.procedures.session import Session

SECONDS = "2"


async def carried_out(name: str, folder: Path) -> tuple[int, str]:
    command = (sys.executable, "-m", "hil", "procedure", name, "--dry-run", "--seconds", SECONDS, "--out", str(folder))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(
    not os.environ.get("PODKEEPER_REAL_TIME"), reason="two minutes of real time: PODKEEPER_REAL_TIME=1 runs it"
)
async def test_every_procedure_passes_against_emulators(tmp_path: Path) -> None:
    async def short() -> list[tuple[int, str]]:
        return [await carried_out(name, tmp_path) for name in list(PROCEDURES)[:5]]

    first, *long = await asyncio.gather(short(), *(carried_out(name, tmp_path) for name in list(PROCEDURES)[5:]))
    results = [*first, *long]
    for name, (code, out) in zip(PROCEDURES, results, strict=True):
        assert code == 0, [line for line in out.splitlines() if not line.startswith("ok")]
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["verdict"] == "pass"
        assert record["dry_run"]
        phases = [step["phase"] for step in record["steps"]]
        assert list(dict.fromkeys(phases)) == ["precondition", "step", "teardown"]
        page = (tmp_path / f"{name}.html").read_text()
        assert all(step["text"].replace("'", "&#x27;") in page for step in record["steps"])


async def session_of(bench: MixedBench, name: str) -> Session:
    journal = Journal(name, "title", "bench.toml", True, "commit", "now")
    return Session(bench, Desk(bench), journal, 0.1)


def failed(session: Session) -> list[str]:
    return [step.text for step in session.journal.steps if not step.ok]


async def test_what_is_wrong_with_a_device_is_found() -> None:
    async with MixedBench(BENCH_FILE, read_bench(BENCH_FILE), dry=True) as bench:
        session = await session_of(bench, "1_link")
        assert await session.preconditions()
        session.journal.phase = "step"
        bench.silence("hx_valve")
        await run.link(session)
        assert failed(session) == ["podkeeper scan --bus cooling"]
        bench.silence("hx_valve", silent=False)
        bench.exception("io_1", 4)
        await run.read(session)
        bench.exception("io_1", 0)
        bench.force("io_1.epo", True)
        assert failed(session)[1:] == ["podkeeper read io_1.*"]
        await session.desk.inject("pump.trip", "pump_1", None)
        await session.write("pdu_1a.outlet_1", True)
        await session.teardown(moved=False)
        assert failed(session)[2:] == ["no fault is left", "no point is forced", "outputs are as they were found"]
        assert session.journal.verdict == "fail"


async def test_outputs_that_a_controller_moved_are_put_back() -> None:
    async with MixedBench(BENCH_FILE, read_bench(BENCH_FILE), dry=True) as bench:
        session = await session_of(bench, "6_failover")
        assert await session.preconditions()
        session.journal.phase = "step"
        await session.write("hx_valve.position_cmd", 70.0)
        await session.teardown(moved=True)
        assert failed(session) == []
        assert session.journal.verdict == "pass"


def test_a_real_device_without_its_wire_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["procedure", "4_write", "--out", str(tmp_path)]) == 1
    record = json.loads((tmp_path / "4_write.json").read_text())
    assert record["verdict"] == "fail"
    wire = next(step for step in record["steps"] if step["text"] == "wire of bus real_line")
    assert not wire["ok"]
    assert "/dev/podkeeper/cooling" in wire["seen"]
    assert not [step for step in record["steps"] if step["phase"] == "step"]


def test_a_wrong_bench_file_is_told_with_its_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(BENCH_FILE.read_text().replace("silent_s = 8.0", "silent_s = -1"))
    with pytest.raises(ConfigError, match=r"silent_s"):
        read_bench(path)
    assert main(["procedure", "1_link", "--bench", str(path), "--out", str(tmp_path)]) == 1
    assert "[devices.pump_1] silent_s = -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "wanted", "alike"),
    [("on", True, True), ("off", True, False), ("5 s", 5.0, True), ("5.5 s", 5.0, False), ("", 5.0, False),
     ("maximum speed (4)", 4, True), ("bus (1)", 2, False), ("abc", "abc", True), ("", True, False)],
)  # fmt: skip
def test_values_are_compared_as_tools_print_them(found: str, wanted: Any, alike: bool) -> None:
    assert same(found, wanted) is alike
