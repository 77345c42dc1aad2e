"""Which algorithm answered, and how far its answer may be from that of brute force."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ACCURACY = 1e-3
"""Relative error that every reported figure may have; angles below ANGLE_FLOOR are held to it times the floor."""

ANGLE_FLOOR = 1.7453292519943296e-4
"""0.01 degrees, in radians."""


class Route(StrEnum):
    """The algorithms; each value says what the algorithm does."""

    DENSE = "float64 factorization of the whole matrix"
    KRYLOV = "block Krylov iteration from a cold start"
    GRAM = "leading eigenvectors of the float32 Gram matrix"
    FACTORS = "QR of the factors that an adapter stores"
    RICCATI = "Riccati iteration in the base's singular basis"
    BASIS_EIGEN = "float64 eigenvectors in the base's singular basis"
    WINDOWS = "windowed perturbation theory in the base's singular basis"
    BASIS_EIGENVALUES = "float64 eigenvalues in the base's singular basis"


@dataclass(frozen=True)
class Certificate:
    """The route that answered, and its own estimate of the error.

    Attributes:
        route: the algorithm.
        bound: estimated bound of the relative error (of angles: relative to 0.01 degrees where they are smaller).
    """

    route: Route
    bound: float

    @property
    def met(self) -> bool:
        """Whether the answer is accurate enough to be reported; NaN is not."""
        return self.bound <= ACCURACY
