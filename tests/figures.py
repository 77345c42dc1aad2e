"""Whether two records hold the same figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

from geomcheck.record import Figure, Record
from geomcheck.record.column import Column
from geomcheck.record.record import Row

IN_FLOAT64, IN_FLOAT32 = 1e-12, 1e-6
"""Of figures by the same operations, whose sums the number of threads may have ordered otherwise."""


def require_same_figures(one: Record, other: Record, tolerance: float = IN_FLOAT64) -> None:
    """Fail unless both hold the same figures of the same weights and checkpoints, to `tolerance`."""
    ours, theirs = list(one.rows()), list(other.rows())
    assert [_place(row) for row in ours] == [_place(row) for row in theirs]
    for mine, yours in zip(ours, theirs, strict=True):
        values = [row.figure.value for row in (mine, yours) if row.figure.value is not None]
        assert not values or math.isclose(*values, rel_tol=tolerance, abs_tol=tolerance), (mine, yours)
    assert one.points == other.points
    assert one.fingerprints == other.fingerprints


def _place(row: Row) -> tuple[object, ...]:
    return row.step, row.weight, row.request, row.stat, row.figure.value is None, row.figure.undefined


def edit(record: Record, metric: str, figures: Mapping[tuple[int, str], Figure]) -> None:
    """Replace single figures of a metric in `record`, by step and weight."""
    for key, column in record.columns.items():
        if key[0].metric == metric:
            record.columns[key] = Column.of({**column.figures, **figures})
