"""Behaviour of pump drives, valves and chillers: they move the plant, and show what it does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from controller.core.points import Value
from hil.devices.emulator import Behaviour, Channel, Written
from hil.plant.facility import LEAST_LOAD, Chiller
from hil.plant.hydraulics import Drive, Valve
from hil.plant.room import Room
from hil.plant.thermal import WATER
from hil.record import BROKEN, COMMAND, Record

HERTZ_AT_FULL, RPM_AT_FULL, VOLTS = 50.0, 2950.0, 400.0
PACE_SLACK = 0.9  # a step that comes this much too early for its drive is still taken
AT_REFERENCE = 0.01
RACK_VALVE_NOMINAL_LPM, ENERGY_VALVE_NOMINAL_LPM = 200.0, 1300.0


@dataclass(slots=True)
class Pump(Behaviour):
    """A drive with one start word, or one that must be led through a sequence of words.

    Of a sequence (ABB Drives profile, ACH550 manual p.157-161) every word but the last is a state without the motor
    running. So sending the first word to a running drive stops it on its ramp, and a word out of turn is not heeded.
    """

    name: str
    drive: Drive
    power_kw: Callable[[], float]
    record: Record
    clock: Callable[[], float] = time.monotonic
    step_reached: int = -1
    stepped_at: float = float("-inf")

    def initial(self) -> Mapping[str, Value]:
        return {"run_cmd": False, "speed_cmd": 0.0}

    def written(self, write: Written) -> None:
        if write.name == "speed_cmd" and isinstance(write.value, float | int):
            self.drive.command = write.value / 100
        elif write.name == "run_cmd" and len(write.row.on_words) > 1:
            self._step(write)
        elif write.name == "run_cmd":
            if write.value is None:
                self.record.add(BROKEN, self.name, "run_cmd", self.drive.run, f"0x{write.words[0]:04X} means nothing")
            else:
                self._run(bool(write.value), "")

    def _step(self, write: Written) -> None:
        words, word, last = write.row.on_words, write.words[0], len(write.row.on_words) - 1
        text = f"0x{word:04X}"
        if word == words[0] or word == write.row.off_words[-1]:
            if word == words[0] and self.drive.run:
                self.record.add(BROKEN, self.name, "run_cmd", False, f"{text} stops a running drive")
            self._run(False, text)
            self.step_reached = 0 if word == words[0] else -1
        elif word == words[last] and self.step_reached == last:
            return  # the running word once more changes nothing
        elif self.step_reached < last and word == words[self.step_reached + 1] and self._paced(write):
            self.step_reached += 1
            if self.step_reached == last:
                self._run(True, text)
        else:
            self.record.add(BROKEN, self.name, "run_cmd", self.drive.run, f"{text} out of turn or too early")
            if self.step_reached == last:
                self._run(False, text)
                self.step_reached = words.index(word) if word in words else -1
        self.stepped_at = self.clock()

    def _paced(self, write: Written) -> bool:
        return self.clock() - self.stepped_at >= PACE_SLACK * write.row.step_wait_s

    def take(self, name: str, value: Value) -> None:
        if name == "speed_cmd" and isinstance(value, float | int):
            self.drive.command = value / 100
        elif name == "run_cmd":
            self._run(bool(value), "by itself")
        elif name == "fault":
            self.drive.tripped = bool(value)

    def restart(self) -> None:
        self._run(False, "lost power")
        self.step_reached = -1
        self.drive.tripped = False

    def _run(self, run: bool, note: str) -> None:
        if run is not self.drive.run:
            self.record.add(COMMAND, self.name, "run_cmd", run, note)
        self.drive.run = run

    def values(self) -> Mapping[str, Value]:
        drive, power = self.drive, self.power_kw()
        share = drive.speed if drive.running or drive.tripped else 0.0
        return {
            "running": drive.running,
            "fault": drive.tripped,
            "ready": not drive.tripped,
            "speed": 100 * share,
            "power": power,
            "at_reference": drive.running and abs(drive.speed - drive.command) < AT_REFERENCE,
            "reference": 100 * drive.command,
            "output_frequency": HERTZ_AT_FULL * share,
            "output_voltage": VOLTS * share,
            "motor_speed": RPM_AT_FULL * share,
            "motor_current": 1000 * power / (math.sqrt(3) * VOLTS * 0.85),
            "torque": 100 * share**2,
        }


@dataclass(slots=True)
class Positioner(Behaviour):
    """A valve's actuator with flow and temperatures around it."""

    valve: Valve
    nominal_lpm: float
    flow_lpm: Callable[[], float]
    inlet_c: Callable[[], float]
    outlet_c: Callable[[], float]
    wired: Mapping[str, Channel] = field(default_factory=dict)

    def channels(self) -> Mapping[str, Channel]:
        return self.wired

    def initial(self) -> Mapping[str, Value]:
        return {"position_cmd": 100 * self.valve.command, "position": 100 * self.valve.position}

    def written(self, write: Written) -> None:
        if write.value is not None:
            self.take(write.name, write.value)

    def take(self, name: str, value: Value) -> None:
        if name == "position_cmd" and isinstance(value, float | int):
            self.valve.command = value / 100

    def _away(self) -> bool:
        return abs(self.valve.command - self.valve.position) > AT_REFERENCE

    def values(self) -> Mapping[str, Value]:
        flow, inlet, outlet = self.flow_lpm(), self.inlet_c(), self.outlet_c()
        return {
            "position": 100 * self.valve.feedback,
            "fault": self.valve.jammed and not self.valve.lying and self._away(),
            "flow": flow,
            "relative_flow": 100 * flow / self.nominal_lpm,
            "remote_temp": outlet,
            "embedded_temp": inlet,
            "cooling_power": max(0.0, flow / 60 * WATER * (outlet - inlet)),
        }


