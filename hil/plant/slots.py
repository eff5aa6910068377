"""The one table of the plant's numbers: what stands where in the flat array that the compiled functions step.

Names end in their unit where it is not a share (0 to 1), a flag (0 or 1) or a count. A name with a length is the first
of so many neighbours, one for each drive, valve, rack and so on. "Input" is set from outside, "fault" too.
"""

from __future__ import annotations

RACKS_MAX, OUTLETS_MAX, FEEDS = 16, 12, 2
TCS_PUMPS_MAX, FWS_PUMPS_MAX, FANS_MAX, CHILLERS_MAX = 6, 4, 6, 4
DRIVES = TCS_PUMPS_MAX + FWS_PUMPS_MAX + FANS_MAX
FWS_DRIVE, FAN_DRIVE = TCS_PUMPS_MAX, TCS_PUMPS_MAX + FWS_PUMPS_MAX
VALVES = 1 + RACKS_MAX  # the heat exchanger's, then the racks'
BRANCHES = RACKS_MAX * FEEDS
ZONES = 1 + RACKS_MAX  # where water pools: the CDU, then the racks
PROFILE_MAX = 32
LATENCY_S = 5  # of the cluster manager; one slot a second

_size = 0


def _take(count: int = 1) -> int:
    """Return the first of ``count`` new slots."""
    global _size
    first, _size = _size, _size + count
    return first


# ------------------------------------------------------------ sizes, set from the layout
RACKS, TCS_PUMPS, FWS_PUMPS, FANS, CHILLERS = _take(), _take(), _take(), _take(), _take()
LIQUID_SHARE, RACK_KW, CHIPS = _take(), _take(), _take()
DESIGN_LPS, SHUTOFF_KPA, DROOP, MAIN_KPA, RACK_KPA = _take(), _take(), _take(), _take(), _take()
FWS_DESIGN_LPS, FWS_DROOP, HX_WATER_LPS, DOOR_LPS, UA_KW_K = _take(), _take(), _take(), _take(), _take()
SUPPLY_L, BACK_L, TANK_L, HX_L, HX_WATER_L = _take(), _take(), _take(), _take(), _take()
FWS_BACK_L, BUFFER_L, FWS_SUPPLY_L = _take(), _take(), _take()
CHILLER_KW, SCALE = _take(), _take()
FROM_OUTSIDE, AIR_COOLED = _take(), _take()

# ------------------------------------------------------------ time and weather
NOW_S = _take()
AMBIENT_C, OUTDOOR_DEW_C = _take(), _take()  # inputs
WEATHER_FOLLOWS, WEATHER_MEAN_C, WEATHER_SWING_K, WEATHER_HOTTEST_S = _take(), _take(), _take(), _take()

# ------------------------------------------------------------ drives: TCS pumps, FWS pumps, fans
DRIVE_RUN, DRIVE_COMMAND = _take(DRIVES), _take(DRIVES)  # inputs
DRIVE_TRIPPED, DRIVE_UNPOWERED, DRIVE_NO_FLOW = _take(DRIVES), _take(DRIVES), _take(DRIVES)  # faults
DRIVE_WEAR, DRIVE_REVERSED, DRIVE_LIMIT = _take(DRIVES), _take(DRIVES), _take(DRIVES)  # faults
DRIVE_SOURCE = _take(DRIVES)  # feed 0, feed 1, or 2: feed 0 with transfer to 1
DRIVE_SPEED, DRIVE_WAITED_S, DRIVE_POWERED = _take(DRIVES), _take(DRIVES), _take(DRIVES)
DRIVE_LPS, DRIVE_KW = _take(DRIVES), _take(DRIVES)
ATS_FEED, ATS_WAITED_S = _take(DRIVES), _take(DRIVES)

# ------------------------------------------------------------ valves
VALVE_COMMAND, VALVE_POSITION, VALVE_MOVING = _take(VALVES), _take(VALVES), _take(VALVES)
VALVE_STROKE_S, VALVE_DEADBAND, VALVE_SLOWNESS = _take(VALVES), _take(VALVES), _take(VALVES)
VALVE_JAMMED, VALVE_LYING, VALVE_FAILS_OPEN, VALVE_FAILS_CLOSED = (_take(VALVES) for _ in range(4))  # faults
VALVE_FEEDBACK = _take(VALVES)
RANGEABILITY = _take()  # of the heat exchanger's valve

# ------------------------------------------------------------ TCS hydraulics
STRAINER = _take()  # fault
FLOW_LPS, HEAD_KPA, RACK_DROP_KPA = _take(), _take(), _take()
RACK_LPS, RACK_BLOCKAGE = _take(RACKS_MAX), _take(RACKS_MAX)

