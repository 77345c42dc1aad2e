"""One expectation of a suite, independent of any run, and what every kind of condition must say about itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from geomcheck.diagnostics import Fold, load_metrics
from geomcheck.errors import Position
from geomcheck.record import Record, Request
from geomcheck.suite.language.places import ALL, At, Place, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal
from geomcheck.suite.sampling import Question, Subject
from geomcheck.suite.verdict import Area, Bounds, Observed, Side, Unanswerable, Worst


@dataclass(frozen=True)
class Finding:
    """What a judgement rests on, as `Verdict` says it; `side` and `meaning` are those of a violation, if it is one.

    `lacking` says why some checkpoints that it is about could not be judged, in a sentence each.
    """

    holds: bool
    message: str
    observed: tuple[Observed, ...] = ()
    decisive: Observed | None = None
    worst: tuple[Worst, ...] = ()
    warnings: tuple[str, ...] = ()
    side: Side | None = None
    meaning: str = ""
    lacking: tuple[str, ...] = ()


class Condition(ABC):
    """What an expectation demands. One subclass per keyword, each in its own module of `geomcheck.suite.conditions`.

    Attributes:
        keyword: its name in verdicts.
        series: whether it looks at the course of a figure, and so needs two checkpoints.
        by_progress: whether it compares checkpoints of two runs by their progress.
        by_layer: whether it means something for each layer alone.
        folds: whether figures of several weights are folded into one.
        answers_later: whether what it needs may be written after the checkpoints that it judges.
        verbs: what a metric does with the condition where it holds, and where it does not.
    """

    keyword: ClassVar[str]
    series: ClassVar[bool] = False
    by_progress: ClassVar[bool] = False
    by_layer: ClassVar[bool] = True
    folds: ClassVar[bool] = True
    answers_later: ClassVar[bool] = False
    verbs: ClassVar[tuple[str, str]] = ("keeps", "left")

    @property
    @abstractmethod
    def text(self) -> str:
        """The condition for people."""

    @property
    def called(self) -> str:
        """The condition within the sentence of a verdict."""
        return self.text

    @property
    def percent(self) -> bool:
        """Whether its figures are written in percent."""
        return False

    @property
    def bounds(self) -> Bounds | None:
        """The two bounds, where it is one fixed band."""
        return None

    @property
    def drawn(self) -> Area | None:
        """The area that a chart shades, where it is the same at every checkpoint."""
        return None if self.bounds is None else Area(*self.bounds)

    @property
    def own_places(self) -> Places | None:
        """The checkpoints that the condition itself names; None where the expectation's `at` does."""
        return None

    @property
    def compares(self) -> bool:
        """Whether it needs the record of a reference run."""
        return False

    @property
    def parties(self) -> tuple[Path, ...]:
        """Other runs and records that it reads."""
        return ()

    def unit(self, metric: str) -> str:
        """The unit of its figures."""
        return load_metrics()[metric].unit.value

    def questions(self, expectation: Expectation) -> list[Question]:
        """What it asks of a record."""
        return [
            Question(
                metric=load_metrics()[expectation.metric],
                params=dict(expectation.params),
                weights=expectation.weights,
                at=expectation.at,
                series=self.series,
            )
        ]

    def require_doubt(self, question: Question, subject: Subject) -> None:
        """Raise Unanswerable where it holds, or fails, whatever the figures of these weights are."""
        return

    @abstractmethod
    def judge(self, expectation: Expectation, record: Record, reference: Record | None) -> Finding:
        """Hold `record` against it. Raises Unanswerable or RecordError where it cannot be judged."""

    def broken_for_good(self, observed: Sequence[Observed], allow: float) -> bool:
        """Whether a violation by the checkpoints so far stays one whatever the later checkpoints are."""
        return True

    def so_far(self, reached: Callable[[Place], bool]) -> Self | None:
        """The part of it about checkpoints that were reached, where it names its own; None while there is none."""
        return self


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What must hold of a run.

    Attributes:
        metric: the metric's name, or the name of what is judged instead: ``regime``, ``functional_sufficiency``.
        params: every parameter of the metric, defaults filled in, in canonical spelling.
        allow: share of the groups that may violate the condition.
        position: of the expectation in its suite file.
        storage: formats of W0 and the run that the figures are for; empty for any.
        only_with: what a run or session may lack without that being an error; empty for nothing.
        normal: what is normal for single weights, where that is known.
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
    only_with: str = ""
    normal: Normal | None = None

    def questions(self) -> list[Question]:
        """What is asked of a record; nothing by a condition that is not about figures of weights."""
        return self.condition.questions(self)

    @property
    def compares(self) -> bool:
        """Whether this needs a reference run, or its record."""
        asked = (question.metric.needs_reference(question.params) for question in self.questions())
        return self.condition.compares or any(asked)

    def requests(self, record: Record) -> dict[str, set[Request]]:
        """The measurements that this needs of a run with these weights and checkpoints, by weight name.

        Looks at no figure. Empty where no measurement could answer it; the verdict then says why.
        """
        wanted: dict[str, set[Request]] = {}
        try:
            for question in self.questions():
                subject = question.settle(record)
                self.condition.require_doubt(question, subject)
                for weight in subject.weights:
                    wanted.setdefault(weight.name, set()).add(question.request)
        except Unanswerable:
            return {}
        return wanted

    def reference_requests(self, reference: Record) -> dict[str, set[Request]]:
        """The measurements that this needs of the reference run, by weight name; none unless its condition compares."""
        if not self.condition.compares:
            return {}
        return replace(self, at=ALL).requests(reference)
