"""A metric along the training of good runs: what bands are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geomcheck.calibration.figures import Gathered
from geomcheck.calibration.statistics import Spread
from geomcheck.diagnostics import Metric
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.verdict import Unanswerable


@dataclass(frozen=True)
class Trajectory:
    """The figures of one metric along the training of N good runs.

    Attributes:
        places: the K checkpoints, in the order of training.
        progress: theirs, 0..1.
        figures: by run, K figures in the metric's unit.
        limit: smallest and largest figure that there can be; infinite where there is none.
        of: the word for the metric's weights where they are not those of the suite.
    """

    metric: Metric
    places: tuple[Place, ...]
    progress: tuple[float, ...]
    figures: tuple[tuple[float, ...], ...]
    limit: tuple[float, float]
    of: str = ""

    @cached_property
    def spreads(self) -> tuple[Spread, ...]:
        """The spread at each checkpoint."""
        return tuple(Spread.of(column) for column in zip(*self.figures, strict=True))

    @property
    def called(self) -> str:
        """What its noise is known by."""
        return f"{self.metric.name} of {self.of}" if self.of else self.metric.name

    @property
    def runs(self) -> int:
        """N."""
        return len(self.figures)

    @property
    def relative(self) -> float:
        """The largest coefficient of variation at any checkpoint."""
        return max(spread.relative for spread in self.spreads)

    @cached_property
    def scales(self) -> np.ndarray:
        """What spreads are relative to, at each checkpoint: the distance of the mean x from the figure's bounds,
        ``(x - low)(high - x) / (high - low)``; that is ``x - low`` without an upper one, and ``|x|`` without any."""
        mean = np.array([spread.mean for spread in self.spreads])
        low, high = self.limit
        if math.isinf(low):
            return np.abs(mean)
        return (mean - low) * (1.0 if math.isinf(high) else (high - mean) / (high - low))

    @cached_property
    def variances(self) -> np.ndarray:
        """The relative variance over the runs at each checkpoint; 0 where they are all the same, or at a bound."""
        sd = np.array([spread.sd for spread in self.spreads])
        return np.square(np.divide(sd, self.scales, out=np.zeros_like(sd), where=self.scales > 0))


def trajectory_of(
    metric: Metric, gathered: Gathered, weights: Selection, places: Places, *, of: str = ""
) -> Trajectory:
    """A metric along the training of good runs; without places where it is fixed by definition.

    Raises:
        Unanswerable: it has no figure in one of the runs.
    """
    by_run = gathered.of(metric, weights, places, of)
    kept = [place for place in places.places if all(place in figures for figures in by_run)]
    if not kept:
        raise Unanswerable("it is fixed by definition at every calibrated checkpoint")
    first = gathered.records[0]
    progress = {place: p.progress for place, p in zip(places.places, places.locate_all(first.points), strict=True)}
    limits = [metric.range({}, weight.shape) for weight in weights.select(first.weights)]
    return Trajectory(
        metric,
        tuple(kept),
        tuple(progress[place] for place in kept),
        tuple(tuple(figures[place] for place in kept) for figures in by_run),
        (min(low for low, _ in limits), max(high for _, high in limits)),
        of,
    )
