"""Layouts of several projections in the rows of one matrix, and how to take one of them out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Takes rows `start` to `stop` of each of `groups` equal groups of rows.

    Attributes:
        groups: how many groups the rows form.
        size: rows of one group.
        start, stop: the rows of a group that are taken.
        transposed: the matrix is stored as (in, out).
    """

    groups: int
    size: int
    start: int
    stop: int
    transposed: bool = False

    def __call__(self, tensor: Tensor) -> Tensor:
        """The rows of a tensor (rows, ...); a view where they are contiguous."""
        matrix = tensor.mT if self.transposed else tensor
        if self.groups == 1:
            return matrix[self.start : self.stop]
        grouped = matrix.reshape(self.groups, self.size, *matrix.shape[1:])
        return grouped[:, self.start : self.stop].flatten(0, 1)


@dataclass(frozen=True)
class RowLayout:
    """Rows in `groups` equal groups; each holds, one after another, so many rows of each of `projections`."""

    groups: int
    projections: tuple[tuple[str, int], ...]

    @property
    def rows(self) -> int:
        """Rows in all."""
        return self.groups * sum(count for _, count in self.projections)

    def split(self, *, transposed: bool = False) -> Iterator[tuple[str, int, Rows]]:
        """(projection, its rows in all, how to take them)."""
        size, start = sum(count for _, count in self.projections), 0
        for name, count in self.projections:
            yield name, self.groups * count, Rows(self.groups, size, start, start + count, transposed)
            start += count


def transpose(tensor: Tensor) -> Tensor:
    """A matrix of shape (in, out) as (out, in), or a stack of such."""
    return tensor.mT
