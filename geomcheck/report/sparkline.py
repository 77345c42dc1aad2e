"""A trajectory in a few characters."""

from __future__ import annotations

import sys
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.:-=+*#"

NOISE = 1e-3
"""Relative spread below which a trajectory is drawn flat."""


def sparkline(values: Sequence[float | None], *, levels: str | None = None) -> str:
    """One character per value, lowest to highest; a blank where there is no value.

    Args:
        levels: characters from low to high; by default what the terminal's encoding can show.
    """
    levels = levels or (BLOCKS if _shows_blocks() else ASCII)
    present = [value for value in values if value is not None]
    if not present:
        return " " * len(values)
    low, span = min(present), max(present) - min(present)
    scale = (len(levels) - 1) / span if span > NOISE * max(map(abs, present)) else 0.0
    return "".join(" " if v is None else levels[round((v - low) * scale)] for v in values)


def _shows_blocks() -> bool:
    encoding = getattr(sys.__stdout__, "encoding", None) or "ascii"
    return encoding.lower().replace("-", "") == "utf8"
