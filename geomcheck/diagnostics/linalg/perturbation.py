"""W_t in the singular basis of W0: ``V^T W_t^T W_t V = S^2 + H``, with H taken from the difference D alone.

H is of the size of D, so that float32 gives it to its own relative accuracy: nothing is ever subtracted from a
quantity of the size of W0. Angles and spectral shifts follow from S^2 (float64) and H.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.angles import angles_from_parts
from geomcheck.diagnostics.linalg.basis import Basis
from geomcheck.diagnostics.linalg.certificate import ACCURACY, ANGLE_FLOOR, Certificate, Route
from geomcheck.diagnostics.linalg.kernels import eigenpairs, eigvalsh, product
from geomcheck.diagnostics.linalg.riccati import Graph, invariant_graph
from geomcheck.diagnostics.linalg.rounding import ROUNDING, SAFETY, Rounding, spectral_norm
from geomcheck.diagnostics.linalg.scaling import Scaled
from geomcheck.diagnostics.linalg.windows import windowed_eigenvalues
from geomcheck.diagnostics.storage import blocks_of

SMALLEST_EXPONENT, LARGEST_EXPONENT = -60, 10
"""Powers of two between the largest entries of D and of W0 at which a perturbation of W0 is worth trying."""

EIGENVALUE_ERROR = 4 * torch.finfo(torch.float64).eps
"""Error of each eigenvalue in float64, relative to the largest of all."""

WINDOWS_FROM = 1280
"""Size from which windows take less time than all eigenvalues at once (1.5 times less at 2048, 3 times at 4096)."""


Side = tuple[Tensor, float]
"""Principal angles of the left, or of the right, singular subspaces, in radians, ascending, float64; and their typical
error by the products that they come from."""


class Perturbation:
    """One checkpoint in the base's basis.

    Args:
        basis: of W0.
        delta: D_t, shape (out, in).
    """

    def __init__(self, basis: Basis, delta: Scaled) -> None:
        self.basis = basis
        self.delta = delta
        self.exponent = delta.exponent - basis.exponent
        self.ratio = math.ldexp(1.0, min(self.exponent, LARGEST_EXPONENT))

    @property
    def applies(self) -> bool:
        """Whether D is of a size that float32 can hold next to W0."""
        return SMALLEST_EXPONENT <= self.exponent <= LARGEST_EXPONENT

    @cached_property
    def moved(self) -> Tensor:
        """D V of the tall D, which has the scale of one."""
        return product(self.basis.tall(self.delta.matrix), self.basis.vectors)

    @cached_property
    def _half(self) -> Tensor:
        """``(W0 V + D V / 2)^T D V``, float32, shape (n, n)."""
        middle = torch.add(self.basis.images, self.moved, alpha=self.ratio / 2)
        return product(middle.T, self.moved).mul_(self.ratio)

    @cached_property
    def change(self) -> Tensor:
        """H = V^T (W0^T D + D^T W0 + D^T D) V, float32, shape (n, n)."""
        return self._half + self._half.T

    @cached_property
    def matrix(self) -> Tensor:
        """S^2 + H in float64."""
        full = self.change.double()
        full.diagonal().add_(self.basis.values**2)
        return full

    @cached_property
    def _eigen(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues, descending, and eigenvectors of S^2 + H."""
        return eigenpairs(self.matrix)

    @cached_property
    def _rounding(self) -> Rounding:
        delta = self.basis.tall(self.delta.matrix)
        return Rounding.of(self.basis.values, self.moved, delta, self._half, self.ratio)

    def shift(self) -> tuple[Tensor, Certificate]:
        """sigma(W_t) - sigma(W0), shape (n,), by the first certified route.

        Both in descending order, and in units of ``2**basis.exponent``.
        """
        for route, shift, error in self._shifts():
            certificate = Certificate(route, error + self._shift_error(shift))
            if certificate.met:
                break
        return shift, certificate

    def _shifts(self) -> Iterator[tuple[Route, Tensor, float]]:
        """The shift by eigenvalues in windows, and all at once, the cheaper first; with their relative error."""
        before = self.basis.values
        if len(before) >= WINDOWS_FROM:
            yield from self._windowed()
        shift = eigvalsh(self.matrix).flip(0).clamp_min(0).sqrt() - before
        noise = EIGENVALUE_ERROR * before[:1] ** 2
        each = noise / torch.maximum(2 * before + shift, noise.sqrt())
        yield Route.BASIS_EIGENVALUES, shift, float(torch.linalg.vector_norm(each) / torch.linalg.vector_norm(shift))
        if len(before) < WINDOWS_FROM:
            yield from self._windowed()

    def _windowed(self) -> Iterator[tuple[Route, Tensor, float]]:
        """The shift by windows, where they apply."""
        before = self.basis.values
        found = windowed_eigenvalues(before**2, self.change)
        if found is not None:
            yield Route.WINDOWS, found.eigenvalues.clamp_min(0).sqrt() - before, found.relative_error(before)

    def _shift_error(self, shift: Tensor) -> float:
        """Relative error of |shift| that rounding may cause, and what exact identities leave unexplained.

        The trace of H is the growth of ``|W|_F^2``, and the shift is at most |D|_F (Mirsky).
        """
        size = float(torch.linalg.vector_norm(shift))
        most = self.ratio * float(torch.linalg.vector_norm(self.delta.matrix))
        if not 0 < size <= (1 + ACCURACY) * most:
            return 0.0 if size == most else math.inf
        before = self.basis.values
        noise = SAFETY * self._rounding.of_diagonal
        each = float(torch.linalg.vector_norm(noise / torch.maximum(2 * before + shift, noise.sqrt())))
        middle = max(float(before.median()), size / len(before) ** 0.5)
        unexplained = abs(float(self.change.diagonal().double().sum()) - self._growth) / (2 * middle)
        return (each + unexplained) / size

    @property
    def _growth(self) -> float:
        """``|W_t|_F^2 - |W0|_F^2``, from the entries."""
        scale = 2.0**-self.basis.exponent
        pairs = zip(blocks_of(self.basis.w0), blocks_of(self.delta.matrix), strict=True)
        grown = ((2 * scale * w0.double() + self.ratio * delta) @ delta.double() for w0, delta in pairs)
        return self.ratio * sum(map(float, grown))

    def angles(self, k: int) -> tuple[tuple[Tensor, Tensor], Certificate] | None:
        """Principal angles of the top-k singular subspaces, (left, right) of the tall W0.

        Returns:
            Radians, ascending, shape (k,) each;
            None where neither the Riccati iteration nor the eigenvectors of S^2 + H can be certified.
        """
        if not self.basis.separates(k):
            return None
        for route, graph in self._graphs(k):
            try:
                sides = self._left(graph, k), (angles_from_parts(graph.top, graph.rest), 0.0)
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # W_t has no k independent directions
                return None
            certificate = Certificate(route, self._angle_error(graph, sides, k))
            if certificate.met:
                (left, _), (right, _) = sides
                return (left, right), certificate
        return None

    def _graphs(self, k: int) -> Iterator[tuple[Route, Graph]]:
        """The top-k invariant subspace of S^2 + H, by iteration, then by eigenvectors."""
        graph = invariant_graph(self.basis.values**2, self.change, k)
        if graph is not None:
            yield Route.RICCATI, graph
        values, vectors = self._eigen
        yield Route.BASIS_EIGEN, Graph(vectors[:k, :k].float(), vectors[k:, :k].float(), values, 0.0)

    def _left(self, graph: Graph, k: int) -> Side:
        """Angles between the base's subspace and that of ``W_t X``, where ``X = V [top; rest]``."""
        basis = self.basis.left(k)
        moved = product(self.moved, torch.cat([graph.top, graph.rest])).mul_(self.ratio)
        within = product(basis.T, moved)
        inside = self.basis.values[:k, None].float() * graph.top + within
        outside = product(self.basis.images[:, k:], graph.rest) + moved - product(basis, within)
        scale = self.basis.values[:k].float()
        return angles_from_parts(inside / scale, outside / scale), ROUNDING * spectral_norm(moved / scale)

    def _angle_error(self, graph: Graph, sides: tuple[Side, Side], k: int) -> float:
        """Estimated relative error of the angles (with the floor of 0.01 degrees).

        An error of the graph moves each angle by at most its norm. That of an entry of H turns a vector above the cut
        towards one below by error / gap: of the two next to the cut, that is seen in the largest angle.
        """
        gaps = graph.values[:k, None] - graph.values[None, k:]
        if not float(gaps.min()) > 0:
            return math.inf
        turned = self._rounding.of_entries(k) / gaps
        at_cut = SAFETY * float(turned[-1, 0])
        turned[-1, 0] = 0.0
        # One entry may be far from what is typical; the norm of many is not.
        lost = graph.error + ROUNDING * spectral_norm(graph.rest) + SAFETY * float(turned.max())
        lost += 2 * spectral_norm(turned)
        return max(
            (lost + SAFETY * rounding if end == 0 else at_cut) / max(ANGLE_FLOOR, float(angles[end]))
            for angles, rounding in sides
            for end in (0, -1)
        )
