"""Charts as SVG: thin axes, marks that differ in shape as well as in colour, names at the right edge or in a legend.

In a page, a chart carries its figures as JSON in its ``<metadata>``, from which ``charts.js`` reads out single
checkpoints, moves what is drawn to another scale, and writes files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from geomcheck.report.charts.axis import HUGE, Axis
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE, Style
from geomcheck.report.safe import embedded
from geomcheck.report.text.screen import elide

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 92, 12, 36
LINE_HEIGHT = 14
CROPPED = WIDTH - RIGHT + 16
"""Width of a chart in a page, which names its lines in a legend."""
LABEL = 20
"""Characters of a name at the right edge."""
LETTER = 8
"""Width of a letter of a tick, where it is largest: on a phone."""
BAR = 14
"""Width of the bar of a shade that is not joined."""
MANY = 60
"""Points on a line above which it is drawn without marks."""


@dataclass(frozen=True)
class Dot:
    """One figure. `holds` is None where nothing was demanded of it; `tip` says it in words, on pages without script.

    `step` is its checkpoint, where `x` is not.
    """

    x: float
    y: float
    tip: str = ""
    holds: bool | None = None
    step: int | None = None


@dataclass(frozen=True)
class Line:
    """A trajectory with its name; `style` is one of the classes that a `Style` knows.

    `run` is the place of its run among those of the page, where a reader may choose runs.
    """

    dots: Sequence[Dot]
    label: str = ""
    style: str = "own"
    joined: bool = True
    run: int | None = None
    radius: int = 3


@dataclass(frozen=True)
class Shade:
    """The area between two trajectories, (x, low, high) from left to right; bars where they are not joined."""

    points: Sequence[tuple[float, float, float]]
    style: str = "own"
    label: str = ""
    joined: bool = True
    run: int | None = None


@dataclass(frozen=True)
class Zone:
    """The area between two levels; one that is None reaches the edge of the drawing.

    One that is `asked` for is drawn in a page when its name in the legend is chosen, and never sets the scale.
    """

    low: float | None
    high: float | None
    label: str
    style: str
    tip: str = ""
    asked: bool = False


@dataclass(frozen=True)
class Chart:
    """What a line chart shows, on given axes.

    Attributes:
        below: what the x axis is.
        at: what a place on it is called: ``step 1,200`` of ``step``; with `places` the names are given.
        places: names of the places 0, 1, ...
        free: whether places are points, so that a reader looks for the nearest and not for all at one x.
        limits: where figures of this kind end.
    """

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
    at: str = "step"
    places: Sequence[str] = ()
    free: bool = False
    limits: tuple[float | None, float | None] = (None, None)


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
    axis = horizontal(steps[0], steps[-1])
    return axis, roomy(axis, ((float(step), f"{round(step, 1):,}".removesuffix(".0")) for step in steps))


def roomy(axis: Axis, ticks: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """Of `ticks`, ascending, the last and all that leave room for each other."""
    kept: list[tuple[float, str]] = []
    for place, label in reversed([*ticks]):
        if kept:
            room = axis.place(kept[-1][0]) - axis.place(place)
            if room < LETTER * ((len(kept[-1][1]) + len(label)) / 2 + 1):
                continue
        kept.append((place, label))
    return kept[::-1]


def draw(chart: Chart, style: Style = PAGE, over: Sequence[Markup] = ()) -> Markup:
    """The chart as an ``<svg>`` that scales to its container, with `over` on top; in a page with its legend."""
    zones = [zone for zone in chart.zones if not (style.alone and _beyond(chart.y, zone))]
    series: list[Zone | Shade | Line] = [*zones, *chart.shades, *chart.lines]
    drawn = [_zone(chart, zone, style) for zone in zones]
    drawn += [_shade(chart, shade, style) for shade in chart.shades]
    drawn += [_line(chart, line, style) for line in chart.lines]
    axes = style.element("g", "axes", "", Markup("").join(_axes(chart, style)))
    if style.alone:
        parts = [*drawn[: len(zones)], *_axes(chart, style), *drawn[len(zones) :], *_labels(chart, style), *over]
        return style.drawing(chart.title, WIDTH, chart.height, parts)
    groups = [_group(index, own, inner) for index, (own, inner) in enumerate(zip(series, drawn, strict=True))]
    data = Markup("<metadata>{}</metadata>").format(embedded(_data(chart, series)))
    svg = style.drawing(chart.title, CROPPED, chart.height, [data, axes, *groups, *over])
    return Markup('<div class="plot">{}{}</div>').format(svg, _legend(chart, series))


def _group(index: int, own: Zone | Shade | Line, inner: Markup) -> Markup:
    asked = " off" if isinstance(own, Zone) and own.asked else ""
    return Markup('<g class="series{}" data-i="{}">{}</g>').format(asked, index, inner)


def _legend(chart: Chart, series: Sequence[Zone | Shade | Line]) -> Markup:
    """The names of what is drawn, where it is not one thing, with what it looks like: buttons, which hide and show."""
    named: dict[str, list[int]] = {}
    for index, own in enumerate(series):
        if own.label:
            named.setdefault(own.label, []).append(index)
    entries = []
    for label, places in sorted(named.items(), key=lambda entry: _turn(series[entry[1][0]])):
        own = series[places[0]]
        shown = "false" if isinstance(own, Zone) and own.asked else "true"
        beyond = _beyond(chart.y, own) if isinstance(own, Zone) else ""
        entries.append(
            Markup('<button type="button" aria-pressed="{}" data-of="{}">{}{}</button>').format(
                shown, " ".join(map(str, places)), _swatch(own), label + beyond
            )
        )
    return Markup('<p class="names">{}</p>').format(Markup(" ").join(entries)) if len(entries) > 1 else Markup()


def _turn(own: Zone | Shade | Line) -> int:
    """Lines before areas, and what is drawn when asked for at the end."""
    return 0 if isinstance(own, Line) else 1 if isinstance(own, Shade) else 3 if own.asked else 2


def _swatch(own: Zone | Shade | Line) -> Markup:
    if isinstance(own, Line) and own.joined:
        shape = PAGE.element("path", f"line {own.style}", d="M0 6h22")
    elif isinstance(own, Line):
        shape = PAGE.element("circle", f"dot {own.style}", cx=11, cy=6, r=3)
    else:
        kind = "band" if isinstance(own, Zone) else "shade"
        shape = PAGE.element("rect", f"{kind} {own.style}", x=1, y=1, width=20, height=10)
    return Markup('<svg class="swatch" viewBox="0 0 22 12" aria-hidden="true">{}</svg>').format(shape)


def _data(chart: Chart, series: Sequence[Zone | Shade | Line]) -> dict[str, Any]:
    """What the page's script needs of a chart; plain JSON types, with short keys, for there may be hundreds."""
    x, y = chart.x, chart.y
    low, high = chart.limits
    own = {"percent": chart.form.percent, "degrees": chart.form.degrees, "log": y.log, "floor": low, "ceiling": high}
    told = {key: value for key, value in own.items() if value is not None and value is not False}
    return {
        "x": {"low": _digits(x.low), "high": _digits(x.high), "name": chart.below, "at": chart.at},
        "y": {"low": y.low, "high": y.high, **told},
        "ticks": [[_digits(place), label] for place, label in chart.ticks],
        **({"places": list(chart.places)} if chart.places else {}),
        **({"free": True} if chart.free else {}),
        "series": [_figures(own) for own in series],
    }


