"""The wiring of a real bench, from TOML: which devices are real, on which bus, and what may be done to them."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from controller.config.enclosure import Bus
from controller.config.problems import read_toml
from controller.config.profile import Name, Strict
from hil.runner import Bench

BENCH_FILE = Path(__file__).parents[1] / "bench.toml"
SILENT_MAX_S = 600.0


class Exercise(Strict):
    """A point that may be written by hand, and the value to try."""

    point: Name
    value: bool | float


class Device(Strict):
    bus: Name
    unit: Annotated[int, Field(ge=0, le=255)]
    exercise: Exercise | None = None
    silent_s: Annotated[float, Field(ge=0, le=SILENT_MAX_S)]
    after: dict[Name, bool | float | str] = Field(default_factory=dict)


class BenchFile(Strict):
    """A whole bench file."""

    schema_version: Literal[1] = Field(alias="schema")
    enclosure: str
    buses: dict[Name, Bus]
    devices: Annotated[dict[Name, Device], Field(min_length=1)]


def read_bench(path: Path) -> BenchFile:
    """Return the bench file at ``path``.

    Raises:
        ConfigError: with every mistake in it.
    """
    return read_toml(path).parse(BenchFile)


class MixedBench(Bench):
    """A bench on which some devices are real: it neither emulates them nor opens their wires.

    Args:
        dry: emulate the real ones too, on the buses that the enclosure file gives them.
    """

    def __init__(self, path: Path, wiring: BenchFile, *, dry: bool, command: tuple[str, ...] = ()) -> None:
        overrides: Mapping[str, Any] = {}
        if not dry:
            overrides = {
                "buses": {name: bus.model_dump(exclude_none=True) for name, bus in wiring.buses.items()},
                "devices": {name: {"bus": item.bus, "unit": item.unit} for name, item in wiring.devices.items()},
            }
        super().__init__(path.parent / wiring.enclosure, broker=True, overrides=overrides, command=command)
        self.dry, self.tested = dry, dict(wiring.devices)
        known = {device.name for device in self.plan.devices}
        self.unknown = [name for name in self.tested if name not in known]
        if not dry:
            for name in wiring.buses:
                self.buses.pop(name, None)
            for name in self.tested:
                self.emulators.pop(name, None)

    def bus_of(self, name: str) -> str:
        return next(device.bus for device in self.plan.devices if device.name == name)

    def missing_port(self, name: str) -> str:
        """Return why the wire of a bus can't be used; empty if it is there."""
        settings = next(bus.settings for bus in self.plan.buses if bus.name == name)
        if self.dry or settings.networked:
            return ""
        try:
            mode = Path(str(settings.port)).stat().st_mode
        except OSError as error:
            return f"{settings.port}: {error.strerror}"
        return "" if stat.S_ISCHR(mode) else f"{settings.port}: not a serial port"
