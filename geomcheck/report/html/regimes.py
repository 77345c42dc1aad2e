"""The regime picture: the run's path among the published profiles, support against rotation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from geomcheck.diagnostics import OPD_PAPER
from geomcheck.diagnostics.rotation import PRINCIPAL_ANGLE
from geomcheck.diagnostics.support import UPDATE_SUPPORT
from geomcheck.report.charts.axis import spanning
from geomcheck.report.charts.chart import BOTTOM, HEIGHT, Chart, Dot, Line, draw, horizontal, spread, vertical
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE
from geomcheck.report.figures import Figures
from geomcheck.report.html.trajectories import PERCENT, Picture
from geomcheck.report.text.screen import elide

SHARE, ANGLE = Form(percent=True), Form(degrees=True)


def regime_picture(runs: Sequence[tuple[str, Figures]]) -> Picture | None:
    """The picture; None where no run was measured for both figures."""
    paths = [(name, path) for name, figures in runs if (path := _path(figures))]
    if not paths:
        return None
    support, angle = ({p.regime: p for p in metric.levels} for metric in (UPDATE_SUPPORT, PRINCIPAL_ANGLE))
    tips = {r: f"{r.upper()}: {support[r].words} changed, {angle[r].words}" for r in support}
    profiles = [
        Line([Dot(100 * support[r].low, angle[r].low, tip)], r.upper(), f"profile {r}", joined=False)
        for r, tip in tips.items()
    ]
    lines = []
    for index, (name, path) in enumerate(paths):
        dots = [
            Dot(100 * x, y, f"{name}, step {step}: {SHARE.show(x)} changed, {ANGLE.show(y)}") for step, x, y in path
        ]
        lines.append(Line(dots, "", "own" if len(paths) == 1 else f"run{index % 8}"))
    values = [dot.y for line in (*profiles, *lines) for dot in line.dots]
    y = spanning([*values, 0.25], log=True, along=vertical())
    x, below = horizontal(0, 100), "share of visibly changed numbers"
    chart = Chart("Regime picture", x, y, ANGLE, PERCENT, lines, below=below)
    marks = [_profile(chart, line) for line in profiles] + _ends(chart, lines, [name for name, _ in paths])
    points = "; ".join(f"{r.upper()} {support[r].words} and {angle[r].words}" for r in support)
    return Picture(
        "regime",
        "Which training does it look like?",
        draw(chart, over=marks),
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


def _profile(chart: Chart, line: Line) -> Markup:
    (dot,) = line.dots
    x, y = chart.x.place(dot.x), chart.y.place(dot.y)
    ring = PAGE.element("circle", f"ring {line.style}", dot.tip, cx=x, cy=y, r=9)
    return ring + PAGE.element("text", f"label middle {line.style}", "", line.label, x=x, y=y - 14)


def _ends(chart: Chart, lines: Sequence[Line], names: Sequence[str]) -> list[Markup]:
    """A large dot where each path ends, with the run's name beside it."""
    ends = [(chart.x.place(line.dots[-1].x), chart.y.place(line.dots[-1].y), line) for line in lines]
    labels = spread([(y, name, line.style) for (_, y, line), name in zip(ends, names, strict=True)], HEIGHT - BOTTOM)
    beside = {style: y for y, _, style in labels}
    return [
        PAGE.element("circle", f"end {line.style}", line.dots[-1].tip, cx=x, cy=y, r=6)
        + PAGE.element("text", f"label {line.style}", "", elide(name, 22, "…"), x=x + 11, y=beside[line.style] + 4)
        for (x, y, line), name in zip(ends, names, strict=True)
    ]
