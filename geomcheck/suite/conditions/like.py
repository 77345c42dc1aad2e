"""Comparison with a reference run at matching progress: ``like`` and ``unlike``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from geomcheck.checkpoints.weights import Layers
from geomcheck.diagnostics import Unit
from geomcheck.errors import RecordError
from geomcheck.record import Point, Record
from geomcheck.record.points import MATCHING_PROGRESS, matches, nearest
from geomcheck.suite.conditions.band import Band, Offence, near
from geomcheck.suite.conditions.figure import NO_OFFENCE, Case, FigureCondition, Key, read_tolerance
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.groups import Groups, fold_groups
from geomcheck.suite.language.fields import word, word_schema
from geomcheck.suite.language.places import ALL
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance
from geomcheck.suite.likeness import start_difference, weight_difference
from geomcheck.suite.sampling import Question, Sample, Subject, sample
from geomcheck.suite.verdict import Observed, Unanswerable

REFERENCES = {"reference": "The run or record of --geom-reference, at the checkpoint of the same progress."}


def _key(name: str, about: str) -> Key:
    return Key(name, about, lambda raw, _unit: word(raw, REFERENCES), lambda _metric: word_schema(REFERENCES))


@dataclass(frozen=True)
class Like(FigureCondition):
    """A figure is close to the reference run's at matching progress."""

    tolerance: Tolerance
    scale: Scale

    keyword = "like"
    tolerant = True
    by_progress = True
    keys = (_key("like", "Compare with the reference run at matching progress."),)

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(read_tolerance(tolerance, unit), scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

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

    def find(self, case: Case) -> Finding:
        if case.reference is None:
            raise Unanswerable(
                f"`{self.keyword}: reference` needs a reference run; give one with --geom-reference=PATH"
            )
        companion = _companion(case.expectation, case.question, case.record, case.reference, case.found)

        def observe(step: int, group: str | None, value: float) -> Observed:
            theirs = companion.figure(step, group)
            return Observed(step, group, value, not self.offence(value, theirs)[0], theirs)

        def offence(one: Observed) -> Offence:
            return self.offence(one.value, companion.figure(one.step, one.group))

        def weight_offence(name: str, value: float) -> Offence:
            other = companion.cells[companion.matched[extreme.step].step].get(name)
            return NO_OFFENCE if other is None else self.offence(value, other)

        observed = tuple(observe(*figure) for figure in case.figures())
        extreme = max(observed, key=offence)
        theirs = companion.figure(extreme.step, extreme.group)
        further = f"; the reference has {self.scale.show(theirs)} at step {companion.matched[extreme.step].step}"
        finding = case.in_band(observed, extreme, self.around(theirs), further=further, offence=weight_offence)
        return replace(finding, warnings=companion.warnings)

    def _covers(self, low: float, high: float) -> bool:
        return not self.tolerance.relative and self.tolerance.amount >= high - low


class Unlike(Like):
    """A figure differs from the reference run's at matching progress by more than the tolerance."""

    keyword = "unlike"
    verbs = ("is", "is not")
    keys = (_key("unlike", "Differ from the reference run at matching progress by more than `tolerance`."),)

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

    def find(self, case: Case) -> Finding:
        finding = super().find(case)
        meaning = finding.meaning or "The run follows the reference more closely than it should."
        return replace(finding, side=None, meaning=meaning)


@dataclass(frozen=True)
class _Companion:
    """The reference run's side of ``like``: its figures at the checkpoints that match."""

    groups: Groups
    cells: Mapping[int, Mapping[str, float]]
    matched: Mapping[int, Point]
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

    Raises Unanswerable where the reference lacks them, holds other weights, or has no checkpoint near enough.
    """
    prefix = f"reference {reference.run!r}"
    everywhere = Question(metric=question.metric, params=question.params, weights=question.weights, at=ALL)
    try:
        subject = everywhere.settle(reference)
        matched = {point.step: _match(point, subject.points) for point in record.points if point.step in found.cells}
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
    return _Companion(
        fold_groups(theirs, expectation, Layers(record.weights.values())), theirs.cells, matched, warnings
    )


def _match(point: Point, candidates: tuple[Point, ...]) -> Point:
    match = nearest(candidates, point.progress)
    if not matches(match, point.progress):
        apart = abs(match.progress - point.progress)
        raise Unanswerable(
            f"no checkpoint matches step {point.step} (progress {point.progress:.0%}): the nearest is step "
            f"{match.step} at {match.progress:.0%}, {apart * 100:.0f} points away "
            f"(at most {MATCHING_PROGRESS * 100:.0f}); judge checkpoints that both have, with `at`"
        )
    return match
