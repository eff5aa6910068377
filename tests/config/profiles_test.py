"""The shipped profiles: they load, mean what their golden vectors say, and can be written to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.config.enclosure import Device
from controller.config.plan import _device
from controller.config.profile import CLASS_POINTS, Golden, Link, Probe, Profile, Row, expanded, load_profile
from controller.core.points import Kind, Quality, Value
from controller.fieldbus.codec import decode, encode
from controller.fieldbus.planner import plan_spans

DEVICES = Path(__file__).parents[2] / "profiles" / "devices"
PROFILES = {path.stem: load_profile(path) for path in sorted(DEVICES.glob("*.toml"))}
BAD = "bad"  # a golden value saying that the words hold no usable value
NEEDED = {
    "danfoss_fc102": "pump",
    "abb_ach550": "pump",
    "belimo_energy_valve": "valve",
    "vertiv_liebert_hpc": "chiller",
    "gude_expert_pdu_8311": "pdu",
    "eastron_sdm630": "meter",
    "rle_ld2100": "leak_detector",
    "xy_md02": "sensor",
    "wago_750": "remote_io",
    "victron_gx": "battery",
    "delta_rpu_rdf040": "cdu",
    "ocp_orv3_psu": "meter",
}
every_profile = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())


def words_of(golden: Golden, row: Row) -> list[int] | None:
    """The golden's words for this row; None where it does not give all of them."""
    tables: Mapping[str, Mapping[str, list[int]] | Mapping[str, list[bool]]] = {
        "holding": golden.holding,
        "input": golden.input,
        "coil": golden.coil,
        "discrete": golden.discrete,
    }
    memory = {
        int(start) + index: int(word) for start, words in tables[row.table].items() for index, word in enumerate(words)
    }
    wanted = [*range(row.address, row.address + row.value_words), *([row.scale_from] if row.scale_from else [])]
    if not all(address in memory for address in wanted):
        return None
    return [memory.get(address, 0xFFFF) for address in range(row.address, row.address + row.width)]


def golden_values() -> Iterator[tuple[str, Row, Golden, float | bool | str]]:
    for name, profile in PROFILES.items():
        for index, golden in enumerate(profile.tables.golden):
            for point, value in golden.values.items():
                yield f"{name}-{index}-{point}", profile.rows[point], golden, value


def signature(row: Row) -> tuple[object, ...]:
    """What a golden vector proves about a row: two rows with the same signature decode by the same rule."""
    if row.kind is Kind.FLAG:
        return (row.table, row.bit, tuple(row.on_words) if row.on is not None else None, row.mask)
    part = (row.byte_order, row.lane, tuple(row.field or ()), row.scale_from is not None)
    return (row.kind, row.type, row.word_order, row.scale, row.offset, *part)


def test_all_needed_profiles_are_there_with_their_class() -> None:
    assert {name: PROFILES[name].device_class for name in NEEDED if name in PROFILES} == NEEDED


@every_profile
def test_profile_has_its_standard_points(profile: Profile) -> None:
    required = {name for name, point in CLASS_POINTS[profile.device_class].items() if point.required}
    assert required <= profile.rows.keys()


@every_profile
def test_every_row_has_a_source_that_is_listed_or_named(profile: Profile) -> None:
    assert profile.tables.sources
    assert [name for name, row in profile.rows.items() if not row.source.strip()] == []


@every_profile
def test_untested_devices_claim_no_more_than_bronze(profile: Profile) -> None:
    assert profile.tables.tier == "bronze"


@pytest.mark.parametrize(
    ("row", "golden", "value"), [c[1:] for c in golden_values()], ids=[c[0] for c in golden_values()]
)
def test_golden_vector_decodes(row: Row, golden: Golden, value: float | bool | str) -> None:
    words = words_of(golden, row)
    assert words is not None, "the golden vector does not give all words of this point"
    reading = decode(row, words, at=1.0)
    if value == BAD and row.kind is not Kind.TEXT:
        assert (reading.quality, reading.value) == (Quality.BAD, None)
        return
    assert reading.quality is Quality.GOOD, reading.reason
    assert type(reading.value) is bool if row.kind is Kind.FLAG else type(reading.value) is not bool
    assert reading.value == (value if isinstance(value, bool | str) else pytest.approx(value, rel=1e-6, abs=1e-9))


@every_profile
def test_golden_vectors_cover_every_way_of_decoding(profile: Profile) -> None:
    proven = {
        signature(profile.rows[point])
        for golden in profile.tables.golden
        for point, value in golden.values.items()
        if value is not False and value != BAD  # a flag that is only ever false proves no bit
    }
    missing = {name: signature(row) for name, row in profile.rows.items() if signature(row) not in proven}
    assert missing == {}


@every_profile
def test_golden_vectors_show_their_arithmetic(profile: Profile) -> None:
    assert profile.tables.golden
    assert [golden.values for golden in profile.tables.golden if not golden.note.strip()] == []


@every_profile
def test_everything_writable_reads_back_within_one_count(profile: Profile) -> None:
    for name, row in profile.rows.items():
        for value in writable_values(row):
            written = encode(row, value)[-1]
            reading = decode(row, written, at=0.0)
            assert reading.usable, f"{name} = {value}: {reading.reason}"
            assert reading.value is not None
            assert not isinstance(reading.value, str)
            assert abs(reading.value - value) <= abs(row.scale), f"{name} = {value} reads back as {reading.value}"


def writable_values(row: Row) -> list[float | bool]:
    if row.access == "r":
        return []
    if row.kind is Kind.FLAG:
        return [False, True]
    if row.kind is Kind.CODE:
        return [float(number) for number in row.texts]
    assert row.range is not None
    low, high = row.range
    return [low, high, low + (high - low) / 3, low + (high - low) / 2]


