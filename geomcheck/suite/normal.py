"""What is normal for each weight by itself, as good runs had it: calibrated suites carry it under ``normal``.

A suite's bands are of folded figures. Single weights lie far from their mean, and each repeats closely from run to run,
so that a weight is held against its own figures. It tells where in a run that failed to look, and
``normal: each weight`` judges by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geomcheck.diagnostics import Unit
from geomcheck.record import Point
from geomcheck.suite.language.places import UNKNOWN, Place, Places, Training, parse_short
from geomcheck.suite.language.quantities import Refusal, quantity, spelled

EXAMPLE = "within 30 3.4%, 60 2.8%\nmodel.layers.0.self_attn.q_proj.weight x1.3 0.0123 0.0245\n"
WITHIN, TIMES, NONE = "within", "x", "-"
LONGEST = 32
"""Characters of a number."""


@dataclass(frozen=True)
class Normal:
    """Of one expectation: the mean figure of each weight over good runs, and how far from it a weight may be.

    Attributes:
        within: by checkpoint, the relative distance up to which a weight is as it should be, above 0.
        means: by weight, one at each of these checkpoints; NaN where there is none.
        factors: of the distance, of weights that repeat less closely than others, or more; above 0, by default 1.
        training: whose steps the checkpoints are.
    """

    within: Mapping[Place, float]
    means: Mapping[str, tuple[float, ...]]
    factors: Mapping[str, float] = field(default_factory=dict)
    training: Training = field(default=UNKNOWN, compare=False)

    @property
    def places(self) -> Places:
        """The checkpoints."""
        return Places(tuple(self.within), self.training)

    @property
    def idle(self) -> str:
        """The first weight, with its checkpoint, that a figure of 0 would not leave; empty where there is none."""
        for place, share in self.within.items():
            for name in self.means:
                if share * self.factors.get(name, 1.0) >= 1:
                    return f"{name} at {place.text}"
        return ""

    def at(self, step: int, points: Sequence[Point]) -> dict[str, tuple[float, float]]:
        """The normal range of each weight at a step of a run with these checkpoints; empty where none is known."""
        located = self.places.indices(points)
        for index, (place, share) in enumerate(self.within.items()):
            found = located[place]
            if found is not None and points[found].step == step:
                means = {name: figures[index] for name, figures in self.means.items() if math.isfinite(figures[index])}
                far = {name: share * self.factors.get(name, 1.0) * abs(mean) for name, mean in means.items()}
                return {name: (_short(mean - far[name]), _short(mean + far[name])) for name, mean in means.items()}
        return {}

    @property
    def text(self) -> str:
        """As `parse` reads it: shares and factors rounded up, means to four digits."""
        shares = [f"{place.short} {_percent(share)}" for place, share in self.within.items()]
        rows = [
            " ".join([name, *self._factor(name), *(f"{mean:.4g}" if math.isfinite(mean) else NONE for mean in means)])
            for name, means in self.means.items()
        ]
        return "\n".join([f"{WITHIN} {', '.join(shares)}", *rows, ""])

    def _factor(self, name: str) -> list[str]:
        return [f"{TIMES}{math.ceil(self.factors[name] * 100) / 100:g}"] if name in self.factors else []

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
            known, far = parse_short(place), quantity(share.strip(), Unit.FRACTION).value
            if known in within:
                raise Refusal(f"line 1 has {known.text} twice")
            if not far > 0:
                raise Refusal(f"line 1: a distance is above 0; found {spelled(share.strip())}")
            within[known] = far
        means, factors = {}, {}
        for number, row in enumerate(rows, start=2):
            name, *figures = row.split() or [""]
            if name in means:
                raise Refusal(f"line {number} has {spelled(name)} again; keep one")
            if len(figures) == len(within) + 1 and figures[0].startswith(TIMES):
                factors[name] = _number(figures.pop(0).removeprefix(TIMES), number)
                if not factors[name] > 0:
                    raise Refusal(f"line {number}: a factor is above 0; found {factors[name]:g}")
            if len(figures) != len(within):
                raise Refusal(f"line {number} has {len(figures)} figures after the weight, and line 1 {len(within)}")
            means[name] = tuple(_number(figure, number) for figure in figures)
        return cls(within, means, factors)


def _short(number: float) -> float:
    """To the digits that means are written with."""
    return float(f"{number:.4g}")


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
