"""Figures that cannot be those of one run against its W0."""

from __future__ import annotations

import numpy as np

from geomcheck.checkpoints import BaseModel
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RunError
from geomcheck.measurement.record import Record
from geomcheck.measurement.request import Request
from geomcheck.measurement.table import Table

ANOTHER_MODEL = 1.0
"""Relative update norm at which W_t is of another model than W0: two unrelated ones are about sqrt(2) apart."""


def require_sound(record: Record, base: BaseModel) -> None:
    """Refuse figures that cannot be those of one run against its W0.

    Raises:
        RunError: two checkpoints hold the same weights, one is of another model than W0, or weights that had moved
            equal W0 again.
    """
    if record.measured_weights():
        _require_distinct(record)
        _require_no_return(record)
        _require_same_model(record, base)


def _require_distinct(record: Record) -> None:
    """Refuse checkpoints with the same weights: comparing them says nothing, and one was likely copied."""
    seen: dict[str, str] = {record.fingerprints["W0"]: ""}
    for point in record.points:
        twin = seen.setdefault(record.fingerprints[point.name], point.name)
        if twin not in ("", point.name):
            raise RunError(f"{twin} and {point.name} hold the same weights: one is a copy, or training stood still")


def _require_no_return(record: Record) -> None:
    """Refuse a checkpoint where weights equal W0 again that had moved before: a wrong file, or half of one."""
    names = sorted(record.measured_weights())
    frozen = _table(record, "frozen_share", names)
    moved = np.zeros(len(names), dtype=bool)
    for point, shares, there in zip(record.points, frozen.values, frozen.there, strict=True):
        back = np.flatnonzero(moved & (shares == 1)).tolist()
        if back:
            raise RunError(
                f"{point.name}: {len(back)} of {int(there.sum())} weights equal W0 again, though they had moved "
                f"before, such as {names[back[0]]}: a wrong file, or one that was not written to the end"
            )
        moved |= shares == 0


def _require_same_model(record: Record, base: BaseModel) -> None:
    """Refuse a W0, or a checkpoint, that must be of another model."""
    norms = _table(record, "relative_update_norm", sorted(record.measured_weights()))
    for point, values in zip(record.points, norms.values, strict=True):
        known = values[~np.isnan(values)]
        if len(known) and np.median(known) >= ANOTHER_MODEL:
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) and {point.name} are different models: half of the weights "
                f"differ by {np.median(known):.2f} times their own norm or more. Give the model that this run started "
                "from"
            )


def _table(record: Record, metric: str, names: list[str]) -> Table:
    column = record.column(Request.of(load_metrics()[metric], {}), "value")
    return Table.of(column, [point.step for point in record.points], names)
