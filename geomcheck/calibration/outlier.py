"""A run among good ones that is no good run.

Each run in turn is held against all others. For each metric, ``D`` is the mean over checkpoints of the squared relative
distance of its figure from the mean of the others, and ``V`` that of their own variance, at least `REPEATS` squared.
The distance of the run is the `QUANTILE` over metrics of ``D / V / (1 + 1 / (N - 1))``: a change of the training moves
a quarter of the metrics or more, and what is only noisy in one metric, or large in one checkpoint, does not count. Of
good runs it has about the F distribution; figures are correlated, so that it is taken with `DIMENSIONS` degrees of
freedom for each run, or as many as there are metrics, and `FALSE_ACCUSATIONS` is shared out over the runs. Beside that,
a weight that moved in all other runs and never in this one accuses it, whatever the figures are.

From two runs nobody can tell which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher

from geomcheck._text import plural
from geomcheck.calibration.figures import ByRun

FALSE_ACCUSATIONS = 0.01
"""Share of calibrations on good runs alone in which one of them may be accused."""

REPEATS = 0.01
"""Relative standard deviation below which runs are never taken to repeat."""

QUANTILE = 0.75
"""Over the metrics, of how far a run is from the others."""

DIMENSIONS = 3
"""In how many independent ways the figures of a run are taken to vary."""

FEWEST = 3
"""Runs from which one can be told from the others."""

APART = 0.25
"""Relative distance of two runs, by the same quantile, from which on they are hardly runs of one recipe."""

FROZEN = "frozen-share"
TOLD = 3
"""Metrics that an accusation names."""


@dataclass(frozen=True)
class Outlier:
    """The run that is furthest from what the others predict, further than chance has it.

    `why` says in what, in words.
    """

    run: int
    why: str


def outlier(figures: Mapping[str, ByRun]) -> Outlier | None:
    """The run that is no good run, by the `figures` of each expectation; None where there is none, or are too few."""
    runs = len(next(iter(figures.values()), ()))
    if runs < FEWEST:
        return None
    for run in range(runs):
        if (share := _frozen_alone(figures, run)) > 0:
            return Outlier(run, f"{share:.0%} of its weights never moved, and in every other run they did")
    distances = {name: found for name, by_run in figures.items() if (found := _distances(by_run)) is not None}
    if not distances:
        return None
    far = np.quantile(np.array([*distances.values()]), QUANTILE, axis=0)
    run, ways = int(far.argmax()), min(DIMENSIONS, len(distances))
    limit = float(fisher.ppf(1 - FALSE_ACCUSATIONS / runs, ways, ways * (runs - 2)))
    if far[run] <= limit:
        return None
    named = sorted(distances, key=lambda name: -distances[name][run])[:TOLD]
    told = ", ".join(f"{name} {_ratio(figures[name], run)}" for name in named)
    return Outlier(
        run, f"{told} (distance {far[run]:.3g}; of good runs {FALSE_ACCUSATIONS:.0%} are beyond {limit:.3g})"
    )


def apart(figures: Mapping[str, ByRun]) -> str:
    """A sentence where two runs differ as hardly two good ones do; empty where they do not, or there are more."""
    if len(next(iter(figures.values()), ())) != 2:
        return ""
    ways = {}
    for name, by_run in figures.items():
        table = _table(by_run)
        means = np.abs(table.mean(axis=0))
        if means.size and (means > 0).all():
            ways[name] = float((np.abs(table[1] - table[0]) / means).mean())
    if not ways or float(np.quantile([*ways.values()], QUANTILE)) <= APART:
        return ""
    most = max(ways, key=lambda name: ways[name])
    return (
        f"the two runs are far apart ({most} of the second is {_ratio(figures[most], 1)}): one may be no good run, and "
        "from two nobody can tell which; add a third"
    )


def _frozen_alone(figures: Mapping[str, ByRun], run: int) -> float:
    """By how much more weights a run left as they were to the end, where all others left the same ones; else 0."""
    table = _table(figures.get(FROZEN, ()))
    if not table.size:
        return 0.0
    others = np.delete(table[:, -1], run)
    return float(table[run, -1] - others[0]) if (others == others[0]).all() else 0.0


def _distances(by_run: ByRun) -> np.ndarray | None:
    """How far each run is from the others in one metric; None where relative distances mean nothing."""
    table = _table(by_run)
    runs = len(table)
    found = []
    for run in range(runs):
        others = np.delete(table, run, axis=0)
        means = others.mean(axis=0)
        if not means.size or (means == 0).any():
            return None
        own, spread = np.square(table[run] / means - 1), np.square(others / means - 1).sum(axis=0) / (runs - 2)
        found.append(own.mean() / max(spread.mean(), REPEATS**2) / (1 + 1 / (runs - 1)))
    return np.array(found)


def _table(by_run: ByRun) -> np.ndarray:
    """The figures at the checkpoints where every run has one: runs x checkpoints."""
    places = [place for place in by_run[0] if all(place in figures for figures in by_run)] if by_run else []
    return np.array([[figures[place] for place in places] for figures in by_run])


def _ratio(by_run: ByRun, run: int) -> str:
    """The last figure of a run, in multiples of what the others have."""
    last = _table(by_run)[:, -1]
    return f"{last[run] / np.delete(last, run).mean():.3g} times the others'"


def accused(names: Sequence[str], found: Outlier) -> str:
    """What is said of an outlier among runs of these names."""
    return f"{names[found.run]} differs from the other {plural(len(names) - 1, 'run')}: {found.why}"
