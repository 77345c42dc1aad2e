"""A band that figures lie in or out of, and how far."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geomcheck.suite.conditions.limits import span
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance
from geomcheck.suite.verdict import Bounds, Side

Offence = tuple[bool, float]
"""Whether something is on the wrong side of a condition, and how far; the larger, the worse."""


@dataclass(frozen=True)
class Band:
    """A figure lies between two bounds, or strictly between them. What is not finite lies in no band.

    Attributes:
        text: for people, with `value` standing for the figure.
        low, high: infinite where there is no bound.
        strict: whether the bounds themselves are outside.
        scale: how figures are shown next to the text.
        derived: whether the bounds are what a tolerance leaves of a figure, and not written.
    """

    text: str
    low: float
    high: float
    strict: bool
    scale: Scale
    derived: bool = False

    @property
    def bounds(self) -> Bounds:
        """The bounds, None where there is none."""
        low, high = self.low, self.high
        return low if math.isfinite(low) else None, high if math.isfinite(high) else None

    def holds(self, value: float) -> bool:
        """Whether `value` is inside; False for NaN and infinities."""
        if not math.isfinite(value):
            return False
        return self.low < value < self.high if self.strict else self.low <= value <= self.high

    def violation(self, value: float) -> float:
        """How far `value` is outside (positive), or inside, as a negative distance to the nearest bound."""
        return max(self.low - value, value - self.high) if math.isfinite(value) else math.inf

    def offence(self, value: float) -> Offence:
        """Whether `value` is on the wrong side, and how far."""
        return not self.holds(value), self.violation(value)

    def relative_offence(self, value: float) -> Offence:
        """Whether `value` is on the wrong side, and how far in widths of the band, to compare several bands."""
        width = self.high - self.low
        wrong, far = self.offence(value)
        return wrong, far / width if width > 0 and math.isfinite(far) else far

    def side(self, value: float) -> Side | None:
        """On which side of the bounds a figure that violates them is; None of one that is no number."""
        if not math.isfinite(value):
            return None
        return "above" if value >= self.high else "below"

    def fault(self, low: float, high: float) -> str | None:
        """Why this band says nothing about figures from `low` to `high` (closed), or None."""
        if self._vacuous(low, high):
            return f"cannot fail: {span(low, high, self.scale)}"
        if self.low > self.high or (self.strict and self.low == self.high):
            return "can never hold: the lower bound is above the upper one"
        if self._impossible(low, high):
            return f"can never hold: {span(low, high, self.scale)}"
        return None

    def slack(self, low: float, high: float) -> str | None:
        """Which of the bounds that a suite writes no figure from `low` to `high` reaches, in a sentence; or None."""
        idle = []
        if not self.derived and math.isfinite(self.low) and self.low < low:
            idle.append(f"the lower bound {self.scale.show(self.low, 10)}")
        if not self.derived and math.isfinite(self.high) and self.high > high:
            idle.append(f"the upper bound {self.scale.show(self.high, 10)}")
        return f"{' and '.join(idle)} cannot fail: {span(low, high, self.scale)}" if idle else None

    def _vacuous(self, low: float, high: float) -> bool:
        if self.strict:
            return self.low < low and (self.high > high or self.high == math.inf)
        return self.low <= low and self.high >= high

    def _impossible(self, low: float, high: float) -> bool:
        if self.strict:
            return self.low >= high or self.high <= low
        return self.low > high or self.high < low


def within(low: Quantity, high: Quantity, scale: Scale) -> Band:
    """``low <= value <= high``."""
    text = f"{scale.show(low.value, 10)} <= value <= {scale.show(high.value, 10)}"
    return Band(text, low.value, high.value, strict=False, scale=scale)


def bounds(above: Quantity | None, below: Quantity | None, scale: Scale) -> Band:
    """``value > above``, ``value < below``, or both."""
    low = -math.inf if above is None else above.value
    high = math.inf if below is None else below.value
    if above is None:
        text = f"value < {scale.show(high, 10)}"
    elif below is None:
        text = f"value > {scale.show(low, 10)}"
    else:
        text = f"{scale.show(low, 10)} < value < {scale.show(high, 10)}"
    return Band(text, low, high, strict=True, scale=scale)


def near(target: Quantity, tolerance: Tolerance, scale: Scale) -> Band:
    """``|value - target| <= tolerance``."""
    amount = tolerance.around(target.value)
    of = " of it" if tolerance.relative else ""
    text = f"{scale.show(target.value, 10)} +- {scale.show_tolerance(tolerance)}{of}"
    return Band(text, target.value - amount, target.value + amount, strict=False, scale=scale, derived=True)
