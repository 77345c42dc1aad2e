"""Comparison with a reference run at matching progress: ``like`` and ``unlike``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import Unit
from geomcheck.errors import RecordError
from geomcheck.record import Point, Record
from geomcheck.record.points import MATCHING_PROGRESS, matches, nearest
from geomcheck.suite.conditions.band import Band, Offence, near
from geomcheck.suite.conditions.figure import NO_OFFENCE, Case, Demanded, FigureCondition, Key, read_tolerance
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.groups import Groups, fold_groups
from geomcheck.suite.language.fields import word, word_schema
from geomcheck.suite.language.places import ALL
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, Tolerance
from geomcheck.suite.likeness import start_difference, weight_difference
from geomcheck.suite.sampling import Question, Sample, Subject, sample
from geomcheck.suite.verdict import Observed, Unanswerable

REFERENCES = {"reference": "The run or record of --geom-reference, at the checkpoint of the same progress."}


_LIKE = ("compare", "compare_to", "same_as", "similar", "similar_to", "reference", "baseline", "matches", "as")
_UNLIKE = ("differs", "different", "differs_from", "not_like", "dissimilar")


def _reference(raw: Any, _unit: Unit) -> str:
    try:
        return word(raw, REFERENCES)
    except Refusal as refusal:
        raise Refusal(f"{refusal}; which run that is, --geom-reference=PATH says") from None


def _key(name: str, about: str, *synonyms: str) -> Key:
    return Key(name, about, _reference, lambda _metric: word_schema(REFERENCES), synonyms)


@dataclass(frozen=True)
class Like(FigureCondition):
    """A figure is close to the reference run's at matching progress."""

    tolerance: Tolerance
    scale: Scale

    keyword = "like"
    tolerant = True
    by_progress = True
    keys = (_key("like", "Compare with the reference run at matching progress.", *_LIKE),)

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(read_tolerance(tolerance, unit), scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def tolerated(self) -> Tolerance:
        return self.tolerance

    @property
    def compares(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return f"reference +- {self.scale.show_tolerance(self.tolerance)}"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        covers = self._covers(low, high)
        return "cannot fail: the tolerance covers the whole range of the figure" if covers else None

    def around(self, reference: float) -> Band:
        """The band around the reference's figure."""
        return near(Quantity(reference), self.tolerance, self.scale)

    def offence(self, value: float, reference: float) -> Offence:
        """Whether `value` is on the wrong side, and how far; what is not finite is on the wrong side."""
        return self.around(reference).offence(value)

    def demanded(self, case: Case) -> Demanded | None:
        companion = self._companion(case)

        def band(step: int, group: str | None) -> Band | None:
            return self.around(companion.figure(step, group)) if step in companion.matched else None

        return band

    def find(self, case: Case) -> Finding:
        companion = self._companion(case)

        def observe(step: int, group: str | None, value: float) -> Observed:
            theirs = companion.figure(step, group)
            return Observed(step, group, value, not self.offence(value, theirs)[0], theirs)

        def offence(one: Observed) -> Offence:
            return self.offence(one.value, companion.figure(one.step, one.group))

        def weight_offence(name: str, value: float) -> Offence:
            other = companion.cells[companion.matched[extreme.step].step].get(name)
            return NO_OFFENCE if other is None else self.offence(value, other)

        observed = tuple(observe(*figure) for figure in case.figures() if figure[0] in companion.matched)
        extreme = max(observed, key=offence)
        theirs = companion.figure(extreme.step, extreme.group)
        further = f"; the reference has {self.scale.show(theirs)} at step {companion.matched[extreme.step].step}"
        finding = case.in_band(observed, extreme, self.around(theirs), further=further, offence=weight_offence)
        return replace(finding, lacking=companion.lacking, warnings=companion.warnings)

    def _companion(self, case: Case) -> _Companion:
        if case.reference is None:
            raise Unanswerable(
                f"`{self.keyword}: reference` needs a reference run; give one with --geom-reference=PATH"
            )
        return _companion(case.expectation, case.question, case.record, case.reference, case.found)

    def _covers(self, low: float, high: float) -> bool:
        amount = self.tolerance.amount
        if self.tolerance.relative:
            return low > 0 and (1 + amount) * low >= high and (1 - amount) * high <= low
        return amount >= high - low


class Unlike(Like):
    """A figure differs from the reference run's at matching progress by more than the tolerance."""

    keyword = "unlike"
    verbs = ("is", "is not")
    keys = (_key("unlike", "Differ from the reference run at matching progress by more than `tolerance`.", *_UNLIKE),)

    @property
    def text(self) -> str:
        return f"outside {super().text}"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        if self.tolerance.amount == 0:
            return "almost always holds: any difference satisfies it; give a tolerance above 0"
        covers = self._covers(low, high)
        return "can never hold: the tolerance covers the whole range of the figure" if covers else None

    def offence(self, value: float, reference: float) -> Offence:
        if not (math.isfinite(value) and math.isfinite(reference)):
            return True, math.inf
        wrong, far = super().offence(value, reference)
        return not wrong, -far

    def demanded(self, case: Case) -> None:
        return None  # what is demanded is no band, but all that is outside of one

    def find(self, case: Case) -> Finding:
        finding = super().find(case)
        meaning = finding.meaning or "The run follows the reference more closely than it should."
        return replace(finding, side=None, meaning=meaning)


@dataclass(frozen=True)
class _Companion:
    """The reference run's side of ``like``: its figures at the checkpoints that match, and why others match none."""

    groups: Groups
    cells: Mapping[int, Mapping[str, float]]
    matched: Mapping[int, Point]
    lacking: tuple[str, ...]
    warnings: tuple[str, ...]

    def figure(self, step: int, group: str | None) -> float:
        """The reference's folded figure of `group` at the checkpoint that matches `step`. Raises Unanswerable."""
        match = self.matched[step].step
        try:
            return self.groups[group][match]
        except KeyError:
            raise Unanswerable(f"the reference has no figure of {group or 'the run'} at step {match}") from None


def _companion(
    expectation: Expectation, question: Question, record: Record, reference: Record, found: Sample
) -> _Companion:
    """The reference's figures at the checkpoints that match those of `found`.

    Raises Unanswerable where the reference lacks them, holds other weights, or has no checkpoint near any of them.
    """
    prefix = f"reference {reference.run!r}"
    everywhere = Question(metric=question.metric, params=question.params, weights=question.weights, at=ALL)
    try:
        subject = everywhere.settle(reference)
        judged = [point for point in record.points if point.step in found.cells]
        near = {point.step: nearest(subject.points, point.progress) for point in judged}
        alone = [point for point in judged if not matches(near[point.step], point.progress)]
        if len(alone) == len(judged):
            raise Unanswerable(f"{_no_match(alone, near)}; judge checkpoints that both have, with `at`")
        matched = {point.step: near[point.step] for point in judged if point not in alone}
        wanted = tuple(sorted(set(matched.values()), key=lambda point: point.step))
        theirs = sample(everywhere, reference, Subject(subject.weights, wanted))
    except (Unanswerable, RecordError) as error:
        raise Unanswerable(f"{prefix}: {error}") from None
    ours = {*found.used, *found.frozen}
    others = {*theirs.used, *theirs.frozen}
    if ours != others:
        odd = sorted(ours ^ others)[0]
        where = "only this run" if odd in ours else "only the reference"
        raise Unanswerable(f"{prefix} has other weights: {where} has {odd}; compare runs of one model")
    for name in sorted(found.used.keys() & theirs.used.keys()):
        difference = weight_difference(found.used[name], theirs.used[name])
        if difference is not None:
            raise Unanswerable(f"{prefix} cannot be compared with: {difference}")
    warnings: tuple[str, ...] = ()
    if theirs.frozen.keys() != found.frozen.keys():
        odd = sorted(theirs.frozen.keys() ^ found.frozen.keys())[0]
        warnings = (f"this run and the reference froze different weights, such as {odd}",)
    start = start_difference(record, reference)
    if start is not None:
        warnings = (f"{start}: sizes can be compared with {prefix}, what they changed cannot", *warnings)
    lacking = (f"{prefix}: {_no_match(alone, near)}",) if alone else ()
    folded = fold_groups(theirs, expectation, Layers(record.weights.values()))
    return _Companion(folded, theirs.cells, matched, lacking, warnings)


def _no_match(points: Sequence[Point], near: Mapping[int, Point]) -> str:
    """That the reference has no checkpoint at the progress of `points`; `near` are its nearest, by step."""
    first, match = points[0], near[points[0].step]
    others = "".join(f", nor step {point.step}" for point in points[1:])
    return (
        f"no checkpoint matches step {first.step} (progress {first.progress:.0%}){others}: the nearest is step "
        f"{match.step} at {match.progress:.0%}, {abs(match.progress - first.progress) * 100:.0f} points away "
        f"(at most {MATCHING_PROGRESS * 100:.0f})"
    )
