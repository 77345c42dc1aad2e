"""What each fold lets be claimed before every weight is known: that the folded figure is below an edge, or above it.

Either claim is one about a total, which a `Wager` bets on. The mean is below an edge where the sum of ``x - edge`` is
below zero, the weighted mean with sizes as factors. A quantile is below an edge where few enough figures reach it: that
is a count, and needs no bound of the figures. The largest and the smallest are one figure each, which no sample tells:
they are decided by what is certain alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from geomcheck.diagnostics import Fold
from geomcheck.suite.early.wager import Wager

QUANTILES: dict[Fold, float] = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}
CERTAIN: tuple[Fold, ...] = ("min", "max")
"""Folds that no sample decides."""

MARGIN = 0.01
"""How far a figure may be beyond what limits it, as both are computed, relative to that."""


@dataclass(frozen=True)
class Population:
    """The weights of which one folded figure is made.

    Attributes:
        low, high: the closed range that each one's figure is proven to lie in, shape (weights,).
        sizes: their numbers of entries, shape (weights,).
    """

    low: np.ndarray
    high: np.ndarray
    sizes: np.ndarray

    def limited(self, values: np.ndarray) -> Population:
        """With figures that do not exceed `values`, of the same weights; NaN where that is not known."""
        return replace(self, high=np.fmin(self.high, (1 + MARGIN) * values))


class Claim:
    """That a folded figure is on one `side` of an `edge`, and not on it."""

    def __init__(self, population: Population, fold: Fold, edge: float, side: Literal["below", "above"]) -> None:
        self._as_total = partial(_as_total, fold=fold, edge=edge, side=side)
        self._value, most = self._as_total(population)
        self._wager = Wager(most)
        self._sampled, self._side = fold not in CERTAIN, side

    def see(self, member: int, figure: float) -> None:
        """Note the figure of the next weight, by its place in the population."""
        self._wager.see(member, self._value(member, figure))

    def limit(self, population: Population) -> None:
        """Learn of narrower ranges of the same weights."""
        self._wager.limit(self._as_total(population)[1])

    def awaits_limits(self, alpha: float) -> bool:
        """Whether it is open, the figures that were seen speak for it, and lower upper bounds may prove it."""
        return self._side == "below" and self._wager.total < 0 and not self.proven(alpha)

    def proven(self, alpha: float) -> bool:
        """Whether it is certain, or wrongly taken for true with a chance of at most `alpha`."""
        evidence = self._wager.evidence
        return math.isinf(evidence) or (self._sampled and evidence * alpha >= 1.0)

    @property
    def certain(self) -> bool:
        """Whether nothing that is left can change it."""
        return math.isinf(self._wager.evidence)


def _as_total(
    population: Population, fold: Fold, edge: float, side: Literal["below", "above"]
) -> tuple[Callable[[int, float], float], np.ndarray]:
    """What a figure, by its place, adds to a total that is below zero where the claim holds; the most it may add."""
    sign = 1.0 if side == "below" else -1.0
    furthest = population.high if side == "below" else population.low
    if fold in QUANTILES:
        count = len(furthest)
        place = QUANTILES[fold] * (count - 1)
        spared = count - 1 - math.ceil(place) if side == "below" else math.floor(place)
        share = (spared + 1) / count  # one more than may lie on the edge, or beyond it
        return lambda _, figure: float(sign * figure >= sign * edge) - share, (sign * furthest >= sign * edge) - share
    if fold == "weighted":
        factors = sign * population.sizes / population.sizes.max()
        return lambda member, figure: float(factors[member] * (figure - edge)), factors * (furthest - edge)
    return lambda _, figure: sign * (figure - edge), sign * (furthest - edge)
