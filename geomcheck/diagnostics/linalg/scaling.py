"""Matrices in float32 at the scale of one, so that no square, product or norm leaves its range."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.storage import blocks_of


@dataclass(frozen=True)
class Scaled:
    """``matrix * 2**exponent``; the largest magnitude in `matrix` is in [0.5, 1), unless all is zero."""

    matrix: Tensor
    exponent: int
    is_zero: bool = False

    @property
    def factor(self) -> float:
        """2**exponent."""
        return math.ldexp(1.0, self.exponent)


def scaled(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Scaled:
    """`matrix` (any shape and floating dtype, finite) at the scale of one."""
    wide = torch.promote_types(matrix.dtype, dtype)
    return _to_scale(matrix.to(wide, copy=True), dtype)


def difference(w0: Tensor, wt: Tensor, dtype: torch.dtype = torch.float32) -> Scaled:
    """``wt - w0`` of one shape: exact where both are stored in 16 bits and near each other, else rounded to `dtype`."""
    wide = torch.promote_types(torch.promote_types(w0.dtype, wt.dtype), dtype)
    delta = wt.to(wide, copy=True).sub_(w0)
    return _to_scale(delta if math.isfinite(_largest(delta)) else wt.double() - w0.double(), dtype)


def _to_scale(matrix: Tensor, dtype: torch.dtype) -> Scaled:
    """`matrix`, which is overwritten, at the scale of one."""
    largest = _largest(matrix)
    exponent = max(-1000, math.frexp(largest)[1])
    if abs(exponent) > 100:  # 2**-exponent may be beyond the range of float32
        matrix = matrix.double()
    return Scaled(matrix.mul_(2.0**-exponent).to(dtype), exponent, largest == 0)


def difference_norm(w0: Tensor, wt: Tensor) -> float:
    """``|wt - w0|_F`` of matrices of one shape, accumulated in float64."""
    blocks = (after.double() - before.double() for before, after in zip(blocks_of(w0), blocks_of(wt), strict=True))
    return math.sqrt(sum(_energy(block) for block in blocks))


def frobenius_norm(matrix: Tensor) -> float:
    """``|matrix|_F``, of any shape, accumulated in float64."""
    return math.sqrt(sum(_energy(block.double()) for block in blocks_of(matrix)))


def _energy(flat: Tensor) -> float:
    return float(flat @ flat)


def _largest(matrix: Tensor) -> float:
    low, high = torch.aminmax(matrix)
    return max(-float(low), float(high))
