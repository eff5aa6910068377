"""What docs/console.md shows is what the console says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from controller.console.session import HELP, Session, answer
from tests.console.desk import troubled

DOC = Path(__file__).parents[2] / "docs" / "console.md"
EXAMPLES = re.findall(r"^```text\n(podkeeper> .*?)\n```$", DOC.read_text(), re.MULTILINE | re.DOTALL)


def shape(text: str) -> str:
    """Return text without what changes with every edit of a profile: numbers, and the plan's revision."""
    return " ".join(re.sub(r"\d+", "0", re.sub(r"plan \w+", "plan X", text)).split())


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split("\n")[0] for example in EXAMPLES])
async def test_an_example_is_real_output(example: str) -> None:
    """One block is one session on a pod in trouble."""
    session = Session(troubled(), "console:ann")
    for typed in example.removeprefix("podkeeper> ").split("\npodkeeper> "):
        line, _, shown = typed.partition("\n")
        reply = await answer(session, line)
        for part in shown.split("\n[...]\n"):  # where the page leaves lines out
            assert shape(part) in shape(reply.text)


def test_every_verb_is_described_and_shown() -> None:
    text = DOC.read_text()
    assert len(EXAMPLES) >= 6
    for usage, _, _ in HELP.values():
        assert f"`{usage}`" in text.replace("\\|", "|")
