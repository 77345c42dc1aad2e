"""Masks that hold a fixed fraction of a matrix's entries, chosen by magnitude, with an exact rule for ties."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geomcheck.diagnostics.storage import Array, count, size


@dataclass(frozen=True)
class MagnitudeMask:
    """The fraction `alpha` of entries that are smallest (or largest) in magnitude.

    bf16 weights have few distinct magnitudes, so the cut usually runs through a tie. Tied entries belong
    to the mask in equal parts: `tied_share` each, so that the mask holds exactly alpha of all entries. The
    figure is then the expectation over all ways to break the tie, and does not depend on entry order:

    >>> half = MagnitudeMask.smallest(torch.tensor([[1, 2], [2, 3]]), alpha=0.5)  # the 1, and half of each 2
    >>> half.share_of(torch.tensor([[True, True], [False, False]]))
    0.75
    """

    inside: Array
    tied: Array
    tied_share: float

    @classmethod
    def smallest(cls, keys: Array, alpha: float) -> MagnitudeMask:
        """Mask of the alpha smallest `keys` (any shape and ordered dtype), 0 < alpha < 1."""
        target = alpha * size(keys)
        threshold = _order_statistic(keys, int(target))
        return cls._cut(keys < threshold, keys == threshold, target)

    @classmethod
    def largest(cls, keys: Array, alpha: float) -> MagnitudeMask:
        """Mask of the alpha largest `keys`, of any shape."""
        target = alpha * size(keys)
        threshold = _order_statistic(keys, size(keys) - 1 - int(target))
        return cls._cut(keys > threshold, keys == threshold, target)

    @classmethod
    def _cut(cls, inside: Array, tied: Array, target: float) -> MagnitudeMask:
        return cls(inside, tied, (target - count(inside)) / count(tied))

    def share_of(self, mask: Array) -> float:
        """The part of the non-empty boolean `mask`, of the shape of the keys, that lies in this mask: 0..1."""
        return (count(mask & self.inside) + self.tied_share * count(mask & self.tied)) / count(mask)


SAMPLED = 1 << 14
"""Of how many elements it is told where about an order statistic lies,"""

MARGIN = 512
"""and how far from it, in places among them: eight standard deviations."""


def _order_statistic(keys: Array, rank: int) -> int:
    """The element that would stand at `rank` if `keys` were sorted."""
    if not isinstance(keys, np.ndarray):
        return int(keys.flatten().sort().values[rank])
    flat = keys.reshape(-1)
    some = np.sort(flat[:: flat.size // SAMPLED | 1])  # an odd step: not one column
    place = rank * some.size // flat.size
    if MARGIN <= place < some.size - MARGIN:
        low, high = some[place - MARGIN], some[place + MARGIN]
        before, near = count(flat < low), flat[(low <= flat) & (flat <= high)]
        if before <= rank < before + near.size:
            flat, rank = near, rank - before
    return int(np.partition(flat, rank)[rank])
