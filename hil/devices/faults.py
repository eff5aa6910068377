"""What one emulated device does wrong, as attributes with neutral defaults; README.md says what each name means."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from hil.wire.faults import DELAY_MAX_S, UnitFaults, flag, number

SHIFT_MAX = 1000


@dataclass(slots=True)
class DeviceFaults(UnitFaults):
    """Faults of the wire, and of the registers."""

    map_shift: int = dataclasses.field(default=0, metadata={"low": -SHIFT_MAX, "high": SHIFT_MAX})
    ignores_writes: bool = flag()
    write_delay_s: float = number(DELAY_MAX_S)
