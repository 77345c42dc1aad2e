"""The largest singular values and right singular vectors of a matrix, by block Krylov iteration.

Golub and Underwood, "The block Lanczos method for computing eigenvalues" (1977), with full reorthogonalization.
The start is always cold and random: started from the answer of a neighbouring checkpoint, the iteration misses
directions that are orthogonal to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.kernels import eigh, orthonormal, product

BLOCK = 16
"""Vectors per step: enough for any cluster of values that matters, and what a processor multiplies in one go."""

LARGEST_K = 16

EPS32 = torch.finfo(torch.float32).eps

GUARDS = 15
"""Ritz vectors beyond the k + 1 largest: the farther the next value lies, the sooner the k first are certified."""

RITZ_ROUNDING = 1 / 8
"""What rounding leaves between two Ritz vectors of ``A^T A``, relative to its largest value, at least, in units of the
precision: in float32 1e-9 is typical of large matrices, which is 1/120."""

SEEN_ROUNDING = 2.0
"""How many times more it may be than the residuals show: of small matrices up to 5e-8 was seen, and 6e-7 of vectors
that lie on few coordinates."""


@dataclass(frozen=True)
class Ritz:
    """Leading singular triples of a matrix A with bounds of their errors.

    Attributes:
        values: k singular values, descending, float64.
        right: shape (n, k), orthonormal, float64.
        images: A times `right`, shape (m, k), float64.
        value_error: bound of the relative error of every value.
        angle_error: bound of the angle (rad, Frobenius) between span(right) and the top-k right singular subspace.
    """

    values: Tensor
    right: Tensor
    images: Tensor
    value_error: float
    angle_error: float


class BlockKrylov:
    """A growing Krylov space of ``A^T A``.

    Args:
        length: n.
        device: of A.
        normal: multiplies an (n, b) block by ``A^T A``.
    """

    def __init__(self, length: int, device: torch.device, normal: Callable[[Tensor], Tensor]) -> None:
        self.normal = normal
        start = torch.randn(length, BLOCK, generator=torch.Generator().manual_seed(0)).to(device)
        self.basis = orthonormal(start)
        self.images = normal(self.basis)
        self.projected = self.basis.T @ self.images
        self._looks: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self) -> None:
        """Add ``A^T A`` times the last block, orthogonalized against all others."""
        block = self.images[:, -BLOCK:]
        for _ in range(2):
            block = orthonormal(block - self.basis @ (self.basis.T @ block))
        self.basis = torch.cat([self.basis, block], dim=1)
        image = self.normal(block)
        beside = self.basis.T @ image
        self.images = torch.cat([self.images, image], dim=1)
        self.projected = torch.cat([torch.cat([self.projected, beside[:-BLOCK].T]), beside], dim=1)

    def leading(self, count: int, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """The `count` largest Ritz values of ``A^T A`` in the first `steps` blocks, which are made if need be.

        Returns:
            The values, descending, shape (count,), their vectors, and their residuals, shape (n, count), float32; the
            same to the last bit whether or not the space is larger by now.
        """
        width = steps * BLOCK
        while self.basis.shape[1] < width:
            self.extend()
        if steps not in self._looks:
            projected = self.projected[:width, :width].contiguous()
            self._looks[steps] = eigh((projected + projected.T) / 2)
        values, vectors = self._looks[steps]
        basis, images = self.basis[:, :width].contiguous(), self.images[:, :width].contiguous()
        values, mixed = values.flip(0)[:count], vectors.flip(1)[:, :count]
        ritz = basis @ mixed
        return values, ritz, images @ mixed - ritz * values


def verified(matrix: Tensor, vectors: Tensor, k: int) -> Ritz:
    """The k leading triples of A within the span of approximate right singular vectors.

    Args:
        matrix: A, shape (m, n), float32, or float64 where the rounding of its products stands in the way.
        vectors: shape (n, more than k); those beyond k need not have converged.
    """
    right = orthonormal(vectors.double())
    images = product(matrix, right.to(matrix.dtype)).double()
    squares, turn = eigh(images.T @ images)
    squares, turn = squares.flip(0), turn.flip(1)
    right, images = right @ turn, images @ turn
    residual = product(images.to(matrix.dtype).T, matrix).T.double() - right * squares
    seen = float((right.T @ residual).abs().max() / squares[0])
    rounding = max(RITZ_ROUNDING * torch.finfo(matrix.dtype).eps, SEEN_ROUNDING * seen)
    value_error, angle_error = errors(squares, residual, k, rounding=rounding)
    return Ritz(squares[:k].clamp_min(0).sqrt(), right[:, :k], images[:, :k], value_error, angle_error)


def errors(
    squares: Tensor, residuals: Tensor, k: int, *, rounding: float = EPS32 * RITZ_ROUNDING
) -> tuple[float, float]:
    """Bounds of the relative error of k singular values, and of the angle of their subspace.

    A Ritz vector with value theta_i and residual r_i has a part of ``|r_i| / (theta_i - lambda)`` at most outside the
    space of all Ritz vectors, whose largest eigenvalue there is lambda (Davis and Kahan). By way of that part, the
    guards beyond k mix with it, as their own residuals and their distances to theta_i tell.

    Args:
        squares: r > k Ritz values of ``A^T A``, descending, shape (r,); the last bounds lambda, with its residual.
        residuals: as columns, shape (n, r).
        rounding: what it leaves between two Ritz vectors, relative to the largest value.
    """
    each, values = torch.linalg.vector_norm(residuals.double(), dim=0), squares.double()
    to_outside = values[:k] - (values[-1] + each[-1])
    to_guards = values[:k, None] - values[None, k:-1]
    guards = each[k:-1]
    if not float(to_outside[-1]) > 0 or not float(values[k - 1]) > 0:
        return float("inf"), float("inf")
    value_error = (each[:k] * (each[:k] + torch.linalg.vector_norm(guards)) / to_outside).sum() / (2 * values[k - 1])
    distance = to_outside - (guards**2 / to_guards).sum(1)
    if not (float(to_guards.min()) if len(guards) else 1.0) > 0 or not float(distance.min()) > 0:
        return float(value_error), float("inf")
    outside = each[:k] / distance
    mixed = (outside[:, None] * guards + rounding * values[0]) / to_guards
    return float(value_error), math.hypot(torch.linalg.vector_norm(outside), torch.linalg.vector_norm(mixed))
