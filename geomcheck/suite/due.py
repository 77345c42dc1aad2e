"""What can be judged while the run is still going, and what such a judgement is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from geomcheck.record import Point, Record, is_trivial
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.judge import VIOLATED, judge
from geomcheck.suite.language.places import LAST, PREVIOUS, At, Place, Places
from geomcheck.suite.verdict import Unanswerable, Verdict

Standing = Literal["settled", "provisional", "not due yet"]
"""What later checkpoints can do to a judgement: nothing; turn it; or there is none yet."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """What one expectation can say of the checkpoints so far.

    Attributes:
        expectation: as the suite states it.
        now: the part of it that concerns the checkpoints so far, to be judged on a record of exactly these; None
            where nothing can be judged yet.
        waits_for: what must still come, for people; empty where nothing must.
        closed: no later checkpoint will be looked at.
        lasting: the figures of the checkpoints so far do not depend on later ones.
        finished: no checkpoint will follow.
    """

    expectation: Expectation
    now: Expectation | None
    waits_for: str = ""
    closed: bool = False
    lasting: bool = True
    finished: bool = False

    def standing(self, verdict: Verdict | None) -> Standing:
        """What `verdict`, of `now` on the checkpoints so far, is worth.

        A settled violation is one that no continuation of the run can mend: the whole run will not hold either.
        A settled pass holds unless the whole run cannot be judged at all, as when a later file is damaged.
        """
        if self.now is None or verdict is None:
            return "not due yet"
        if self.finished:
            return "settled"
        if not self.lasting:
            return "provisional"
        if self.closed:
            return "provisional" if verdict.outcome == "error" and self._may_mend(verdict) else "settled"
        return "settled" if self._beyond_repair(verdict) else "provisional"

    def _may_mend(self, verdict: Verdict) -> bool:
        """Whether what keeps a closed selection from being judged may pass: frozen weights thaw, scores come later."""
        return verdict.counts.frozen > 0 or self.expectation.condition.answers_later

    def _beyond_repair(self, verdict: Verdict) -> bool:
        """Whether a violation stays one whatever the later checkpoints are."""
        if verdict.outcome not in VIOLATED.values():
            return False
        condition = self.expectation.condition
        if self.expectation.allow and (verdict.counts.frozen or condition.own_places is not None):
            return False  # a group that is first judged later raises the number of those that may violate
        return condition.broken_for_good(verdict.observed, self.expectation.allow)


@dataclass(frozen=True)
class SoFar:
    """An expectation, its verdict on the checkpoints so far (None where there is none), and what that is worth."""

    due: Due
    verdict: Verdict | None
    standing: Standing


def judge_so_far(
    expectation: Expectation, record: Record, *, finished: bool, scaled: bool = True, reference: Record | None = None
) -> SoFar:
    """Judge what can be judged of a `record` that holds the checkpoints so far; see `due`."""
    found = due(expectation, record.points, finished=finished, scaled=scaled)
    verdict = judge(found.now, record, reference, ended=finished) if found.now else None
    return SoFar(found, verdict, found.standing(verdict))


def due(expectation: Expectation, points: Sequence[Point], *, finished: bool, scaled: bool = True) -> Due:
    """What `expectation` can say when the run has come as far as `points`.

    ``at: all`` and spans are judged at the checkpoints so far, ``first`` at once, ``last`` in the end, ``{step: N}``
    when it is there (or was passed: the verdict then says that it is missing). ``{progress: P%}`` means the nearest
    checkpoint, and which one that is stands as soon as a checkpoint is at P or beyond: all later ones are further
    away. Until then nothing is judged there, however near the last checkpoint is. The same goes for checkpoints that
    are a metric's parameter, except ``to: last``, which is judged provisionally: its figures change to the end.

    Args:
        points: the checkpoints so far, ascending by step.
        finished: whether no checkpoint will follow.
        scaled: whether their progress is a share of the whole training. Where the length of the training is not
            known, nothing that goes by progress is due before the end.
    """
    if finished:
        return Due(expectation=expectation, now=expectation, closed=True, finished=True)
    missing = next(_prerequisites(expectation, points, scaled), None)
    if missing is not None:
        return Due(expectation=expectation, now=None, waits_for=missing)
    now, rest = _so_far(expectation, points, scaled)
    lasting = not any(LAST in question.partners.values() for question in expectation.questions())
    if now is None:
        return Due(expectation=expectation, now=None, waits_for=rest)
    open_figures = "" if lasting else "the last checkpoint, which the figures depend on"
    return Due(expectation=expectation, now=now, waits_for=open_figures or rest, closed=not rest, lasting=lasting)


def _prerequisites(expectation: Expectation, points: Sequence[Point], scaled: bool) -> Iterator[str]:
    """What must come before any figure of the expectation means anything."""
    if not points:
        yield "the first checkpoint"
    if points and scaled and _of_another_length(expectation.at, points):
        yield "the end: the training is of another length than that of the good runs, and lacks steps that they had"
    matched = expectation.condition.by_progress
    for question in expectation.questions():
        if (matched or question.metric.needs_reference(question.params)) and not scaled:
            yield "the end: the length of the training is not known, and the reference is matched by progress"
        for place in question.partners.values():
            if place not in (LAST, PREVIOUS) and not _reached(place, points, scaled):
                yield _about(place, scaled)
        if question.metric.is_across(question.params) and len(points) < 2:
            yield "a second checkpoint"


def _of_another_length(at: At | Places, points: Sequence[Point]) -> bool:
    """Whether a step was passed that is one of a training of another length: which checkpoints are judged by progress
    instead is known in the end."""
    lacking = [p for p, index in at.indices(points).items() if p.step is not None and index is None]
    return at.training.is_other(points) and any(
        place.step is not None and place.step < points[-1].step for place in lacking
    )


def _so_far(expectation: Expectation, points: Sequence[Point], scaled: bool) -> tuple[Expectation | None, str]:
    """The part of the expectation that concerns `points`, and what it still waits for."""
    at = expectation.at
    if isinstance(at, Places):
        return _places_so_far(expectation, at, points, scaled)
    if not _reached(at.start, points, scaled):
        return None, _about(at.start, scaled)
    closed = at.single or _reached(at.stop, points, scaled)
    now = expectation if closed else replace(expectation, at=At(at.start, LAST))
    rest = "" if closed else f"later checkpoints, to {at.stop.phrase}"
    wanted = 2 if expectation.condition.series else 1
    if not closed and _judgeable(now, points) < wanted:
        return None, "a second checkpoint" if wanted == 2 else "a later checkpoint"
    return now, rest


def _places_so_far(
    expectation: Expectation, places: Places, points: Sequence[Point], scaled: bool
) -> tuple[Expectation | None, str]:
    """The part about those of the condition's own checkpoints that have come."""
    reached = partial(_reached, points=points, scaled=scaled)
    rest = ", ".join(_about(place, scaled) for place in places.places if not reached(place))
    part = expectation.condition.so_far(reached)
    if part is None or part.own_places is None:
        return None, rest
    return replace(expectation, at=part.own_places, condition=part), rest


def _judgeable(expectation: Expectation, points: Sequence[Point]) -> int:
    """The number of selected checkpoints at which the figure is not fixed by definition; 1 where that is an error."""
    questions = expectation.questions()
    try:
        selected = expectation.at.select(points)
        for question in questions:
            question.require_places(points)
    except Unanswerable:
        return len(points)  # the verdict says why
    if not questions:
        return len(selected)
    question = questions[0]
    return sum(not is_trivial(question.metric, question.params, points, points.index(point)) for point in selected)


def _reached(place: Place, points: Sequence[Point], scaled: bool) -> bool:
    """Whether later checkpoints cannot change which one `place` names; the last is never known."""
    if not points or place == LAST:
        return False
    if place.step is not None:
        return points[-1].step >= place.step
    if place.progress is not None:
        return scaled and points[-1].progress >= (place.rank or 0.0)
    return True


def _about(place: Place, scaled: bool) -> str:
    if place.progress is not None and not scaled:
        return f"the end: the length of the training is not known, so that {place.text} is not"
    if place.progress is not None:
        return f"{place.progress} of the training"
    return f"{place.phrase} checkpoint" if place.word else place.text
