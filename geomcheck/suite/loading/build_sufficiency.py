"""From a node of a suite to an expectation of functional sufficiency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomcheck.diagnostics import Unit
from geomcheck.errors import Problem
from geomcheck.suite.conditions.band import bounds
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY, Sufficiency
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.quantities import Scale
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.loading.grammar import SufficiencyStatement, validate

FALLING = ("loss", "perplexity", "ppl", "_nll", "_wer", "_cer")
"""Ends of the names of scores of which less is better."""


def build_sufficiency(node: Node, selection: Selection, what: str) -> tuple[Expectation | None, list[Problem]]:
    """The expectation that `node` states, or None with what is wrong; `what` names it in messages."""
    statement, problems = validate(SufficiencyStatement, node, what=what)
    if statement is None:
        return None, problems
    problems = _problems(statement, node, what)
    if problems:
        return None, problems
    condition = _condition(statement, node)
    fault = condition.fault()
    if fault:
        key = "above" if "above" in node.value else "below"
        return None, [Problem(node.value[key].key, f"`{condition.text}` {fault}")]
    expectation = Expectation(
        id=statement.id,
        metric=SUFFICIENCY,
        params=_params(statement),
        condition=condition,
        at=statement.at,
        weights=statement.weights or selection,
        level=statement.level,
        why=statement.why,
        position=node.position,
    )
    return expectation, []


def _problems(statement: SufficiencyStatement, node: Node, what: str) -> list[Problem]:
    if statement.above is None and statement.below is None:
        return [Problem(node.position, f"{what} has no condition; give `above`, `below` or both")]
    if "better" not in node.value and statement.score.lower().endswith(FALLING):
        message = f"`{statement.score}` looks like a score that falls in training; say `better: lower`, or `higher`"
        return [Problem(node.value["score"].key, message)]
    if statement.over_random is not None and statement.above is None:
        message = "`over_random` goes with `above`: that less than a share is kept says nothing of more than random"
        return [Problem(node.value["over_random"].key, message)]
    if statement.start is not None and statement.since == "constraint":
        return [Problem(node.value["start"].key, "`start` is not looked at with `since: constraint`; remove one")]
    return []


def _condition(statement: SufficiencyStatement, node: Node) -> Sufficiency:
    asked = statement.over_random if statement.over_random is not None else 0.0
    return Sufficiency(
        band=bounds(statement.above, statement.below, Scale(Unit.FRACTION, percent=True)),
        score=statement.score,
        lower=statement.better == "lower",
        free=_beside(node, "free", statement.free) if statement.free else None,
        random=tuple(_beside(node, "random", path) for path in statement.random),
        start=statement.start,
        since_constraint=statement.since == "constraint",
        min_gain=statement.min_gain,
        over_random=None if statement.above is None else asked,
    )


def _beside(node: Node, key: str, path: str) -> Path:
    """A path relative to the file that names it, which may be one that the suite extends."""
    file = Path(node.value[key].position.path)
    return (file.resolve().parent / Path(path).expanduser()).resolve()


def _params(statement: SufficiencyStatement) -> dict[str, Any]:
    given = {
        "score": statement.score,
        "better": statement.better,
        "since": statement.since,
        "free": statement.free or "--geom-reference",
    }
    optional = {"start": statement.start, "min_gain": statement.min_gain or None}
    return {**given, "random": statement.random, **{key: value for key, value in optional.items() if value is not None}}
