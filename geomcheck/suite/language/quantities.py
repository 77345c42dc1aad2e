"""The closed grammar of numbers with units: ``30%``, ``1 deg``, ``1°``, ``0.02 rad``, ``25``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from geomcheck.diagnostics.declaration import Unit

_FORM = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)[ \t]*(%|deg|°|rad)?")
_ANGLES = {"deg": 1.0, "°": 1.0, "rad": math.degrees(1.0)}
_HINTS = {
    Unit.FRACTION: "a fraction such as `30%` or `0.3`",
    Unit.DEGREES: "an angle such as `1 deg`, `1°` or `0.02 rad`",
    Unit.NUMBER: "a plain number such as `25`",
}


class Refusal(ValueError):
    """A value that the grammar refuses. `path` leads from the value to the part that is wrong."""

    def __init__(self, message: str, *, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        self.path = path

    @classmethod
    @contextmanager
    def at(cls, *path: str | int) -> Iterator[None]:
        """Lengthen the path of what is refused inside the context by the way that leads there."""
        try:
            yield
        except Refusal as refusal:
            raise Refusal(str(refusal), path=(*path, *refusal.path)) from None


@dataclass(frozen=True)
class Quantity:
    """A finite number in the unit of its metric (degrees for angles), and whether it was written in percent.

    `text` is how it was written; it is no part of what is compared.
    """

    value: float
    percent: bool = False
    text: str = field(default="", compare=False)


@dataclass(frozen=True)
class Tolerance:
    """How far a figure may be off: an amount in the metric's unit, or a share of what it is compared with.

    `text` is how it was written; it is no part of what is compared.
    """

    amount: float
    relative: bool = False
    text: str = field(default="", compare=False)

    def around(self, target: float) -> float:
        """The amount that is tolerated around `target`."""
        return self.amount * abs(target) if self.relative else self.amount


@dataclass(frozen=True)
class Scale:
    """How figures of a metric are written for people."""

    unit: Unit
    percent: bool = False

    def show(self, value: float, digits: int = 4) -> str:
        """`value` with its unit, to `digits` significant digits."""
        if self.unit is Unit.DEGREES:
            return f"{value:.{digits}g} deg"
        if self.percent:
            return f"{value * 100:.{digits}g}%"
        return f"{value:.{digits}g}"

    def show_tolerance(self, tolerance: Tolerance) -> str:
        """`tolerance` with its unit: a share of the target in percent, an amount of percentages in points."""
        percentage = f"{tolerance.amount * 100:.10g}"
        if tolerance.relative:
            return f"{percentage}%"
        if self.percent:
            return f"{percentage} point{'' if percentage == '1' else 's'}"
        return self.show(tolerance.amount, 10)


def quantity(raw: Any, unit: Unit) -> Quantity:
    """Read a figure of `unit`. Raises Refusal, which says how figures of this unit are written."""
    value, suffix = _split(raw, _HINTS[unit])
    if unit is Unit.DEGREES:
        if suffix not in _ANGLES:
            found = f"has the unit `{suffix}`, which is not one of angles" if suffix else "has no unit"
            raise Refusal(f"`{raw}` {found}; write `{value:g} deg`, `{value:g}°` or `{math.radians(value):.3g} rad`")
        return Quantity(value * _ANGLES[suffix], text=str(raw))
    if suffix == "%" and unit is Unit.FRACTION:
        return Quantity(percent(value), percent=True, text=str(raw))
    if suffix:
        raise Refusal(f"`{raw}` has the unit `{suffix}`; expected {_HINTS[unit]}")
    return Quantity(value, text=str(raw))


def quantity_pair(raw: Any, unit: Unit) -> tuple[Quantity, Quantity]:
    """Read ``[low, high]``, two figures of `unit`. Raises Refusal."""
    if not isinstance(raw, list) or len(raw) != 2:
        found = f"a list of {len(raw)}" if isinstance(raw, list) else spelled(raw)
        raise Refusal(f"expected two values, `[low, high]`; found {found}")
    ends = []
    for index, value in enumerate(raw):
        with Refusal.at(index):
            ends.append(quantity(value, unit))
    return ends[0], ends[1]


def tolerance(raw: Any, unit: Unit) -> Tolerance:
    """Read a tolerance: not negative, a percentage of the target or an amount in `unit`. Raises Refusal."""
    value, suffix = _split(raw, f"a percentage, or {_HINTS[unit]}")
    if value < 0:
        raise Refusal(f"`{raw}`: a tolerance is not negative")
    if suffix == "%":
        return Tolerance(percent(value), relative=True, text=str(raw))
    return Tolerance(quantity(raw, unit).value, text=str(raw))


def flatness(raw: Any) -> Tolerance:
    """Read the tolerance of ``trend: flat``: a share of the mean, in percent or bare. Raises Refusal.

    It may be above 100%: of n figures, (max - min) / mean goes up to n.
    """
    value = wide_share(raw).value
    if value < 0:
        raise Refusal(f"{spelled(raw)}: a tolerance is not negative")
    return Tolerance(value, relative=True, text=str(raw))


def wide_share(raw: Any) -> Quantity:
    """Read a share that may be above 1; above 200% it is written in percent, so that no `%` is forgotten.

    Raises Refusal.
    """
    share = quantity(raw, Unit.FRACTION)
    if not share.percent and abs(share.value) > 2:
        raise Refusal(
            f"{spelled(raw)} is {share_text(share.value)}; did you mean `{raw}%`? (write `{share_text(share.value)}` if "
            "not)"
        )
    return share


def ratio(raw: Any) -> float:
    """Read a bare ratio, ``10%`` or ``0.1``. Raises Refusal."""
    return quantity(raw, Unit.FRACTION).value


def percent(value: float) -> float:
    """`value` percent as a fraction: the float nearest to the decimal, so that 27.76% equals 0.2776."""
    return float(f"{value / 100:.15g}")


def share_text(fraction: float) -> str:
    """One spelling per percentage: 0.125 is ``12.5%``."""
    return f"{fraction * 100:.12g}%"


def closest(word: Any, allowed: list[str] | tuple[str, ...]) -> str | None:
    """The one of `allowed` that `word` may be a misspelling of, or None."""
    return next(iter(get_close_matches(str(word).lower(), allowed, n=1, cutoff=0.6)), None)


def did_you_mean(word: Any, allowed: list[str] | tuple[str, ...]) -> str:
    """``; did you mean `x`?`` when `word` is close to one of `allowed`, else nothing."""
    close = closest(word, allowed)
    return "" if close is None else f"; did you mean `{close}`?"


def spelled(raw: Any) -> str:
    """A raw YAML value as an error message quotes it."""
    if raw is None:
        return "nothing"
    if isinstance(raw, bool):
        return f"`{str(raw).lower()}`"
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, dict):
        return "a mapping"
    text = str(raw)
    return f"`{text}`" if len(text) <= 80 else f"`{text[:77]}...`"


def _split(raw: Any, hint: str) -> tuple[float, str]:
    text, suffix = raw, ""
    if isinstance(raw, str):
        match = _FORM.fullmatch(raw.strip())
        if match is None:
            raise Refusal(f"{spelled(raw)} is not a number with a unit; expected {hint}")
        text, suffix = match.group(1), match.group(2) or ""
    elif isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Refusal(f"found {spelled(raw)}; expected {hint}")
    try:
        value = float(text)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise Refusal(f"{spelled(raw)} is not a finite number; expected {hint}")
    return value, suffix
