"""The written record of a procedure: what was expected, what was seen, step by step; as JSON and as a page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from hil.report import page, sign, table

SEEN_MAX = 400  # characters of what was seen, in the record
Phase = Literal["precondition", "step", "teardown"]


@dataclass(frozen=True, slots=True)
class Step:
    phase: Phase
    text: str
    expected: str
    seen: str
    ok: bool
    at_s: float


@dataclass(slots=True)
class Journal:
    """What one procedure has done so far. ``dry``: against emulators."""

    procedure: str
    title: str
    bench: str
    dry: bool
    commit: str
    started: str
    phase: Phase = "precondition"
    steps: list[Step] = field(default_factory=list)
    _mark: float = field(default_factory=time.monotonic)

    def note(self, text: str, expected: str, seen: str, ok: bool) -> bool:
        """Keep one step and return whether it went as expected."""
        at = round(time.monotonic() - self._mark, 1)
        self.steps.append(Step(self.phase, text, expected, seen[:SEEN_MAX], ok, at))
        print(
            f"{'ok  ' if ok else 'FAIL'} {self.phase}: {text}: {seen.splitlines()[0] if seen else ''}"[:200], flush=True
        )
        return ok

    @property
    def verdict(self) -> Literal["pass", "fail"]:
        """Return pass where there were steps and each went as expected, to a clean bench."""
        done = {step.phase for step in self.steps} == {"precondition", "step", "teardown"}
        return "pass" if done and all(step.ok for step in self.steps) else "fail"

    def write(self, folder: Path) -> Path:
        """Write JSON and page into ``folder`` and return the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        document = {
            "schema": 1, "procedure": self.procedure, "title": self.title, "bench": self.bench, "dry_run": self.dry,
            "commit": self.commit, "started": self.started, "verdict": self.verdict,
            "steps": [asdict(step) for step in self.steps],
        }  # fmt: skip
        (folder / f"{self.procedure}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        path = folder / f"{self.procedure}.html"
        path.write_text(page(f"{self.procedure}: {self.verdict}", self._body()))
        return path

    def _body(self) -> str:
        devices = "emulated, a dry run" if self.dry else "real"
        facts = (
            ("Bench", self.bench), ("Devices", devices), ("Started", self.started), ("Commit", self.commit),
        )  # fmt: skip
        cells = "".join(f"<div><dt>{name}</dt><dd>{escape(text)}</dd></div>" for name, text in facts)
        heads: Sequence[str] = ("Result", "At, s", "Step", "Expected", "Seen")
        names = {"precondition": "Preconditions", "step": "Steps", "teardown": "Teardown"}
        tables = []
        for phase, name in names.items():
            rows = [
                (sign("pass" if step.ok else "fail"), f"{step.at_s:.1f}", escape(step.text), escape(step.expected),
                 escape(step.seen).replace("\n", "<br>"))
                for step in self.steps
                if step.phase == phase
            ]  # fmt: skip
            tables.append(
                f"<h2>{name}</h2>" + (table("in their order", heads, rows, (1,)) if rows else "<p>not reached</p>")
            )
        meaning = "every step as expected, bench left clean" if self.verdict == "pass" else "a step is not as expected"
        told = "✓ pass" if self.verdict == "pass" else "✗ fail"
        return (
            f"<main><header><h1>{escape(self.procedure)} · {escape(self.title)}</h1>"
            f'<div class="verdict {self.verdict}">{told}<small>{meaning}</small>'
            f'</div></header><dl class="facts">{cells}</dl>{"".join(tables)}</main>'
        )
