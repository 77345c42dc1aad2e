"""Figures as arrays: one statistic of a large run, turned into cells only when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np


class Figure(NamedTuple):
    """One figure of one weight at one checkpoint.

    Exactly one of `value` (finite) and `undefined` (the reason why there is none) is set.
    """

    value: float | None = None
    undefined: str | None = None


Cells = dict[tuple[int, str], Figure]
"""Figures by (step, weight)."""


@dataclass(frozen=True)
class Column:
    """All figures of one statistic.

    Attributes:
        steps: int64, one per figure.
        names: of the weights.
        codes: one per figure, index of its weight in `names`.
        values: float64, one per figure; ignored where it is undefined.
        undefined: reason by the figure's index.
    """

    steps: np.ndarray
    names: Sequence[str]
    codes: np.ndarray
    values: np.ndarray
    undefined: Mapping[int, str]

    @classmethod
    def of(cls, cells: Cells) -> Column:
        """The column of these figures."""
        steps, weights = zip(*cells, strict=True) if cells else ((), ())
        places = {name: place for place, name in enumerate(dict.fromkeys(weights))}
        figures = enumerate(cells.values())
        return cls(
            np.array(steps, dtype=np.int64),
            tuple(places),
            np.array([places[name] for name in weights], dtype=np.int32),
            np.array([np.nan if figure.value is None else figure.value for figure in cells.values()], dtype=np.float64),
            {index: figure.undefined or "" for index, figure in figures if figure.value is None},
        )

    def cells(self) -> Cells:
        """The figures by step and weight."""
        keys = list(zip(self.steps.tolist(), map(self.names.__getitem__, self.codes.tolist()), strict=True))
        cells = dict(zip(keys, map(Figure._make, zip(self.values.tolist(), repeat(None))), strict=True))
        return cells | {keys[index]: Figure(undefined=reason) for index, reason in self.undefined.items()}

    def weights(self) -> set[str]:
        """Names of the weights that have a figure."""
        return {self.names[code] for code in np.flatnonzero(np.bincount(self.codes)).tolist()}

    @property
    def repeats(self) -> bool:
        """Whether some weight has two figures at one step."""
        keys = np.sort(self.steps * len(self.names) + self.codes)
        return bool((keys[1:] == keys[:-1]).any())
