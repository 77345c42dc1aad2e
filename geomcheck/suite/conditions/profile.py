"""Which training method a run looks like: the nearest of several profiles.

The built-in profiles are of one paper and one model (arXiv 2606.07082, Qwen3-8B on mathematics). On other models the
order of the methods is known to differ, so a classification by them is a comparison with that model, not a law; take
profiles from your own runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geomcheck.diagnostics import Fold, load_metrics
from geomcheck.diagnostics.drift import SPECTRAL_SHIFT
from geomcheck.diagnostics.rotation import PRINCIPAL_ANGLE
from geomcheck.diagnostics.support import UPDATE_SUPPORT
from geomcheck.record.request import Request
from geomcheck.suite.language.quantities import Scale

FARTHEST = 0.5
"""Decades from the nearest of the paper's profiles beyond which a run is like none of them."""


@dataclass(frozen=True)
class Evidence:
    """One diagnostic of the profiles, and how it is read."""

    metric: str
    params: Mapping[str, object]
    fold: Fold

    @property
    def request(self) -> Request:
        """The measurement that this evidence needs."""
        return Request.of(load_metrics()[self.metric], self.params)

    def show(self, figure: float) -> str:
        """`figure` with its unit."""
        return Scale(load_metrics()[self.metric].unit).show(figure, 3)


EVIDENCE = (
    Evidence("update_support", {}, "weighted"),
    Evidence("principal_angle", {"k": "12.5%"}, "mean"),
    Evidence("spectral_shift", {}, "mean"),
)


@dataclass(frozen=True)
class Profile:
    """What runs of one regime look like.

    Attributes:
        centres: one figure per diagnostic of EVIDENCE, above 0 (angles in degrees).
        reach: decades from the centres within which a run is like this regime.
        about: where the figures come from.
    """

    name: str
    centres: Mapping[str, float]
    reach: float = FARTHEST
    about: str = ""

    def distance(self, figures: Mapping[str, float]) -> float:
        """Decades between `figures` and the centres: the mean of ``|log10(figure / centre)|``.

        Infinite where a figure is zero or not finite.
        """
        return math.fsum(decades(figures[e.metric], self.centres[e.metric]) for e in EVIDENCE) / len(EVIDENCE)


def _published(regime: str) -> Profile:
    """What the declarations of the metrics say that the paper reports of `regime`."""
    metrics = (UPDATE_SUPPORT, PRINCIPAL_ANGLE, SPECTRAL_SHIFT)
    centres = {metric.name: p.low for metric in metrics for p in metric.levels if p.regime == regime}
    return Profile(regime, centres, about="Qwen3-8B on mathematics, arXiv 2606.07082")


PAPER = tuple(map(_published, ("sft", "opd", "rlvr")))


@dataclass(frozen=True)
class Classification:
    """How far a run is from each profile, in decades.

    Attributes:
        figures: the run's folded figure per diagnostic.
        ranking: (profile, distance), nearest first.
    """

    figures: Mapping[str, float]
    ranking: tuple[tuple[Profile, float], ...]

    @property
    def nearest(self) -> Profile:
        """The nearest profile."""
        return self.ranking[0][0]

    @property
    def distances(self) -> Mapping[str, float]:
        """Decades by regime, nearest first."""
        return {profile.name: distance for profile, distance in self.ranking}

    @property
    def name(self) -> str | None:
        """The regime, or None where the run is beyond the reach of the nearest profile."""
        profile, distance = self.ranking[0]
        return profile.name if distance <= profile.reach else None

    @property
    def margin(self) -> float:
        """Decades between the nearest profile and the next; 0 where all are infinitely far, or there is only one."""
        first, *others = (distance for _, distance in self.ranking)
        margin = others[0] - first if others else 0.0
        return margin if math.isfinite(margin) else 0.0

    @property
    def result(self) -> str:
        """The result in words."""
        profile, distance = self.ranking[0]
        if self.name is None:
            where = f"nearest {profile.name}, {distance:.2f} decades away, limit {profile.reach:.2g}"
            return f"outside all profiles ({where})"
        over = f", margin {self.margin:.2f} over {self.ranking[1][0].name}" if len(self.ranking) > 1 else ""
        return f"{self.name} ({distance:.2f} decades from its profile{over})"

    def describe(self) -> str:
        """The result and its evidence in one sentence."""
        profile = self.nearest
        shown = (
            f"{e.metric} {e.show(self.figures[e.metric])} ({profile.name}: {e.show(profile.centres[e.metric])})"
            for e in EVIDENCE
        )
        return f"{self.result}; {', '.join(shown)}"


def classify(figures: Mapping[str, float], profiles: Sequence[Profile] = PAPER) -> Classification:
    """Compare folded figures, one per diagnostic of EVIDENCE (angles in degrees), with `profiles`."""
    ranking = sorted(((profile, profile.distance(figures)) for profile in profiles), key=lambda pair: pair[1])
    return Classification(dict(figures), tuple(ranking))


def decades(figure: float, centre: float) -> float:
    """``|log10(figure / centre)|``; infinite where `figure` is not above 0 or not finite."""
    if not (math.isfinite(figure) and figure > 0):
        return math.inf
    return abs(math.log10(figure / centre))
