"""Write the generated parts of the documentation: ``python docs/generate.py`` rewrites, ``--check`` shows the diff.

A part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. What is outside is never touched.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this tree, whatever is installed

from controller.config.plan import Plan, load_plan  # noqa: E402
from controller.config.profile import Row as Register  # noqa: E402
from controller.config.profile import load_profile  # noqa: E402
from controller.core import modes  # noqa: E402
from controller.core.alarm_states import AlarmRow  # noqa: E402
from controller.core.interlocks import Row  # noqa: E402
from controller.core.pod import Pod, alarm_rows, interlock_rows, pod_points, setpoint_rows  # noqa: E402
from controller.core.postures import EMERGENCY_OFF, POSTURES, Posture  # noqa: E402
from controller.fieldbus.admission import admitted, page  # noqa: E402
from controller.northbound.dsx import Dsx  # noqa: E402
from controller.northbound.schemas import SCHEMAS  # noqa: E402
from tests.northbound.sparkplug_claims import claims  # noqa: E402

REFERENCE = ROOT / "profiles" / "enclosures" / "reference-pod.toml"
PROFILES = ROOT / "profiles" / "devices"
MARK = re.compile(r"(<!-- generated: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LISTED_MAX = 6  # instances that an alarm line names before it only counts them
UNITS = {"Cel": "°C", "{count}": "", "{rpm}": "rpm"}


@cache
def plan() -> Plan:
    return load_plan(REFERENCE)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def code(text: str) -> str:
    return f"`{text}`"


# ---------------------------------------------------------------- architecture.md


def mode_diagram() -> str:
    """Return the transition table as a mermaid state diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {modes.OFF}"]
    for state in modes.STATES:
        if not isinstance(state, str):
            children = "\n".join(f"        {child}" for child in state["children"])
            lines += [f"    state {state['name']} {{", children, "    }"]
    edges: dict[tuple[str, str], list[str]] = {}
    for source, trigger, dest in modes.table():
        edges.setdefault((_leaf(source), _leaf(dest)), []).append(trigger)
    lines += [f"    {source} --> {dest} : {', '.join(triggers)}" for (source, dest), triggers in edges.items()]
    return "\n".join([*lines, "```", ""])


def _leaf(state: str) -> str:
    return state.rpartition(".")[2]


def rules() -> str:
    """Return the rules in the order in which a scan tries them."""
    rows = []
    for place, rule in enumerate(modes.RULES, 1):
        cause = rule.cause(modes.Facts(0.0, ("what is missing",), trip="the first trip", limited="what is not known"))
        dests = {dest for source, trigger, dest in modes.table() if trigger == rule.trigger and source in rule.modes}
        sources = ", ".join(code(mode) for mode in rule.modes)
        rows.append(
            (str(place), sources, code(rule.trigger), ", ".join(map(code, sorted(dests))), cause or "its cause")
        )
    return table(("", "In", "Trigger", "To", "Cause that is logged"), rows)


def postures() -> str:
    def row(name: str, posture: Posture) -> Sequence[str]:
        left = "as they stand"
        return name, posture.pumps or left, posture.primary or left, posture.racks or left

    rows = [row(code(mode), posture) for mode, posture in POSTURES.items()]
    rows.append(row("any, while the interlock `epo` acts", EMERGENCY_OFF))
    return table(("Mode", "TCS pumps", "Facility water (FWS pumps, chillers, valve)", "Racks"), rows)


