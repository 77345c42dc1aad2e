"""Trajectories over training: the run's mean and quartiles, beside published figures and the null."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from geomcheck.diagnostics import Level
from geomcheck.report.charts.axis import Axis, spanning
from geomcheck.report.charts.chart import Chart, Dot, Line, Shade, Zone, draw, horizontal, step_axis, vertical
from geomcheck.report.charts.numbers import capitalized
from geomcheck.report.charts.style import of_run
from geomcheck.report.figures import Figures, Statistic
from geomcheck.report.html.metrics import plain_words, trajectories

PERCENT: list[tuple[float, str]] = [(share, f"{share}%") for share in (0, 25, 50, 75, 100)]
"""Ticks of an axis from 0 to 100%."""


@dataclass(frozen=True)
class Picture:
    """A chart with its words."""

    metric: str
    title: str
    svg: Markup
    shows: str
    cited: str = ""
    note: str = ""


def pictures(runs: Sequence[tuple[int, str, Figures]]) -> list[Picture]:
    """One picture per metric that any run was measured for, then one per figure that has a null.

    Each run has its place among all of the page, and its name.
    """
    found = [[(*run, own) for run in runs if (own := run[2].of(metric)) is not None] for metric in trajectories()]
    nulls = [picture for _, name, figures in runs for picture in _nulls(name if len(runs) > 1 else "", figures)]
    return [*(_picture(series) for series in found if series), *nulls]


def _picture(series: Sequence[tuple[int, str, Figures, Statistic]]) -> Picture:
    alone = len(series) == 1
    first = series[0][3]
    levels = first.metric.levels if first.metric else ()
    shades: list[Shade] = []
    lines: list[Line] = []
    for index, name, figures, own in series:
        places = [float(p.step) if alone else 100 * p.progress for p in figures.record.points]
        dots = _dots(places, figures, own)
        label, style = ("mean of weights", "own") if alone else (name, of_run(index))
        lines.append(Line(dots, label, style, run=None if alone else index))
        if alone and len(figures.weights) > 1:
            quartiles = zip(places, figures.quartiles(own).tolist(), strict=True)
            shaded = [(x, low, high) for x, (low, high) in quartiles if not math.isnan(low)]
            shades += [Shade(shaded, label="middle half of them")] if len(shaded) > 1 else []
    y, limits = _axis(first, lines, shades), (first.metric.low, first.metric.high) if first.metric else (None, None)
    x, ticks = step_axis(series[0][2].steps) if alone else (horizontal(0, 100), PERCENT)
    below = "training step" if alone else "share of the training done"
    zones = [Zone(p.low, p.high, f"published: {p.regime.upper()}", _style(p), asked=True) for p in levels]
    at = "step" if alone else "%"
    chart = Chart(first.title, x, y, first.form, ticks, lines, shades, zones, below, at=at, limits=limits)
    cited = first.metric.published.cited() if first.metric and first.metric.published else ""
    return Picture(first.request.metric, capitalized(first.title), draw(chart), shows(first), cited)


def _style(level: Level) -> str:
    """CSS classes: a level is a line, an interval a fainter band."""
    return f"{level.regime} level" if level.low == level.high else level.regime


def shows(statistic: Statistic) -> str:
    """What a picture of a statistic shows, in plain words."""
    metric, title = statistic.metric, statistic.title
    definition = metric.definition if metric else "a metric of its record"
    return plain_words(statistic.request.metric, title, definition).shows


def _axis(statistic: Statistic, lines: Iterable[Line], shades: Iterable[Shade]) -> Axis:
    """Shares that end at 1 from 0 to 1; all else as far as figures reach."""
    metric = statistic.metric
    if metric is not None and metric.high == 1.0 and metric.low == 0.0:
        return Axis(0.0, 1.0, *vertical())
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    return spanning(values, floor=metric.low if metric else None, along=vertical())


def _nulls(name: str, figures: Figures) -> Iterable[Picture]:
    """For figures measured as an excess: the figure itself against its structureless null."""
    for excess in figures.principal():
        observed, null = (replace(excess, stat=f"{term}.{excess.stat}") for term in ("observed", "null"))
        if not figures.has(null):
            continue
        form, places = excess.form, [float(step) for step in figures.steps]
        lines = [
            Line(_dots(places, figures, statistic), what, style)
            for statistic, what, style in ((observed, "observed", "own"), (null, "chance", "null"))
        ]
        values = [dot.y for line in lines for dot in line.dots]
        x, ticks = step_axis(figures.steps)
        title = excess.metric.title if excess.metric else excess.request.metric
        chart = Chart(title, x, spanning(values, along=vertical()), form, ticks, lines, below="training step")
        last = [value for value in figures.folded(excess) if not math.isnan(value)]
        yield Picture(
            excess.request.metric,
            capitalized(f"{title} against chance{f', {name}' if name else ''}"),
            draw(chart),
            shows(excess),
            "Chance: the same figure of updates of the same sizes without any structure. Where both lines lie on each "
            "other, the figure says how much changed, not where.",
            f"Excess over chance at the end: {form.difference(last[-1])}." if last else "",
        )


def _dots(places: Sequence[float], figures: Figures, statistic: Statistic) -> list[Dot]:
    found = zip(places, figures.folded(statistic), figures.steps, strict=True)
    return [Dot(x, y, step=None if x == step else step) for x, y, step in found if not math.isnan(y)]
