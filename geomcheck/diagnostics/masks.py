"""Masks that hold a fixed fraction of a matrix's entries, chosen by magnitude, with an exact rule for ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MagnitudeMask:
    """The fraction `alpha` of entries that are smallest (or largest) in magnitude.

    bf16 weights have few distinct magnitudes, so the cut usually runs through a tie. Tied entries belong
    to the mask in equal parts: `tied_share` each, so that the mask holds exactly alpha of all entries. The
    figure is then the expectation over all ways to break the tie, and does not depend on entry order.
    """

    inside: np.ndarray
    tied: np.ndarray
    tied_share: float

    @classmethod
    def smallest(cls, keys: np.ndarray, alpha: float) -> MagnitudeMask:
        """Mask of the alpha smallest `keys` (any ordered dtype), 0 < alpha < 1."""
        target = alpha * keys.size
        threshold = _order_statistic(keys, int(target))
        inside, tied = keys < threshold, keys == threshold
        return cls(inside, tied, (target - np.count_nonzero(inside)) / np.count_nonzero(tied))

    @classmethod
    def largest(cls, keys: np.ndarray, alpha: float) -> MagnitudeMask:
        """Mask of the alpha largest `keys`."""
        target = alpha * keys.size
        threshold = _order_statistic(keys, keys.size - 1 - int(target))
        inside, tied = keys > threshold, keys == threshold
        return cls(inside, tied, (target - np.count_nonzero(inside)) / np.count_nonzero(tied))

    def share_of(self, mask: np.ndarray) -> float:
        """The part of the non-empty boolean `mask` that lies in this mask, 0..1."""
        inside = np.count_nonzero(mask & self.inside)
        tied = np.count_nonzero(mask & self.tied)
        return float((inside + self.tied_share * tied) / np.count_nonzero(mask))


def _order_statistic(keys: np.ndarray, rank: int) -> np.generic:
    """The element that would stand at `rank` if `keys` were sorted."""
    flat = np.partition(keys, rank, axis=None)
    return flat[rank]
