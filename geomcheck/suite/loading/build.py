"""From a node of a suite to an Expectation: the grammar, then what no record could make sense of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.errors import Problem
from geomcheck.suite.conditions import FigureCondition, SubjectCondition, load_conditions
from geomcheck.suite.conditions.limits import Demand, beyond
from geomcheck.suite.conditions.profile import PAPER, Profile
from geomcheck.suite.expectation import Condition, Expectation
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.names import metric_hint
from geomcheck.suite.language.places import FIRST, PREVIOUS, parse_place
from geomcheck.suite.language.quantities import Refusal, Scale, Tolerance, spelled
from geomcheck.suite.language.selection import NO_MATRICES, Selection
from geomcheck.suite.language.statement import Statement, keys_of, meant_key, validate, validate_rest
from geomcheck.suite.loading.grammar import MetricStatement, statement_model, unsettled_model

BF16_ETA = 2.0**-8
"""From here on the relative tolerance is wider than the gap between adjacent bf16 numbers."""

_PARAMETERS = "; a metric's parameters are keys of the expectation, beside `metric`"
_ELSEWHERE = {
    **dict.fromkeys(("params", "parameters", "args", "kwargs", "options", "with"), _PARAMETERS),
    "condition": "; a condition is a key of its own, such as `above: 3`",
}

Built = tuple[Expectation | None, list[Problem]]
"""An expectation, or None with what is wrong."""


def build(node: Node, selection: Selection, profiles: tuple[Profile, ...] = PAPER) -> Built:
    """The expectation that `node` states, or None with what is wrong.

    Args:
        selection: the suite's default weights.
        profiles: what the suite's `regime` expectations compare with.
    """
    if not isinstance(node.value, dict):
        said = f"an expectation is a mapping with `id` and `metric`; found {spelled(node.plain())}"
        return None, [Problem(node.position, said + _meant_mapping(node.value))]
    name = node.text("id")
    what = "this expectation" if name is None else f"expectation {spelled(name)}"
    unsettled = _unsettled(node, what)
    if unsettled is not None:
        return None, [unsettled, *validate(unsettled_model(), node, what=what)[1]]
    subject = next((kind for kind in load_conditions().of_subjects if kind.states(node)), None)
    if subject is not None:
        return _about_subject(subject, node, selection, profiles, what)
    return _about_figure(load_metrics()[node.value["metric"].value], node, selection, what)


def _unsettled(node: Node, what: str) -> Problem | None:
    """Why it is open what the expectation is about, or None: it has one known metric, or a key that stands for one."""
    conditions = load_conditions()
    names = (*load_metrics().names(), *conditions.metric_names)
    given = node.value.get("metric")
    other = next((key for key in conditions.instead if key in node.value), None)
    if other is not None:
        message = f"`{other}` stands instead of `metric`; remove one"
        return None if given is None else Problem(node.value[other].key, message)
    if given is None:
        listed = " or ".join(f"`{key}`" for key in conditions.instead)
        metric = next((key for key in node.value if key in names), None)
        hint = f"; did you mean `metric: {metric}`?" if metric else f"; metrics: {', '.join(names)}"
        glued = next((key.partition(":") for key in node.value if key.startswith("metric:")), None)
        hint = f"; a space is missing after the colon: `metric: {glued[2]}`" if glued else hint
        return Problem(node.position, f"{what} needs `metric` (or {listed}){hint}")
    if isinstance(given.value, list | dict):
        several = "; write " + ("an expectation for each" if isinstance(given.value, list) else "the name alone")
        return Problem(given.position, f"`metric` is one name; found {spelled(given.plain())}{several}")
    if given.value in names:
        return None
    if given.value in conditions.instead:
        return Problem(given.position, f"`{given.value}` stands instead of `metric`: write `{given.value}: ...`")
    return Problem(given.position, f"unknown metric {spelled(given.plain())}{metric_hint(given.value, names)}")


def _meant_mapping(raw: Any) -> str:
    """A hint where an expectation is one line of text."""
    if not isinstance(raw, str):
        return ""
    key = re.match(r"(id|metric|regime):(\S+)", raw)
    if key:
        return f"; a space is missing after the colon: `{key[1]}: {key[2]}`"
    first = re.match(r"\w*", raw)
    known = first is not None and first.group() in load_metrics()
    return (
        f"; write `id: ...`, `metric: {first.group()}` and a condition such as `above: 20`" if first and known else ""
    )


def _about_subject(
    kind: type[SubjectCondition], node: Node, selection: Selection, profiles: tuple[Profile, ...], what: str
) -> Built:
    statement, problems = validate(kind.statement, node, what=what)
    problems += _several(node, what) if kind.instead_of_metric else []
    if problems:
        return None, problems
    try:
        condition = kind.of(statement, node, profiles)
    except Refusal as refusal:
        return None, [Problem(node.locate(refusal.path), str(refusal))]
    built = _expectation(statement, node, selection, kind.keyword, condition, params=kind.params(statement))
    return built, _idle_requirement(built, node)


def _about_figure(metric: Metric, node: Node, selection: Selection, what: str) -> Built:
    model = statement_model(metric.name)
    statement, problems = validate(model, node, what=what, elsewhere=_ELSEWHERE)
    problems += _several(node, what) or _tolerance_problems(node, what, model)
    if problems:
        return None, [*problems, *_further(metric, *validate_rest(model, node))]
    condition, problems = _condition(metric, statement, node)
    problems += _without_matrices(metric, statement.weights or selection, node)
    if condition is None or problems:
        return None, problems
    fold = cast(Fold, statement.fold or metric.fold)
    allow, params = statement.allow or 0.0, statement.parameters(metric)
    built = _expectation(
        statement, node, selection, metric.name, condition, params=params, per=statement.per, fold=fold, allow=allow
    )
    return built, _idle_requirement(built, node)


def _without_matrices(metric: Metric, weights: Selection, node: Node) -> list[Problem]:
    """A problem where a figure of matrices is asked of weights that are not, or not all, matrices."""
    if metric.of_entries or weights.include or weights.role not in NO_MATRICES:
        return []
    position = node.value["weights"].position if "weights" in node.value else node.position
    what, instead = ("no matrices", "take")
    if weights.role == "everything":
        what, instead = ("not only matrices", "write `all` for every matrix, or take")
    message = f"`{metric.name}` is of matrices, and `{weights.role}` are {what}; {instead} a metric of entries, such as"
    return [Problem(position, f"{message} `relative_update_norm`")]


def _further(metric: Metric, statement: MetricStatement | None, rest: Node) -> list[Problem]:
    """What is wrong with what an expectation says beside keys that are wrong, as far as it has a condition."""
    given = _stated(rest)
    kinds = {load_conditions().by_key[key] for key in given}
    kind = kinds.pop() if len(kinds) == 1 else None
    if statement is None or kind is None or not issubclass(kind, FigureCondition):
        return []
    written = {key: rest.value[key].value for key in given}
    if kind.tolerant and "tolerance" not in rest.value and kind.needs_tolerance(written):
        return _beyond(metric, statement.parameters(metric), list(kind.demands(statement.given(kind))), None, rest)
    return _condition(metric, statement, rest)[1]


def _condition(metric: Metric, statement: MetricStatement, node: Node) -> tuple[FigureCondition | None, list[Problem]]:
    """The condition that a statement states, and what is wrong with it."""
    (kind,) = {load_conditions().by_key[key] for key in _stated(node)}
    assert issubclass(kind, FigureCondition)
    given, params = statement.given(kind), statement.parameters(metric)
    demands = list(kind.demands(given))
    scale = Scale(metric.unit, percent=any(d.figure.percent for d in demands) if demands else metric.is_share)
    try:
        condition = kind.of(given, statement.tolerance, metric.unit, scale)
    except Refusal as refusal:
        key = f"`{refusal.path[0]}`: " if refusal.path else ""
        refused = Problem(node.locate(refusal.path), f"{key}{refusal}")
        return None, [refused, *_beyond(metric, params, demands, None, node)]
    problems = list(_idle_conditions(condition, metric, params, demands, node))
    problems += [
        Problem(node.locate(refusal.path, key=True), str(refusal))
        for refusal in (
            *_idle_keys(statement, condition),
            *condition.contradictions(statement.at, metric, params),
            *_contradictions(statement, metric, params),
        )
    ]
    return condition, problems


def _expectation(
    statement: Statement, node: Node, selection: Selection, metric: str, condition: Condition, **further: Any
) -> Expectation:
    return Expectation(
        id=statement.id,
        metric=metric,
        condition=condition,
        at=condition.own_places or statement.at,
        weights=statement.weights or selection,
        level=statement.level,
        why=statement.why,
        only_with=statement.only_with,
        position=node.position,
        **further,
    )


def _idle_requirement(expectation: Expectation, node: Node) -> list[Problem]:
    """Of `only_with: reference` where nothing is compared with one: it would be judged with and without."""
    if expectation.only_with != "reference" or expectation.compares:
        return []
    said = f"{expectation.metric} is not compared with a reference run here: `only_with: reference` changes nothing"
    return [Problem(node.value["only_with"].position, f"{said}; remove it, or add `like: reference` or the like")]


def _stated(node: Node) -> list[str]:
    """The keys of conditions in a node, in its order."""
    return [key for key in node.value if key in load_conditions().by_key]


def _several(node: Node, what: str) -> list[Problem]:
    """A problem where keys of several conditions are given."""
    given = _stated(node)
    if len({load_conditions().by_key[key] for key in given}) < 2:
        return []
    both = " and ".join(f"`{key}`" for key in given)
    message = f"{what} has several conditions, {both}; keep one (only `above` and `below` go together)"
    return [Problem(node.value[given[1]].key, message)]


def _tolerance_problems(node: Node, what: str, model: type[MetricStatement]) -> Iterable[Problem]:
    """Where there is no condition, though no unknown key looks like one; where `tolerance` is missing, or idle."""
    conditions, given = load_conditions(), _stated(node)
    unknown = [key for key in node.value if key not in keys_of(model)]
    meant = {meant_key(model, key.partition(":")[0]) for key in unknown}
    if not given:
        if not meant & {*conditions.by_key} and "condition" not in unknown:
            yield Problem(node.position, f"{what} has no condition; one of: {', '.join(conditions.by_key)}")
        return
    kind = conditions.by_key[given[0]]
    assert issubclass(kind, FigureCondition)
    if "tolerance" in node.value and not kind.tolerant:
        message = f"`tolerance` goes with {', '.join(conditions.tolerant)}, not with `{given[0]}`"
        yield Problem(node.value["tolerance"].key, message)
    elif not {"tolerance"} & {*node.value, *meant} and kind.needs_tolerance(
        {key: node.value[key].value for key in given}
    ):
        message = f"`{given[0]}` needs a `tolerance`: an amount, or a percentage such as `10%`"
        yield Problem(node.value[given[0]].key, message)


def _idle_conditions(
    condition: FigureCondition, metric: Metric, params: Mapping[str, Any], demands: list[Demand], node: Node
) -> Iterable[Problem]:
    """Each bound that decides nothing, or else the condition as a whole."""
    idle = _beyond(metric, params, demands, condition.tolerated, node)
    yield from idle
    fault = None if idle else condition.fault(*metric.range(params))
    if fault:
        yield Problem(node.value[_stated(node)[0]].key, f"`{condition.text}` {fault}")


def _beyond(
    metric: Metric, params: Mapping[str, Any], demands: list[Demand], tolerance: Tolerance | None, node: Node
) -> list[Problem]:
    low, high = metric.range(params)
    scale = Scale(metric.unit, percent=metric.is_share or any(demand.figure.percent for demand in demands))
    found = beyond(demands, tolerance, low, high, scale)
    return [Problem(node.locate(refusal.path), str(refusal)) for refusal in found]


def _idle_keys(statement: MetricStatement, condition: FigureCondition) -> Iterable[Refusal]:
    if statement.allow is not None and statement.per == "run":
        yield Refusal(
            "`allow` tolerates a share of groups, and a run is one group; add `per: layer`, `module` or `weight`",
            path=("allow",),
        )
    if statement.fold is not None and statement.per == "weight":
        yield Refusal("`fold` has nothing to fold with `per: weight`; remove one of them", path=("fold",))
    if condition.own_places is not None and "at" in statement.model_fields_set:
        yield Refusal(f"`{condition.keyword}` names its own checkpoints; remove `at`", path=("at",))


def _contradictions(statement: MetricStatement, metric: Metric, params: Mapping[str, Any]) -> Iterable[Refusal]:
    if params.get("cast") == "bf16" and params.get("eta", 0.0) >= BF16_ETA:
        yield Refusal(
            f"`eta: {params['eta']:g}` after a cast to bf16: adjacent bf16 numbers are at least 2^-8 apart "
            "relatively, so from there on visible changes would count as none; allowed: below 2^-8 = 0.00390625, "
            "or `cast: none`",
            path=("eta",),
        )
    here = statement.at.start
    if metric.least > 1 and statement.at.single and here == FIRST:
        yield Refusal(
            f"{metric.name} at first {metric.why_trivial}; judge a later checkpoint, such as `at: last`", path=("at",)
        )
    place = metric.places(params).get(metric.trivial_at or "")
    if place is None or not statement.at.single:
        return
    other = parse_place(place, others=("previous",))
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
