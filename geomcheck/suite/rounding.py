"""How much of an update is the rounding of the stored weights, and what to say of figures that it inflates.

It is measured wherever such a figure is. A record may be asked for more than was: the cosine with another run comes
from sketches, which every record holds. The share is estimated there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from geomcheck.diagnostics import load_metrics
from geomcheck.record import Record, Request
from geomcheck.record.column import Table
from geomcheck.suite.good_runs import MODEL, layout_of
from geomcheck.suite.sampling import Question, Sample

ROUNDING_LIMIT = 0.1
"""Share of the squared update, as the mean over weights, above which it is said."""

SPACING = {"bf16": 2**-7, "fp16": 2**-10, "fp32": 2**-23, "fp64": 2**-52}
"""Of numbers from 1 to 2, by the format."""

BELOW = 3 / (8 * math.log(2))
"""The sum of squares of the powers of two at or below each entry, relative to that of the entries: the mean of
``1 / m^2`` over m from 1 to 2, spread evenly by its logarithm. Of bell-shaped weights it is within 1% of that."""

LEAST = 1e-30
"""A relative norm so small that rounding explains it in any format; squares of smaller ones are lost."""


def rounding_shares(record: Record, steps: Sequence[int], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each squared update that rounding explains, shape (steps, names), NaN where nothing is known of it;
    and where that is estimated, by `BELOW`."""
    spacing = np.array([SPACING.get("".join(record.weights[name].dtypes[-1:]), math.nan) for name in names])
    known = layout_of(record) == MODEL  # an adapter's change is not rounded to a format of weights
    norms = _figures(record, "relative_update_norm", steps, names)
    moved = np.where((norms > 0) & known, np.maximum(norms, LEAST), np.nan)
    expected = np.minimum(1.0, BELOW / 12 * (spacing / moved) ** 2)
    measured = _figures(record, "rounding_share", steps, names)
    estimated = np.isnan(measured) & ~np.isnan(expected)
    return np.where(estimated, expected, measured), estimated


def rounding_warning(question: Question, record: Record, found: Sample) -> tuple[str, ...]:
    """A sentence where storage rounding explains much of the update that the metric describes."""
    if not question.metric.inflated_by_rounding:
        return ()
    worst: tuple[float, int, bool] = (0.0, 0, False)
    for step, values in found.cells.items():
        shares, estimated = rounding_shares(record, [step], tuple(values))
        known = shares[~np.isnan(shares)].tolist()
        if known:
            worst = max(worst, (math.fsum(known) / len(known), step, bool(estimated.any())))
    share, step, is_estimated = worst
    if share <= ROUNDING_LIMIT:
        return ()
    return (
        f"storage rounding explains {'about ' * is_estimated}{share:.0%} of the update at step {step} (mean over the "
        f"weights): {question.metric.name} describes the rounding as much as the training; prefer fp32 checkpoints",
    )


def _figures(record: Record, metric: str, steps: Sequence[int], names: Sequence[str]) -> np.ndarray:
    """Of a metric without parameters, shape (steps, names); NaN where it was not measured."""
    column = record.columns.get((Request.of(load_metrics()[metric], {}), "value"))
    return np.full((len(steps), len(names)), np.nan) if column is None else Table.of(column, steps, names).values
