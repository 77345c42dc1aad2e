"""Which weight is being read at which checkpoint, for whoever shows progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """A weight that is being measured.

    Attributes:
        weight: its name.
        checkpoint: the name of the one that is read, `number` of `count`.
        entries: of the weight that count as measured by then.
    """

    weight: str
    checkpoint: str
    number: int
    count: int
    entries: int


class Watch:
    """Tells a progress what is read, where it has a method `reading` for that; from the thread that reads.

    Args:
        progress: of the measurement.
        checkpoints: their names.
        sizes: the entries of each weight that is measured.

    Attributes:
        share: of its entries, what the present look at a weight counts for.
    """

    def __init__(self, progress: object, checkpoints: Sequence[str], sizes: Mapping[str, int]) -> None:
        self._tell = getattr(progress, "reading", None)
        self._checkpoints, self._sizes = checkpoints, sizes
        self.share = 1.0

    def __call__(self, weight: str, index: int) -> None:
        """The weight is read at the checkpoint of this index."""
        if self._tell is not None and weight in self._sizes:
            count = len(self._checkpoints)
            entries = int(self.share * self._sizes[weight] * index / count)
            self._tell(Reading(weight, self._checkpoints[index], index + 1, count, entries))