@every_profile
def test_fail_values_can_be_written(profile: Profile) -> None:
    values: dict[str, Value] = {n: r.fail_value for n, r in profile.rows.items() if r.fail_value is not None}
    for name, value in values.items():
        assert profile.rows[name].access != "r"
        assert encode(profile.rows[name], value)


@pytest.mark.parametrize("name", [n for n, p in PROFILES.items() if p.device_class in ("pump", "valve", "chiller")])
def test_outputs_fall_back_towards_cooling(name: str) -> None:
    rows = PROFILES[name].rows
    for point, full in {"run_cmd": True, "speed_cmd": 100.0, "position_cmd": 100.0}.items():
        if point in rows:
            assert rows[point].fail_value == full


@every_profile
def test_flags_that_trip_something_are_read_fast(profile: Profile) -> None:
    slow = [n for n, r in profile.rows.items() if r.safety and r.kind is Kind.FLAG and r.rate in ("slow", "once")]
    assert slow == []


@every_profile
def test_expected_comm_loss_parameters_are_readable_numbers_of_their_range(profile: Profile) -> None:
    for expectation in profile.comm_loss.expect:
        row = profile.rows[expectation.point]
        assert row.access != "w"
        if row.kind is Kind.CODE:
            assert int(expectation.value) in row.texts
        elif row.range is not None:
            assert row.range[0] <= expectation.value <= row.range[1]


def test_a_switched_outlet_stays_as_it_is_when_nobody_commands_it() -> None:
    outlets = [
        row
        for name, row in PROFILES["gude_expert_pdu_8311"].rows.items()
        if name.startswith("outlet_") and row.access == "rw"
    ]
    assert len(outlets) >= 4
    assert [row.fail_value for row in outlets] == [None] * len(outlets)


def test_the_reservoir_unit_has_no_way_to_halt_its_own_controller() -> None:
    rows = PROFILES["delta_rpu_rdf040"].rows.values()
    assert [row.address for row in rows if row.table == "coil"] == []


@pytest.mark.parametrize(
    "keys",
    [
        {"bit": 3, "type": "uint32"},
        {"on": 1, "type": "int16"},
        {"bits": {"31": "top"}, "type": "int32"},
    ],
)
def test_a_row_that_would_be_read_from_the_wrong_half_is_refused(keys: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"uint16|unsigned"):
        Row.model_validate({"table": "holding", "address": 0, **keys})


def test_the_quality_page_lists_every_profile_with_its_tier() -> None:
    page = (DEVICES.parent / "QUALITY.md").read_text()
    listed = {
        cells[1].strip(" `"): cells[3].strip() for line in page.splitlines() if len(cells := line.split("|")) == 6
    }
    assert {name: profile.tables.tier for name, profile in PROFILES.items()}.items() <= listed.items()


def test_the_how_to_works_when_it_is_followed(tmp_path: Path) -> None:
    """The page's own example, saved as the page says: it loads, the linter finds nothing, its vectors decode."""
    page = (DEVICES.parents[1] / "docs" / "profiles.md").read_text()
    (example,) = [block.split("```")[0] for block in page.split("```toml\n")[1:]]
    path = tmp_path / "acme_t1.toml"
    path.write_text(example)
    linted = CliRunner().invoke(app, ["profiles", "lint", str(path)])
    assert (linted.exit_code, linted.output) == (0, "1 profiles, 0 errors, 0 notes\n")
    profile = load_profile(path)
    proven = 0
    for golden in profile.tables.golden:
        for point, value in golden.values.items():
            words = words_of(golden, profile.rows[point])
            assert words is not None
            assert decode(profile.rows[point], words, at=0.0).value == pytest.approx(value)
            proven += 1
    assert proven


def test_the_library_is_large_enough_to_be_one() -> None:
    classes = Counter(profile.device_class for profile in PROFILES.values())
    assert len(PROFILES) >= 30
    assert set(classes) >= {"pump", "valve", "chiller", "cdu", "pdu", "meter", "battery", "leak_detector", "remote_io"}


def test_the_docs_name_every_key_of_a_row_and_every_standard_point() -> None:
    page = (DEVICES.parents[1] / "docs" / "profiles.md").read_text()
    keys = {
        *Row.model_fields,
        *Link.model_fields,
        *Probe.model_fields,
        *(point for points in CLASS_POINTS.values() for point in points),
    }
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


@every_profile
def test_every_profile_can_be_read_as_its_device_bears_it(profile: Profile) -> None:
    """Spans within the device's limit, and every scale factor in the same answer as its value."""
    device = Device.model_validate({"profile": profile.name, "bus": "bus", "unit": 1})
    plan = _device("device", device, {profile.name: profile}, {"fast": 0.5, "normal": 1.0, "slow": 10.0})
    spans = plan_spans(plan)
    read = [point.point.name for span in spans for point in span.points]
    assert sorted(read) == sorted(name for name, row in profile.rows.items() if row.access != "w")
    for span in spans:
        assert span.table in ("coil", "discrete") or span.count <= profile.link.max_read_words
        for point in span.points:
            assert point.row.scale_from is None or point.row.scale_from < span.address + span.count


def test_repeated_rows_each_reach_to_the_scale_factor_they_share() -> None:
    row = Row.model_validate(
        {
            "table": "holding", "address": 10, "type": "int16", "scale_from": 13, "range": [0, 1], "source": "test",
            "repeat": {"count": 3},
        }
    )  # fmt: skip
    assert row.width == 4
    assert [moved.width for _, moved in expanded({"phase_{n}": row})] == [4, 3, 2]
