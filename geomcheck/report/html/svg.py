"""Charts as SVG: thin axes, direct labels at the right edge, marks that differ in shape as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from geomcheck.report.html.axis import Axis
from geomcheck.report.html.numbers import Form

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 92, 12, 36
LINE_HEIGHT = 14
MANY = 60
"""Points on a line above which it is drawn without marks."""


@dataclass(frozen=True)
class Dot:
    """One figure. `holds` is None where nothing was demanded of it; `tip` is what hovering says."""

    x: float
    y: float
    tip: str = ""
    holds: bool | None = None


@dataclass(frozen=True)
class Line:
    """A trajectory with a label at its end; `style` is a CSS class."""

    dots: Sequence[Dot]
    label: str = ""
    style: str = "own"
    joined: bool = True


@dataclass(frozen=True)
class Shade:
    """The area between two trajectories: (x, low, high) from left to right."""

    points: Sequence[tuple[float, float, float]]
    style: str = "own"


@dataclass(frozen=True)
class Band:
    """A horizontal band; a bound that is None reaches the edge of the drawing."""

    low: float | None
    high: float | None
    label: str
    style: str
    tip: str = ""


@dataclass(frozen=True)
class Chart:
    """What a line chart shows, on given axes."""

    title: str
    x: Axis
    y: Axis
    form: Form
    ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line] = ()
    shades: Sequence[Shade] = ()
    bands: Sequence[Band] = ()
    below: str = ""
    height: int = HEIGHT


def horizontal(low: float, high: float) -> Axis:
    """The x axis of a chart; a single place is drawn in its middle."""
    if low == high:
        low, high = low - 1, high + 1
    return Axis(low, high, LEFT + 10, WIDTH - RIGHT - 8)


def vertical(height: int = HEIGHT) -> tuple[float, float]:
    """Where the y axis of a chart starts and ends."""
    return height - BOTTOM, TOP


def draw(chart: Chart) -> Markup:
    """The chart as an ``<svg>`` that scales to its container."""
    parts = [_band(chart, band) for band in chart.bands]
    parts += _axes(chart)
    parts += [_shade(chart, shade) for shade in chart.shades]
    parts += [_line(chart, line) for line in chart.lines]
    parts += _labels(chart)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, chart.height, chart.title, Markup("").join(parts)
    )


def _band(chart: Chart, band: Band) -> Markup:
    top = TOP if band.high is None else chart.y.place(band.high)
    bottom = chart.height - BOTTOM if band.low is None else chart.y.place(band.low)
    if (band.high is not None and band.high < chart.y.low) or (band.low is not None and band.low > chart.y.high):
        return Markup("")
    height = max(bottom - top, 1.5)
    return Markup('<rect class="band {}" x="{}" y="{}" width="{}" height="{}" data-tip="{}"/>').format(
        band.style, LEFT, round(min(top, bottom - height), 1), WIDTH - LEFT - RIGHT, round(height, 1), band.tip
    )


def _axes(chart: Chart) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, chart.height - BOTTOM
    parts = []
    ticks = chart.y.ticks(6 if chart.height == HEIGHT else 4)
    digits = next((d for d in range(3, 8) if len({chart.form.show(v, d) for v in ticks}) == len(ticks)), 8)
    for value in ticks:
        y = chart.y.place(value)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, right, y, y))
        parts.append(_text(LEFT - 7, y + 4, chart.form.show(value, digits), "tick end"))
    parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, right, bottom, bottom))
    for place, label in chart.ticks:
        parts.append(_text(chart.x.place(place), bottom + 15, label, "tick middle"))
    parts.append(_text((LEFT + right) / 2, chart.height - 4, chart.below, "tick middle name"))
    return parts


def _shade(chart: Chart, shade: Shade) -> Markup:
    upper = [f"{chart.x.place(x)},{chart.y.place(high)}" for x, _, high in shade.points]
    lower = [f"{chart.x.place(x)},{chart.y.place(low)}" for x, low, _ in reversed(shade.points)]
    return Markup('<polygon class="shade {}" points="{}"/>').format(shade.style, " ".join(upper + lower))


def _line(chart: Chart, line: Line) -> Markup:
    places = [(chart.x.place(dot.x), chart.y.place(dot.y), dot) for dot in line.dots]
    path = " ".join(f"{x},{y}" for x, y, _ in places)
    drawn = Markup('<polyline class="line {}" points="{}"/>').format(line.style, path) if line.joined else Markup("")
    judged = any(dot.holds is not None for dot in line.dots)
    if len(places) > MANY and not judged:
        return drawn
    return drawn + Markup("").join(mark(x, y, dot, line.style) for x, y, dot in places)


def mark(x: float, y: float, dot: Dot, style: str) -> Markup:
    """A cross where the figure is outside of what was demanded, a disc where it is inside, else a small ring."""
    if dot.holds is False:
        return Markup('<path class="out" d="M{} {}l8 8m0 -8l-8 8" data-tip="{}"/>').format(x - 4, y - 4, dot.tip)
    shape, radius = ("in", 4) if dot.holds else (f"dot {style}", 3)
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}" data-tip="{}"/>').format(shape, x, y, radius, dot.tip)


def _labels(chart: Chart) -> list[Markup]:
    """Labels of lines and bands at the right edge, pushed apart where they would collide."""
    wanted: list[tuple[float, str, str]] = []
    for line in chart.lines:
        if line.label and line.dots:
            wanted.append((chart.y.place(line.dots[-1].y), line.label, f"label {line.style}"))
    for band in chart.bands:
        if band.label:
            wanted.append((_middle(chart, band), band.label + _off(chart.y, band), f"label {band.style}"))
    return [_text(WIDTH - RIGHT + 6, y + 4, label, style) for y, label, style in spread(wanted, chart.height - BOTTOM)]


def spread(wanted: list[tuple[float, str, str]], bottom: float) -> list[tuple[float, str, str]]:
    """(y, label, style) so that no two labels overlap above `bottom`, each near where it belongs."""
    placed: list[tuple[float, str, str]] = []
    for y, label, style in sorted(wanted, key=lambda entry: entry[0]):
        y = max(y, placed[-1][0] + LINE_HEIGHT) if placed else max(y, TOP)
        placed.append((y, label, style))
    excess = max(0.0, placed[-1][0] - bottom) if placed else 0.0
    if not excess:
        return placed
    limit = bottom
    raised = []
    for y, label, style in reversed(placed):
        raised.append((min(y, limit), label, style))
        limit = raised[-1][0] - LINE_HEIGHT
    return raised[::-1]


def _middle(chart: Chart, band: Band) -> float:
    top = TOP if band.high is None else chart.y.place(band.high)
    bottom = chart.height - BOTTOM if band.low is None else chart.y.place(band.low)
    return (top + bottom) / 2


def _off(axis: Axis, band: Band) -> str:
    """An arrow where the band lies beyond the axis."""
    if band.low is not None and band.low > axis.high:
        return " ↑"
    return " ↓" if band.high is not None and band.high < axis.low else ""


def _text(x: float, y: float, text: str, style: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(style, round(x, 1), round(y, 1), text)
