"""What can be judged while the run is still going, and what such a judgement is worth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

from geomcheck.record.points import is_trivial
from geomcheck.record.record import Point, Record
from geomcheck.suite import wording
from geomcheck.suite.conditions.band import Bands
from geomcheck.suite.conditions.kinds import Like, Trend
from geomcheck.suite.conditions.sufficiency import Sufficiency
from geomcheck.suite.expectation import Expectation
from geomcheck.suite.judge import judge
from geomcheck.suite.language.places import LAST, PREVIOUS, At, Place, Places
from geomcheck.suite.verdict import Observed, Unanswerable, Verdict

Standing = Literal["settled", "provisional", "not due yet"]
"""What later checkpoints can do to a judgement: nothing; turn it; or there is none yet."""

VIOLATED = ("failed", "warned", "info")


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
        return verdict.frozen > 0 or isinstance(self.expectation.condition, Sufficiency)

    def _beyond_repair(self, verdict: Verdict) -> bool:
        """Whether a violation stays one whatever the later checkpoints are."""
        if verdict.outcome not in VIOLATED:
            return False
        condition = self.expectation.condition
        if self.expectation.allow and (verdict.frozen or isinstance(condition, Bands)):
            return False  # a group that is first judged later raises the number of those that may violate
        if not isinstance(condition, Trend):
            return True
        lasting = tuple(_broken_for_good(condition, verdict.observed))
        return not wording.within_allowance(lasting, self.expectation.allow)


@dataclass(frozen=True)
class SoFar:
    """An expectation, its verdict on the checkpoints so far (None where there is none), and what that is worth."""

    due: Due
    verdict: Verdict | None
    standing: Standing


def judge_so_far(
    expectation: Expectation,
    record: Record,
    *,
    finished: bool,
    scaled: bool = True,
    reference: Record | None = None,
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
    matched = isinstance(expectation.condition, Like)
    for question in expectation.questions():
        if (matched or question.metric.against_reference) and not scaled:
            yield "the end: the length of the training is not known, and the reference is matched by progress"
        for place in question.partners.values():
            if place not in (LAST, PREVIOUS) and not _reached(place, points, scaled):
                yield _about(place, scaled)
        if question.metric.across and len(points) < 2:
            yield "a second checkpoint"


def _so_far(expectation: Expectation, points: Sequence[Point], scaled: bool) -> tuple[Expectation | None, str]:
    """The part of the expectation that concerns `points`, and what it still waits for."""
    if isinstance(expectation.condition, Bands):
        return _bands_so_far(expectation, expectation.condition, points, scaled)
    at = expectation.at
    assert isinstance(at, At)
    if not _reached(at.start, points, scaled):
        return None, _about(at.start, scaled)
    closed = at.single or _reached(at.stop, points, scaled)
    now = expectation if closed else replace(expectation, at=At(at.start, LAST))
    rest = "" if closed else f"later checkpoints, to {at.stop.phrase}"
    wanted = 2 if isinstance(expectation.condition, Trend) else 1
    if not closed and _judgeable(now, points) < wanted:
        return None, "a second checkpoint" if wanted == 2 else "a later checkpoint"
    return now, rest


def _bands_so_far(
    expectation: Expectation, bands: Bands, points: Sequence[Point], scaled: bool
) -> tuple[Expectation | None, str]:
    """The bands of checkpoints that have come."""
    come = [pair for pair in zip(bands.places.places, bands.bands, strict=True) if _reached(pair[0], points, scaled)]
    waiting = [place for place in bands.places.places if place not in dict(come)]
    rest = ", ".join(_about(place, scaled) for place in waiting)
    if not come:
        return None, rest
    places = Places(tuple(place for place, _ in come))
    partial = replace(bands, places=places, bands=tuple(band for _, band in come))
    return replace(expectation, at=places, condition=partial), rest


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


def _broken_for_good(trend: Trend, observed: Iterable[Observed]) -> Iterator[Observed]:
    """Each group's last figure, marked as holding unless its series cannot be mended any more."""
    for _, series in groupby(observed, key=lambda o: o.group):
        own = list(series)
        figures = [o.value for o in own if o.value is not None]
        yield replace(own[-1], holds=not trend.broken(figures))
