"""What each mode wants of pumps, facility water and racks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.core import modes


@dataclass(frozen=True, slots=True)
class Posture:
    """What one mode wants. None leaves things as they stand."""

    pumps: str | None = None  # start, run, full, keep (what runs, at the loop's speed), off
    primary: str | None = None  # run, keep, off
    racks: str | None = None  # energise, shutdown, off


HOLD = Posture()
# The hard-wired circuit has opened the feeds; nothing may run up by itself when somebody closes it again.
EMERGENCY_OFF = Posture(pumps="off", primary="off", racks="off")
POSTURES: Mapping[str, Posture] = {
    modes.OFF: Posture(pumps="off", primary="off"),
    "STARTUP.precheck": HOLD,
    "STARTUP.fill": HOLD,
    "STARTUP.pump_start": Posture(pumps="start"),
    "STARTUP.primary_start": Posture(pumps="run", primary="run"),
    "STARTUP.proving": Posture(pumps="run", primary="run"),
    "STARTUP.energise": Posture(pumps="run", primary="run", racks="energise"),
    modes.NORMAL: Posture(pumps="run", primary="run"),
    modes.LIMITING: Posture(pumps="full", primary="run"),
    modes.COOLING_LOST: Posture(pumps="full", primary="run"),
    modes.TRIPPED: Posture(pumps="full", primary="run", racks="off"),
    modes.COOLDOWN: Posture(pumps="keep", primary="keep", racks="shutdown"),
    modes.MAINTENANCE: HOLD,
}
