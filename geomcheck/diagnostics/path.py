"""The way of one weight from W0 over its checkpoints, by inner products alone: nothing is factorized.

With the updates D_1 .. D_n of n checkpoints, in order, and the increments ``I_t = D_t - D_(t-1)``, D_0 = 0, everything
here follows from the Gram matrix ``G_st = <D_s, D_t>`` and from inner products of increments that follow each other.
G has these too, as differences; they are summed up by themselves, as little is left of a small difference.

All is summed in float64 over blocks of entries, of as many checkpoints at once as are handed over. Of updates that are
known by their factors, as LoRA stores them, it is a matter of the factors: D is never formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.errors import Undefined

Stored = Tensor | LowRank
"""W_t, or D_t by its factors."""

BLOCK_ON_CPU, BLOCK_ON_GPU = 1 << 14, 1 << 22
"""Entries of which all updates are in float64 at a time: on a CPU they fit its cache."""

OVERLAP = 2
"""States before one that its increment and the one before it need."""


@dataclass(frozen=True)
class Path:
    """What inner products tell of n checkpoints of one weight.

    Attributes:
        steps: of training, at each checkpoint, counted from W0.
        gram: G_st = <D_s, D_t>, shape (n, n), float64, on the CPU.
        lengths: the norm of each increment, shape (n,), float64, on the CPU.
        turns: the inner product of each increment with the one before, shape (n,); zero for the first.
    """

    steps: tuple[int, ...]
    gram: Tensor
    lengths: Tensor
    turns: Tensor

    def until(self, index: int) -> Path:
        """The part up to the checkpoint of this index, included."""
        end = index + 1
        return Path(self.steps[:end], self.gram[:end, :end], self.lengths[:end], self.turns[:end])

    def cosine(self, one: int, other: int) -> float:
        """Cosine of the updates at two checkpoints, -1..1.

        Raises:
            Undefined: one of them is zero.
        """
        return cosine(float(self.gram[one, other]), math.sqrt(self.gram[one, one]), math.sqrt(self.gram[other, other]))


def cosine(inner: float, one: float, other: float) -> float:
    """``inner / (one * other)``, kept within -1..1.

    Raises:
        Undefined: one of the norms is zero.
        OverflowError: one of them is beyond the range of float64.
    """
    if not one or not other:
        raise Undefined("one of the two updates is zero, so it has no direction")
    if not math.isfinite(one) or not math.isfinite(other):
        raise OverflowError("a square is beyond the range of float64")
    return max(-1.0, min(1.0, inner / one / other))


def path_of(w0: Tensor, steps: Sequence[int], read: Callable[[int], Stored], *, at_once: int = 16) -> Path:
    """The path over the checkpoints at `steps`.

    Args:
        w0: shape (out, in).
        read: the weight at the checkpoint of an index, of the same shape, on the same device.
        at_once: how many are in memory at a time, 4 or more. With fewer than there are checkpoints and W0, each
            checkpoint is read about ``n / (2 * at_once)`` times.
    """
    count = len(steps) + 1  # states: W0 is the first
    gram, lengths, turns = torch.zeros(count, count).double(), torch.zeros(count).double(), torch.zeros(count).double()

    def state(index: int) -> Stored:
        return read(index - 1) if index else w0

    start = stop = 0
    while stop < count:
        stop = min(start + at_once - (start + at_once < count), count)  # one is kept free for those that come later
        window = [state(index) for index in range(start, stop)]
        found = _among(w0, window)
        gram[start:stop, start:stop], lengths[start + 1 : stop], turns[start + 2 : stop] = found
        for index in range(stop, count):
            gram[index, start:stop] = gram[start:stop, index] = _against(w0, window, state(index))
        start = stop - OVERLAP
    return Path(tuple(steps), gram[1:, 1:], lengths[1:], turns[1:])


def inner(w0: Tensor, one: Stored, other: Stored) -> float:
    """``<D, D'>`` of two updates of W0, shape (out, in), on one device."""
    return float(_against(w0, [one], other)[0])


