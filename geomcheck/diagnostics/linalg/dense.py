"""The linear algebra that the diagnostics share, in float64.

Singular values and subspaces come from the Gram matrix of the smaller side and its eigendecomposition,
which is several times faster than an SVD. Squaring costs accuracy where singular values are small or
nearly tied; each such case is recognised by its error estimate and answered by an SVD instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.kernels import by_numpy, eigenpairs, gram, leading_eigenpairs, svd
from geomcheck.errors import Undefined

EPS = torch.finfo(torch.float64).eps

GRAM_ANGLE_ERROR = 1e-8
"""Rotation (rad) that rounding may cause in a subspace taken from a Gram matrix; beyond it, use an SVD."""

TIED_ANGLE_ERROR = 1e-6
"""Rotation (rad) that rounding may cause in any subspace; beyond it, the cut runs through tied values."""

GRAM_VALUE_RATIO = 1e-3
"""sigma_k / sigma_1 down to which a Gram matrix gives sigma_k to better than GRAM_VALUE_ERROR."""

GRAM_VALUE_ERROR = 1e-9
"""Relative error of singular values that a Gram matrix may cause."""

GRAM_ZERO = 1e-6
"""sigma_k / sigma_1 below which a singular value from a Gram matrix may be zero."""

LEADING = 32
"""Eigenpairs that are computed at once where only the largest are wanted: enough for K = 16."""

SHIFT_ERROR = 1e-6
"""Relative error of a spectral shift beyond which singular values are taken from an SVD."""


class Factorization:
    """Singular values and top singular subspaces of one matrix, each computed when first asked for.

    Args:
        matrix: float64, shape (out, in), finite.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.size = min(matrix.shape)
        self._tops: dict[int, tuple[Tensor, Tensor, float]] = {}

    def _gram(self) -> Tensor:
        """The smaller Gram matrix."""
        out, in_ = self.matrix.shape
        return gram(self.matrix if out >= in_ else self.matrix.T)

    @cached_property
    def _all(self) -> tuple[Tensor, Tensor]:
        """All singular values, descending, and eigenvectors of the Gram matrix, in the same order."""
        squares, vectors = eigenpairs(self._gram())
        return squares.clamp_min(0).sqrt(), vectors

    @cached_property
    def _leading(self) -> tuple[Tensor, Tensor]:
        """The LEADING largest of `_all`, at a third of its cost."""
        values, vectors = leading_eigenpairs(self._gram(), LEADING, overwrite=True)
        return values.clamp_min(0).sqrt(), vectors

    def _eigen(self, count: int) -> tuple[Tensor, Tensor]:
        """At least `count` leading singular values and eigenvectors of the Gram matrix."""
        few = count <= LEADING <= self.size // 4 and by_numpy(self.matrix)
        return self._leading if few else self._all  # whatever was asked before: the last bits differ

    @cached_property
    def _svd(self) -> tuple[Tensor, Tensor, Tensor]:
        return svd(self.matrix)

    @property
    def values(self) -> Tensor:
        """All singular values, descending, shape (min(out, in),); absolute error of order eps sigma_1^2 / sigma_i."""
        return self._all[0]

    @property
    def gram_vectors(self) -> Tensor:
        """Singular vectors of the shorter side, as columns in the order of `values`: shape (n, n), n = min(out, in)."""
        return self._all[1]

    @property
    def exact_values(self) -> Tensor:
        """All singular values, descending, shape (min(out, in),), by SVD; absolute error of order eps sigma_1."""
        return self._svd[1]

    def top_values(self, k: int, *, within: float = GRAM_VALUE_ERROR) -> Tensor:
        """The k largest singular values, descending, shape (k,), each to `within` relative, or to 1e-15 sigma_1."""
        if within >= GRAM_VALUE_ERROR:
            values = self._eigen(k)[0][:k]
            if values[-1] >= GRAM_VALUE_RATIO * values[0]:
                return values
        return self.exact_values[:k]

    def right(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k right singular subspace, shape (in, k).

        Raises:
            Undefined: the rank is below k, or sigma_k and sigma_{k+1} are tied.
        """
        return self._top(k)[1]

    def left(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k left singular subspace, shape (out, k). Raises as `right`."""
        return self._top(k)[0]

    def left_vectors(self, k: int | None = None) -> tuple[Tensor, Tensor]:
        """The k largest singular values, descending, shape (k,), and each one's left singular vector, shape (out, k).

        Without a k, all that are not zero, and vectors of tied ones may be any of their common subspace; see `groups`.

        Raises:
            Undefined: the rank is below k, or one of the first k values is tied.
        """
        left, values, _ = self._svd
        rank = int((values > self._rounding).sum())
        if k is None:
            return values[:rank], left[:, :rank]
        if k > rank:
            raise rank_below(k)
        shared = torch.bincount(self.groups(values))[:k]
        if len(shared) < k or (shared > 1).any():
            tied = 1 + int((shared > 1).int().argmax())
            raise Undefined(f"singular values {tied} and {tied + 1} are tied, so their directions are not unique")
        return values[:k], left[:, :k]

    @staticmethod
    def groups(values: Tensor) -> Tensor:
        """Which of some singular values, descending, are tied: ascending integers from 0, shape (any,)."""
        apart = (values[:-1] - values[1:]) * TIED_ANGLE_ERROR > EPS * values[:1]
        return torch.cat([apart.new_zeros(1), apart]).cumsum(0)

    def has_rank_at_most(self, k: int) -> bool:
        """Whether nothing but rounding is left beyond the k largest singular values."""
        if k >= self.size:
            return True
        return bool(self.values[k] <= GRAM_ZERO * self.values[0]) and bool(self.exact_values[k] <= self._rounding)

    def truncated(self, k: int) -> Tensor:
        """Best rank-k approximation W V_k V_k^T, shape (out, in): W itself where its rank is at most k.

        Raises:
            Undefined: sigma_k and sigma_{k+1} are tied.
        """
        if self.has_rank_at_most(k):
            return self.matrix
        if self.matrix.shape[0] >= self.matrix.shape[1]:
            right = self.right(k)
            return (self.matrix @ right) @ right.T
        left = self.left(k)
        return left @ (left.T @ self.matrix)

    def rotation_error(self, k: int) -> float:
        """Rotation (rad) of the top-k singular subspaces that rounding may cause. Raises as `right`."""
        return self._top(k)[2]

    @property
    def _rounding(self) -> float:
        """Singular values below it are nothing but rounding."""
        return max(self.matrix.shape) * EPS * float(self.exact_values[0])

    def _top(self, k: int) -> tuple[Tensor, Tensor, float]:
        """(U_k, V_k), and the rotation of them that rounding may cause."""
        if k not in self._tops:
            self._tops[k] = self._computed_top(k)
        return self._tops[k]

    def _computed_top(self, k: int) -> tuple[Tensor, Tensor, float]:
        """From the Gram matrix where rounding allows, from the SVD elsewhere."""
        if k > self.size:
            raise rank_below(k)
        values, vectors = self._eigen(k + 1)
        following = float(values[k]) if k < self.size else 0.0
        gap = float(values[k - 1]) ** 2 - following**2
        if gap * GRAM_ANGLE_ERROR >= EPS * float(values[0]) ** 2 and values[0] > 0:
            side, error = vectors[:, :k], EPS * float(values[0]) ** 2 / gap
            if self.matrix.shape[0] >= self.matrix.shape[1]:
                return (self.matrix @ side) / values[:k], side, error
            return side, (self.matrix.T @ side) / values[:k], error
        return self._top_by_svd(k)

    def _top_by_svd(self, k: int) -> tuple[Tensor, Tensor, float]:
        left, values, right = self._svd
        largest, kth = float(values[0]), float(values[k - 1])
        if kth <= self._rounding:
            raise rank_below(k)
        following = float(values[k]) if k < self.size else 0.0
        if (kth - following) * TIED_ANGLE_ERROR <= EPS * largest:
            raise Undefined(
                f"singular values {k} and {k + 1} are tied ({kth:.6g}), so the top-{k} subspace is not unique"
            )
        return left[:, :k], right[:k].T, EPS * largest / (kth - following)


def rank_below(k: int) -> Undefined:
    """The error of a top-k subspace that the rank does not allow."""
    return Undefined(f"the matrix has rank below k = {k}, so it has no top-{k} subspace")


def spectral_shift_norm(before: Factorization, after: Factorization) -> float:
    """norm2(sigma(after) - sigma(before)), singular values in descending order, to 1e-6 relative."""
    shift = torch.linalg.vector_norm(after.values - before.values).item()
    error = math.hypot(_gram_error(before), _gram_error(after))
    if error <= SHIFT_ERROR * shift:
        return shift
    return torch.linalg.vector_norm(after.exact_values - before.exact_values).item()


def _gram_error(factorization: Factorization) -> float:
    """Estimated norm of the error of `values`: eps sigma_1^2 / sigma_i, at most sqrt(eps) sigma_1 each."""
    values = factorization.values
    largest = values[0]
    if largest == 0:
        return 0.0
    errors = torch.clamp(4 * EPS * largest**2 / values.clamp_min(EPS * largest), max=math.sqrt(EPS) * largest)
    return torch.linalg.vector_norm(errors).item()
