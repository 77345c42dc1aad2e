"""A history as a page: a chart per figure over the records, those that drift first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from geomcheck.files import replacing
from geomcheck.history import History, Series
from geomcheck.report.charts.axis import spanning
from geomcheck.report.charts.chart import Chart, Dot, Line, draw, horizontal, vertical
from geomcheck.report.charts.numbers import capitalized
from geomcheck.report.figures import Statistic
from geomcheck.report.html.frame import rendered
from geomcheck.report.safe import embedded
from geomcheck.report.text.history import drifts, verdict

TICKS = 8
"""Records that an axis names."""


def write_history(target: Path, found: History) -> None:
    """Write the page; the file appears under its name only when it is complete."""
    order = sorted(found.series, key=lambda one: one not in found.drifting)
    text = rendered(
        "history.html.j2",
        *("charts.js", "report.js"),
        data=embedded({"runs": [], "figures": {}, "start": ""}),
        found=found,
        said=list(verdict(found)),
        pictures=[_picture(found, one) for one in order],
    )
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")


def _picture(found: History, one: Series) -> dict[str, Any]:
    statistic = Statistic(one.request, one.metric.stat({}))
    drifting = one.drift if one in found.drifting else None
    return {
        "title": capitalized(statistic.title),
        "svg": _chart(found, one, statistic),
        "drift": drifts(one, drifting) if drifting else "",
        "shows": one.metric.plainly.shows,
    }


def _chart(found: History, one: Series, statistic: Statistic) -> Markup:
    form = statistic.form
    dots = [
        Dot(float(number), value, f"{number}, {entry.name}: {form.show(value, 4)}")
        for number, (entry, value) in enumerate(zip(found.entries, one.values, strict=True), 1)
        if value is not None
    ]
    values = [dot.y for dot in dots]
    y = spanning(values, floor=one.metric.low, along=vertical(), log=False)
    x = horizontal(1, len(found.entries))
    return draw(Chart(statistic.title, x, y, form, _ticks(len(found.entries)), [Line(dots)], below="record"))


def _ticks(count: int) -> Sequence[tuple[float, str]]:
    step = max(1, -(-count // TICKS))
    return [(float(number), str(number)) for number in range(1, count + 1, step)]
