"""Which training method a run looks like: the nearest of three published profiles.

The profiles are of one paper and one model (arXiv 2606.07082, Qwen3-8B on mathematics). On other models the
order of the methods is known to differ, so a classification is a comparison with that model, not a law.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from geomcheck.diagnostics import Fold, load_metrics
from geomcheck.measurement.request import Request
from geomcheck.suite.quantities import Scale

REGIMES = ("sft", "opd", "rlvr")
FARTHEST = 0.5
"""Decades from the nearest profile beyond which a run is like none of them."""


@dataclass(frozen=True)
class Evidence:
    """One diagnostic of the profiles: how it is read, and its published figure per regime."""

    metric: str
    params: Mapping[str, object]
    fold: Fold
    profile: Mapping[str, float]

    @property
    def request(self) -> Request:
        """The measurement that this evidence needs."""
        return Request.of(load_metrics()[self.metric], self.params)

    def show(self, figure: float) -> str:
        """`figure` with its unit."""
        return Scale(load_metrics()[self.metric].unit).show(figure, 3)


EVIDENCE = (
    Evidence("update_support", {}, "weighted", {"sft": 0.919, "opd": 0.484, "rlvr": 0.228}),
    Evidence("principal_angle", {"k": "12.5%"}, "mean", {"sft": 10.0, "opd": 1.0, "rlvr": 0.5}),
    Evidence("spectral_shift", {}, "mean", {"sft": 1e-3, "opd": 1e-4, "rlvr": 1e-5}),
)


@dataclass(frozen=True)
class Classification:
    """How far a run is from each profile, in decades: the mean of ``|log10(figure / profile)|``.

    Attributes:
        figures: the run's folded figure per diagnostic.
        distances: per regime, nearest first.
    """

    figures: Mapping[str, float]
    distances: Mapping[str, float]

    @property
    def nearest(self) -> str:
        """The regime with the nearest profile."""
        return next(iter(self.distances))

    @property
    def runner_up(self) -> str:
        """The regime with the second nearest profile."""
        return list(self.distances)[1]

    @property
    def name(self) -> str | None:
        """The regime, or None where the run is farther than FARTHEST from all."""
        return self.nearest if self.distances[self.nearest] <= FARTHEST else None

    @property
    def margin(self) -> float:
        """Decades between the nearest profile and the runner-up; 0 where all are infinitely far."""
        margin = self.distances[self.runner_up] - self.distances[self.nearest]
        return margin if math.isfinite(margin) else 0.0

    def describe(self) -> str:
        """The result and its evidence in one sentence."""
        distance = self.distances[self.nearest]
        if self.name is None:
            result = f"outside all profiles (nearest {self.nearest}, {distance:.2f} decades away, limit {FARTHEST:g})"
        else:
            result = (
                f"{self.name} ({distance:.2f} decades from its profile, margin {self.margin:.2f} over {self.runner_up})"
            )
        shown = (
            f"{e.metric} {e.show(self.figures[e.metric])} ({self.nearest}: {e.show(e.profile[self.nearest])})"
            for e in EVIDENCE
        )
        return f"{result}; {', '.join(shown)}"


def classify(figures: Mapping[str, float]) -> Classification:
    """Compare folded figures, one per diagnostic of EVIDENCE (angles in degrees), with the profiles.

    A figure that is zero or not finite is infinitely far from every profile.
    """
    distances = {
        regime: math.fsum(_decades(figures[e.metric], e.profile[regime]) for e in EVIDENCE) / len(EVIDENCE)
        for regime in REGIMES
    }
    return Classification(dict(figures), dict(sorted(distances.items(), key=lambda item: item[1])))


def _decades(figure: float, published: float) -> float:
    if not (math.isfinite(figure) and figure > 0):
        return math.inf
    return abs(math.log10(figure / published))
