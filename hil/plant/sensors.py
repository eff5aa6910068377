"""What transmitters make of the truth: lag, gain, bias, drift, noise, resolution, a new value once a device period.

Ways to fail are modes. Those that live on the wire (a swapped word, a sentinel) are carried out by the emulator, which
asks the channel's mode.
"""

from __future__ import annotations

import math

from hil.plant import slots as at
from hil.plant.kernel import Numbers, Words, kernel
from hil.plant.reservoir import LITRES, suction_kpa
from hil.plant.room import cold_side_c, relative_pct
from hil.plant.streams import gauss, uniform

MODES = (
    "none", "stuck", "stuck_at", "drift", "spike", "invalid", "sign_swap",
    "word_swap", "scaled", "delayed", "dropout", "chatter",
)  # fmt: skip
STUCK, STUCK_AT, DRIFT, SPIKE, INVALID, SIGN_SWAP = 1, 2, 3, 4, 5, 6
SCALED, DELAYED, DROPOUT, CHATTER = 8, 9, 10, 11
SPIKE_CHANCE = 0.05


@kernel
def read_water(x: Numbers) -> None:
    """Take the truth of the loop's and the facility water's transmitters."""
    truth = at.TRUTH
    for k in range(3):
        x[truth + at.CHANNEL_SUPPLY + k] = x[at.HX_C]
    for k in range(2):
        x[truth + at.CHANNEL_RETURN + k] = x[at.TANK_C]
        x[truth + at.CHANNEL_FWS_SUPPLY + k] = x[at.FWS_SUPPLY_C + at.FWS_CELLS - 1]
    x[truth + at.CHANNEL_FWS_RETURN] = x[at.FWS_BACK_C + at.FWS_CELLS - 1]
    x[truth + at.CHANNEL_FLOW], x[truth + at.CHANNEL_FWS_FLOW] = 60 * x[at.FLOW_LPS], 60 * x[at.FWS_LPS]
    x[truth + at.CHANNEL_RACK_DROP], x[truth + at.CHANNEL_PUMP_DROP] = x[at.RACK_DROP_KPA], x[at.HEAD_KPA]
    suction = suction_kpa(x)
    x[truth + at.CHANNEL_SUCTION], x[truth + at.CHANNEL_DISCHARGE] = suction, suction + x[at.HEAD_KPA]
    x[truth + at.CHANNEL_LEVEL] = 100 * x[at.LEVEL_L] / (LITRES * x[at.SCALE])
    for z in range(at.ZONES):
        x[truth + at.CHANNEL_ROPE + z] = x[at.ROPE_WET + z]


@kernel
def read_truth(x: Numbers) -> None:
    """Take the truth of every transmitter."""
    truth = at.TRUTH
    read_water(x)
    x[truth + at.CHANNEL_AMBIENT] = x[at.AMBIENT_C]
    for f in range(at.FEEDS):
        x[truth + at.CHANNEL_FEED + f] = x[at.FEED_IT_KW + f]
    x[truth + at.CHANNEL_ROOM], x[truth + at.CHANNEL_ROOM + 1] = cold_side_c(x), x[at.AIR_C]
    for k in range(2):
        x[truth + at.CHANNEL_HUMIDITY + k] = relative_pct(x, x[truth + at.CHANNEL_ROOM + k])
    for r in range(int(x[at.RACKS])):
        x[truth + at.CHANNEL_OUTLET + r] = x[at.OUTLET_C + r]
        for f in range(at.FEEDS):
            x[truth + at.CHANNEL_BRANCH + r * at.FEEDS + f] = x[at.BRANCH_KW + r * at.FEEDS + f]


@kernel
def measured(x: Numbers, k: int, streams: Words) -> float:
    """Return a healthy channel's next value."""
    truth = x[at.FILTERED + k]
    noise = x[at.NOISE + k] + x[at.NOISE_SHARE + k] * abs(truth)
    return truth * x[at.GAIN + k] + x[at.BIAS + k] + x[at.DRIFTED + k] + noise * gauss(streams, k)


@kernel
def quantised(value: float, quantum: float) -> float:
    """Return a value as a device of this resolution shows it."""
    return value if quantum == 0 or math.isnan(value) else round(value / quantum) * quantum


@kernel
def delayed(x: Numbers, k: int, history: Numbers) -> float:
    """Return what the channel measured some time ago."""
    back = min(int(x[at.AMOUNT + k] / x[at.PERIOD_S + k]), int(x[at.UPDATES + k]) - 1, at.HISTORY - 1)
    return float(history[k * at.HISTORY + (int(x[at.UPDATES + k]) - 1 - back) % at.HISTORY])


@kernel
def update(x: Numbers, k: int, history: Numbers, streams: Words) -> None:
    """Make a channel's next value, by the way it fails."""
    mode, amount = int(x[at.MODE + k]), x[at.AMOUNT + k]
    if mode == DRIFT:
        x[at.DRIFTED + k] += amount * x[at.PERIOD_S + k]
    healthy = measured(x, k, streams)
    history[k * at.HISTORY + int(x[at.UPDATES + k]) % at.HISTORY] = healthy
    x[at.UPDATES + k] += 1
    x[at.PRESENT + k] = 0.0 if mode == DROPOUT else 1.0
    if mode in (STUCK, DROPOUT):
        return
    value = healthy
    if mode == STUCK_AT:
        value = amount
    elif mode == SPIKE and uniform(streams, k) < SPIKE_CHANCE:
        value += amount
    elif mode == INVALID:
        value = math.nan
    elif mode == SIGN_SWAP:
        value = -value
    elif mode == SCALED:
        value *= amount
    elif mode == DELAYED:
        value = delayed(x, k, history)
    elif mode == CHATTER:
        value = float(int(2 * amount * x[at.NOW_S]) % 2)
    x[at.SHOWN + k] = quantised(value, x[at.QUANTUM + k])


@kernel
def step_sensors(x: Numbers, history: Numbers, streams: Words, dt: float) -> None:
    """Advance every channel; one with no device period is not there."""
    read_truth(x)
    for k in range(at.CHANNELS):
        if x[at.PERIOD_S + k] == 0:
            continue
        if x[at.STARTED + k] == 0:
            x[at.STARTED + k], x[at.FILTERED + k] = 1.0, x[at.TRUTH + k]
            x[at.DUE_S + k] = x[at.PERIOD_S + k] * uniform(streams, k)
            update(x, k, history, streams)
        x[at.FILTERED + k] += (x[at.TRUTH + k] - x[at.FILTERED + k]) * dt / (x[at.LAG_S + k] + dt)
        x[at.DUE_S + k] -= dt
        if x[at.DUE_S + k] <= 1e-9:
            x[at.DUE_S + k] += x[at.PERIOD_S + k]
            update(x, k, history, streams)
