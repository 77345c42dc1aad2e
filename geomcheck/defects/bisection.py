"""The smallest change of a kind that a suite notices, by bisection."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from geomcheck.defects.bench import Bench
from geomcheck.defects.catalogue import FACTORS, noise, scaling, stale
from geomcheck.defects.defect import NotApplicable, Spoiling, Subject
from geomcheck.defects.noticed import Notice, notice
from geomcheck.defects.result import Kinds, Threshold

UP = tuple(1 + k / 100 for k in (*range(1, 101), *range(125, 701, 25)))
DOWN = tuple(1 - k / 100 for k in range(1, 101))
NOISE = tuple(k / 100 for k in (1, 2, 3, 4, 5, 7, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 150, 200, 300, 500))
"""What is tried, the smallest change first, to find the smallest that is noticed."""


@dataclass(frozen=True)
class Kind:
    """One kind of change, in values that go from the smallest change to the largest."""

    bench: Bench
    kind: Kinds
    values: Sequence[float]
    spoil: Callable[[float, Subject], Spoiling]
    first: Sequence[float] = ()

    def spoiling(self, value: float) -> Spoiling:
        """The change of this value."""
        return self.bench.spoiling(partial(self.spoil, value))

    def expected(self) -> list[float]:
        """As many values as are likely to be tried."""
        count = math.ceil(math.log2(len(self.values) + 1))
        return list(self.values[-count:])

    def threshold(self) -> Threshold:
        """By bisection, as if whatever is larger than what is noticed is noticed too; values that are known anyway
        first."""
        seen: dict[int, Notice | None] = {}

        def catches(at: int) -> bool:
            found = notice(self.bench.judge(self.spoiling(self.values[at])), self.bench.record.points)
            seen[at] = found
            return found is not None

        low, high = -1, len(self.values)
        for value in self.first:
            at = min(range(len(self.values)), key=lambda i: abs(self.values[i] - value))
            if low < at < high:
                low, high = (low, at) if catches(at) else (at, high)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if catches(middle) else (middle, high)
        return Threshold(
            self.kind,
            self.values[high] if high < len(self.values) else None,
            self.values[low] if low >= 0 else None,
            self.values[-1],
            last.failed[0] if (last := seen.get(high)) and last.failed else "",
        )


def kinds_of(bench: Bench) -> Iterator[Kind]:
    """The kinds of changes of which the smallest that is noticed is looked for, as far as the run allows them."""
    matrices = _count(bench)
    factors = sorted(FACTORS, key=lambda factor: abs(math.log(factor)))
    kinds = [
        Kind(bench, "scale-up", UP, scaling, [f for f in factors if f > 1]),
        Kind(bench, "scale-down", DOWN, scaling, [f for f in factors if f < 1]),
        Kind(bench, "noise", NOISE, noise, [0.5]),
        Kind(bench, "stale", range(1, matrices + 1), lambda count, run: stale(int(count), run), [1]),
    ]
    for kind in kinds:
        try:
            if kind.values:
                kind.spoiling(kind.values[0])
                yield kind
        except NotApplicable:
            continue


def _count(bench: Bench) -> int:
    try:
        return len(bench.subject.matrices)
    except NotApplicable:
        return 0
