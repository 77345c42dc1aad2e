"""One weight matrix before and after: W0, W_t, D_t = W_t - W0, and what the diagnostics share of them.

Everything is computed when first asked for and kept as long as the object lives. The stream that measures a
run keeps one `Base` per weight and one `Update` per checkpoint, and drops each as soon as it is done.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from geomcheck.diagnostics.linalg import Factorization
from geomcheck.diagnostics.lowrank import LowRank, LowRankFactorization
from geomcheck.diagnostics.masks import MagnitudeMask
from geomcheck.diagnostics.storage import magnitude_keys, visibly_changed
from geomcheck.errors import Undefined


class Base:
    """W0 and what every checkpoint shares of it.

    Args:
        w0: shape (out, in), bf16, fp16, fp32 or fp64, finite, on the CPU.
    """

    def __init__(self, w0: Tensor) -> None:
        self.w0 = w0.contiguous()
        self._low: dict[float, MagnitudeMask] = {}
        self._principal: dict[tuple[int, float], MagnitudeMask] = {}

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        out, in_ = self.w0.shape
        return out, in_

    @cached_property
    def matrix(self) -> Tensor:
        """W0 in float64."""
        return self.w0.double()

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of W0."""
        return torch.linalg.vector_norm(self.w0, dtype=torch.float64).item()

    @cached_property
    def factorization(self) -> Factorization:
        """Singular values and subspaces of W0."""
        return Factorization(self.matrix)

    def low_magnitude_mask(self, alpha: float) -> MagnitudeMask:
        """The alpha smallest entries of W0 by magnitude."""
        if alpha not in self._low:
            self._low[alpha] = MagnitudeMask.smallest(magnitude_keys(self.w0), alpha)
        return self._low[alpha]

    def principal_mask(self, rank: int, alpha: float) -> MagnitudeMask:
        """The alpha largest entries, by magnitude, of the rank-`rank` truncated SVD of W0."""
        if (rank, alpha) not in self._principal:
            keys = self.factorization.truncated(rank).abs_().numpy()
            self._principal[rank, alpha] = MagnitudeMask.largest(keys, alpha)
        return self._principal[rank, alpha]


class Update:
    """The cumulative update of one weight at one checkpoint.

    Args:
        base: W0, shared by the checkpoints of a run.
        wt: W_t, the same shape, finite, on the CPU; or D_t by its factors, where those are what is stored.
    """

    def __init__(self, base: Base, wt: Tensor | LowRank) -> None:
        self.base = base
        self._stored = wt

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.base.shape

    @cached_property
    def wt(self) -> Tensor:
        """W_t as stored; where D_t is stored, W0 + D_t in fp32 or better, as merging an adapter gives it."""
        if isinstance(self._stored, LowRank):
            return self._moved.to(torch.promote_types(self.base.w0.dtype, torch.float32))
        return self._stored.contiguous()

    @property
    def _moved(self) -> Tensor:
        """W_t in float64, without the rounding of `wt` where D_t is what is stored."""
        return self.base.matrix + self.matrix if isinstance(self._stored, LowRank) else self.wt.double()

    @cached_property
    def matrix(self) -> Tensor:
        """D_t in float64: exact wherever W0 and W_t are stored in fp32 or less and are near each other."""
        return self._stored.matrix if isinstance(self._stored, LowRank) else self.wt.double() - self.base.w0

    @cached_property
    def norm(self) -> float:
        """Frobenius norm of D_t."""
        if isinstance(self._stored, LowRank):
            return self._stored.factorization.norm
        return torch.linalg.vector_norm(self.matrix).item()

    @property
    def is_zero(self) -> bool:
        """Whether the matrix did not change at all."""
        return self.norm == 0

    def require_change(self) -> None:
        """Raise Undefined where D_t is zero: a share of nothing has no value."""
        if self.is_zero:
            raise Undefined("W_t equals W0")

    @cached_property
    def factorization(self) -> Factorization | LowRankFactorization:
        """Singular values and subspaces of D_t."""
        return self._stored.factorization if isinstance(self._stored, LowRank) else Factorization(self.matrix)

    @cached_property
    def current(self) -> Factorization:
        """Singular values and subspaces of W_t."""
        return Factorization(self._moved)

    @cached_property
    def changed(self) -> np.ndarray:
        """The visible-update mask M: entries whose bf16 values differ."""
        return visibly_changed(self.base.w0, self.wt)

    @cached_property
    def density(self) -> float:
        """The fraction of entries that visibly changed."""
        return float(np.count_nonzero(self.changed) / self.changed.size)
