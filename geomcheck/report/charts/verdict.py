"""Charts of verdicts: the observed trajectory against the allowed band, and the same figure layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from markupsafe import Markup

from geomcheck.checkpoints.weights import Layers, describe
from geomcheck.diagnostics import load_metrics
from geomcheck.report.charts.axis import Axis, spanning
from geomcheck.report.charts.chart import HEIGHT, Chart, Dot, Line, Shade, Zone, draw, horizontal, step_axis, vertical
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE, Style
from geomcheck.report.facts import Judged, by_group, grouped, known
from geomcheck.report.text.screen import elide
from geomcheck.suite.verdict import Facts, ObservedFacts

GROUPS_DRAWN = 8
BESIDE: tuple[tuple[Literal["reference", "random"], str], ...] = (("reference", "reference"), ("random", "best random"))
"""What a figure may be drawn beside, with its label."""

LOW = 160
"""Height of the chart by layer."""

LABEL = 13
"""Characters of a label in the margin."""


def trajectory(judged: Judged, form: Form, title: str, style: Style = PAGE) -> Markup:
    """The figure at every checkpoint against what was demanded; judged checkpoints are marked."""
    facts = judged.facts
    groups = by_group(judged.whole or facts["observed"])
    drawn = _worst_groups(groups, facts)
    layers = Layers(describe(group, (2, 2)) for group in drawn if group and facts["per"] == "weight")
    lines = [_line(group, groups[group], facts, form, layers) for group in reversed(drawn)]
    lines += _beside(facts, form) if len(groups) == 1 else []
    shades = [_envelope(groups)] if len(groups) > len(drawn) else []
    shades += _own_bands(facts)
    steps = sorted({e["step"] for entries in groups.values() for e in entries if e["value"] is not None}) or [0]
    x, ticks = step_axis(steps)
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    zones = _allowed(facts, form)
    chart = Chart(title, x, _axis(facts, values, zones), form, ticks, lines, shades, zones, "training step")
    return draw(chart, style)


def _axis(facts: Facts, values: Sequence[float], zones: Sequence[Zone], height: int = HEIGHT) -> Axis:
    bounds = [bound for zone in zones for bound in (zone.low, zone.high) if bound is not None]
    metric = load_metrics().get(facts["metric"])
    low, high = metric.range(facts["params"]) if metric else (None, None)
    return spanning([*values, *bounds], floor=low, ceiling=high, along=vertical(height))


def _allowed(facts: Facts, form: Form) -> list[Zone]:
    """The area that is allowed at every checkpoint."""
    drawn = facts["drawn"]
    if drawn is None:
        return []
    words = drawn["words"] or expected((drawn["low"], drawn["high"]), form)
    return [Zone(drawn["low"], drawn["high"], "allowed", "allowed", f"allowed: {words}")]


def _own_bands(facts: Facts) -> list[Shade]:
    """The area that is allowed, where every checkpoint has a band of its own."""
    points = sorted({(float(e["step"]), e["low"], e["high"]) for e in facts["observed"] if "low" in e})
    return [Shade(points, "allowed")] if points else []


def _worst_groups(groups: Mapping[str | None, Sequence[ObservedFacts]], facts: Facts) -> list[str | None]:
    """The groups to draw: the one that decided, then those with most points outside."""

    def rank(group: str | None) -> tuple[bool, int]:
        return group != _decisive_group(facts), -sum(entry["holds"] is False for entry in groups[group])

    return sorted(groups, key=rank)[: GROUPS_DRAWN if len(groups) <= GROUPS_DRAWN else 1]


def _envelope(groups: Mapping[str | None, Sequence[ObservedFacts]]) -> Shade:
    """From the lowest to the highest group at each step."""
    entries = (entry for found in groups.values() for entry in found)
    by_step = grouped((entry["step"], value) for entry, value in known(entries))
    return Shade([(float(step), min(found), max(found)) for step, found in sorted(by_step.items())])


def _line(group: str | None, entries: Sequence[ObservedFacts], facts: Facts, form: Form, layers: Layers) -> Line:
    judged = {(e["group"], e["step"]): e["holds"] for e in facts["observed"]}
    own = f"{group}, " if group else ""
    words = {True: ": holds", False: ": violated", None: " (not judged)"}
    dots = []
    for entry, value in known(entries):
        step, holds = entry["step"], judged.get((group, entry["step"]))
        dots.append(Dot(float(step), value, f"{own}step {step:,}: {form.show(value)}{words[holds]}", holds))
    return Line(dots, _label(group, facts["per"], layers), "own" if group == _decisive_group(facts) else "other")


def _beside(facts: Facts, form: Form) -> list[Line]:
    """What the run is compared with, where it has a figure of its own at every checkpoint."""
    lines = []
    for name, label in BESIDE:
        theirs = [(entry["step"], entry.get(name)) for entry in facts["observed"]]
        dots = [Dot(float(step), y, f"{label}, step {step}: {form.show(y)}") for step, y in theirs if y is not None]
        lines += [Line(dots, label, "null")] if dots else []
    return lines


def _decisive_group(facts: Facts) -> str | None:
    return facts["decisive"]["group"] if facts["decisive"] else None


def _label(group: str | None, per: str, layers: Layers) -> str:
    """A group's name in a margin: a weight by its layer and module."""
    if group is None:
        return "this run"
    if per == "weight":
        weight = describe(group, ())
        group = weight.module if weight.layer is None else f"{layers.number(weight)} · {weight.module}"
    return elide(group, LABEL, "…")


def by_layer(judged: Judged, form: Form, title: str) -> Markup | None:
    """The figure of each layer at the step that decided; the band of the whole run is none of theirs."""
    facts, decisive = judged.facts, judged.facts["decisive"]
    at = known(entry for entry in judged.layers if decisive and entry["step"] == decisive["step"])
    if decisive is None or len(at) < 2:
        return None
    dots = [Dot(float(i), y, f"{e['group']}: {form.show(y)}", e["holds"]) for i, (e, y) in enumerate(at)]
    labels = [str(entry["group"]).removeprefix("layer ") for entry, _ in at]
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), 9)).round().astype(int)).tolist()
    y = _axis(facts, [dot.y for dot in dots], (), LOW)
    lines, ticks = [Line(dots, joined=False)], [(float(i), labels[i]) for i in chosen]
    name, below = f"{title} by layer at step {decisive['step']}", f"layer, at step {decisive['step']:,}"
    return draw(Chart(name, horizontal(0, len(at) - 1), y, form, ticks, lines, (), (), below, LOW))


def expected(bounds: tuple[float | None, float | None], form: Form) -> str:
    """An allowed band in words."""
    low, high = bounds
    if low is not None and high is not None:
        return f"{form.show(low, 4)} to {form.show(high, 4)}"
    return f"above {form.show(low, 4)}" if high is None else f"below {form.show(high, 4)}"
