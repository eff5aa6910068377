"""Behaviour of room sensors, leak panels and remote I/O: transmitters of the plant, by the name of the point."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.core.points import Value
from hil.devices.emulator import Behaviour, Channel
from hil.plant.plant import Plant

WET = 0.5


@dataclass(slots=True)
class Transmitters(Behaviour):
    """Points that show transmitters of the plant as they are: by point, the channel."""

    shown: Mapping[str, Channel]

    def values(self) -> Mapping[str, Value]:
        return {point: channel.value for point, channel in self.shown.items()}

    def channels(self) -> Mapping[str, Channel]:
        return self.shown


@dataclass(slots=True)
class LeakPanel(Behaviour):
    """Contacts of leak detectors: each closes while one of its ropes is wet.

    Attributes:
        ropes: by point, the plant's channels ``leak_rope_N``; 0 is at the CDU, racks follow.
    """

    plant: Plant
    ropes: Mapping[str, tuple[int, ...]]

    def initial(self) -> Mapping[str, Value]:
        return self.values()

    def values(self) -> Mapping[str, Value]:
        sensors = self.plant.sensors
        return {
            point: any(sensors[f"leak_rope_{rope}"].value > WET for rope in ropes)
            for point, ropes in self.ropes.items()
        }


@dataclass(slots=True)
class RemoteIo(Transmitters):
    """Channels named as the plant's sensors are, and a contact; the rest of the module is constant."""

    plant: Plant

    def initial(self) -> Mapping[str, Value]:
        return self.values()

    def values(self) -> Mapping[str, Value]:
        values: dict[str, Value] = {point: channel.value for point, channel in self.shown.items()}
        return values | {"reservoir_level_ok": self.plant.level_made}
