"""How the figures of N good runs spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from geomcheck.suite.language.places import Place


@dataclass(frozen=True)
class Spread:
    """The figures of one metric at one checkpoint position, over N runs.

    Attributes:
        n: number of runs, 1 or more.
        mean, sd: sample mean and standard deviation (N - 1 in the denominator; NaN of a single run).
        low, high: smallest and largest figure.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """The spread of `figures`, one per run."""
        sd = statistics.stdev(figures) if len(figures) > 1 else math.nan
        return cls(len(figures), statistics.fmean(figures), sd, min(figures), max(figures))

    @property
    def constant(self) -> bool:
        """Whether all of several runs have the same figure."""
        return self.n > 1 and self.low == self.high

    @property
    def relative(self) -> float:
        """Coefficient of variation, ``sd / |mean|``; infinite around a zero mean."""
        if self.constant:
            return 0.0
        return self.sd / abs(self.mean) if self.mean else math.inf


@dataclass(frozen=True)
class PlacedBand:
    """The band of one metric at one checkpoint, in the metric's unit (degrees for angles), within its range."""

    place: Place
    low: float
    high: float
    spread: Spread