def floors() -> str:
    """Return the layers that import-linter holds, highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    lines = []
    for contract in contracts:
        if contract["type"] == "layers":
            lines += [f"{contract['containers'][0]}", *(f"    {layer}" for layer in contract["layers"]), ""]
    return "\n".join(["```text", *lines[:-1], "```", ""])


# ---------------------------------------------------------------- operating.md


def plan_page() -> str:
    return f"```text\n{page(admitted(plan(), REFERENCE.name))}\n```\n"


def settings(name: str) -> Callable[[], str]:
    """Return what writes one settings table of the reference pod."""

    def written() -> str:
        values = getattr(plan().pod, name)
        names = [item.name for item in dataclasses.fields(values)]
        rows = [(code(f"{name}.{key}"), _setting(getattr(values, key))) for key in names]
        return table(("Setting", "Reference pod"), rows)

    return written


def _setting(value: object) -> str:
    return ", ".join(map(code, value)) if isinstance(value, tuple) else number(value)


# ---------------------------------------------------------------- alarms.md


def alarm_table() -> str:
    """Return one line for each sort of alarm: rows that differ only in the device are one line."""
    pod = plan().pod
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in alarm_rows(pod):
        line, instance = _alarm(row, pod)
        groups.setdefault(line, []).append(instance)
    return table(
        ("Alarm", "For", "Priority", "Comes when", "What it means", "What to do", "May be shelved"),
        ((line[0], _listed(instances), *line[1:]) for line, instances in groups.items()),
    )


def _alarm(row: AlarmRow, pod: Pod) -> tuple[tuple[str, ...], str]:
    device = row.point.split(".")[0]
    own = row.id.startswith(f"{device}_") and device in {*pod.device_bus, *pod.device_bus.values()}
    stand_in = "{bus}" if device in pod.device_bus.values() else "{device}"
    bus = pod.device_bus.get(device, device)

    def general(text: str) -> str:
        text = re.sub(rf"\b{device}(?![0-9])", stand_in, text) if own else text
        text = text.replace(f"`{bus}.lost`", "`{bus}.lost`") if own else text
        return re.sub(r"zone_\d+", "zone_{n}", text)

    instance = re.sub(rf"^{device}\.", "", row.point) if "zone_" in row.point else device
    cells = (
        f"`{general(row.id.replace(device, stand_in, 1) if own else row.id)}`",
        row.priority,
        general(_condition(row, pod)),
        f"{general(row.title)}. {row.consequence}",
        general(row.action),
        "at the pod only" if row.safety else "yes",
    )
    return cells, instance if own else ""


def _condition(row: AlarmRow, pod: Pod) -> str:
    unit = {**pod.points, **pod_points(pod)}[row.point].unit
    unit = UNITS.get(unit, unit)
    limit = f"{number(row.limit)} {unit}".strip()
    words = {
        "above": f"above {limit}", "below": f"below {limit}", "on": "on", "off": "off",
        "differs": f"other than {limit}", "unusable": "not known",
    }[row.test]  # fmt: skip
    text = f"`{row.point}` {words}"
    text += f" for {number(row.on_delay_s)} s" if row.on_delay_s else ""
    if row.hysteresis:
        back = float(row.limit) + (row.hysteresis if row.test == "below" else -row.hysteresis)
        text += f"; goes at {number(back)} {unit}".rstrip()
    if row.further is not None:
        text += f"; asks again beyond {number(row.further)} {unit}".rstrip()
    if row.latched:
        text += "; latched"
    if row.unless:
        text += "; not while " + (f"`{row.unless[0]}`" if len(row.unless) == 1 else "a bus it hangs on is lost")
    return text


def _listed(instances: Sequence[str]) -> str:
    names = [name for name in instances if name]
    if len(names) > LISTED_MAX:
        return f"{len(names)}: {code(names[0])} to {code(names[-1])}"
    return ", ".join(map(code, names))


# ---------------------------------------------------------------- hazards.md


@cache
def hazards() -> Mapping[str, Any]:
    """Return docs/hazards.toml."""
    return tomllib.loads((ROOT / "docs" / "hazards.toml").read_text())


def row_kind(row: str) -> str:
    """Return an interlock row's id without the number of its rack, pump or power unit."""
    return re.sub(r"_(rack|pump)_\d+$", r"_\1", re.sub(r"^pdu_\d+[a-z]_", "pdu_", row))


def row_shown(kind: str) -> str:
    return code(re.sub(r"_(rack|pump)$", r"_{\1}", re.sub(r"^pdu_", "{unit}_", kind)))


def row_kinds(fault: str = "") -> dict[str, Row]:
    """Return one row of each kind, of one class of fault or of all."""
    return {row_kind(row.id): row for row in interlock_rows(plan().pod) if fault in ("", row.fault)}


def hazard_table() -> str:
    """Return one line for each hazard."""
    rows = []
    for item in hazards()["hazard"]:
        held = ", ".join(row_shown(kind) for kind in row_kinds(item["fault"]))
        tests = ", ".join(code(name) for name in item["tests"])
        invariants = ", ".join(str(one) for one in item["invariants"])
        rows.append((item["fault"], item["hazard"], held, tests, invariants, ", ".join(item["scenarios"])))
    return table(("Class", "Hazard", "Rows", "Unit tests (`tests/`)", "Invariants", "Scenarios"), rows)


def hazard_rows() -> str:
    """Return one line for each kind of interlock row; a row without words in hazards.toml is an error."""
    limits = dataclasses.asdict(plan().pod.protection)
    rows = []
    for kind, row in row_kinds().items():
        delay = f"{row.delay_s:g} s" + (f" + {row.meltdown_s:g} s" if row.meltdown_s is not None else "")
        asks = ", ".join(f"{a.what} {a.amount:g}" if a.amount else a.what for a in row.actions)
        ends = "reset" if row.trip else f"after {row.clear_s:g} s"
        bypass = f"{row.bypass_max_s / 3600:g} h" if row.bypass_max_s else "no"
        when = hazards()["when"][kind].format(**limits)
        rows.append((row_shown(kind), str(int(row.tier)), when, delay, asks, ends, bypass))
    return table(("Row", "Tier", "Acts when", "Delay", "Asks", "Ends", "Bypass"), rows)


