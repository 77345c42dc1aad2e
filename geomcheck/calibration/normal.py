"""What is normal for each weight by itself, from good runs.

A run is larger or smaller as a whole, by as much as its band allows. Beside that each weight varies by itself: with x
the figure of a weight and m its mean over the runs, by ``x / m`` over the median of that over all weights, less 1. The
spread of these, s, repeats from weight to weight, but not quite: it is pooled over all at each checkpoint, times a
factor of the weight, moderated towards 1 as far as the factors of all weights agree (`Variance`; their scatter is
measured here, with hundreds of them). A weight of a further good run is within

    m (1 +- (b + f sqrt(1 + 1/N) s)),

b being the half width of the band of the mean over weights, relative to it, and f the quantile of the largest deviation
over the checkpoints (`multiple`), for `FALSE_ALARMS` over all weights. No good run is outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import polygamma

from geomcheck.calibration.moderated import Variance, independent, multiple
from geomcheck.calibration.noise import Noise
from geomcheck.calibration.statistics import PlacedBand
from geomcheck.diagnostics import Metric
from geomcheck.record import Record
from geomcheck.suite.language.places import Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal
from geomcheck.suite.sampling import default_sample

FALSE_ALARMS = 0.01
"""Share of good runs of which some weight may be outside at some checkpoint, beside those that leave a band."""

SCATTER = 0.3
"""Least variance of log sigma^2 between weights."""

LEAST = 1e-3
"""Smallest relative distance: means are written with four digits."""

LOOSEST = 0.8
"""Relative distance from which on a range says nothing."""

MAX_CHARACTERS = 400_000
"""Of all ranges of a suite, which is a text that people open."""


def normal_of(
    metric: Metric, records: Sequence[Record], weights: Selection, bands: Sequence[PlacedBand], noise: Noise
) -> Normal | None:
    """What is normal where there are `bands`; None where weights have no names that a suite could hold, or too wide a
    range."""
    places = Places(tuple(band.place for band in bands))
    samples = [default_sample(metric, record, weights, places) for record in records]
    names = sorted(set(samples[0].used).intersection(*(sample.used for sample in samples)))
    if not names or any(not name.isprintable() or name.split() != [name] for name in names):
        return None
    points = [places.locate_all(record.points) for record in records]
    at = [[sample.cells[p.step] for p in own] for sample, own in zip(samples, points, strict=True)]
    figures = np.array([[[cells.get(name, math.nan) for cells in run] for name in names] for run in at])
    means = figures.mean(axis=0)
    shares = _shares(figures, tuple(point.progress for point in points[0]), noise)
    shares += [(band.high - band.low) / 2 / abs(band.spread.mean) if band.spread.mean else math.inf for band in bands]
    known = np.isfinite(shares)
    if not known.all(axis=1).any():
        return None
    within = np.array([np.median(column[kept]) for column, kept in zip(shares.T, known.T, strict=True)])
    factors = np.max(np.divide(shares, within), axis=1, where=known, initial=LEAST)
    if not np.all(within * np.median(factors) <= LOOSEST):
        return None
    return Normal(
        dict(zip(places.places, np.maximum(within, LEAST).tolist(), strict=True)),
        {name: tuple(row) for name, row in zip(names, means.tolist(), strict=True)},
        dict(zip(names, factors.tolist(), strict=True)),
    )


def _shares(figures: np.ndarray, progress: tuple[float, ...], noise: Noise) -> np.ndarray:
    """How far, relative to its mean, each weight may be off by itself at each checkpoint, from figures of shape (runs,
    weights, checkpoints); infinite where that cannot be said."""
    runs, weights, count = figures.shape
    means = figures.mean(axis=0)
    ratios = np.divide(figures, means, out=np.ones_like(figures), where=means != 0)
    ratios[:, (means == 0) & (figures != 0).any(axis=0)] = np.nan
    away = ratios / np.nanmedian(ratios, axis=1, keepdims=True) - 1
    variances = np.square(away).sum(axis=0) / (runs - 1)
    pooled = np.nanmean(variances, axis=0)
    own = np.divide(variances, pooled, out=np.ones_like(variances), where=pooled > 0).mean(axis=1)
    freedom = (runs - 1) * independent(progress, noise.decay)
    uncertain = float(polygamma(1, freedom / 2)) + noise.between_checkpoints / count
    scatter = max(SCATTER, float(np.nanvar(np.log(own[own > 0]))) - uncertain) if (own > 0).sum() > 1 else SCATTER
    typical = Variance(-scatter / 2, 0.0)  # whose mean, not its logarithm's, is 1
    found = [typical.moderate(one, uncertain, between=scatter) if one > 0 else typical for one in own.tolist()]
    unknown = max((one.unknown for one in found), default=scatter)
    limit = multiple(progress, unknown, noise.between_checkpoints, FALSE_ALARMS / weights, noise.decay)
    spread = np.sqrt(pooled) * np.exp(np.array([[one.log / 2] for one in found]))
    seen = np.abs(ratios - 1).max(axis=0) * runs / (runs - 1)
    return np.where(np.isfinite(variances), np.maximum(limit * math.sqrt(1 + 1 / runs) * spread, seen), math.inf)


def widened(before: Normal, runs: int, metric: Metric, records: Sequence[Record], weights: Selection) -> Normal:
    """What is normal by that of so many earlier `runs` and by further ones: the means are over all of them, and the
    distances stay, unless one of the new runs is further away."""
    places = Places(tuple(before.within))
    samples = [default_sample(metric, record, weights, places) for record in records]
    names = [name for name in before.means if all(name in sample.used for sample in samples)]
    points = [places.locate_all(record.points) for record in records]
    total = runs + len(records)
    within, means = {}, list[np.ndarray]()
    for index, (place, share) in enumerate(before.within.items()):
        cells = [sample.cells[own[index].step] for sample, own in zip(samples, points, strict=True)]
        new = np.array([[cell.get(name, math.nan) for name in names] for cell in cells])
        mean = (runs * np.array([before.means[name][index] for name in names]) + new.sum(axis=0)) / total
        reach = mean * np.array([before.factors.get(name, 1.0) for name in names])
        away = np.abs(np.divide(new - mean, reach, out=np.full_like(new, np.nan), where=mean != 0))
        furthest = float(np.nanmax(away, initial=0.0)) * total / (total - 1)
        within[place], means = max(share, furthest), [*means, mean]
    rows = {name: tuple(float(mean[i]) for mean in means) for i, name in enumerate(names)}
    return Normal(within, rows, {name: before.factors[name] for name in names if name in before.factors})


def about(runs: int) -> str:
    """What the ranges are, in words, for a suite from this many runs."""
    return (
        f"Normal for each weight: its mean over the {runs} runs at each checkpoint, and how far from it that of a "
        "further good run may be: what its band allows all weights, and its own spread, moderated by that of all (at "
        f"most {FALSE_ALARMS:.0%} of good runs outside, and none of these). It tells which weights are off where a "
        "band is left, and `normal: each weight` judges by it."
    )
