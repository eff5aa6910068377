"""What a measurement says: one figure, the bar it is held to, and whether it clears it."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
}
DIGITS = 5


class Missing(Exception):  # noqa: N818  nothing went wrong; a program is not installed
    """A program that the measurement needs is not on this machine; the text names it and its Debian package."""


@dataclass(frozen=True, slots=True)
class Result:
    """One line of output.

    Attributes:
        name: the measurement.
        params: what was measured and under which conditions; ``figure`` tells apart several figures of one measurement.
        value: the figure; None if it could not be measured.
        bar: operator and limit, such as ">= 0.98"; empty for a figure that is only shown beside others.
        detail: other figures of the same run, and how they came about.
    """

    name: str
    params: Mapping[str, Any]
    value: float | None
    bar: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        if not self.bar:
            return True
        if self.value is None:
            return False
        sign, limit = self.bar.split()
        return OPERATORS[sign](self.value, float(limit))

    def line(self) -> str:
        """Return the result as one line of JSON."""
        shown = {
            "name": self.name,
            "params": rounded(self.params),
            "value": rounded(self.value),
            "bar": self.bar,
            "ok": self.ok,
            "detail": rounded(self.detail),
        }
        return json.dumps(shown, allow_nan=False)


def rounded(value: Any) -> Any:
    """Return ``value`` with every float in it cut to five significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
