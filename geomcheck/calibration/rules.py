"""From the figures of good runs to the bands of the next one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from scipy.stats import t as student

from geomcheck.calibration.statistics import Spread
from geomcheck.calibration.trajectories import Trajectory

REPEATABILITY = 2.8
"""ISO 5725: two results differ by less than 1.96 sqrt(2) = 2.8 standard deviations in 95% of cases."""

Bands = list[list[tuple[float, float]]]
"""(low, high) by trajectory and checkpoint."""


class BandRule(Protocol):
    """From good runs to the bands of the next one."""

    def bands(self, trajectories: Sequence[Trajectory]) -> Bands:
        """The bands of a suite that holds these trajectories; none is narrower than the runs themselves."""

    def describe(self, *, n: int, bands: int) -> str:
        """The rule in one or two sentences, for a suite of `bands` bands from `n` runs."""


def varying(trajectories: Sequence[Trajectory]) -> int:
    """How many bands are of figures that vary."""
    return sum(not spread.constant for trajectory in trajectories for spread in trajectory.spreads)


@dataclass(frozen=True)
class Student:
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
        """Multiple of the standard deviation, for `n` runs, 2 or more, and a suite of `bands` bands."""
        alpha = self.false_alarms / bands
        quantile = float(student.ppf(1 - alpha / 2, n - 1))
        return max(REPEATABILITY, quantile * math.sqrt(1 + 1 / n))

    def bands(self, trajectories: Sequence[Trajectory]) -> Bands:
        """See `BandRule.bands`."""
        count = max(1, varying(trajectories))
        return [[self._band(spread, count) for spread in trajectory.spreads] for trajectory in trajectories]

    def _band(self, spread: Spread, bands: int) -> tuple[float, float]:
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

    def bands(self, trajectories: Sequence[Trajectory]) -> Bands:
        """See `BandRule.bands`."""
        return [[self._band(spread) for spread in trajectory.spreads] for trajectory in trajectories]

    def _band(self, spread: Spread) -> tuple[float, float]:
        extra = self.margin * abs(spread.mean)
        return spread.low - extra, spread.high + extra

    def describe(self, *, n: int, bands: int) -> str:
        """See `BandRule.describe`."""
        return (
            f"smallest to largest of N = {n} runs and {self.margin * 100:.3g}% of the mean on either side. "
            "No false-alarm rate is known."
        )
