"""How much power IT may draw now."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limit:
    """A cap that somebody asks for: on the whole pod, or on one rack. ``cause`` is what people read."""

    cause: str
    kw: float
    rack: str = ""
