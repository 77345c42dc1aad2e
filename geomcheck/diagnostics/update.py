"""One weight before and after: W0, W_t, D_t = W_t - W0, and what the diagnostics share of them.

Figures of entries are of tensors of any shape, those of the spectrum and of subspaces of matrices (out, in) alone.

Everything is computed when first asked for and kept as long as the object lives: figures of entries never form D_t,
figures of the update never factorize W0. The stream that measures a run keeps one `Base` per weight and one `Update`
per checkpoint, and drops each as soon as it is done.

Matrices with min(out, in) below `SMALL` are factorized in float64. Larger ones are answered by the certified routes
of `geomcheck.diagnostics.linalg`, and in float64 where no certificate is met; `Update.routes` says which.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg import ANGLE_FLOOR, SMALL, Basis, Certificate, Factorization, Perturbation, Route
from geomcheck.diagnostics.linalg.angles import principal_angles
from geomcheck.diagnostics.linalg.dense import spectral_shift_norm
from geomcheck.diagnostics.linalg.kernels import product
from geomcheck.diagnostics.linalg.scaling import Scaled, difference, difference_norm, frobenius_norm, scaled
from geomcheck.diagnostics.linalg.spectrum import UpdateSpectrum
from geomcheck.diagnostics.lowrank import LowRank, LowRankFactorization
from geomcheck.diagnostics.masks import MagnitudeMask
from geomcheck.diagnostics.sketch import sketch_and_norm
from geomcheck.diagnostics.storage import Array, count, magnitude_keys, size, visibly_changed
from geomcheck.errors import Undefined

DENSE_SHIFT = Certificate(Route.DENSE, 1e-6)

MASK_NOISE = 64
"""Rounding of a truncated W0, in units of the last place of its largest entry."""


class Base:
    """W0 and what every checkpoint shares of it.

    Args:
        w0: of any shape, bf16, fp16, fp32 or fp64, finite, on any device.
    """

    def __init__(self, w0: Tensor) -> None:
        self.w0 = w0.contiguous()
        self._masks: dict[tuple[int | None, float], MagnitudeMask] = {}

    @classmethod
    def from_state(cls, w0: Tensor, state: Mapping[str, Tensor]) -> Base:
        """The base of `w0`, of shape (out, in), with what `state` kept of an earlier one, of the same weights.

        Raises:
            RunError: `state` does not fit `w0`.
        """
        base = cls(w0)
        if state:
            base.basis = Basis.from_state(base.w0, state)
        return base

    @staticmethod
    def state_bytes(shape: tuple[int, ...]) -> int:
        """The size of the `state` of a matrix of this shape that has been factorized."""
        return Basis.state_bytes(shape)

    def state(self) -> dict[str, Tensor]:
        """The factorization, if there is one by now: as `Basis.state` in shape, small next to the time it took."""
        return self.basis.state() if "basis" in self.__dict__ else {}

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in) of a matrix."""
        return tuple(self.w0.shape)

    @property
    def is_small(self) -> bool:
        """Whether float64 factorizations of the whole matrix answer everything."""
        return min(self.shape) < SMALL

    @cached_property
    def matrix(self) -> Tensor:
        """W0 in float64."""
        return self.w0.double()

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of W0."""
        return frobenius_norm(self.w0)

    @cached_property
    def factorization(self) -> Factorization:
        """Singular values and subspaces of W0, in float64."""
        return Factorization(self.matrix)

    @cached_property
    def basis(self) -> Basis:
        """The singular basis in which checkpoints are perturbations."""
        return Basis.of(self.w0)

    def principal(self, k: int) -> tuple[Tensor, Tensor]:
        """(U0_k, V0_k): orthonormal columns, shapes (out, k) and (in, k); float64, or float32 of large matrices.

        Raises:
            Undefined: the rank is below k, or sigma_k and sigma_{k+1} are tied.
        """
        if self.is_small or not self.basis.separates(k):
            return self.factorization.left(k), self.factorization.right(k)
        tall = self.basis.left(k), self.basis.vectors[:, :k]
        return tall[::-1] if self.basis.is_wide else tall

    def truncated(self, k: int) -> Tensor:
        """Best rank-k approximation of W0, shape (out, in), up to a power of two: W0 itself if its rank is at most k.

        Raises:
            Undefined: sigma_k and sigma_{k+1} are tied.
        """
        if self.is_small or not self.basis.separates(k) or self.basis.may_have_rank_at_most(k):
            return self.factorization.truncated(k)
        return self.basis.truncated(k).matrix

    def low_magnitude_mask(self, alpha: float) -> MagnitudeMask:
        """The alpha smallest entries of W0 by magnitude."""
        if (None, alpha) not in self._masks:
            self._masks[None, alpha] = MagnitudeMask.smallest(magnitude_keys(self.w0), alpha)
        return self._masks[None, alpha]

    def principal_mask(self, rank: int, alpha: float) -> MagnitudeMask:
        """The alpha largest entries, by magnitude, of the rank-`rank` truncated SVD of W0."""
        if (rank, alpha) not in self._masks:
            entries = self.truncated(rank)
            noise = MASK_NOISE * torch.finfo(entries.dtype).eps * float(entries.abs().max())
            entries = torch.where(entries.abs() > noise, entries, 0.0)  # where the truth is zero, all are tied
            self._masks[rank, alpha] = MagnitudeMask.largest(magnitude_keys(entries), alpha)
        return self._masks[rank, alpha]


class Update:
    """The cumulative update of one weight at one checkpoint.

    Args:
        base: W0, shared by the checkpoints of a run.
        wt: W_t, the same shape and device, finite; or D_t by its factors, where those are what is stored.
    """

    def __init__(self, base: Base, wt: Tensor | LowRank) -> None:
        self.base = base
        self.stored = wt
        self._own_routes: dict[str, Certificate] = {}

    @property
    def shape(self) -> tuple[int, ...]:
        """(out, in) of a matrix."""
        return self.base.shape

    @property
    def routes(self) -> Mapping[str, Certificate]:
        """What answered so far, by quantity, with its certificate."""
        spectrum = self.__dict__.get("spectrum")
        return self._own_routes | (spectrum.routes if spectrum else {})

    @cached_property
    def wt(self) -> Tensor:
        """W_t as stored; where D_t is, W0 + D_t in fp32 or better, as merging an adapter gives it."""
        if isinstance(self.stored, LowRank):
            return self._moved.to(torch.promote_types(self.base.w0.dtype, torch.float32))
        return self.stored.contiguous()

    @property
    def _moved(self) -> Tensor:
        """W_t in float64, without the rounding of `wt` where D_t is what is stored."""
        return self.base.matrix + self.matrix if isinstance(self.stored, LowRank) else self.wt.double()

    @cached_property
    def matrix(self) -> Tensor:
        """D_t in float64: exact wherever W0 and W_t are stored in fp32 or less and are near each other."""
        return self.stored.matrix if isinstance(self.stored, LowRank) else self.wt.double() - self.base.w0

    @cached_property
    def delta(self) -> Scaled:
        """D_t for products: float64 where the matrix is small, else float32."""
        dtype = torch.float64 if self.base.is_small else torch.float32
        if isinstance(self.stored, LowRank):
            return scaled(self.stored.matrix, dtype)
        return difference(self.base.w0, self.wt, dtype)

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of D_t."""
        if isinstance(self.stored, LowRank):
            return self.stored.factorization.norm
        return difference_norm(self.base.w0, self.wt)

    @cached_property
    def sketch(self) -> bytes:
        """What a record keeps of D_t, see `geomcheck.diagnostics.sketch`. Where D_t is not stored, the same pass gives
        its norm."""
        kept, norm = sketch_and_norm(self.base.w0, self.stored)
        if isinstance(self.stored, Tensor):
            self.norm = norm
        return kept

    @cached_property
    def is_zero(self) -> bool:
        """Whether the matrix did not change at all."""
        return self.norm == 0 if isinstance(self.stored, LowRank) else torch.equal(self.base.w0, self.wt)

    def require_change(self) -> None:
        """Raise Undefined where D_t is zero: a share of nothing has no value."""
        if self.is_zero:
            raise Undefined("W_t equals W0")

    def energy(self, right: Tensor, left: Tensor | None = None) -> float:
        """Share ``|left^T D_t right|_F^2 / |D_t|_F^2``, 0..1; orthonormal columns, shapes (out, any) and (in, any)."""
        delta = self.delta.matrix
        image = product(delta, right.to(delta.dtype))
        if left is not None:
            image = product(left.to(delta.dtype).T, image)
        inside = torch.linalg.vector_norm(image, dtype=torch.float64).item() * self.delta.factor
        return min(1.0, (inside / self.norm) ** 2)

    @cached_property
    def spectrum(self) -> UpdateSpectrum | LowRankFactorization:
        """The top of D_t's spectrum."""
        if isinstance(self.stored, LowRank):
            return self.stored.factorization
        w0, wt = self.base.w0, self.wt  # a function of `self` would keep this update until a garbage collection
        return UpdateSpectrum(self.delta, lambda: wt.double() - w0)

    @cached_property
    def current(self) -> Factorization:
        """Singular values and subspaces of W_t, in float64."""
        return Factorization(self._moved)

    @cached_property
    def perturbation(self) -> Perturbation:
        """W_t in the base's singular basis."""
        return Perturbation(self.base.basis, self.delta)

    @property
    def _is_perturbation(self) -> bool:
        return not self.base.is_small and self.perturbation.applies

    def angles(self, k: int) -> tuple[Tensor, Tensor]:
        """Principal angles between the top-k left, and right, singular subspaces of W0 and W_t.

        Returns:
            (left, right), each of shape (k,), in radians, ascending, float64.

        Raises:
            Undefined: W0 or W_t has no unique top-k subspace.
        """
        found = self.perturbation.angles(k) if self._is_perturbation else None
        if found is not None:
            sides, self._own_routes[f"principal angles, k={k}"] = found
            return sides[::-1] if self.base.basis.is_wide else sides
        base, current = self.base.factorization, self.current
        sides = principal_angles(base.left(k), current.left(k)), principal_angles(base.right(k), current.right(k))
        smallest = max(ANGLE_FLOOR, min(float(side[0]) for side in sides))
        certificate = Certificate(Route.DENSE, (base.rotation_error(k) + current.rotation_error(k)) / smallest)
        if not certificate.met:
            raise Undefined(
                f"singular values {k} and {k + 1} of W0 or W_t are so nearly tied that rounding turns the top-{k} "
                "subspace as far as the update does"
            )
        self._own_routes[f"principal angles, k={k}"] = certificate
        return sides

    @cached_property
    def shift_norm(self) -> float:
        """``|sigma(W_t) - sigma(W0)|_2``, singular values in descending order."""
        if self._is_perturbation:
            shift, certificate = self.perturbation.shift()
            if certificate.met:
                self._own_routes["spectral shift"] = certificate
                return float(torch.linalg.vector_norm(shift)) * 2.0**self.base.basis.exponent
        self._own_routes["spectral shift"] = DENSE_SHIFT
        return spectral_shift_norm(self.base.factorization, self.current)

    @cached_property
    def changed(self) -> Array:
        """The visible-update mask M: entries whose bf16 values differ."""
        return visibly_changed(self.base.w0, self.wt)

    @cached_property
    def density(self) -> float:
        """The fraction of entries that visibly changed."""
        return count(self.changed) / size(self.changed)
