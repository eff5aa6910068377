"""Importers: each format's rules on small maps, and every map of a folder when one is given."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.config.importers import Imported, MapError, import_map, to_name, toml
from controller.config.lint import lint
from controller.config.profile import Profile, Row, load_profile
from controller.core.points import Value
from controller.fieldbus.codec import decode

MAPS = os.environ.get("PODKEEPER_MAPS", "")
DEVICES = Path(__file__).parents[2] / "profiles" / "devices"
FILES = sorted(p for p in Path(MAPS).rglob("*.json") if "schema" not in p.name) if MAPS else []


def saved(done: Imported, folder: Path, name: str = "imported") -> Profile:
    path = folder / f"{name}.toml"
    path.write_text(toml(done.tables))
    return load_profile(path)


def value(row: Row, *words: int) -> Value | None:
    return decode(row, words, at=0.0).value


RACKMON: dict[str, Any] = {
    "name": "SHELF",
    "address_range": [[16, 20], [31, 31]],
    "probe_register": 8,
    "baudrate": 19200,
    "special_handlers": [{"reg": 98, "len": 2, "period": 3600, "action": "write", "info": {}}],
    "max_span_length": 16,
    "registers": [
        {"begin": 0, "length": 8, "format": "STRING", "name": "MFR Model"},
        {"begin": 8, "length": 1, "format": "INTEGER", "name": "Fan Speed_RPM", "keep": 10},
        {"begin": 9, "length": 1, "format": "INTEGER", "name": "Cell Voltage", "endian": "L", "sign": True},
        {"begin": 10, "length": 2, "format": "INTEGER", "name": "Counter", "endian": "L"},
        {"begin": 12, "length": 1, "format": "FLOAT", "name": "Temp_C", "precision": 7, "sign": True},
        {"begin": 13, "length": 1, "format": "FLOAT", "name": "Power_W", "precision": 0, "scale": 0.1, "shift": 5},
        {
            "begin": 14,
            "length": 2,
            "format": "FLAGS",
            "name": "Alarm",
            "flags": [[0, "Low"], [16, "High"], [17, "High"]],
        },
        {"begin": 16, "length": 3, "format": "RAW", "name": "Dump"},
        {"begin": 19, "length": 8, "format": "INTEGER", "name": "Enormous"},
    ],
}


def test_rackmon(tmp_path: Path) -> None:
    done = import_map(RACKMON, "shelf.json", "sensor")
    profile = saved(done, tmp_path)
    rows = profile.rows
    assert list(rows) == ["mfr_model", "fan_speed_rpm", "cell_voltage", "counter", "temp_c", "power_w", "alarm"]
    assert value(rows["cell_voltage"], 0xFEFF) == -2
    assert value(rows["counter"], 0x0200, 0x0100) == 0x0001_0002
    assert value(rows["temp_c"], 0xFB00) == -10.0
    assert (rows["temp_c"].unit, rows["fan_speed_rpm"].unit, rows["cell_voltage"].unit) == ("Cel", "{rpm}", "")
    assert value(rows["power_w"], 1000) == pytest.approx(0.105)  # 1000 x 0.1 + 5 = 105 W
    assert rows["alarm"].texts == {0: "low", 16: "high", 17: "high_2"}
    assert value(rows["alarm"], 0x0001, 0) == 1 << 16
    assert profile.tables.probe is not None
    assert profile.tables.probe.address == 8
    assert profile.link.max_read_words == 16
    assert "19200 baud, even parity, unit 16 to 20, 31" in profile.tables.notes
    assert (done.read, done.mapped) == (9, 7)
    told = "\n".join(f"{item.what}: {item.why}" for item in done.left)
    for part in ("register 16 Dump: format RAW", "register 19 Enormous: 8 registers", 'key "keep" of 1', "write to 98"):
        assert part in told
    assert any("unit of" in line and "cell_voltage" in line for line in done.open)


PHOSPHOR: dict[str, Any] = {
    "DeviceType": "Valve",
    "DeviceModel": "AcmeV1",
    "Parity": "Even",
    "BaudRate": 115200,
    "ProbeRegister": {"Offset": "0x8", "Size": 8, "ExpectedValue": "ACME"},
    "InventoryRegisters": [{"Type": "Model", "Offset": "0x10", "Size": 8}],
    "FirmwareRegisters": [
        {"Name": "FW", "Type": "Version", "Format": "Integer", "Offset": "0xB6", "Size": 1},
        {"Name": "Loader", "Type": "Update", "Offset": "0xB7", "Size": 1},
    ],
    "SensorRegisters": [
        {"Name": "PACK_TEMP", "Type": "Temperature", "Offset": "0x101", "Size": 1, "Precision": 0, "Scale": 0.1,
         "Shift": -273.15, "IsSigned": False, "Format": "FixedPoint"},
        {"Name": "OUT_PWR", "Type": "Power", "Offset": "0x52", "Size": 1, "Precision": 3, "Format": "FixedPoint"},
        {"Name": "FLOW", "Type": "LiquidFlow", "Offset": "0x60", "Size": 2, "Format": "Float32"},
        {"Name": "LEFT", "Type": "Energy", "Offset": "0x62", "Size": 1, "IsSigned": True, "Format": "Integer"},
    ],
    "StatusRegisters": [
        {"Name": "ALARM", "Offset": "0x59", "Bits": [
            {"Name": "MISSING", "Type": "ControllerFailure", "BitPosition": 0, "Value": True},
            {"Name": "FEED_OK", "Type": "PowerFault", "BitPosition": 3, "Value": False},
        ]},
    ],
    "ConfigRegisters": [{"Type": "UnixTime", "Offset": "0x50", "Size": 2, "Period": 3600}],
}  # fmt: skip


def test_phosphor(tmp_path: Path) -> None:
    done = import_map(PHOSPHOR, "AcmeV1.json", "sensor")
    profile = saved(done, tmp_path)
    rows = profile.rows
    assert value(rows["pack_temp"], 2982) == pytest.approx(25.05)
    assert value(rows["out_pwr"], 24000) == pytest.approx(3.0)
    assert (rows["out_pwr"].unit, rows["flow"].unit, rows["left"].unit) == ("kW", "L/min", "")
    assert value(rows["flow"], 0x42F0, 0) == 120.0
    assert value(rows["left"], 0xFFFF) == -1
    assert value(rows["fw"], 7) == 7
    assert rows["alarm"].texts == {0: "missing"}
    assert (value(rows["feed_ok"], 0), value(rows["feed_ok"], 8)) == (True, False)  # a fault while the bit is 0
    probe = profile.tables.probe
    assert probe is not None
    assert (probe.address, probe.words, probe.expect) == (8, 8, "ACME")
    assert [item.what for item in done.left if item.register] == ["register 183 Loader", "register 80 UnixTime"]


def point(name: str, kind: str, size: int = 1, **keys: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "size": size, **keys}


SUNSPEC: dict[str, Any] = {
    "id": 64000,
    "group": {
        "name": "bank",
        "points": [
            point("ID", "uint16", value=64000),
            point("L", "uint16"),
            point("W", "int16", sf="W_SF", units="W", label="Power"),
            point("WH", "acc32", 2, units="Wh", label="Energy"),
            point("St", "enum16", label="State", symbols=[{"name": "OFF", "value": 0}, {"name": "ON", "value": 1}]),
            point("Evt", "bitfield32", 2, label="Events", symbols=[{"name": "OVER_TEMP", "value": 17}]),
            point("Md", "string", 2, label="Model"),
            point("Tmp", "float32", 2, units="C", label="Temperature"),
            point("Set", "int16", access="RW", sf="W_SF", units="W", label="Setpoint"),
            point("Hb", "uint16", access="RW", label="Heartbeat"),
            point("W_SF", "sunssf"),
            point("Pad", "pad"),
            point("Late", "uint16", sf="W_SF"),
            point("Odd", "ipaddr", 2),
        ],
        "groups": [
            {"name": "still", "points": [point("A", "uint16", units="A", label="Amps")]},
            {"name": "string", "count": "N", "points": [point("V", "uint16")], "groups": [
                {"name": "cell", "count": "M", "points": [point("T", "int16")]}]},
        ],
    },
}  # fmt: skip


def test_sunspec(tmp_path: Path) -> None:
    done = import_map(SUNSPEC, "model_64000.json", "sensor", base=50000)
    profile = saved(done, tmp_path)
    rows = profile.rows
    assert (rows["model_id"].address, rows["power"].address, rows["power"].scale_from) == (50002, 50004, 50016)
    assert rows["power"].width == 13
    words = [0xFB2E, *[0] * 11, 1]
    assert value(rows["power"], *words) == pytest.approx(-12.34)  # -1234 x 10 W
    assert value(rows["power"], 0x8000, *words[1:]) is None
    assert value(rows["energy"], 1, 0) == pytest.approx(65.536)
    assert value(rows["energy"], 0, 0) is None  # an accumulator of 0 is not implemented
    assert rows["state"].texts == {0: "OFF", 1: "ON"}
    assert value(rows["state"], 0xFFFF) is None
    assert value(rows["events"], 2, 0) == 1 << 17
    assert value(rows["temperature"], 0x41C8, 0) == 25.0
    assert value(rows["temperature"], 0x7FC0, 0) is None
    assert (rows["setpoint"].access, rows["heartbeat"].access) == ("r", "rw")
    assert rows["amps"].address == 50021
    told = {item.what for item in done.left}
    assert told == {"writing Set", "register 50018 Late", "register 50019 Odd", "register string.V", "register cell.T"}
    assert (done.read, done.mapped) == (17, 13)


@pytest.mark.parametrize(
    "data", [{}, {"registers": [{}]}, {"registers": 3}, {"DeviceModel": "x"}, {"group": {}, "id": 1}]
)
def test_a_file_of_another_kind_is_refused_with_its_name(data: dict[str, Any]) -> None:
    with pytest.raises(MapError, match=r"odd\.json"):
        import_map(data, "odd.json", "sensor")


def test_names_are_points_and_differ() -> None:
    assert to_name("RPU Coolant Inlet Temp (C)") == "rpu_coolant_inlet_temp_c"
    assert to_name("2nd stage") == "p_2nd_stage"
    assert to_name("WattHours") == "watt_hours"
    assert to_name("?") == "point"
    assert to_name("A", ["a", "a_2"]) == "a_3"
    assert len(to_name("x" * 90, ["x" * 44])) <= 48


def test_the_text_is_the_tables_and_always_the_same() -> None:
    tables = import_map(RACKMON, "shelf.json", "sensor").tables
    text = toml(tables)
    assert text == toml(import_map(RACKMON, "shelf.json", "sensor").tables)
    read = tomllib.loads(text)
    assert read["points"]["alarm"]["bits"] == {"0": "low", "16": "high", "17": "high_2"}
    assert {key: read[key] for key in ("vendor", "class", "link")} == {
        key: tables[key] for key in ("vendor", "class", "link")
    }
    assert len([line for line in text.splitlines() if " = { table = " in line]) == 7


def test_an_import_stays_open_until_a_person_has_filled_it(tmp_path: Path) -> None:
    profile = saved(import_map(RACKMON, "shelf.json", "sensor"), tmp_path)
    errors = {finding.point for finding in lint(profile) if finding.error}
    assert errors == {"vendor", "model", "comm_loss", "golden"}


def test_the_command_writes_the_profile_and_tells_the_rest(tmp_path: Path) -> None:
    source, out = tmp_path / "shelf.json", tmp_path / "acme_shelf.toml"
    source.write_text(json.dumps(RACKMON))
    done = CliRunner().invoke(app, ["profiles", "import", str(source), "--class", "rack", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert load_profile(out).device_class == "rack"
    assert "7 of 9 registers mapped" in done.output
    assert "not mapped: register 16 Dump" in done.output
    assert "to find out: comm_loss" in done.output
    shown = CliRunner().invoke(app, ["profiles", "import", str(source), "--class", "rack"])
    assert 'class = "rack"' in shown.output


@pytest.mark.parametrize("text", ["{", "{}", '{"registers": 1}', "[]"])
def test_the_command_refuses_what_is_no_map(tmp_path: Path, text: str) -> None:
    source = tmp_path / "odd.json"
    source.write_text(text)
    done = CliRunner().invoke(app, ["profiles", "import", str(source), "--class", "rack"])
    assert done.exit_code == 1
    assert "odd.json" in done.output


def test_the_command_knows_the_classes(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["profiles", "import", str(tmp_path / "x.json"), "--class", "toaster"])
    assert done.exit_code == 1
    assert "toaster" in done.output


@pytest.mark.skipif(not FILES, reason="PODKEEPER_MAPS does not name a folder with public register maps")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_map_of_the_folder_becomes_a_profile(path: Path, tmp_path: Path) -> None:
    done = import_map(json.loads(path.read_text()), path.name, "sensor")
    profile = saved(done, tmp_path, path.stem.lower())
    assert done.read > 0
    assert done.mapped + sum(item.register for item in done.left) == done.read
    assert all(item.why for item in done.left)
    assert profile.tables.probe is not None
    assert not [finding for finding in lint(profile) if finding.error and finding.what not in ("left open", "none")]
    if "sunspec" not in str(path.parent):  # a scale factor is a register without a row
        statuses = [row for row in profile.rows.values() if row.on is not None]
        assert len(profile.rows) - len(statuses) >= done.mapped - len(statuses)
    for row in profile.rows.values():
        assert decode(row, [0] * row.width, at=0.0).at == 0.0


DESCRIBED = {
    "belimo_energy_valve": "BelimoEV200ARXEValve.json",
    "delta_orv3_bbu_shelf": "PanasonicBJBSB103APowerShelf.json",
    "delta_orv3_cbu_shelf": "DeltaECD68000047PowerShelf.json",
    "delta_orv3_hpr_bbu": "DeltaBBUBU123AE000BatteryBackupUnit.json",
    "delta_orv3_psu_shelf": "Artesyn7000552531000PowerShelf.json",
    "ocp_orv2_psu": "orv2_psu.json",
    "ocp_orv3_bbu": "orv3_bbu.json",
    "ocp_orv3_hpr_psu": "orv3_hpr_psu.json",
    "ocp_orv3_pmm": "orv3_hpr_pmm_bbu.json",
    "ocp_orv3_psu": "orv3_psu.json",
    "sunspec_battery_802": "model_802.json",
    "sunspec_der_701": "model_701.json",
    "sunspec_meter_203": "model_203.json",
}
SAME_UP_TO = (1.0, 0.001, 0.01)  # ours is in kW where the map names no unit, and a power factor is no percentage
MODEL_AT = 40070  # where our SunSpec profiles have their model


@pytest.mark.skipif(not FILES, reason="PODKEEPER_MAPS does not name a folder with public register maps")
@pytest.mark.parametrize(("name", "source"), DESCRIBED.items())
def test_our_own_words_say_what_the_map_says(name: str, source: str) -> None:
    """Profiles are written by hand: each row that the map also has is of the same type, order, scale and offset."""
    (path,) = [file for file in FILES if file.name == source]
    tables = import_map(json.loads(path.read_text()), source, "sensor", MODEL_AT - 2).tables
    theirs: dict[int, list[Row]] = {}
    for keys in tables["points"].values():
        theirs.setdefault(keys["address"], []).append(Row.model_validate(keys))
    compared = 0
    for point, row in load_profile(DEVICES / f"{name}.toml").rows.items():
        for other in theirs.get(row.address, [])[:1]:
            compared += 1
            if row.bit is None and row.on is None:
                assert (row.type, row.words, row.word_order) == (other.type, other.words, other.word_order), point
                assert (row.offset, row.scale_from) == (other.offset, other.scale_from), point
                assert row.kind.value != "number" or any(
                    row.scale == pytest.approx(other.scale * part) for part in SAME_UP_TO
                ), point
    assert compared >= 12