def _figures(own: Zone | Shade | Line) -> dict[str, Any]:
    """One of what is drawn: its kind, its name, its figures."""
    of_run = {} if isinstance(own, Zone) or own.run is None else {"run": own.run}
    if isinstance(own, Zone):
        return {"kind": "zone", "name": own.label, "low": own.low, "high": own.high, "asked": own.asked}
    if isinstance(own, Shade):
        kind = "shade" if own.joined else "bars"
        return {"kind": kind, "name": own.label, **of_run, "points": [[*map(_digits, point)] for point in own.points]}
    points = [[_digits(dot.x), _digits(dot.y), *_judged(dot)] for dot in own.dots]
    return {"kind": "line", "name": own.label, **of_run, "points": points}


def _judged(dot: Dot) -> list[int | None]:
    """Whether it holds, as 1, 0 or None, and its checkpoint, where they are known."""
    holds = None if dot.holds is None else int(dot.holds)
    return [] if holds is dot.step is None else [holds] if dot.step is None else [holds, dot.step]


def _digits(value: float) -> float:
    """Enough digits for a drawing and a table; at the ends of what is drawn where it is not finite."""
    short = float(f"{min(max(value, -HUGE), HUGE):.6g}")
    return int(short) if short.is_integer() and abs(short) < HUGE else short


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
    places = [(chart.x.place(x), chart.y.place(low), chart.y.place(high)) for x, low, high in shade.points]
    if not shade.joined:
        bars = (
            style.element("rect", f"shade {shade.style}", x=x - BAR / 2, y=top, width=BAR, height=_tall(top, bottom))
            for x, bottom, top in places
        )
        return Markup("").join(bars)
    upper = [f"{x},{high}" for x, _, high in places]
    lower = [f"{x},{low}" for x, low, _ in reversed(places)]
    return style.element("polygon", f"shade {shade.style}", points=" ".join(upper + lower))


def _tall(top: float, bottom: float) -> float:
    return round(max(bottom - top, 1.5), 1)


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
        return style.element("path", "out", dot.tip, d=f"M{x - 4:g} {y - 4:g}l8 8m0-8l-8 8")
    classes, radius = ("in", 4) if dot.holds else (f"dot {line.style}", line.radius)
    return style.element("circle", classes, dot.tip, cx=x, cy=y, r=radius)


def _labels(chart: Chart, style: Style) -> list[Markup]:
    """Labels of lines and zones at the right edge, pushed apart where they would collide."""
    lines = [(chart.y.place(own.dots[-1].y), own.label, own.style) for own in chart.lines if own.label and own.dots]
    zones = [(sum(_edges(chart, z)) / 2, z.label + _beyond(chart.y, z), z.style) for z in chart.zones if z.label]
    placed = spread([*lines, *zones], chart.height - BOTTOM)
    return [
        _text(style, WIDTH - RIGHT + 6, y + 4, elide(label, LABEL, "…"), f"label {look}") for y, label, look in placed
    ]


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
