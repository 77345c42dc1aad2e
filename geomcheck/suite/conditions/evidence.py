"""The figures of a record that tell its regime."""

from __future__ import annotations

from geomcheck.diagnostics import load_metrics
from geomcheck.record.record import Record
from geomcheck.suite.conditions.profile import EVIDENCE
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import At, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import Question, sample


def evidence_questions(weights: Selection, at: At | Places) -> list[Question]:
    """What is asked of a record: one question per diagnostic of the profiles, in their order."""
    asked = []
    for evidence in EVIDENCE:
        metric = load_metrics()[evidence.metric]
        params = {p.name: evidence.params.get(p.name, p.default) for p in metric.parameters}
        asked.append(Question(metric=metric, params=params, weights=weights, at=at))
    return asked


def evidence_figures(record: Record, weights: Selection, at: At | Places) -> dict[int, dict[str, float]]:
    """By step, the folded figure of each diagnostic of the profiles.

    Raises:
        Unanswerable, RecordError: the record does not hold them.
    """
    figures: dict[int, dict[str, float]] = {}
    for question, evidence in zip(evidence_questions(weights, at), EVIDENCE, strict=True):
        found = sample(question, record, question.settle(record))
        for step, values in found.cells.items():
            figures.setdefault(step, {})[evidence.metric] = fold(values, evidence.fold, found.used)
    return figures
