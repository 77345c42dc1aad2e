"""Trajectories as a small static SVG of its own: no script, no style sheet."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import escape

from geomcheck.report.charts.axis import spanning
from geomcheck.report.charts.chart import Chart, Dot, Line, Zone, draw, step_axis, vertical
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import ALONE, COLOURS

NUMBER = Form()

GREY = "#7b7b7b"
"""Of text and axes: an image does not know the page's colour, and this is legible on light and on dark."""

Trajectory = tuple[str, Sequence[tuple[float, float, bool]]]
"""A name, and (x, value, whether it violates a condition), ascending in x."""


def figure(
    trajectories: Sequence[Trajectory],
    *,
    title: str,
    x_label: str,
    form: Form = NUMBER,
    bounds: tuple[float | None, float | None] | None = None,
) -> str:
    """An SVG of `trajectories` against the allowed band; empty where they have no points.

    Args:
        form: how values are written.
        bounds: (low, high) of the allowed band, None for an open side.
    """
    points = [point for _, points in trajectories for point in points]
    if not points:
        return ""
    lines = [
        Line([_dot(name, *point, form) for point in points], name, f"run{index % len(COLOURS)}")
        for index, (name, points) in enumerate(trajectories)
    ]
    low, high = bounds or (None, None)
    zones = [] if low is high is None else [Zone(low, high, "", "allowed", "allowed")]
    levels = [value for _, value, _ in points] + [bound for bound in (low, high) if bound is not None]
    x, ticks = step_axis(sorted({place for place, _, _ in points}))
    return str(draw(Chart(title, x, spanning(levels, along=vertical()), form, ticks, lines, (), zones, x_label), ALONE))


def as_image(drawn: str, about: str = "") -> str:
    """The file of a figure that pages show as an image; `about` says to those who do not see it what is drawn."""
    described = f"</title>\n<desc>{escape(about)}</desc>" if about else "</title>"
    return drawn.replace("<svg ", f'<svg color="{GREY}" ', 1).replace("</title>", described, 1) + "\n"


def _dot(name: str, place: float, value: float, wrong: bool, form: Form) -> Dot:
    tip = f"{name} at {place:g}: {form.show(value)}{': outside' if wrong else ''}"
    return Dot(place, value, tip, False if wrong else None)
