"""Verdicts in pictures and sentences: what was expected, what was seen, since when, how far off, and what it means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from geomcheck._text import plural
from geomcheck.diagnostics import Words, load_metrics
from geomcheck.report.causes import Cause
from geomcheck.report.charts.numbers import Form, capitalized, enumerated, plain, symbols
from geomcheck.report.charts.verdict import by_layer, overlaid, trajectory
from geomcheck.report.facts import (
    Judged,
    band,
    bound_digits,
    bounds_of,
    by_group,
    by_themselves,
    distance,
    early,
    groups_outside,
    known,
    where_judged,
)
from geomcheck.report.html.metrics import plain_words
from geomcheck.suite.conditions.wording import between
from geomcheck.suite.verdict import Facts, ObservedFacts, WorstFacts

ROWS = 60

SYMBOLS = {"passed": "✓", "failed": "✕", "error": "!", "warned": "△", "info": "i"}


@dataclass(frozen=True)
class Run:
    """A run as cards name it: its place among all of the page, None where it is the only one."""

    name: str
    place: int | None = None


def card(run: Run, judged: Judged, cause: Cause | None = None, explained: str = "") -> dict[str, Any]:
    """Everything that the page says about one expectation on one run, under the names that its template uses.

    `cause` is what stops it and others, which the page tells once; `explained` names the finding behind a failure.
    """
    facts = judged.facts
    title, words = _named(facts)
    form = Form.of_facts(facts)
    whole = "all weights" if facts["fold"] else "this run"
    headline = capitalized(cause.message(facts)) + "." if cause else _headline(facts, form, title)
    alone = run.place is None
    drawn = alone and facts["observed"]
    return {
        "run": run,
        "judged": judged,
        "facts": facts,
        "explained": explained,
        "stopped": cause is not None and not facts["observed"],
        "symbol": SYMBOLS[facts["outcome"]],
        "title": title,
        "shows": words.shows,
        "headline": headline,
        "meaning": _meaning(facts, words),
        "since": _since(judged, form),
        "where": _where(judged),
        "chart": trajectory(judged, form, f"{facts['id']}: {headline}") if drawn else None,
        "layers": by_layer(judged, form, title, *(() if alone else (run.name, run.place))),
        "held": any(entry["holds"] is not None for entry in judged.layers),
        "called": _called(facts),
        "worst": [(worst["weight"], form.show(worst["value"]) + _normal(worst, form)) for worst in facts["worst"]],
        "table": [_row(entry, form, whole) for entry in facts["observed"][:ROWS]],
        "value": _value(facts, form),
        "band": symbols(band(facts, form)),
        "off": _off(facts),
        "place": f"{where_judged(facts)}{_tally(facts)}",
    }


def group(cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One expectation on several runs, the first of them the worst; with their figures in one picture."""
    first = cards[0]
    facts, form = first["facts"], Form.of_facts(first["facts"])
    drawn = [(c["run"].place, c["run"].name, c["judged"]) for c in cards if c["facts"]["observed"]]
    drawn.sort(key=lambda one: one[0])
    held = sum(c["facts"]["outcome"] == "passed" for c in cards)
    return {
        **{key: first[key] for key in ("facts", "symbol", "title", "shows")},
        "cards": cards,
        "held": held,
        "chart": overlaid(drawn, form, f"{facts['id']} of {plural(len(drawn), 'run')}") if drawn else None,
    }


def _named(facts: Facts) -> tuple[str, Words]:
    metric = load_metrics().get(facts["metric"])
    title = metric.title if metric else facts["metric"].replace("_", " ")
    return title, plain_words(facts["metric"], title, metric.definition if metric else facts["metric"])


def _off(facts: Facts) -> str:
    """How far a violation is off, in half widths of what is allowed."""
    off = distance(facts)
    return f"{plain(off, 2)} half widths outside" if 0 < off < math.inf else ""


def _called(facts: Facts) -> str:
    """What the weights are that a card lists."""
    if not facts["fold"]:
        return "Side by side"
    if any(worst["outside"] for worst in facts["worst"]):
        return "Weights outside of what is normal for them"
    return f"Weights furthest {by_themselves(facts)}"


def _normal(worst: WorstFacts, form: Form) -> str:
    return f" (normal {form.show(worst['low'])} to {form.show(worst['high'])})" if "low" in worst else ""


def _tally(facts: Facts) -> str:
    """How many weights the figure is of."""
    counts = facts["weights"]
    left_out = "".join(f", {counts[kind]:,} {kind}" for kind in ("frozen", "skipped") if counts[kind])
    measured = early(facts) or f"{plural(counts['measured'], 'weight')} measured"
    return f" ({measured}{left_out})" if facts["fold"] or early(facts) else ""


