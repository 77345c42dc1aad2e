"""Principal angles, always from sines where they are small: arccos of a cosine near 1 loses half of the digits."""

from __future__ import annotations

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.kernels import cholesky, eigvalsh, gram, solve_triangular, svdvals


def principal_angles(before: Tensor, after: Tensor) -> Tensor:
    """Principal angles between the column spaces of two matrices with orthonormal columns.

    Follows Knyazev and Argentati, "Principal angles between subspaces in an A-based scalar product"
    (SIAM J. Sci. Comput. 23, 2002), algorithm 3.1: cosines are exact for large angles and lose half of
    the digits near 1, so angles below 45 degrees are taken from their sines.

    Args:
        before, after: float64, shape (n, k).

    Returns:
        Shape (k,): angles in radians, ascending, in [0, pi/2].

    >>> axes = torch.eye(3, dtype=torch.float64)
    >>> principal_angles(axes[:, :2], axes[:, 1:]).rad2deg().round().tolist()  # they share one direction
    [0.0, 90.0]
    """
    overlap = before.T @ after
    cosines = svdvals(overlap).clamp(0, 1)
    sines = svdvals(after - before @ overlap).clamp(0, 1).flip(0)
    return torch.where(cosines**2 >= 0.5, torch.arcsin(sines), torch.arccos(cosines))


def angles_from_parts(inside: Tensor, outside: Tensor) -> Tensor:
    """Principal angles between a subspace and the column space of a matrix, given in two orthogonal parts.

    The matrix is ``X = inside + outside``: its components within the subspace and orthogonal to it. The squared
    sines are the eigenvalues of ``(outside^T outside, X^T X)``. Nothing is subtracted, so that float32 parts give
    every angle to their own relative accuracy.

    Args:
        inside: shape (k, k), coordinates within the subspace.
        outside: shape (any, k).

    Returns:
        Shape (k,): angles in radians, ascending, float64.

    Raises:
        torch.linalg.LinAlgError: the columns of X are linearly dependent.
    """
    lost = gram(outside.double())
    factor = cholesky(lost + gram(inside.double()))
    half = solve_triangular(factor, lost, upper=False)
    squared_sines = eigvalsh(solve_triangular(factor, half.T, upper=False))
    return torch.arcsin(squared_sines.clamp(0, 1).sqrt())
