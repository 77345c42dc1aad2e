"""From a node of a suite to an Expectation: the grammar, then what no record could make sense of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.errors import Problem
from geomcheck.suite.conditions.band import Band, Bands, bounds, near, within
from geomcheck.suite.conditions.kinds import KINDS, TOLERANT, Condition, Like, Regime, Trend
from geomcheck.suite.conditions.profile import PAPER, Profile
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY
from geomcheck.suite.expectation import REGIME, Expectation
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.fields import word
from geomcheck.suite.language.places import FIRST, PREVIOUS, Places, parse_place
from geomcheck.suite.language.quantities import (
    Quantity,
    Refusal,
    Scale,
    Tolerance,
    closest,
    did_you_mean,
    flatness,
    spelled,
    tolerance,
)
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.loading.build_sufficiency import build_sufficiency
from geomcheck.suite.loading.grammar import (
    MetricStatement,
    RegimeStatement,
    UnsettledStatement,
    keys_of,
    statement_model,
    validate,
)

BF16_ETA = 2.0**-8
"""From here on the relative tolerance is wider than the gap between adjacent bf16 numbers."""


def build(
    node: Node, selection: Selection, profiles: tuple[Profile, ...] = PAPER
) -> tuple[Expectation | None, list[Problem]]:
    """The expectation that `node` states, or None with what is wrong.

    Args:
        selection: the suite's default weights.
        profiles: what the suite's `regime` expectations compare with.
    """
    if not isinstance(node.value, dict):
        found = spelled(node.plain())
        return None, [Problem(node.position, f"an expectation is a mapping with `id` and `metric`; found {found}")]
    what = _name(node)
    unsettled = _unsettled(node, what)
    if unsettled is not None:
        return None, [unsettled, *validate(UnsettledStatement, node, what=what)[1]]
    if REGIME not in node.value and node.value["metric"].value == SUFFICIENCY:
        return build_sufficiency(node, selection, what)
    metric = None if REGIME in node.value else load_metrics()[node.value["metric"].value]
    model = RegimeStatement if metric is None else statement_model(metric.name)
    statement, problems = validate(model, node, what=what)
    problems += _condition_problems(node, what, keys_of(model))
    if problems:
        return None, problems
    if metric is None:
        return _regime(statement, node, selection, profiles)
    return _measured(statement, metric, node, selection)


def _name(node: Node) -> str:
    identifier = node.value.get("id")
    if identifier is None or not isinstance(identifier.value, str):
        return "this expectation"
    return f"expectation {spelled(identifier.value)}"


def _unsettled(node: Node, what: str) -> Problem | None:
    """Why it is open what the expectation is about, or None: it has one known metric, or a regime."""
    names = (*load_metrics().names(), SUFFICIENCY)
    given, regime = node.value.get("metric"), node.value.get(REGIME)
    if given is not None and regime is not None:
        return Problem(regime.key, "`regime` stands instead of `metric`; remove one")
    if regime is not None:
        return None
    if given is None:
        return Problem(node.position, f"{what} needs `metric` (or `regime`); metrics: {', '.join(names)}")
    if given.value in names:
        return None
    message = f"unknown metric {spelled(given.plain())}; metrics: {', '.join(names)}"
    return Problem(given.position, message + did_you_mean(given.plain(), names))


def _condition_problems(node: Node, what: str, allowed: list[str]) -> Iterable[Problem]:
    """Problems of the condition as a whole; none is missing where an unknown key looks like one."""
    given = [key for key in node.value if key in KINDS]
    kinds = {KINDS[key] for key in given}
    listed = ", ".join(KINDS)
    if not given:
        if not any(closest(key, allowed) in KINDS for key in node.value if key not in allowed):
            yield Problem(node.position, f"{what} has no condition; one of: {listed}")
    elif len(kinds) > 1:
        both = " and ".join(f"`{key}`" for key in given)
        message = f"{what} has several conditions, {both}; keep one (only `above` and `below` go together)"
        yield Problem(node.value[given[1]].key, message)
    elif "tolerance" in node.value and given[0] not in TOLERANT:
        message = f"`tolerance` goes with {', '.join(TOLERANT)}, not with `{given[0]}`"
        yield Problem(node.value["tolerance"].key, message)
    elif "tolerance" not in node.value and _needs_tolerance(given[0], node):
        message = f"`{given[0]}` needs a `tolerance`: an amount, or a percentage such as `10%`"
        yield Problem(node.value[given[0]].key, message)


def _needs_tolerance(key: str, node: Node) -> bool:
    return key in ("near", "like", "unlike") or (key == "trend" and node.value[key].value == "flat")


def _regime(
    statement: RegimeStatement, node: Node, selection: Selection, profiles: tuple[Profile, ...]
) -> tuple[Expectation | None, list[Problem]]:
    try:
        word(statement.regime, [profile.name for profile in profiles])
    except Refusal as refusal:
        return None, [Problem(node.locate(("regime",)), f"`regime`: {refusal}")]
    expectation = Expectation(
        id=statement.id,
        metric=REGIME,
        condition=Regime(statement.regime, profiles),
        at=statement.at,
        weights=statement.weights or selection,
        level=statement.level,
        why=statement.why,
        position=node.position,
    )
    return expectation, []


def _measured(
    statement: MetricStatement, metric: Metric, node: Node, selection: Selection
) -> tuple[Expectation | None, list[Problem]]:
    params = statement.parameters(metric)
    figures = _figures(statement)
    try:
        condition = _condition(statement, metric, figures)
    except Refusal as refusal:
        return None, [Problem(node.locate(refusal.path), f"`{refusal.path[0]}`: {refusal}")]
    problems = [
        Problem(node.locate(refusal.path, key=True), str(refusal))
        for refusal in (
            *_empty_conditions(condition, metric, params, figures, node),
            *_idle_keys(statement),
            *_contradictions(statement, metric, params, condition),
        )
    ]
    if problems:
        return None, problems
    expectation = Expectation(
        id=statement.id,
        metric=metric.name,
        params=params,
        condition=condition,
        at=condition.places if isinstance(condition, Bands) else statement.at,
        per=statement.per,
        fold=cast(Fold, statement.fold or metric.fold),
        weights=statement.weights or selection,
        allow=statement.allow or 0.0,
        level=statement.level,
        why=statement.why,
        position=node.position,
    )
    return expectation, []


def _figures(statement: MetricStatement) -> list[Quantity]:
    """The figures that the condition names."""
    edges = [edge for _, pair in statement.bands or () for edge in pair]
    written = (statement.near, statement.above, statement.below, *(statement.within or ()), *edges)
    return [figure for figure in written if figure is not None]


def _condition(statement: MetricStatement, metric: Metric, figures: list[Quantity]) -> Condition:
    scale = Scale(metric.unit, percent=any(f.percent for f in figures) if figures else metric.is_share)
    if statement.within is not None:
        low, high = statement.within
        return within(low, high, scale)
    if statement.bands is not None:
        places = Places(tuple(place for place, _ in statement.bands))
        return Bands(places, tuple(within(low, high, scale) for _, (low, high) in statement.bands), scale)
    if statement.trend is not None:
        return Trend(cast(Any, statement.trend), _trend_tolerance(statement, metric), scale)
    if statement.near is not None:
        return near(statement.near, _tolerance(statement, metric), scale)
    if statement.like is not None or statement.unlike is not None:
        return Like(_tolerance(statement, metric), scale, unlike=statement.unlike is not None)
    return bounds(statement.above, statement.below, scale)


def _tolerance(statement: MetricStatement, metric: Metric) -> Tolerance:
    try:
        return tolerance(statement.tolerance, metric.unit)
    except Refusal as refusal:
        raise Refusal(str(refusal), path=("tolerance",)) from None


def _trend_tolerance(statement: MetricStatement, metric: Metric) -> Tolerance:
    if statement.trend != "flat":
        return Tolerance(0.0) if statement.tolerance is None else _tolerance(statement, metric)
    try:
        return flatness(statement.tolerance)
    except Refusal as refusal:
        raise Refusal(f"{refusal} of the mean", path=("tolerance",)) from None


def _empty_conditions(
    condition: Condition, metric: Metric, params: Mapping[str, Any], figures: list[Quantity], node: Node
) -> Iterable[Refusal]:
    low, high = metric.range(params)
    fault = condition.fault(low, high) if isinstance(condition, Band | Bands | Like) else None
    if fault:
        key = next(key for key in node.value if key in KINDS)
        yield Refusal(f"`{condition.text}` {fault}{_forgotten_percent(metric, figures)}", path=(key,))


def _forgotten_percent(metric: Metric, figures: list[Quantity]) -> str:
    """How to write the first figure that may be meant in percent, or nothing."""
    meant = [f"{f.value:.10g}" for f in figures if not f.percent and 1 < f.value <= 100 and metric.is_share]
    return f"; {meant[0]} percent is `{meant[0]}%`" if meant else ""


def _idle_keys(statement: MetricStatement) -> Iterable[Refusal]:
    if statement.allow is not None and statement.per == "run":
        yield Refusal(
            "`allow` tolerates a share of groups, and a run is one group; add `per: layer`, `module` or `weight`",
            path=("allow",),
        )
    if statement.fold is not None and statement.per == "weight":
        yield Refusal("`fold` has nothing to fold with `per: weight`; remove one of them", path=("fold",))
    if statement.bands is not None and "at" in statement.model_fields_set:
        yield Refusal("`bands` names its own checkpoints; remove `at`", path=("at",))


def _contradictions(
    statement: MetricStatement, metric: Metric, params: Mapping[str, Any], condition: Condition
) -> Iterable[Refusal]:
    if isinstance(condition, Trend) and statement.at.single:
        yield Refusal(f"a trend needs two checkpoints or more, and `at: {statement.at.text}` selects one", path=("at",))
    if params.get("cast") == "bf16" and params.get("eta", 0.0) >= BF16_ETA:
        yield Refusal(
            f"`eta: {params['eta']:g}` after a cast to bf16: adjacent bf16 numbers are at least 2^-8 apart "
            "relatively, so from there on visible changes would count as none; allowed: below 2^-8 = 0.00390625, "
            "or `cast: none`",
            path=("eta",),
        )
    if metric.trivial_at is None:
        return
    other = parse_place(params[metric.trivial_at], previous=True)
    if isinstance(condition, Bands) and other in condition.places.places:
        yield Refusal(
            f"{metric.name} at {other.text} with `{metric.trivial_at}: {other.text}` compares a checkpoint with "
            "itself; remove its band",
            path=("bands",),
        )
    if not statement.at.single:
        return
    here = statement.at.start
    pair = f"{metric.name} at {here.text} with `{metric.trivial_at}: {other.text}`"
    if other == PREVIOUS and here == FIRST:
        yield Refusal(f"{pair} has nothing to compare with; judge a later checkpoint, such as `at: last`", path=("at",))
    elif here == other:
        instead = "last" if here == FIRST else "first"
        yield Refusal(
            f"{pair} compares a checkpoint with itself: the figure is the same whatever happened; judge another one, "
            f"such as `at: {instead}`",
            path=("at",),
        )