# ------------------------------------------------------------ racks and chips
INLET_C, COOLANT_C, OUTLET_C, PLATE_C, JUNCTION_C = (_take(RACKS_MAX) for _ in range(5))
THROTTLES = _take()  # input: chips slow down by themselves
THROTTLE, THROTTLED_S, LATCHED_OFF = _take(RACKS_MAX), _take(RACKS_MAX), _take(RACKS_MAX)

# ------------------------------------------------------------ TCS pipes and exchanger
PIPE_CELLS, FWS_CELLS = 8, 4
SUPPLY_C, BACK_C, TANK_C, HX_C, HX_WATER_C = _take(PIPE_CELLS), _take(PIPE_CELLS), _take(), _take(), _take()
FOULING = _take()  # fault
HX_KW = _take()

# ------------------------------------------------------------ facility water
FWS_BACK_C, BUFFER_C, FWS_SUPPLY_C = _take(FWS_CELLS), _take(FWS_CELLS), _take(FWS_CELLS)
FWS_LPS = _take()
DRY_AUTO, DRY_COMMAND, DRY_TRIPPED, DRY_CAPACITY = _take(), _take(), _take(), _take()
DRY_FAN, DRY_HEAT_KW, DRY_KW = _take(), _take(), _take()
CHILLER_RUN, CHILLER_SETPOINT_C, CHILLER_TRIPPED, CHILLER_UNPOWERED = (_take(CHILLERS_MAX) for _ in range(4))
CHILLER_CAPACITY = _take(CHILLERS_MAX)  # fault
CHILLER_START_S, CHILLER_LEAST_IDLE_S, CHILLER_LEAST_ON_S, CHILLER_CYCLE_S = (_take(CHILLERS_MAX) for _ in range(4))
CHILLER_POWERED, CHILLER_RUNNING, CHILLER_COMPRESSOR, CHILLER_CALL = (_take(CHILLERS_MAX) for _ in range(4))
CHILLER_LOAD, CHILLER_LEAVING_C, CHILLER_HEAT_KW, CHILLER_ELECTRIC_KW = (_take(CHILLERS_MAX) for _ in range(4))
CHILLER_INTEGRAL, CHILLER_STARTING_S, CHILLER_ON_S, CHILLER_IDLE_S = (_take(CHILLERS_MAX) for _ in range(4))
CHILLER_SINCE_START_S, CHILLER_NO_FLOW_S, CHILLER_BOOT_S, CHILLER_STARTS = (_take(CHILLERS_MAX) for _ in range(4))
OUTSIDE_C, OUTSIDE_LPS, OUTSIDE_POINTS = _take(), _take(), _take()
OUTSIDE_AT_S, OUTSIDE_AT_C, OUTSIDE_AT_LPS = _take(PROFILE_MAX), _take(PROFILE_MAX), _take(PROFILE_MAX)
OUTSIDE_HEAT_KW = _take()

# ------------------------------------------------------------ white space
ROOM_FANS, DOOR_VALVE = _take(), _take()  # inputs
FANS_LOST, INFILTRATION_KG_S, MOISTURE_KG_S = _take(), _take(), _take()  # faults
AIR_C, STRUCTURE_C, HUMIDITY, CONDENSATE_KG, CONDENSING_KG_S = _take(), _take(), _take(), _take(), _take()
DOORS_KW, DOOR_FANS_KW, COIL_C, DEW_C, MARGIN_K = _take(), _take(), _take(), _take(), _take()

# ------------------------------------------------------------ reservoir and leaks
LEVEL_L, MAKEUP, MAKEUP_FAILED, MAKEUP_LOCKED = _take(), _take(), _take(), _take()
MAKEUP_RAN_S, MAKEUP_L, LOST_L = _take(), _take(), _take()
LEAK_LPS, POOLED_L, ROPE_DELAY_S, ROPE_WET_S, ROPE_WET = (_take(ZONES) for _ in range(5))

