"""From what happened to a verdict: every expectation of a scenario, and the common pass, as figures against bars."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from hil.record import BROKEN, COMMAND, RUNNING
from hil.scenarios.model import Expect, Scenario, ScenarioError
from hil.stage import Said, Stage

JUNCTION_C, MARGIN_K = 87.0, 2.0
CHILLER_WINDOW_S, PUMP_WINDOW_S = 600.0, 60.0
FLOOD_S, FLOOD_ALARMS = 10.0, 4  # the one that names the device, and three others
SCAN_MS = 100.0
LIVE_SHARE = 0.05
RISEN = 0.5  # a flag counts as risen above this


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict. ``figure`` is None where no number was measured."""

    text: str
    figure: float | None
    bar: str
    ok: bool
    known: str = ""

    @property
    def verdict(self) -> str:
        """``fail`` also for a mark that is not needed any more."""
        if self.known:
            return "fail" if self.ok else "known"
        return "pass" if self.ok else "fail"


@dataclass(frozen=True, slots=True)
class Run:
    """What a scenario left behind on its stage; ``zero`` is the stage's time at t = 0."""

    scenario: Scenario
    stage: Stage
    zero: float

    def said(self, what: Sequence[Said], start: float = 0.0, end: float = math.inf) -> Iterator[tuple[float, Any]]:
        for one in what:
            t = one.t - self.zero
            if start <= t <= end:
                yield t, one.what

    def samples(self, channel: str, start: float, end: float) -> tuple[list[float], list[float]]:
        """Return times and values of a channel.

        Raises:
            ScenarioError: this plant has no such channel.
        """
        recorder = self.stage.recorder
        if channel not in recorder.values:
            raise ScenarioError(f"no channel {channel!r}; there are: {', '.join(recorder.values)}")
        pairs = zip(recorder.times, recorder.values[channel], strict=True)
        inside = [(t - self.zero, value) for t, value in pairs if start - 1e-9 <= t - self.zero <= end + 1e-9]
        return [t for t, _ in inside], [value for _, value in inside]

    def mode_at(self, t: float) -> str:
        before = [what["mode"] for at, what in self.said(self.stage.seen.modes, -math.inf, t)]
        return before[-1] if before else ""


def verdict(checks: Sequence[Check]) -> str:
    """Return ``fail``, ``known`` or ``pass``."""
    found = {check.verdict for check in checks}
    return "fail" if "fail" in found else "known" if "known" in found else "pass"


def judged(run: Run) -> list[Check]:
    """Return every check of a run."""
    checks = [expectation(run, expect) for expect in run.scenario.expect] + list(common(run))
    return checks if run.stage.body == "virtual" else [in_real_time(check) for check in checks]


def in_real_time(check: Check) -> Check:
    """Return the check without its mark if it is met.

    In real time what is marked may be met by a second more or less; only virtual time, which is the same each time,
    tells that a mark is not needed.
    """
    return replace(check, known="") if check.ok else check


# ---------------------------------------------------------------- expectations


def bar_of(expect: Expect) -> str:
    parts = [f"at least {expect.at_least:g}"] if expect.at_least is not None else []
    parts += [f"at most {expect.at_most:g}"] if expect.at_most is not None else []
    return ", ".join(parts)


def holds(expect: Expect, figure: float) -> bool:
    least = -math.inf if expect.at_least is None else expect.at_least
    most = math.inf if expect.at_most is None else expect.at_most
    return least <= figure <= most


def expectation(run: Run, expect: Expect) -> Check:
    """Return the check of one expectation."""
    if expect.channel:
        return _of_channel(run, expect)
    if expect.starts or expect.stops:
        times = _starts(run, expect.starts) if expect.starts else _stops(run, expect.stops)
        figure = float(sum(expect.from_s <= t for t in times))
        text = expect.text or f"{'starts' if expect.starts else 'stops'} of {expect.starts or expect.stops}"
        return Check(text, figure, bar_of(expect), holds(expect, figure), expect.known)
    if expect.first_out is not None:
        found = run.stage.seen.first_out
        text = expect.text or f"first out: {expect.first_out or 'none'}"
        return Check(
            text, None, f"{expect.first_out or 'none'}, was {found or 'none'}", found == expect.first_out, expect.known
        )
    return _of_words(run, expect)


