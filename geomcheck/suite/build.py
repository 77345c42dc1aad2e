"""From a node of a suite to an Expectation: the grammar, then what no record could make sense of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.errors import Problem
from geomcheck.suite.conditions import (
    KINDS,
    TOLERANT,
    Band,
    Condition,
    Like,
    Regime,
    Trend,
    bounds,
    near,
    within,
)
from geomcheck.suite.document import Node
from geomcheck.suite.expectation import REGIME, Expectation
from geomcheck.suite.grammar import MetricStatement, RegimeStatement, statement_model, validate
from geomcheck.suite.places import FIRST, PREVIOUS, parse_place
from geomcheck.suite.quantities import (
    Refusal,
    Scale,
    Tolerance,
    did_you_mean,
    ratio,
    spelled,
    tolerance,
)
from geomcheck.suite.selection import Selection

BF16_ETA = 2.0**-8
"""From here on the relative tolerance is wider than the gap between adjacent bf16 numbers."""


def build(node: Node, selection: Selection) -> tuple[Expectation | None, list[Problem]]:
    """The expectation that `node` states, or None with what is wrong; `selection` is the suite's default."""
    if not isinstance(node.value, dict):
        found = spelled(node.plain())
        return None, [Problem(node.position, f"an expectation is a mapping with `id` and `metric`; found {found}")]
    what = _name(node)
    problems = list(_condition_problems(node, what))
    if REGIME in node.value and "metric" not in node.value:
        statement, found_problems = validate(RegimeStatement, node, what=what)
        problems += found_problems
        return (None, problems) if problems else (_regime(statement, node, selection), [])
    metric, metric_problems = _metric(node, what)
    if metric is None:
        return None, metric_problems
    statement, found_problems = validate(statement_model(metric.name), node, what=what)
    problems += found_problems
    if problems:
        return None, problems
    return _measured(statement, metric, node, selection)


def _name(node: Node) -> str:
    identifier = node.value.get("id")
    if identifier is None or not isinstance(identifier.value, str):
        return "this expectation"
    return f"expectation {spelled(identifier.value)}"


def _metric(node: Node, what: str) -> tuple[Metric | None, list[Problem]]:
    metrics = load_metrics()
    given = node.value.get("metric")
    if given is None:
        message = f"{what} needs `metric` (or `regime`); metrics: {', '.join(metrics.names())}"
        return None, [Problem(node.position, message)]
    if not isinstance(given.value, str) or given.value not in metrics:
        message = f"unknown metric {spelled(given.plain())}; metrics: {', '.join(metrics.names())}"
        return None, [Problem(given.position, message + did_you_mean(given.plain(), metrics.names()))]
    return metrics[given.value], []


def _condition_problems(node: Node, what: str) -> Iterable[Problem]:
    given = [key for key in node.value if key in KINDS]
    kinds = {KINDS[key] for key in given}
    listed = ", ".join(KINDS)
    if not given:
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
    return key in ("near", "like") or (key == "trend" and node.value[key].value == "flat")


def _regime(statement: RegimeStatement, node: Node, selection: Selection) -> Expectation:
    return Expectation(
        id=statement.id,
        metric=REGIME,
        condition=Regime(statement.regime),
        at=statement.at,
        weights=statement.weights or selection,
        level=statement.level,
        why=statement.why,
        position=node.position,
    )


def _measured(
    statement: MetricStatement, metric: Metric, node: Node, selection: Selection
) -> tuple[Expectation | None, list[Problem]]:
    params = statement.parameters(metric)
    try:
        condition = _condition(statement, metric)
    except Refusal as refusal:
        return None, [Problem(node.locate(refusal.path), f"`{refusal.path[0]}`: {refusal}")]
    problems = [
        Problem(node.locate(refusal.path, key=True), str(refusal))
        for refusal in (
            *_empty_conditions(condition, metric, params, node),
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
        at=statement.at,
        per=statement.per,
        fold=cast(Fold, statement.fold or metric.fold),
        weights=statement.weights or selection,
        allow=statement.allow or 0.0,
        level=statement.level,
        why=statement.why,
        position=node.position,
    )
    return expectation, []


def _condition(statement: MetricStatement, metric: Metric) -> Condition:
    written = [statement.near, statement.above, statement.below, *(statement.within or ())]
    scale = Scale(metric.unit, percent=any(q.percent for q in written if q is not None))
    if statement.within is not None:
        low, high = statement.within
        return within(low, high, scale)
    if statement.trend is not None:
        return Trend(cast(Any, statement.trend), _trend_tolerance(statement, metric), scale)
    if statement.near is not None:
        return near(statement.near, _tolerance(statement, metric), scale)
    if statement.like is not None:
        return Like(_tolerance(statement, metric), scale)
    return bounds(
        statement.above,
        statement.below,
        scale,
    )


def _tolerance(statement: MetricStatement, metric: Metric) -> Tolerance:
    try:
        return tolerance(statement.tolerance, metric.unit)
    except Refusal as refusal:
        raise Refusal(str(refusal), path=("tolerance",)) from None


def _trend_tolerance(statement: MetricStatement, metric: Metric) -> Tolerance:
    if statement.trend != "flat":
        return Tolerance(0.0) if statement.tolerance is None else _tolerance(statement, metric)
    try:
        amount = ratio(statement.tolerance)
    except Refusal as refusal:
        raise Refusal(f"{refusal} of the mean", path=("tolerance",)) from None
    if amount < 0:
        raise Refusal(f"{spelled(statement.tolerance)}: a tolerance is not negative", path=("tolerance",))
    return Tolerance(amount, relative=True)


def _empty_conditions(condition: Condition, metric: Metric, params: Mapping[str, Any], node: Node) -> Iterable[Refusal]:
    low, high = metric.range(params)
    fault = condition.fault(low, high) if isinstance(condition, Band | Like) else None
    if fault:
        key = next(key for key in node.value if key in KINDS)
        yield Refusal(f"`{condition.text}` {fault}", path=(key,))


def _idle_keys(statement: MetricStatement) -> Iterable[Refusal]:
    if statement.allow is not None and statement.per == "run":
        yield Refusal(
            "`allow` tolerates a share of groups, and a run is one group; add `per: layer`, `module` or `weight`",
            path=("allow",),
        )
    if statement.fold is not None and statement.per == "weight":
        yield Refusal("`fold` has nothing to fold with `per: weight`; remove one of them", path=("fold",))


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
    if metric.trivial_at is None or not statement.at.single:
        return
    other = parse_place(params[metric.trivial_at], previous=True)
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
