"""Facts about floating-point storage: which changes a format can show, and how much of a difference its
rounding explains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomcheck.diagnostics.formats import FORMATS

_FORMATS = {  # explicit mantissa bits, integers of the same size
    torch.bfloat16: (7, torch.int16),
    torch.float16: (10, torch.int16),
    torch.float32: (23, torch.int32),
    torch.float64: (52, torch.int64),
}

BLOCK = 1 << 16
"""Entries that are converted to float64 at a time."""

COMPARED = 1 << 18
"""Entries that are compared as integers at a time."""

DTYPE_NAMES = dict(zip(_FORMATS, FORMATS, strict=True))
"""The storage formats that are measured, under the short names that users write."""

Array = np.ndarray | Tensor
"""Entries of a matrix: of one on the CPU as a numpy array, the comparisons of which are several times faster."""


def array(tensor: Tensor) -> Array:
    """The entries of `tensor`, in its shape, without a copy."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def size(entries: Array) -> int:
    """How many entries there are, in whatever shape."""
    return math.prod(entries.shape)


def count(mask: Array) -> int:
    """How many entries of a boolean mask, of any shape, are set."""
    return int(np.count_nonzero(mask) if isinstance(mask, np.ndarray) else mask.count_nonzero())


def visibly_changed(w0: Tensor, wt: Tensor) -> Array:
    """Entries whose bf16 values differ.

    This is the test ``abs(w_t - w0) > eta * max(abs(w0), abs(w_t))`` after a cast of both to bf16, for every
    eta below 2^-8: adjacent bf16 numbers are further apart than that. +0 and -0 are equal.

    Args:
        w0, wt: the same shape, any floating dtype, finite.

    Returns:
        Booleans of the same shape.

    >>> visibly_changed(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.001, 1.01, -0.0])).tolist()
    [False, True, False]
    """
    changed = torch.empty(w0.shape, dtype=torch.bool, device=w0.device)
    for place, start, end in zip(*(blocks_of(each, COMPARED) for each in (changed, w0, wt)), strict=True):
        before, after = _bits(start.to(torch.bfloat16)), _bits(end.to(torch.bfloat16))
        here: Any = array(place)  # in place, as a new array costs as much as what is computed into it
        here[...] = before != after
        magnitudes: Any = before | after
        magnitudes &= 0x7FFF
        here &= magnitudes != 0  # not +0 and -0
    return array(changed)


def relatively_changed(w0: Tensor, wt: Tensor, eta: float) -> Array:
    """Entries with ``abs(w_t - w0) > eta * max(abs(w0), abs(w_t))``, compared as stored; all of one shape.

    >>> relatively_changed(torch.tensor([1.0, 1.0]), torch.tensor([1.25, 2.0]), eta=0.25).tolist()
    [False, True]
    """
    blocks = []
    for before, after in zip(blocks_of(w0), blocks_of(wt), strict=True):
        largest = torch.maximum(before.double().abs(), after.double().abs())
        blocks.append((after.double() - before.double()).abs() > eta * largest)
    return array(torch.cat(blocks).view(w0.shape))


def opposite_signs(w0: Tensor, wt: Tensor) -> int:
    """How many entries are positive in one and negative in the other; both of one shape.

    >>> opposite_signs(torch.tensor([1.0, -1.0, 0.0]), torch.tensor([-0.5, -0.0, -1.0]))
    1
    """
    common, flipped = torch.promote_types(w0.dtype, wt.dtype), 0
    for before, after in zip(blocks_of(w0), blocks_of(wt), strict=True):
        start, end = _bits(before.to(common)), _bits(after.to(common))
        shifted = start << 1, end << 1  # without the sign: zero has none
        flipped += count(((start ^ end) < 0) & (shifted[0] != 0) & (shifted[1] != 0))
    return flipped


def magnitude_keys(w: Tensor) -> Array:
    """Integers >= 0, in the shape of `w`, that order entries by magnitude exactly as `abs` does."""
    return _bits(w) & (2 ** (8 * w.element_size() - 1) - 1)


def rounding_energy(wt: Tensor) -> float:
    """Expected squared norm of the error that storing `wt` (any shape) in its format made: the sum of ulp^2 / 12.

    >>> 12 * rounding_energy(torch.ones(2, 2, dtype=torch.bfloat16)) / 2**-14  # four entries, each of ulp 2^-7
    4.0

    Raises:
        OverflowError: it is beyond the range of float64.
    """
    mantissa_bits, integers = _FORMATS[wt.dtype]
    smallest = 1 << mantissa_bits  # the bits of the smallest normal number
    infinity = torch.tensor(torch.inf, dtype=wt.dtype).view(integers)  # the bits of the exponent
    energy = 0.0
    for block in blocks_of(wt):
        exponents = (block.view(integers) & infinity.item()).clamp_min_(smallest)  # that of subnormals is the smallest
        powers = exponents.view(wt.dtype).double()  # 2^exponent of each entry
        energy += float(powers @ powers)
    if math.isinf(energy):
        raise OverflowError("the rounding error is beyond the range of float64")
    return energy * 4.0**-mantissa_bits / 12


def blocks_of(matrix: Tensor, most: int = BLOCK) -> tuple[Tensor, ...]:
    """The entries in order, each piece of shape (any,); on a CPU pieces of `most` entries, that fit a core's cache."""
    return torch.split(matrix.reshape(-1), entries_at_once(matrix, most))


def entries_at_once(matrix: Tensor, most: int = BLOCK) -> int:
    """How many entries of `matrix`, of any shape, are taken at a time: on a GPU, all."""
    return most if matrix.device.type == "cpu" else matrix.numel()


def _bits(w: Tensor) -> Array:
    return array(w.contiguous().view(_FORMATS[w.dtype][1]))
