"""Charts of verdicts: the observed trajectory against the allowed band, and the same figure layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.report.html.axis import Axis, spanning
from geomcheck.report.html.judged import Facts, Judged, bounds_of
from geomcheck.report.html.numbers import Form
from geomcheck.report.html.svg import HEIGHT, Band, Chart, Dot, Line, Shade, draw, horizontal, vertical
from geomcheck.report.html.trajectories import short, step_axis

GROUPS_DRAWN = 8
BESIDE = {"reference": "reference", "random": "best random"}
"""What a figure may be drawn beside, with its label."""

LOW = 160
"""Height of the chart by layer."""


def trajectory(judged: Judged, form: Form, title: str) -> Markup:
    """The figure at every checkpoint against what was demanded; judged checkpoints are marked."""
    facts = judged.facts
    entries = [entry for entry in (judged.whole or facts["observed"]) if entry["value"] is not None]
    marks = {(e["group"], e["step"]): e["holds"] for e in facts["observed"]}
    groups: dict[str | None, list[Facts]] = {}
    for entry in entries or facts["observed"]:
        groups.setdefault(entry["group"], []).append(entry)
    shown = _worst_groups(groups, facts)
    lines = [
        Line(
            [_dot(e, marks, form) for e in groups[group] if e["value"] is not None],
            _label(group, facts["per"]),
            "own" if group == _decisive_group(facts) else "other",
        )
        for group in reversed(shown)
    ]
    for name, label in BESIDE.items() if len(groups) == 1 else ():
        theirs = [(e["step"], e[name]) for e in facts["observed"] if e.get(name) is not None]
        dots = [Dot(float(step), value, f"{label}, step {step}: {form.show(value)}") for step, value in theirs]
        lines += [Line(dots, label, "null")] if dots else []
    shades = [_envelope(groups)] if len(groups) > len(shown) else []
    shades += _own_bands(facts)
    steps = sorted({entry["step"] for entry in entries}) or [0]
    x, ticks = step_axis(steps)
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    bands = [_allowed(facts, form)] if facts["drawn"] is not None else []
    y = _axis(facts, values, bands)
    return draw(Chart(f"{title}: {facts['message']}", x, y, form, ticks, lines, shades, bands, "training step"))


def _axis(facts: Facts, values: Sequence[float], bands: Sequence[Band], height: int = HEIGHT) -> Axis:
    bounds = [bound for band in bands for bound in (band.low, band.high) if bound is not None]
    metric = load_metrics().get(facts["metric"])
    low, high = metric.range(facts["params"]) if metric else (None, None)
    return spanning([*values, *bounds], floor=low, ceiling=high, along=vertical(height))


def _allowed(facts: Facts, form: Form) -> Band:
    area = facts["drawn"] or {**(bounds_of(facts) or {"low": None, "high": None}), "words": ""}
    words = area["words"] or expected(facts, form)
    return Band(area["low"], area["high"], "allowed", "allowed", f"allowed: {words}")


def _own_bands(facts: Facts) -> list[Shade]:
    """The area that is allowed, where every checkpoint has a band of its own."""
    points = sorted({(float(e["step"]), e["low"], e["high"]) for e in facts["observed"] if "low" in e})
    return [Shade(points, "allowed")] if points else []


def _worst_groups(groups: Mapping[str | None, Sequence[Facts]], facts: Facts) -> list[str | None]:
    """The groups to draw: those with most points outside."""

    def rank(group: str | None) -> tuple[bool, int]:
        return group != _decisive_group(facts), -sum(entry["holds"] is False for entry in groups[group])

    return sorted(groups, key=rank)[: GROUPS_DRAWN if len(groups) <= GROUPS_DRAWN else 1]


def _envelope(groups: Mapping[str | None, Sequence[Facts]]) -> Shade:
    """From the lowest to the highest group at each step."""
    by_step: dict[int, list[float]] = {}
    for entries in groups.values():
        for entry in entries:
            if entry["value"] is not None:
                by_step.setdefault(entry["step"], []).append(entry["value"])
    return Shade([(float(step), min(found), max(found)) for step, found in sorted(by_step.items())])


def _dot(entry: Facts, marks: Mapping[tuple[Any, Any], bool | None], form: Form) -> Dot:
    holds = marks.get((entry["group"], entry["step"]))
    group = f"{entry['group']}, " if entry["group"] else ""
    verdict = {True: ": holds", False: ": violated", None: " (not judged)"}[holds]
    return Dot(
        float(entry["step"]),
        entry["value"],
        f"{group}step {entry['step']:,}: {form.show(entry['value'])}{verdict}",
        holds,
    )


def _decisive_group(facts: Facts) -> str | None:
    return facts["decisive"]["group"] if facts["decisive"] else None


def _label(group: str | None, per: str) -> str:
    """A group's name in a margin: a weight by its layer and module."""
    if group is None:
        return "this run"
    if per == "weight":
        weight = describe(group, ())
        group = weight.module if weight.layer is None else f"{weight.layer} · {weight.module}"
    return short(group)


def by_layer(judged: Judged, form: Form, title: str) -> Markup | None:
    """The figure of each layer at the step that decided."""
    decisive = judged.facts["decisive"]
    if decisive is None:
        return None
    at = [e for e in judged.layers if e["step"] == decisive["step"] and e["value"] is not None]
    if len(at) < 2:
        return None
    dots = [Dot(float(i), e["value"], f"{e['group']}: {form.show(e['value'])}", e["holds"]) for i, e in enumerate(at)]
    labels = [str(entry["group"]).removeprefix("layer ") for entry in at]
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), 9)).round().astype(int)).tolist()
    bands = [_allowed(judged.facts, form)] if bounds_of(judged.facts) is not None else []
    y = _axis(judged.facts, [dot.y for dot in dots], bands, LOW)
    ticks = [(float(i), labels[i]) for i in chosen]
    lines = [Line(dots, joined=False)]
    name = f"{title} by layer at step {decisive['step']}"
    below = f"layer, at step {decisive['step']:,}"
    return draw(Chart(name, horizontal(0, len(at) - 1), y, form, ticks, lines, (), bands, below, LOW))


def expected(facts: Facts, form: Form) -> str:
    """The bounds of the condition in words."""
    bounds = bounds_of(facts) or {"low": None, "high": None}
    low, high = bounds["low"], bounds["high"]
    if low is not None and high is not None:
        return f"{form.show(low, 4)} to {form.show(high, 4)}"
    return f"above {form.show(low, 4)}" if high is None else f"below {form.show(high, 4)}"
