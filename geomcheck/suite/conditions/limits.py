"""What a suite demands of a figure, held against the range of the figure: one bound beyond it decides nothing.

This is the one place of the rule, for every condition that takes figures, ours or another package's. A band as a whole,
of which both ends are inside or on the range, says in `Band.fault` whether it can fail.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from geomcheck.diagnostics import Unit
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, Tolerance, percent

_ROLES = {"lower": "the lower bound ", "upper": "the upper bound ", "": ""}


@dataclass(frozen=True)
class Demand:
    """A figure that a suite writes.

    Attributes:
        path: from the expectation to the figure.
        side: whether it is the bound below all figures or the one above them; empty of anything else.
    """

    path: tuple[str | int, ...]
    figure: Quantity
    side: Literal["lower", "upper", ""] = ""


def beyond(
    demands: Sequence[Demand], tolerance: Tolerance | None, low: float, high: float, scale: Scale
) -> Iterator[Refusal]:
    """What says nothing about figures from `low` to `high` (closed): each demand, and the tolerance, by itself."""
    in_percent = any(demand.figure.percent for demand in demands)
    for demand in demands:
        value = demand.figure.value
        if not low <= value <= high:
            yield Refusal(_decides_nothing(demand, low, high, scale), path=demand.path)
        elif in_percent and not demand.figure.percent and value >= 1:
            text = demand.figure.text
            yield Refusal(
                f"`{text}` stands beside a percentage, and is {value * 100:.10g}%; write `{text}%`, or "
                f"`{value * 100:.10g}%` if that is meant",
                path=demand.path,
            )
    if tolerance is not None and (sentence := _too_wide(tolerance, low, high, scale)):
        yield Refusal(sentence, path=("tolerance",))


def _too_wide(tolerance: Tolerance, low: float, high: float, scale: Scale) -> str | None:
    """Why an amount is too wide for figures from `low` to `high`, or None; of ratios without end, from 1 on."""
    width = high - low
    if tolerance.relative or tolerance.amount < (width if math.isfinite(width) else 1.0):
        return None
    if math.isfinite(width):
        amount, most = scale.show_tolerance(tolerance), scale.show_tolerance(Tolerance(width))
        said = f"a tolerance of {amount} is as wide as the range: two figures are at most {most} apart"
    elif scale.unit is Unit.FRACTION:
        said, width = f"a tolerance of {tolerance.text} is {tolerance.amount * 100:.10g} points of a ratio", 1.0
    else:
        return None
    return said + _forgotten(tolerance.amount, tolerance.text, 0.0, width, scale)


def span(low: float, high: float, scale: Scale) -> str:
    """The range of a figure in a sentence: ``every figure has 0% <= value <= 100%``."""
    upper = f" <= {scale.show(high)}" if math.isfinite(high) else ""
    return f"every figure has {scale.show(low)} <= value{upper}"


def _decides_nothing(demand: Demand, low: float, high: float, scale: Scale) -> str:
    figure = demand.figure
    too_high = figure.value > high
    idle = demand.side == ("upper" if too_high else "lower")
    means = f" (that is {scale.show(figure.value, 10)})" if scale.percent and not figure.percent else ""
    hint = "" if figure.percent else _forgotten(figure.value, figure.text, low, high, scale)
    if not hint and idle:
        end = scale.show(high if too_high else low, 10)
        hint = f"; write `{end}` for none" if isinstance(demand.path[-1], int) else "; leave it out"
    verb = "cannot fail" if idle else "can never hold"
    return f"{_ROLES[demand.side]}`{figure.text}`{means} {verb}: {span(low, high, scale)}{hint}"


def _forgotten(value: float, text: str, low: float, high: float, scale: Scale) -> str:
    """A hint where the value would be in the range with a percent sign."""
    fits = scale.unit is Unit.FRACTION and abs(value) >= 1 and low <= percent(value) <= high
    return f"; did you mean `{text}%`?" if fits else ""
