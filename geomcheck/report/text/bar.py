"""Where a figure lies in its band, or beyond it, in a few characters."""

from __future__ import annotations

from geomcheck.suite.verdict import Bounds

INSIDE = 5
"""Characters between the bounds."""

MARKS = ("▕", "▏", "·", "●", "◂", "▸")
ASCII = ("|", "|", ".", "o", "<", ">")


def bar(value: float | None, bounds: Bounds | None, *, ascii: bool) -> str:
    """A band with its figure: ``▕··●··▏`` inside, ``▕·····●`` up to a half width outside, ``▕·····▸`` beyond that.

    Of a band with one bound the bound itself is the half width, and what is drawn; the other end is open. Empty where
    there is no figure, or no bound.
    """
    low, high = bounds or (None, None)
    if value is None or (low is None and high is None):
        return ""
    left, right, blank, figure, before, after = ASCII if ascii else MARKS
    start, half, drawn = _scale(low, high)
    ends, inner = [" " if low is None else left, " " if high is None else right], [blank] * INSIDE
    if low is not None and value < low:
        ends[0] = figure if low - value <= half else before
    elif high is not None and value > high:
        ends[1] = figure if value - high <= half else after
    else:
        share = value / drawn - start / drawn if drawn else 0.5
        inner[min(max(int(share * INSIDE), 0), INSIDE - 1)] = figure
    return f"{ends[0]}{''.join(inner)}{ends[1]}"


def _scale(low: float | None, high: float | None) -> tuple[float, float, float]:
    """Where the drawn range begins, half the width of the band, and how much is drawn."""
    if low is not None and high is not None:
        return low, high / 2 - low / 2, high - low
    bound = low if high is None else high
    assert bound is not None
    half = abs(bound)
    return (bound if high is None else bound - half), half, half
