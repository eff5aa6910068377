"""Raw registers: dumps that tell what is not there, that survive a round trip, and that can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.config.profile import Row
from controller.tools.points import ToolError
from controller.tools.registers import Block, block_of, changes, dump, dump_text, parse_dump, unusable
from hil.bench import plans
from hil.bench.libmodbus import server
from hil.bench.result import Missing
from tests.fieldbus.rig import Memory, serial_line
from tests.tools.access_test import way

ROWS: dict[str, Row] = {
    "temperature": plans.row(100, type="int16", scale=0.1, unit="Cel", range=[-40, 80], sentinels=[0x8000]),
    "energy": plans.row(101, 2),
    "coil": Row.model_validate({"table": "coil", "address": 100, "type": "bool", "source": "x"}),
}


@pytest.mark.parametrize("kind", ["direct", "through"])
async def test_a_dump_finds_every_register_that_is_there(kind: str, tmp_path: Path) -> None:
    unit = Memory({at: at * 7 for at in (*range(100, 121), 125, 130, 131)})
    async with serial_line({1: unit}, tmp_path) as line, way(kind, line, tmp_path) as (access, _):
        dumped = await dump(access, Block(1, "holding", 98, 132, 16))
        assert sorted(dumped) == list(range(98, 133))
        assert {at: word for at, word in dumped.items() if isinstance(word, int)} == unit.words
        assert dumped[98] == "exception 2 (illegal data address)"
        silent = await dump(access, Block(5, "holding", 0, 2, 2))
        assert silent == dict.fromkeys(range(3), "no reply in time")


async def test_a_dump_of_a_libmodbus_server(tmp_path: Path) -> None:
    from controller.tools.access import Direct

    try:
        with server() as port:
            direct = Direct(plans.tcp(port))
            await direct.open()
            dumped = await dump(direct, Block(1, "holding", 10, 60, 20))
            coils = await dump(direct, Block(1, "coil", 10, 60, 20))
            await direct.close()
    except Missing as missing:
        pytest.skip(str(missing))
    assert dumped == {at: plans.word(1, at) for at in range(10, 61)}
    assert set(coils.values()) <= {0, 1}


def test_reads_keep_to_barriers_and_leave_out_what_is_forbidden() -> None:
    block = Block(1, "holding", 0, 40, 10, barriers=[15], forbidden=[[22, 25], [38, 99]])
    assert list(block.reads()) == [(0, 10), (10, 5), (15, 7), (26, 10), (36, 2)]


@given(
    st.integers(0, 300), st.integers(0, 300), st.integers(1, 50),
    st.lists(st.integers(0, 300), max_size=4), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 60)), max_size=3),
)  # fmt: skip
def test_reads_cover_every_register_once(
    first: int, width: int, most: int, barriers: list[int], holes: list[tuple[int, int]]
) -> None:
    forbidden = [[low, low + width] for low, width in holes]
    reads = list(Block(1, "holding", first, first + width, most, barriers, forbidden).reads())
    covered = [at for start, count in reads for at in range(start, start + count)]
    allowed = [at for at in range(first, first + width + 1) if not any(low <= at <= high for low, high in forbidden)]
    assert covered == allowed
    assert all(count <= most for _, count in reads)
    assert not [1 for start, count in reads for barrier in barriers if start < barrier < start + count]


def test_a_block_is_as_long_as_the_write_budget_lets_it_be() -> None:
    slow = plans.serial("/dev/null", 9600).model_copy(update={"write_budget_ms": 100})
    device = plans.device("dev", 1, ROWS)
    assert block_of(slow, 1, device, "holding", 0, 9).most_words == 15
    assert block_of(plans.tcp(502), 1, device, "holding", 0, 9).most_words == 125
    assert block_of(plans.tcp(502), 1, None, "holding", 0, 9).most_words == 16
    for table, first, last, why in (("holding", 5, 4, "the lower first"), ("hold", 0, 1, "allowed: coil")):
        with pytest.raises(ToolError, match=why):
            block_of(slow, 1, None, table, first, last)


@given(
    st.dictionaries(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF) | st.sampled_from(["exception 2 (x)", "no reply"])),
    st.dictionaries(st.sampled_from(["device", "table", "unit"]), st.text("abc 019_", min_size=1, max_size=9)),
)
def test_a_dump_is_read_as_it_was_written(dumped: dict[int, int | str], about: dict[str, str]) -> None:
    assert parse_dump(dump_text(about, dumped), "x") == (about, dumped)


@pytest.mark.parametrize("text", ["", "hello", "# podkeeper dump 1\nfive\t0x0000\t\n", "# podkeeper dump 1\n5\tzz\t\n"])
def test_what_is_no_dump_is_refused(text: str) -> None:
    with pytest.raises(ToolError, match=r"^x"):
        parse_dump(text, "x")


def test_changes_name_registers_and_what_they_mean() -> None:
    before: dict[int, int | str] = {100: 0xFF33, 101: 1, 102: 2, 200: 5, 201: "exception 2", 202: 1}
    after: dict[int, int | str] = {100: 0xFF33, 101: 1, 102: 3, 200: 6, 201: 9}
    assert changes(before, before, ROWS, "holding") == []
    assert changes(before, after, ROWS, "holding") == [
        "102\t0x0002 -> 0x0003",
        "200\t0x0005 -> 0x0006",
        "201\texception 2 -> 0x0009",
        "202\t0x0001 -> not read",
        "energy\t65538 -> 65539",
    ]
    assert changes(before, after, ROWS, "input") == changes(before, after, {}, "holding")


def test_a_dump_against_a_profile_tells_what_has_no_usable_value() -> None:
    assert unusable({100: 0xFF33, 101: 1, 102: 2}, ROWS, "holding") == []
    assert unusable({100: 0x8000, 101: 1}, ROWS, "holding") == ["temperature\tthe device says it has no value"]
    assert unusable({100: 0x7FFF}, ROWS, "holding") == ["temperature\t3276.7 is outside -40 to 80"]
