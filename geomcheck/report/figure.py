"""Trajectories as a small static SVG: no script, no style sheet, and colours that do on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from geomcheck.report.text.verdicts import printable

COLOURS = ("#2a78c8", "#d9762b", "#b0549c", "#3a9aa8", "#8a8a3a", "#7a6fd0", "#6b7a2f", "#a0715a")
WRONG = "#d43d3d"
BAND = "#2f9e6e"

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 150, 30, 40
STEPS_NAMED = 6
"""Checkpoints up to which each is named on the axis."""

LOG_SPAN = 30
"""Ratio of the largest to the smallest value from which the axis is logarithmic."""

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Line:
    """One trajectory.

    Attributes:
        label: written beside its end.
        points: (x, value, whether it violates a condition), ascending in x.
    """

    label: str
    points: Sequence[tuple[float, float, bool]]


@dataclass(frozen=True)
class _Axis:
    """From values to pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / ((high - low) or 1.0)

    def clamped(self, value: float) -> float:
        return self.at(min(self.high, max(self.low, value)))

    def ticks(self) -> list[float]:
        if self.log:
            decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            if len(decades) > 1:
                return [10.0**d for d in decades]
        step = _round_step((self.high - self.low) / 4)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def figure(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    unit: str = "",
    percent: bool = False,
    bounds: Bounds | None = None,
) -> str:
    """An SVG of `lines` against the allowed band.

    Args:
        lines: with at least one point among them; without any there is nothing to draw, and the result is empty.
        unit: behind the values on the axis.
        percent: whether values are written as percentages.
        bounds: (low, high) of the allowed band, None for an open side.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    x = _Axis(*_padded([p[0] for p in points], 0.0), _LEFT, WIDTH - _RIGHT)
    y = _value_axis([p[1] for p in points], [bound for bound in bounds or () if bound is not None])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" '
        f'style="max-width:100%;height:auto" font-family="sans-serif" font-size="12" fill="currentColor">',
        f"<title>{_text(title)}</title>",
        f'<text x="{_LEFT}" y="16" font-weight="bold">{_text(title)}</text>',
        *_band(bounds, y),
        *_axes(x, y, sorted({p[0] for p in points}), x_label, unit, percent),
    ]
    for index, line in enumerate(lines):
        parts += _line(line, COLOURS[index % len(COLOURS)], x, y, unit, percent)
    return "\n".join([*parts, *_labels(lines, y), "</svg>"])


def _value_axis(values: Sequence[float], bounds: Sequence[float]) -> _Axis:
    shown = [*values, *bounds]
    if min(shown) > 0 and max(shown) / min(shown) > LOG_SPAN:
        return _Axis(min(shown) / 1.5, max(shown) * 1.5, HEIGHT - _BOTTOM, _TOP, log=True)
    return _Axis(*_padded(shown, 0.12), HEIGHT - _BOTTOM, _TOP)


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = share * (high - low) or (0.0 if high > low else 0.5 * abs(high) or 1.0)
    return low - pad, high + pad


def _band(bounds: Bounds | None, y: _Axis) -> list[str]:
    if bounds is None or bounds == (None, None):
        return []
    low, high = bounds
    bottom = y.start if low is None else y.clamped(low)
    top = y.end if high is None else y.clamped(high)
    height = max(2.0, bottom - top)
    band = f'<rect x="{_LEFT}" y="{top:.1f}" width="{WIDTH - _RIGHT - _LEFT}" height="{height:.1f}" fill="{BAND}" '
    return [f'{band} fill-opacity="0.18"><title>allowed</title></rect>']


def _axes(x: _Axis, y: _Axis, steps: Sequence[float], x_label: str, unit: str, percent: bool) -> list[str]:
    parts = []
    for value in y.ticks():
        at = y.at(value)
        parts += [
            f'<path d="M{x.start} {at:.1f}H{x.end}" stroke="currentColor" stroke-opacity="0.15"/>',
            f'<text x="{x.start - 6}" y="{at + 4:.1f}" text-anchor="end">{_shown(value, unit, percent)}</text>',
        ]
    parts.append(f'<path d="M{x.start} {y.start}H{x.end}" stroke="currentColor" stroke-opacity="0.5"/>')
    for value in steps if len(steps) <= STEPS_NAMED else x.ticks():
        at = x.at(value)
        parts.append(f'<text x="{at:.1f}" y="{y.start + 16}" text-anchor="middle">{value:g}</text>')
    middle = (x.start + x.end) / 2
    return [*parts, f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{_text(x_label)}</text>']


def _line(line: Line, colour: str, x: _Axis, y: _Axis, unit: str, percent: bool) -> list[str]:
    places = [(x.at(at), y.at(value)) for at, value, _ in line.points]
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    parts = [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>']
    for (a, b), (at, value, wrong) in zip(places, line.points, strict=True):
        name = _text(f"{line.label} at {at:g}: ") + _shown(value, unit, percent) + (", outside" if wrong else "")
        cross = f"M{a - 4:.1f} {b - 4:.1f}l8 8m0-8l-8 8"
        mark = (
            f'<path d="{cross}" stroke="{WRONG}" stroke-width="2.5" fill="none">'
            if wrong
            else f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}">'
        )
        parts.append(f"{mark}<title>{name}</title></{'path' if wrong else 'circle'}>")
    return parts


def _labels(lines: Sequence[Line], y: _Axis) -> list[str]:
    """The names beside the ends of their lines, moved apart where they would cover each other."""
    drawn = [(index, line) for index, line in enumerate(lines) if line.points]
    ends = sorted((y.at(line.points[-1][1]), index, line.label) for index, line in drawn)
    parts, free = [], float(_TOP)
    for at, index, label in ends:
        place = max(at + 4, free)
        free = place + 14
        colour = COLOURS[index % len(COLOURS)]
        parts.append(f'<text x="{WIDTH - _RIGHT + 10}" y="{place:.1f}" fill="{colour}">{_text(label)}</text>')
    return parts


def _shown(value: float, unit: str, percent: bool) -> str:
    return f"{100 * value:.4g}%" if percent else f"{value:.4g}{_text(unit)}"


def _text(text: str) -> str:
    return escape(printable(text))


def _round_step(step: float) -> float:
    """The round number (1, 2 or 5 times a power of ten) next above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))
