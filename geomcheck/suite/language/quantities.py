"""The closed grammar of numbers with units: ``30%``, ``1 deg``, ``1°``, ``0.02 rad``, ``25``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Self

from geomcheck.diagnostics.declaration import Unit

_FORM = re.compile(r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*(%|deg|°|rad)?")
LONGEST = 200
"""Characters of a text beyond which nothing is guessed."""

_NUMBERS = re.compile(r"(?<![\w.])-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?[ ]?(?:%|deg|°|rad)?(?![\d])")
_SUFFIXES = ("%", "deg", "°", "rad")
_N = r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
_U = r"\s*(%|deg|°|rad)?"
_NEARLY = tuple(
    (re.compile(pattern), hint)
    for pattern, hint in (
        (rf"(?:[<>]=?|=+|≤|≥)\s*{_N}{_U}", "; the key says already what is compared: write `{0}{1}`"),
        (rf"{_N}{_U}\s*(?:#|//|--|/\*).*", "; a comment begins with ` #`, after a space"),
        (rf"{_N}{_U}\s*[,;]", "; write `{0}{1}`, without the mark behind it"),
        (rf"(\d{{1,3}})[,_](\d{{3}}){_U}", "; write `{0}{1}{2}`, without a mark between the digits"),
        (rf"([-+]?\d+),(\d+){_U}", "; decimals are written with a point: `{0}.{1}{2}`"),
        (rf"(?:±|\+/?-)\s*{_N}{_U}", "; write `{0}{1}`: a tolerance is to both sides"),
        (rf"(?:~|≈|about|around)\s*{_N}{_U}", "; write `{0}{1}`, and how far it may be off as `tolerance`"),
        (rf"{_N}{_U}\s*(?:±|\+/?-)\s*{_N}{_U}", "; write `near: {0}{1}` and `tolerance: {2}{3}`"),
        (rf"{_N}{_U}\s*(?:-|–|\.\.+|to|and|,|;)\s*{_N}{_U}", "; a range is written `within: [{0}{1}, {2}{3}]`"),
        (rf"{_N}\s*(?:%%|percents?|per cent|pct|％)", "; did you mean `{0}%`?"),
        (rf"%\s*{_N}", "; did you mean `{0}%`?"),
        (rf"{_N}\s*(?:degrees?|degs|º|˚)", "; did you mean `{0} deg`?"),
        (rf"{_N}\s*(?:radians?|rads)", "; did you mean `{0} rad`?"),
        (r"[-+]?\.?(?:inf|infinity|∞)", "; for no bound on one side, use `above` or `below` alone"),
        (r".*(\$\{.*\}|\{\{.*\}\}|\$\w+).*", "; `{0}` was not filled in"),
        (r"[“”‘’«»](.*)[“”‘’«»]", "; typographic quotes are no quotes to YAML: remove them"),
    )
)
_ANGLES = {"deg": 1.0, "°": 1.0, "rad": math.degrees(1.0)}
_HINTS = {
    Unit.FRACTION: "a fraction such as `30%` or `0.3`",
    Unit.DEGREES: "an angle such as `1 deg`, `1°` or `0.02 rad`",
    Unit.NUMBER: "a plain number such as `25`",
}


class Refusal(ValueError):
    """A value that the grammar refuses. `path` leads from the value to the part that is wrong.

    `parts` are all refusals of a value of which several parts are wrong; of any other it is the one.
    """

    def __init__(
        self, message: str, *, path: tuple[str | int, ...] = (), parts: tuple[Refusal, ...] | None = None
    ) -> None:
        super().__init__(message)
        self.path = path
        self.parts = parts or (self,)

    @classmethod
    @contextmanager
    def at(cls, *path: str | int) -> Iterator[None]:
        """Lengthen the path of what is refused inside the context by the way that leads there."""
        with Refusals() as refusals, refusals.at(*path):
            yield


class Refusals:
    """Refusals of the parts of one value: as a context it goes on after each, and raises them together at its end."""

    def __init__(self) -> None:
        self._found: list[Refusal] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._found:
            first = self._found[0]
            raise Refusal(str(first), path=first.path, parts=tuple(self._found))

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Keep what is refused inside the context, with the way that leads there."""
        try:
            yield
        except Refusal as refusal:
            self._found += [Refusal(str(part), path=(*path, *part.path)) for part in refusal.parts]


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
        raise Refusal(f"expected two values, `[low, high]`; found {found}{_meant_pair(raw)}")
    ends = []
    with Refusals() as refusals:
        for index, value in enumerate(raw):
            with refusals.at(index):
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
        means = share_text(share.value)
        raise Refusal(f"{spelled(raw)} is {means}; did you mean `{raw}%`? (write `{means}` if not)")
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


def _meant_pair(raw: Any) -> str:
    """A hint where two numbers were written, though not as a list of two."""
    values = list(raw.values()) if isinstance(raw, dict) else raw if isinstance(raw, list) else [raw]
    texts = [str(value)[:LONGEST].replace("..", " ") for value in values[:3] if isinstance(value, str | int | float)]
    found = [match for text in texts for match in _NUMBERS.findall(text)]
    return f"; did you mean `[{', '.join(found)}]`?" if len(found) == 2 else ""


def snake_case(word: str) -> str:
    """``updateSparsity``, ``Update-Sparsity`` and ``update sparsity`` as ``update_sparsity``."""
    return re.sub(r"[\s.-]+|(?<=[a-z0-9])(?=[A-Z])", "_", word.strip()).lower()


def closest(word: Any, allowed: list[str] | tuple[str, ...]) -> str | None:
    """The one of `allowed` that `word` may be a misspelling of, or None."""
    text = str(word).lower()
    return next(iter(get_close_matches(text, allowed, n=1, cutoff=0.6)), None) if len(text) <= LONGEST else None


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
        return "a list" if raw else "an empty list"
    if isinstance(raw, dict):
        return "a mapping"
    if raw == "":
        return "an empty text"
    text = str(raw)
    if isinstance(raw, str):
        text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in raw)
        text = f'"{text}"' if _FORM.fullmatch(raw) and not raw.endswith(_SUFFIXES) else text
    return f"`{text}`" if len(text) <= 80 else f"`{text[:77]}...`"


def unquoted(raw: Any) -> str:
    """A hint where a text would be a number without its quotes."""
    is_text = isinstance(raw, str) and _FORM.fullmatch(raw) and not raw.endswith(_SUFFIXES)
    return f"; the quotes make it a text: write `{raw}`" if is_text else ""


def _meant(raw: str) -> str:
    """A hint where `raw` is nearly a number with a unit."""
    for pattern, hint in _NEARLY if len(raw) <= LONGEST else ():
        found = pattern.fullmatch(raw.strip())
        if found:
            return hint.format(*(group or "" for group in found.groups()))
    return ""


def _split(raw: Any, hint: str) -> tuple[float, str]:
    text, suffix = raw, ""
    if isinstance(raw, str):
        match = _FORM.fullmatch(raw.strip())
        if match is None:
            raise Refusal(f"{spelled(raw)} is not a number with a unit; expected {hint}{_meant(raw)}")
        text, suffix = match.group(1), match.group(2) or ""
    elif isinstance(raw, bool) or not isinstance(raw, int | float):
        raise Refusal(f"found {spelled(raw)}; expected {hint}")
    try:
        value = float(text)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise Refusal(f"{spelled(raw)} is not a finite number; expected {hint}{_meant(str(raw))}")
    return value, suffix