# ---------------------------------------------------------------- points.md


def point_tables() -> str:
    return "\n".join(_profile(path) for path in sorted(PROFILES.glob("*.toml")))


def _profile(path: Path) -> str:
    profile = load_profile(path)
    tables = profile.tables
    heading = f"## {path.stem}\n\n{tables.vendor} {tables.model}, class `{tables.device_class}`, tier {tables.tier}.\n"
    reaction = " ".join(tables.comm_loss.reaction.split())
    rows = [_point(name, row) for name, row in tables.points.items()]
    body = table(("Point", "Unit", "Register", "Access", "Rate", "Notes"), rows)
    return f"{heading}\nWhen the bus is silent: {reaction}\n\n{body}"


def _point(name: str, row: Register) -> Sequence[str]:
    register = f"{row.table} {row.address} {row.type}" + (f" bit {row.bit}" if row.bit is not None else "")
    notes = list(_notes(row))
    return code(name), row.unit, register, row.access, row.rate, "; ".join(notes)


def _notes(row: Register) -> Iterator[str]:
    if row.repeat:
        yield f"{row.repeat.count} times from n = {row.repeat.first}, step {row.repeat.step}"
    if row.safety:
        yield "safety"
    if row.range:
        yield f"{number(row.range[0])} to {number(row.range[1])}"
    if row.confidence == "uncertain":
        yield "uncertain"
    if row.description:
        yield row.description.rstrip(".")


# ---------------------------------------------------------------- commands.md


def setpoint_table() -> str:
    """Return what may be asked of the reference pod."""
    rows = []
    for row in setpoint_rows(plan().pod):
        unit = UNITS.get(row.unit, row.unit)
        outside = "nearest inside" if row.clamps else "rejected"
        slew = f"{60 * row.slew_per_s:g} {unit} a minute"
        target, unit_code = code(row.point.replace(".", "/", 1)), code(row.unit)
        rows.append((target, unit_code, f"{row.default:g}", f"{row.low:g} to {row.high:g} {unit}", outside, slew))
    return table(("Setpoint", "`unit`", "Default", "Range", "Value outside", "Slew"), rows)


# ---------------------------------------------------------------- mqtt.md, dsx.md


def schemas() -> str:
    """Return a table of the keys that each native document must have, from its schema."""
    rows = []
    for topic, schema in SCHEMAS.items():
        for key in schema["required"]:
            kind = schema["properties"][key]
            about = kind.get("description", "")
            allowed = ", ".join(code(str(value)) for value in kind.get("enum", ()))
            types = kind.get("type", "one of" if allowed else "any")
            shown = types if isinstance(types, str) else " or ".join(types)
            rows.append((code(topic), code(key), shown, allowed or about))
    return table(("Topic", "Key", "Type", "Allowed"), rows)


def dsx_objects() -> str:
    """Return what the reference pod publishes in the DSX contract, counted by object and point type."""
    counts: dict[tuple[str, str], int] = {}
    for tag in Dsx(plan()).tags:
        kind = (tag.object_type, tag.point_type)
        counts[kind] = counts.get(kind, 0) + 1
    rows = ((code(kind), code(point), str(count)) for (kind, point), count in sorted(counts.items()))
    return table(("Object", "Point type", "In the reference pod"), rows)


def sparkplug_assertions() -> str:
    """Return every tck-id of the Sparkplug specification, and what holds ours to it."""
    return table(("tck-id", "Held by"), ((code(name), how) for name, how in claims()))


# ---------------------------------------------------------------- writing

PARTS: Mapping[str, Callable[[], str]] = {
    "mode-diagram": mode_diagram,
    "rules": rules,
    "postures": postures,
    "floors": floors,
    "plan": plan_page,
    "startup": settings("startup"),
    "protection": settings("protection"),
    "alarms": alarm_table,
    "hazards": hazard_table,
    "hazard-rows": hazard_rows,
    "points": point_tables,
    "setpoints": setpoint_table,
    "schemas": schemas,
    "dsx-objects": dsx_objects,
    "sparkplug-assertions": sparkplug_assertions,
}


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def rendered(text: str) -> str:
    """Return a page with its generated parts as they should be; raises KeyError for a part nobody writes."""
    return MARK.sub(lambda match: f"{match[1]}{PARTS[match['name']]()}{match[3]}", text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 with the diff if a page is old")
    check = parser.parse_args().check
    old = 0
    for path in pages():
        text = path.read_text()
        new = rendered(text)
        if new == text:
            continue
        old += 1
        if check:
            name = str(path.relative_to(ROOT))
            sys.stdout.writelines(difflib.unified_diff(text.splitlines(True), new.splitlines(True), name, "generated"))
        else:
            path.write_text(new)
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
