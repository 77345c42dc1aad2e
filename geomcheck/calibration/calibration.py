"""What a calibration came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomcheck.calibration.statistics import BandRule, Spread
from geomcheck.diagnostics import Metric
from geomcheck.files import replacing
from geomcheck.suite.language.places import Place
from geomcheck.suite.language.selection import Selection


@dataclass(frozen=True)
class PlacedBand:
    """The band of one metric at one checkpoint, in the metric's unit (degrees for angles), within its range."""

    place: Place
    low: float
    high: float
    spread: Spread


@dataclass(frozen=True)
class Calibrated:
    """A metric with its bands, in the order of training."""

    metric: Metric
    params: Mapping[str, Any]
    bands: tuple[PlacedBand, ...]


@dataclass(frozen=True)
class Omitted:
    """A metric that the suite does not hold, and why."""

    metric: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Bands for the next run of a recipe.

    Attributes:
        name: of the suite.
        runs: name and content of the runs, in the order given.
        base: content of W0; empty where the runs started from different weights.
        weights: the weights that figures are folded over, and their number.
        storage: formats of W0 and of the runs; empty where weights differ in them.
        applies_to: patterns of run names; empty for all.
        expectations: one per metric.
        left_out: metrics without an expectation.
        warnings: what makes the bands less trustworthy than they look.
    """

    name: str
    applies_to: tuple[str, ...]
    runs: tuple[str, ...]
    base: str
    weights: Selection
    count: int
    storage: tuple[str, ...]
    rule: BandRule
    bands: int
    expectations: tuple[Calibrated, ...]
    left_out: tuple[Omitted, ...]
    warnings: tuple[str, ...] = ()

    def to_yaml(self) -> str:
        """The suite, with comments that say where each band comes from."""
        from geomcheck.calibration.writing import suite_text

        return suite_text(self)

    def write(self, path: str | Path) -> None:
        """Write the suite to `path`. Raises UsageError where that is not possible."""
        with replacing(Path(path)) as partial:
            partial.write_text(self.to_yaml(), encoding="utf-8")
