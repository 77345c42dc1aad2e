"""A metric along the training of good runs: what bands are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geomcheck.calibration.statistics import Spread
from geomcheck.diagnostics import Metric
from geomcheck.record import Record
from geomcheck.suite.folds import fold
from geomcheck.suite.language.places import Place, Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.sampling import default_sample
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
    def runs(self) -> int:
        """N."""
        return len(self.figures)

    @property
    def relative(self) -> float:
        """The largest coefficient of variation at any checkpoint."""
        return max(spread.relative for spread in self.spreads)

    @cached_property
    def scales(self) -> np.ndarray:
        """What spreads are relative to, at each checkpoint: the distance of the mean from the figure's bounds, as
        ``(x - low)(high - x) / (high - low)``, which is ``x - low`` where there is no upper one, and ``|x|`` without any."""
        mean = np.array([spread.mean for spread in self.spreads])
        low, high = self.limit
        if math.isinf(low):
            return np.abs(mean)
        return (mean - low) * (1.0 if math.isinf(high) else (high - mean) / (high - low))

    @property
    def variances(self) -> np.ndarray:
        """The relative variance over the runs at each checkpoint; 0 where they are all the same."""
        sd = np.array([spread.sd for spread in self.spreads])
        return np.square(np.divide(sd, self.scales, out=np.zeros_like(sd), where=self.scales > 0))


def trajectory_of(
    metric: Metric, records: Sequence[Record], weights: Selection, places: Places, *, of: str = ""
) -> Trajectory:
    """A metric along the training of `records`; without places where it is fixed by definition.

    Raises:
        Unanswerable: it has no figure in one of the runs.
    """
    by_run = [_figures(metric, record, weights, places) for record in records]
    indices = sorted(set(by_run[0]).intersection(*by_run))
    if not indices:
        raise Unanswerable("it is fixed by definition at every calibrated checkpoint")
    points = places.locate_all(records[0].points)
    return Trajectory(
        metric,
        tuple(places.places[index] for index in indices),
        tuple(points[index].progress for index in indices),
        tuple(tuple(figures[index] for index in indices) for figures in by_run),
        _limit(metric, records, weights),
        of,
    )


def _figures(metric: Metric, record: Record, weights: Selection, places: Places) -> dict[int, float]:
    """The folded figures of one run, as an expectation would fold them, by index into `places`."""
    found = default_sample(metric, record, weights, places)
    cells = [found.cells.get(point.step) for point in places.locate_all(record.points)]
    return {index: fold(cell, metric.fold, found.used) for index, cell in enumerate(cells) if cell is not None}


def _limit(metric: Metric, records: Sequence[Record], weights: Selection) -> tuple[float, float]:
    """The range of the figure for these weights."""
    lows, highs = zip(*(metric.range({}, weight.shape) for weight in weights.select(records[0].weights)), strict=True)
    return min(lows), max(highs)
