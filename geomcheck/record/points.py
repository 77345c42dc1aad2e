"""Which checkpoint is meant by ``last`` or ``{progress: 20%}``, and which one of another run matches it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from geomcheck.checkpoints import Checkpoint
from geomcheck.diagnostics import Metric


@dataclass(frozen=True)
class Point:
    """One checkpoint of a trajectory.

    Attributes:
        name: its directory's name.
        step: optimizer step, as the framework counts.
        progress: share of the training done, 0..1.
    """

    name: str
    step: int
    progress: float


@dataclass(frozen=True)
class Origin:
    """Where W0 came from: the directory, and the rule that chose it."""

    path: str
    how: str


MATCHING_PROGRESS = 0.05
"""How far a checkpoint may be, in progress, from what is meant: a share of the training, or one of another run."""


P = TypeVar("P", Point, Checkpoint)


def locate(points: Sequence[Point], at: Any, index: int) -> int | None:
    """Index of the checkpoint that `at` names, seen from `index`; None where the run has none such.

    A progress means the nearest checkpoint, no further away than `MATCHING_PROGRESS`; of two, the earlier.
    """
    if at == "first":
        return 0
    if at == "last":
        return len(points) - 1
    if at == "previous":
        return index - 1 if index > 0 else None
    if "step" in at:
        return next((i for i, point in enumerate(points) if point.step == at["step"]), None)
    progress = fraction(at["progress"])
    found = nearest(points, progress)
    return points.index(found) if matches(found, progress) else None


def is_awaited(points: Sequence[Point], at: Any) -> bool:
    """Whether the checkpoint that `at` names may be one that is still to come."""
    if not isinstance(at, Mapping):
        return bool(at == "last")
    return bool(at["step"] > points[-1].step if "step" in at else fraction(at["progress"]) > points[-1].progress)


def fraction(progress: str) -> float:
    """``20%`` as a number: the float nearest to the decimal, so that 12.3% is the progress of step 123 of 1000."""
    return float(f"{float(progress.removesuffix('%')) / 100:.15g}")


def nearest(candidates: Sequence[P], progress: float) -> P:
    """The candidate nearest to `progress`; of two that are equally near, the earlier."""
    return min(candidates, key=lambda candidate: round(abs(candidate.progress - progress), 9))


def matches(candidate: Point | Checkpoint, progress: float) -> bool:
    """Whether a checkpoint is near enough to this progress to stand for it."""
    return abs(candidate.progress - progress) <= MATCHING_PROGRESS + 1e-9


def training_steps(points: Sequence[Point]) -> int:
    """The steps of the whole training that these checkpoints are of; 0 where that is not known."""
    last = points[-1]
    return round(last.step / last.progress) if last.progress else 0


def early_end(points: Sequence[Point]) -> str:
    """Where training ended short of its plan: ``step 30, 20% of the training that was planned``; else empty."""
    last = points[-1]
    return "" if matches(last, 1.0) else f"step {last.step}, {last.progress:.0%} of the training that was planned"


def partners(metric: Metric, params: Mapping[str, Any], points: Sequence[Point], index: int) -> tuple[int, ...]:
    """Indices of the checkpoints that the figure at `index` is compared with, ascending; absent ones are left out."""
    if not metric.is_across(params):
        return ()
    places = metric.places(params)
    if not places:
        return tuple(range(index))
    located = {locate(points, place, index) for place in places.values()}
    return tuple(sorted(target for target in located if target is not None))


def is_trivial(metric: Metric, params: Mapping[str, Any], points: Sequence[Point], index: int) -> bool:
    """Whether the figure is fixed by definition here: a checkpoint compared with itself, or with none."""
    if index + 1 < metric.least:
        return True
    place = metric.places(params).get(metric.trivial_at or "")
    return place is not None and locate(points, place, index) in (None, index)
