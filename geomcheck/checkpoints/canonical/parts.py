"""Canonical weights as parts of stored tensors: a source behind a table of names, and layouts of several projections in
the rows of one matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

from geomcheck._lazy import torch
from geomcheck.checkpoints.source import Change, Stored, WeightSource, Wrapped
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """Where a canonical weight lies.

    Attributes:
        tensor: name of the stored tensor.
        stored: shape and format of the part.
        at: indices into the tensor's leading dimensions (an expert, a layer of a stack).
        take: from what lies at `at` to the weight: rows of a fused projection, a transposition. It may return a
            view.
    """

    tensor: str
    stored: Stored
    at: tuple[int, ...] = ()
    take: Callable[[Tensor], Tensor] | None = None

    def each(self) -> Iterator[Part]:
        """What lies at each index of the leading dimension, which there must be; this is without `take`."""
        inner = replace(self.stored, shape=self.stored.shape[1:])
        return (Part(self.tensor, inner, (*self.at, index)) for index in range(self.stored.shape[0]))

    def rows(self, start: int, stop: int) -> Part:
        """The rows from `start` to `stop`; this is without `take`."""
        count, *rest = self.stored.shape
        taken = replace(self.stored, shape=(stop - start, *rest))
        return Part(self.tensor, taken, self.at, Rows(1, count, start, stop))


class PartsOf(Wrapped):
    """A source whose weights are `parts`, by canonical name, of the tensors of another source.

    Args:
        weights: what is known of each; by default what the parts say.
    """

    def __init__(
        self, source: WeightSource, parts: Mapping[str, Part], weights: Mapping[str, Stored] | None = None
    ) -> None:
        super().__init__(source)
        self._parts = parts
        self.weights = weights or {name: part.stored for name, part in parts.items()}

    def again(self, of: WeightSource, source: WeightSource) -> PartsOf:
        """`source` taken apart as this is of the source `of`, whose tensors have the same names, shapes and formats."""
        below = taken_alike(self._source, of, source)
        own = {stored: replace(stored) for stored in self.weights.values()}  # one object in two sources is W0's, lent
        return PartsOf(below, self._parts, {name: own[stored] for name, stored in self.weights.items()})

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """One canonical weight. Raises RunError."""
        part = self._parts[name]
        if part.take is None:
            return self._source.read(part.tensor, (*part.at, *at))
        take = part.take
        stored = self._source.read(part.tensor, part.at)

        def taken(tensor: Tensor) -> Tensor:
            weight = take(tensor).contiguous()  # products round by memory order
            return weight[at] if at else weight

        return taken(stored) if isinstance(stored, torch.Tensor) else stored.taken(taken)


def parts_of(source: WeightSource, parts: Iterable[tuple[str, Part]]) -> PartsOf:
    """`source` with these weights. Raises RunError if two stored tensors are one weight; which of them the model would
    load cannot be told."""
    table: dict[str, Part] = {}
    for name, part in parts:
        twin = table.setdefault(name, part)
        if twin is not part:
            raise RunError(
                f"{source.path}: {twin.tensor} and {part.tensor} are both {name}; "
                "remove the one that the model does not load, or save the model again"
            )
    return PartsOf(source, table)


def taken_alike(seen: WeightSource, of: WeightSource, source: WeightSource) -> WeightSource:
    """`source` as `seen` is of the source `of`; see `PartsOf.again`."""
    return seen.again(of, source) if isinstance(seen, PartsOf) and seen is not of else source


Pieces = Iterable[tuple[str, Part]]


def taken_apart(source: WeightSource, pieces: Callable[[str, Stored], Pieces | None]) -> WeightSource:
    """`source` with its tensors as the parts that `pieces` gives of each; where that is None, as they are.

    Raises RunError as `parts_of`.
    """
    found = {name: pieces(name, stored) for name, stored in source.weights.items()}
    if all(parts is None for parts in found.values()):
        return source
    return parts_of(
        source,
        chain.from_iterable(
            [(name, Part(name, source.weights[name]))] if parts is None else parts for name, parts in found.items()
        ),
    )


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
