"""What is normal for each weight by itself, from good runs.

A weight repeats closely from run to run, all weights about alike, but N runs tell little of the spread of one. So the
relative deviations of all weights from their own means over the runs are pooled, at each checkpoint:
``s^2 = sum of (x / mean - 1)^2 / (weights (N - 1))``. A weight of a further good run is within

    mean (1 +- max(t sqrt(1 + 1/N) s, d)),

t being Student's quantile of N - 1 degrees of freedom, as what moves all weights of a run moves them together, but not
above that of `CEILING`; two-sided, for `FALSE_ALARMS` over all weights; and d the largest deviation of any weight of
any run from what the other runs have, so that no good run is outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import t as student

from geomcheck.diagnostics import Metric
from geomcheck.record import Record
from geomcheck.suite.language.places import Places
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal
from geomcheck.suite.sampling import default_sample

FALSE_ALARMS = 0.05
"""Share of good runs of which some weight may be outside at a checkpoint."""

CEILING = 6.0
"""Largest multiple of s: where few runs are known, the largest deviation seen decides with it."""

LEAST = 1e-3
"""Smallest relative distance: means are written with four digits."""

LOOSEST = 0.5
"""Relative distance from which on a range says nothing."""

MAX_CHARACTERS = 400_000
"""Of all ranges of a suite, which is a text that people open."""


def normal_of(metric: Metric, records: Sequence[Record], weights: Selection, places: Places) -> Normal | None:
    """What is normal at `places`; None where weights have no names that a suite could hold, or too wide a range."""
    samples = [default_sample(metric, record, weights, places) for record in records]
    names = sorted(set(samples[0].used).intersection(*(sample.used for sample in samples)))
    if not names or any(not name.isprintable() or name.split() != [name] for name in names):
        return None
    at = [
        [sample.cells[p.step] for p in places.locate_all(r.points)] for sample, r in zip(samples, records, strict=True)
    ]
    figures = np.array([[[cells.get(name, math.nan) for cells in run] for name in names] for run in at])
    means = figures.mean(axis=0)
    within = {place: _within(figures[:, :, i]) for i, place in enumerate(places.places)}
    if any(share > LOOSEST for share in within.values()):
        return None
    return Normal(within, {name: tuple(row) for name, row in zip(names, means.tolist(), strict=True)})


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
        away = np.abs(np.divide(new - mean, mean, out=np.full_like(new, np.nan), where=mean != 0))
        furthest = float(np.nanmax(away, initial=0.0)) * total / (total - 1)
        within[place], means = max(share, furthest), [*means, mean]
    return Normal(within, {name: tuple(float(mean[i]) for mean in means) for i, name in enumerate(names)})


def _within(figures: np.ndarray) -> float:
    """The relative distance from their mean over runs within which weights are, from figures of shape (runs, weights);
    infinite where the mean of one is zero, and its figures are not."""
    known = figures[:, np.isfinite(figures).all(axis=0)]
    runs, weights = known.shape
    means = known.mean(axis=0)
    if not weights or ((means == 0) & (known != 0).any(axis=0)).any():
        return math.inf
    away = np.divide(known - means, means, out=np.zeros_like(known), where=means != 0)
    pooled = math.sqrt(float(np.square(away).sum()) / (weights * (runs - 1)))
    quantile = float(student.ppf(1 - FALSE_ALARMS / weights / 2, runs - 1))
    multiple = min(CEILING, quantile * math.sqrt(1 + 1 / runs))
    return max(LEAST, multiple * pooled, float(np.abs(away).max()) * runs / (runs - 1))


def about(runs: int) -> str:
    """What the ranges are, in words, for a suite from this many runs."""
    return (
        f"Normal for each weight: its mean over the {runs} runs at each checkpoint, and how far from it one of "
        f"a further good run may be (spread pooled over weights; at most {FALSE_ALARMS:.0%} of good runs outside, and "
        "none of these). Nothing is judged by it: it tells which weights are off where a band is left."
    )
