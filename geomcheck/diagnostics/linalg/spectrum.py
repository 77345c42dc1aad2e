"""The top of an update's spectrum, by the cheapest route that is certified."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.certificate import Certificate, Route
from geomcheck.diagnostics.linalg.dense import Factorization
from geomcheck.diagnostics.linalg.kernels import gram, leading_eigenpairs, orthonormal, product
from geomcheck.diagnostics.linalg.krylov import BLOCK, GUARDS, LARGEST_K, BlockKrylov, Ritz, errors, verified
from geomcheck.diagnostics.linalg.power import reached
from geomcheck.diagnostics.linalg.scaling import Scaled

SMALL = 256
"""min(out, in) below which matrices are factorized in float64 at once: exact, and fast enough."""

GRAM_SIZE = 2048
"""min(out, in) up to which a Gram matrix, and its eigenvectors, cost less than an iteration that is slow."""

FIRST_LOOK, LAST_LOOK = 6, 64
"""Blocks at which convergence is first and last looked at."""

UNDECIDED = 4
"""Blocks until the next look where nothing has converged."""

VALUE_ERROR, ANGLE_ERROR = 1e-6, 1e-4
"""Relative error of values, and angle (rad) of their subspace, at which the iteration stops."""

EXHAUSTED = 1e-9
"""Relative error of values below which rounding hides what further blocks would gain."""

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
        exact: gives the same matrix in float64; only called where nothing else is certified.
    """

    def __init__(self, delta: Scaled, exact: Callable[[], Tensor]) -> None:
        self.delta = delta
        self._exact = exact
        self.routes: dict[str, Certificate] = {}
        self._found: dict[tuple[Route, int, torch.dtype], Ritz | None] = {}
        self._leading: dict[tuple[Route, int], Tensor | None] = {}

    @cached_property
    def dense(self) -> Factorization:
        """D factorized in float64."""
        return Factorization(self._exact())

    def top_values(self, k: int, *, within: float = ACCEPTED_VALUE) -> Tensor:
        """The k largest singular values, descending, float64, shape (k,), each to `within` relative."""
        found = self._certified(LARGEST_K, subspace=False) if k <= LARGEST_K else None
        found = found or self._certified(k, subspace=False)
        if found is None or found[1].value_error > within:
            self.routes[f"singular values of D, k={k}"] = DENSE_VALUES
            return self.dense.top_values(k, within=within)
        route, ritz = found
        self.routes[f"singular values of D, k={k}"] = Certificate(route, ritz.value_error)
        return ritz.values[:k] * self.delta.factor

    @cached_property
    def top_reached(self) -> float:
        """What the largest singular value is at least, which no certified route is asked for."""
        return reached(self.delta)

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
            return self.dense.right(k) if of_rows else self.dense.left(k)
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

        What was found for another k is not taken: figures must not depend on what was asked before.
        """
        for route in self._routes(k):
            for precision in (torch.float32, torch.float64):
                ritz = self._ritz(route, k, precision)
                if ritz is not None and _accepted(ritz, subspace):
                    return route, ritz
                if ritz is None or not _accepted(ritz, subspace=False):
                    break  # it is not the rounding between nearly tied values that stands in the way
        return None

    def _routes(self, k: int) -> tuple[Route, ...]:
        """What to try before the dense route."""
        size = self._tall.shape[1]
        if size < SMALL or k > LARGEST_K or self.delta.is_zero:
            return ()
        return (Route.KRYLOV, Route.GRAM) if size <= GRAM_SIZE else (Route.KRYLOV,)

    def _ritz(self, route: Route, k: int, precision: torch.dtype) -> Ritz | None:
        """What a route finds, verified in this precision."""
        if (route, k, precision) not in self._found:
            vectors = self._vectors(route, k)
            found = None if vectors is None else verified(self._tall.to(precision), vectors, k)
            self._found[route, k, precision] = found
        return self._found[route, k, precision]

    def _vectors(self, route: Route, k: int) -> Tensor | None:
        if (route, k) not in self._leading:
            iterated = route is Route.KRYLOV
            vectors = self._iterated(k) if iterated else leading_eigenpairs(self._square, k + 1 + GUARDS)[1]
            self._leading[route, k] = vectors
        return self._leading[route, k]

    def _iterated(self, k: int) -> Tensor | None:
        """Leading Ritz vectors once the k first have converged; None where they do not in time."""
        last = min(LAST_LOOK, self._tall.shape[1] // (2 * BLOCK))
        steps, before = min(FIRST_LOOK, last), math.inf
        while True:
            values, vectors, residuals = self._krylov.leading(k + 1 + GUARDS, steps)
            value_error, angle_error = errors(values, residuals, k)
            stalled = value_error <= EXHAUSTED or angle_error > before / 2
            if angle_error <= ANGLE_ERROR or (value_error <= VALUE_ERROR and stalled):
                return vectors
            if steps == last or not _in_range(values.sqrt(), k):
                return None
            # each block gains half a digit
            more = math.ceil(2 * math.log10(angle_error / ANGLE_ERROR)) if angle_error <= 1 else UNDECIDED
            steps, before = min(last, steps + more), angle_error


def _in_range(values: Tensor, k: int) -> bool:
    return float(values[k - 1]) >= VALUE_RATIO * float(values[0])


def _accepted(ritz: Ritz, subspace: bool) -> bool:
    certified = ritz.value_error <= ACCEPTED_VALUE and (not subspace or ritz.angle_error <= ACCEPTED_ANGLE)
    return certified and _in_range(ritz.values, len(ritz.values))
