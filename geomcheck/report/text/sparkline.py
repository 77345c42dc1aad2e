"""A trajectory in a few characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"

NOISE = 1e-3
"""Relative spread below which a trajectory is drawn flat."""

LONGEST = 24
"""Characters of a sparkline at most."""


def sparkline(values: Sequence[float | None], *, levels: str) -> str:
    """One character per value, lowest to highest; a blank where there is no value.

    A trajectory of more than LONGEST values is drawn by stretches, each by its value furthest from the mean: a spike
    stays visible.

    Args:
        levels: characters from low to high, such as `levels_for` gives.
    """
    values = _shortened(values)
    present = [value for value in values if value is not None]
    if not present:
        return " " * len(values)
    low, span = min(present), max(present) - min(present)
    scale = (len(levels) - 1) / span if span > NOISE * max(map(abs, present)) else 0.0
    return "".join(" " if v is None else levels[round((v - low) * scale)] for v in values)


def levels_for(encoding: str | None) -> str:
    """The characters of sparklines that `encoding` can show: blocks, or else ASCII."""
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def _shortened(values: Sequence[float | None]) -> Sequence[float | None]:
    present = [value for value in values if value is not None]
    if len(values) <= LONGEST or not present:
        return values
    mean = fmean(present)
    ends = [len(values) * i // LONGEST for i in range(LONGEST + 1)]
    stretches = [[v for v in values[a:b] if v is not None] for a, b in pairwise(ends)]
    return [max(stretch, key=lambda v: abs(v - mean), default=None) for stretch in stretches]
