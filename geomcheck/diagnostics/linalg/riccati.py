"""The top-k invariant subspace of ``diag(d) + H``, as the graph of a small matrix over the first k coordinates.

Stewart, "Error and perturbation bounds for subspaces associated with certain eigenvalue problems" (SIAM Review
15, 1973): the columns of ``[I; Q]`` span it where ``A21 + A22 Q - Q A11 - Q A12 Q = 0``. Eigenvalues on both sides
of the cut may be close, so the coordinates around it are first rotated to be exact there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck.diagnostics.linalg.kernels import eigh, product

HALF_WINDOW = 48
"""Coordinates on each side of the cut that are diagonalised exactly."""

MAX_ITERATIONS = 30

SLOWEST = 0.9
"""Ratio of successive changes, on average of two, beyond which the iteration is given up: they often alternate."""

CONVERGED = 1e-8
"""Error of Q in the Frobenius norm, relative to max(|Q|_F, 1), at which the iteration stops."""


@dataclass(frozen=True)
class Graph:
    """A basis ``[top; rest]`` of the invariant subspace in the original coordinates.

    Attributes:
        top: float32, shape (k, k), well conditioned.
        rest: float32, shape (n - k, k); zero where nothing turned.
        values: the eigenvalues, descending, float64: those next to the cut, and of the others at least a first order.
        error: estimated Frobenius norm of what the iteration left in `rest`.
    """

    top: Tensor
    rest: Tensor
    values: Tensor
    error: float


def invariant_graph(diagonal: Tensor, change: Tensor, k: int) -> Graph | None:
    """The subspace of the k largest eigenvalues of ``diag(diagonal) + change``.

    Args:
        diagonal: float64, shape (n,), descending.
        change: symmetric, float32, shape (n, n).
        k: 0 < k < n.

    Returns:
        None where the iteration does not converge.
    """
    start, stop = max(0, k - HALF_WINDOW), min(len(diagonal), k + HALF_WINDOW)
    values, vectors = eigh(change[start:stop, start:stop].double() + torch.diag(diagonal[start:stop]))
    values, vectors = values.flip(0), vectors.flip(1)  # of the window, descending, float64
    energies, coupling = _rotated(diagonal, change, values, vectors, start, stop)
    distance = energies[None, :k] - energies[k:, None]
    if float(distance.min()) <= 0:
        return None
    solved = _solve(coupling, distance.float(), k)
    if solved is None:
        return None
    slope, error = solved
    return Graph(*_rotated_back(slope, vectors.float(), k, start, stop), energies, error)


def _rotated(
    diagonal: Tensor, change: Tensor, values: Tensor, vectors: Tensor, start: int, stop: int
) -> tuple[Tensor, Tensor]:
    """Diagonal (float64) and off-diagonal part (float32) of the matrix with the window rotated."""
    energies = diagonal + change.diagonal()
    energies[start:stop] = values
    rotation = vectors.float()
    coupling = change.clone()
    coupling[start:stop] = rotation.T @ change[start:stop]
    coupling[:, start:stop] = coupling[start:stop].T.clone()
    coupling[start:stop, start:stop] = 0
    coupling.diagonal().zero_()
    return energies, coupling


def _solve(coupling: Tensor, distance: Tensor, k: int) -> tuple[Tensor, float] | None:
    """Fixed point Q and its estimated error, from the last two changes; None without convergence."""
    top, across, rest = coupling[:k, :k], coupling[k:, :k], coupling[k:, k:]
    slope, changes = across / distance, list[float]()
    for _ in range(MAX_ITERATIONS):
        inside = top + product(across.T, slope)
        following = (across + product(rest, slope) - product(slope, inside)).div_(distance)
        changes.append(float(torch.linalg.vector_norm(following - slope)))
        slope, error = following, _remaining(changes)
        if error is None:
            return None
        if error <= CONVERGED * max(1.0, float(torch.linalg.vector_norm(slope))):
            return slope, error
    return None


def _remaining(changes: Sequence[float]) -> float | None:
    """Sum of the changes that are yet to come, as those of every other iteration shrink alike; None if too slowly."""
    if len(changes) < 3 or not changes[-3]:
        return changes[-1]
    ratio = changes[-1] / changes[-3]
    return ratio / (1 - ratio) * (changes[-2] + changes[-1]) if ratio < SLOWEST**2 else None


def _rotated_back(slope: Tensor, rotation: Tensor, k: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
    """``[I; Q]`` in the coordinates before the window was rotated, as (top, rest)."""
    basis = torch.zeros(k + len(slope), k, dtype=slope.dtype, device=slope.device)
    basis[:k].fill_diagonal_(1.0)
    basis[k:] = slope
    basis[start:stop] = rotation @ basis[start:stop]
    return basis[:k], basis[k:]
