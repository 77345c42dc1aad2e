"""How far the figure of one more good run may lie from those of N good runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy.stats import t as student

REPEATABILITY = 2.8
"""ISO 5725: two results differ by less than 1.96 sqrt(2) = 2.8 standard deviations in 95% of cases."""


@dataclass(frozen=True)
class Spread:
    """The figures of one metric at one checkpoint position, over N runs.

    Attributes:
        n: number of runs, 2 or more.
        mean, sd: sample mean and standard deviation (N - 1 in the denominator).
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
        return cls(len(figures), statistics.fmean(figures), statistics.stdev(figures), min(figures), max(figures))

    @property
    def constant(self) -> bool:
        """Whether all runs have the same figure."""
        return self.low == self.high

    @property
    def relative(self) -> float:
        """Coefficient of variation, ``sd / |mean|``; infinite around a zero mean."""
        if self.constant:
            return 0.0
        return self.sd / abs(self.mean) if self.mean else math.inf


class BandRule(Protocol):
    """From the spread of good runs to the band of the next one."""

    def band(self, spread: Spread, *, bands: int) -> tuple[float, float]:
        """(low, high) for a suite that holds `bands` bands in all; never narrower than the runs themselves."""

    def describe(self, *, n: int, bands: int) -> str:
        """The rule in one or two sentences, for a suite of `bands` bands from `n` runs."""


@dataclass(frozen=True)
class Repeatability:
    """Mean +- a multiple of the standard deviation: ISO 5725's 2.8, corrected for N and for the number of bands.

    2.8 = 1.96 sqrt(2) assumes that the standard deviation is known and that one figure is looked at. With mean and
    standard deviation estimated from N runs, a further figure from the same normal population lies within
    ``mean +- t(1 - a/2, N - 1) sqrt(1 + 1/N) sd`` with probability ``1 - a`` (the prediction interval; t is
    Student's quantile). Where a suite holds m bands, ``a = false_alarms / m`` keeps the chance that a fresh good
    run leaves any of them at `false_alarms` at most, however the figures are correlated (Bonferroni; they are
    strongly correlated, so the true rate is usually lower). The multiple is never below 2.8.

    Attributes:
        false_alarms: 0..1, over the whole suite.
    """

    false_alarms: float = 0.05

    def factor(self, n: int, bands: int) -> float:
        """Multiple of the standard deviation, for `n` runs and a suite of `bands` bands."""
        alpha = self.false_alarms / bands
        quantile = float(student.ppf(1 - alpha / 2, n - 1))
        return max(REPEATABILITY, quantile * math.sqrt(1 + 1 / n))

    def band(self, spread: Spread, *, bands: int) -> tuple[float, float]:
        """See `BandRule.band`."""
        limit = self.factor(spread.n, bands) * spread.sd
        return min(spread.low, spread.mean - limit), max(spread.high, spread.mean + limit)

    def describe(self, *, n: int, bands: int) -> str:
        """See `BandRule.describe`."""
        return (
            f"mean +- {self.factor(n, bands):.2f} standard deviations: the repeatability limit (ISO 5725: "
            f"{REPEATABILITY}), widened so that at most {self.false_alarms * 100:.3g}% of fresh runs of this recipe "
            f"leave any of the {bands} bands (Student's t with N = {n}, figures taken as normal, Bonferroni over all "
            "bands)."
        )


@dataclass(frozen=True)
class Range:
    """Smallest to largest figure, and `margin` of the mean on either side. Promises no false-alarm rate."""

    margin: float = 0.1

    def band(self, spread: Spread, *, bands: int) -> tuple[float, float]:
        """See `BandRule.band`."""
        extra = self.margin * abs(spread.mean)
        return spread.low - extra, spread.high + extra

    def describe(self, *, n: int, bands: int) -> str:
        """See `BandRule.describe`."""
        return (
            f"smallest to largest of N = {n} runs and {self.margin * 100:.3g}% of the mean on either side. "
            "No false-alarm rate is known."
        )
