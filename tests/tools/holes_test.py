"""Holes: devices that bear them, refuse them, shift what follows, or answer the next request wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.config.plan import DevicePlan
from controller.config.profile import Link
from controller.fieldbus.planner import plan_spans
from controller.tools.holes import Holes, holes_of, probe_holes
from hil.bench import plans
from tests.fieldbus.rig import Memory, serial_line
from tests.tools.access_test import way

ADDRESSES = (100, 101, 104, 110, 130)  # touching, then holes of 2, 5 and 19 words
LARGE = 125


def device(**link: object) -> DevicePlan:
    found = plans.device("dev", 1, {f"r{at}": plans.row(at) for at in ADDRESSES}, device_time_s=0.001)
    tables = found.profile.tables.model_copy(update={"link": Link(max_read_words=125, device_time_ms=1.0, **link)})  # type: ignore[arg-type]
    found.profile.tables, found.profile.link = tables, tables.link
    return found


def full() -> Memory:
    return Memory({at: at * 11 for at in range(100, 140)})


async def probed(unit: Memory, tmp_path: Path, dev: DevicePlan | None = None, most: int = LARGE) -> Holes:
    async with serial_line({1: unit}, tmp_path) as line, way("direct", line, tmp_path) as (access, _):
        return await probe_holes(access, dev or device(), most)


def outcomes(holes: Holes) -> dict[int, str]:
    return {hole.width: outcome for hole, outcome, _ in holes.results}


async def test_a_device_that_bears_its_holes(tmp_path: Path) -> None:
    holes = await probed(full(), tmp_path)
    assert outcomes(holes) == dict.fromkeys((0, 2, 5, 19), "good")
    assert holes.settings() == ["max_hole_words = 19"]
    assert "holding 102 to 103             2 words  good" in holes.lines()


async def test_a_device_that_has_not_all_of_them(tmp_path: Path) -> None:
    unit = full()
    del unit.words[103]
    holes = await probed(unit, tmp_path)
    assert outcomes(holes) == {0: "good", 2: "refused", 5: "good", 19: "good"}
    assert holes.settings() == ["max_hole_words = 19", "forbidden = [[102, 103]]"]


async def test_a_device_that_shifts_what_follows_a_hole(tmp_path: Path) -> None:
    """It leaves out registers it does not have, and fills up at the end: no error shows it."""

    def shifted(address: int, count: int, words: list[int]) -> list[int]:
        known = [word for at, word in enumerate(words, address) if at not in range(105, 110)]
        return known + [0] * (count - len(known))

    unit = full()
    unit.bent = shifted
    holes = await probed(unit, tmp_path)
    assert outcomes(holes) == {0: "good", 2: "good", 5: "other values", 19: "good"}
    assert holes.settings() == ["max_hole_words = 19", "forbidden = [[105, 109]]"]
    assert any("0x0000 instead of 0x04BA" in line for line in holes.lines())


async def test_a_device_that_answers_the_next_request_wrongly(tmp_path: Path) -> None:
    """Reading the wide hole is fine, but the next reply is the block's first register."""
    spoilt: list[int] = []

    def bent(address: int, count: int, words: list[int]) -> list[int]:
        if spoilt:
            return [spoilt.pop()] * count
        if count > 20:
            spoilt.append(words[0])
        return words

    unit = full()
    unit.bent = bent
    holes = await probed(unit, tmp_path)
    assert outcomes(holes) == {0: "good", 2: "good", 5: "good", 19: "the next answer is wrong"}
    assert holes.settings() == ["max_hole_words = 5"]


async def test_a_border_that_no_read_may_cross(tmp_path: Path) -> None:
    unit = full()
    unit.bent = lambda address, count, words: words[:1] * count if address < 101 < address + count else words
    holes = await probed(unit, tmp_path)
    assert outcomes(holes)[0] == "other values"
    assert "barriers = [101]" in holes.settings()


async def test_a_value_that_moves_is_no_proof_against_a_device(tmp_path: Path) -> None:
    unit = full()
    reads = 0

    def moving(address: int, count: int, words: list[int]) -> list[int]:
        nonlocal reads
        reads += 1
        return [reads if at == 104 else word for at, word in enumerate(words, address)]

    unit.bent = moving
    found = outcomes(await probed(unit, tmp_path))
    assert found[19] == "good"
    assert {found[2], found[5]} == {"values don't stand still"}


async def test_a_silent_device_proves_nothing(tmp_path: Path) -> None:
    unit = full()
    unit.silent = True
    holes = await probed(unit, tmp_path)
    assert set(outcomes(holes).values()) == {"no answer"}
    assert holes.settings()[0] == "max_hole_words = 0"


async def test_what_the_profile_forbids_is_never_read(tmp_path: Path) -> None:
    unit = full()
    holes = await probed(unit, tmp_path, device(forbidden=[[105, 105]]))
    assert outcomes(holes) == dict.fromkeys((0, 2, 19), "good")
    assert not [1 for _, address, count in unit.reads if address <= 105 < address + count]


def test_reads_are_no_longer_than_the_device_and_the_bus_bear() -> None:
    assert [hole.width for hole in holes_of(device(), LARGE)] == [0, 2, 5, 19]
    assert [hole.width for hole in holes_of(device(), 7)] == [0, 2, 5]


@pytest.mark.parametrize("holes", [("max_hole_words", 19), ("max_hole_words", 5)])
def test_the_planner_takes_what_is_printed(holes: tuple[str, int]) -> None:
    dev = device(**dict([holes]), forbidden=[[102, 103]], barriers=[101])
    spans = {(span.address, span.count) for span in plan_spans(dev, device_time_s=0.1)}
    assert not [1 for address, count in spans if address < 101 < address + count]
    assert not [1 for address, count in spans if address < 103 < address + count]
    assert ((104, 27) in spans) is (holes[1] == 19)
