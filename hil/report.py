"""Reports of runs: one self-contained HTML page and one PNG for each trace, a page over all, and two side by side.

``python -m hil report TRACE.json... --out DIR`` and ``python -m hil compare A.json B.json --out FILE``. A page needs no
script, no network and no other file.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

from hil.charts import Drawing, Window, data_extent, drawings, lanes_drawing, panels, svg, trend_drawing, write_png
from hil.lanes import rank
from hil.tracefile import Check, Trace, TraceError, natural, read_trace

WRITES_SHOWN = 500  # in the table; the lanes show all
SIGNS = {"pass": "✓ pass", "fail": "✗ fail", "known": "◐ known"}
MEANING = {
    "pass": "every check holds",
    "fail": "a check does not hold",
    "known": "misses only what is known to be missing",
}
HALF_IN = 6.8  # width of one of two pictures side by side
INDEX = "index.html"
CSS = Path(__file__).with_suffix(".css")


# ---------------------------------------------------------------- pieces


def page(title: str, body: str) -> str:
    """Return a whole HTML document that loads nothing."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{CSS.read_text()}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def table(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table of cells that are HTML already. ``numbers``: columns of numbers, set to the right."""
    kinds = [' class="number"' if place in numbers else "" for place in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{text}</th>' for text, kind in zip(heads, kinds, strict=True))
    lines = [
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    ]
    return (
        f'<div class="scroll"><table><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{chr(10).join(lines)}\n</tbody></table></div>"
    )


def word_of(check: Check) -> str:
    """Return which of pass, fail and known a check is. One that passes though it is marked known is a failure."""
    if check.known:
        return "fail" if check.ok else "known"
    return "pass" if check.ok else "fail"


def sign(word: str) -> str:
    return f'<strong class="{word}">{SIGNS[word]}</strong>'


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}" if abs(value) < 1e5 else f"{value:.0f}"


def seconds(value: float) -> str:
    return f"{value:.1f}"


