"""W_t in the singular basis of W0: ``V^T W_t^T W_t V = S^2 + H``, with H taken from the difference D alone.

H is of the size of D, so that float32 gives it to its own relative accuracy: nothing is ever subtracted from a
quantity of the size of W0. Angles and spectral shifts follow from S^2 (float64) and H.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from geomcheck.attributes import cached_property
from geomcheck.diagnostics.linalg.angles import angles_from_parts
from geomcheck.diagnostics.linalg.basis import Basis
from geomcheck.diagnostics.linalg.certificate import ANGLE_FLOOR, Certificate, Route
from geomcheck.diagnostics.linalg.kernels import eigenpairs, eigvalsh, product
from geomcheck.diagnostics.linalg.riccati import Graph, invariant_graph
from geomcheck.diagnostics.linalg.scaling import Scaled
from geomcheck.diagnostics.linalg.windows import windowed_eigenvalues

EPS32 = torch.finfo(torch.float32).eps

ROUNDING = 2 * EPS32
"""Relative error of products in float32."""

SAFETY = 8
"""How far rounding may exceed what is typical."""

SMALLEST_EXPONENT, LARGEST_EXPONENT = -60, 10
"""Powers of two between the largest entries of D and of W0 at which a perturbation of W0 is worth trying."""

Angles = tuple[Tensor, Tensor]


class Perturbation:
    """One checkpoint in the base's basis.

    Args:
        basis: of W0.
        delta: D_t, shape (out, in).
    """

    def __init__(self, basis: Basis, delta: Scaled) -> None:
        self.basis = basis
        self.delta = basis.tall(delta.matrix)
        self.exponent = delta.exponent - basis.exponent
        self.ratio = math.ldexp(1.0, min(self.exponent, LARGEST_EXPONENT))

    @property
    def applies(self) -> bool:
        """Whether D is of a size that float32 can hold next to W0."""
        return SMALLEST_EXPONENT <= self.exponent <= LARGEST_EXPONENT

    @cached_property
    def moved(self) -> Tensor:
        """D V, where the tall `delta` has the scale of one."""
        return product(self.delta, self.basis.vectors)

    @cached_property
    def change(self) -> Tensor:
        """H = V^T (W0^T D + D^T W0 + D^T D) V, float32, shape (n, n).

        It is symmetric: twice the symmetric part of ``(W0 V + D V / 2)^T D V``.
        """
        half = product(torch.add(self.basis.images, self.moved, alpha=self.ratio / 2).T, self.moved)
        return (half + half.T).mul_(self.ratio)

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
    def _noise(self) -> float:
        """What rounding to float32 changes in a product ``(W0 v)^T D w`` of singular vectors, typically."""
        rows, size = self.delta.shape
        update = float(torch.linalg.vector_norm(self.delta)) * self.ratio
        energies = (float(torch.linalg.vector_norm(self.basis.values)) + update) * update
        return 2 * EPS32 * energies / size / rows**0.5

    # ---- singular values

    def shift(self) -> tuple[Tensor, Certificate]:
        """sigma(W_t) - sigma(W0), descending order, in units of ``2**basis.exponent``; windowed where certified."""
        windowed = windowed_eigenvalues(self.basis.values**2, self.change)
        if windowed is not None:
            shift = self._shift_to(windowed.eigenvalues)
            bound = windowed.relative_error(shift, self.basis.values) + self._shift_rounding(shift)
            certificate = Certificate(Route.WINDOWS, bound)
            if certificate.met:
                return shift, certificate
        shift = self._shift_to(eigvalsh(self.matrix).flip(0))
        return shift, Certificate(Route.BASIS_EIGENVALUES, self._shift_rounding(shift))

    def _shift_to(self, eigenvalues: Tensor) -> Tensor:
        """sigma - sigma0 = (lambda - sigma0^2) / (sigma + sigma0)."""
        before = self.basis.values
        return eigenvalues.clamp_min(0).sqrt() - before

    def _shift_rounding(self, shift: Tensor) -> float:
        """Relative error of |shift| that rounding may cause: each eigenvalue is off by SAFETY times the noise."""
        rounding = SAFETY * self._noise / (2 * self.basis.values + shift).clamp_min(1e-300)
        size = float(torch.linalg.vector_norm(shift))
        return float(torch.linalg.vector_norm(rounding)) / size if size else 0.0

    # ---- subspaces

    def angles(self, k: int) -> tuple[Angles, Certificate] | None:
        """Principal angles of the top-k singular subspaces, (left, right) of the tall W0, radians, ascending.

        Returns:
            None where neither the Riccati iteration nor the eigenvectors of S^2 + H can be certified.
        """
        if not self.basis.separates(k):
            return None
        for route, graph in self._graphs(k):
            try:
                angles = self._angles_of(graph, k)
            except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # W_t has no k independent directions
                return None
            certificate = Certificate(route, self._angle_error(graph, angles, k))
            if certificate.met:
                return angles, certificate
        return None

    def _graphs(self, k: int) -> Iterator[tuple[Route, Graph]]:
        """The top-k invariant subspace of S^2 + H, by iteration, then by eigenvectors."""
        graph = invariant_graph(self.basis.values**2, self.change, k)
        if graph is not None:
            yield Route.RICCATI, graph
        values, vectors = self._eigen
        gap = float(values[k - 1] - values[k])
        yield Route.BASIS_EIGEN, Graph(vectors[:k, :k].float(), vectors[k:, :k].float(), gap, 0.0)

    def _angles_of(self, graph: Graph, k: int) -> Angles:
        """Angles between the base's subspaces and those spanned by X = V [top; rest] and by W_t X."""
        right = angles_from_parts(graph.top, graph.rest)
        basis = self.basis.left(k)
        moved = product(self.moved, torch.cat([graph.top, graph.rest])).mul_(self.ratio)
        within = product(basis.T, moved)
        inside = self.basis.values[:k, None].float() * graph.top + within
        outside = product(self.basis.images[:, k:], graph.rest) + moved - product(basis, within)
        scale = self.basis.values[:k].float()
        return angles_from_parts(inside / scale, outside / scale), right

    def _angle_error(self, graph: Graph, angles: Angles, k: int) -> float:
        """Estimated relative error of the angles (with the floor of 0.01 degrees).

        An error of the graph moves each angle by at most its norm; an error of H turns the vectors at the cut by
        at most error / gap, which is seen in the largest angle.
        """
        smallest = max(ANGLE_FLOOR, min(float(side[0]) for side in angles))
        largest = max(ANGLE_FLOOR, min(float(side[-1]) for side in angles))
        spread = graph.error + ROUNDING * float(torch.linalg.vector_norm(graph.rest))
        at_cut = SAFETY * self._noise / graph.gap if graph.gap > 0 else float("inf")
        return max(spread / smallest, at_cut / largest)
