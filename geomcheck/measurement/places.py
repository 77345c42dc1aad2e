"""Which checkpoint a name means: ``last``, ``{progress: 20%}`` and the like, along a trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geomcheck.diagnostics import Metric
from geomcheck.measurement.record import Point


def locate(points: Sequence[Point], at: Any, index: int) -> int | None:
    """Index of the checkpoint that `at` names, seen from `index`; None where the run has none such.

    Of two that are equally near a progress, the earlier.
    """
    if at == "first":
        return 0
    if at == "last":
        return len(points) - 1
    if at == "previous":
        return index - 1 if index > 0 else None
    if "step" in at:
        return next((i for i, point in enumerate(points) if point.step == at["step"]), None)
    progress = float(at["progress"].removesuffix("%")) / 100
    return min(range(len(points)), key=lambda i: (abs(points[i].progress - progress), i))


def is_trivial(metric: Metric, params: Mapping[str, Any], points: Sequence[Point], index: int) -> bool:
    """Whether the figure is fixed by definition here: a checkpoint compared with itself, or with none."""
    if metric.trivial_at is None:
        return False
    return locate(points, params[metric.trivial_at], index) in (None, index)