def shown(value: float | bool | str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    return escape(f"{value:g}" if isinstance(value, float) else value)


def figure(picture: Drawing, key: str) -> str:
    return f"<figure>\n<figcaption>{escape(picture.title)}</figcaption>\n{svg(picture, key)}\n</figure>"


def facts(trace: Trace) -> str:
    rows = [
        ("First out", trace.first_out or "none", "first"),
        ("Ran", "in real time, over real wires" if trace.body == "real" else "in virtual time", ""),
        ("Length", f"{trace.seconds:g} s", ""),
        ("Family", trace.scenario.family, ""),
        ("Enclosure", trace.enclosure, ""),
        ("Commit", trace.commit, ""),
        ("Seed", "" if trace.seed is None else str(trace.seed), ""),
    ]
    cells = (f'<div><dt>{name}</dt><dd class="{kind}">{escape(text)}</dd></div>' for name, text, kind in rows if text)
    return f'<dl class="facts">{"".join(cells)}</dl>'


def head(trace: Trace) -> str:
    scenario = trace.scenario
    return (
        f"<header><h1>{escape(scenario.id)} · {escape(scenario.name)}</h1>"
        f'<div class="verdict {trace.verdict}">{SIGNS[trace.verdict]}<small>{MEANING[trace.verdict]}</small></div>'
        f"<p>{escape(scenario.text)}</p></header>{facts(trace)}"
    )


def checks(trace: Trace) -> str:
    order = {"fail": 0, "known": 1, "pass": 2}
    rows = []
    for check in sorted(trace.checks, key=lambda item: order[word_of(item)]):
        note = ""
        if check.known:
            told = f"passes now: remove its mark, which says: {check.known}" if check.ok else f"missing: {check.known}"
            note = f'<span class="note">{escape(told)}</span>'
        rows.append((sign(word_of(check)), escape(check.text) + note, number(check.figure), escape(check.bar)))
    counts = Counter(word_of(check) for check in trace.checks)
    told = ", ".join(f"{counts[word]} {word}" for word in ("fail", "known", "pass") if counts[word]) or "none"
    return "<h2>Checks</h2>" + table(f"{told}", ("Result", "Check", "Figure", "Bar"), rows, (2,))


def words(trace: Trace) -> str:
    """Return the tables that say what the lanes show."""
    parts = []
    events = [
        (str(place), seconds(event.t), "to the end" if event.until is None else seconds(event.until),
         escape(event.fault), escape(event.target), shown(event.value), escape(event.text))
        for place, event in enumerate(trace.events, 1)
    ]  # fmt: skip
    heads = ("No.", "From, s", "Until, s", "Fault", "Target", "Value", "What it is")
    parts.append(("Injected faults", len(events), table("as numbered in the pictures", heads, events, (1, 2))))
    modes = [(seconds(change.t), escape(change.mode), escape(change.cause)) for change in trace.modes]
    parts.append(("Modes", len(modes), table("each change", ("At, s", "Mode", "Cause"), modes, (0,))))
    acts = [(seconds(item.t), escape(item.text)) for item in trace.interlocks]
    first = f"first out: {escape(trace.first_out)}" if trace.first_out else "no first-out"
    parts.append(("Interlocks", len(acts), table(first, ("At, s", "What"), acts, (0,))))
    alarms = [
        (seconds(item.t), escape(item.priority), escape(item.title), escape(item.state), escape(item.id))
        for item in sorted(trace.alarms, key=lambda item: (item.t, rank(item.priority)))
    ]
    told = table("each change of state", ("At, s", "Priority", "Alarm", "State", "Id"), alarms, (0,))
    parts.append(("Alarms", len(alarms), told))
    writes = [(seconds(item.t), escape(item.point), shown(item.value)) for item in trace.writes[:WRITES_SHOWN]]
    left = len(trace.writes) - len(writes)
    told = f"the first {WRITES_SHOWN}; {left} more are in the trace" if left > 0 else "in their order"
    parts.append(("Writes", len(trace.writes), table(told, ("At, s", "Point", "Value"), writes, (0,))))
    found = [
        f"<details{' open' if name == 'Injected faults' else ''}><summary>{name} ({count})</summary>{text}</details>"
        for name, count, text in parts
        if count
    ]
    return "<h2>In words</h2>" + "\n".join(found)


READING = (
    "<footer>How to read it: all pictures have the same time axis; 0 is when the scenario begins. Grey stretches and "
    "the numbers above them are the injected faults. Dashed black lines are limits: long dashes trip, short ones warn; "
    "a limit far from the data is named with an arrow at the right. Bars of alarms stand while the cause does, hollow "
    "ones after it is gone until somebody acknowledges. ★ is the first-out, ◆ a moment, ▲ and ▼ a switching on and "
    "off. Values are those of the plant model and of the controller on the bench, not of a real pod.</footer>"
)


# ---------------------------------------------------------------- pages


def run_page(trace: Trace) -> str:
    """Return the report of one run."""
    pictures = list(drawings(trace))
    drawn = [figure(picture, f"p{place}") for place, picture in enumerate(pictures)]
    body = [
        "<main>", head(trace), checks(trace), "<h2>Timeline</h2>", drawn[0], "<h2>Trends</h2>", *drawn[1:],
        words(trace), "</main>", READING,
    ]  # fmt: skip
    return page(f"{trace.scenario.id} {trace.scenario.name}: {trace.verdict}", "\n".join(body))


def index_page(runs: Sequence[tuple[str, Trace]]) -> str:
    """Return the page over many runs, given as file stem and trace."""
    counts = Counter(trace.verdict for _, trace in runs)
    rows = []
    for stem, trace in runs:
        missed = [check for check in trace.checks if word_of(check) != "pass"]
        told = "; ".join(
            escape(check.known or f"{check.text}: {number(check.figure)}, {check.bar}") for check in missed
        )
        name = f'<a href="{escape(stem)}.html">{escape(trace.scenario.id)}</a>'
        how = f'{trace.seconds:g} s, {trace.body} · <a href="{escape(stem)}.png">PNG</a>'
        good = f"{len(trace.checks) - len(missed)} of {len(trace.checks)}"
        rows.append(
            (sign(trace.verdict), name, escape(trace.scenario.name), escape(trace.scenario.family), good, told, how)
        )
    told = " · ".join(f"{counts[word]} {word}" for word in ("pass", "known", "fail"))
    commits = ", ".join(sorted({trace.commit for _, trace in runs if trace.commit})) or "unknown"
    heads = ("Verdict", "Id", "Scenario", "Family", "Checks", "What is missed", "Run")
    body = (
        "<main><header><h1>Scenarios of the bench</h1></header>"
        f"<p>{len(runs)} runs: {told}. Commit {escape(commits)}.</p>"
        "<p>“known” is never a pass: the run misses only what is listed as missing in the control.</p>"
        f"{table('each run; its id leads to the report', heads, rows)}</main>"
    )
    return page("Scenarios of the bench", body)


def compare_page(one: Trace, other: Trace) -> str:
    """Return two runs side by side: checks with their difference, lanes, and trends on the same axes."""
    pair = (one, other)
    titles = [
        f"{side}: {run.scenario.id}, commit {run.commit or 'unknown'}" for side, run in zip("AB", pair, strict=True)
    ]
    window = Window(min(run.start_s for run in pair), max(run.end_s for run in pair))
    verdicts = "".join(
        f"<div><h3>{escape(name)}</h3><p>{sign(run.verdict)}, {escape(run.body)} · {escape(run.scenario.name)} · "
        f"first out: {escape(run.first_out or 'none')}</p></div>"
        for name, run in zip(titles, pair, strict=True)
    )
    head = "<main><header><h1>Two runs side by side</h1></header>"
    parts = [head, f'<div class="pair">{verdicts}</div>', _check_difference(one, other)]
    lanes = [figure(lanes_drawing(run, window, HALF_IN), f"l{place}") for place, run in enumerate(pair)]
    parts += ["<h2>Timeline</h2>", f'<div class="pair">{"".join(lanes)}</div>', "<h2>Trends</h2>"]
    for row, names in enumerate(_shared_panels(one, other)):
        present = [[name for name in names if name in run.channels] for run in pair]
        extents = [data_extent(run, here) for run, here in zip(pair, present, strict=True) if here]
        extent = min(low for low, _ in extents), max(high for _, high in extents)
        cells = [
            figure(trend_drawing(run, here, window, extent, HALF_IN), f"t{row}{place}")
            if here
            else "<p>not in this run</p>"
            for place, (run, here) in enumerate(zip(pair, present, strict=True))
        ]
        parts.append(f'<div class="pair">{"".join(cells)}</div>')
    return page(f"{one.scenario.id}: two runs side by side", "\n".join(parts) + "</main>" + READING)


def _shared_panels(one: Trace, other: Trace) -> list[list[str]]:
    """Return which channels share a picture: as in the first run, then what only the second has."""
    first = list(panels(one).values())
    seen = {name for names in first for name in names}
    rest = [[name for name in names if name not in seen] for names in panels(other).values()]
    return first + [names for names in rest if names]


def _check_difference(one: Trace, other: Trace) -> str:
    sides = [{check.text: check for check in run.checks} for run in (one, other)]
    rows = []
    for text in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = sides[0].get(text), sides[1].get(text)
        bar = " → ".join(dict.fromkeys(check.bar for check in (a, b) if check))
        change = b.figure - a.figure if a and b and a.figure is not None and b.figure is not None else None
        cells = [sign(word_of(check)) if check else "not checked" for check in (a, b)]
        figures = [number(check.figure if check else None) for check in (a, b)]
        told = "–" if change is None else f"{change:+.4g}"
        rows.append((escape(text), cells[0], figures[0], cells[1], figures[1], told, escape(bar)))
    heads = ("Check", "A", "Figure of A", "B", "Figure of B", "B − A", "Bar")
    return "<h2>Checks</h2>" + table("difference of each check", heads, rows, (2, 4, 5))


# ---------------------------------------------------------------- files


def write_report(trace: Trace, stem: str, folder: Path) -> Path:
    """Write ``stem``.html and ``stem``.png into ``folder`` and return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.html"
    path.write_text(run_page(trace))
    title = f"{trace.scenario.id} · {trace.scenario.name}: {trace.verdict}"
    write_png(list(drawings(trace)), folder / f"{stem}.png", title)
    return path


def write_reports(paths: Sequence[Path], folder: Path) -> Path:
    """Write the reports of the traces at ``paths`` into ``folder`` and a page over all of them; return its path.

    Raises:
        TraceError: a trace can't be read, or two have one name.
    """
    stems = Counter(path.stem for path in paths)
    twice = [stem for stem, count in stems.items() if count > 1 or stem == Path(INDEX).stem]
    if twice:
        raise TraceError(f"{', '.join(twice)}: name taken; allowed: trace files of different names, none called index")
    runs = sorted(((path.stem, read_trace(path)) for path in paths), key=lambda run: natural(run[1].scenario.id))
    for stem, trace in runs:
        write_report(trace, stem, folder)
    index = folder / INDEX
    index.write_text(index_page(runs))
    return index


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``report`` and ``compare`` to the bench's command line."""
    report = commands.add_parser("report", help="make HTML and PNG of traces")
    report.add_argument("traces", nargs="+", type=Path, metavar="TRACE.json")
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the pages")
    report.set_defaults(run=_report)
    compare = commands.add_parser("compare", help="put two runs side by side")
    compare.add_argument("one", type=Path, metavar="A.json")
    compare.add_argument("other", type=Path, metavar="B.json")
    compare.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page to write")
    compare.set_defaults(run=_compare)


def _report(options: argparse.Namespace) -> int:
    return _told(lambda: write_reports(options.traces, options.out))


def _compare(options: argparse.Namespace) -> int:
    def write() -> Path:
        text = compare_page(read_trace(options.one), read_trace(options.other))
        out: Path = options.out
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        return out

    return _told(write)


def _told(write: Callable[[], Path]) -> int:
    try:
        print(write())
    except (TraceError, OSError) as error:
        print(f"hil: {error}", file=sys.stderr)
        return 1
    return 0
