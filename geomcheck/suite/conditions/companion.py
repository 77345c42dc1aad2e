"""The other side of ``like: reference``: the reference run's figures at matching progress."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geomcheck.errors import RecordError
from geomcheck.record.points import MATCHING_PROGRESS, matches, nearest
from geomcheck.record.record import Point, Record
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.groups import Groups, fold_groups
from geomcheck.suite.language.places import ALL
from geomcheck.suite.likeness import start_difference, weight_difference
from geomcheck.suite.sampling import Question, Sample, Subject, sample
from geomcheck.suite.verdict import Unanswerable


@dataclass(frozen=True)
class Companion:
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


def companion_of(
    expectation: Expectation, question: Question, record: Record, reference: Record, found: Sample
) -> Companion:
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
    return Companion(fold_groups(theirs, expectation), theirs.cells, matched, warnings)


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
