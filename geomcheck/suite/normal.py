"""What is normal for each weight by itself, as good runs had it: calibrated suites carry it under ``normal``.

A suite's bands are of folded figures. Single weights lie far from their mean, and each repeats closely from run to run,
so that a weight is held against its own figures. Nothing is judged by it: it tells where in a run that failed to look.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from geomcheck.diagnostics import Unit
from geomcheck.record import Point, locate
from geomcheck.suite.language.places import Place, parse_short
from geomcheck.suite.language.quantities import Refusal, quantity, spelled

EXAMPLE = "within 30 3.4%, 60 2.8%\nmodel.layers.0.self_attn.q_proj.weight 0.0123 0.0245\n"
WITHIN, NONE = "within", "-"
LONGEST = 32
"""Characters of a number."""


@dataclass(frozen=True)
class Normal:
    """Of one expectation: the mean figure of each weight over good runs, and how far from it a weight may be.

    Attributes:
        within: by checkpoint, the relative distance up to which a weight is as it should be, above 0.
        means: by weight, one at each of these checkpoints; NaN where there is none.
    """

    within: Mapping[Place, float]
    means: Mapping[str, tuple[float, ...]]

    def at(self, step: int, points: Sequence[Point]) -> dict[str, tuple[float, float]]:
        """The normal range of each weight at a step of a run with these checkpoints; empty where none is known."""
        for index, (place, share) in enumerate(self.within.items()):
            found = locate(points, place.canonical, 0)
            if found is not None and points[found].step == step:
                means = {name: figures[index] for name, figures in self.means.items()}
                return {n: (m - share * abs(m), m + share * abs(m)) for n, m in means.items() if math.isfinite(m)}
        return {}

    @property
    def text(self) -> str:
        """As `parse` reads it: shares rounded up, means to four digits."""
        shares = [f"{place.short} {_percent(share)}" for place, share in self.within.items()]
        rows = [
            " ".join([name, *(f"{mean:.4g}" if math.isfinite(mean) else NONE for mean in means)])
            for name, means in self.means.items()
        ]
        return "\n".join([f"{WITHIN} {', '.join(shares)}", *rows, ""])

    @classmethod
    def parse(cls, raw: Any) -> Normal:
        """From the text of a suite. Raises Refusal."""
        if not isinstance(raw, str):
            raise Refusal(f"expected the lines that `geomcheck calibrate` writes; found {spelled(raw)}")
        first, *rows = raw.splitlines() or [""]
        within: dict[Place, float] = {}
        for entry in first.removeprefix(WITHIN).split(","):
            place, _, share = entry.strip().partition(" ")
            if not first.startswith(WITHIN) or not 0 < len(place) < LONGEST or not 0 < len(share) < LONGEST:
                raise Refusal(f"line 1 is `within CHECKPOINT SHARE, ...`, such as `{EXAMPLE.splitlines()[0]}`")
            within[parse_short(place)] = quantity(share.strip(), Unit.FRACTION).value
        means = {}
        for number, row in enumerate(rows, start=2):
            name, *figures = row.split() or [""]
            if len(figures) != len(within):
                raise Refusal(f"line {number} has {len(figures)} figures after the weight, and line 1 {len(within)}")
            means[name] = tuple(_number(figure, number) for figure in figures)
        return cls(within, means)


def _number(text: str, line: int) -> float:
    try:
        number = math.nan if text == NONE else float(text)
        if len(text) <= LONGEST and (text == NONE or math.isfinite(number)):
            return number
    except ValueError:
        pass
    raise Refusal(f"line {line}: {spelled(text[:LONGEST])} is no number")


def _percent(share: float) -> str:
    return f"{math.ceil(share * 1e4) / 100:g}%"
