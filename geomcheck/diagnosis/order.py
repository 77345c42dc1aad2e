"""Whether the checkpoints follow each other: those in another order, one that was merged, a run that began anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from geomcheck.diagnosis.case import Case
from geomcheck.diagnosis.finding import Finding
from geomcheck.diagnosis.kind import Kind

BACK = -0.3
"""Cosine of an increment with the one before below which the way goes back; rounding alone gives -.5, but no norm that
falls by `FALLEN`."""

ON = 0.2
"""Cosine above which it goes on: bf16 storage lowers a true .95 to .10."""

FALLEN = 0.85
"""Share of its norm that the update keeps, at most, where training began anew."""

ABOUT = 0.25
"""Share by which a norm differs from another, at most, that it is about as large as."""

AS_LARGE = 1.05
"""Share of its norm that the update keeps, at most, where training went back by as far as it went on since."""

ASTRAY = -0.05
"""Cosine below which it did go back: noise alone, where nothing is learned for a while, has none."""

SAME_WAY = 0.5
"""Cosine, at least, of the increments before and after that: the way went on, but for the leap between them."""

AS_LONG = 0.5
"""Share of the steps of the interval before that its interval must have, as little shows in a few."""

LIKE, LESS_LIKE = 0.8, 0.02
"""Cosine of an update with the one before, at least, where it is a share of what training made of it; and by how much
it may be below the least of the others: of a training that began anew it is .04 to .1 below."""

AS_STRAIGHT = 0.85
"""Share of the least cosine of increments without a checkpoint that must be left with it in another place."""

FEW = 3
"""Checkpoints of which it is not told whether one is out of line."""

LONGEST = 64
"""Checkpoints up to which their order is asked for."""


class Way:
    """The way of a run through the weights, on average over some matrices, from inner products of their updates.

    Args:
        gram: of the updates at each checkpoint, shape (n, n), those of W0 being zero.
    """

    def __init__(self, gram: np.ndarray) -> None:
        self._gram = np.pad(gram, ((1, 0), (1, 0)))

    def norms(self, order: tuple[int, ...]) -> np.ndarray:
        """Of the updates, checkpoints in this order."""
        at = [index + 1 for index in order]
        found: np.ndarray = np.sqrt(np.maximum(0, np.diag(self._gram)[at]))
        return found

    def turns(self, order: tuple[int, ...]) -> np.ndarray:
        """Cosines of successive increments from W0 on, in this order, shape (n - 1,); NaN where one is zero."""
        at = [0, *(index + 1 for index in order)]
        gram = self._gram[np.ix_(at, at)]
        inner = np.diff(np.diff(gram, axis=0), axis=1)
        lengths = np.sqrt(np.maximum(0, np.diag(inner)))
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.diag(inner, 1) / (lengths[1:] * lengths[:-1])
        return found

    def same_way(self, index: int) -> float:
        """Cosine of the increments before and after the one that leads to a checkpoint, as they are named; NaN where
        one is zero or there is none."""
        before, after = np.zeros((2, len(self._gram)))
        if index + 2 < len(self._gram):
            before[[index - 1, index]], after[[index + 1, index + 2]] = (-1, 1), (-1, 1)
        length = math.sqrt(max(0, before @ self._gram @ before) * max(0, after @ self._gram @ after))
        return float(before @ self._gram @ after) / length if length else math.nan

    def likenesses(self, order: tuple[int, ...]) -> np.ndarray:
        """Cosines of each update with the next, in this order, shape (n - 1,); NaN where one is zero."""
        gram, norms = self._gram[1:, 1:][np.ix_(order, order)], self.norms(order)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: np.ndarray = np.diag(gram, 1) / (norms[1:] * norms[:-1])
        return found

    def goes_on(self, order: tuple[int, ...]) -> bool:
        """Whether it would go straight on and away from W0 in this order."""
        turns, norms = self.turns(order), self.norms(order)
        return bool((turns > ON).all() and (norms[1:] > norms[:-1]).all())

    def is_as_straight(self, order: tuple[int, ...], other: tuple[int, ...]) -> bool:
        """Whether it turns as little in one order as in another, as it does in the one in which it went."""
        return bool(min(self.turns(order)) >= AS_STRAIGHT * min(self.turns(other)))


class Course(NamedTuple):
    """The way of a run, and the indices of the checkpoints over which it goes."""

    way: Way
    at: tuple[int, ...]

    @property
    def order(self) -> tuple[int, ...]:
        """The order in which they are named."""
        return tuple(range(len(self.at)))


def course_of(case: Case) -> Course | None:
    """The way of a run, over what facts do not explain; None where it cannot be told, or never goes back."""
    names = list(case.ways)
    turns = [[look.seen[index].turn for look in case.ways.values()] for index in range(len(case.points))]
    if not any(np.nanmedian(there) < ASTRAY for there in turns if not np.isnan(there).all()):
        return None
    explained = {index: sum((name, index) in case.explained for name in names) for index in range(len(case.points))}
    at = tuple(index for index, count in explained.items() if 2 * count < len(names))
    if not 2 <= len(at) <= LONGEST:
        return None
    sound = [i for i, name in enumerate(names) if not any((name, index) in case.explained for index in at)]
    grams = [case.grams[i][np.ix_(at, at)] for i in sound]
    grams = [gram / gram[-1, -1] for gram in grams if gram[-1, -1] > 0 and np.isfinite(gram).all()]
    return Course(Way(np.mean(grams, axis=0)), at) if grams else None


def _straight(course: Course) -> tuple[int, ...] | None:
    """The order in which the way would be straight, where it is not as they are named: the one in which norms rise."""
    if not (course.way.turns(course.order) < BACK).any():
        return None
    order = tuple(np.argsort(course.way.norms(course.order)).tolist())
    if not course.way.goes_on(order):
        return None
    merged = _merged(course)
    return order if merged is None or course.way.is_as_straight(order, _without(course, merged)) else None


def _without(course: Course, index: int) -> tuple[int, ...]:
    return tuple(other for other in course.order if other != index)


def _merged(course: Course) -> int | None:
    """A checkpoint without which the run goes straight on, and whose update is shorter than the one before it, in the
    same direction: another training from W0 takes one a little different."""
    way, order = course.way, course.order
    norms, turns, alike = way.norms(order), way.turns(order), way.likenesses(order)
    for index in order[1:] if len(order) > FEW else ():
        others = _without(course, index)
        is_last = index == order[-1]
        shorter = norms[index] <= (FALLEN if is_last else 1) * norms[index - 1]
        goes_back = (turns[index - 1 : index + 1] < BACK).all()
        if shorter and goes_back and way.goes_on(others):
            usual = min(way.likenesses(others), default=1.0)
            if alike[index - 1] >= max(LIKE, usual - LESS_LIKE):
                return index
    return None


def _find_exchanged(case: Case) -> Iterator[Finding]:
    course = course_of(case)
    order = _straight(course) if course else None
    if course is None or order is None:
        return
    moved = [course.at[index] for index in course.order if order[index] != index]
    if len(moved) == 2:
        one, other = (case.points[index].name for index in moved)
        told = f"{one} and {other} are exchanged: in the other order the run goes straight on"
    else:
        steps = ", ".join(str(case.points[course.at[index]].step) for index in order)
        told = f"the checkpoints are out of order: {steps} goes straight on"
    yield EXCHANGED.finding(
        case,
        {(name, index) for name in case.weights for index in moved},
        told,
        evidence=(
            f"cosines of successive increments {_shown(course.way.turns(course.order))} as they are named",
            f"and {_shown(course.way.turns(order))} {'with the two exchanged' if len(moved) == 2 else 'in that order'}",
        ),
        causes=EXCHANGED.causes[:1] if len(moved) == 2 else EXCHANGED.causes[::-1],
    )


def _find_merged(case: Case) -> Iterator[Finding]:
    course = course_of(case)
    if course is None or _straight(course):
        return
    index = _merged(course)
    if index is None:
        return
    norms, alike = course.way.norms(course.order), course.way.likenesses(course.order)
    before, here = (case.points[course.at[i]].name for i in (index - 1, index))
    is_last = index == course.order[-1]
    yield MERGED.finding(
        case,
        {(name, course.at[index]) for name in case.weights},
        f"{here} {'begins anew, or was' if is_last else 'was'} averaged or merged with W0 or an earlier checkpoint: "
        f"its update is {norms[index] / norms[index - 1]:.0%} as large as at {before}, in the same direction"
        f"{'' if is_last else ', and the run goes straight on without it'}",
        evidence=(
            f"cosine of this update with the one before {alike[index - 1]:.3f}",
            f"norms of the update, the last being 1: {_shown(norms / norms[-1])}",
        ),
    )


def _find_restart(case: Case) -> Iterator[Finding]:
    course = course_of(case)
    if course is None or _straight(course):
        return
    norms, turns = course.way.norms(course.order), course.way.turns(course.order)
    for index in course.order[1:]:
        fallen = norms[index] <= FALLEN * norms[index - 1] and turns[index - 1] < BACK
        if not (fallen or _leaps(case, course, index)) or (turns[index + 1 :] < BACK).any():
            continue
        before, here = (case.points[course.at[i]].name for i in (index - 1, index))
        apart = np.abs(norms[: index - 1] / norms[index] - 1)
        like = case.points[course.at[int(np.argmin(apart))]].name if (apart <= ABOUT).any() else ""
        turned = f"about as at {like}, and turned back" if like else "and turned back"
        told = "begins anew at" if fallen or index == 1 else "went back before"
        sides = course.way.same_way(index)
        yield RESTART.finding(
            case,
            {(name, at) for name in case.weights for at in course.at[index:]},
            f"the run {told} {here}: its update is {norms[index] / norms[index - 1]:.0%} as large as at {before}, "
            f"{turned if fallen else 'and then it goes on as before'}",
            evidence=(
                f"cosine of this increment with the one before {turns[index - 1]:.2f}",
                *([] if math.isnan(sides) else [f"of those on either side of it {sides:.2f}"]),
                f"norms of the update, the last being 1: {_shown(norms / norms[-1])}",
            ),
        )
        return


def _leaps(case: Case, course: Course, index: int) -> bool:
    """Whether a checkpoint is no further from W0 than the one before, after as many steps, though the way before it and
    after it is the same: it went back by as far as it went on."""
    way, order = course.way, course.order
    norms, steps = way.norms(order), [0, *(case.points[at].step for at in course.at)]
    return bool(
        norms[index] <= AS_LARGE * norms[index - 1]
        and way.turns(order)[index - 1] < ASTRAY
        and way.same_way(index) >= SAME_WAY
        and steps[index + 1] - steps[index] >= AS_LONG * (steps[index] - steps[index - 1])
    )


def _shown(figures: np.ndarray) -> str:
    return " ".join("-" if math.isnan(figure) else f"{figure:.2f}" for figure in figures.tolist())


EXCHANGED = Kind(
    name="exchanged-checkpoints",
    group="B",
    grade="inference",
    title="checkpoints in another order",
    about="The way from checkpoint to checkpoint goes back and forth, and straight on in another order.",
    looks_at=("weights",),
    causes=(
        "checkpoints were renamed or copied into each other's place",
        "checkpoints were listed in the order of letters, 120 before 30, and numbered anew",
    ),
    next_step="Compare the step in each checkpoint's trainer state, and the times of its files, with its name.",
    find=_find_exchanged,
)

MERGED = Kind(
    name="merged-checkpoint",
    group="B",
    grade="inference",
    title="a checkpoint that was averaged or merged",
    about="One checkpoint's update points where the one before points, and is much shorter; the others go straight on.",
    looks_at=("weights",),
    causes=(
        "it was averaged or merged with W0 or with an earlier checkpoint when it was saved or exported",
        "training began anew there, on the same data, or from an earlier checkpoint",
    ),
    next_step="Look for a merge or an average in what wrote this checkpoint, and in the log for what the job loaded.",
    find=_find_merged,
)

RESTART = Kind(
    name="restart",
    group="B",
    grade="inference",
    title="a training that began anew",
    about="The update falls back to an earlier size, against its direction, and grows again from there.",
    looks_at=("weights",),
    causes=(
        "training was resumed from the base, or from an earlier checkpoint, instead of the last one",
        "checkpoints of two runs lie in one directory",
    ),
    next_step="Look in the log for what the resumed job loaded, and whether its step counter and loss went on.",
    source="https://github.com/allenai/open-instruct/pull/1823",
    find=_find_restart,
)

KINDS = (EXCHANGED, MERGED, RESTART)
