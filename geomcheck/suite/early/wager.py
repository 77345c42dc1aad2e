"""Evidence about the total of a finite population whose members are seen one by one, in a uniformly random order.

A gambler bets against the claim that the total is at least zero, at odds that are fair if it is exactly that. Capital
that starts at 1 is then a nonnegative supermartingale, and ever exceeds 1 / alpha with a chance of at most alpha
(Ville's inequality): one may look after every member. Waudby-Smith and Ramdas, arXiv 2006.04347 and 2010.09686.
"""

from __future__ import annotations

import math

import numpy as np

BETS = 2.0 ** -np.arange(7)
"""Shares of their capital that several gamblers stake; what they have together is a supermartingale, too."""

ROUNDING = 1e-12
"""Relative to the sizes that are added: how far below zero a total must be to be certainly so, in floating point."""


class Wager:
    """A bet against ``total >= 0``, of members of which each is known to be at most `most` before it is seen.

    Under the claim, and whatever was seen, the mean of the rest is at least what the total lacks (sampling without
    replacement).

    Args:
        most: upper bounds, shape (members,); where one is infinite, no bet is possible before that member is seen.

    Attributes:
        evidence: the most that the capital ever was, in starting capitals; infinite where the total is certainly
            below zero. The claim is refused at level alpha where it is 1 / alpha or more.
        total: of the members that were seen.
    """

    def __init__(self, most: np.ndarray) -> None:
        self.evidence = 1.0
        self.total = 0.0
        self._unseen = [True] * len(most)
        self._left = len(most)
        self._sizes = 0.0
        self._capital = np.ones(len(BETS))
        self._bound(most)

    @property
    def capital(self) -> float:
        """What the gamblers have now, in starting capitals."""
        return float(self._capital.mean())

    def limit(self, most: np.ndarray) -> None:
        """Learn that members are at most `most`, too, shape (members,); at any time, from whatever is no sample.

        Later bets are fair as those before were: what bounds a member is no matter of the order in which they come.
        """
        self._bound(np.fmin(self._most, most))
        self._look()

    def _bound(self, most: np.ndarray) -> None:
        """Take `most` for what members that are unseen are at most."""
        self._most: list[float] = most.tolist()
        self._ascending = [member for member in np.argsort(most).tolist() if self._unseen[member]]
        finite = [self._most[member] for member in self._ascending if math.isfinite(self._most[member])]
        self._unbounded, self._rest = len(self._ascending) - len(finite), math.fsum(finite)
        self._sizes += math.fsum(map(abs, finite))

    def see(self, member: int, value: float) -> None:
        """Note that the next member is this one, and what it is."""
        if not self._unbounded and self.evidence < math.inf:
            fair = -self.total / self._left
            loss = self._most[self._ascending[-1]] - fair
            if loss > 0:
                self._capital *= np.maximum(0.0, 1.0 + BETS * ((fair - value) / loss))
                self.evidence = max(self.evidence, self.capital)
        self._note(member, value)
        self._look()

    def _look(self) -> None:
        if not self._unbounded and self.total + self._rest < -ROUNDING * self._sizes:
            self.evidence = math.inf

    def _note(self, member: int, value: float) -> None:
        self._unseen[member] = False
        while self._ascending and not self._unseen[self._ascending[-1]]:
            self._ascending.pop()
        self._left -= 1
        self.total += value
        self._sizes += abs(value)
        if math.isinf(self._most[member]):
            self._unbounded -= 1
        else:
            self._rest -= self._most[member]
