"""Whether the checkpoints follow each other: those in another order, and a training that began anew."""

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

    def goes_on(self, order: tuple[int, ...]) -> bool:
        """Whether it would go straight on and away from W0 in this order."""
        turns, norms = self.turns(order), self.norms(order)
        return bool((turns > ON).all() and (norms[1:] > norms[:-1]).all())


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
    return order if course.way.goes_on(order) else None


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
        "two checkpoints were renamed or copied into each other's place",
        "checkpoints were listed in the order of letters, 120 before 30, and numbered anew",
    ),
    next_step="Compare the step in each checkpoint's trainer state, and the times of its files, with its name.",
    find=_find_exchanged,
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

KINDS = (EXCHANGED, RESTART)
