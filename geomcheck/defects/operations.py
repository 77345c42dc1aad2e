"""What faulty code does to a weight: functions of tensors, and operations on one weight along a run that use them.

An operation is asked for one weight at one checkpoint at a time, and reads of the good run what it needs for that.
Operations are values: two that are equal do the same, so that what was measured of one is known of the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from geomcheck._lazy import torch
from geomcheck.checkpoints import Change
from geomcheck.checkpoints.changes import Added, whole

if TYPE_CHECKING:
    from torch import Tensor

W0 = -1
"""Stands for W0 among the indices of checkpoints."""


def scaled(w0: Tensor, wt: Tensor, factor: float) -> Tensor:
    """W0 + factor * D, in fp32 or finer."""
    start = w0.to(torch.promote_types(w0.dtype, torch.float32))
    return start + factor * (wt - start)


def rounded(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """The weight as a coarser format holds it, in its own."""
    return weight.to(dtype).to(weight.dtype)


def quantized(weight: Tensor, largest: int) -> Tensor:
    """The rows of a matrix as whole multiples, up to `largest`, of a step that each row has of its own."""
    step = (weight.abs().amax(dim=1, keepdim=True) / largest).clamp_min(torch.finfo(weight.dtype).tiny)
    return (weight / step).round() * step


def halves_swapped(weight: Tensor, axis: int = 0) -> Tensor:
    """The halves of the rows or columns, as two tensor-parallel ranks save them, in the wrong order."""
    return torch.cat(weight.chunk(2, dim=axis)[::-1], dim=axis)


def heads_interleaved(weight: Tensor, head: int) -> Tensor:
    """The rows of each head of `head` rows in the other layout of rotary embeddings."""
    return weight.reshape(-1, 2, head // 2, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def noisy(w0: Tensor, wt: Tensor, share: float, noise: Tensor) -> Tensor:
    """W_t with `noise` of any size, of the same shape, made `share` of the norm of D."""
    return wt + share * (wt - w0.to(noise.dtype)).norm() / noise.norm() * noise


def noise_for(name: str, index: int, shape: tuple[int, ...]) -> Tensor:
    """Gaussian noise in fp32, the same for the same weight and checkpoint on every machine."""
    seed = hashlib.blake2b(f"{name} {index}".encode(), digest_size=7).digest()
    return torch.randn(shape, generator=torch.Generator().manual_seed(int.from_bytes(seed)))


class Good(Protocol):
    """The weights of a good run, read one at a time."""

    def read(self, name: str, index: int) -> Tensor | Change:
        """A weight at a checkpoint, or in `W0`. Raises RunError where it cannot be read."""


class Operation(Protocol):
    """What becomes of one weight; hashable, and equal only to what does the same.

    Attributes:
        of_factors: whether it can be done to the factors of an adapter as well.
    """

    of_factors: bool

    def __call__(self, good: Good, name: str, index: int) -> Tensor | Change:
        """The weight at this checkpoint, or in `W0`, of its shape and in its format. Raises RunError."""


@dataclass(frozen=True)
class Taken:
    """The weight is what it was at other checkpoints: at index i at that of index ``order[i]``, which may be `W0`."""

    order: tuple[int, ...]
    of_factors = True

    def __call__(self, good: Good, name: str, index: int) -> Tensor | Change:
        """See `Operation`."""
        taken = self.order[index]
        return _start(good, name, index) if taken == W0 else _like(good.read(name, index), good.read(name, taken))


@dataclass(frozen=True)
class Scaled:
    """W0 + factor * D, from checkpoint `since` on."""

    factor: float
    since: int = 0
    of_factors = True

    def __call__(self, good: Good, name: str, index: int) -> Tensor | Change:
        """See `Operation`."""
        held = good.read(name, index)
        if index < self.since:
            return held
        if isinstance(held, Added):
            return replace(held, left=self.factor * held.left)
        w0 = whole(good.read(name, W0))
        wt = held if isinstance(held, torch.Tensor) else held.of(w0)
        assert isinstance(wt, torch.Tensor)
        return scaled(w0, wt, self.factor).to(wt.dtype)


@dataclass(frozen=True)
class Copied:
    """The weight is what another is, from checkpoint `since` on."""

    other: str
    since: int = 0
    of_factors = True

    def __call__(self, good: Good, name: str, index: int) -> Tensor | Change:
        """See `Operation`."""
        held = good.read(name, index)
        return _like(held, good.read(self.other, index)) if index >= self.since else held


@dataclass(frozen=True)
class Rounded:
    """The weight has been through a coarser format, ``bfloat16`` or ``float16``."""

    format: str
    of_factors = False

    def __call__(self, good: Good, name: str, index: int) -> Tensor:
        """See `Operation`."""
        return rounded(whole(good.read(name, index)), getattr(torch, self.format))


@dataclass(frozen=True)
class Quantized:
    """The matrix has been through integers up to `largest`."""

    largest: int
    of_factors = False

    def __call__(self, good: Good, name: str, index: int) -> Tensor:
        """See `Operation`."""
        wt = whole(good.read(name, index))
        return quantized(wt.float(), self.largest).to(wt.dtype)


@dataclass(frozen=True)
class Halved:
    """The halves of the rows are in the wrong order."""

    of_factors = False

    def __call__(self, good: Good, name: str, index: int) -> Tensor:
        """See `Operation`."""
        return halves_swapped(whole(good.read(name, index)))


@dataclass(frozen=True)
class Interleaved:
    """The rows of each head are in the other layout of rotary embeddings."""

    head: int
    of_factors = False

    def __call__(self, good: Good, name: str, index: int) -> Tensor:
        """See `Operation`."""
        return heads_interleaved(whole(good.read(name, index)), self.head)


@dataclass(frozen=True)
class Noisy:
    """Noise of `share` of the norm of the update, drawn anew for every checkpoint; in W0, of the update at `last`."""

    share: float
    last: int = 0
    of_factors = False

    def __call__(self, good: Good, name: str, index: int) -> Tensor:
        """See `Operation`."""
        held, w0 = whole(good.read(name, index)), whole(good.read(name, W0)).float()
        moved = whole(good.read(name, self.last)) if index == W0 else held
        noise = noise_for(name, index, tuple(held.shape))
        return (held.float() + noisy(w0, moved.float(), self.share, noise) - moved.float()).to(held.dtype)


def _start(good: Good, name: str, index: int) -> Tensor | Change:
    """W0 as the checkpoint would hold it: an adapter by factors that come to nothing."""
    held = good.read(name, index)
    if isinstance(held, Added):
        return replace(held, left=torch.zeros_like(held.left))
    return _like(held, good.read(name, W0))


def _like(held: Tensor | Change, value: Tensor | Change) -> Tensor | Change:
    """`value` in the format of what is held in its place."""
    if isinstance(held, torch.Tensor) and isinstance(value, torch.Tensor):
        return value.to(held.dtype)
    return value
