"""Which algorithm answered, and how sure it was: a record tells figures of the fast route from fallbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomcheck.diagnostics import Update


@dataclass(frozen=True)
class Route:
    """How a quantity of one weight at one checkpoint was computed.

    Attributes:
        how: the algorithm.
        certificate: its own bound on the relative error; None where it gives none.
    """

    how: str
    certificate: float | None = None


Routes = Mapping[str, Route]
"""By quantity, such as ``spectral shift``."""


@dataclass(frozen=True)
class Tally:
    """How often a route answered, and its worst certificate."""

    count: int
    worst: float | None = None


def routes_of(update: Update) -> Routes:
    """The routes by which what is known of `update` so far was computed."""
    return {quantity: Route(found.route.value, found.bound) for quantity, found in update.routes.items()}


def tally(routes: Iterable[Routes]) -> dict[str, dict[str, Tally]]:
    """By quantity and algorithm, over weights and checkpoints."""
    found: dict[str, dict[str, Tally]] = {}
    for one in routes:
        for quantity, route in one.items():
            before = found.setdefault(quantity, {}).get(route.how, Tally(0))
            certificates = [c for c in (before.worst, route.certificate) if c is not None]
            found[quantity][route.how] = Tally(before.count + 1, max(certificates, default=None))
    return {quantity: dict(sorted(by_route.items())) for quantity, by_route in sorted(found.items())}
