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
from geomcheck.report.charts.verdict import LABEL
from geomcheck.report.figures import Figures, Statistic
from geomcheck.report.html.metrics import plain_words, trajectories
from geomcheck.report.text.screen import elide

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


def pictures(runs: Sequence[tuple[str, Figures]]) -> list[Picture]:
    """One picture per metric that any run was measured for, then one per figure that has a null."""
    found = [[(*run, own) for run in runs if (own := run[1].of(metric)) is not None] for metric in trajectories()]
    nulls = [picture for name, figures in runs for picture in _nulls(name if len(runs) > 1 else "", figures)]
    return [*(_picture(series) for series in found if series), *nulls]


def _picture(series: Sequence[tuple[str, Figures, Statistic]]) -> Picture:
    alone = len(series) == 1
    first = series[0][2]
    levels = first.metric.levels if first.metric else ()
    shades: list[Shade] = []
    lines: list[Line] = []
    for index, (name, figures, own) in enumerate(series):
        places = [float(p.step) if alone else 100 * p.progress for p in figures.record.points]
        dots = _dots(places, figures, own, before="" if alone else f"{name}, ")
        lines.append(Line(dots, "" if alone else elide(name, LABEL, "…"), "own" if alone else f"run{index % 8}"))
        if alone and len(figures.weights) > 1:
            quartiles = zip(places, figures.quartiles(own).tolist(), strict=True)
            shaded = [(x, low, high) for x, (low, high) in quartiles if not math.isnan(low)]
            shades += [Shade(shaded)] if len(shaded) > 1 else []
    y = _axis(first, lines, shades, [p for one in levels for p in (one.low, one.high)])
    x, ticks = step_axis(series[0][1].steps) if alone else (horizontal(0, 100), PERCENT)
    below = "training step" if alone else "share of the training done"
    zones = [Zone(p.low, p.high, p.regime.upper(), _style(p), f"{p.regime.upper()}: {p.words}") for p in levels]
    chart = Chart(first.title, x, y, first.form, ticks, lines, shades, zones, below)
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


def _axis(statistic: Statistic, lines: Iterable[Line], shades: Iterable[Shade], published: Sequence[float]) -> Axis:
    """Shares that end at 1 from 0 to 1; all else as far as figures and published levels reach."""
    metric = statistic.metric
    if metric is not None and metric.high == 1.0 and metric.low == 0.0:
        return Axis(0.0, 1.0, *vertical())
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    log = True if published and min([*values, 1.0]) > 0 else None
    return spanning([*values, *published], floor=metric.low if metric else None, log=log, along=vertical())


def _nulls(name: str, figures: Figures) -> Iterable[Picture]:
    """For figures measured as an excess: the figure itself against its structureless null."""
    for excess in figures.principal():
        observed, null = (replace(excess, stat=f"{term}.{excess.stat}") for term in ("observed", "null"))
        if not figures.has(null):
            continue
        form, places = excess.form, [float(step) for step in figures.steps]
        lines = [
            Line(_dots(places, figures, statistic, after=f" ({what})"), what, style)
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


def _dots(
    places: Sequence[float], figures: Figures, statistic: Statistic, *, before: str = "", after: str = ""
) -> list[Dot]:
    return [
        Dot(x, y, f"{before}step {step}: {statistic.form.show(y)}{after}")
        for x, y, step in zip(places, figures.folded(statistic), figures.steps, strict=True)
        if not math.isnan(y)
    ]