def _of_channel(run: Run, expect: Expect) -> Check:
    end = run.scenario.seconds if expect.to_s is None else expect.to_s
    times, values = run.samples(expect.channel, expect.from_s, end)
    channel = run.stage.recorder.channels[expect.channel]
    span = f" from {expect.from_s:g} to {end:g} s" if expect.from_s or expect.to_s is not None else ""
    text = expect.text or f"{channel.label}, {expect.statistic}{span}"
    if not values:
        return Check(text, None, bar_of(expect), ok=False, known=expect.known)
    figure = statistic(times, values, expect.statistic, expect.level)
    return Check(
        text, round(figure, 4), f"{bar_of(expect)} {channel.unit}".rstrip(), holds(expect, figure), expect.known
    )


def statistic(times: Sequence[float], values: Sequence[float], name: str, level: float) -> float:
    """Return one figure of samples; see ``Expect``."""
    mean = sum(values) / len(values)
    pairs = list(zip(zip(times, values, strict=True), zip(times[1:], values[1:], strict=True), strict=False))
    match name:
        case "max":
            return max(values)
        case "min":
            return min(values)
        case "peak":
            return max(map(abs, values))
        case "final":
            return values[-1]
        case "mean":
            return mean
        case "rms":
            return math.sqrt(sum(value * value for value in values) / len(values))
        case "sd":
            return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        case "integral":
            return sum((t1 - t0) * (abs(v0) + abs(v1)) / 2 for (t0, v0), (t1, v1) in pairs)
        case "rises":
            return float(sum(v0 <= RISEN < v1 for (_, v0), (_, v1) in pairs))
        case "travel":
            return sum(abs(v1 - v0) for (_, v0), (_, v1) in pairs) / 100
        case "steepest":
            return max(((v1 - v0) / (t1 - t0) for (t0, v0), (t1, v1) in pairs), default=0.0)
        case "seconds_above":
            return sum(t1 - t0 for (t0, v0), (t1, _) in pairs if v0 > level)
    raise ScenarioError(f"no statistic {name!r}")


def _of_words(run: Run, expect: Expect) -> Check:
    seen = run.stage.seen
    if expect.mode:
        sort, pattern, key, what = "mode", expect.mode, "mode", seen.modes
    elif expect.alarm:
        sort, pattern, key, what = "alarm", expect.alarm, "id", seen.alarms
    else:
        sort, pattern, key, what = "write", expect.write, "point", seen.writes
    end = run.scenario.seconds if expect.to_s is None else expect.to_s
    hits = [t for t, said in run.said(what, expect.from_s, end) if _matches(said, key, pattern, expect, sort)]
    if sort == "mode" and fnmatchcase(run.mode_at(expect.from_s), pattern):
        hits.insert(0, expect.from_s)
    took = hits[0] - expect.from_s if hits else None
    of = f"{sort} {pattern}" + ("" if expect.value is None else f" = {expect.value}")
    if expect.never:
        return Check(expect.text or f"never {of}", float(len(hits)), "at most 0 times", not hits, expect.known)
    assert expect.within_s is not None
    ok = took is not None and took <= expect.within_s
    figure = None if took is None else round(took, 2)
    return Check(expect.text or of, figure, f"within {expect.within_s:g} s", ok, expect.known)


def _matches(said: Any, key: str, pattern: str, expect: Expect, sort: str) -> bool:
    if not fnmatchcase(said[key], pattern):
        return False
    if sort == "alarm":
        return bool(said["state"] in ("UNACK", "B"))
    return sort == "mode" or expect.value is None or bool(said["value"] == expect.value)


# ---------------------------------------------------------------- the common pass


def _starts(run: Run, machine: str) -> list[float]:
    events = run.stage.record.since(run.zero, RUNNING)
    return [event.at - run.zero for event in events if fnmatchcase(event.device, machine) and event.value]


def _stops(run: Run, machine: str) -> list[float]:
    events = run.stage.record.since(run.zero, COMMAND, BROKEN)
    told = [event for event in events if event.kind == BROKEN or not event.value]
    return [event.at - run.zero for event in told if fnmatchcase(event.device, machine)]


def _most_within(times: Sequence[float], window_s: float) -> int:
    return max((sum(start <= t < start + window_s for t in times) for start in times), default=0)