# ------------------------------------------------------------ electrical
OUTLETS = _take(RACKS_MAX)
OUTLET_ON, OUTLET_FEED = _take(RACKS_MAX * OUTLETS_MAX), _take(RACKS_MAX * OUTLETS_MAX)
OUTLET_SHELF, OUTLET_KW = _take(RACKS_MAX * OUTLETS_MAX), _take(RACKS_MAX * OUTLETS_MAX)
OUTLET_LIVE, OUTLET_INRUSH_S = _take(RACKS_MAX * OUTLETS_MAX), _take(RACKS_MAX * OUTLETS_MAX)
SHELVES, SHARE_A, RACK_IT_KW = _take(RACKS_MAX), _take(RACKS_MAX), _take(RACKS_MAX)
BRANCH_OPEN, BRANCH_TRIPPED, BRANCH_FAULT_A = _take(BRANCHES), _take(BRANCHES), _take(BRANCHES)
BRANCH_KW, BRANCH_A, BRANCH_HEAT, BRANCH_MAGNETIC_S = (_take(BRANCHES) for _ in range(4))
PHASE_SHARE = _take(BRANCHES * 3)
FEED_LOST, FEED_TRIPPED, FEED_LIVE, FEED_HEAT = (_take(FEEDS) for _ in range(4))
FEED_IT_KW, FEED_KW, FEED_KWH = _take(FEEDS), _take(FEEDS), _take(FEEDS)
GRID_LOST, GRID_KW, GRID_CAP_KW, GRID_FOLLOWS_KW, BUS_LIVE = _take(), _take(), _take(), _take(), _take()
BATTERY_MODE, BATTERY_SETPOINT_KW, BATTERY_RAMP_KW_S, BATTERY_TARGET = _take(), _take(), _take(), _take()
BATTERY_TRIPPED, BATTERY_DERATE, BATTERY_ERROR = _take(), _take(), _take()  # faults
BATTERY_KW, BATTERY_SOC, BATTERY_CARRIES = _take(), _take(), _take()
GENERATOR_RUN, GENERATOR_AUTO, GENERATOR_START_S, GENERATOR_RAMP_KW_S = _take(), _take(), _take(), _take()
GENERATOR_TRIPPED, GENERATOR_WAITED_S, GENERATOR_KW, GENERATOR_STEP_KW = _take(), _take(), _take(), _take()
HOLD_UP_S, CONTROLLER_POWERED = _take(), _take()
IT_KW, IT_DEMAND_KW, TOTAL_KW = _take(), _take(), _take()

# ------------------------------------------------------------ jobs and their cluster manager
LOAD, RACK_CAP, REFUSES_CAP, DEMAND, APPLIED_CAP = (_take(RACKS_MAX) for _ in range(5))
CAP_PIPE = _take(RACKS_MAX * LATENCY_S)
CLUSTER_CAP, CLUSTER_REFUSES, CLUSTER_SECOND = _take(), _take(), _take()
JOB_PROFILE, JOB_LEVEL, JOB_LOW, JOB_PERIOD_S, JOB_DEPTH = _take(), _take(), _take(), _take(), _take()
JOB_CHECKPOINT_S, JOB_EVERY_S, JOB_JITTER, JOB_SKEW_S = _take(), _take(), _take(), _take()
JOB_PHASE, JOB_LEFT_S, JOB_WANDER, JOB_SECOND = _take(), _take(), _take(), _take()
RACK_SKEW, RACK_JITTER = _take(RACKS_MAX), _take(RACKS_MAX)

# ------------------------------------------------------------ books, in kJ since the start
BOOK_IT, BOOK_AIR_FANS, BOOK_CHILLED, BOOK_DRY, BOOK_OUTSIDE = (_take() for _ in range(5))
BOOK_PUMPS, BOOK_CHILLERS, BOOK_TOTAL, BOOK_GRID, BOOK_BATTERY = (_take() for _ in range(5))
BOOK_GENERATOR, BOOK_DEMAND, BOOK_DRY_FAN = _take(), _take(), _take()

# ------------------------------------------------------------ transmitters
CHANNEL_SUPPLY, CHANNEL_RETURN, CHANNEL_FWS_SUPPLY, CHANNEL_FWS_RETURN = 0, 3, 5, 7
CHANNEL_FLOW, CHANNEL_FWS_FLOW, CHANNEL_RACK_DROP, CHANNEL_PUMP_DROP = 8, 9, 10, 11
CHANNEL_SUCTION, CHANNEL_DISCHARGE, CHANNEL_LEVEL, CHANNEL_AMBIENT = 12, 13, 14, 15
CHANNEL_FEED, CHANNEL_ROOM, CHANNEL_HUMIDITY = 16, 18, 20
CHANNEL_OUTLET = 22
CHANNEL_BRANCH = CHANNEL_OUTLET + RACKS_MAX
CHANNEL_ROPE = CHANNEL_BRANCH + BRANCHES
CHANNELS = CHANNEL_ROPE + ZONES
HISTORY = 256  # updates that a delayed channel can look back on
TRUTH, FILTERED, SHOWN, DUE_S, STARTED, PRESENT = (_take(CHANNELS) for _ in range(6))
LAG_S, GAIN, BIAS, NOISE, NOISE_SHARE, QUANTUM, PERIOD_S = (_take(CHANNELS) for _ in range(7))
MODE, AMOUNT, DRIFTED, UPDATES = (_take(CHANNELS) for _ in range(4))

SIZE = _size
STREAMS = CHANNELS + 1  # seeded random streams: one for each channel, one for the jobs
JOB_STREAM = CHANNELS
