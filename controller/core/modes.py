"""The mode tree, its literal transition table, and the rules that fire it. The docs' diagram is drawn from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from transitions.extensions.nesting import HierarchicalMachine, NestedState

from controller.core.points import record

OFF: Final = "OFF"
NORMAL: Final = "NORMAL"
COOLDOWN: Final = "COOLDOWN"
MAINTENANCE: Final = "MAINTENANCE"
TRIPPED: Final = "FAULT.tripped"
COOLING_LOST: Final = "FAULT.cooling_lost"
LIMITING: Final = "FAULT.limiting"

STATES: Final[list[str | dict[str, Any]]] = [
    OFF,
    {"name": "STARTUP", "children": ["precheck", "fill", "pump_start", "primary_start", "proving", "energise"]},
    NORMAL,
    {"name": "FAULT", "children": ["limiting", "cooling_lost", "tripped"]},
    COOLDOWN,
    MAINTENANCE,
]
STAGES: Final = tuple(f"STARTUP.{stage}" for stage in STATES[1]["children"])  # type: ignore[index]
DRY_STAGES: Final = STAGES[:2]  # nothing has been started yet
WET_STAGES: Final = STAGES[2:]
LIVE: Final = ("STARTUP.energise", NORMAL, LIMITING, COOLING_LOST)

KEPT: Final = (TRIPPED, COOLDOWN, MAINTENANCE)  # what a restart of the controller does not end

# trigger, from, to
TRANSITIONS: Final[list[tuple[str, str | list[str], str]]] = [
    ("start", OFF, "STARTUP.precheck"),
    ("adopt", OFF, NORMAL),
    ("resume", OFF, "STARTUP.energise"),
    ("checked", "STARTUP.precheck", "STARTUP.fill"),
    ("filled", "STARTUP.fill", "STARTUP.pump_start"),
    ("flow_proven", "STARTUP.pump_start", "STARTUP.primary_start"),
    ("primary_proven", "STARTUP.primary_start", "STARTUP.proving"),
    ("ready", "STARTUP.proving", "STARTUP.energise"),
    ("energised", "STARTUP.energise", NORMAL),
    ("give_up", list(DRY_STAGES), OFF),
    ("abort", list(WET_STAGES), COOLDOWN),
    ("stop", [*WET_STAGES, NORMAL, LIMITING, COOLING_LOST], COOLDOWN),
    ("limit", NORMAL, LIMITING),
    ("lose_cooling", list(LIVE[:3]), COOLING_LOST),
    ("recover", [LIMITING, COOLING_LOST], NORMAL),
    ("go_on", COOLING_LOST, "STARTUP.energise"),
    ("energise", NORMAL, "STARTUP.energise"),
    ("trip", list(LIVE), TRIPPED),
    ("reset", TRIPPED, COOLDOWN),
    ("cooled", COOLDOWN, OFF),
    ("maintain", OFF, MAINTENANCE),
    ("release", MAINTENANCE, OFF),
]


@dataclass(frozen=True, slots=True)
class StartupTimes:
    """Times and limits of start-up S1-S7 and of the controlled shutdown (docs/operating.md)."""

    image_max_s: float
    precheck_max_s: float
    fill_pressure_kpa: float = field(metadata={"of": "tcs.suction_pressure"})
    fill_max_s: float = field(metadata={"of": "tcs.suction_pressure"})
    pump_start_pct: float
    pump_start_hold_s: float
    pump_prove_s: float
    flow_prove_pct: float
    flow_prove_max_s: float
    primary_prove_s: float
    primary_prove_max_s: float
    ready_flow_pct: float
    ready_band_k: float
    ready_dew_k: float = field(metadata={"of": "room.humidities"})
    ready_hold_s: float
    ready_max_s: float
    energise_max_s: float
    cooldown_min_s: float
    cooldown_max_s: float
    cooldown_band_k: float


@record
class Facts:
    """What this scan knows that a change of mode may hang on."""

    elapsed_s: float
    missing: tuple[str, ...] = ()  # what PRECHECK still misses, in words
    image_complete: bool = False
    adoptable: bool = False
    was_starting: bool = False
    start: bool = False
    stop: bool = False
    reset: bool = False
    maintain: bool = False
    release: bool = False
    energise: bool = False
    loop_filled: bool = False
    flow_proven: bool = False
    pumps_failed: bool = False
    primary_proven: bool = False
    ready: bool = False
    racks_pending: int = 0
    trip: str = ""
    trip_cleared: bool = True
    cooling_lost: str = ""
    limited: str = ""
    cooled: bool = False


Condition = Callable[[Facts, StartupTimes], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """In one of ``modes``, when ``when`` holds, fire ``trigger``; ``cause`` is what the log says."""

    modes: tuple[str, ...]
    trigger: str
    when: Condition
    cause: Callable[[Facts], str]


def _said(text: str) -> Callable[[Facts], str]:
    return lambda _: text


# Read from the top: the first rule that holds fires, so protection stands above progress.
RULES: Final[tuple[Rule, ...]] = (
    Rule(LIVE, "trip", lambda f, _: bool(f.trip), lambda f: f.trip),
    Rule(WET_STAGES, "abort", lambda f, _: bool(f.trip), lambda f: f.trip),
    Rule(DRY_STAGES, "give_up", lambda f, _: f.stop, _said("operator")),
    Rule((*WET_STAGES, NORMAL, LIMITING, COOLING_LOST), "stop", lambda f, _: f.stop, _said("operator")),
    Rule(LIVE[:3], "lose_cooling", lambda f, _: bool(f.cooling_lost), lambda f: f.cooling_lost),
    Rule((NORMAL,), "limit", lambda f, _: bool(f.limited), lambda f: f.limited),
    Rule((COOLING_LOST,), "go_on", lambda f, _: not f.cooling_lost and f.was_starting, _said("flow is back")),
    Rule((COOLING_LOST,), "recover", lambda f, _: not f.cooling_lost, _said("flow is back")),
    Rule((LIMITING,), "recover", lambda f, _: not f.limited, _said("cause gone")),
    Rule((NORMAL,), "energise", lambda f, _: f.energise and f.racks_pending > 0, _said("operator")),
    Rule((TRIPPED,), "reset", lambda f, _: f.reset and f.trip_cleared, _said("operator reset")),
    Rule((MAINTENANCE,), "release", lambda f, _: f.release, _said("operator")),
    Rule((OFF,), "maintain", lambda f, _: f.maintain, _said("operator")),
    Rule(
        (OFF,),
        "resume",
        lambda f, _: f.image_complete and f.adoptable and f.was_starting,
        _said("found running, start-up goes on"),
    ),
    Rule((OFF,), "adopt", lambda f, _: f.image_complete and f.adoptable, _said("found running, taken over as it is")),
    Rule((OFF,), "start", lambda f, t: f.start and (f.image_complete or f.elapsed_s > t.image_max_s), _said("start")),
    Rule(("STARTUP.precheck",), "checked", lambda f, _: not f.missing, _said("all checks passed")),
    Rule(
        ("STARTUP.precheck",),
        "give_up",
        lambda f, t: f.elapsed_s > t.precheck_max_s,
        lambda f: "precheck: " + ", ".join(f.missing),
    ),
    Rule(("STARTUP.fill",), "filled", lambda f, _: f.loop_filled, _said("loop pressure made")),
    Rule(("STARTUP.fill",), "give_up", lambda f, t: f.elapsed_s > t.fill_max_s, _said("loop pressure not made")),
    Rule(
        ("STARTUP.pump_start",),
        "flow_proven",
        lambda f, t: f.flow_proven and f.elapsed_s >= t.pump_start_hold_s,
        _said("flow proven"),
    ),
    Rule(
        ("STARTUP.pump_start",),
        "abort",
        lambda f, t: f.pumps_failed or f.elapsed_s > t.pump_start_hold_s + t.pump_prove_s + t.flow_prove_max_s,
        _said("no flow"),
    ),
    Rule(("STARTUP.primary_start",), "primary_proven", lambda f, _: f.primary_proven, _said("facility water runs")),
    Rule(
        ("STARTUP.primary_start",),
        "abort",
        lambda f, t: f.elapsed_s > t.primary_prove_max_s,
        _said("facility water or chiller not proven"),
    ),
    Rule(("STARTUP.proving",), "ready", lambda f, _: f.ready, _said("loop ready")),
    Rule(("STARTUP.proving",), "abort", lambda f, t: f.elapsed_s > t.ready_max_s, _said("loop did not become ready")),
    Rule(("STARTUP.energise",), "energised", lambda f, _: f.racks_pending == 0, _said("all racks on")),
    Rule(("STARTUP.energise",), "energised", lambda f, t: f.elapsed_s > t.energise_max_s, _said("some racks stay off")),
    Rule(("COOLDOWN",), "cooled", lambda f, _: f.cooled, _said("heat removed")),
)


class _Mode(NestedState):
    separator = "."


class _Machine(HierarchicalMachine):
    state_cls = _Mode


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of mode, as logged and published."""

    source: str
    dest: str
    cause: str
    at: float


class Modes:
    """The pod's mode. ``step`` fires at most one transition a scan."""

    state: str

    def __init__(self, now: float, saved: str = "") -> None:
        """Start in OFF, or in ``saved`` where that is a state a restart must not leave by itself."""
        self._machine = _Machine(
            model=self,
            states=STATES,
            initial=saved if saved in KEPT else OFF,
            transitions=[{"trigger": t, "source": s, "dest": d} for t, s, d in TRANSITIONS],
            auto_transitions=False,
            send_event=False,
        )
        self.since = now
        self.cause = "controller started"

    def step(self, facts: Facts, times: StartupTimes, now: float) -> Transition | None:
        """Fire the first rule that holds in this mode; return the transition, or None."""
        for rule in RULES:
            if self.state in rule.modes and rule.when(facts, times):
                source, self.cause = self.state, rule.cause(facts)
                getattr(self, rule.trigger)()
                self.since = now
                return Transition(source, self.state, self.cause, now)
        return None


def table() -> Sequence[tuple[str, str, str]]:
    """Return every (source, trigger, dest) of the transition table, for the docs."""
    return [
        (one, trigger, dest)
        for trigger, source, dest in TRANSITIONS
        for one in ([source] if isinstance(source, str) else source)
    ]