def common(run: Run) -> Iterator[Check]:
    """Return the checks that every scenario has, but for those it relaxes."""
    for name, check in (
        ("junction", _junction), ("throttled", _throttled), ("condensation", _condensation),
        ("chiller_starts", _chiller_starts), ("pump_starts", _pump_starts), ("last_pump", _last_pump),
        ("scan", _scan), ("flood", _flood), ("recovery", _recovery),
    ):  # fmt: skip
        own = run.scenario.common.get(name)
        if own is not None and own.relax:
            continue
        found = check(run)
        if found is not None:
            text, figure, bar, ok = found
            yield Check(text, figure, bar, ok, own.known if own else "")


Line = tuple[str, float | None, str, bool]


def _extreme(run: Run, channel: str, name: str) -> float | None:
    if channel not in run.stage.recorder.values:
        return None
    times, values = run.samples(channel, 0.0, run.scenario.seconds)
    return statistic(times, values, name, 0.0)


def _junction(run: Run) -> Line | None:
    hottest = _extreme(run, "hottest_c", "max")
    return None if hottest is None else ("hottest junction", hottest, f"below {JUNCTION_C:g} °C", hottest < JUNCTION_C)


def _throttled(run: Run) -> Line | None:
    top, least = _extreme(run, "throttled_s", "max"), _extreme(run, "throttled_s", "min")
    if top is None or least is None:
        return None
    return "time that chips slowed down by themselves", top - least, "0 s", top - least <= 0


def _condensation(run: Run) -> Line | None:
    least = _extreme(run, "margin_k", "min")
    return None if least is None else ("condensation margin", least, f"at least {MARGIN_K:g} K", least >= MARGIN_K)


def _chiller_starts(run: Run) -> Line | None:
    most = max(
        (_most_within(_starts(run, name), CHILLER_WINDOW_S) for name in run.stage.plan.pod.fws.chillers), default=0
    )
    return "starts of one chiller in 600 s", float(most), "at most 1", most <= 1


def _pump_starts(run: Run) -> Line | None:
    pumps = (*run.stage.plan.pod.tcs.pumps, *run.stage.plan.pod.fws.pumps)
    most = max((_most_within(_starts(run, name), PUMP_WINDOW_S) for name in pumps), default=0)
    return "starts of one pump in 60 s", float(most), "at most 1", most <= 1


def _last_pump(run: Run) -> Line | None:
    """The last pump that makes flow is never told to stop while racks draw more than 5 %."""
    pumps = set(run.stage.plan.pod.tcs.pumps)
    running = {name for name in pumps if _running_at(run, name)}
    rated, wrong = run.stage.recorder.values["it_kw"], 0
    limit = LIVE_SHARE * max([*rated, 1.0])
    for event in run.stage.record.since(run.zero, RUNNING, COMMAND):
        if event.device not in pumps:
            continue
        if event.kind == RUNNING:
            (running.add if event.value else running.discard)(event.device)
        elif not event.value and running <= {event.device} and running and _at(run, "it_kw", event.at) > limit:
            wrong += 1
    return "stops of the last pump under load", float(wrong), "0", wrong == 0


def _running_at(run: Run, name: str) -> bool:
    before = [e for e in run.stage.record.events if e.kind == RUNNING and e.device == name and e.at < run.zero]
    return bool(before and before[-1].value)


def _at(run: Run, channel: str, at: float) -> float:
    times, values = run.stage.recorder.times, run.stage.recorder.values[channel]
    index = min(range(len(times)), key=lambda place: abs(times[place] - at))
    return values[index]


def _scan(run: Run) -> Line | None:
    seen = run.stage.seen
    if run.stage.body != "real":
        return None
    return "longest scan", seen.scan_ms, f"below {SCAN_MS:g} ms", seen.scan_ms < SCAN_MS


def _flood(run: Run) -> Line | None:
    raised = [t for t, said in run.said(run.stage.seen.alarms) if said["state"] in ("UNACK", "B")]
    most = _most_within(raised, FLOOD_S)
    return "alarms in 10 s", float(most), f"at most {FLOOD_ALARMS}", most <= FLOOD_ALARMS


def _recovery(run: Run) -> Line | None:
    final = run.stage.seen.mode
    return "NORMAL at the end, without an operator", None, f"NORMAL, was {final}", final == "NORMAL"
