"""Whatever takes a run takes a record: from either to the record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geomcheck.api import measure
from geomcheck.checkpoints import BaseModel, Run
from geomcheck.measurement import Record, Request, read_record
from geomcheck.suite.selection import Selection

Source = Run | Record | str | Path


def records_of(
    sources: Sequence[Source],
    *,
    base: BaseModel | str | Path | None = None,
    metrics: Sequence[str | Request] | None = None,
    weights: Selection | None = None,
    workers: int | None = None,
) -> list[Record]:
    """The record of each source: as given, read from its file, or measured with default parameters.

    Raises:
        UsageError: no such run or W0.
        RunError: a run cannot be read or trusted.
        RecordError: a record file is damaged.
    """
    records = []
    for source in sources:
        if isinstance(source, Record):
            records.append(source)
        elif isinstance(source, str | Path) and Path(source).is_file():
            records.append(read_record(source))
        else:
            records.append(measure(source, base=base, metrics=metrics, weights=weights, workers=workers))
    return records
