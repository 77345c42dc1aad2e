"""Figures as a scientific page writes them: three significant digits, powers of ten, units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from geomcheck.diagnostics import Metric, Unit
from geomcheck.suite.verdict import Facts

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(value: float, digits: int = 3) -> str:
    """`value` to `digits` significant digits: 0.142, 12,300, 2.7×10⁻⁴. A true minus sign, no trailing zeros."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    power = int(exponent)
    sign = "−" if value < 0 else ""
    if -2 <= power < 5:
        return sign + _trimmed(f"{float(f'{mantissa}e{exponent}'):,.{max(0, digits - 1 - power)}f}")
    factor = "" if _trimmed(mantissa) == "1" else f"{_trimmed(mantissa)}×"
    return f"{sign}{factor}10{str(power).translate(_SUPERSCRIPT)}"


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


@dataclass(frozen=True)
class Form:
    """How the figures of one metric are written: as they are, in percent, or in degrees."""

    percent: bool = False
    degrees: bool = False

    @classmethod
    def of_metric(cls, metric: Metric) -> Form:
        """Shares with a natural end at 1 in percent."""
        return cls(percent=metric.unit is Unit.FRACTION and metric.high == 1.0, degrees=metric.unit is Unit.DEGREES)

    @classmethod
    def of_facts(cls, facts: Facts) -> Form:
        """As the suite of a verdict writes its bounds."""
        return cls(percent=facts["percent"], degrees=facts["unit"] == Unit.DEGREES)

    def show(self, value: float | None, digits: int = 3) -> str:
        """`value` with its unit; a dash where there is none."""
        if value is None or math.isnan(value):
            return "–"
        if self.percent:
            return f"{plain(100 * value, digits)}%"
        return plain(value, digits) + ("°" if self.degrees else "")

    def difference(self, amount: float) -> str:
        """By how much two figures differ: percentages in points."""
        return f"{plain(100 * amount)} points" if self.percent else self.show(amount)


def capitalized(text: str) -> str:
    """`text` as the start of a sentence or a title; `str.capitalize` would turn what follows to small letters."""
    return text[:1].upper() + text[1:]


def symbols(condition: str) -> str:
    """A condition as suites word it, with the signs that print has for it."""
    return condition.replace(" +- ", " ± ").replace("<=", "≤")


def enumerated(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
