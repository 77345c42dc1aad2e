"""The figures of a record in long form, a row each: what pandas, CSV and Parquet files of them hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from geomcheck.diagnostics import load_metrics
from geomcheck.errors import UsageError
from geomcheck.record import arrow
from geomcheck.record.tabular import Measured, labelled, table_of

if TYPE_CHECKING:
    import pandas

_NAME = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    [
        ("run", _NAME),
        ("checkpoint", _NAME),
        ("step", pa.int64()),
        ("progress", pa.float64()),
        ("metric", _NAME),
        ("params", _NAME),
        ("stat", _NAME),
        ("weight", _NAME),
        ("stack", _NAME),
        ("layer", pa.int32()),
        ("module", _NAME),
        ("value", pa.float64()),
        ("unit", _NAME),
        ("undefined", pa.string()),
    ]
)
"""`value` is null where there is no figure, and `undefined` then says why; of a figure that is folded over weights,
what the weights do not share is null. Shares are fractions, angles degrees, as `unit` says."""


def long_form(record: Measured) -> pa.Table:
    """Every figure of `record`, ordered by step, weight, metric, parameters and statistic."""
    table = table_of(record)
    points = np.searchsorted([point.step for point in record.points], arrow.cells(table["step"].chunk(0)))
    metrics = table["metric"].chunk(0)
    added = {
        "run": labelled([record.run], np.zeros(len(points), np.int32)),
        "checkpoint": labelled([point.name for point in record.points], points),
        "progress": arrow.column(np.array([point.progress for point in record.points], np.float64)[points]),
        "unit": labelled([unit_of(name) for name in metrics.dictionary.to_pylist()], arrow.cells(metrics.indices)),
    }
    columns = [added[name] if name in added else table[name] for name in SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def long_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """These rows in the same columns; what a row lacks is null."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def unit_of(metric: str) -> str:
    """The unit of a metric's figures; empty for one that this installation does not know."""
    known = load_metrics().get(metric)
    return known.unit.value if known else ""


def to_pandas(record: Measured) -> pandas.DataFrame:
    """The long form as a data frame. Raises UsageError where pandas is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise UsageError(f"record.to_pandas() needs pandas ({error}); install it: pip install pandas") from None
    whole = {pa.int32(): pandas.Int32Dtype()}  # a layer is a number or nothing, and no float
    return long_form(record).to_pandas(types_mapper=whole.get)
