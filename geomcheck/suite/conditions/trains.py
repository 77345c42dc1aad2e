"""Which tensors train: these move, and no others do: ``trains``."""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import compress
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field

from geomcheck._text import plural
from geomcheck.checkpoints.weights import Weight, by_role, is_weight
from geomcheck.diagnostics import Words, load_metrics
from geomcheck.record import Record
from geomcheck.suite.conditions.profile import Profile
from geomcheck.suite.conditions.subject import SubjectCondition
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.language import fields
from geomcheck.suite.language.document import Node
from geomcheck.suite.language.places import LAST, At, Places
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.language.selection import ROLES, Selection
from geomcheck.suite.language.statement import Statement
from geomcheck.suite.sampling import FROZEN, Question, unchanged
from geomcheck.suite.verdict import Observed, Unanswerable, Worst

EVERYTHING = Selection("everything", new=False)

MOST, MOST_GLOBS = 5, 3

WORDS_FOR_MATRICES = ("linear", "attention", "mlp", "all")


class TrainsStatement(Statement):
    """An expectation about which tensors train."""

    trains: Annotated[Selection, *fields.WEIGHTS] = Field(
        description="The tensors that must have moved by the last judged checkpoint. All others must be those of W0. "
        "What an adapter leaves to W0 counts among the others."
    )
    at: Annotated[At, *fields.AT] = Field(
        At(LAST, LAST, single=True), description="The checkpoints; each must hold. Default: last."
    )


@dataclass(frozen=True)
class Trains(SubjectCondition):
    """Of all tensors, those of `trained` moved, and no others did."""

    trained: Selection

    keyword = "trains"
    folds = False
    instead_of_metric = True
    statement = TrainsStatement
    words = Words(
        "How many tensors did otherwise than declared: stood still, or moved.",
        "Tensors stood still that should train, or moved that should not.",
        "Fewer tensors did otherwise than declared.",
    )

    @classmethod
    def of(cls, statement: TrainsStatement, node: Node, profiles: Sequence[Profile]) -> Self:
        if "weights" in node.value:
            raise Refusal("`trains` says itself which weights it means, and looks at all: remove `weights`")
        return cls(statement.trains)

    @classmethod
    def params(cls, statement: TrainsStatement) -> dict[str, Any]:
        return {"trains": statement.trains.plain}

    @property
    def text(self) -> str:
        return f"trains {self.trained.text}, and nothing else"

    def unit(self, metric: str) -> str:
        return "tensors"

    def questions(self, expectation: Expectation) -> list[Question]:
        return [self._question(expectation.at)]

    def holds(self, record: Record) -> bool:
        """Whether it holds of the last checkpoint. Raises Unanswerable or RecordError."""
        return not self._look(record, At(LAST, LAST, single=True)).odd.any()

    def meant(self, record: Record) -> str:
        """What to declare where all is as it was meant to be, by the last checkpoint; empty where it holds, or there
        are no words for it. Raises Unanswerable or RecordError."""
        look = self._look(record, At(LAST, LAST, single=True))
        return _declared(look, 0, record) if look.odd.any() else ""

    def judge(self, expectation: Expectation, record: Record, reference: Record | None) -> Finding:
        look = self._look(record, expectation.at)
        weights, steps, odd = look.weights, look.steps, look.odd
        counts = odd.sum(axis=1).tolist()
        observed = tuple(Observed(step, None, float(n), not n) for step, n in zip(steps, counts, strict=True))
        decisive = max(observed, key=lambda one: (one.value, one.step))
        wrong = list(compress(weights, odd[steps.index(decisive.step)].tolist()))
        idle, restless = [w for w in wrong if w.name in look.trained], [w for w in wrong if w.name not in look.trained]
        parts = ((idle, "never moved"), (restless, "moved all the same"))
        said = [f"{_words(group)} {did}" for group, did in parts if group]
        holds = not any(counts)
        found = f"{plural(len(weights), 'tensor')} do so"
        if not holds:
            really = _declared(look, steps.index(decisive.step), record)
            meant = f"; if that is meant, write `trains: {really}`" if really else ""
            found = f"at step {decisive.step} {', and '.join(said)}{meant}"
        return Finding(
            holds=holds,
            message=f"{'trains' if holds else 'expected to train'} {self.trained.text} and nothing else: {found}",
            observed=observed,
            decisive=decisive,
            worst=tuple(Worst(decisive.step, w.name, float(w.name not in look.trained)) for w in wrong[:MOST]),
            warnings=(*_unseen(look.hidden, record, steps[-1]), *_added(record)),
            side="above",
        )

    def _look(self, record: Record, at: At | Places) -> _Look:
        """What stood still of `record`. Raises Unanswerable or RecordError."""
        subject = self._question(at).settle(record)
        trained = {w.name for w in self.trained.select(record.weights) if not (w.lent or w.new)}
        hidden = [w for w in subject.weights if w.name in trained and not w.shows_steps]
        unseen = {w.name for w in hidden}
        weights = [w for w in subject.weights if w.name not in unseen]
        steps = [point.step for point in subject.points]
        still = unchanged(record, weights)[np.isin([point.step for point in record.points], steps)]
        odd = still == np.array([weight.name in trained for weight in weights])
        return _Look(weights, hidden, trained, steps, still, odd)

    def _question(self, at: At | Places) -> Question:
        frozen = load_metrics()[FROZEN]
        return Question(metric=frozen, params=frozen.defaults, weights=EVERYTHING, at=at)


