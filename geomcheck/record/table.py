"""The figures of one statistic as a table of checkpoints and weights, the form that is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geomcheck.record.column import Column


@dataclass(frozen=True)
class Table:
    """A row per checkpoint and a column per weight.

    Attributes:
        values: float64, shape (checkpoints, weights); NaN where there is no figure.
        there: bool, shape (checkpoints, weights): whether there is a figure, or a reason why there is none.
        reasons: by (row, column), where there is one.
    """

    values: np.ndarray
    there: np.ndarray
    reasons: Mapping[tuple[int, int], str]

    @classmethod
    def of(cls, column: Column, steps: Sequence[int], names: Sequence[str]) -> Table:
        """The figures of `column` at these steps, ascending, of these weights; all others are left out."""
        places = {name: place for place, name in enumerate(names)}
        across = np.array([places.get(name, -1) for name in column.names], dtype=np.int64)[column.codes]
        down = np.searchsorted(steps, column.steps)
        inside = np.flatnonzero((across >= 0) & np.isin(column.steps, steps))
        cells = down[inside], across[inside]
        values, there = np.full((len(steps), len(names)), np.nan), np.zeros((len(steps), len(names)), dtype=bool)
        values[cells], there[cells] = column.values[inside], True
        reasons = {
            (int(down[index]), int(across[index])): column.undefined[index]
            for index in np.intersect1d(inside, list(column.undefined)).astype(int).tolist()
        }
        return cls(values, there, reasons)
