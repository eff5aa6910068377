"""What is sampled of the plant's truth, under the names that scenarios and traces use; and the samples themselves."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.config.plan import Plan
from hil.plant.plant import Plant

NAN = float("nan")
SAMPLES_MAX = 400_000  # of one channel; a longer run is sampled less often


@dataclass(frozen=True, slots=True)
class Channel:
    """One quantity. ``group`` is the chart it belongs to."""

    name: str
    unit: str
    group: str
    label: str
    read: Callable[[], float]


def channels_of(plan: Plan, plant: Plant) -> Iterator[Channel]:
    """Return every channel that ``plant`` has; a plant without a part has no channel of it."""
    for channel in (*_water(plan, plant), *_machines(plan, plant), *_racks(plan, plant), *_room(plant), *_power(plant)):
        try:
            channel.read()
        except (AttributeError, IndexError):
            continue
        yield channel


def _water(plan: Plan, plant: Any) -> Iterator[Channel]:
    setpoint, cold = plan.pod.tcs.supply_temp_sp_c, "temperature"
    yield Channel("supply_c", "°C", cold, "TCS supply", lambda: plant.supply_c)
    yield Channel("supply_error_k", "K", cold, "TCS supply less its set point", lambda: plant.supply_c - setpoint)
    yield Channel("return_c", "°C", cold, "TCS return", lambda: plant.return_c)
    yield Channel("fws_supply_c", "°C", cold, "FWS supply", lambda: plant.facility.supply_c)
    yield Channel("fws_return_c", "°C", cold, "FWS return", lambda: plant.facility.return_c)
    yield Channel("flow_lpm", "L/min", "flow", "TCS flow", lambda: plant.flow_lpm)
    yield Channel("flow_pct", "%", "flow", "TCS flow of design", lambda: 100 * plant.flow_lpm / plant.design_lpm)
    yield Channel("fws_flow_lpm", "L/min", "flow", "FWS flow", lambda: 60 * plant.facility.flow)
    yield Channel("rack_drop_kpa", "kPa", "pressure", "Rack pressure drop", lambda: plant.loop.rack_drop)
    yield Channel("suction_kpa", "kPa", "pressure", "Pump suction", lambda: plant.suction_kpa)
    yield Channel("level_litres", "L", "level", "Reservoir", lambda: plant.level_litres)


def _machines(plan: Plan, plant: Any) -> Iterator[Channel]:
    group = "valves and speeds"
    yield Channel("valve_pct", "%", group, "Exchanger valve", lambda: 100 * plant.valve.position)
    for name, pump in (*zip(plan.pod.tcs.pumps, plant.tcs_pumps, strict=True),
                       *zip(plan.pod.fws.pumps, plant.facility.pumps, strict=True)):  # fmt: skip
        yield Channel(f"{name}_pct", "%", group, f"{name} speed", _share(pump, "speed"))
    for name, chiller in zip(plan.pod.fws.chillers, plant.facility.chillers, strict=True):
        yield Channel(f"{name}_load_pct", "%", group, f"{name} load", _share(chiller, "load"))
        yield Channel(f"{name}_running", "", "electrical", f"{name} running", _number(chiller, "running"))
    yield Channel(
        "chillers_running", "", "electrical", "Chillers running",
        lambda: float(sum(bool(chiller.running) for chiller in plant.facility.chillers)),
    )  # fmt: skip


def _share(part: Any, name: str) -> Callable[[], float]:
    return lambda: 100.0 * float(getattr(part, name))


def _number(part: Any, name: str) -> Callable[[], float]:
    return lambda: float(getattr(part, name))


def _racks(plan: Plan, plant: Any) -> Iterator[Channel]:
    yield Channel("hottest_c", "°C", "temperature", "Hottest junction", lambda: _hottest(plant))
    for rack, part in zip(plan.pod.racks, plant.racks, strict=True):
        yield Channel(
            f"{rack.name}_valve_pct", "%", "valves and speeds", f"{rack.name} valve", _share(part.valve, "position")
        )
        yield Channel(f"{rack.name}_kw", "kW", "power", f"{rack.name} power", _number(part, "power_kw"))
        yield Channel(f"{rack.name}_junction_c", "°C", "temperature", f"{rack.name} junction", _junction(part))
    yield Channel(
        "racks_on", "", "electrical", "Racks energised", lambda: float(sum(any(r.outlets) for r in plant.racks))
    )
    yield Channel("it_kw", "kW", "power", "IT power", lambda: plant.it_kw)
    yield Channel("it_demand_kw", "kW", "power", "IT power demanded", lambda: plant.it_demand_kw)
    yield Channel("throttled_s", "s", "temperature", "Throttled so far", lambda: plant.throttled_s)


def _hottest(plant: Any) -> float:
    found = getattr(plant, "hottest_c", None)
    return float(max(rack.water.junction for rack in plant.racks) if found is None else found)


def _junction(rack: Any) -> Callable[[], float]:
    return lambda: float(rack.water.junction)


def _room(plant: Any) -> Iterator[Channel]:
    yield Channel("air_c", "°C", "room", "Room air", lambda: plant.room.air_c)
    yield Channel("dew_point_c", "°C", "room", "Dew point", lambda: plant.dew_point_c)
    yield Channel("margin_k", "K", "room", "Condensation margin", lambda: plant.condensation_margin_k)
    yield Channel("condensate_litres", "L", "level", "Condensate", lambda: plant.condensate_litres)
    yield Channel("pooled_litres", "L", "level", "Water leaked", lambda: plant.pooled_litres)


def _power(plant: Any) -> Iterator[Channel]:
    yield Channel("grid_kw", "kW", "power", "Grid import", lambda: plant.grid_kw)
    yield Channel("total_kw", "kW", "power", "Total power", lambda: plant.total_kw)
    yield Channel("pumps_kw", "kW", "power", "Pumps", lambda: plant.pumps_kw)
    yield Channel("chillers_kw", "kW", "power", "Chillers", lambda: plant.chillers_kw)
    yield Channel("soc_pct", "%", "electrical", "State of charge", lambda: plant.soc_pct)
    yield Channel(
        "branches_open", "", "electrical", "Branch breakers open",
        lambda: float(sum(not branch.closed for rack in plant.racks for branch in rack.branches)),
    )  # fmt: skip
    yield Channel("generator_step_kw", "kW", "power", "Largest step on the generator", lambda: plant.generator.step_kw)


@dataclass(slots=True)
class Recorder:
    """Samples of every channel at the same times."""

    channels: Mapping[str, Channel]
    times: array[float] = field(default_factory=lambda: array("d"))
    values: dict[str, array[float]] = field(init=False)

    def __post_init__(self) -> None:
        self.values = {name: array("d") for name in self.channels}

    def sample(self, t: float) -> None:
        if len(self.times) >= SAMPLES_MAX:
            return
        self.times.append(t)
        for name, channel in self.channels.items():
            self.values[name].append(float(channel.read()))
