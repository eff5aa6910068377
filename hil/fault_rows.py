"""The rows of the catalogue of faults. One line each; ``faults.py`` says what a row is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from controller.core.points import Value
from hil.faults import (
    Apply,
    Fault,
    FaultError,
    Undo,
    attribute,
    branch,
    called,
    chiller,
    emulator,
    feed,
    physics,
    plant,
    pump,
    rack,
    sensor,
    several,
    valve,
)

if TYPE_CHECKING:
    from hil.stage import Stage

SENSOR_MODES: tuple[tuple[str, str, str, float, float, float | None], ...] = (
    ("stuck", "stays at what it shows now", "", 0, 0, None),
    ("stuck_at", "shows one plausible value", "own unit", -50, 5000, 29.8),
    ("drift", "runs away from the truth", "own unit/s", -1, 1, 0.02),
    ("spike", "jumps at one update in twenty", "own unit", -100, 100, 10),
    ("invalid", "gives no value, as a broken wire does", "", 0, 0, None),
    ("sign_swap", "has its sign turned", "", 0, 0, None),
    ("word_swap", "has the words of its value swapped", "", 0, 0, None),
    ("scaled", "shows a multiple of the truth", "times", 0, 100, 10),
    ("delayed", "tells what was some seconds ago", "s", 0, 60, 10),
    ("dropout", "is gone from its device", "", 0, 0, None),
    ("chatter", "toggles between dry and wet", "Hz", 0.1, 5, 5),
)
SPOILT = ("ffff", "8000", "nan", "swapped", "negated", "times_10", "stuck")
LINES: tuple[tuple[str, str, str, float, float, float | bool], ...] = (
    ("noise", "one bit is turned in a share of the frames: CRC errors", "share", 0, 1, 0.6),
    ("dropped", "a share of the bytes is lost", "share", 0, 1, 0.01),
    ("merged", "a share of the bytes arrives as one with the next", "share", 0, 1, 0.01),
    ("dribble_s", "pause after each byte of a reply", "s", 0, 1, 0.01),
    ("echo", "the master hears its own requests", "", 0, 0, True),
    ("babble_s", "a slave nobody asked talks, each so many seconds", "s", 0.05, 10, 0.5),
    ("latency_s", "the adapter hands bytes on at its next tick", "s", 0, 0.1, 0.016),
    ("baud", "the units listen at another rate", "Bd", 300, 115200, 9600),
)


def rows() -> Iterator[Fault]:
    """Return every fault."""
    yield from _pumps()
    yield from _water()
    yield from _cold()
    yield from _power()
    yield from _racks()
    yield from _load()
    yield from _sensors()
    yield from _devices()
    yield from _wire()
    yield from _controller()


def _pumps() -> Iterator[Fault]:
    yield Fault("pump.trip", "pump", "the drive trips and coasts; its fault is shown", attribute(pump, "tripped", True))
    yield Fault("pump.dip", "pump", "the drive's supply is away; it coasts", attribute(pump, "unpowered", True))
    yield Fault("pump.no_flow", "pump", "spins and moves nothing: coupling, air lock", attribute(pump, "no_flow", True))
    yield Fault(
        "pump.worn", "pump", "gives a share of its head", attribute(pump, "wear"), "share", 0.1, 1.0, 0.8
    )  # fmt: skip
    yield Fault("pump.reversed", "pump", "turns the wrong way", attribute(pump, "reversed", True))
    yield Fault(
        "pump.limited", "pump", "its current limit holds the speed down", attribute(pump, "current_limit"),
        "share", 0.1, 1.0, 0.7,
    )  # fmt: skip


def _water() -> Iterator[Fault]:
    yield Fault("valve.jammed", "valve", "stays where it is", attribute(valve, "jammed", True))
    yield Fault(
        "valve.slow", "valve", "takes a multiple of its stroke time", attribute(valve, "slowness"), "times", 1, 20, 3.0
    )
    yield Fault(
        "valve.lying", "valve", "its feedback follows the command; the stem stays",
        several(attribute(valve, "lying", True), attribute(valve, "jammed", True)),
    )  # fmt: skip
    yield Fault("valve.fails_open", "valve", "goes fully open", attribute(valve, "fails_open", True))
    yield Fault("valve.fails_closed", "valve", "goes fully closed", attribute(valve, "fails_closed", True))
    yield Fault(
        "valve.sticky", "valve", "moves only by more than its dead band", attribute(valve, "deadband"),
        "share", 0, 0.2, 0.03,
    )  # fmt: skip
    yield Fault(
        "strainer.clogged", "pod", "resistance of the loop's main rises to a multiple",
        attribute(plant, "loop.strainer"), "times", 1, 10, 3.0,
    )  # fmt: skip
    yield Fault(
        "exchanger.fouled", "pod", "the exchanger keeps a share of its conductance", attribute(plant, "fouling"),
        "share", 0.1, 1, 0.75,
    )  # fmt: skip
    yield Fault(
        "leak.cdu", "loop", "water runs out at the CDU, at 200 kPa", attribute(plant, "leak_lps"), "L/s", 0, 5, 0.2
    )
    yield Fault("makeup.failed", "pod", "no make-up water comes", attribute(plant, "makeup_failed", True))


def _cold() -> Iterator[Fault]:
    yield Fault("chiller.trip", "chiller", "trips on a fault of its own", attribute(chiller, "tripped", True))
    yield Fault("chiller.dip", "chiller", "its supply is away", attribute(chiller, "unpowered", True))
    yield Fault(
        "chiller.weak", "chiller", "gives a share of its capacity", attribute(chiller, "capacity"), "share", 0, 1, 0.5
    )
    outside = "facility.external"
    yield Fault("water.lost", "water", "no water comes from outside", attribute(plant, f"{outside}_lpm", 0.0))
    yield Fault("water.warm", "water", "how warm it comes", attribute(plant, f"{outside}_c"), "Cel", 2, 60, 32.0)
    dry = "facility.dry_cooler"
    yield Fault("dry_cooler.trip", "pod", "its fans stop", attribute(plant, f"{dry}.tripped", True))
    yield Fault(
        "dry_cooler.weak", "pod", "gives a share of its capacity", attribute(plant, f"{dry}.capacity"),
        "share", 0, 1, 0.5,
    )  # fmt: skip
    yield Fault("doors.fans_lost", "pod", "all fans of the rear doors stop", attribute(plant, "room.fans_lost", True))
    yield Fault(
        "room.door_open", "pod", "outdoor air comes in", attribute(plant, "room.infiltration_kg_s"),
        "kg/s", 0, 5, 0.5,
    )  # fmt: skip
    yield Fault(
        "room.moisture", "pod", "water evaporates into the room", attribute(plant, "room.moisture_kg_s"),
        "kg/s", 0, 0.1, 0.002,
    )  # fmt: skip
    yield Fault("weather.ambient", "pod", "outdoor temperature", attribute(plant, "ambient_c"), "Cel", -30, 55, 38.0)
    yield Fault(
        "weather.dew_point", "pod", "outdoor dew point", attribute(plant, "outdoor_dew_point_c"), "Cel", -30, 35, 24.0
    )


def _power() -> Iterator[Fault]:
    yield Fault("feed.lost", "feed", "the feed is dead, and what hangs on it", attribute(feed, "lost", True))
    yield Fault("grid.lost", "pod", "the grid is away", attribute(plant, "grid.lost", True))
    yield Fault(
        "grid.import_cap", "pod", "no more may be taken from the grid", attribute(plant, "grid.import_cap_kw"),
        "kW", 0, 5000, 900.0,
    )  # fmt: skip
    yield Fault("generator.trip", "pod", "the generator does not start", attribute(plant, "generator.tripped", True))
    yield Fault("battery.trip", "pod", "the battery's inverter trips", attribute(plant, "battery.tripped", True))
    yield Fault(
        "battery.derated", "pod", "gives a share of its power", attribute(plant, "battery.derate"), "share", 0, 1, 0.5
    )
    yield Fault(
        "battery.soc_error", "pod", "shows a wrong state of charge", attribute(plant, "battery.soc_error_pct"),
        "%", -50, 50, 10.0,
    )  # fmt: skip
    yield Fault("branch.open", "branch", "the branch breaker is open", attribute(branch, "open", True))


def _racks() -> Iterator[Fault]:
    yield Fault(
        "rack.blocked", "rack", "its water path keeps a share of its conductance", attribute(rack, "blockage"),
        "share", 0, 1, 0.6,
    )  # fmt: skip
    yield Fault("leak.rack", "wet_rack", "it leaks, at 200 kPa", attribute(rack, "leak_lps"), "L/s", 0, 5, 0.05)
    yield Fault("rack.refuses_cap", "rack", "heeds no power cap", attribute(rack, "refuses_cap", True))
    yield Fault("cluster.refuses_cap", "pod", "no rack heeds a power cap", attribute(plant, "cluster.refuses", True))


def _load() -> Iterator[Fault]:
    share = {"unit": "share", "low": 0.0, "high": 1.5}
    yield Fault("load.step", "pod", "every rack takes this share of its rating", _load_step, default=1.0, **share)  # type: ignore[arg-type]
    yield Fault("load.rack", "rack", "this rack takes this share", attribute(rack, "load"), default=1.3, **share)  # type: ignore[arg-type]
    yield Fault(
        "load.square", "pod", "10 % and 100 % by turns, each half the period", _wave("square"), "s", 0.5, 3600, 60.0
    )
    yield Fault("load.training", "pod", "training: iterations of this period", _wave("training"), "s", 0.5, 60, 2.0)
    yield Fault("load.random", "pod", "a random schedule of jobs", _wave("random"), "s", 0.5, 60, 2.0)
    yield Fault(
        "load.crash", "pod", "all jobs crash and start again", called(lambda s, _t, _v: physics(s).jobs.crash())
    )


def _load_step(stage: Stage, _target: str, value: Any) -> Undo:
    before = [rack.load for rack in stage.plant.racks]
    for each in stage.plant.racks:
        each.load = value

    def undo() -> None:
        for each, load in zip(stage.plant.racks, before, strict=True):
            each.load = load

    return undo


def _wave(profile: str) -> Apply:
    def apply(stage: Stage, _target: str, value: Any) -> Undo:
        jobs = physics(stage).jobs
        before = {name: getattr(jobs, name) for name in ("profile", "period_s", "level", "depth")}
        jobs.profile, jobs.period_s = profile, value

        def undo() -> None:
            for name, held in before.items():
                setattr(jobs, name, held)

        return undo

    return apply


def _sensors() -> Iterator[Fault]:
    for mode, text, unit, low, high, default in SENSOR_MODES:
        way = called(_failing(mode), lambda stage, target: sensor(stage, target).heal())
        yield Fault(f"sensor.{mode}", "sensor", text, way, unit, low, high, default)
    yield Fault(
        "sensor.noisy", "sensor", "has this standard deviation of noise", attribute(sensor, "noise"),
        "own unit", 0, 100, 0.5,
    )  # fmt: skip
    yield Fault("sensor.biased", "sensor", "is off by this much", attribute(sensor, "bias"), "own unit", -100, 100, 0.5)
    yield Fault(
        "sensor.plugged", "sensor", "a plugged impulse line: it follows slowly", attribute(sensor, "lag_s"),
        "s", 0, 600, 60.0,
    )  # fmt: skip


def _failing(mode: str) -> Callable[[Stage, str, Any], object]:
    return lambda stage, target, value: sensor(stage, target).fail(mode, 0.0 if value is None else value)


def _unit(name: str, held: Value | None = None) -> Apply:
    return attribute(emulator, name, held)


def _forced(stage: Stage, target: str, value: Any) -> Undo:
    device, _, point = target.partition(".")
    row = stage.emulators[device].rows[point]
    stage.emulators[device].force(point, bool(value) if row.kind.value == "flag" else value)
    return lambda: stage.emulators[device].force(point, None)


def _spoilt(stage: Stage, target: str, value: Any) -> Undo:
    device, _, point = target.partition(".")
    try:
        stage.emulators[device].spoil(point, value)
    except ValueError as error:
        raise FaultError(f"point.garbage: {target}: {error}") from None
    return lambda: stage.emulators[device].spoil(point, "")


def _devices() -> Iterator[Fault]:
    yield Fault("device.silent", "device", "takes requests and answers none", _unit("silent", True))
    yield Fault(
        "device.slow", "device", "every reply comes so much later", _unit("faults.reply_delay_s"), "s", 0, 5, 1.0
    )
    yield Fault(
        "device.exception", "device", "answers everything with this Modbus exception", _exception, "code", 1, 11, 4.0
    )
    yield Fault(
        "device.ignores_writes", "device", "acknowledges writes and does nothing", _unit("faults.ignores_writes", True)
    )
    yield Fault(
        "device.late_writes", "device", "acknowledges writes and obeys later", _unit("faults.write_delay_s"),
        "s", 0, 60, 2.0,
    )  # fmt: skip
    yield Fault(
        "device.map_shift", "device", "registers stand so many addresses higher", _whole(_unit("faults.map_shift")),
        "words", 1, 100, 1.0,
    )  # fmt: skip
    yield Fault(
        "device.reboot", "device", "is away, then back with its defaults",
        called(lambda s, t, v: s.emulators[t].reboot(v)), "s", 0.5, 120, 5.0,
    )  # fmt: skip
    yield Fault(
        "device.wrong_unit", "device", "answers under another unit id", _whole(_unit("faults.answers_as")),
        "unit", 1, 247, 99.0, only="real",
    )  # fmt: skip
    yield Fault(
        "device.stale_reply", "device", "answers with the reply before", _unit("faults.stale_reply", True), only="real"
    )
    yield Fault(
        "device.reset", "device", "its connection is reset at each request", _unit("faults.reset", True), only="real"
    )
    yield Fault("device.twin", "device", "two units have this id and collide", _unit("faults.twin", True), only="real")
    yield Fault(
        "point.forced", "point", "reads this value, whatever the device does", _forced, "own unit", -1e9, 1e9, 1.0
    )
    yield Fault(
        "point.garbage", "point", "its registers hold rubbish", _spoilt, "choice", default="ffff", choices=SPOILT
    )  # fmt: skip


def _whole(way: Apply) -> Apply:
    return lambda stage, target, value: way(stage, target, int(value))


_exception = _whole(attribute(emulator, "refusal"))


def _wire() -> Iterator[Fault]:
    pull = called(lambda s, t, _v: s.plug(t, False), lambda s, t: s.plug(t, True))
    yield Fault("wire.unplugged", "bus", "the adapter is gone; connections are refused", pull)
    for name, text, unit, low, high, default in LINES:
        label = "crc_noise" if name == "noise" else name.removesuffix("_s")
        only = "" if name == "noise" else "real"
        held = None if unit else default
        yield Fault(
            f"wire.{label}", "line", text, _line(name, held), unit, low, high, default if unit else None, only=only
        )
    yield Fault("wire.half_open", "connection", "connections are taken, nothing is answered", _line("half_open", True))
    yield Fault(
        "wire.connection_limit", "connection", "further connections are reset", _line("connection_limit"),
        "count", 1, 100, 1.0, only="real",
    )  # fmt: skip


def _line(name: str, held: Value | None = None) -> Apply:
    def do(stage: Stage, target: str, value: Any) -> object:
        return stage.line_noise(target, name, value if held is None else held)

    return called(do, lambda stage, target: stage.line_noise(target, name, 0.0))


def _controller() -> Iterator[Fault]:
    kill = called(lambda s, _t, _v: s.controller(False), lambda s, _t: s.controller(True))
    yield Fault("controller.killed", "pod", "the process ends at once; started again at the end", kill)
    away = called(lambda s, _t, _v: s.broker(False), lambda s, _t: s.broker(True))
    yield Fault("broker.down", "pod", "the MQTT broker is away", away, only="real")
    jump = called(lambda s, _t, v: s.jump_clock(v), lambda s, _t: s.jump_clock(0.0))
    yield Fault("clock.jump", "pod", "the wall clock is so much off", jump, "s", -1e9, 1e9, 7200.0)
    yield Fault(
        "bms.poison", "pod", "somebody publishes nonsense at this rate", called(_poison, None), "1/s", 1, 1000, 200.0,
        only="real",
    )  # fmt: skip


def _poison(stage: Stage, _target: str, value: Any) -> object:
    payloads = (b'{"value": 5}', b'{"value": 60}', b'{"value": NaN}', b'{"value": 1e9}', b"\xff\xfe", b"{" * 200)
    count = int(value)
    return stage.publish(("cmd/bench/req", payloads[index % len(payloads)], index % 7 == 0) for index in range(count))
