"""Pictures of a run: lanes of what happened over trends of what was measured, as SVG to embed and PNG to send.

All pictures of a run share one time axis at the same place, so that they may be read one below the other. Names stand
beside their lines instead of in a legend. Colours are those of Okabe and Ito (2008), safe for colour-blind readers;
what a colour says is always said by a word or a shape too.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.transforms import blended_transform_factory

from hil.lanes import Lane, lanes_of
from hil.tracefile import GROUPS, Channel, Limit, Trace
from hil.trendlines import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, VERMILION, Line, lines_of

TINTS = {
    "fault": VERMILION, "trip": VERMILION, "critical": VERMILION, "startup": SKY, "normal": GREEN, "warning": ORANGE,
    "high": ORANGE, "medium": BLUE, "low": SKY, "quiet": GREY, "write": "#555555",
}  # fmt: skip
WIDTH_IN, LEFT_IN, RIGHT_IN, TOP_IN, BOTTOM_IN = 11.0, 0.95, 2.75, 0.22, 0.5
NARROW_IN = 2.05  # for names, in a picture that has another one beside it
LANE_IN, LABEL_IN, TREND_IN = 0.19, 0.165, 1.75
FONT_PT, SMALL_PT = 8.5, 7.5
APART = 0.45  # channels with a gap of more than this share of the whole range between them get pictures of their own
LEAST_SPAN = 0.04  # of the value: an axis spans no less, so that noise looks as small as it is
LIMIT_REACH, LIMIT_NEAR = (
    1.5,
    0.2,
)  # a limit further off than so many spans of the data, or so much of its value, is only told
PNG_DPI = 110
LIMIT, OFF_SCALE = "limit", "off scale"
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": FONT_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#666666",
    "axes.labelcolor": BLACK,
    "axes.linewidth": 0.7,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "text.color": BLACK,
    "path.simplify": True,
}
UNITS = {"Cel": "°C", "{count}": "count", "1": "share", "": "value"}
SPANS = ((3 * 3600.0, 3600.0, "h"), (900.0, 60.0, "min"), (0.0, 1.0, "s"))


def unit_text(unit: str) -> str:
    return UNITS.get(unit, unit)


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time that pictures show, in seconds."""

    start_s: float
    end_s: float

    @property
    def scale(self) -> tuple[float, str]:
        """Return by what seconds are divided on the axis, and the unit that gives."""
        return next((by, unit) for least, by, unit in SPANS if self.end_s - self.start_s >= least)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture: what it is called, what it shows in a sentence, and how it is drawn on axes of ``height_in``."""

    title: str
    description: str
    height_in: float
    draw: Callable[[Axes], None]
    width_in: float = WIDTH_IN


def gutter_in(width_in: float) -> float:
    """Return how much of a picture's width is for the names at its right."""
    return RIGHT_IN if width_in >= WIDTH_IN else NARROW_IN


# ---------------------------------------------------------------- text


_MEASURE: Any = RendererAgg(100, 100, 72)  # type: ignore[no-untyped-call]


def width_pt(text: str, size_pt: float) -> float:
    """Return how wide ``text`` is in points."""
    prop = FontProperties(family="DejaVu Sans", size=size_pt)
    width: float = _MEASURE.get_text_width_height_descent(text, prop, False)[0]
    return width


def fitted(text: str, room_pt: float, size_pt: float = FONT_PT) -> str:
    """Return ``text``, shortened at its end so that it takes no more than ``room_pt``."""
    if width_pt(text, size_pt) <= room_pt:
        return text
    while text and width_pt(text + "…", size_pt) > room_pt:
        text = text[:-1]
    return text.rstrip() + "…"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places near the ``wanted`` ones, in their order, ``gap`` apart or more, between ``low`` and ``high``."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    places = [0.0] * len(wanted)
    floor = low
    for index in order:
        places[index] = floor = max(wanted[index], floor)
        floor += gap
    ceiling = high
    for index in reversed(order):
        places[index] = ceiling = min(places[index], ceiling)
        ceiling -= gap
    return places


# ---------------------------------------------------------------- time and events


def _time_axis(axes: Axes, window: Window) -> None:
    by, unit = window.scale
    axes.set_xlim(window.start_s, window.end_s)
    step = _step((window.end_s - window.start_s) / by)
    first = np.ceil(window.start_s / by / step) * step
    ticks = np.arange(first, window.end_s / by + step / 1e6, step)
    axes.set_xticks(ticks * by, [f"{tick:g}" for tick in np.round(ticks, 6) + 0.0])
    axes.set_xlabel(f"time since the start of the scenario, {unit}", labelpad=2)


