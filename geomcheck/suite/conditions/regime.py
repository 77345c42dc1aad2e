"""Which training method the run looks like: ``regime``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field

from geomcheck.diagnostics import Words, load_metrics
from geomcheck.record import Record
from geomcheck.suite.conditions.profile import EVIDENCE, PAPER, Profile, classify
from geomcheck.suite.conditions.subject import SubjectCondition
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.folds import fold
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import LAST, At, Places
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.language.statement import Statement, Text
from geomcheck.suite.sampling import Question, fused_warning, sample
from geomcheck.suite.verdict import Area, Observed


class RegimeStatement(Statement):
    """An expectation about the regime that the run looks like."""

    regime: Text = Field(
        description="The training method it must look like: the name of a profile.",
        examples=[profile.name for profile in PAPER],
    )
    at: Annotated[At, *fields.AT] = Field(
        At(LAST, LAST, single=True), description="The checkpoints; each must hold. Default: last."
    )


@dataclass(frozen=True)
class Regime(SubjectCondition):
    """The run is classified as `name`, one of `profiles`."""

    name: str
    profiles: tuple[Profile, ...]

    keyword = "regime"
    instead_of_metric = True
    statement = RegimeStatement
    words = Words(
        "How far the run is from the published profile, in decades: 1 is a factor of ten.",
        *["By its geometry the run looks like another kind of training than it claims to be."] * 2,
    )

    @classmethod
    def of(cls, statement: RegimeStatement, node: Node, profiles: Sequence[Profile]) -> Self:
        try:
            fields.word(statement.regime, [profile.name for profile in profiles])
        except Refusal as refusal:
            raise Refusal(f"`regime`: {refusal}", path=("regime",)) from None
        return cls(statement.regime, tuple(profiles))

    @property
    def text(self) -> str:
        return f"regime is {self.name} (at most {self._reach:.2g} decades from its profile)"

    @property
    def drawn(self) -> Area:
        return Area(None, self._reach, f"at most {self._reach:g} decades")

    @property
    def _reach(self) -> float:
        (reach,) = (profile.reach for profile in self.profiles if profile.name == self.name)
        return reach

    def unit(self, metric: str) -> str:
        return "decades"

    def questions(self, expectation: Expectation) -> list[Question]:
        return evidence_questions(expectation.weights, expectation.at)

    def judge(self, expectation: Expectation, record: Record, reference: Record | None) -> Finding:
        figures = evidence_figures(record, expectation.weights, expectation.at)
        classified = {step: classify(by_metric, self.profiles) for step, by_metric in figures.items()}
        observed = tuple(
            Observed(step, None, result.distances[self.name], result.name == self.name)
            for step, result in classified.items()
        )
        extreme = max(observed, key=lambda o: (not o.holds, o.value))
        verb = "is" if extreme.holds else "expected"
        message = f"regime {verb} {self.name}; at step {extreme.step}: {classified[extreme.step].describe()}"
        warnings = fused_warning(expectation.weights.select(record.weights))
        holds = all(o.holds for o in observed)
        return Finding(holds, message, observed, extreme, warnings=warnings, side="above")


def evidence_questions(weights: Selection, at: At | Places) -> list[Question]:
    """What is asked of a record: one question per diagnostic of the profiles, in their order."""
    asked = []
    for evidence in EVIDENCE:
        metric = load_metrics()[evidence.metric]
        asked.append(Question(metric=metric, params={**metric.defaults, **evidence.params}, weights=weights, at=at))
    return asked


def evidence_figures(record: Record, weights: Selection, at: At | Places) -> dict[int, dict[str, float]]:
    """By step, the folded figure of each diagnostic. Raises Unanswerable or RecordError where the record has none."""
    figures: dict[int, dict[str, float]] = {}
    for question, evidence in zip(evidence_questions(weights, at), EVIDENCE, strict=True):
        found = sample(question, record, question.settle(record))
        for step, values in found.cells.items():
            figures.setdefault(step, {})[evidence.metric] = fold(values, evidence.fold, found.used)
    return figures
