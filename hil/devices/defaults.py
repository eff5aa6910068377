"""What a register that no behaviour moves reads: a plausible value inside its range."""

from __future__ import annotations

from controller.config.profile import Row
from controller.core.points import Kind, Value

# By point name, whoever made the device.
NAMED: dict[str, Value] = {
    "active_source": 1,
    "actuator_type": 4,
    "alarm_delay": 10.0,
    "cable_length": 90.0,
    "compressor_1_hours": 1234.0,
    "control_mode": 1,
    "control_ready": True,
    "cpu_temp": 41.5,
    "digital_input_bits": 8.0,
    "analog_input_bits": 224.0,
    "ess_mode": 1,
    "firmware": 2.06,
    "frequency": 50.0,
    "item_number": 352.0,
    "latching": True,
    "leak_alarm_delay": 10.0,
    "leak_current": 5.0,
    "leak_threshold": 150.0,
    "lines": 1.0,
    "max_limit": 100.0,
    "metered_outlets": 4.0,
    "min_limit": 0.0,
    "min_soc": 20.0,
    "operating_hours": 4321.0,
    "phases_per_line": 3.0,
    "power_limit": 1000.0,
    "ready": True,
    "remote": True,
    "remote_zones_enabled": 0x01FE,
    "reservoir_level_ok": True,
    "running_hours": 1234.0,
    "server_class": 2,
    "soc": 80.0,
    "switched_outlets": 4.0,
    "system_type": 3,
    "voltage": 51.2,
    "watchdog_state": 1,
}
# Of one class only, where the same name means something else elsewhere.
CLASSED: dict[tuple[str, str], Value] = {
    ("valve", "control_mode"): 0,
    ("valve", "override"): 0,
    ("battery", "power"): 0.0,
    ("pump", "dc_bus_voltage"): 540.0,
}
BY_UNIT: dict[str, float] = {"V": 230.0, "Hz": 50.0, "Cel": 25.0, "Ohm": 1250.0, "kPa": 100.0}


def default(device_class: str, name: str, row: Row, *, commissioned: bool = True) -> Value:
    """Return the constant for a point of a device of ``device_class``; of one fresh from the factory, the least."""
    value = CLASSED.get((device_class, name), NAMED.get(name)) if commissioned else None
    if row.kind is Kind.FLAG:
        return bool(value)
    if row.kind is Kind.TEXT:
        return "BENCH"
    if row.kind is Kind.BITS:
        return int(value or 0)
    if row.kind is Kind.CODE:
        known = sorted(row.texts)
        return int(value) if value is not None and int(value) in known else known[0]
    return _number(name, row, value)


def _number(name: str, row: Row, value: Value | None) -> float:
    assert row.range is not None
    low, high = row.range
    if "temp" in name and value is None:
        value = 25.0
    if value is None:
        value = BY_UNIT.get(row.unit, 0.0)
    return min(high, max(low, float(value)))
