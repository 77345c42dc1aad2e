"""A fixed band for all checkpoints: ``within``, ``above`` and ``below``, ``near``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions.band import Band, bounds, near, within
from geomcheck.suite.conditions.figure import Case, Demanded, FigureCondition, Key, read_tolerance
from geomcheck.suite.conditions.limits import Demand
from geomcheck.suite.expectation import Finding
from geomcheck.suite.language.fields import pair_schema, quantity_schema
from geomcheck.suite.language.quantities import Scale, Tolerance, quantity, quantity_pair
from geomcheck.suite.verdict import Bounds, Observed

_BETWEEN = ("between", "range", "in", "interval", "bounds", "bound", "band", "limits", "in_range", "inside")
_MORE = (
    "min",
    "minimum",
    "more",
    "more_than",
    "greater",
    "greater_than",
    "gt",
    "ge",
    "gte",
    "at_least",
    "larger",
    "larger_than",
    "over",
    "lower",
    ">",
    ">=",
)
_LESS = (
    "max",
    "maximum",
    "less",
    "less_than",
    "lt",
    "le",
    "lte",
    "at_most",
    "smaller",
    "smaller_than",
    "under",
    "upper",
    "fewer_than",
    "<",
    "<=",
)
_EQUAL = (
    "equals",
    "equal",
    "equal_to",
    "eq",
    "is",
    "value",
    "target",
    "expected",
    "expect",
    "approx",
    "approximately",
    "close_to",
    "around",
    "=",
    "==",
)


@dataclass(frozen=True)
class InBand(FigureCondition):
    """Every figure lies in one band."""

    band: Band

    @property
    def percent(self) -> bool:
        return self.band.scale.percent

    @property
    def text(self) -> str:
        return self.band.text

    @property
    def bounds(self) -> Bounds:
        return self.band.bounds

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        return self.band.fault(low, high)

    def slack(self, low: float, high: float) -> str | None:
        return self.band.slack(low, high)

    def demanded(self, case: Case) -> Demanded:
        return lambda _step, _group: self.band

    def find(self, case: Case) -> Finding:
        band = self.band
        observed = tuple(Observed(step, group, value, band.holds(value)) for step, group, value in case.figures())
        return case.in_band(observed, max(observed, key=lambda o: band.offence(o.value)), band)


class Within(InBand):
    """``within: [low, high]``, the bounds included."""

    keyword = "within"
    keys = (Key("within", "The figure lies between two values, or on them.", quantity_pair, pair_schema, _BETWEEN),)

    @classmethod
    def demands(cls, given: Mapping[str, Any]) -> Iterable[Demand]:
        low, high = given["within"]
        return [Demand(("within", 0), low, "lower"), Demand(("within", 1), high, "upper")]

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        low, high = given["within"]
        return cls(within(low, high, scale))


class AboveBelow(InBand):
    """``above``, ``below`` or both, the bounds excluded."""

    keyword = "above"
    keys = (
        Key("above", "The figure is larger; may be combined with `below`.", quantity, quantity_schema, _MORE),
        Key(
            "below",
            "The figure is smaller; may be combined with `above`.",
            quantity,
            partial(quantity_schema, end=1),
            _LESS,
        ),
    )

    @classmethod
    def demands(cls, given: Mapping[str, Any]) -> Iterable[Demand]:
        return [Demand((key,), value, "lower" if key == "above" else "upper") for key, value in given.items()]

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        return cls(bounds(given.get("above"), given.get("below"), scale))


@dataclass(frozen=True)
class Near(InBand):
    """``near`` a value, within a tolerance. The band may go beyond the range of the figure on one side."""

    tolerance: Tolerance

    @property
    def tolerated(self) -> Tolerance:
        return self.tolerance

    keyword = "near"
    tolerant = True
    keys = (Key("near", "The figure is this, within `tolerance`.", quantity, quantity_schema, _EQUAL),)

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        amount = read_tolerance(tolerance, unit)
        return cls(near(given["near"], amount, scale), amount)