def along_base(w0: Tensor, stored: Stored) -> float:
    """``<D, W0>`` of an update of W0, shape (out, in), on one device."""
    if isinstance(stored, LowRank):
        rows = max(1, BLOCK_ON_GPU // max(1, w0.shape[1]))
        parts = zip(torch.split(stored.left, rows), torch.split(w0, rows), strict=True)
        return float(sum(((left.T @ part.double()) * stored.right).sum() for left, part in parts))
    return math.fsum(float(deltas[0] @ before) for deltas, before in _blocks(w0, [stored]))


def _among(w0: Tensor, window: Sequence[Stored]) -> tuple[Tensor, Tensor, Tensor]:
    """Of states in a row: their Gram matrix, the norms of what lies between them, the products of these in a row."""
    factors = _factors(window, w0)
    if factors:
        gram = torch.tensor([[_product(one, other) for other in factors] for one in factors]).double()
        steps = [_difference(before, after) for before, after in pairwise(factors)]
        norms = torch.tensor([step.factorization.norm if step.left.any() else 0.0 for step in steps]).double()
        products = torch.tensor([_product(*pair) for pair in pairwise(steps)]).double()
        return gram, norms, products
    count = len(window)
    gram = w0.new_zeros(count, count, dtype=torch.float64)
    squares, turns = gram.new_zeros(count - 1), gram.new_zeros(max(0, count - 2))
    for deltas, _ in _blocks(w0, window):
        gram += deltas @ deltas.T
        between = deltas[1:] - deltas[:-1]
        squares += (between * between).sum(1)
        turns += (between[1:] * between[:-1]).sum(1)
    return gram.cpu(), squares.sqrt().cpu(), turns.cpu()


def _against(w0: Tensor, window: Sequence[Stored], other: Stored) -> Tensor:
    """The inner products of the updates of some states with that of another, shape (states,)."""
    if factors := _factors([*window, other], w0):
        return torch.tensor([_product(one, factors[-1]) for one in factors[:-1]]).double()
    products = w0.new_zeros(len(window), dtype=torch.float64)
    for deltas, _ in _blocks(w0, [*window, other]):
        products += deltas[:-1] @ deltas[-1]
    return products.cpu()


def _blocks(w0: Tensor, states: Sequence[Stored]) -> Iterator[tuple[Tensor, Tensor]]:
    """Block by block of entries: all updates, shape (states, entries), and W0; in float64, overwritten by the next."""
    size = BLOCK_ON_CPU if w0.device.type == "cpu" else BLOCK_ON_GPU
    flat = [(state.matrix if isinstance(state, LowRank) else state).reshape(-1) for state in states]
    deltas = w0.new_empty(len(states), min(size, w0.numel()), dtype=torch.float64)
    for start in range(0, w0.numel(), size):
        before = w0.reshape(-1)[start : start + size].double()
        block = deltas[:, : len(before)]
        for row, state, stored in zip(block, states, flat, strict=True):
            row.copy_(stored[start : start + size])
            if not isinstance(state, LowRank):
                row.sub_(before)
        yield block, before


def _factors(states: Sequence[Stored], w0: Tensor) -> list[LowRank]:
    """The factors of all updates, those of W0 being empty; none where one of them is not known by its factors."""
    if not any(isinstance(state, LowRank) for state in states):
        return []
    nothing = LowRank(w0.new_zeros(len(w0), 0).double(), w0.new_zeros(0, w0.shape[1]).double())
    found = [nothing if state is w0 else state for state in states]
    return [state for state in found if isinstance(state, LowRank)] if all(map(_is_low_rank, found)) else []


def _is_low_rank(state: Stored) -> bool:
    return isinstance(state, LowRank)


def _product(one: LowRank, other: LowRank) -> float:
    """``<L R, L' R'> = <L^T L', R R'^T>``."""
    return float(((one.left.T @ other.left) * (one.right @ other.right.T)).sum())


def _difference(before: LowRank, after: LowRank) -> LowRank:
    """``L' R' - L R = (L' - L) R' + L (R' - R)``: differences of factors, so that nothing large cancels."""
    if before.left.shape != after.left.shape:
        return LowRank(torch.cat([after.left, -before.left], 1), torch.cat([after.right, before.right]))
    left, right = after.left - before.left, after.right - before.right
    if not left.any() and not right.any():
        return LowRank(torch.zeros_like(left), right)
    return LowRank(torch.cat([left, before.left], 1), torch.cat([after.right, right]))
