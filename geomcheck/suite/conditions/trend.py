"""How a figure moves over the checkpoints: ``trend``."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Self

from geomcheck.diagnostics import Metric, Unit
from geomcheck.suite.conditions import wording
from geomcheck.suite.conditions.band import Offence
from geomcheck.suite.conditions.figure import NO_OFFENCE, Case, FigureCondition, Key, by_group, read_tolerance
from geomcheck.suite.expectation import Expectation, Finding
from geomcheck.suite.language.fields import word, word_schema
from geomcheck.suite.language.places import At
from geomcheck.suite.language.quantities import Refusal, Scale, Tolerance, flatness
from geomcheck.suite.verdict import Observed, Unanswerable

SPREAD = "(max - min) / |mean|"
"""What a flat trend bounds, as `spread` computes it."""

DIRECTIONS = {
    "rising": "Each checkpoint at least the one before, less `tolerance`, and the last above the first.",
    "falling": "Each checkpoint at most the one before, plus `tolerance`, and the last below the first.",
    "flat": f"{SPREAD} over the checkpoints is at most `tolerance`.",
}
_MEANINGS = {
    "flat": "It should have stayed level over the training, and did not.",
    "rising": "It should have risen over the training, and did not.",
    "falling": "It should have fallen over the training, and did not.",
}


@dataclass(frozen=True)
class Trend(FigureCondition):
    """A series over the checkpoints rises, falls, or stays flat, as `DIRECTIONS` defines it."""

    direction: Literal["rising", "falling", "flat"]
    tolerance: Tolerance
    scale: Scale

    keyword = "trend"
    tolerant = True
    series = True
    by_layer = False
    verbs = ("is", "is not")
    keys = (
        Key(
            "trend",
            "How the figure moves over the checkpoints.",
            read=lambda raw, _unit: word(raw, DIRECTIONS),
            schema=lambda _metric: word_schema(DIRECTIONS),
            synonyms=("direction", "monotone", "monotonic", "slope", "shape", "trajectory", "moves"),
        ),
    )

    @classmethod
    def needs_tolerance(cls, given: Mapping[str, Any]) -> bool:
        return bool(given["trend"] == "flat")

    @classmethod
    def of(cls, given: Mapping[str, Any], tolerance: Any, unit: Unit, scale: Scale) -> Self:
        direction = given["trend"]
        if direction != "flat":
            return cls(direction, Tolerance(0.0) if tolerance is None else read_tolerance(tolerance, unit), scale)
        with Refusal.at("tolerance"):
            return cls(direction, flatness(tolerance), scale)

    @property
    def percent(self) -> bool:
        return self.scale.percent

    @property
    def tolerated(self) -> Tolerance:
        return self.tolerance

    @property
    def text(self) -> str:
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

    def fault(self, low: float, high: float, count: int | None = None) -> str | None:
        """A flat trend says nothing where no figure is below 0: the spread of `count` figures goes up to `count`."""
        if count is None or self.direction != "flat" or low < 0 or self.tolerance.amount < count:
            return None
        return f"cannot fail: of {count} figures it is at most {count:.0%}"

    def contradictions(self, at: At, metric: Metric, params: Mapping[str, Any]) -> Iterable[Refusal]:
        if at.single:
            yield Refusal(f"a trend needs two checkpoints or more, and `at: {at.text}` selects one", path=("at",))
        if self.direction == "rising" and self.tolerance.relative and self.tolerance.amount > 1:
            low, _ = metric.range(params)
            if low >= 0:
                message = f"a tolerance of {self.tolerance.text} cannot fail: no figure drops by more than 100%"
                yield Refusal(message, path=("tolerance",))

    def judge_series(self, series: Sequence[float]) -> tuple[bool, ...]:
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
        return not all(self.judge_series(series)), self.violation(series)

    def decisive(self, series: Sequence[float]) -> int:
        """The index of the point that breaks the trend, or else of the last.

        A series that is not flat is broken by the point furthest from its median; of two, by the later.
        """
        marks = self.judge_series(series)
        if all(marks):
            return len(series) - 1
        if self.direction != "flat":
            return marks.index(False)
        middle = statistics.median(series)
        return max(range(len(series)), key=lambda index: (abs(series[index] - middle), index))

    def find(self, case: Case) -> Finding:
        for label, series in case.groups.items():
            if len(series) < 2:
                raise Unanswerable(
                    f"{label or 'the run'} has a figure at only one judged checkpoint (step {next(iter(series))}), "
                    "because it had not changed before: a trend needs two"
                )
        observed = tuple(
            Observed(step, label, value, holds)
            for label, series in case.groups.items()
            for (step, value), holds in zip(series.items(), self.judge_series([*series.values()]), strict=True)
        )
        label = max(case.groups, key=lambda group: self.offence([*case.groups[group].values()]))
        extreme = by_group(observed)[label][self.decisive([*case.groups[label].values()])]
        cells = case.found.cells.values()
        own = {name: [values[name] for values in cells if name in values] for name in case.found.used}
        worst = case.worst(
            extreme.step, lambda name, _value: self.offence(own[name]) if len(own[name]) > 1 else NO_OFFENCE
        )
        holds = wording.within_allowance(observed, case.expectation.allow)
        message = self._sentence(case.expectation, observed, extreme, len(case.found.used))
        return Finding(holds, message, observed, extreme, worst, meaning=_MEANINGS[self.direction])

    def broken_for_good(self, observed: Sequence[Observed], allow: float) -> bool:
        """Each group's last figure counts, and holds unless its series cannot be mended any more."""
        series = by_group(observed).values()
        last = tuple(replace(s[-1], holds=not self.broken([o.value for o in s])) for s in series)
        return not wording.within_allowance(last, allow)

    def _sentence(
        self, expectation: Expectation, observed: tuple[Observed, ...], extreme: Observed, weights: int
    ) -> str:
        """The verdict in a sentence; `extreme` is the point that breaks the trend, or the last."""
        subject = f"{wording.subject(expectation, observed)} {self.phrase}"
        if expectation.per != "run":
            subject += f" in {wording.groups(expectation, observed)}"
            if not extreme.holds:
                held = wording.within_allowance(observed, expectation.allow)
                subject += f", {'not' if held else 'as'} in {extreme.group}"
        own = [o for o in observed if o.group == extreme.group]
        return f"{subject}{self._course(own, extreme)} ({wording.how(expectation, weights)})"

    def _course(self, own: list[Observed], extreme: Observed) -> str:
        """The course of one group's figures, as far as it shows why the condition holds or not."""
        values = [o.value for o in own]
        show = self.scale.show
        if self.direction == "flat":
            low, high = show(min(values)), show(max(values))
            return f": {SPREAD} is {spread(values) * 100:.4g}%, with {low} to {high} at {len(own)} checkpoints"
        here, upward = own.index(extreme), self._upward(values)
        unmoved = here == len(own) - 1 and not upward[-1] > upward[0]
        if extreme.holds or unmoved:
            return f": {show(values[0])} at step {own[0].step}, {show(values[-1])} at step {own[-1].step}"
        return f" at step {extreme.step}: {show(values[here])} after {show(values[here - 1])}"

    def _upward(self, series: Sequence[float]) -> list[float]:
        return [value if self.direction == "rising" else -value for value in series]


def spread(series: Sequence[float]) -> float:
    """``(max - min) / |mean|``; 0 for a constant series, infinite around a zero mean or for NaN."""
    if not all(math.isfinite(value) for value in series):
        return math.inf
    width = max(series) - min(series)
    mean = math.fsum(value / len(series) for value in series)
    if width == 0:
        return 0.0
    return width / abs(mean) if mean else math.inf
