"""One expectation of a suite, validated, and independent of any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geomcheck.diagnostics import Fold, Metric, load_metrics
from geomcheck.errors import Position
from geomcheck.measurement.record import Record
from geomcheck.measurement.request import Request
from geomcheck.suite.conditions import Condition, Like, Regime, Trend
from geomcheck.suite.places import ALL, At, Places
from geomcheck.suite.regimes import EVIDENCE
from geomcheck.suite.sampling import Question
from geomcheck.suite.selection import Selection
from geomcheck.suite.verdict import Unanswerable

REGIME = "regime"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must hold of a run.

    Attributes:
        metric: its name; ``regime`` for an expectation about the regime.
        params: every parameter of the metric, defaults filled in, in canonical spelling.
        allow: share of the groups that may violate the condition.
        position: of the expectation in its suite file.
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

    @property
    def declaration(self) -> Metric | None:
        """The metric's declaration; None for ``regime``."""
        return None if self.metric == REGIME else load_metrics()[self.metric]

    def questions(self) -> list[Question]:
        """What is asked of a record: one question, or one per diagnostic of the regime profiles."""
        if isinstance(self.condition, Regime):
            metrics = load_metrics()
            asked = [(metrics[e.metric], _filled(metrics[e.metric], e.params)) for e in EVIDENCE]
        else:
            asked = [(load_metrics()[self.metric], dict(self.params))]
        series = isinstance(self.condition, Trend)
        return [Question(metric=m, params=p, weights=self.weights, at=self.at, series=series) for m, p in asked]

    @property
    def compares(self) -> bool:
        """Whether this needs the record of a reference run."""
        return isinstance(self.condition, Like)

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


def _filled(metric: Metric, params: Mapping[str, Any]) -> dict[str, Any]:
    return {p.name: params.get(p.name, p.default) for p in metric.parameters}
