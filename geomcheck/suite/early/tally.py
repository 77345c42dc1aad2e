"""How many of all weights violate a condition that each must meet by itself, from those that were seen."""

from __future__ import annotations

import numpy as np

from geomcheck.suite.early.wager import Wager


class Tally:
    """A count of weights that are outside, of `total` of which at most `allowed` may be.

    Where none may be, one that is outside decides, and nothing does before the last weight that all are inside.
    """

    def __init__(self, total: int, allowed: int) -> None:
        self._total, self._allowed = total, allowed
        self._seen = self._outside = 0
        self._few = Wager(np.full(total, 1 - (allowed + 1) / total))
        self._many = Wager(np.full(total, allowed / total))

    def see(self, *, outside: bool) -> None:
        """Note the next weight, in a uniformly random order."""
        self._few.see(self._seen, outside - (self._allowed + 1) / self._total)
        self._many.see(self._seen, self._allowed / self._total - outside)
        self._seen += 1
        self._outside += outside

    def judged(self, alpha: float) -> tuple[bool | None, bool]:
        """Whether few enough are outside, None where that is open; and whether that is certain."""
        if self._outside > self._allowed:
            return False, True
        if self._outside + self._total - self._seen <= self._allowed:
            return True, True
        if self._few.evidence * alpha >= 1.0:
            return True, False
        return (False, False) if self._many.evidence * alpha >= 1.0 else (None, False)
