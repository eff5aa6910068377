"""Behaviour of rack power units, feed meters and the battery."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
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
OUTLET_METER = re.compile(r"outlet_\d+_(power|current)")


Total = Callable[[float, float], float]  # of the power in kW and the energy in kWh

TOTALS: Mapping[str, Total] = {
    "power": lambda kw, _: kw,
    "apparent_power": lambda kw, _: kw / POWER_FACTOR,
    "reactive_power": lambda kw, _: kw * REACTIVE_SHARE,
    "power_factor": lambda *_: POWER_FACTOR,
    "frequency": lambda *_: HERTZ,
    "energy_import": lambda _, kwh: kwh,
    "energy_total": lambda _, kwh: kwh,
    "reactive_energy_import": lambda _, kwh: kwh * REACTIVE_SHARE,
}
OF_EACH_PHASE: Mapping[str, Total] = {
    "voltage": lambda *_: PHASE_VOLTS,
    "current": lambda kw, _: 1000 * (kw / PHASES) / (PHASE_VOLTS * POWER_FACTOR),
    "power": lambda kw, _: kw / PHASES,
    "apparent_power": lambda kw, _: kw / PHASES / POWER_FACTOR,
    "reactive_power": lambda kw, _: kw / PHASES * REACTIVE_SHARE,
    "power_factor": lambda *_: POWER_FACTOR,
    "frequency": lambda *_: HERTZ,
    "angle": lambda *_: 11.5,
    "energy": lambda _, kwh: kwh / PHASES,
    "voltage_thd": lambda *_: 2.5,
    "current_thd": lambda *_: 4.0,
}
PHASE_POINTS: Mapping[str, Total] = {
    **TOTALS,
    **{f"phase_{phase}_{name}": of for phase in range(1, PHASES + 1) for name, of in OF_EACH_PHASE.items()},
}


def phase_points(names: Collection[str]) -> Mapping[str, Total]:
    """Return the standard phase and total points of a balanced three-phase load that are among ``names``."""
    return {name: of for name, of in PHASE_POINTS.items() if name in names}


@dataclass(slots=True)
class Pdu(Behaviour):
    """A rack power unit on one three-phase feed; ``wiring`` leads from its outlet numbers to the rack's outlets.

    The power and current of an outlet are those of its first phase, a third of what the outlet carries. Its relays are
    bistable: a restart of its controller does not move them.

    Attributes:
        power: the transmitter of what goes through the unit, in kW.
        shown: the phase and total points that it has.
        metered: whether it has a meter of any energy, or of its outlets.
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
    shown: Mapping[str, Total] = field(default_factory=lambda: PHASE_POINTS)
    metered: bool = True

    def serve(self, names: Collection[str]) -> None:
        self.shown = phase_points(names)
        self.metered = any("energy" in name or OUTLET_METER.fullmatch(name) for name in names)

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
        outlets = self.rack.outlets
        values: dict[str, Value] = {f"outlet_{number}": outlets[index] for number, index in self.wiring.items()}
        if self.metered:
            values |= self._measured()
        kw, kwh = self.power.value, sum(self.outlet_kwh.values())
        return {name: of(kw, kwh) for name, of in self.shown.items()} | values

    def _measured(self) -> Mapping[str, Value]:
        """Return what the meters of the outlets show; they count the energy since they were last asked."""
        now = self.now()
        hours = 0.0 if self.counted_at is None else (now - self.counted_at) / 3600
        self.counted_at = now
        values: dict[str, Value] = {}
        for number, index in self.wiring.items():
            power = self.rack.outlet_kw(index)
            self.outlet_kwh[number] = self.outlet_kwh.get(number, 0.0) + power * hours
            values |= {
                f"outlet_{number}_power": power / PHASES,
                f"outlet_{number}_current": 1000 * power / PHASES / (PHASE_VOLTS * POWER_FACTOR),
                f"outlet_{number}_energy": self.outlet_kwh[number] / PHASES,
            }
        return values

    def channels(self) -> Mapping[str, Channel]:
        return dict.fromkeys(POWERS, self.power)


@dataclass(slots=True)
class Meter(Behaviour):
    """A feed's meter."""

    power: Channel
    energy_kwh: Callable[[], float]
    shown: Mapping[str, Total] = field(default_factory=lambda: PHASE_POINTS)

    def serve(self, names: Collection[str]) -> None:
        self.shown = phase_points(names)

    def values(self) -> Mapping[str, Value]:
        kw, kwh = self.power.value, self.energy_kwh()
        return {name: of(kw, kwh) for name, of in self.shown.items()}

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
