"""How good runs of a recipe scatter, measured over many recipes: what few runs of a new one are read with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("noise.json")


@dataclass(frozen=True)
class Noise:
    """How good runs of a recipe scatter around their mean, by metric.

    Scatter is relative (`Trajectory.scales`). The variance of a figure is that of its metric, times those factors of
    the recipe, of the metric in this recipe and of the checkpoint in this trajectory that `between_*` tell of.

    Attributes:
        version: of the measurement; bands of different versions are different bands.
        source: the recipes and numbers of runs that it is from.
        usual: by `Trajectory.called`, its usual relative standard deviation at the end of a training.
        slope: the power of the progress with which that changes along a training.
        between_recipes, between_metrics, between_checkpoints: variances of log sigma^2: over recipes, over the metrics
            of a recipe, over the checkpoints of a metric.
        independent: as many independent metrics tell as much of a recipe as all its metrics do.
        decay: good runs drift apart; deviations at progress p < q correlate as ``(p / q)^decay`` (1/2: a random walk).
    """

    version: int
    source: str
    usual: Mapping[str, float]
    slope: float
    between_recipes: float
    between_metrics: float
    between_checkpoints: float
    independent: float
    decay: float

    def sd(self, called: str, progress: float) -> float:
        """The usual relative standard deviation at a progress of 0..1; of what was not measured, the typical one."""
        typical = math.exp(sum(map(math.log, self.usual.values())) / len(self.usual))
        return self.usual.get(called, typical) * progress**self.slope


@cache
def shipped() -> Noise:
    """The noise that is measured by ``python -m fixtures.repeatability``."""
    return Noise(**json.loads(FILE.read_text(encoding="utf-8")))
