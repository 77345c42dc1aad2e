"""Bands from few runs: variances moderated by other figures and other recipes, trajectories as trajectories.

N runs tell of a variance with N - 1 degrees of freedom, which is next to nothing. But the figures of one recipe scatter
alike, and a figure scatters alike in many recipes. So each variance is taken relative to what is usual of its metric
(`Noise`) and moderated three times, from the large to the small: the recipe towards 1, the trajectory of a metric
towards its recipe, one checkpoint towards its trajectory. Each time, as Smyth (2004, doi:10.2202/1544-6115.1027,
section 4) has it,

    s~^2 = (d0 s0^2 + d s^2) / (d0 + d),        trigamma(d0 / 2) = variance of log sigma^2 around log s0^2,

that variance being the one between recipes, metrics or checkpoints, plus what is unknown of s0^2 itself. A recipe's own
variance is the median over its metrics, so that one wild metric does not widen the bands of all (the aim of Phipson et
al. 2016, doi:10.1214/16-AOAS920).

A band is ``mean +- f sqrt(1 + 1/N) s~``. f is the quantile of the largest deviation of a fresh run along the
trajectory: deviations are normal, correlate as `Noise.decay` says, and are divided by s~ whose logarithm is normal,
with the variance that is left. The allowed rate is shared out over trajectories (Bonferroni), not over checkpoints.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from geomcheck.calibration.noise import Noise, shipped
from geomcheck.calibration.rules import Bands
from geomcheck.calibration.trajectories import Trajectory

DRAWS = 100_000
"""Simulated trajectories."""

OF_MEDIAN = math.pi / 2
"""The variance of a median in units of that of a mean."""

NODES = 41
"""Of the quadrature over what is unknown of a standard deviation."""


@dataclass(frozen=True)
class Variance:
    """What is known of a relative variance: the mean of its logarithm, and the variance of that."""

    log: float
    unknown: float

    def moderate(self, own: float, uncertain: float, *, between: float) -> Variance:
        """What is known of one of a kind of which this is typical, and which differ by `between`.

        By itself it was found to be `own`, an estimate whose logarithm has a sampling variance of `uncertain`.
        """
        prior, freedom = freedom_of(self.unknown + between), freedom_of(uncertain)
        usual = math.exp(self.log - _above(prior))
        together = prior + freedom
        value = (prior * usual + freedom * own) / together
        return Variance(math.log(value) + _above(together), float(polygamma(1, together / 2)))

    def like(self, *, between: float) -> Variance:
        """What is known of one of a kind of which nothing else is."""
        return Variance(self.log, self.unknown + between)


def freedom_of(variance: float) -> float:
    """The degrees of freedom d of a chi^2 variate whose logarithm has this variance: ``trigamma(d / 2)`` is it.

    By Newton's method on ``1 / trigamma``, which is nearly linear (Smyth 2004, appendix).
    """
    half = 0.5 + 1 / variance
    while True:
        value = float(polygamma(1, half))
        step = value * (1 - value / variance) / float(polygamma(2, half))
        half += step
        if abs(step) < 1e-10 * half:
            return 2 * half


def _above(freedom: float) -> float:
    """How far the mean of ``log sigma^2`` lies above ``log s^2`` where ``d s^2 / sigma^2`` is chi^2 of d `freedom`."""
    return math.log(freedom / 2) - float(digamma(freedom / 2))


@dataclass(frozen=True)
class Moderated:
    """The rule of this module.

    Attributes:
        false_alarms: 0..1, share of fresh good runs that may leave any band of the suite.
        noise: what is known of other recipes.
    """

    false_alarms: float = 0.05
    noise: Noise = field(default_factory=shipped)

    def bands(self, trajectories: Sequence[Trajectory]) -> Bands:
        """See `BandRule.bands`."""
        moving = [_Scatter.of(t, self.noise) for t in trajectories if t.runs == 1 or (t.variances > 0).any()]
        alpha = self.false_alarms / max(1, len(moving))
        found = {
            id(s.of_figures): self._bands(s, self._recipe([o for o in moving if o is not s]), alpha) for s in moving
        }
        return [found.get(id(t)) or [(s.low, s.high) for s in t.spreads] for t in trajectories]

    def describe(self, *, n: int, bands: int) -> str:
        """See `BandRule.describe`."""
        others = f"those of other recipes (empirical Bayes, noise version {self.noise.version})"
        spreads = f"those of N = {n} runs, moderated by each other and by {others}" if n > 1 else others
        return (
            f"mean +- what at most {self.false_alarms * 100:.3g}% of fresh runs of this recipe leave, over all {bands} "
            f"bands. Spreads are {spreads}; the largest deviation along a training counts, figures taken as normal, "
            "Bonferroni over metrics."
        )

    def _recipe(self, others: Sequence[_Scatter]) -> Variance:
        """What these trajectories tell of their recipe's variance, in units of the usual one."""
        noise, usual = self.noise, Variance(0.0, 0.0)
        if not others or others[0].of_figures.runs < 2:
            return usual.like(between=noise.between_recipes)
        scatter = (noise.between_metrics + statistics.fmean(other.uncertain for other in others)) * OF_MEDIAN
        scatter /= min(len(others), noise.independent)
        own = math.exp(statistics.median(other.log for other in others) - _above(freedom_of(scatter)))
        return usual.moderate(own, scatter, between=noise.between_recipes)

    def _bands(self, scatter: _Scatter, recipe: Variance, alpha: float) -> list[tuple[float, float]]:
        trajectory, noise = scatter.of_figures, self.noise
        n = trajectory.runs
        level, points = recipe.like(between=noise.between_metrics), [Variance(0.0, noise.between_checkpoints)]
        if n > 1:
            level = recipe.moderate(scatter.whole, scatter.uncertain, between=noise.between_metrics)
            if len(trajectory.places) > 1:
                apart = float(polygamma(1, (n - 1) / 2)) * (1 - 1 / independent(trajectory.progress, noise.decay))
                points = [
                    Variance(0.0, 0.0).moderate(ratio / scatter.whole, apart, between=noise.between_checkpoints)
                    for ratio in scatter.ratios.tolist()
                ]
        limit = multiple(trajectory.progress, level.unknown, points[0].unknown, alpha, noise.decay)
        limit *= math.sqrt(1 + 1 / n)
        widths = limit * scatter.usual * trajectory.scales * np.exp([(level.log + point.log) / 2 for point in points])
        return [
            (s.low, s.high) if s.constant else (min(s.low, s.mean - width), max(s.high, s.mean + width))
            for s, width in zip(trajectory.spreads, widths.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class _Scatter:
    """How the figures of a trajectory scatter by themselves.

    Attributes:
        usual: the usual relative standard deviation at each checkpoint.
        ratios: the relative variances in units of the usual ones; zeros of a single run.
        whole: the mean of those of checkpoints at which figures vary; NaN of a single run.
        uncertain: the sampling variance of its logarithm; NaN of a single run.
    """

    of_figures: Trajectory
    usual: np.ndarray
    ratios: np.ndarray
    whole: float
    uncertain: float

    @classmethod
    def of(cls, trajectory: Trajectory, noise: Noise) -> _Scatter:
        """That of `trajectory`, which varies unless it is of a single run."""
        usual = np.array([noise.sd(trajectory.called, progress) for progress in trajectory.progress])
        ratios = np.nan_to_num(trajectory.variances) / np.square(usual)
        if trajectory.runs < 2:
            return cls(trajectory, usual, ratios, math.nan, math.nan)
        freedom = (trajectory.runs - 1) * independent(trajectory.progress, noise.decay)
        uncertain = float(polygamma(1, freedom / 2)) + noise.between_checkpoints / len(trajectory.places)
        return cls(trajectory, usual, ratios, float(ratios[ratios > 0].mean()), uncertain)

    @cached_property
    def log(self) -> float:
        """The logarithm of the variance that `whole` is an estimate of."""
        return math.log(self.whole) + _above(freedom_of(self.uncertain))


def independent(progress: Sequence[float], decay: float) -> float:
    """As many independent checkpoints tell as much of a variance as these."""
    steps = np.log(progress)
    squared = np.exp(-2 * decay * np.abs(steps[:, None] - steps))
    return float(squared.size / squared.sum())


def multiple(progress: Sequence[float], level: float, shape: float, alpha: float, decay: float) -> float:
    """How many standard deviations the largest deviation of a fresh run exceeds with probability `alpha`.

    The logarithms of their squares are known up to a variance of `level`, which checkpoints share, and one of `shape`
    each.
    """
    largest = _largest(tuple(progress), shape, decay)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    factors = np.exp(nodes * math.sqrt(level) / 2)

    def excess(limit: float) -> float:
        beyond = 1 - np.searchsorted(largest, limit / factors) / len(largest)
        return float(weights @ beyond / weights.sum()) - alpha

    return float(brentq(excess, 0.0, 1e6, xtol=1e-6))


@cache
def _largest(progress: tuple[float, ...], shape: float, decay: float) -> np.ndarray:
    """The largest absolute deviation of each simulated trajectory, sorted."""
    rng = np.random.default_rng(0)
    state = rng.standard_normal(DRAWS)
    largest = np.zeros(DRAWS)
    for before, now in zip((progress[0], *progress), progress, strict=False):
        kept = (before / now) ** decay
        state = kept * state + math.sqrt(1 - kept**2) * rng.standard_normal(DRAWS)
        error = np.exp(rng.standard_normal(DRAWS) * math.sqrt(shape) / 2)
        largest = np.maximum(largest, np.abs(state) * error)
    return np.sort(largest)
