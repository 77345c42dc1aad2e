"""The singular basis of W0, in which every checkpoint is a small perturbation of a diagonal."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.dense import EPS, GRAM_ANGLE_ERROR, GRAM_ZERO, Factorization
from geomcheck.diagnostics.linalg.kernels import product
from geomcheck.diagnostics.linalg.scaling import Scaled, scaled
from geomcheck.errors import RunError

PROBE_ERROR = 3e-5
"""How far a stored factorization may be from one of W0, relative to its largest singular value; measured 1e-6."""


class Basis:
    """Singular values (float64) and right singular vectors (float32) of W0, transposed where it is wide.

    Everything is in units of ``2**exponent``, so that the entries of W0 are below one.

    Args:
        w0: shape (out, in), finite.
        values: min(out, in) singular values, descending, float64, in the units above.
        vectors: the right singular vectors of the tall W0 as columns, float32.
    """

    def __init__(self, w0: Tensor, values: Tensor, vectors: Tensor) -> None:
        self.is_wide = w0.shape[0] < w0.shape[1]
        self.exponent = scaled(w0).exponent
        self.values = values
        self.vectors = vectors
        self.w0 = w0
        self._left: dict[int, Tensor] = {}

    @classmethod
    def of(cls, w0: Tensor) -> Basis:
        """Factorize W0, shape (out, in): a Gram matrix and its eigenvectors, in float64."""
        factorization = Factorization(scaled(w0, torch.float64).matrix)
        return cls(w0, factorization.values, factorization.gram_vectors.float().contiguous())

    @classmethod
    def from_state(cls, w0: Tensor, state: Mapping[str, Tensor]) -> Basis:
        """The basis that `state` holds, which need not be trusted.

        Raises:
            RunError: `state` is not of a matrix of this shape, or, as far as rounding shows it, of another.
        """
        size = min(w0.shape)
        expected = {"values": ((size,), torch.float64), "vectors": ((size, size), torch.float32)}
        found = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
        if found != expected:
            raise RunError(f"the stored factorization does not fit a weight of shape {tuple(w0.shape)}: {found}")
        basis = cls(w0, state["values"].to(w0.device), state["vectors"].to(w0.device))
        if not basis._holds():
            raise RunError(f"the stored factorization is of another weight of shape {tuple(w0.shape)}, or damaged")
        return basis

    @staticmethod
    def state_bytes(shape: tuple[int, ...]) -> int:
        """The size of the `state` of a matrix of this shape."""
        return 4 * min(shape) ** 2 + 8 * min(shape)

    def _holds(self) -> bool:
        """Whether V is orthonormal and W0 V = U S, up to the rounding of float32, by a vector that nobody foresees."""
        values = self.values
        if not (values.isfinite().all() and (values >= 0).all() and (values[:-1] >= values[1:]).all()):
            return False
        drawn = torch.Generator().manual_seed(secrets.randbits(63))
        probe = torch.randn(len(values), generator=drawn).to(values.device)
        tall, image = self.tall(scaled(self.w0).matrix), self.vectors @ probe
        squares = values.square()
        turned = self.vectors.T @ image - probe
        stretched = (self.vectors.T @ (tall.T @ (tall @ image))).double() - squares * probe.double()
        allowed = PROBE_ERROR * float(probe.norm())
        return float(turned.norm()) <= allowed and float(stretched.norm()) <= allowed * float(squares[:1].sum())

    def state(self) -> dict[str, Tensor]:
        """What `from_state` needs: shapes (n,) and (n, n) for n = min(out, in)."""
        return {"values": self.values, "vectors": self.vectors}

    def tall(self, matrix: Tensor) -> Tensor:
        """`matrix`, shape (out, in), or its transpose where W0 is wide."""
        return matrix.T if self.is_wide else matrix

    @cached_property
    def images(self) -> Tensor:
        """W0 V = U S of the tall W0, float32, shape (max(out, in), n)."""
        return product(self.tall(scaled(self.w0).matrix), self.vectors)

    def separates(self, k: int) -> bool:
        """Whether rounding leaves the top-k subspace as it is: no tie at k, no rank below k, k below n."""
        if not 0 < k < len(self.values):
            return False
        gap = float(self.values[k - 1]) ** 2 - float(self.values[k]) ** 2
        return gap * GRAM_ANGLE_ERROR >= EPS * float(self.values[0]) ** 2 > 0

    def may_have_rank_at_most(self, k: int) -> bool:
        """Whether the rank of W0 may be k at most."""
        return k >= len(self.values) or float(self.values[k]) <= GRAM_ZERO * float(self.values[0])

    def left(self, k: int) -> Tensor:
        """Top-k left singular vectors of the tall W0, float32, shape (max(out, in), k)."""
        if k not in self._left:
            self._left[k] = self.images[:, :k] / self.values[:k].float()
        return self._left[k]

    def truncated(self, k: int) -> Scaled:
        """Best rank-k approximation of W0, shape (out, in)."""
        return Scaled(self.tall(product(self.images[:, :k], self.vectors[:, :k].T)), self.exponent)
