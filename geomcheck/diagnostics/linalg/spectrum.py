"""The top of an update's spectrum, by the cheapest route that is certified."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from geomcheck.diagnostics.linalg.certificate import Certificate, Route
from geomcheck.diagnostics.linalg.dense import Factorization
from geomcheck.diagnostics.linalg.kernels import gram, leading_eigenvectors, orthonormal, product
from geomcheck.diagnostics.linalg.krylov import (
    ANGLE_ERROR,
    BLOCK,
    LARGEST_K,
    VALUE_ERROR,
    BlockKrylov,
    Ritz,
    errors,
    verified,
)
from geomcheck.diagnostics.linalg.scaling import Scaled
from geomcheck.lazy import cached_property

SMALL = 256
"""min(out, in) below which matrices are factorized in float64 at once: exact, and fast enough."""

GRAM_SIZE = 2048
"""min(out, in) up to which a Gram matrix, and its eigenvectors, cost less than an iteration that is slow."""

FIRST_LOOK, LAST_LOOK = 8, 36
"""Blocks at which convergence is first and last looked at."""

HOPELESS = 1e-2
"""Relative error of a singular value, at any look, at which all of a Gram matrix's eigenvectors are sooner found."""

VALUE_RATIO = 1e-3
"""sigma_k / sigma_1 down to which float32 gives sigma_k to better than 1e-4 relative."""

ACCEPTED_VALUE, ACCEPTED_ANGLE = 1e-5, 2e-4
"""Relative error of values, and angle (rad) of a subspace, above which the next route is tried."""

DENSE_VALUES = Certificate(Route.DENSE, 1e-9)
DENSE_SUBSPACE = Certificate(Route.DENSE, 1e-6)


class UpdateSpectrum:
    """Leading singular values and subspaces of D.

    Args:
        delta: D, shape (out, in).
        dense: the same matrix factorized in float64; only called where nothing else is certified.
    """

    def __init__(self, delta: Scaled, dense: Callable[[], Factorization]) -> None:
        self.delta = delta
        self.dense = dense
        self.routes: dict[str, Certificate] = {}
        self._found: dict[tuple[int, bool], tuple[Route, Ritz] | None] = {}

    @property
    def operator_norm(self) -> float:
        """sigma_1."""
        return float(self.top_values(1)[0])

    def top_values(self, k: int) -> Tensor:
        """The k largest singular values, descending, float64."""
        found = self._certified(LARGEST_K, subspace=False) if k <= LARGEST_K else None
        found = found or self._certified(k, subspace=False)
        if found is None:
            self.routes[f"singular values of D, k={k}"] = DENSE_VALUES
            return self.dense().top_values(k)
        route, ritz = found
        self.routes[f"singular values of D, k={k}"] = Certificate(route, ritz.value_error)
        return ritz.values[:k] * self.delta.factor

    def right(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k right singular subspace, shape (in, k), float64.

        Raises:
            Undefined: the rank is below k, or sigma_k and sigma_{k+1} are tied.
        """
        return self._subspace(k, of_rows=True)

    def left(self, k: int) -> Tensor:
        """Orthonormal basis of the top-k left singular subspace, shape (out, k). Raises as `right`."""
        return self._subspace(k, of_rows=False)

    def _subspace(self, k: int, *, of_rows: bool) -> Tensor:
        found = self._certified(k, subspace=True)
        if found is None:
            self.routes[f"channel of D, k={k}"] = DENSE_SUBSPACE
            return self.dense().right(k) if of_rows else self.dense().left(k)
        route, ritz = found
        self.routes[f"channel of D, k={k}"] = Certificate(route, ritz.angle_error)
        return orthonormal(ritz.images) if of_rows == self._is_wide else ritz.right

    @property
    def _is_wide(self) -> bool:
        return self.delta.matrix.shape[0] < self.delta.matrix.shape[1]

    @cached_property
    def _tall(self) -> Tensor:
        return self.delta.matrix.T if self._is_wide else self.delta.matrix

    @cached_property
    def _square(self) -> Tensor:
        """D^T D in float32."""
        return gram(self._tall)

    @cached_property
    def _krylov(self) -> BlockKrylov:
        tall = self._tall
        return BlockKrylov(tall.shape[1], tall.device, lambda block: product(tall.T, product(tall, block)))

    def _certified(self, k: int, *, subspace: bool) -> tuple[Route, Ritz] | None:
        """The k leading triples, with the subspace certified too if asked for, or None.

        What was found for another question is not taken: figures must not depend on what was asked before.
        """
        if (k, subspace) not in self._found:
            accepted = (item for item in self._candidates(k, subspace) if _accepted(item[1], subspace))
            self._found[k, subspace] = next(accepted, None)
        return self._found[k, subspace]

    def _candidates(self, k: int, subspace: bool) -> Iterator[tuple[Route, Ritz]]:
        size = self._tall.shape[1]
        if size < SMALL or k > LARGEST_K or self.delta.is_zero:
            return
        vectors = self._iterated(k, subspace)
        if vectors is not None:
            yield Route.KRYLOV, verified(self._tall, vectors, k)
        if size <= GRAM_SIZE:
            yield Route.GRAM, verified(self._tall, leading_eigenvectors(self._square, k + 1), k)

    def _iterated(self, k: int, subspace: bool) -> Tensor | None:
        """k + 1 leading Ritz vectors once the k first have converged; None where they do not in time."""
        krylov, before = self._krylov, float("inf")
        for steps in range(FIRST_LOOK, LAST_LOOK + 1, 2):
            if steps * BLOCK >= self._tall.shape[1] // 2:
                return None
            values, vectors, residuals = krylov.leading(k + 1, steps)
            value_error, angle_error = errors(values, residuals, k)
            stalled = before < 1e-2 and angle_error > before / 2
            if value_error <= VALUE_ERROR and (not subspace or angle_error <= ANGLE_ERROR or stalled):
                return vectors
            if self._tall.shape[1] <= GRAM_SIZE and (value_error > HOPELESS or stalled):
                return None
            before = angle_error
        return None


def _accepted(ritz: Ritz, subspace: bool) -> bool:
    in_range = float(ritz.values[-1]) >= VALUE_RATIO * float(ritz.values[0])
    return in_range and ritz.value_error <= ACCEPTED_VALUE and (not subspace or ritz.angle_error <= ACCEPTED_ANGLE)
