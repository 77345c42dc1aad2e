"""One expectation of a suite, validated, and independent of any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.errors import Position
from geomcheck.record.record import Record
from geomcheck.record.request import Request
from geomcheck.suite.conditions.evidence import evidence_questions
from geomcheck.suite.conditions.kinds import Condition, Like, Regime, Trend
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY, Sufficiency
from geomcheck.suite.language.places import ALL, At, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import Question
from geomcheck.suite.verdict import Unanswerable

REGIME = "regime"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must hold of a run.

    Attributes:
        metric: its name; ``regime`` for an expectation about the regime, ``functional_sufficiency`` for one about
            scores.
        params: every parameter of the metric, defaults filled in, in canonical spelling.
        allow: share of the groups that may violate the condition.
        position: of the expectation in its suite file.
        storage: formats of W0 and the run that the figures are for; empty for any.
    """

    id: str
    metric: str
    params: Mapping[str, Any] = field(default_factory=dict)
    condition: Condition
    at: At | Places
    per: str = "run"
    fold: Fold = "mean"
    weights: Selection
    allow: float = 0.0
    level: str = "error"
    why: str = ""
    position: Position
    storage: tuple[str, ...] = ()

    @property
    def declaration(self) -> Metric | None:
        """The metric's declaration; None for ``regime`` and ``functional_sufficiency``."""
        return None if self.metric in (REGIME, SUFFICIENCY) else load_metrics()[self.metric]

    def questions(self) -> list[Question]:
        """What is asked of a record: one question, one per diagnostic of the regime profiles, or none of scores."""
        if isinstance(self.condition, Sufficiency):
            return []
        if isinstance(self.condition, Regime):
            return evidence_questions(self.weights, self.at)
        series = isinstance(self.condition, Trend)
        metric = load_metrics()[self.metric]
        return [Question(metric=metric, params=dict(self.params), weights=self.weights, at=self.at, series=series)]

    @property
    def compares(self) -> bool:
        """Whether this needs the record of a reference run."""
        return isinstance(self.condition, Like) or (isinstance(self.condition, Sufficiency) and not self.condition.free)

    def requests(self, record: Record) -> dict[str, set[Request]]:
        """The measurements that this needs of a run with these weights and checkpoints, by weight name.

        Looks at no figure. Empty where no measurement could answer it; the verdict then says why.
        """
        wanted: dict[str, set[Request]] = {}
        try:
            for question in self.questions():
                for weight in question.settle(record).weights:
                    wanted.setdefault(weight.name, set()).add(question.request)
        except Unanswerable:
            return {}
        return wanted

    def reference_requests(self, reference: Record) -> dict[str, set[Request]]:
        """The measurements that this needs of the reference run, by weight name; none unless it `compares`."""
        if not self.compares:
            return {}
        return replace(self, at=ALL).requests(reference)
