"""An update that is known by its factors, as LoRA stores it: its spectrum costs a problem of the size of the rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg import Certificate, Factorization, Route
from geomcheck.diagnostics.linalg.dense import EPS, GRAM_VALUE_ERROR, rank_below


@dataclass(frozen=True, eq=False)
class LowRank:
    """The update D = left right.

    Attributes:
        left: float64, shape (out, r), finite.
        right: float64, shape (r, in), finite.
    """

    left: Tensor
    right: Tensor

    @cached_property
    def matrix(self) -> Tensor:
        """D, shape (out, in)."""
        return self.left @ self.right

    @cached_property
    def factorization(self) -> LowRankFactorization:
        """Singular values and subspaces of D."""
        return LowRankFactorization(self.left, self.right)


class LowRankFactorization:
    """What `Factorization` gives of a matrix, for the D of `LowRank`: from QR of both factors and their small core.

    With left = Q_l R_l and right^T = Q_r R_r, the singular values are those of R_l R_r^T, and the singular vectors
    are those of R_l R_r^T, turned by Q_l and Q_r. Every other singular value is zero.
    """

    routes: Mapping[str, Certificate] = {"singular values and channels of D": Certificate(Route.FACTORS, 1e-9)}

    def __init__(self, left: Tensor, right: Tensor) -> None:
        self._left, left_core = torch.linalg.qr(left)
        self._right, right_core = torch.linalg.qr(right.T)
        self._core = Factorization(left_core @ right_core.T)
        self._longest = max(left.shape[0], right.shape[1])

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return torch.linalg.vector_norm(self._core.matrix).item()

    def top_values(self, k: int, *, within: float = GRAM_VALUE_ERROR) -> Tensor:
        """The k largest singular values, descending, shape (min(k, r, out, in),): all others are zero."""
        return self._core.top_values(min(k, self._core.size), within=within)

    @property
    def top_reached(self) -> float:
        """What the largest singular value is at least: itself, as it costs nothing."""
        return float(self.top_values(1)[0])

    def right(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k right singular subspace, shape (in, k).

        Raises:
            Undefined: the rank is below k, or sigma_k and sigma_{k+1} are tied.
        """
        self._require_rank(k)
        return self._right @ self._core.right(k)

    def left(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k left singular subspace, shape (out, k). Raises as `right`."""
        self._require_rank(k)
        return self._left @ self._core.left(k)

    def _require_rank(self, k: int) -> None:
        """Refuse a subspace that rounding of the product would decide, by the rule for dense matrices."""
        values = self.top_values(k)
        if len(values) < k or values[-1] <= self._longest * EPS * values[0]:
            raise rank_below(k)
