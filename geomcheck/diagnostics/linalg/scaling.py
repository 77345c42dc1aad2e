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

    @property
    def factor(self) -> float:
        """2**exponent."""
        return math.ldexp(1.0, self.exponent)

    def at(self, exponent: int) -> Tensor:
        """The matrix in units of ``2**exponent``."""
        if exponent == self.exponent:
            return self.matrix
        return self.matrix * math.ldexp(1.0, max(-1000, min(127, self.exponent - exponent)))


def scaled(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Scaled:
    """`matrix` (any floating dtype, finite) at the scale of one."""
    exponent = max(-1000, math.frexp(_largest(matrix))[1])
    wide = matrix.double() if abs(exponent) > 100 else matrix.to(torch.promote_types(matrix.dtype, dtype))
    return Scaled((wide * 2.0**-exponent).to(dtype), exponent)


def difference(w0: Tensor, wt: Tensor) -> Scaled:
    """``wt - w0`` in float32: exact where both are stored in 16 bits and are near each other, else to 6e-8."""
    wide = torch.promote_types(torch.promote_types(w0.dtype, wt.dtype), torch.float32)
    delta = wt.to(wide) - w0
    return scaled(delta if math.isfinite(_largest(delta)) else wt.double() - w0.double())


def difference_norm(w0: Tensor, wt: Tensor) -> float:
    """``|wt - w0|_F``, accumulated in float64."""
    blocks = (after.double() - before.double() for before, after in zip(blocks_of(w0), blocks_of(wt), strict=True))
    return math.sqrt(sum(_energy(block) for block in blocks))


def frobenius_norm(matrix: Tensor) -> float:
    """``|matrix|_F``, accumulated in float64."""
    return math.sqrt(sum(_energy(block.double()) for block in blocks_of(matrix)))


def _energy(flat: Tensor) -> float:
    return float(flat @ flat)


def _largest(matrix: Tensor) -> float:
    low, high = torch.aminmax(matrix)
    return max(-float(low), float(high))
