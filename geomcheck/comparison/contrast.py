"""What a comparison of two runs came to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from geomcheck.diagnostics import Metric


@dataclass(frozen=True)
class Pair:
    """A figure of both runs at checkpoints of matching progress, folded over weights.

    Attributes:
        step, other_step: of the first and the second run.
        progress: of the first run's checkpoint.
        ours, theirs: the first and the second run's figure, in the metric's unit.
    """

    step: int
    other_step: int
    progress: float
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """The second run's figure minus the first's."""
        return self.theirs - self.ours

    @property
    def relative(self) -> float:
        """The difference as a share of the first run's figure; 0 between equals, infinite above a zero."""
        if self.difference == 0:
            return 0.0
        return self.difference / abs(self.ours) if self.ours else math.copysign(math.inf, self.difference)

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins."""
        relative = self.relative if math.isfinite(self.relative) else None
        facts = {"step": self.step, "other_step": self.other_step, "progress": self.progress}
        return facts | {"a": self.ours, "b": self.theirs, "difference": self.difference, "relative": relative}


@dataclass(frozen=True)
class MetricPairs:
    """One metric at every pair of checkpoints, in the order of training."""

    metric: Metric
    params: Mapping[str, Any]
    pairs: tuple[Pair, ...]

    @property
    def widest(self) -> Pair:
        """The pair with the largest relative difference; of several, the first."""
        return max(self.pairs, key=lambda pair: abs(pair.relative))


@dataclass(frozen=True)
class LayerPair:
    """How far a layer moved in both runs at the last matching checkpoints: mean relative update norm."""

    layer: str
    ours: float
    theirs: float

    @property
    def ratio(self) -> float:
        """The second run's over the first's: 1 between equals, infinite over zero."""
        if self.ours == self.theirs:
            return 1.0
        return self.theirs / self.ours if self.ours else math.inf

    @property
    def contrast(self) -> float:
        """``|log(ratio)|``: infinite where one run alone left the layer as it was."""
        return abs(math.log(self.ratio)) if 0 < self.ratio < math.inf else math.inf


@dataclass(frozen=True)
class Shared:
    """What the two updates have in common at one pair of checkpoints, beside what chance gives, if that is known."""

    metric: Metric
    step: int
    value: float
    chance: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs of one model, `a` and `b`.

    Attributes:
        rows: metrics that both have.
        layers: the layers whose update norms differ most, first.
        shared: overlap of the updates; empty where it cannot be told.
        unanswered: (what, why) of everything that could not be compared.
        notes: what a reader should know before the figures.
    """

    a: str
    b: str
    rows: tuple[MetricPairs, ...]
    layers: tuple[LayerPair, ...]
    shared: tuple[Shared, ...]
    unanswered: tuple[tuple[str, str], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """In plain builtins; differences are `b` minus `a`, relative ones null where `a` is zero."""
        return {
            "format": 1,
            "a": self.a,
            "b": self.b,
            "metrics": [
                {"metric": row.metric.name, "params": dict(row.params), "pairs": [pair.to_dict() for pair in row.pairs]}
                for row in self.rows
            ],
            "layers": [{"layer": pair.layer, "a": pair.ours, "b": pair.theirs} for pair in self.layers],
            "shared": [
                {"metric": shared.metric.name, "step": shared.step, "value": shared.value, "chance": shared.chance}
                for shared in self.shared
            ],
            "notes": list(self.notes),
            "unanswered": [{"what": what, "why": why} for what, why in self.unanswered],
        }
