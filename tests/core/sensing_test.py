"""Sensors of the reference pod against their partners and against models, on the engine and on the judges alone."""

from __future__ import annotations

import pytest

from controller.core.allowance import Allowance
from controller.core.assess import dew_point_c
from controller.core.blocks import LeakyDelay
from controller.core.image import Image
from controller.core.loops import dew_point_c as magnus_c
from controller.core.permit import Limit
from controller.core.pod import alarm_rows
from controller.core.points import Reading, Value, bad, good
from controller.core.sensing import FlowJudge, Sensing
from tests.core.effect_test import balanced
from tests.core.model import Rig, reference_plan

POD = reference_plan().pod
PROBES = POD.tcs.supply_temps
SCAN_S = 0.2


def readings(**changed: Value | None) -> dict[str, Value | None]:
    """A pod at work: 30 degrees of supply through a valve at 83 %, 1300 L/min by pumps at 78.25 %."""
    heat = balanced(30.0, 83.0)
    values: dict[str, Value | None] = dict.fromkeys(PROBES, 30.0)
    values |= dict.fromkeys(POD.tcs.return_temps, heat.return_c)
    values |= dict.fromkeys(POD.fws.supply_temps, 20.0)
    values |= {POD.tcs.flow: 1300.0, "hx_valve.position": 83.0, "hx_valve.position_cmd": 83.0}
    for rack in POD.racks:
        values |= {f"{rack.valve}.flow": 162.5, f"{rack.valve}.position": 100.0, f"{rack.valve}.position_cmd": 100.0}
        values |= dict.fromkeys(rack.power, 130.0 / len(rack.power))
    values |= dict.fromkeys(POD.power.feeds, 520.0)
    for pump in POD.tcs.pumps:
        values |= {f"{pump}.speed": 78.25, f"{pump}.running": True}
    return values | {name.replace("__", "."): value for name, value in changed.items()}


class Bench:
    """A ``Sensing`` stepped on readings by hand."""

    def __init__(self) -> None:
        self.sensing, self.now = Sensing(POD), 100.0
        self.image = Image({}, 0.0)

    def run(self, seconds: float, **changed: Value | None) -> Bench:
        for _ in range(round(seconds / SCAN_S)):
            self.now += SCAN_S
            found: dict[str, Reading] = {}
            for name, value in readings(**changed).items():
                found[name] = bad("failed", self.now) if value is None else good(value, self.now)
            self.image = self.sensing.step(Image(found, self.now), 30.0)
        return self

    def number(self, point: str) -> float | None:
        return self.image.number(point, otherwise=None)

    def flags(self) -> set[str]:
        return {name for name, reading in self.image.items() if reading.value is True and not name.endswith("running")}


def test_a_healthy_pod_raises_nothing() -> None:
    bench = Bench().run(60)
    assert bench.flags() == set()
    assert bench.number("pod.supply_temp") == 30.0
    assert bench.number("pod.flow") == 1300.0


def test_one_probe_far_off_is_left_out_and_taken_back() -> None:
    bench = Bench().run(30).run(8, io_1__supply_temp_2=33.0)
    assert bench.flags() == {"io_1.supply_temp_2_suspect"}
    assert bench.number("pod.supply_temp") == 30.0
    assert bench.run(40).flags() == set()


def test_two_that_drift_together_do_not_outvote_the_third() -> None:
    bench = Bench().run(60).run(8, io_1__supply_temp_1=31.5, io_1__supply_temp_2=31.5)
    assert {"io_1.supply_temp_1_suspect", "io_1.supply_temp_2_suspect"} <= bench.flags()
    assert bench.number("pod.supply_temp") == 30.0


def test_without_a_model_the_majority_counts() -> None:
    broken = {"io_1__fws_supply_temp_1": None, "io_1__fws_supply_temp_2": None}
    bench = Bench().run(60, **broken).run(8, io_1__supply_temp_1=31.5, io_1__supply_temp_2=31.5, **broken)
    assert bench.flags() == {"io_1.supply_temp_3_suspect"}
    assert bench.number("pod.supply_temp") == 31.5


def test_the_last_probe_is_believed_only_near_the_model() -> None:
    lost = {"io_1__supply_temp_1": None, "io_1__supply_temp_2": None}
    bench = Bench().run(60).run(2, **lost)
    assert bench.number("pod.supply_temp") == 30.0
    bench.run(2, io_1__supply_temp_3=36.0, **lost)
    assert bench.number("pod.supply_temp") is None
    assert bench.flags() == {"io_1.supply_temp_3_suspect"}


def test_two_that_disagree_are_told_and_the_hotter_counts() -> None:
    bench = Bench().run(10, io_1__fws_supply_temp_2=24.0)
    assert "pod.fws_supply_temp_split" in bench.flags()
    assert bench.number("pod.fws_supply_temp") == 24.0


def test_no_probe_at_all_is_no_value() -> None:
    bench = Bench().run(1, **{name.replace(".", "__"): None for name in PROBES})
    assert bench.number("pod.supply_temp") is None


