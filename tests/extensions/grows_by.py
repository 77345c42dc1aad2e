"""A condition keyword from outside, in one module: the last figure is at least so many times the first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions import FigureCondition, Key
from geomcheck.suite.conditions.figure import Case
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.quantities import Refusal, Scale
from geomcheck.suite.verdict import Observed, Unanswerable


def _factor(raw: Any, unit: Unit) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Refusal("expected a factor such as `1.5`")
    return float(raw)


@dataclass(frozen=True)
class GrowsBy(FigureCondition):
    """The last figure is at least `factor` times the first."""

    factor: float
    scale: Scale

    keyword = "grows_by"
    series = True
    by_layer = False
    keys = (
        Key(
            name="grows_by",
            about="The last figure is at least so many times the first.",
            read=_factor,
            schema=lambda _metric: {"type": "number", "minimum": 0, "examples": [1.5]},
        ),
    )

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(given["grows_by"], scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def text(self) -> str:
        return f"grows by {self.factor:g}"

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        return "cannot fail: no figure is negative" if self.factor <= 0 and low >= 0 else None

    def find(self, case: Case) -> Finding:
        (series,) = case.groups.values()
        if len(series) < 2:
            raise Unanswerable("growth needs two checkpoints")
        (_, start), *_, (end, value) = series.items()
        grown = value / start if start else math.inf
        observed = tuple(
            Observed(step, None, figure, step != end or grown >= self.factor) for step, figure in series.items()
        )
        holds = grown >= self.factor
        message = f"{case.expectation.metric} {'grew' if holds else 'grew only'} by {grown:.3g}, asked {self.factor:g}"
        worst = case.worst(end, lambda _name, figure: (False, -figure))
        return Finding(holds, message, observed, observed[-1], worst, meaning="It should have grown, and did not.")

    def broken_for_good(self, observed: Any, allow: float) -> bool:
        return False
