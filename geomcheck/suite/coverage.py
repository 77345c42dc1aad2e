"""Which checkpoints an expectation could not be held against, though it is about them, and what that comes to.

A run may lack checkpoints that a suite has bands for: a save limit pruned them, they are not complete, training stopped
early or is still going. It may have others that no band is for. Either way what is there is judged, and the rest named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from geomcheck.record import Point, Record
from geomcheck.record.points import early_end, matches, training_steps
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.language.places import ALL, LAST, At, Places, no_checkpoint_at

Missing = Literal["error", "info"]
"""What it comes to where checkpoints could not be judged, and the others hold: an error, or a remark."""

ACCEPT = "--geom-missing-checkpoints=info accepts that"


@dataclass(frozen=True)
class Coverage:
    """What an expectation did not look at, in a sentence each.

    Attributes:
        lacking: why it was not judged as a whole: a checkpoint that it is about is not there, the run goes on beyond
            its last band, so that the weights that will be used were not judged, or ends before its reference.
        remarks: what else a reader should know: checkpoints between bands, a training that ended early.
    """

    lacking: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def coverage(expectation: Expectation, record: Record, reference: Record | None, *, ended: bool) -> Coverage:
    """What `expectation`, which could be judged, did not look at in `record`, or in the `reference` that it is held to.

    `ended` says that no checkpoint will follow: only then is it known which checkpoints have no band.
    """
    points = record.points
    absent, end = expectation.at.lacking(points), early_end(points)
    lacking = (no_checkpoint_at(absent, points) + f", and ended at {end}" * bool(end),) if absent else ()
    if not ended:
        return Coverage(lacking)
    other = _other_length(expectation, points)
    beyond, between = _without_band(expectation, record)
    short, skipped = _without_match(expectation, points, reference)
    return Coverage((*lacking, *beyond, *short), (*other, *between, *skipped, *_early_end(expectation, points)))


def _other_length(expectation: Expectation, points: Sequence[Point]) -> tuple[str, ...]:
    """A sentence where the training is of another length than that of the good runs, and which of its checkpoints are
    judged by progress for that."""
    if not expectation.at.training.is_other(points):
        return ()
    at = expectation.at
    found = ((p.step, points[i].step) for p, i in at.indices(points).items() if p.step is not None and i is not None)
    moved = [f"step {there} as step {step}" for step, there in found if step != there]
    judged = f": it is judged by progress, {', '.join(moved)}" if moved else ""
    good = at.training.steps
    return (f"the training is of {training_steps(points)} steps, and that of the good runs was of {good}{judged}",)


def _without_band(expectation: Expectation, record: Record) -> tuple[Sequence[str], Sequence[str]]:
    """Where the condition names its checkpoints: those at which it has no figure, or the run has and it does not."""
    places = expectation.at
    if not isinstance(places, Places):
        return (), ()
    by_question = [question.judgeable(record) for question in expectation.questions()]
    judgeable = [point for point in record.points if all(point in points for points in by_question)]
    banded = places.select(record.points)
    fixed = [point for point in banded if point not in judgeable]
    other = [point for point in judgeable if point not in banded]
    beyond = [point for point in other if point.step > banded[-1].step]
    between = [point for point in other if point not in beyond]
    why = next((q.metric.why_trivial for q in expectation.questions()), "")
    itself = f"{expectation.metric} at {_steps(fixed)} {why}: a band says nothing there"
    lacking = [itself] if fixed else []
    if beyond:
        lacking.append(f"no band judges {_steps(beyond)}: the last is that of step {banded[-1].step}")
    return lacking, [f"no band judges {_steps(between)}"] if between else []


def _without_match(
    expectation: Expectation, points: Sequence[Point], reference: Record | None
) -> tuple[Sequence[str], Sequence[str]]:
    """Where a whole run is held to a reference: what only the reference has, after the run's end or before."""
    if reference is None or not expectation.condition.by_progress or expectation.at != ALL:
        return (), ()
    alone = [point for point in reference.points if not any(matches(own, point.progress) for own in points)]
    later = [point for point in alone if point.progress > points[-1].progress]
    prefix = f"reference {reference.run!r} has {{}}, which no checkpoint of this run matches"
    short = [f"{prefix.format(_steps(later))}: it ends at step {points[-1].step} ({points[-1].progress:.0%})"]
    skipped = [point for point in alone if point not in later]
    return short if later else [], [prefix.format(_steps(skipped))] if skipped else []


def _early_end(expectation: Expectation, points: Sequence[Point]) -> tuple[str, ...]:
    """A sentence where the last checkpoint, which the expectation names, is not the end of the training."""
    end = early_end(points)
    span = expectation.at if isinstance(expectation.at, At) and expectation.at != ALL else None
    if not end:
        return ()
    if (span and span.stop == LAST) or any(LAST in q.partners.values() for q in expectation.questions()):
        return (f"`last` is not the end of the training: the run ended at {end}",)
    if span and span.stop.is_beyond(points):
        return (f"`at` is judged up to there alone: the run ended at {end}",)
    return ()


def _steps(points: Sequence[Point]) -> str:
    return f"step{'s' * (len(points) > 1)} {', '.join(str(point.step) for point in points)}"
