"""Charts of verdicts: the observed trajectory against the allowed band, and the same figure layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from markupsafe import Markup

from geomcheck.checkpoints.weights import Layers, describe
from geomcheck.diagnostics import load_metrics
from geomcheck.report.charts.axis import Axis, spanning
from geomcheck.report.charts.chart import (
    HEIGHT,
    Chart,
    Dot,
    Line,
    Shade,
    Zone,
    draw,
    horizontal,
    roomy,
    step_axis,
    vertical,
)
from geomcheck.report.charts.numbers import Form
from geomcheck.report.charts.style import PAGE, Style, of_run
from geomcheck.report.facts import Judged, by_group, grouped, known
from geomcheck.suite.conditions.wording import between
from geomcheck.suite.verdict import Facts, ObservedFacts

GROUPS_DRAWN = 8
BESIDE: tuple[tuple[Literal["reference", "random"], str], ...] = (("reference", "reference"), ("random", "best random"))
"""What a figure may be drawn beside, with its label."""

LOW = 160
"""Height of the chart by layer."""

MANY_LAYERS = 16
"""Layers above which the ranges of good runs are drawn as one area."""


def trajectory(judged: Judged, form: Form, title: str, style: Style = PAGE, name: str = "this run") -> Markup:
    """The figure at every checkpoint against what was demanded; judged checkpoints are marked."""
    facts = judged.facts
    groups = by_group(judged.whole or facts["observed"])
    drawn = _worst_groups(groups, facts)
    layers = Layers(describe(group, (2, 2)) for group in drawn if group and facts["per"] == "weight")
    lines = [_line(group, groups[group], facts, form, _label(group, facts["per"], layers, name)) for group in drawn]
    lines = lines[::-1] + (_beside(facts, form) if len(groups) == 1 else [])
    shades = [_envelope(groups, facts["per"])] if len(groups) > len(drawn) else []
    return _drawn(facts, form, title, lines, shades, style)


def overlaid(runs: Sequence[tuple[int, str, Judged]], form: Form, title: str) -> Markup:
    """The same expectation of several runs, each with its place among all runs and its name: of groups the decisive."""
    lines = []
    for place, name, judged in runs:
        groups = by_group(judged.whole or judged.facts["observed"])
        for group in _worst_groups(groups, judged.facts)[:1]:
            line = _line(group, groups[group], judged.facts, form, f"{name}, {group}" if group else name)
            lines.append(replace(line, style=of_run(place), run=place))
    facts = max((judged.facts for _, _, judged in runs), key=lambda facts: len(facts["observed"]))
    return _drawn(facts, form, title, lines, (), PAGE)


def _drawn(
    facts: Facts, form: Form, title: str, lines: Sequence[Line], shades: Sequence[Shade], style: Style
) -> Markup:
    shades = [*shades, *_own_bands(facts)]
    x, ticks = step_axis(sorted({dot.x for line in lines for dot in line.dots}) or [0])
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    zones, limits = _allowed(facts, form), _limits(facts)
    y = _axis(limits, values, zones)
    return draw(Chart(title, x, y, form, ticks, lines, shades, zones, "training step", limits=limits), style)


def _limits(facts: Facts) -> tuple[float | None, float | None]:
    metric = load_metrics().get(facts["metric"])
    low, high = metric.range(facts["params"]) if metric else (None, None)
    return low, None if high is None or math.isinf(high) else high


def _axis(
    limits: tuple[float | None, float | None], values: Sequence[float], zones: Sequence[Zone], height: int = HEIGHT
) -> Axis:
    bounds = [bound for zone in zones for bound in (zone.low, zone.high) if bound is not None]
    return spanning([*values, *bounds], floor=limits[0], ceiling=limits[1], along=vertical(height))


def _allowed(facts: Facts, form: Form) -> list[Zone]:
    """The area that is allowed at every checkpoint."""
    drawn = facts["drawn"]
    if drawn is None:
        return []
    words = drawn["words"] or between((drawn["low"], drawn["high"]), form)
    return [Zone(drawn["low"], drawn["high"], "allowed", "allowed", f"allowed: {words}")]


def _own_bands(facts: Facts) -> list[Shade]:
    """The area that is allowed, where every checkpoint has a band of its own."""
    points = sorted({(float(e["step"]), e["low"], e["high"]) for e in facts["observed"] if "low" in e})
    return [Shade(points, "allowed", "allowed")] if points else []


def _worst_groups(groups: Mapping[str | None, Sequence[ObservedFacts]], facts: Facts) -> list[str | None]:
    """The groups to draw: the one that decided, then those with most points outside."""

    def rank(group: str | None) -> tuple[bool, int]:
        return group != _decisive_group(facts), -sum(entry["holds"] is False for entry in groups[group])

    return sorted(groups, key=rank)[: GROUPS_DRAWN if len(groups) <= GROUPS_DRAWN else 1]


def _envelope(groups: Mapping[str | None, Sequence[ObservedFacts]], per: str) -> Shade:
    """From the lowest to the highest group at each step."""
    entries = (entry for found in groups.values() for entry in found)
    by_step = grouped((float(entry["step"]), value) for entry, value in known(entries))
    return Shade([(step, min(found), max(found)) for step, found in sorted(by_step.items())], label=f"every {per}")


def _line(group: str | None, entries: Sequence[ObservedFacts], facts: Facts, form: Form, label: str) -> Line:
    judged = {(e["group"], e["step"]): e["holds"] for e in facts["observed"]}
    own = f"{group}, " if group else ""
    words = {True: ": holds", False: ": violated", None: " (not judged)"}
    dots = []
    for entry, value in known(entries):
        step, holds = entry["step"], judged.get((group, entry["step"]))
        dots.append(Dot(float(step), value, f"{own}step {step:,}: {form.show(value)}{words[holds]}", holds))
    return Line(dots, label, "own" if group == _decisive_group(facts) else "other")


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


def _label(group: str | None, per: str, layers: Layers, name: str) -> str:
    """What a line is called: a weight by its layer and module."""
    if group is None:
        return name
    if per != "weight":
        return group
    weight = describe(group, ())
    return weight.module if weight.layer is None else f"{layers.number(weight)} · {weight.module}"


def by_layer(judged: Judged, form: Form, title: str, name: str = "this run", run: int | None = None) -> Markup | None:
    """The figure of each layer at the step that decided, and where good runs have it; the band of the whole run is none
    of theirs."""
    facts, decisive = judged.facts, judged.facts["decisive"]
    at = known(entry for entry in judged.layers if decisive and entry["step"] == decisive["step"])
    if decisive is None or len(at) < 2:
        return None
    names = [str(entry["group"]) for entry, _ in at]
    dots = [Dot(float(i), y, f"{names[i]}: {form.show(y)}", e["holds"]) for i, (e, y) in enumerate(at)]
    normal = [(float(i), e["low"], e["high"]) for i, (e, _) in enumerate(at) if "low" in e]
    shades = [Shade(normal, "normal", "normal in good runs", len(at) > MANY_LAYERS, run)] if normal else []
    limits = _limits(facts)
    y = _axis(limits, [*(dot.y for dot in dots), *(end for _, low, high in normal for end in (low, high))], (), LOW)
    x = horizontal(0, len(at) - 1)
    ticks = roomy(x, ((float(i), label.removeprefix("layer ")) for i, label in enumerate(names)))
    lines = [Line(dots, name, "own" if run is None else of_run(run), joined=False, run=run)]
    title, below = f"{title} by layer at step {decisive['step']}", f"layer, at step {decisive['step']:,}"
    return draw(Chart(title, x, y, form, ticks, lines, shades, (), below, LOW, "", names, limits=limits))
