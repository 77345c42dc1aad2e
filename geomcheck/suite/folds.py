"""How the figures of several weights become one. Sums are exact, so that no order of arrival shows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from geomcheck.checkpoints.weights import Weight
from geomcheck.diagnostics.declaration import Fold


def fold(values: Mapping[str, float], how: Fold, weights: Mapping[str, Weight]) -> float:
    """Fold figures by weight name; `weights` gives the parameter counts for ``weighted``.

    Infinite where the sum overflows. Raises ValueError on no values.
    """
    if not values:
        raise ValueError("nothing to fold")
    figures = [values[name] for name in sorted(values)]
    try:
        match how:
            case "mean":
                return math.fsum(figures) / len(figures)
            case "weighted":
                counts = [weights[name].numel for name in sorted(values)]
                return math.fsum(v * n for v, n in zip(figures, counts, strict=True)) / sum(counts)
            case "median":
                return statistics.median(figures)
            case "max":
                return max(figures)
            case "min":
                return min(figures)
            case "p95":
                return quantile(figures, 0.95)
            case _:
                raise ValueError(f"unknown fold {how!r}")
    except OverflowError:
        return math.inf


def quantile(figures: list[float], q: float) -> float:
    """The q-quantile with linear interpolation, as NumPy's default; 0 <= q <= 1."""
    ordered = sorted(figures)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
