"""The figures of one statistic: in long form as parallel arrays with one entry per figure, and as a table to judge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import NamedTuple

import numpy as np


class Figure(NamedTuple):
    """One figure of one weight at one checkpoint.

    Exactly one of `value` (finite) and `undefined` (the reason why there is none) is set.
    """

    value: float | None = None
    undefined: str | None = None


@dataclass(frozen=True)
class Column:
    """All figures of one statistic.

    Attributes:
        steps: int64, shape (figures,).
        names: of the weights.
        codes: int32, shape (figures,): the index of each figure's weight in `names`.
        values: float64, shape (figures,); NaN where the figure is undefined.
        undefined: the reason, by the index of the figure.
    """

    steps: np.ndarray
    names: Sequence[str]
    codes: np.ndarray
    values: np.ndarray
    undefined: Mapping[int, str]

    @classmethod
    def of(cls, figures: Mapping[tuple[int, str], Figure]) -> Column:
        """The column of these figures, given by (step, weight)."""
        steps, weights = zip(*figures, strict=True) if figures else ((), ())
        codes = {name: code for code, name in enumerate(dict.fromkeys(weights))}
        values = [np.nan if figure.value is None else figure.value for figure in figures.values()]
        return cls(
            np.array(steps, dtype=np.int64),
            tuple(codes),
            np.array([codes[name] for name in weights], dtype=np.int32),
            np.array(values, dtype=np.float64),
            {i: figure.undefined or "" for i, figure in enumerate(figures.values()) if figure.value is None},
        )

    def of_weights(self, names: Collection[str]) -> Column:
        """The column of these weights alone."""
        kept = np.flatnonzero([self.names[code] in names for code in self.codes.tolist()])
        reasons = {new: self.undefined[old] for new, old in enumerate(kept.tolist()) if old in self.undefined}
        return Column(self.steps[kept], self.names, self.codes[kept], self.values[kept], reasons)

    @cached_property
    def figures(self) -> Mapping[tuple[int, str], Figure]:
        """The same figures by (step, weight), for a reader who looks at single ones."""
        keys = list(zip(self.steps.tolist(), map(self.names.__getitem__, self.codes.tolist()), strict=True))
        figures = dict(zip(keys, map(Figure._make, zip(self.values.tolist(), repeat(None))), strict=True))
        return figures | {keys[index]: Figure(undefined=reason) for index, reason in self.undefined.items()}

    def weights(self) -> set[str]:
        """Names of the weights that have a figure."""
        return used(self.codes, self.names)

    @property
    def repeats(self) -> bool:
        """Whether some weight has two figures at one step."""
        return repeats(self.steps, self.codes, self.names)


def repeats(steps: np.ndarray, codes: np.ndarray, names: Sequence[str]) -> bool:
    """Whether some weight, by its code into `names`, is there twice at one step; integers of shape (n,)."""
    keys = np.sort(steps * len(names) + codes)
    return bool((keys[1:] == keys[:-1]).any())


def used(codes: np.ndarray, labels: Sequence[str]) -> set[str]:
    """The labels that occur among `codes`, integers of shape (n,)."""
    return {labels[code] for code in np.flatnonzero(np.bincount(codes)).tolist()}


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
        without = np.intersect1d(inside, list(column.undefined)).astype(int).tolist() if column.undefined else ()
        reasons = {(int(down[index]), int(across[index])): column.undefined[index] for index in without}
        return cls(values, there, reasons)
