"""Axes: from figures to places on a drawing, and round numbers to label."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

WIDE = 20.0
"""Ratio of the largest to the smallest figure above which an axis is logarithmic."""

WIDEST = 1e9
"""Ratio above which the smallest is what rounding left of 0."""

HUGE = 1e150
"""Figures beyond it, and their inverses, are drawn at the edge."""


@dataclass(frozen=True)
class Axis:
    """An interval of figures mapped onto an interval of pixels, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where `value` is drawn, clamped to the drawing."""
        value = min(max(value, self.low), self.high)
        low, high = self._position(self.low), self._position(self.high)
        share = (self._position(value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, count: int = 6) -> list[float]:
        """Round numbers on the axis, about `count`."""
        return _log_ticks(self.low, self.high, count) if self.log else _linear_ticks(self.low, self.high, count)

    def _position(self, value: float) -> float:
        return math.log10(value) if self.log else value


def spanning(
    values: Iterable[float],
    *,
    along: tuple[float, float],
    floor: float | None = None,
    ceiling: float | None = None,
    log: bool | None = None,
) -> Axis:
    """An axis that shows all `values` with a margin.

    Args:
        along: the pixels where it starts and ends.
        floor, ceiling: where figures of this kind end; the margin does not go beyond.
        log: whether it is logarithmic; by default where the values are positive and span more than WIDE, up to WIDEST.
    """
    known = [min(max(value, -HUGE), HUGE) for value in values if not math.isnan(value)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if high - low < 1 / HUGE and max(abs(low), abs(high)) < 1 / HUGE:
        low = high = 0.0  # too small to place on an axis
    if low > 1 / HUGE and (log or (log is None and WIDE < high / low < WIDEST)):
        margin = max((high / low) ** 0.08, 1.12)
        return Axis(low / margin, high * margin, *along, log=True)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    low = low - margin if floor is None else max(low - margin, floor)
    high = high + margin if ceiling is None else min(high + margin, ceiling)
    return Axis(low, high, *along) if high > low else Axis(low - 0.5, high + 0.5, *along)


def _linear_ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next((m * magnitude for m in (1, 2, 2.5, 5) if m * magnitude >= raw), 10 * magnitude)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def _log_ticks(low: float, high: float, count: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        ticks = [m * 10.0**d for d in decades for m in multiples if low <= m * 10.0**d <= high]
        if len(ticks) >= 3:
            return ticks[:: math.ceil(len(ticks) / (count + 2))]
    return [low * (high / low) ** share for share in (0.1, 0.5, 0.9)]
