"""Behaviour of rack power units, feed meters and the battery."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.core.blocks import clamp
from controller.core.points import Value
from hil.devices.emulator import Behaviour, Channel, Written
from hil.plant.plant import Rack
from hil.plant.supply import Battery
from hil.record import OUTLET, Record

PHASE_VOLTS = 240.0  # of a 415 V three-phase feed
POWER_FACTOR = 0.98
REACTIVE_SHARE = 0.203  # tan of the angle of 0.98
HERTZ = 50.0
BATTERY_VOLTS = 51.2
SHOWN_KW_MAX = 32.7  # what its register of 1 W a count can show
PHASES = 3
POWERS = ("power", *(f"phase_{phase}_power" for phase in range(1, PHASES + 1)))
OUTLET_NAME = re.compile(r"outlet_(\d+)")


def phase_values(total_kw: float, kwh: float) -> dict[str, Value]:
    """Return the standard phase and total points of a balanced three-phase load."""
    phase_kw = total_kw / PHASES
    amps = 1000 * phase_kw / (PHASE_VOLTS * POWER_FACTOR)
    values: dict[str, Value] = {
        "power": total_kw,
        "apparent_power": total_kw / POWER_FACTOR,
        "reactive_power": total_kw * REACTIVE_SHARE,
        "power_factor": POWER_FACTOR,
        "frequency": HERTZ,
        "energy_import": kwh,
        "energy_total": kwh,
        "reactive_energy_import": kwh * REACTIVE_SHARE,
    }
    for phase in range(1, PHASES + 1):
        values |= {
            f"phase_{phase}_voltage": PHASE_VOLTS,
            f"phase_{phase}_current": amps,
            f"phase_{phase}_power": phase_kw,
            f"phase_{phase}_apparent_power": phase_kw / POWER_FACTOR,
            f"phase_{phase}_reactive_power": phase_kw * REACTIVE_SHARE,
            f"phase_{phase}_power_factor": POWER_FACTOR,
            f"phase_{phase}_frequency": HERTZ,
            f"phase_{phase}_angle": 11.5,
            f"phase_{phase}_energy": kwh / PHASES,
            f"phase_{phase}_voltage_thd": 2.5,
            f"phase_{phase}_current_thd": 4.0,
        }
    return values


@dataclass(slots=True)
class Pdu(Behaviour):
    """A rack power unit on one three-phase feed; ``wiring`` leads from its outlet numbers to the rack's outlets.

    The power and current of an outlet are those of its first phase, a third of what the outlet carries. Its relays are
    bistable: a restart of its controller does not move them.

    Attributes:
        power: the transmitter of what goes through the unit, in kW.
    """

    name: str
    rack: Rack
    wiring: Mapping[int, int]
    record: Record
    now: Callable[[], float]
    power: Channel
    spare: dict[int, bool] = field(default_factory=dict)
    outlet_kwh: dict[int, float] = field(default_factory=dict)
    counted_at: float | None = None

    def initial(self) -> Mapping[str, Value]:
        return {f"outlet_{number}": self.rack.outlets[index] for number, index in self.wiring.items()}

    def written(self, write: Written) -> None:
        found = OUTLET_NAME.fullmatch(write.name)
        if found is None or not isinstance(write.value, bool):
            return
        number = int(found[1])
        index = self.wiring.get(number)
        before = self.spare.get(number, False) if index is None else self.rack.outlets[index]
        if write.value is not before:
            self.record.add(OUTLET, self.name, write.name, write.value)
        if index is None:
            self.spare[number] = write.value
        else:
            self.rack.outlets[index] = write.value

    def values(self) -> Mapping[str, Value]:
        powers = {number: self.rack.outlet_kw(index) for number, index in self.wiring.items()}
        now = self.now()
        hours = 0.0 if self.counted_at is None else (now - self.counted_at) / 3600
        self.counted_at = now
        values: dict[str, Value] = {}
        for number, power in powers.items():
            self.outlet_kwh[number] = self.outlet_kwh.get(number, 0.0) + power * hours
            values |= {
                f"outlet_{number}": self.rack.outlets[self.wiring[number]],
                f"outlet_{number}_power": power / PHASES,
                f"outlet_{number}_current": 1000 * power / PHASES / (PHASE_VOLTS * POWER_FACTOR),
                f"outlet_{number}_energy": self.outlet_kwh[number] / PHASES,
            }
        return phase_values(self.power.value, sum(self.outlet_kwh.values())) | values

    def channels(self) -> Mapping[str, Channel]:
        return dict.fromkeys(POWERS, self.power)


@dataclass(slots=True)
class Meter(Behaviour):
    """A feed's meter."""

    power: Channel
    energy_kwh: Callable[[], float]

    def values(self) -> Mapping[str, Value]:
        return phase_values(self.power.value, self.energy_kwh())

    def channels(self) -> Mapping[str, Channel]:
        return dict.fromkeys(POWERS, self.power)


@dataclass(slots=True)
class BatteryCard(Behaviour):
    """The battery's gateway: its charge and its power, positive while it charges; settings are kept as written."""

    battery: Battery

    def initial(self) -> Mapping[str, Value]:
        return {"max_discharge_power": 5.0, "max_charge_current": 100.0, "max_feed_in_power": 5.0}

    def values(self) -> Mapping[str, Value]:
        charging_kw = clamp(-self.battery.kw, -SHOWN_KW_MAX, SHOWN_KW_MAX)
        return {
            "soc": self.battery.soc_shown_pct,
            "power": charging_kw,
            "current": 1000 * charging_kw / BATTERY_VOLTS,
            "state": 0 if charging_kw == 0 else 1 if charging_kw > 0 else 2,
        }
