"""How many of all weights violate a condition that each must meet by itself, from those that were seen."""

from __future__ import annotations

import math

import numpy as np

from geomcheck.suite.early.wager import Wager


class Tally:
    """A count of weights that are outside, of `total` of which at most `allowed` may be.

    Where none may be, one that is outside decides; that all are inside, only the last weight does, or what limits them.
    """

    def __init__(self, total: int, allowed: int) -> None:
        self._share, self._most = allowed / total, (allowed + 1) / total
        self._few = Wager(np.full(total, 1 - self._most))
        self._many = Wager(np.full(total, self._share))

    def see(self, member: int, *, outside: bool) -> None:
        """Note the next weight, by its place, in a uniformly random order."""
        self._few.see(member, outside - self._most)
        self._many.see(member, self._share - outside)

    def limit(self, inside: np.ndarray) -> None:
        """Learn which weights cannot be outside: true or false, shape (total,)."""
        self._few.limit(~inside - self._most)

    @property
    def likely(self) -> bool:
        """Whether few enough of those that were seen are outside."""
        return self._few.total < 0

    def judged(self, alpha: float) -> tuple[bool | None, bool]:
        """Whether few enough are outside, None where that is open; and whether that is certain."""
        few, many = self._few.evidence, self._many.evidence
        if math.inf in (few, many):
            return few == math.inf, True
        return (True if few * alpha >= 1.0 else False if many * alpha >= 1.0 else None), False