@dataclass(slots=True)
class DoorValve(Behaviour):
    """The valve of the rear doors' water: it follows its command at once."""

    room: Room
    flow_lpm: Callable[[], float]
    nominal_lpm: float

    def initial(self) -> Mapping[str, Value]:
        return {"position_cmd": 100 * self.room.door_valve, "position": 100 * self.room.door_valve}

    def written(self, write: Written) -> None:
        if write.value is not None:
            self.take(write.name, write.value)

    def take(self, name: str, value: Value) -> None:
        if name == "position_cmd" and isinstance(value, float | int):
            self.room.door_valve = min(1.0, max(0.0, value / 100))

    def values(self) -> Mapping[str, Value]:
        flow = self.flow_lpm() * self.room.door_valve
        shown = {"position": 100 * self.room.door_valve, "flow": flow, "relative_flow": 100 * flow / self.nominal_lpm}
        return {**shown, "fault": False, "cooling_power": self.room.cooled_kw}


@dataclass(slots=True)
class ChillerCard(Behaviour):
    """A chiller behind its communication card."""

    name: str
    chiller: Chiller
    record: Record
    ambient_c: Callable[[], float]
    entering_c: Callable[[], float]
    told: bool = field(default=False)

    def initial(self) -> Mapping[str, Value]:
        return {"run_cmd": False, "supply_temp_sp": self.chiller.setpoint_c}

    def written(self, write: Written) -> None:
        if write.value is not None:
            self.take(write.name, write.value)

    def take(self, name: str, value: Value) -> None:
        if name == "supply_temp_sp" and isinstance(value, float | int):
            self.chiller.setpoint_c = float(value)
        elif name == "run_cmd" and isinstance(value, bool):
            if value is not self.chiller.run:
                self.record.add(COMMAND, self.name, "run_cmd", value)
            self.chiller.run = value

    def restart(self) -> None:
        self.take("run_cmd", False)

    def values(self) -> Mapping[str, Value]:
        chiller = self.chiller
        starting = chiller.run and not chiller.running
        return {
            "running": chiller.running,
            "fault": chiller.tripped,
            "operating_state": 1 if chiller.running else 0,
            "system_status": 32 if chiller.tripped else 2 if starting else 1,
            "state_reason": 4,
            "supply_temp": chiller.leaving_c,
            "return_temp": self.entering_c(),
            "evaporator_return_temp": self.entering_c(),
            "active_supply_sp": chiller.setpoint_c,
            "ambient_temp": self.ambient_c(),
            "condenser_water_in_temp": self.ambient_c(),
            "condenser_water_out_temp": self.ambient_c() + 5 * chiller.load,
            "compressor_utilisation": 100 * chiller.load,
            "condenser_1_fan_speed": 100 * chiller.load,
            "condenser_2_fan_speed": 100 * chiller.load,
            "compressor_1_on": chiller.load >= LEAST_LOAD,
            "compressor_2_on": chiller.load >= 0.5,
            "compressor_1_head_pressure": 800 + 1200 * chiller.load,
            "pump_1_on": chiller.running,
        }
