"""Facts about floating-point storage: which changes a format can show, and how much of a difference its
rounding explains."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_FORMATS = {
    # explicit mantissa bits, smallest normal exponent
    torch.bfloat16: (7, -126),
    torch.float16: (10, -14),
    torch.float32: (23, -126),
    torch.float64: (52, -1022),
}

DTYPE_NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.float64: "fp64"}
"""The storage formats that are measured, under the short names that users write."""


def visibly_changed(w0: Tensor, wt: Tensor) -> np.ndarray:
    """Entries whose bf16 values differ.

    This is the test ``abs(w_t - w0) > eta * max(abs(w0), abs(w_t))`` after a cast of both to bf16, for every
    eta below 2^-8: adjacent bf16 numbers are further apart than that. +0 and -0 are equal.

    Args:
        w0, wt: the same shape, any floating dtype, finite.

    Returns:
        Booleans of the same shape.
    """
    before, after = _bf16_bits(w0), _bf16_bits(wt)
    both_zero = ((before | after) & 0x7FFF) == 0
    return (before != after) & ~both_zero


def relatively_changed(w0: Tensor, wt: Tensor, eta: float) -> np.ndarray:
    """Entries with ``abs(w_t - w0) > eta * max(abs(w0), abs(w_t))``, compared as stored, without a cast."""
    before, after = w0.double().numpy(), wt.double().numpy()
    return np.abs(after - before) > eta * np.maximum(np.abs(before), np.abs(after))


def magnitude_keys(w: Tensor) -> np.ndarray:
    """Unsigned integers that order entries by magnitude exactly as `abs` does, without a copy in float64."""
    bits = {
        torch.bfloat16: (torch.int16, np.uint16, 0x7FFF),
        torch.float16: (torch.int16, np.uint16, 0x7FFF),
        torch.float32: (torch.int32, np.uint32, 0x7FFF_FFFF),
        torch.float64: (torch.int64, np.uint64, 0x7FFF_FFFF_FFFF_FFFF),
    }
    signed, unsigned, mask = bits[w.dtype]
    return w.contiguous().view(signed).numpy().view(unsigned) & unsigned(mask)


def rounding_energy(wt: Tensor) -> float:
    """Expected squared norm of the error that storing `wt` in its format made: the sum of ulp^2 / 12."""
    mantissa_bits, smallest = _FORMATS[wt.dtype]
    exponents = torch.frexp(wt.float() if wt.dtype != torch.float64 else wt).exponent - 1
    exponents = torch.where(wt == 0, smallest, exponents.clamp_min(smallest)).flatten()
    lowest = int(exponents.min())
    counts = torch.bincount(exponents - lowest).tolist()
    return math.fsum(count * 2.0 ** (2 * (lowest + offset - mantissa_bits)) for offset, count in enumerate(counts)) / 12


def _bf16_bits(w: Tensor) -> np.ndarray:
    return w.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