def _step(span: float) -> float:
    """Return a round distance of ticks, for about ten of them."""
    rough = span / 10
    power = 10 ** np.floor(np.log10(rough))
    return float(next(power * step for step in (1, 2, 5, 10) if power * step >= rough))


def _mark_events(axes: Axes, trace: Trace, window: Window) -> None:
    """Shade each fault's time and number it above the axes, as the lanes and the table do."""
    by_time: dict[float, list[str]] = {}
    shaded = window.start_s
    for number, event in sorted(enumerate(trace.events, 1), key=lambda item: item[1].t):
        end = min(window.end_s, event.until if event.until is not None else window.end_s)
        if end > shaded:
            axes.axvspan(max(event.t, shaded), end, color="#f1f1ef", linewidth=0, zorder=0)
            shaded = end
        axes.axvline(event.t, color="#777777", linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
        by_time.setdefault(event.t, []).append(str(number))
    above = blended_transform_factory(axes.transData, axes.transAxes)
    figure = axes.get_figure(root=True)
    assert figure is not None
    width = (window.end_s - window.start_s) / (axes.get_position().width * figure.get_figwidth() * 72)
    free = -np.inf
    for at, numbers in sorted(by_time.items()):
        text = ",".join(numbers)
        left = at - width * width_pt(text, SMALL_PT) / 2
        if left > free:
            axes.annotate(
                text, (at, 1), (0, 3), above, "offset points", ha="center", va="bottom", fontsize=SMALL_PT,
                weight="bold", annotation_clip=False,
            )  # fmt: skip
            free = at + width * (width_pt(text, SMALL_PT) / 2 + 4)


# ---------------------------------------------------------------- lanes


def lanes_drawing(trace: Trace, window: Window, width_in: float = WIDTH_IN) -> Drawing:
    """Return the lanes: faults, modes, interlocks, alarms, writes; one row each, its name at the right."""
    lanes = lanes_of(trace)
    count = max(1, len(lanes))
    description = (
        f"{len(trace.events)} injected faults, {len(trace.modes)} changes of mode, {len(trace.interlocks)} interlocks, "
        f"{len({alarm.id for alarm in trace.alarms})} alarms and {len(trace.writes)} writes over time. "
        "The tables below hold the same in words."
    )

    def draw(axes: Axes) -> None:
        _time_axis(axes, window)
        axes.set_ylim(count - 0.5, -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        previous = ""
        for row, lane in enumerate(lanes):
            if lane.group != previous:
                if row:
                    axes.axhline(row - 0.5, color="#bbbbbb", linewidth=0.6, xmin=-0.09, clip_on=False)
                axes.annotate(
                    lane.group, (0, row), (-LEFT_IN * 72 + 2, 0), ("axes fraction", "data"), "offset points",
                    va="center", weight="bold", annotation_clip=False,
                )  # fmt: skip
                previous = lane.group
            _lane(axes, row, lane, window, gutter_in(width_in) * 72 - 14)
        _mark_events(axes, trace, window)

    return Drawing("What happened", description, count * LANE_IN, draw, width_in)


def _lane(axes: Axes, row: int, lane: Lane, window: Window, room_pt: float) -> None:
    colour = TINTS[lane.tint]
    axes.axhline(row, color="#e4e4e4", linewidth=0.6, zorder=0)
    bars = [(start, min(end, window.end_s) - start) for start, end, _ in lane.bars]
    if bars:
        axes.broken_barh(bars, (row - 0.3, 0.6), facecolors=colour, linewidth=0, zorder=2)
    for start, _, open_end in lane.bars:
        if not open_end:
            axes.plot([start], [row], marker="|", color=BLACK, markersize=8, zorder=3)
    faint = [(start, min(end, window.end_s) - start) for start, end in lane.faint]
    if faint:
        axes.broken_barh(faint, (row - 0.18, 0.36), facecolors="white", edgecolors=colour, linewidth=0.9, zorder=2)
    for marker, times in lane.marks.items():
        axes.plot(times, [row] * len(times), linestyle="", marker=marker, color=colour, markersize=5, zorder=3)
    text = fitted(lane.label, room_pt, SMALL_PT)
    axes.annotate(
        text, (1, row), (8, 0), ("axes fraction", "data"), "offset points", va="center", fontsize=SMALL_PT,
        weight="bold" if lane.strong else "normal", annotation_clip=False,
    )  # fmt: skip


# ---------------------------------------------------------------- trends


def panels(trace: Trace) -> dict[tuple[str, str, int], list[str]]:
    """Return the names of the channels that share a picture, by group, unit and place, in the order of the groups."""
    found: dict[tuple[str, str], list[str]] = {}
    rank = {group: place for place, group in enumerate(GROUPS)}
    channels = sorted(trace.channels.items(), key=lambda item: rank.get(item[1].group, len(rank)))
    for name, channel in channels:
        if any(value is not None for value in channel.v):
            found.setdefault((channel.group, channel.unit), []).append(name)
    parts = {key: _parted(trace, names) for key, names in found.items()}
    return {(*key, place): names for key, groups in parts.items() for place, names in enumerate(groups)}


def _parted(trace: Trace, names: Sequence[str]) -> list[list[str]]:
    """Return the channels in one list, or in two where a wide gap lies between them that would flatten both."""
    reach = {name: data_extent(trace, [name]) for name in names}
    upward = sorted(names, key=lambda name: reach[name])
    low, high = reach[upward[0]][0], max(top for _, top in reach.values())
    for place in range(len(upward) - 1, 0, -1):
        below, above = upward[:place], upward[place:]
        gap = reach[above[0]][0] - max(reach[name][1] for name in below)
        if gap > APART * (high - low):
            return [[name for name in names if name in below], [name for name in names if name in above]]
    return [list(names)]


def trend_drawing(
    trace: Trace, names: Sequence[str], window: Window, extent: tuple[float, float] | None = None,
    width_in: float = WIDTH_IN,
) -> Drawing:  # fmt: skip
    """Return the trend of channels of one group and unit.

    Args:
        extent: the values that the axis spans, where it is to be the same as another picture's; else the data's.
    """
    first = trace.channels[names[0]]
    lines = lines_of({name: trace.channels[name] for name in names})
    low, high = extent or data_extent(trace, names)
    limits = [limit for limit in trace.limits if limit.channel in names]
    drawn = [limit for limit in limits if _near(limit, low, high)]
    beyond = [limit for limit in limits if limit not in drawn]
    low, high = min([low, *(limit.value for limit in drawn)]), max([high, *(limit.value for limit in drawn)])
    labels = sum(bool(line.label) for line in lines) + len({(limit.label, limit.value) for limit in limits})
    height = max(TREND_IN, (labels + 1) * LABEL_IN)
    unit = unit_text(first.unit)

    def draw(axes: Axes) -> None:
        _time_axis(axes, window)
        axes.set_ylim(*_padded(low, high))
        axes.set_ylabel(f"{first.group}, {unit}")
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6, zorder=0)
        axes.set_axisbelow(True)
        for line in lines:
            axes.plot(line.t, line.v, color=line.colour, linewidth=line.wide, zorder=2 if not line.label else 3)
        for limit in drawn:
            axes.axhline(limit.value, color=BLACK, linewidth=1.0, linestyle=_dash(limit), zorder=2)
        _mark_events(axes, trace, window)
        _label(axes, _labels(lines, drawn, beyond, unit, axes.get_ylim()), height, gutter_in(width_in) * 72 - 38)

    told = "; ".join(_told(trace.channels[name], unit) for name in names[:12])
    more = f"; and {len(names) - 12} more" if len(names) > 12 else ""
    title = f"{first.group.capitalize()}, {unit}"
    return Drawing(title, f"{told}{more}.", height, draw, width_in)


def _told(channel: Channel, unit: str) -> str:
    values = [value for value in channel.v if value is not None]
    return f"{channel.label}: {min(values):.4g} to {max(values):.4g} {unit}, at the end {values[-1]:.4g}"


def data_extent(trace: Trace, names: Sequence[str]) -> tuple[float, float]:
    """Return the least and the greatest value of these channels."""
    values = [
        value for name in names if name in trace.channels for value in trace.channels[name].v if value is not None
    ]
    return (min(values), max(values)) if values else (0.0, 1.0)


def _near(limit: Limit, low: float, high: float) -> bool:
    reach = max(LIMIT_REACH * (high - low), LIMIT_NEAR * max(abs(low), abs(high)))
    return low - reach <= limit.value <= high + reach


def _padded(low: float, high: float) -> tuple[float, float]:
    lacking = max(0.0, max(LEAST_SPAN * max(abs(low), abs(high)), 1e-3) - (high - low))
    low, high = low - lacking / 2, high + lacking / 2
    pad = 0.06 * (high - low)
    return low - pad, high + pad


def _dash(limit: Limit) -> tuple[int, tuple[int, ...]]:
    return (0, (6, 2)) if limit.severity in ("trip", "critical", "act") else (0, (2, 2))


def _labels(
    lines: Sequence[Line], drawn: Sequence[Limit], beyond: Sequence[Limit], unit: str, span: tuple[float, float]
) -> dict[tuple[str, str], float]:
    """Return text and colour of each name beside the axes, with the value it belongs to. A limit has no colour."""
    low, high = span
    wanted: dict[tuple[str, str], float] = {}
    for line in lines:
        seen = line.v[np.isfinite(line.v)]
        if line.label:
            wanted[(line.label, line.colour)] = float(seen[-1]) if len(seen) else low
    for limit in drawn:
        wanted.setdefault((f"{limit.label} {limit.value:g} {unit}", LIMIT), limit.value)
    for limit in beyond:
        arrow = "↑" if limit.value > high else "↓"
        text = f"{arrow} {limit.label} {limit.value:g} {unit}, off scale"
        wanted.setdefault((text, OFF_SCALE), min(max(limit.value, low), high))
    return wanted


def _label(axes: Axes, wanted: dict[tuple[str, str], float], height_in: float, room_pt: float) -> None:
    """Write the names at the right, moved apart where they would touch."""
    low, high = axes.get_ylim()
    height = height_in * 72
    homes = [(value - low) / (high - low) * height for value in wanted.values()]
    places = spread(homes, LABEL_IN * 72, 3.0, height - 3.0)
    for ((text, colour), value), home, place in zip(wanted.items(), homes, places, strict=True):
        lead = {"arrowstyle": "-", "linewidth": 1.1, "shrinkA": 2, "shrinkB": 2, "relpos": (0, 0.5)}
        lead |= {"color": BLACK, "linestyle": (0, (3, 2))} if colour == LIMIT else {"color": colour}
        axes.annotate(
            fitted(text, room_pt, SMALL_PT), (1, value), (28, place - home), ("axes fraction", "data"), "offset points",
            va="center", fontsize=SMALL_PT, style="italic" if colour in (LIMIT, OFF_SCALE) else "normal",
            annotation_clip=False, arrowprops=None if colour == OFF_SCALE else lead,
        )  # fmt: skip


# ---------------------------------------------------------------- rendering


def drawings(trace: Trace, window: Window | None = None) -> Iterator[Drawing]:
    """Yield every picture of a run: the lanes, then the trends."""
    window = window or Window(trace.start_s, trace.end_s)
    yield lanes_drawing(trace, window)
    for names in panels(trace).values():
        yield trend_drawing(trace, names, window)


def _figure(pictures: Sequence[Drawing], *, titled: bool) -> Figure:
    heads = 0.3 if titled else 0.0
    tall = sum(picture.height_in + TOP_IN + BOTTOM_IN + heads for picture in pictures)
    wide = pictures[0].width_in
    figure = Figure(figsize=(wide, tall))
    top = tall
    for picture in pictures:
        top -= heads
        if titled:
            figure.text(0.1 / wide, (top + 0.02) / tall, picture.title, size=FONT_PT + 2, weight="bold", va="bottom")
        bottom = top - TOP_IN - picture.height_in
        box = (LEFT_IN / wide, bottom / tall, (wide - LEFT_IN - gutter_in(wide)) / wide, picture.height_in / tall)
        picture.draw(figure.add_axes(box))
        top = bottom - BOTTOM_IN
    return figure


@contextlib.contextmanager
def styled(salt: str) -> Iterator[None]:
    """Set the house's style of pictures. ``salt`` makes the names inside an SVG the same each time."""
    with mpl.rc_context():
        for key, value in STYLE.items():
            mpl.rcParams[key] = value  # type: ignore[index]
        mpl.rcParams["svg.hashsalt"] = salt
        yield


def svg(picture: Drawing, key: str) -> str:
    """Return ``picture`` as an SVG element with title and description. ``key`` makes its ids unique in a page."""
    with styled(key):
        buffer = io.StringIO()
        _figure([picture], titled=False).savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", text)
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box[1]}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc"><title id="{key}-title">{escape(picture.title)}</title>'
        f'<desc id="{key}-desc">{escape(picture.description)}</desc>'
    )
    return head + text[text.index(">") + 1 :]


def write_png(pictures: Sequence[Drawing], path: Path, title: str) -> None:
    """Write all ``pictures``, one below the other, as one PNG."""
    with styled("png"):
        figure = _figure(pictures, titled=True)
        figure.text(0.1 / WIDTH_IN, 1.0 + 0.15 / figure.get_figheight(), title, weight="bold", size=13)
        figure.savefig(
            path, format="png", dpi=PNG_DPI, facecolor="white", bbox_inches="tight", pad_inches=0.15,
            metadata={"Software": None},
        )  # fmt: skip
