"""Trajectories over training: the run's mean and quartiles, beside published figures and the null."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from geomcheck.diagnostics import Level
from geomcheck.report.html.axis import Axis, spanning
from geomcheck.report.html.columns import Column, Columns
from geomcheck.report.html.numbers import Form, plain
from geomcheck.report.html.svg import Band, Chart, Dot, Line, Shade, draw, horizontal, vertical
from geomcheck.report.html.wanted import trajectories

TICKS = 6


@dataclass(frozen=True)
class Picture:
    """A chart with its words."""

    metric: str
    title: str
    svg: Markup
    shows: str
    cited: str = ""
    note: str = ""


def pictures(runs: Sequence[tuple[str, Columns]]) -> list[Picture]:
    """One picture per metric that any run was measured for, then one per figure that has a null."""
    drawn = []
    for metric in trajectories():
        found = [(name, columns, columns.of(metric)) for name, columns in runs]
        series = [(name, columns, column) for name, columns, column in found if column is not None]
        if series:
            drawn.append(_picture(series))
    return drawn + [picture for name, columns in runs for picture in _nulls(name if len(runs) > 1 else "", columns)]


def _picture(series: Sequence[tuple[str, Columns, Column]]) -> Picture:
    alone = len(series) == 1
    column = series[0][2]
    published = column.metric.published if column.metric else None
    levels = column.metric.levels if column.metric else ()
    shades: list[Shade] = []
    lines: list[Line] = []
    for index, (name, columns, own) in enumerate(series):
        places = progress(columns) if not alone else [float(step) for step in columns.steps]
        folded = own.folded()
        where = "" if alone else f"{name}, "
        dots = [
            Dot(x, y, f"{where}step {step}: {own.form.show(y)}")
            for x, y, step in zip(places, folded.tolist(), columns.steps, strict=True)
            if not math.isnan(y)
        ]
        lines.append(Line(dots, "" if alone else short(name), "own" if alone else f"run{index % 8}"))
        if alone and own.values.shape[1] > 1:
            shades += _shades(places, own.quartiles())
    y = _axis(column, lines, shades, [p for one in levels for p in (one.low, one.high)])
    x, ticks, below = _horizontal([columns for _, columns, _ in series])
    form = column.form
    bands = [Band(p.low, p.high, p.regime.upper(), _style(p), f"{p.regime.upper()}: {p.words}") for p in levels]
    chart = Chart(column.title, x, y, form, ticks, lines, shades, bands, below)
    cited = published.cited() if published else ""
    return Picture(column.request.metric, _titled(column.title), draw(chart), column.words.shows, cited)


def _style(level: Level) -> str:
    """CSS classes: a level is a line, an interval a fainter band."""
    return f"{level.regime} level" if level.low == level.high else level.regime


def _shades(places: Sequence[float], quartiles: np.ndarray) -> list[Shade]:
    points = [
        (x, float(low), float(high)) for x, (low, high) in zip(places, quartiles, strict=True) if not math.isnan(low)
    ]
    return [Shade(points)] if len(points) > 1 else []


def _axis(column: Column, lines: Iterable[Line], shades: Iterable[Shade], published: Sequence[float]) -> Axis:
    """Shares that end at 1 from 0 to 1; all else as far as figures and published levels reach."""
    if column.metric is not None and column.metric.high == 1.0 and column.metric.low == 0.0:
        return Axis(0.0, 1.0, *vertical())
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    log = True if published and min([*values, 1.0]) > 0 else None
    return spanning(
        [*values, *published], floor=column.metric.low if column.metric else None, log=log, along=vertical()
    )


def _nulls(name: str, columns: Columns) -> Iterable[Picture]:
    """For figures measured as an excess: the figure itself against its structureless null."""
    for request, stat in columns.principal():
        if not columns.has(request, f"null.{stat}"):
            continue
        excess = columns.column(request, stat)
        observed, null = (columns.column(request, f"{term}.{stat}") for term in ("observed", "null"))
        form = Form(percent=excess.form.percent, degrees=excess.form.degrees)
        places = [float(step) for step in columns.steps]
        lines = [
            Line(_dots(places, columns.steps, observed.folded().tolist(), form, "observed"), "observed", "own"),
            Line(_dots(places, columns.steps, null.folded().tolist(), form, "chance"), "chance", "null"),
        ]
        values = [dot.y for line in lines for dot in line.dots]
        x, ticks, below = _horizontal([columns])
        title = excess.metric.title if excess.metric else request.metric
        chart = Chart(title, x, spanning(values, along=vertical()), form, ticks, lines, below=below)
        last = [value for value in excess.folded().tolist() if not math.isnan(value)]
        points = f"{plain(100 * last[-1])} points" if last and form.percent else form.show(last[-1] if last else None)
        note = f"Excess over chance at the end: {points}." if last else ""
        yield Picture(
            request.metric,
            _titled(f"{title} against chance{f', {name}' if name else ''}"),
            draw(chart),
            excess.words.shows,
            "Chance: the same figure of updates of the same sizes without any structure. Where both lines lie on each "
            "other, the figure says how much changed, not where.",
            note,
        )


def _dots(places: Sequence[float], steps: Sequence[int], values: Sequence[float], form: Form, what: str) -> list[Dot]:
    return [
        Dot(x, y, f"step {step}: {form.show(y)} ({what})")
        for x, y, step in zip(places, values, steps, strict=True)
        if not math.isnan(y)
    ]


def progress(columns: Columns) -> list[float]:
    """The share of training at each checkpoint, in percent."""
    return [100 * point.progress for point in columns.record.points]


def _horizontal(runs: Sequence[Columns]) -> tuple[Axis, list[tuple[float, str]], str]:
    """The axis, its ticks and its name: steps for one run, progress for several."""
    if len(runs) == 1:
        x, ticks = step_axis(runs[0].steps)
        return x, ticks, "training step"
    return horizontal(0, 100), [(share, f"{share}%") for share in (0, 25, 50, 75, 100)], "share of the training done"


def step_axis(steps: Sequence[int]) -> tuple[Axis, list[tuple[float, str]]]:
    """An axis over checkpoints, with their steps as ticks as far as there is room."""
    chosen = steps if len(steps) <= TICKS else [steps[round(i * (len(steps) - 1) / (TICKS - 1))] for i in range(TICKS)]
    return horizontal(steps[0], steps[-1]), [(float(step), f"{step:,}") for step in chosen]


def short(name: str, length: int = 13) -> str:
    """`name` cut to fit a margin."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _titled(title: str) -> str:
    return title[:1].upper() + title[1:]