@dataclass(frozen=True)
class _Look:
    """Tensors that show whether they trained, and `hidden` ones that may not; whether each stood still at each of the
    steps, and whether that is odd: both of shape (steps, weights)."""

    weights: Sequence[Weight]
    hidden: Sequence[Weight]
    trained: Set[str]
    steps: Sequence[int]
    still: np.ndarray
    odd: np.ndarray


def _declared(look: _Look, row: int, record: Record) -> str:
    """What moved of the tensors that are judged, as a suite declares it; empty where that takes too many words."""
    judged = {weight.name for weight in look.weights}
    moved = {weight.name for weight, still in zip(look.weights, look.still[row].tolist(), strict=True) if not still}
    for word in (*WORDS_FOR_MATRICES, *ROLES):
        try:
            if {weight.name for weight in Selection(word).select(record.weights)} & judged == moved:
                return word
        except Unanswerable:
            continue
    left, chosen = _globs(judged - moved, judged), _globs(moved, judged)
    if moved and len(left) <= MOST_GLOBS:
        return f"{{role: everything, exclude: {json.dumps(left)}}}"
    return f"{{include: {json.dumps(chosen)}}}" if 0 < len(chosen) <= MOST_GLOBS else ""


def _globs(wanted: Set[str], judged: Set[str]) -> list[str]:
    """Patterns that name exactly these of the tensors: each a module of which all are wanted, the largest there are."""
    unwanted = {prefix for name in judged - wanted for prefix in _prefixes(name)}
    return sorted({next((f"{p}*" for p in _prefixes(name) if p not in unwanted), name) for name in wanted})


def _prefixes(name: str) -> list[str]:
    """``model.``, ``model.layers.`` and so on."""
    parts = name.split(".")
    return [f"{'.'.join(parts[:count])}." for count in range(1, len(parts))]


def _unseen(hidden: Sequence[Weight], record: Record, step: int) -> tuple[str, ...]:
    """A remark on vectors whose format may hide that they trained, as far as they did not move."""
    if not hidden:
        return ()
    row = [point.step for point in record.points].index(step)
    unseen = list(compress(hidden, unchanged(record, hidden)[row].tolist()))
    if not unseen:
        return ()
    return (f"{_words(unseen)} did not move in {unseen[0].dtypes[-1]}, which may be too coarse to show it: not judged",)


def _added(record: Record) -> tuple[str, ...]:
    """A remark on tensors that W0 lacks: that they moved has no meaning."""
    new = [weight for _, weight in sorted(record.weights.items()) if weight.new and is_weight(weight)]
    return (f"{_words(new)} not in W0: new, and not judged",) if new else ()


def _words(weights: Sequence[Weight]) -> str:
    """Some weights in words: how many of which role, and one of them."""
    return f"{by_role(weights)} ({weights[0].name}{', ...' * (len(weights) > 1)})"
