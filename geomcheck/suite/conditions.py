"""What a suite may demand of a figure. A value that is not finite never satisfies anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from geomcheck.suite.quantities import Quantity, Scale, Tolerance
from geomcheck.suite.regimes import FARTHEST

KINDS = {
    "within": "within",
    "above": "bounds",
    "below": "bounds",
    "near": "near",
    "trend": "trend",
    "like": "like",
    "regime": "regime",
}
"""The keys that are conditions, by the condition they belong to: `above` and `below` may be combined."""

TOLERANT = ("near", "trend", "like")

Offence = tuple[bool, float]
"""Whether something is on the wrong side of a condition, and how far; the larger, the worse."""


@dataclass(frozen=True)
class Band:
    """A figure lies between two bounds (``within``, ``near``), or strictly between (``above``, ``below``).

    Attributes:
        text: for people, with `value` standing for the figure.
        low, high: infinite where there is no bound.
        strict: whether the bounds themselves are outside.
        scale: how figures are shown next to the text.
    """

    text: str
    low: float
    high: float
    strict: bool
    scale: Scale

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

    def fault(self, low: float, high: float) -> str | None:
        """Why this band says nothing about figures from `low` to `high` (closed), or None."""
        span = f"{self.scale.show(low)} <= value"
        if math.isfinite(high):
            span += f" <= {self.scale.show(high)}"
        if self._vacuous(low, high):
            return f"cannot fail: every figure has {span}"
        if self.low > self.high or (self.strict and self.low == self.high):
            return "can never hold: the lower bound is above the upper one"
        if self._impossible(low, high):
            return f"can never hold: every figure has {span}"
        return None

    def _vacuous(self, low: float, high: float) -> bool:
        if self.strict:
            return self.low < low and (self.high > high or self.high == math.inf)
        return self.low <= low and self.high >= high

    def _impossible(self, low: float, high: float) -> bool:
        if self.strict:
            return self.low >= high or self.high <= low
        return self.low > high or self.high < low


@dataclass(frozen=True)
class Trend:
    """A series over the checkpoints rises, falls, or stays flat.

    Rising: every figure is at least the previous one minus the tolerance, and the last is above the first.
    Falling mirrors it. Flat: ``(max - min) / |mean|`` is at most the tolerance.
    """

    direction: Literal["rising", "falling", "flat"]
    tolerance: Tolerance
    scale: Scale

    @property
    def text(self) -> str:
        """The condition for people."""
        return f"{self.phrase}: {SPREAD}" if self.direction == "flat" else self.phrase

    @property
    def phrase(self) -> str:
        """The condition within a sentence."""
        amount = self.scale.show_tolerance(self.tolerance)
        if self.direction == "flat":
            return f"flat within {amount}"
        if self.tolerance.amount == 0:
            return self.direction
        steps_back = "drops" if self.direction == "rising" else "rises"
        return f"{self.direction} ({steps_back} up to {amount} tolerated)"

    def judge(self, series: Sequence[float]) -> tuple[bool, ...]:
        """Which points of the series are as demanded; the series holds when all are."""
        if self.direction == "flat":
            return (spread(series) <= self.tolerance.amount,) * len(series)
        upward = self._upward(series)
        marks = [math.isfinite(upward[0])]
        for before, after in pairwise(upward):
            drop = before - after
            marks.append(math.isfinite(drop) and drop <= self.tolerance.around(before))
        if not upward[-1] > upward[0]:
            marks[-1] = False
        return tuple(marks)

    def violation(self, series: Sequence[float]) -> float:
        """How far the series is from what is demanded: positive on the wrong side."""
        if self.direction == "flat":
            return spread(series) - self.tolerance.amount
        upward = self._upward(series)
        drops = [a - b - self.tolerance.around(a) for a, b in pairwise(upward)]
        return max([*drops, upward[0] - upward[-1]])

    def offence(self, series: Sequence[float]) -> Offence:
        """Whether the series is not as demanded, and how far from it."""
        return not all(self.judge(series)), self.violation(series)

    def decisive(self, series: Sequence[float]) -> int:
        """The index of the point that breaks the trend, or else of the last.

        A series that is not flat is broken by the point furthest from its median; of two, by the later.
        """
        marks = self.judge(series)
        if all(marks):
            return len(series) - 1
        if self.direction != "flat":
            return marks.index(False)
        middle = statistics.median(series)
        return max(range(len(series)), key=lambda index: (abs(series[index] - middle), index))

    def _upward(self, series: Sequence[float]) -> list[float]:
        return [value if self.direction == "rising" else -value for value in series]


@dataclass(frozen=True)
class Like:
    """A figure is close to the reference run's at matching progress."""

    tolerance: Tolerance
    scale: Scale

    @property
    def text(self) -> str:
        """The condition for people."""
        return f"reference +- {self.scale.show_tolerance(self.tolerance)}"

    def around(self, reference: float) -> Band:
        """The band around the reference's figure."""
        return near(Quantity(reference), self.tolerance, self.scale)

    def fault(self, low: float, high: float) -> str | None:
        """Why this condition says nothing about figures from `low` to `high`, or None."""
        if not self.tolerance.relative and self.tolerance.amount >= high - low:
            return "cannot fail: the tolerance covers the whole range of the figure"
        return None


@dataclass(frozen=True)
class Regime:
    """The run is classified as `name`."""

    name: str

    @property
    def text(self) -> str:
        """The condition for people."""
        return f"regime is {self.name} (at most {FARTHEST:g} decades from its profile)"


Condition = Band | Trend | Like | Regime

SPREAD = "(max - min) / |mean|"
"""What a flat trend bounds, as `spread` computes it."""


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
    return Band(text, target.value - amount, target.value + amount, strict=False, scale=scale)


def spread(series: Sequence[float]) -> float:
    """``(max - min) / |mean|``; 0 for a constant series, infinite around a zero mean or for NaN."""
    if not all(math.isfinite(value) for value in series):
        return math.inf
    width = max(series) - min(series)
    mean = math.fsum(value / len(series) for value in series)
    if width == 0:
        return 0.0
    return width / abs(mean) if mean else math.inf
