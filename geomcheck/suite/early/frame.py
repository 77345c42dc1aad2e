"""What is known of an expectation before its figures are: which weights it folds, where, and into which band."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress

import numpy as np

from geomcheck.checkpoints.weights import Layers, Weight
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RecordError
from geomcheck.record import Record, Request
from geomcheck.record.column import Table
from geomcheck.record.limits import limits
from geomcheck.suite.conditions.band import Band
from geomcheck.suite.conditions.figure import Case, FigureCondition
from geomcheck.suite.early.claims import Population
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.groups import gaps, group_of, require_groups
from geomcheck.suite.sampling import Question, Sample, Subject, unchanged
from geomcheck.suite.verdict import Unanswerable


@dataclass(frozen=True)
class Cell:
    """One folded figure that is to be: of a group at a step, in its band, of these weights by name."""

    step: int
    group: str | None
    band: Band
    names: tuple[str, ...]
    population: Population


@dataclass(frozen=True)
class Frame:
    """An expectation that may be decided before every weight is measured.

    Attributes:
        names: the weights whose figures it folds, at some judged checkpoint or other.
        folded: those of each judged checkpoint, by step.
        still: the selected weights that never changed, of which the metric has no figure.
        cells: every folded figure that it judges.
    """

    expectation: Expectation
    question: Question
    names: tuple[str, ...]
    folded: Mapping[int, frozenset[str]]
    still: frozenset[str]
    cells: tuple[Cell, ...]


def may_be_early(expectation: Expectation) -> bool:
    """Whether some record may let `expectation` be decided early; tells without one."""
    questions = expectation.questions() if isinstance(expectation.condition, FigureCondition) else []
    return any(not question.metric.of_entries for question in questions)


def limit_of(question: Question) -> Request | None:
    """What limits the figures of `question` from above, by weight and checkpoint; None where nothing does."""
    limit = question.metric.limited_by
    excess = question.params.get("excess_over", "none") != "none"
    return Request.of(load_metrics()[limit], {}) if limit and not excess else None


def frame(expectation: Expectation, record: Record, reference: Record | None) -> Frame | None:
    """The frame of `expectation` on a `record` that holds the metrics of entries of every weight.

    None where it can be decided by all of its figures alone, or holds figures of entries, which are all there; or where
    it cannot be judged, as its verdict will say.
    """
    condition = expectation.condition
    if not isinstance(condition, FigureCondition) or not may_be_early(expectation):
        return None
    try:
        (question,) = condition.questions(expectation)
        subject = question.settle(record)
        require_groups(subject.weights, expectation)
        return _framed(condition, expectation, question, subject, record, reference)
    except (Unanswerable, RecordError):
        return None


def _framed(
    condition: FigureCondition,
    expectation: Expectation,
    question: Question,
    subject: Subject,
    record: Record,
    reference: Record | None,
) -> Frame | None:
    rows = {point.step: record.points.index(point) for point in subject.points}
    moved: np.ndarray = ~unchanged(record, subject.weights)
    there = moved | np.array(question.metric.when_unchanged)
    used = {weight.name: weight for weight in compress(subject.weights, there.any(axis=0).tolist())}
    still = {weight.name: weight for weight in subject.weights if weight.name not in used}
    names = [weight.name for weight in subject.weights]
    folded = {step: list(compress(names, there[row].tolist())) for step, row in rows.items()}
    found = Sample({step: {} for step in folded}, used, still)
    layers = Layers(record.weights.values())
    gaps({}, found, expectation, layers)
    demanded = condition.demanded(Case(expectation, record, reference, question, found, {}))
    if demanded is None or not all(moved[row].any() for row in rows.values()):
        return None
    cells = []
    for step, here in folded.items():
        members: dict[str | None, list[str]] = {}
        for name in here:
            members.setdefault(group_of(used[name], expectation.per, layers), []).append(name)
        for group, own in members.items():
            band = demanded(step, group)
            if band is not None:
                cells.append(Cell(step, group, band, tuple(own), _population(question, record, used, step, own)))
    of_step = {step: frozenset(here) for step, here in folded.items()}
    return Frame(expectation, question, tuple(used), of_step, frozenset(still), tuple(cells)) if cells else None


def _population(
    question: Question, record: Record, weights: Mapping[str, Weight], step: int, names: list[str]
) -> Population:
    """The weights `names`, with the range that is proven of each one's figure at a step."""
    metric, params = question.metric, question.params
    of_shape = {
        shape: limits(metric, params, metric.stat(params), shape) for shape in {weights[n].shape for n in names}
    }
    low, high = np.array([of_shape[weights[name].shape] for name in names]).T
    population = Population(low, high, np.array([float(weights[name].numel) for name in names]))
    limit = limit_of(question)
    column = None if limit is None else record.columns.get((limit, "value"))
    return population if column is None else population.limited(Table.of(column, [step], names).values[0])
