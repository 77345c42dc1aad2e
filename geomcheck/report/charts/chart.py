"""Charts as SVG: thin axes, direct labels at the right edge, marks that differ in shape as well as in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from geomcheck.report.charts.axis import Axis
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE, Style

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 92, 12, 36
LINE_HEIGHT = 14
TICKS = 6
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
    """A trajectory with a label at its end; `style` is one of the classes that a `Style` knows."""

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
class Zone:
    """The area between two levels; one that is None reaches the edge of the drawing."""

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
    zones: Sequence[Zone] = ()
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


def step_axis(steps: Sequence[float]) -> tuple[Axis, list[tuple[float, str]]]:
    """An axis over checkpoints, with their steps as ticks as far as there is room."""
    last = len(steps) - 1
    chosen = steps if len(steps) <= TICKS else [steps[round(i * last / (TICKS - 1))] for i in range(TICKS)]
    return horizontal(steps[0], steps[-1]), [(float(step), f"{round(step, 1):,}".removesuffix(".0")) for step in chosen]


def draw(chart: Chart, style: Style = PAGE, over: Sequence[Markup] = ()) -> Markup:
    """The chart as an ``<svg>`` that scales to its container, with the elements `over` on top."""
    parts = [_zone(chart, zone, style) for zone in chart.zones if not _beyond(chart.y, zone)]
    parts += _axes(chart, style)
    parts += [_shade(chart, shade, style) for shade in chart.shades]
    parts += [_line(chart, line, style) for line in chart.lines]
    return style.drawing(chart.title, WIDTH, chart.height, [*parts, *_labels(chart, style), *over])


def _edges(chart: Chart, zone: Zone) -> tuple[float, float]:
    """Where a zone starts and ends, from the top."""
    bottom = chart.height - BOTTOM if zone.low is None else chart.y.place(zone.low)
    return TOP if zone.high is None else chart.y.place(zone.high), bottom


def _zone(chart: Chart, zone: Zone, style: Style) -> Markup:
    top, bottom = _edges(chart, zone)
    height = max(bottom - top, 1.5)
    y, width = round(min(top, bottom - height), 1), WIDTH - LEFT - RIGHT
    return style.element("rect", f"band {zone.style}", zone.tip, x=LEFT, y=y, width=width, height=round(height, 1))


def _axes(chart: Chart, style: Style) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, chart.height - BOTTOM
    parts = []
    ticks = chart.y.ticks(6 if chart.height == HEIGHT else 4)
    digits = next((d for d in range(3, 8) if len({chart.form.show(v, d) for v in ticks}) == len(ticks)), 8)
    for value in ticks:
        y = chart.y.place(value)
        parts.append(style.element("line", "grid", x1=LEFT, x2=right, y1=y, y2=y))
        parts.append(_text(style, LEFT - 7, y + 4, chart.form.show(value, digits), "tick end"))
    parts.append(style.element("line", "axis", x1=LEFT, x2=right, y1=bottom, y2=bottom))
    parts += [_text(style, chart.x.place(x), bottom + 15, label, "tick middle") for x, label in chart.ticks]
    return [*parts, _text(style, (LEFT + right) / 2, chart.height - 4, chart.below, "tick middle name")]


def _shade(chart: Chart, shade: Shade, style: Style) -> Markup:
    upper = [f"{chart.x.place(x)},{chart.y.place(high)}" for x, _, high in shade.points]
    lower = [f"{chart.x.place(x)},{chart.y.place(low)}" for x, low, _ in reversed(shade.points)]
    return style.element("polygon", f"shade {shade.style}", points=" ".join(upper + lower))


def _line(chart: Chart, line: Line, style: Style) -> Markup:
    places = [(chart.x.place(dot.x), chart.y.place(dot.y), dot) for dot in line.dots]
    path = " ".join(f"{x},{y}" for x, y, _ in places)
    drawn = style.element("polyline", f"line {line.style}", points=path) if line.joined else Markup("")
    if len(places) > MANY and all(dot.holds is None for dot in line.dots):
        return drawn
    return drawn + Markup("").join(_mark(x, y, dot, line, style) for x, y, dot in places)


def _mark(x: float, y: float, dot: Dot, line: Line, style: Style) -> Markup:
    """A cross where the figure is outside of what was demanded, a disc where it is inside, else a small ring."""
    if dot.holds is False:
        return style.element("path", "out", dot.tip, d=f"M{x - 4} {y - 4}l8 8m0 -8l-8 8")
    classes, radius = ("in", 4) if dot.holds else (f"dot {line.style}", 3)
    return style.element("circle", classes, dot.tip, cx=x, cy=y, r=radius)


def _labels(chart: Chart, style: Style) -> list[Markup]:
    """Labels of lines and zones at the right edge, pushed apart where they would collide."""
    lines = [(chart.y.place(own.dots[-1].y), own.label, own.style) for own in chart.lines if own.label and own.dots]
    zones = [(sum(_edges(chart, z)) / 2, z.label + _beyond(chart.y, z), z.style) for z in chart.zones if z.label]
    placed = spread([*lines, *zones], chart.height - BOTTOM)
    return [_text(style, WIDTH - RIGHT + 6, y + 4, label, f"label {look}") for y, label, look in placed]


def spread(wanted: list[tuple[float, str, str]], bottom: float) -> list[tuple[float, str, str]]:
    """(y, label, style) so that no two labels overlap above `bottom`, each near where it belongs."""
    placed: list[tuple[float, str, str]] = []
    for y, label, look in sorted(wanted, key=lambda entry: entry[0]):
        placed.append((max(y, placed[-1][0] + LINE_HEIGHT if placed else TOP), label, look))
    raised: list[tuple[float, str, str]] = []
    for y, label, look in reversed(placed):
        raised.append((min(y, raised[-1][0] - LINE_HEIGHT if raised else bottom), label, look))
    return raised[::-1]


def _beyond(axis: Axis, zone: Zone) -> str:
    """An arrow where the zone lies beyond the axis."""
    if zone.low is not None and zone.low > axis.high:
        return " ↑"
    return " ↓" if zone.high is not None and zone.high < axis.low else ""


def _text(style: Style, x: float, y: float, text: str, classes: str) -> Markup:
    return style.element("text", classes, "", text, x=round(x, 1), y=round(y, 1))
