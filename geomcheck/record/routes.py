"""Which algorithm computed each quantity, and its certificate: a record so tells fast routes from fallbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomcheck.diagnostics import Update


@dataclass(frozen=True)
class RouteTaken:
    """How a quantity of one weight at one checkpoint was computed.

    Attributes:
        how: the algorithm.
        certificate: its own bound on the relative error; None where it gives none.
    """

    how: str
    certificate: float | None = None


Routes = Mapping[str, RouteTaken]
"""By quantity, such as ``spectral shift``."""


@dataclass(frozen=True)
class Tally:
    """How often a route was taken, and its worst certificate."""

    count: int
    worst: float | None = None


def routes_of(update: Update) -> Routes:
    """The routes of everything that has been computed of `update` so far."""
    return {quantity: RouteTaken(found.route.value, found.bound) for quantity, found in update.routes.items()}


def tally(routes: Iterable[Routes]) -> dict[str, dict[str, Tally]]:
    """Tallies over weights and checkpoints, by quantity and algorithm."""
    found: dict[str, dict[str, Tally]] = {}
    for one in routes:
        for quantity, route in one.items():
            before = found.setdefault(quantity, {}).get(route.how, Tally(0))
            certificates = [c for c in (before.worst, route.certificate) if c is not None]
            found[quantity][route.how] = Tally(before.count + 1, max(certificates, default=None))
    return {quantity: dict(sorted(by_route.items())) for quantity, by_route in sorted(found.items())}
