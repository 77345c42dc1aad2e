"""What a suite may demand of a figure. A value that is not finite never satisfies anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from geomcheck.suite.conditions.band import Band, Bands, Offence, near
from geomcheck.suite.conditions.profile import Profile
from geomcheck.suite.conditions.sufficiency import Sufficiency
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance

KINDS = {
    "within": "within",
    "bands": "bands",
    "above": "bounds",
    "below": "bounds",
    "near": "near",
    "trend": "trend",
    "like": "like",
    "unlike": "unlike",
    "regime": "regime",
}
"""The keys that are conditions, by the condition they belong to: `above` and `below` may be combined."""

TOLERANT = ("near", "trend", "like", "unlike")


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

    def is_idle(self, low: float, count: int) -> bool:
        """Whether any `count` figures, none below `low`, are as demanded: their spread goes up to their number."""
        return self.direction == "flat" and low >= 0 and self.tolerance.amount >= count

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

    def broken(self, series: Sequence[float]) -> bool:
        """Whether no continuation of the series can be as demanded: it has gone back by more than the tolerance.

        A series that is not flat may still become so, as its mean grows.
        """
        if self.direction == "flat":
            return False
        upward = self._upward(series)
        return not all(before - after <= self.tolerance.around(before) for before, after in pairwise(upward))

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
    """A figure is close to the reference run's at matching progress; or, with `unlike`, it is not."""

    tolerance: Tolerance
    scale: Scale
    unlike: bool = False

    @property
    def text(self) -> str:
        """The condition for people."""
        return f"{'outside ' if self.unlike else ''}reference +- {self.scale.show_tolerance(self.tolerance)}"

    def around(self, reference: float) -> Band:
        """The band around the reference's figure."""
        return near(Quantity(reference), self.tolerance, self.scale)

    def offence(self, value: float, reference: float) -> Offence:
        """Whether `value` is on the wrong side, and how far; what is not finite is on the wrong side of both."""
        wrong, far = self.around(reference).offence(value)
        if not self.unlike:
            return wrong, far
        finite = math.isfinite(value) and math.isfinite(reference)
        return not (wrong and finite), -far if finite else math.inf

    def fault(self, low: float, high: float) -> str | None:
        """Why this condition says nothing about figures from `low` to `high`, or None."""
        if self.unlike:
            if self.tolerance.amount == 0:
                return "hardly can fail: any difference satisfies it; give a tolerance above 0"
            covers = not self.tolerance.relative and self.tolerance.amount >= high - low
            return "can never hold: the tolerance covers the whole range of the figure" if covers else None
        if not self.tolerance.relative and self.tolerance.amount >= high - low:
            return "cannot fail: the tolerance covers the whole range of the figure"
        return None


@dataclass(frozen=True)
class Regime:
    """The run is classified as `name`, one of `profiles`."""

    name: str
    profiles: tuple[Profile, ...]

    @property
    def text(self) -> str:
        """The condition for people."""
        (reach,) = (profile.reach for profile in self.profiles if profile.name == self.name)
        return f"regime is {self.name} (at most {reach:.2g} decades from its profile)"


Condition = Band | Bands | Trend | Like | Regime | Sufficiency

SPREAD = "(max - min) / |mean|"
"""What a flat trend bounds, as `spread` computes it."""


def spread(series: Sequence[float]) -> float:
    """``(max - min) / |mean|``; 0 for a constant series, infinite around a zero mean or for NaN."""
    if not all(math.isfinite(value) for value in series):
        return math.inf
    width = max(series) - min(series)
    mean = math.fsum(value / len(series) for value in series)
    if width == 0:
        return 0.0
    return width / abs(mean) if mean else math.inf
