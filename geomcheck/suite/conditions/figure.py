"""What conditions on a metric's figures share: their keys in a suite, and the way from a record to a finding."""

from __future__ import annotations

import math
import statistics
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from geomcheck.checkpoints.weights import Layers, Weight
from geomcheck.diagnostics import Metric, Unit
from geomcheck.record import Record
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Band, Offence
from geomcheck.suite.conditions.limits import Demand
from geomcheck.suite.expectation import Condition, Expectation, Finding
from geomcheck.suite.groups import Groups, fold_groups, gaps, group_of, require_groups
from geomcheck.suite.language.places import At
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, Tolerance, tolerance
from geomcheck.suite.rounding import rounding_warning
from geomcheck.suite.sampling import Question, Sample, Subject, fused_warning, sample
from geomcheck.suite.sketched import answerable, sketch_warning, sketched
from geomcheck.suite.verdict import Observed, Unanswerable, Worst

WORST = 5
"""Weights that a verdict names."""

NOT_FINITE = "The figure is not a finite number, and nothing holds of such a figure."

NO_OFFENCE: Offence = (False, -math.inf)

Demanded = Callable[[int, str | None], Band | None]
"""The band of the folded figure at a step, of a group; None where it is not judged."""


@dataclass(frozen=True)
class Key:
    """One key of a condition, as a suite writes it.

    Attributes:
        name: the key.
        about: what it demands, in one sentence for editors.
        read: its value from a plain YAML value, in the unit of the metric. Raises Refusal.
        schema: the JSON Schema of its value for a metric, with ``examples``.
        synonyms: what people write for the key, in snake_case.
    """

    name: str
    about: str
    read: Callable[[Any, Unit], Any]
    schema: Callable[[Metric], dict[str, Any]]
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One expectation on one record, with the figures that it is about."""

    expectation: Expectation
    record: Record
    reference: Record | None
    question: Question
    found: Sample
    groups: Groups

    def figures(self) -> Iterator[tuple[int, str | None, float]]:
        """(step, group, folded figure), by group and then by step."""
        for group, series in self.groups.items():
            for step, value in series.items():
                yield step, group, value

    def worst(
        self,
        step: int,
        offence: Callable[[str, float], Offence],
        normal: Mapping[str, tuple[float, float]] | None = None,
    ) -> tuple[Worst, ...]:
        """The weights on the wrong side of what they should be by themselves at `step`, the furthest first; where there
        are none, those closest to it.

        Args:
            normal: the range of each weight that is looked at; by default all are, and no range is told.
        """
        cells = self.found.cells[step]
        values = {name: cells[name] for name in sorted(cells) if normal is None or name in normal}
        offences = {name: offence(name, value) for name, value in values.items()}
        ordered = sorted(offences, key=lambda name: offences[name], reverse=True)
        wrong = [name for name in ordered if offences[name][0]]
        ranges = normal or {}
        return tuple(
            Worst(step, name, values[name], offences[name][0], ranges.get(name)) for name in (wrong or ordered)[:WORST]
        )

    def furthest(self, observed: Sequence[Observed], extreme: Observed, band: Band) -> tuple[Worst, ...]:
        """Of a violation the weights that are outside their own normal range at the step of `extreme`, the furthest
        first. Where nothing is known, those furthest from the others, on the side on which `extreme` leaves its `band`.

        The band is of folded figures, and of a single weight only where none are folded. Of groups only those that
        violate it are looked at.
        """
        step, expectation = extreme.step, self.expectation
        if expectation.per == "weight":
            return self.worst(step, lambda _name, value: band.offence(value))
        suspects = self._suspects(step, {o.group for o in observed if o.step == step and not o.holds})
        known = expectation.normal if not extreme.holds else None
        normal = known.at(step, self.record.points) if known else {}
        least, most = self.question.metric.range(self.question.params)
        normal = {n: (max(low, least), min(high, most)) for n, (low, high) in normal.items() if n in suspects}
        if normal:
            return self.worst(step, lambda name, value: _beyond(value, normal[name]), normal)
        values = self.found.cells[step]
        middle = statistics.median(values.values())
        sign = -1 if band.side(extreme.value) == "below" else 1
        if extreme.holds:  # towards the nearer bound
            sign = 1 if band.high - extreme.value <= extreme.value - band.low else -1
        far = {name: sign * (values[name] - middle) for name in sorted(suspects)}
        ahead = [name for name in far if far[name] > 0]
        some = far if extreme.holds or expectation.per != "run" or not ahead else ahead
        return tuple(Worst(step, name, values[name]) for name in sorted(some, key=lambda n: -far[n])[:WORST])

    def _suspects(self, step: int, broken: Set[str | None]) -> set[str]:
        """The weights of the groups that are `broken` at `step`; all where none is."""
        layers, per = Layers(self.record.weights.values()), self.expectation.per
        names = self.found.cells[step].keys()
        return {name for name in names if group_of(self.found.used[name], per, layers) in broken} or {*names}

    def in_band(
        self,
        observed: tuple[Observed, ...],
        extreme: Observed,
        band: Band,
        *,
        further: str = "",
        offence: Callable[[str, float], Offence] | None = None,
    ) -> Finding:
        """The finding that figures are in their bands or not, told of the `extreme` figure and its `band`.

        Args:
            further: the end of the sentence.
            offence: of a weight's own figure, where there is something to hold it against.
        """
        return Finding(
            wording.within_allowance(observed, self.expectation.allow),
            wording.in_band(self.expectation, observed, extreme, band, len(self.found.used)) + further,
            observed,
            extreme,
            self.worst(extreme.step, offence) if offence else self.furthest(observed, extreme, band),
            side=band.side(extreme.value),
            meaning=unless_finite(extreme.value),
        )


class FigureCondition(Condition):
    """A condition on the folded figures of a metric.

    Attributes:
        keys: the keys that state it, any of which may be given.
        tolerant: whether `tolerance` goes with it.
    """

    keys: ClassVar[tuple[Key, ...]]
    tolerant: ClassVar[bool] = False

    @classmethod
    def needs_tolerance(cls, given: Mapping[str, Any]) -> bool:
        """Whether a suite must give `tolerance` beside these keys, as they are written."""
        return cls.tolerant

    @classmethod
    def demands(cls, given: Mapping[str, Any]) -> Iterable[Demand]:
        """The figures among the values of its keys. Each must lie in the range of the metric's figure, and whether
        they are in percent decides how all are shown."""
        return [Demand((key,), value) for key, value in given.items() if isinstance(value, Quantity)]

    @classmethod
    @abstractmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        """The condition with these values of its keys, and of `tolerance` as it is written. Raises Refusal."""

    @property
    def tolerated(self) -> Tolerance | None:
        """How far figures may be off, where it has a tolerance."""
        return None

    @abstractmethod
    def find(self, case: Case) -> Finding:
        """Hold the figures against it. Raises Unanswerable."""

    def demanded(self, case: Case) -> Demanded | None:
        """The band that each folded figure lies in by itself; None where figures are judged together, as a trend is,
        and all must be known. Looks at no figure of the run. Raises Unanswerable."""
        return None

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        """Why it says nothing about `count` figures (None: any number) from `low` to `high`, or None."""
        return None

    def slack(self, low: float, high: float) -> str | None:
        """Which of its bounds no figure from `low` to `high` reaches, in a sentence; or None."""
        return None

    def contradictions(self, at: At, metric: Metric, params: Mapping[str, Any]) -> Iterable[Refusal]:
        """What makes no sense beside it in the statement: of `metric`, at these checkpoints."""
        return ()

    def judge(self, expectation: Expectation, record: Record, reference: Record | None) -> Finding:
        (question,) = self.questions(expectation)
        subject = question.settle(record)
        require_groups(subject.weights, expectation)
        self.require_doubt(question, subject)
        from_sketches = answerable(question, record, reference)
        if from_sketches and reference is not None:
            record = sketched(question, record, reference)
        found = sample(question, record, subject)
        _require_storage(expectation, found)
        layers = Layers(record.weights.values())
        groups = fold_groups(found, expectation, layers)
        warnings = (
            *((sketch_warning(found),) if from_sketches else ()),
            *rounding_warning(question, record, found),
            *fused_warning(found.used.values()),
            *gaps(groups, found, expectation, layers),
        )
        warnings = (*warnings, *self._doubt(question, found.used.values(), len(found.cells)))
        finding = self.find(Case(expectation, record, reference, question, found, groups))
        return replace(finding, warnings=(*warnings, *finding.warnings))

    def require_doubt(self, question: Question, subject: Subject) -> None:
        self._doubt(question, subject.weights, len(subject.points))

    def _doubt(self, question: Question, weights: Iterable[Weight], count: int) -> tuple[str, ...]:
        """Raise Unanswerable where it holds, or fails, whatever weights of these shapes do at `count` checkpoints; a
        sentence where only one of its bounds does."""
        shapes = {weight.shape for weight in weights}
        ranges = {question.metric.range(question.params, shape) for shape in shapes}
        low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
        fault = self.fault(low, high, count)
        if fault:
            raise Unanswerable(f"`{self.text}` {fault}, of weights of these shapes")
        slack = self.slack(low, high)
        return (f"{slack}, of weights of these shapes",) if slack else ()


def _beyond(value: float, normal: tuple[float, float]) -> Offence:
    """Whether a figure is outside its `normal` range, and how far, in half widths of it."""
    low, high = normal
    far, half = max(low - value, value - high), (high - low) / 2
    return far > 0, far / half if half > 0 else far


def read_tolerance(raw: Any, unit: Unit) -> Tolerance:
    """The value of `tolerance`. Raises Refusal at that key."""
    with Refusal.at("tolerance"):
        return tolerance(raw, unit)


def unless_finite(value: float) -> str:
    """What a violation by `value` means where it is no finite number; nothing where it is one."""
    return "" if math.isfinite(value) else NOT_FINITE


def by_group(observed: Sequence[Observed]) -> dict[str | None, list[Observed]]:
    """The figures of each group, in their order."""
    found: dict[str | None, list[Observed]] = {}
    for one in observed:
        found.setdefault(one.group, []).append(one)
    return found


def _require_storage(expectation: Expectation, found: Sample) -> None:
    """Raise Unanswerable where the suite is for other storage formats."""
    for name, weight in found.used.items():
        if expectation.storage and weight.dtypes != expectation.storage:
            raise Unanswerable(
                f"{name} is stored as {', '.join(weight.dtypes)} (W0, run), and the suite is for `storage: "
                f"[{', '.join(expectation.storage)}]`: its figures are other figures"
            )