def test_the_flow_meter_is_believed_while_anybody_speaks_for_it() -> None:
    assert Bench().run(10, pump_1__speed=100.0, pump_2__speed=100.0).number("pod.flow") == 1300.0
    assert Bench().run(10, **dict.fromkeys((f"rack_valve_{n}__flow" for n in range(1, 9)), 80.0)).number(
        "pod.flow"
    ) == pytest.approx(1300.0)


def test_a_flow_meter_alone_against_racks_and_pumps_is_left_out() -> None:
    bench = Bench().run(10, io_1__tcs_flow=600.0)
    assert bench.number("pod.flow") == pytest.approx(1300.0)
    assert bench.flags() == {"io_1.tcs_flow_suspect"}


@pytest.mark.parametrize("gone", ["pump_1__speed", "rack_valve_3__flow"])
def test_what_is_not_known_speaks_for_nobody(gone: str) -> None:
    bench = Bench().run(10, **{"io_1__tcs_flow": 600.0, gone: None})
    assert bench.number("pod.flow") == 600.0
    assert bench.flags() == set()


def test_a_lost_flow_meter_is_replaced_by_two_that_agree() -> None:
    bench = Bench().run(10, io_1__tcs_flow=None)
    assert bench.number("pod.flow") == pytest.approx(1300.0)
    assert bench.flags() == {"io_1.tcs_flow_suspect"}
    assert bench.run(1).number("pod.flow") == 1300.0


def test_a_lost_flow_meter_with_pumps_that_move_nothing_leaves_the_flow_unknown() -> None:
    dry = dict.fromkeys((f"{rack.valve}__flow" for rack in POD.racks), 20.0)
    bench = Bench().run(10, io_1__tcs_flow=None, **dry)
    assert bench.number("pod.flow") is None
    assert Bench().run(10, io_1__tcs_flow=None, pump_1__speed=None).number("pod.flow") is None


def test_pumps_that_stand_have_no_curve() -> None:
    stopped = dict.fromkeys((f"{pump}__running" for pump in POD.tcs.pumps), False)
    assert Bench().run(10, io_1__tcs_flow=600.0, **stopped).number("pod.flow") == 600.0


def test_where_nobody_agrees_the_lowest_flow_counts() -> None:
    judge = FlowJudge(1300.0, LeakyDelay(3.0))
    found = [judge.step(1300.0, 900.0, 500.0, n * SCAN_S) for n in range(30)]
    assert found[0] == (1300.0, False)
    assert found[-1] == (500.0, True)


def test_power_meters_that_disagree_are_told() -> None:
    assert Bench().run(8, meter_a__power=400.0).flags() == {"pod.it_power_split"}
    assert Bench().run(8, meter_a__power=500.0).flags() == set()
    assert Bench().run(8, meter_a__power=None).flags() == set()


def test_a_rack_valve_that_does_not_move_is_told() -> None:
    assert Bench().run(8, rack_valve_4__position=50.0).flags() == {"rack_valve_4.stuck"}


@pytest.mark.parametrize("valve", ["hx_valve", "rack_valve_4"])
def test_of_a_valve_that_nobody_hears_it_is_not_known_whether_it_is_stuck(valve: str) -> None:
    silent = {f"{valve}__position": None}
    bench = Bench().run(8).run(8, **silent)
    assert not bench.image.usable(f"{valve}.stuck"), "nobody has seen it move"
    assert bench.image.reading(f"{valve}.stuck").reason == "position not known"
    bench.run(8, **{f"{valve}__position": 30.0, f"{valve}__position_cmd": 90.0}).run(8, **silent)
    assert bench.image.flag(f"{valve}.stuck", otherwise=False), "what was seen to be stuck stays so"


def test_sensors_of_humidity_that_disagree_widen_the_margin() -> None:
    def at(*humidities: float) -> float:
        values = dict(zip(POD.room.humidities, humidities, strict=True)) | dict.fromkeys(POD.room.temperatures, 24.0)
        return dew_point_c(POD, Image({name: good(value, 0.0) for name, value in values.items()}, 0.0)) or 0.0

    assert at(45.0, 45.0) == pytest.approx(magnus_c(24.0, 45.0))
    assert at(45.0, 47.0) == pytest.approx(magnus_c(24.0, 47.0)), "near enough"
    assert at(45.0, 60.0) == pytest.approx(magnus_c(24.0, 60.0) + 1.0)
    assert dew_point_c(POD, Image({}, 0.0)) is None


def starve(rig: Rig, share: float) -> None:
    """Let rack 4 have a share of its part of the flow, and its neighbours the rest."""
    total = float(rig.model.values[POD.tcs.flow])
    left = share * total / len(POD.racks)
    flows = {f"{rack.valve}.flow": (total - left) / (len(POD.racks) - 1) for rack in POD.racks}
    rig.model.overrides = flows | {f"{POD.racks[3].valve}.flow": left}


