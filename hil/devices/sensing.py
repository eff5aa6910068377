"""Behaviour of room sensors and remote I/O: transmitters of the plant, by the name of the point."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from controller.core.points import Value
from hil.devices.emulator import Behaviour
from hil.plant.plant import Plant

WET = 0.5


@dataclass(slots=True)
class RoomSensor(Behaviour):
    """Temperature and humidity at one place of the room."""

    temperature_c: Callable[[], float]
    humidity_pct: Callable[[float], float]

    def values(self) -> Mapping[str, Value]:
        temperature = self.temperature_c()
        return {"temperature": temperature, "humidity": self.humidity_pct(temperature)}


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
class RemoteIo(Behaviour):
    """Channels named as the plant's sensors are, and contacts; the rest of the module is constant."""

    plant: Plant

    def initial(self) -> Mapping[str, Value]:
        return self.values()

    def values(self) -> Mapping[str, Value]:
        measured: dict[str, Value] = {name: sensor.value for name, sensor in self.plant.sensors.items()}
        return measured | {"reservoir_level_ok": self.plant.level_made}
