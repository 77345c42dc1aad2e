"""What rounding to float32 does to W_t in the singular basis of W0: typical errors, from the sizes of what is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 2 * torch.finfo(torch.float32).eps
"""Relative error of products in float32."""

SAFETY = 8
"""How far rounding may exceed what is typical."""


@dataclass(frozen=True)
class Rounding:
    """Of the products behind ``H = P + P^T``, where ``P = (W0 V + D V / 2)^T D V``.

    Attributes:
        before: ``|W0 v_i|`` for each singular vector, float64; at least their root mean square, as what is rounded of
            large ones is seen in small ones.
        moves: ``|D v_i|``, likewise.
        half: P, shape (n, n), float32: each of its entries is rounded when it has been summed up, if not before.
        unit: relative error of a product ``x^T D y`` by what is rounded before, which averages out over as many rows
            as D lies in.
    """

    before: Tensor
    moves: Tensor
    half: Tensor
    unit: float

    @classmethod
    def of(cls, values: Tensor, moved: Tensor, delta: Tensor, half: Tensor, ratio: float) -> Rounding:
        """Of a perturbation.

        Args:
            values: the singular values of W0, shape (n,), float64.
            moved: D V, and
            delta: D, shape (m, n), both in units of `ratio`.
            half: P.
        """
        moves = moved.square().sum(0).double().sqrt() * ratio
        before, moves = (torch.maximum(sizes, sizes.square().mean().sqrt()) for sizes in (values, moves))
        rows = torch.linalg.vector_norm(delta, dim=1).double().square()
        carrying = float(rows.sum().square() / rows.square().sum().clamp_min(1e-300))
        return cls(before, moves, half, ROUNDING / max(1.0, carrying) ** 0.5)

    @property
    def of_diagonal(self) -> Tensor:
        """Typical error of each ``H_ii``, float64, shape (n,)."""
        terms = self.unit * (self.before + self.moves / 2) * self.moves
        return 2**0.5 * torch.hypot(terms, ROUNDING * self.half.diagonal().double())

    def of_entries(self, k: int) -> Tensor:
        """Typical error of each ``H_ij`` with i < k <= j, shape (k, n - k), float64."""
        middle = self.before + self.moves / 2
        first = torch.hypot(torch.outer(middle[:k], self.moves[k:]), torch.outer(self.moves[:k], middle[k:]))
        sums = torch.hypot(self.half[:k, k:], self.half[k:, :k].T).double()
        return torch.hypot(self.unit * first, ROUNDING * sums)


def spectral_norm(errors: Tensor) -> float:
    """Spectral norm of a matrix, shape (m, n), of independent errors of these sizes: its largest row and column norms.

    Bandeira and van Handel, "Sharp nonasymptotic bounds on the norm of random matrices with independent entries"
    (Ann. Probab. 44, 2016).
    """
    squares = errors.square()
    return sum(float(squares.sum(dim).max()) ** 0.5 for dim in (-1, -2))
