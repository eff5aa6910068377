"""Finding units: with which settings they answer, and which profile they are, by what their registers hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from controller.config.profile import Profile, load_profile
from controller.fieldbus import frames
from controller.tools.access import Direct
from controller.tools.scan import Found, Place, identified, numbers, scan
from hil.bench import plans
from hil.bench.libmodbus import server
from hil.bench.result import Missing
from hil.runner import Bench
from tests.fieldbus.rig import Memory, serial_line
from tests.tools.access_test import way

PROFILES = Path(__file__).parents[2] / "profiles" / "devices"


def profile(name: str) -> Profile:
    return load_profile(PROFILES / f"{name}.toml")


def bms(words: dict[int, int]) -> Memory:
    return Memory(words)


async def scanned(access: Direct, units: list[int], profiles: list[Profile]) -> list[Found]:
    return [found async for found in scan(access, units, profiles)]


@pytest.mark.parametrize("kind", ["direct", "through"])
async def test_units_that_answer_are_found_an_exception_is_an_answer(kind: str, tmp_path: Path) -> None:
    units = {1: Memory({0: 7, **dict.fromkeys(range(100, 120), 5)}), 4: Memory({50: 1}), 5: Memory({}, silent=True)}
    async with serial_line(units, tmp_path) as line, way(kind, line, tmp_path) as (access, _):
        found = [one async for one in scan(access, range(1, 7), [])]
        assert [(one.unit, one.said) for one in found] == [
            (1, "holding 0 holds 0x0007"),
            (4, "exception 2 (illegal data address)"),
        ]
        assert line.counters.short_gaps == 0


async def test_only_the_right_settings_find_a_unit(tmp_path: Path) -> None:
    """A pty knows no baud rate, so the units listen only while the line has the right one."""
    unit = Memory({0: 7})
    async with serial_line({1: unit}, tmp_path, baud=19200) as line:
        place = Place(str(line.link))
        tried = list(place.settings([9600, 19200], ["none", "even"]))
        assert [(t.baud, t.parity, t.stop_bits) for t in tried] == [
            (9600, "none", 2), (9600, "even", 1), (19200, "none", 2), (19200, "even", 1),
        ]  # fmt: skip
        found = []
        for settings in tried:
            unit.silent = (settings.baud, settings.parity) != (19200, "even")
            direct = Direct(settings)
            await direct.open()
            found += [(settings.baud, settings.parity, one.unit) for one in await scanned(direct, [1, 2], [])]
            await direct.close()
        assert found == [(19200, "even", 1)]


async def test_a_device_is_known_by_its_register_not_by_answering(tmp_path: Path) -> None:
    """Every register answers, but only one profile's own register holds what it must."""
    words = dict.fromkeys(range(0x10000), 0xFFFF)
    words |= dict(enumerate([4], 3))  # the Belimo valve's own number
    text = b"Danfoss A/S".ljust(50, b"\0")
    danfoss = dict.fromkeys(range(0x10000), 0xFFFF)
    danfoss |= {33120 + at: int.from_bytes(text[2 * at : 2 * at + 2], "big") for at in range(25)}
    profiles = [profile(name) for name in ("belimo_energy_valve", "danfoss_novocon", "sunspec_meter_203")]
    async with (
        serial_line({1: Memory(words), 2: Memory(danfoss)}, tmp_path) as line,
        way("direct", line, tmp_path) as (access, _),
    ):
        assert [fit.profile for fit in await identified(access, 1, profiles)] == ["belimo_energy_valve"]
        fits = await identified(access, 2, profiles)
        assert [fit.profile for fit in fits] == ["danfoss_novocon"]
        assert "holding 33120 holds 'Danfoss A/S', as it must" in fits[0].why


@pytest.mark.slow
async def test_every_serial_device_of_the_reference_pod_is_recognised() -> None:
    """The emulators of the pod, all our profiles to choose from: the right one comes first."""
    everything = [load_profile(path) for path in sorted(PROFILES.glob("*.toml"))]
    async with Bench() as bench:
        settings = next(bus.settings for bus in bench.plan.buses if bus.name == "water")
        direct = Direct(settings.model_copy(update={"port": str(bench.buses["water"].link)}))  # type: ignore[union-attr]
        await direct.open()
        devices = {device.unit: device for device in bench.plan.devices if device.bus == "water"}
        found = await scanned(direct, sorted(devices), everything)
        await direct.close()
    assert {one.unit for one in found} == set(devices)
    best = {one.unit: [fit.profile for fit in one.fits if fit.score == one.fits[0].score] for one in found}
    assert not {unit: fits for unit, fits in best.items() if devices[unit].profile.name not in fits}


async def test_a_tcp_host_is_scanned() -> None:
    try:
        with server() as port:
            (settings,) = Place(str(port), "127.0.0.1").settings([9600], ["none"])
            direct = Direct(settings)
            await direct.open()
            found = await scanned(direct, [1], [])
            await direct.close()
    except Missing as missing:
        pytest.skip(str(missing))
    assert [(one.unit, one.said) for one in found] == [(1, f"holding 0 holds 0x{plans.word(1, 0):04X}")]


def test_a_place_is_the_same_whatever_its_path_is_called(tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    (tmp_path / "cooling").symlink_to(tmp_path / "ttyUSB0")
    assert Place(str(tmp_path / "ttyUSB0")).same(plans.serial(str(tmp_path / "cooling"), 9600))
    assert not Place(str(tmp_path / "ttyUSB1")).same(plans.serial(str(tmp_path / "cooling"), 9600))
    assert Place("502", "127.0.0.1").same(plans.tcp(502))
    assert not Place("503", "127.0.0.1").same(plans.tcp(502))
    assert not Place("502").same(plans.tcp(502))


def test_lists_of_numbers() -> None:
    assert numbers("1-3,7,2", 247) == [1, 2, 3, 7]
    for text in ("", "a", "3-1", "1-", "-3", "1-300", "1,,2"):
        with pytest.raises(ValueError, match="allowed: numbers and ranges"):
            numbers(text, 247)


async def test_a_probe_of_a_silent_unit_is_short(tmp_path: Path) -> None:
    async with serial_line({}, tmp_path) as line, way("direct", line, tmp_path) as (access, _):
        started = asyncio.get_running_loop().time()
        assert [one async for one in scan(access, range(1, 11), [])] == []
        assert asyncio.get_running_loop().time() - started < 10 * 0.25, "half of the bus's own timeout"
        assert line.counters.requests == 10
        assert frames.read(1, "holding", 0, 1).count == 1