def _headline(facts: Facts, form: Form, title: str) -> str:
    """What was seen against what was expected, in one line."""
    decisive, bounds = facts["decisive"], bounds_of(facts)
    if decisive is None or decisive["value"] is None or bounds is None or facts["cause"]:
        return capitalized(symbols(facts["message"]).replace(facts["metric"], title, 1))
    group = f" in {decisive['group']}" if decisive["group"] else ""
    seen = f"{form.show(decisive['value'])} at step {decisive['step']:,}{group}"
    return f"{seen}; {'allowed' if decisive['holds'] else 'expected'} {between(bounds, form, bound_digits(facts))}."


def _meaning(facts: Facts, words: Words) -> str:
    """What the outcome means, in words for people outside the field."""
    if facts["outcome"] == "passed":
        return ""
    if facts["outcome"] == "error":
        verified = "only what is shown was verified" if facts["observed"] else "nothing was verified"
        return f"This could not be judged, which counts as a failure: {verified}."
    if not facts["observed"]:
        return "This was not judged: nothing was verified."
    return facts["meaning"] or {"above": words.high, "below": words.low, None: ""}[facts["side"]]


def _since(judged: Judged, form: Form) -> str:
    """Since when the figure is outside, and how far at its worst."""
    facts = judged.facts
    if facts["outcome"] == "passed" or not facts["observed"]:
        return ""
    entries = facts["observed"]  # of checkpoints that nobody judged, the bound says nothing
    outside = sorted({entry["step"] for entry in entries if entry["holds"] is False})
    steps = sorted({entry["step"] for entry in entries})
    since = ""
    if outside and len(steps) > 1 and bounds_of(facts) is not None:
        since = f"first outside at step {outside[0]:,}, {len(outside)} of {plural(len(steps), 'checkpoint')}"
        since = f"outside at every checkpoint, from step {steps[0]:,} on" if outside == steps else since
    text = "; ".join(filter(None, (since, _distance(facts, form))))
    return f"{capitalized(text)}." if text else ""


def _distance(facts: Facts, form: Form) -> str:
    bounds, decisive = bounds_of(facts), facts["decisive"]
    if bounds is None or decisive is None or decisive["value"] is None:
        return ""
    value, (low, high) = decisive["value"], bounds
    if high is not None and value > high:
        ratio = f", {plain(value / high, 2)} times the upper bound" if high > 0 and value >= 1.2 * high else ""
        return f"off by {form.difference(value - high)}{ratio}"
    if low is not None and value < low:
        share = f", {plain(100 * value / low, 2)}% of the lower bound" if low > 0 and 0 < value < low / 1.2 else ""
        return f"off by {form.difference(low - value)}{share}"
    return ""


def _where(judged: Judged) -> str:
    """Which layers hold weights that are outside of what is normal for them at the step that decided, or else differ
    most from the others; of groups, how many are outside at any."""
    if judged.facts["per"] != "run":
        return _groups_outside(judged.facts)
    decisive = judged.facts["decisive"]
    if decisive is None or not judged.layers or bounds_of(judged.facts) is None:
        return ""
    at = [entry for entry in judged.layers if entry["step"] == decisive["step"]]
    if any(entry["holds"] is None for entry in at):
        return _furthest(judged.facts, known(at))
    outside = [str(entry["group"]).removeprefix("layer ") for entry in at if entry["holds"] is False]
    if not outside:
        return f"In none of the {plural(len(at), 'layer')} is a weight outside of what is normal for it."
    if len(outside) == len(at):
        return "Every layer is outside." if len(at) > 1 else "The only layer is outside."
    named = enumerated(outside[:6]) + (f" and {len(outside) - 6} more" if len(outside) > 6 else "")
    return f"Outside in {len(outside)} of {plural(len(at), 'layer')}: {named}."


def _furthest(facts: Facts, at: Sequence[tuple[ObservedFacts, float]]) -> str:
    """The layer that is furthest from the others, on the side of the violation; of two layers neither is."""
    if len(at) < 3 or facts["side"] is None:
        return ""
    middle = statistics.median(value for _, value in at)
    sign = 1 if facts["side"] == "above" else -1
    entry, value = max(at, key=lambda one: sign * (one[1] - middle))
    return f"Furthest from the others is {entry['group']}." if value != middle else ""


def _groups_outside(facts: Facts) -> str:
    outside = groups_outside(facts)
    if not outside:
        return ""
    allowed = f" ({plain(100 * facts['allow'])}% of them allowed)" if facts["allow"] else ""
    total = plural(len(by_group(facts["observed"])), facts["per"])
    return f"{len(outside):,} of {total} outside at some checkpoint{allowed}."


def _row(entry: ObservedFacts, form: Form, whole: str) -> tuple[str, str, str, str, str]:
    verdict = {True: "holds", False: "violated", None: ""}[entry["holds"]]
    allowed = between((entry["low"], entry["high"]), form) if "low" in entry else ""
    return f"{entry['step']:,}", entry["group"] or whole, form.show(entry["value"], 4), allowed, verdict


def _value(facts: Facts, form: Form) -> str:
    """The decisive figure for the compact table."""
    decisive = facts["decisive"]
    if not decisive:
        return "–"
    return f"{form.show(decisive['value'], 4)}{f', {early(facts)}' if early(facts) else ''}"
