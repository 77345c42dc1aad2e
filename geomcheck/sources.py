"""Turn a run, a record file or a record into a record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geomcheck.api import measure
from geomcheck.checkpoints import BaseWeights, Run, open_base
from geomcheck.measurement.provenance import require_measured_against
from geomcheck.record import Record, Request, read_record
from geomcheck.suite.language.selection import Selection

Source = Run | Record | str | Path


def records_of(
    sources: Sequence[Source],
    *,
    base: BaseWeights | str | Path | None = None,
    metrics: Sequence[str | Request] | None = None,
    weights: Selection | None = None,
    workers: int | None = None,
) -> list[Record]:
    """The record of each source: as given, read from its file, or measured with default parameters.

    Raises:
        UsageError: no such run or W0.
        RunError: a run cannot be read or trusted, or a record is of another W0 than the one given.
        RecordError: a record file is damaged.
    """
    records = []
    for source in sources:
        if not isinstance(source, Record) and not (isinstance(source, str | Path) and Path(source).is_file()):
            records.append(measure(source, base=base, metrics=metrics, weights=weights, workers=workers))
            continue
        records.append(source if isinstance(source, Record) else read_record(source))
        if base is not None:
            given = base if isinstance(base, BaseWeights) else open_base(base, "the given base")
            require_measured_against(records[-1], given)
    return records
