"""Which lines a trend shows: each channel in a colour of its own, or many that are alike as one grey bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hil.tracefile import Channel, natural

BLACK, ORANGE, SKY, GREEN = "#1a1a1a", "#e69f00", "#56b4e9", "#009e73"
BLUE, VERMILION, PURPLE, GREY = "#0072b2", "#d55e00", "#cc79a7", "#9a9a9a"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
POINTS_MAX = 1_200  # of one line in a picture; the extremes of what is between them are kept
ALIKE_MIN = 4  # so many channels that differ only by their number are drawn as one bundle
STANDS_OUT = 4.0  # a member this many spreads off the bundle's middle gets a colour and its name


@dataclass(frozen=True, slots=True)
class Line:
    """One line to draw; without a ``label`` it is one of a bundle and grey."""

    label: str
    colour: str
    t: np.ndarray
    v: np.ndarray
    wide: float = 1.4


def decimated(t: Sequence[float], v: Sequence[float | None]) -> tuple[np.ndarray, np.ndarray]:
    """Return at most about POINTS_MAX samples that look the same: the extremes of each stretch, and every gap."""
    times = np.asarray(t, dtype=float)
    values = np.asarray([np.nan if value is None else value for value in v], dtype=float)
    if len(times) <= POINTS_MAX:
        return times, values
    kept: list[int] = []
    for part in np.array_split(np.arange(len(times)), POINTS_MAX // 3):
        here = values[part]
        missing = np.isnan(here)
        if missing.all():
            kept.append(int(part[0]))
            continue
        picked = {int(part[np.nanargmin(here)]), int(part[np.nanargmax(here)])}
        if missing.any():
            picked.add(int(part[np.argmax(missing)]))
        kept += sorted(picked)
    return times[kept], values[kept]


def lines_of(channels: dict[str, Channel]) -> list[Line]:
    """Return the lines of a picture: many channels alike as a grey bundle, with those that stand out named."""
    families: dict[str, list[str]] = {}
    for name in channels:
        families.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    bundles = {stem for stem, members in families.items() if len(members) >= ALIKE_MIN}
    if len(channels) > len(LINES):
        wide = max(families.values(), key=len)
        bundles |= {stem for stem, members in families.items() if members is wide and len(wide) > 2}
    lines: list[Line] = []
    named: list[str] = []
    for stem, members in families.items():
        odd = _odd_ones(channels, members) if stem in bundles else members
        for name in members:
            if name not in odd:
                lines.append(Line("", GREY, *decimated(channels[name].t, channels[name].v), wide=0.8))
        if len(odd) < len(members):
            rest = [name for name in members if name not in odd]
            lines[-1] = Line(_bundle_label(channels, rest), GREY, lines[-1].t, lines[-1].v, wide=0.8)
        named += odd
    for place, name in enumerate(sorted(named, key=natural)):
        colour = LINES[place % len(LINES)]
        lines.append(Line(channels[name].label or name, colour, *decimated(channels[name].t, channels[name].v)))
    return lines


def _bundle_label(channels: dict[str, Channel], members: Sequence[str]) -> str:
    labels = [channels[name].label or name for name in sorted(members, key=natural)]
    return f"{labels[0]} … {labels[-1]} ({len(labels)})" if len(labels) > 1 else labels[0]


def _odd_ones(channels: dict[str, Channel], members: Sequence[str]) -> list[str]:
    """Return up to three members that are far from the others at some time."""
    length = min(len(channels[name].v) for name in members)
    if not length:
        return []
    table = np.array([[np.nan if v is None else v for v in channels[name].v[:length]] for name in members], dtype=float)
    known = np.isfinite(table).any(axis=0)
    if not known.any():
        return []
    table = table[:, known]
    middle = np.nanmedian(table, axis=0)
    away = np.abs(table - middle)
    spread_now = np.nanmedian(away, axis=0) + 0.01 * np.abs(middle) + 1e-9
    score = np.nanmax(away / spread_now, axis=1)
    ranked = sorted(range(len(members)), key=lambda index: -score[index])
    return [members[index] for index in ranked[:3] if score[index] > STANDS_OUT]
