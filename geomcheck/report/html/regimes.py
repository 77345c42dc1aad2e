"""The regime picture: the run's path among the published profiles, support against rotation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from geomcheck.diagnostics import OPD_PAPER
from geomcheck.diagnostics.rotation import PRINCIPAL_ANGLE
from geomcheck.diagnostics.support import UPDATE_SUPPORT
from geomcheck.report.charts.axis import spanning
from geomcheck.report.charts.chart import Chart, Dot, Line, draw, horizontal, vertical
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE, of_run
from geomcheck.report.figures import Figures
from geomcheck.report.html.trajectories import PERCENT, Picture

ANGLE = Form(degrees=True)


def regime_picture(runs: Sequence[tuple[int, str, Figures]]) -> Picture | None:
    """The picture; None where no run was measured for both figures."""
    paths = [(place, name, path) for place, name, figures in runs if (path := _path(figures))]
    if not paths:
        return None
    support, angle = ({p.regime: p for p in metric.levels} for metric in (UPDATE_SUPPORT, PRINCIPAL_ANGLE))
    profiles = [
        Line([Dot(100 * support[r].low, angle[r].low)], f"published: {r.upper()}", f"profile {r}", False, radius=9)
        for r in support
    ]
    lines = []
    for place, name, path in paths:
        dots = [Dot(100 * x, y, step=step) for step, x, y in path]
        style, run = ("own", None) if len(paths) == 1 else (of_run(place), place)
        lines.append(Line(dots, name, style, run=run))
        lines.append(Line(dots[-1:], name, f"end {style}", False, run, radius=6))
    values = [dot.y for line in (*profiles, *lines) for dot in line.dots]
    y = spanning([*values, 0.25], log=True, along=vertical())
    x, below = horizontal(0, 100), "share of visibly changed numbers"
    chart = Chart("Regime picture", x, y, ANGLE, PERCENT, [*lines, *profiles], below=below, at="%", free=True)
    names = [_name(chart, line, regime) for line, regime in zip(profiles, support, strict=True)]
    points = "; ".join(f"{r.upper()} {support[r].words} and {angle[r].words}" for r in support)
    return Picture(
        "regime",
        "Which training does it look like?",
        draw(chart, over=names),
        "Each ring is a published kind of training, placed by how many numbers it changes (across) and how far it "
        "turns the main directions of the weights (up, each line a factor). The path is this run, from its first "
        "checkpoint to its last (large dot).",
        f"Published points ({OPD_PAPER}): {points}. On other models the order of the methods is known to differ: "
        "this is a comparison with that model, not a law.",
    )


def _path(figures: Figures) -> list[tuple[int, float, float]]:
    """(step, support, median angle) of the run at each checkpoint that has both, angles above 0."""
    support, angle = figures.of("update_support"), figures.of("principal_angle")
    if support is None or angle is None:
        return []
    found = zip(figures.steps, figures.folded(support), figures.folded(angle), strict=True)
    return [(step, x, y) for step, x, y in found if not math.isnan(x) and y > 0]


def _name(chart: Chart, line: Line, regime: str) -> Markup:
    x, y = chart.x.place(line.dots[0].x), chart.y.place(line.dots[0].y)
    return PAGE.element("text", f"label middle {regime}", "", regime.upper(), x=x, y=y - 14)
