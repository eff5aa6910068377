"""One step of the whole plant, in order: jobs, power, machines, flow, heat, water, transmitters."""

from __future__ import annotations

from hil.plant import slots as at
from hil.plant.electrical import STEP_S as ELECTRICAL_STEP_S
from hil.plant.facility import returned_c, step_water, water_kj
from hil.plant.hydraulics import step_air, step_fws, step_movers, step_tcs
from hil.plant.jobs import step_jobs, step_weather
from hil.plant.kernel import Numbers, Words, entry, kernel
from hil.plant.reservoir import step_reservoir
from hil.plant.room import room_kj, set_doors, step_room
from hil.plant.sensors import step_sensors
from hil.plant.supply import step_electrical
from hil.plant.thermal import hx_share, step_loop, step_racks, stored_kj, throttle_rack


@kernel
def step_heat(x: Numbers, dt: float) -> None:
    """Move heat from the chips to the outside; every part sees its neighbours as they were before the step."""
    for r in range(int(x[at.RACKS])):
        throttle_rack(x, r, dt)
    set_doors(x)
    doors = x[at.DOORS_KW]
    mixed = returned_c(x, doors)
    if x[at.AIR_COOLED] > 0:
        into_air = step_racks(x, 0.0, dt)
    else:
        through, cold = x[at.FWS_LPS] * hx_share(x), x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
        if x[at.FWS_LPS] >= 1e-9:
            mixed += through * (x[at.HX_WATER_C] - cold) / x[at.FWS_LPS]
        into_air = step_loop(x, dt)
    x[at.BOOK_IT] += x[at.IT_KW] * dt
    x[at.BOOK_AIR_FANS] += x[at.DOOR_FANS_KW] * dt
    step_room(x, into_air, dt)
    step_water(x, mixed, dt)


@kernel
def keep_books(x: Numbers, dt: float) -> None:
    """Add this step to the energy books."""
    pumps = 0.0
    for d in range(at.FAN_DRIVE):
        pumps += x[at.DRIVE_KW + d]
    x[at.BOOK_PUMPS] += pumps * dt
    for c in range(int(x[at.CHILLERS])):
        x[at.BOOK_CHILLERS] += x[at.CHILLER_ELECTRIC_KW + c] * dt
        x[at.BOOK_CHILLED] += x[at.CHILLER_HEAT_KW + c] * dt
    x[at.BOOK_DRY] += x[at.DRY_HEAT_KW] * dt
    x[at.BOOK_DRY_FAN] += x[at.DRY_KW] * dt
    x[at.BOOK_OUTSIDE] += x[at.OUTSIDE_HEAT_KW] * dt


@entry
def advance(x: Numbers, history: Numbers, streams: Words, steps: int, dt: float) -> None:
    """Advance the plant ``x`` by ``steps`` of ``dt`` seconds; ``history`` and ``streams`` are the transmitters'."""
    parts = max(1, round(dt / ELECTRICAL_STEP_S))
    for _ in range(steps):
        step_weather(x)
        step_jobs(x, streams, dt)
        for _ in range(parts):
            step_electrical(x, dt / parts)
        step_movers(x, dt)
        if x[at.AIR_COOLED] == 0:
            step_tcs(x, dt)
        else:
            step_air(x, dt)
        step_fws(x, dt)
        step_heat(x, dt)
        step_reservoir(x, dt)
        keep_books(x, dt)
        x[at.NOW_S] += dt
        step_sensors(x, history, streams, dt)


@entry
def heat_stored_kj(x: Numbers) -> float:
    """Return the heat in all water, metal and air of the plant above 0 degrees."""
    return stored_kj(x) + room_kj(x) + water_kj(x)