def test_one_low_meter_of_a_rack_is_told_from_a_starved_rack() -> None:
    rig = Rig.make().running()
    rig.run(5)
    rig.model.overrides = {f"{POD.racks[3].valve}.flow": 0.0}
    rig.run(20)
    assert "rack_4_flow_wrong" in rig.alarms()
    assert "rack_4_flow_low" not in rig.alarms()
    assert rig.mode == "NORMAL"


def test_a_chiller_whose_compressor_rests_is_counted_again_after_its_least_time_off() -> None:
    rig = Rig.make().running()
    fws = rig.model.plan.pod.fws
    rig.run(fws.chiller_min_on_s)
    rig.model.overrides = dict.fromkeys(POD.cooling.ambient_temps, 38.0)
    rig.model.overrides |= {f"{name}.running": True for name in POD.fws.chillers}

    def permitted_kw(seconds: float) -> float:
        rig.run(seconds)
        found = rig.effects[-1].view.image.number("pod.it_permit", otherwise=None)
        assert found is not None
        return found

    whole = permitted_kw(60)
    rig.model.overrides |= {f"{name}.supply_temp": 25.9 for name in POD.fws.chillers}
    assert permitted_kw(29) == whole, "a compressor that comes up cools little yet"
    assert permitted_kw(60) < 0.7 * whole
    assert permitted_kw(fws.chiller_min_off_s) == whole, "it may start when the water gets warm"


def test_one_busy_rack_beside_idle_ones_gets_what_its_chips_need() -> None:
    rig = Rig.make()
    rig.model.rack_kw = 13.0
    rig.running()
    rig.run(10)
    tcs, rack = POD.tcs, POD.racks[2]
    assert rig.engine.authority.slots.value("pod.flow_min_sp") == tcs.flow_min_lpm
    rig.model.overrides = dict.fromkeys(rack.power, rack.rated_kw / len(rack.power))
    rig.run(60)
    asked = rig.engine.authority.slots.value("pod.flow_min_sp")
    assert 0.7 * tcs.flow_design_lpm < asked < 0.85 * tcs.flow_design_lpm, "chips stand at 80 degrees at 0.8 of design"
    flow = rig.effects[-1].view.image.number("pod.flow", otherwise=None)
    assert flow is not None
    assert flow >= 0.98 * asked


def test_racks_that_nobody_capped_in_time_are_shed_and_come_back() -> None:
    rig = Rig.make()
    rig.model.rack_kw = 130.0
    rig.running()
    rig.model.overrides = {"chiller_1.fault": True, "chiller_2.fault": True}
    rig.model.overrides |= dict.fromkeys(POD.cooling.ambient_temps, 38.0)
    rig.run(14)
    engine = rig.engine
    assert rig.mode == "FAULT.limiting"
    assert engine.modes.cause == "chiller reserve"
    assert engine.allowance.shed, "the model's IT is deaf"
    first = set(engine.allowance.shed)
    assert all(rack.shed_tier == 3 for rack in POD.racks if rack.name in first)
    saved = engine.saved()
    assert set(saved["shed"]) == first
    rig.model.overrides = {"chiller_1.fault": False, "chiller_2.fault": False}
    rig.step("reset")
    rig.run(120)
    assert not engine.allowance.shed
    assert all(rig.model.values[outlet] for rack in POD.racks for outlet in rack.outlets)
    assert rig.mode == "NORMAL"


def test_the_engine_says_which_rack_is_capped_and_takes_off_the_one_without_flow() -> None:
    rig = Rig.make()
    rig.model.rack_kw = 130.0
    rig.running()
    rig.run(30)
    engine, valve = rig.engine, POD.racks[3].valve
    assert engine.allowance.limiting == ""
    starve(rig, 0.5)
    rig.run(5)
    permit = engine.allowance.permit
    assert permit.racks["rack_4"].cause == "rack_4 gets too little flow"
    assert permit.racks["rack_3"].cause == ""
    assert rig.mode == "NORMAL", "one rack is no pod"
    starve(rig, 0.0)
    rig.run(12)
    assert "flow_rack_4" in engine.interlocks.acting
    assert not any(rig.model.values[outlet] for outlet in POD.racks[3].outlets)
    assert rig.model.values[f"{valve}.position_cmd"] == 100.0, "no flow is no leak: its valve stays open"


@pytest.mark.parametrize(("kw", "held"), [(2000.0, False), (600.0, False), (230.0, True), (60.0, True)])
def test_a_cap_is_an_alarm_where_it_holds_power_down_and_not_otherwise(kw: float, held: bool) -> None:
    rig = Rig.make()
    rig.model.rack_kw = 27.0  # of 8 racks
    rig.running()
    rig.run(60)
    engine = rig.engine
    asked = [Limit("a test", kw)]
    image = Allowance(POD).step(
        rig.effects[-1].view.image, engine.authority.slots, engine.pumps, engine.primary.chillers, None, asked
    )
    assert image.flag("pod.it_held", otherwise=True) is held
    row = next(row for row in alarm_rows(POD) if row.id == "pod_it_capped")
    assert (row.point, row.test) == ("pod.it_held", "on")
