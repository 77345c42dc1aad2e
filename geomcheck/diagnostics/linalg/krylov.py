"""The largest singular values and right singular vectors of a matrix, by block Krylov iteration.

Golub and Underwood, "The block Lanczos method for computing eigenvalues" (1977), with full reorthogonalization.
The start is always cold and random: started from the answer of a neighbouring checkpoint, the iteration misses
directions that are orthogonal to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.kernels import eigh, orthonormal, product

BLOCK = 16
"""Vectors per step: enough for any cluster of values that matters, and what a processor multiplies in one go."""

LARGEST_K = 16

VALUE_ERROR = 1e-6
"""Relative error of a singular value at which the iteration may stop."""

ANGLE_ERROR = 1e-4
"""Angle (rad) between the subspace and the true one at which the iteration may stop."""


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

    @property
    def steps(self) -> int:
        """Blocks in the space."""
        return self.basis.shape[1] // BLOCK

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
            The values, descending, their vectors, and their residuals, float32; the same to the last bit whether or
            not the space is larger by now.
        """
        while self.steps < steps:
            self.extend()
        width = steps * BLOCK
        if steps not in self._looks:
            projected = self.projected[:width, :width].contiguous()
            self._looks[steps] = eigh((projected + projected.T) / 2)
        values, vectors = self._looks[steps]
        basis, images = self.basis[:, :width].contiguous(), self.images[:, :width].contiguous()
        values, mixed = values.flip(0)[:count], vectors.flip(1)[:, :count]
        ritz = basis @ mixed
        return values, ritz, images @ mixed - ritz * values


def verified(matrix: Tensor, vectors: Tensor, k: int) -> Ritz:
    """The k leading triples of A within the span of k + 1 approximate right singular vectors.

    Args:
        matrix: A, float32, shape (m, n).
        vectors: shape (n, k + 1); the last need not have converged.
    """
    right = orthonormal(vectors.double())
    images = product(matrix, right.float()).double()
    squares, turn = eigh(images.T @ images)
    squares, turn = squares.flip(0), turn.flip(1)
    right, images = right @ turn, images @ turn
    residual = product(images.float().T, matrix).T.double() - right * squares
    value_error, angle_error = errors(squares, residual, k)
    return Ritz(squares[:k].clamp_min(0).sqrt(), right[:, :k], images[:, :k], value_error, angle_error)


def errors(squares: Tensor, residuals: Tensor, k: int) -> tuple[float, float]:
    """Bounds of the relative error of k singular values, and of the angle of their subspace.

    A Ritz vector x with value theta and residual r has a part of at most |r| / (theta - lambda_{k+1}) outside the
    top-k subspace (Davis and Kahan), and the values are off by the sum of |r|^2 / (theta - lambda_{k+1}) at most.

    Args:
        squares: k + 1 Ritz values of ``A^T A``, descending; the last bounds lambda_{k+1}, with its residual.
        residuals: as columns.
    """
    each = torch.linalg.vector_norm(residuals.double(), dim=0)
    values = squares.double()
    gaps = values[:k] - (values[k] + each[k])
    if not float(gaps[-1]) > 0 or not float(values[k - 1]) > 0:
        return float("inf"), float("inf")
    outside = each[:k] / gaps
    return float((outside * each[:k]).sum() / (2 * values[k - 1])), float(torch.linalg.vector_norm(outside))
