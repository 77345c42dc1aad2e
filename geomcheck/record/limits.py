"""What a figure can be: by its metric, the parameters, the statistic and the shape of the weight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from geomcheck.diagnostics import Metric

SLACK = 1e-3
"""By how much, relatively, a certified figure may lie beyond what bounds it."""

TERMS = ("observed.", "null.")
"""What the names of the terms of an excess start with."""


def limits(metric: Metric, params: Mapping[str, Any], stat: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """The least and the largest figure that `metric` can give with these measured `params` for a weight of this shape;
    of the terms of an excess, which are not judged, any. Raises ValueError where it has no such statistic."""
    if stat.startswith(TERMS):
        return -math.inf, math.inf
    params = {**params, **metric.selected(stat)}
    low, high = metric.range(params)
    if metric.bounds is None or len(shape) != 2:
        return low, high
    least, most = metric.range(params, shape)
    return max(low, least - SLACK * abs(least)), min(high, most + SLACK * abs(most))
