"""Verdicts in pictures and sentences: what was expected, what was seen, since when, how far off, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.report.html.axis import Axis, spanning
from geomcheck.report.html.judged import Facts, Judged
from geomcheck.report.html.language import plain_words
from geomcheck.report.html.numbers import Form, enumerated, plain, several, symbols, times
from geomcheck.report.html.svg import HEIGHT, Band, Chart, Dot, Line, Shade, draw, horizontal, vertical
from geomcheck.report.html.trajectories import short, step_axis
from geomcheck.suite.regimes import FARTHEST

GROUPS_DRAWN = 8
ROWS = 60
LOW = 160
"""Height of the chart by layer."""

TRENDS = {
    "flat": "It should have stayed level over the training, and did not.",
    "rising": "It should have risen over the training, and did not.",
    "falling": "It should have fallen over the training, and did not.",
}
SYMBOLS = {"passed": "✓", "failed": "✕", "error": "!", "warned": "△", "info": "i"}
ORDER = ("failed", "error", "warned", "info", "passed")


@dataclass(frozen=True)
class Card:
    """Everything that the page says about one expectation."""

    run: str
    suite: str
    facts: Facts
    symbol: str
    title: str
    shows: str
    definition: str
    headline: str
    meaning: str
    since: str
    where: str
    chart: Markup | None
    layers: Markup | None
    worst: Sequence[tuple[str, str, str]]
    table: Sequence[tuple[str, str, str, str]]
    rows_left_out: int
    value: str
    judged: str


def card(run: str, judged: Judged) -> Card:
    """The card of one verdict."""
    facts = judged.facts
    metric = load_metrics().get(facts["metric"])
    title = metric.title if metric else facts["metric"]
    words = plain_words(facts["metric"], title, metric.definition if metric else facts["metric"])
    form = Form(percent=facts["percent"], degrees=facts["unit"] == "deg")
    return Card(
        run=run,
        suite=judged.suite,
        facts=facts,
        symbol=SYMBOLS[facts["outcome"]],
        title=title,
        shows=words.shows,
        definition=metric.definition if metric else "",
        headline=_headline(facts, form, title),
        meaning=_meaning(facts, words.high, words.low),
        since=_since(judged, form),
        where=_where(judged),
        chart=_trajectory(judged, form, title) if facts["observed"] else None,
        layers=_by_layer(judged, form, title),
        worst=[(w["weight"], form.show(w["value"]), f"{w['step']:,}") for w in facts["worst"]],
        table=[_row(entry, form) for entry in (facts["observed"])[:ROWS]],
        rows_left_out=max(0, len(facts["observed"]) - ROWS),
        value=_value(facts, form),
        judged=_judged(facts),
    )


def _judged(facts: Facts) -> str:
    """Where and of what the condition is demanded."""
    at = {"all": "every checkpoint", "first": "the first checkpoint", "last": "the last checkpoint"}
    fold = {"weighted": "mean by size"}.get(facts["fold"], facts["fold"])
    over = "all weights" if facts["per"] == "run" else f"the weights of each {facts['per']}"
    over = "each weight" if facts["per"] == "weight" else f"{fold} over {over}"
    return f"{at.get(facts['at'], facts['at'])}, {over} ({several(facts['weights']['measured'], 'weight')} measured)"


def ordered(cards: Sequence[Card]) -> list[Card]:
    """Failures first; within an outcome as they came."""
    return sorted(cards, key=lambda card: ORDER.index(card.facts["outcome"]))


def _headline(facts: Facts, form: Form, title: str) -> str:
    """What was seen against what was expected, in one line."""
    decisive = facts["decisive"]
    if decisive is None or facts["bounds"] is None:
        message = symbols(str(facts["message"])).replace(facts["metric"], title, 1)
        return message[:1].upper() + message[1:]
    group = f" in {decisive['group']}" if decisive["group"] else ""
    seen = f"{form.show(decisive['value'])} at step {decisive['step']:,}{group}"
    return f"{seen}; expected {expected(facts, form)}."


def expected(facts: Facts, form: Form) -> str:
    """The bounds of the condition in words."""
    low, high = facts["bounds"]["low"], facts["bounds"]["high"]
    if low is not None and high is not None:
        return f"{form.show(low, 4)} to {form.show(high, 4)}"
    return f"above {form.show(low, 4)}" if high is None else f"below {form.show(high, 4)}"


def _meaning(facts: Facts, high: str, low: str) -> str:
    """What the outcome means, in words for people outside the field."""
    if facts["outcome"] == "passed":
        return ""
    if facts["outcome"] == "error":
        return "This could not be judged, which counts as a failure: nothing was verified."
    decisive, bounds = facts["decisive"], facts["bounds"]
    if facts["metric"] == "regime":
        return high
    if bounds is not None and decisive and decisive["value"] is not None:
        return high if bounds["high"] is not None and decisive["value"] >= bounds["high"] else low
    if "reference" in (decisive or {}):
        return high if (decisive["value"] or 0) > (decisive["reference"] or 0) else low
    return TRENDS[facts["condition"].split(maxsplit=1)[0].rstrip(":")]


def _since(judged: Judged, form: Form) -> str:
    """Since when the figure is outside, and how far at its worst."""
    facts = judged.facts
    if facts["outcome"] == "passed" or not facts["observed"]:
        return ""
    entries = judged.whole or facts["observed"]
    outside = sorted({entry["step"] for entry in entries if entry["holds"] is False})
    steps = sorted({entry["step"] for entry in entries})
    parts = []
    if outside and facts["bounds"] is not None:
        if outside == steps and len(steps) > 1:
            parts.append(f"outside at every checkpoint, from step {steps[0]:,} on")
        elif len(steps) > 1:
            parts.append(f"first outside at step {outside[0]:,}, {len(outside)} of {several(len(steps), 'checkpoint')}")
    if far := _distance(facts, form):
        parts.append(far)
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _distance(facts: Facts, form: Form) -> str:
    bounds, decisive = facts["bounds"], facts["decisive"]
    if bounds is None or decisive is None or decisive["value"] is None:
        return ""
    value, low, high = decisive["value"], bounds["low"], bounds["high"]
    if high is not None and value > high:
        ratio = f", {times(value, high)} the upper bound" if high > 0 and value >= 1.2 * high else ""
        return f"off by {_amount(value - high, form)}{ratio}"
    if low is not None and value < low:
        share = f", {plain(100 * value / low, 2)}% of the lower bound" if low > 0 and 0 < value < low / 1.2 else ""
        return f"off by {_amount(low - value, form)}{share}"
    return ""


def _amount(difference: float, form: Form) -> str:
    return f"{plain(100 * difference)} points" if form.percent else form.show(difference)


def _where(judged: Judged) -> str:
    """Which layers are outside at the step that decided."""
    decisive = judged.facts["decisive"]
    if decisive is None or not judged.layers or judged.facts["bounds"] is None:
        return ""
    at = [entry for entry in judged.layers if entry["step"] == decisive["step"]]
    outside = [str(entry["group"]).removeprefix("layer ") for entry in at if entry["holds"] is False]
    if not outside:
        return f"No single one of the {several(len(at), 'layer')} is outside by itself."
    if len(outside) == len(at):
        return "Every layer is outside." if len(at) > 1 else "The only layer is outside."
    named = enumerated(outside[:6]) + (f" and {len(outside) - 6} more" if len(outside) > 6 else "")
    return f"Outside in {len(outside)} of {several(len(at), 'layer')}: {named}."


def _trajectory(judged: Judged, form: Form, title: str) -> Markup:
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
    theirs = [(e["step"], e["reference"]) for e in facts["observed"] if e.get("reference") is not None]
    if theirs and len(groups) == 1:
        dots = [Dot(float(step), value, f"reference, step {step}: {form.show(value)}") for step, value in theirs]
        lines.append(Line(dots, "reference", "null"))
    shades = [_envelope(groups)] if len(groups) > len(shown) else []
    steps = sorted({entry["step"] for entry in entries}) or [0]
    x, ticks = step_axis(steps)
    values = [dot.y for line in lines for dot in line.dots]
    values += [bound for shade in shades for _, low, high in shade.points for bound in (low, high)]
    bands = [_allowed(facts, form)] if facts["bounds"] is not None or facts["metric"] == "regime" else []
    y = _axis(facts, values, bands)
    return draw(Chart(f"{title}: {facts['message']}", x, y, form, ticks, lines, shades, bands, "training step"))


def _axis(facts: Facts, values: Sequence[float], bands: Sequence[Band], height: int = HEIGHT) -> Axis:
    bounds = [bound for band in bands for bound in (band.low, band.high) if bound is not None]
    metric = load_metrics().get(facts["metric"])
    low, high = metric.range(facts["params"]) if metric else (None, None)
    return spanning([*values, *bounds], floor=low, ceiling=high, along=vertical(height))


def _allowed(facts: Facts, form: Form) -> Band:
    if facts["metric"] == "regime":
        return Band(None, FARTHEST, "allowed", "allowed", f"allowed: at most {FARTHEST:g} decades")
    bounds = facts["bounds"]
    return Band(bounds["low"], bounds["high"], "allowed", "allowed", f"allowed: {expected(facts, form)}")


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


def _by_layer(judged: Judged, form: Form, title: str) -> Markup | None:
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
    bands = [_allowed(judged.facts, form)] if judged.facts["bounds"] is not None else []
    y = _axis(judged.facts, [dot.y for dot in dots], bands, LOW)
    ticks = [(float(i), labels[i]) for i in chosen]
    lines = [Line(dots, joined=False)]
    name = f"{title} by layer at step {decisive['step']}"
    below = f"layer, at step {decisive['step']:,}"
    return draw(Chart(name, horizontal(0, len(at) - 1), y, form, ticks, lines, (), bands, below, LOW))


def _row(entry: Facts, form: Form) -> tuple[str, str, str, str]:
    verdict = {True: "holds", False: "violated", None: ""}[entry["holds"]]
    return f"{entry['step']:,}", entry["group"] or "all weights", form.show(entry["value"], 4), verdict


def _value(facts: Facts, form: Form) -> str:
    """The decisive figure for the compact table."""
    return form.show(facts["decisive"]["value"]) if facts["decisive"] else "–"
