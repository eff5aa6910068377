"""What the control core can't keep yet, so that runs stay green and honest: counted and printed, never hidden.

An entry that no run needs any more has to go; ``make sim`` names those that nothing has met.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = "*"


@dataclass(frozen=True, slots=True)
class Owed:
    """An invariant that fails under these kinds of faults (all of ANY), and what the core still lacks for it."""

    invariant: int
    kinds: tuple[str, ...]
    missing: str


OWED: tuple[Owed, ...] = ()


def owed(invariant: int, kinds: set[str]) -> Owed | None:
    """Return the entry that covers a violation in a run of these kinds of faults."""
    for entry in OWED:
        if entry.invariant == invariant and (ANY in entry.kinds or kinds & set(entry.kinds)):
            return entry
    return None
