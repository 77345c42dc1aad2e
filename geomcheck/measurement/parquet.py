"""Record files: one Parquet table of figures, with what they came from in its metadata."""

from __future__ import annotations

import json
import math
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import torch

import geomcheck
from geomcheck.checkpoints.weights import describe
from geomcheck.errors import RecordError
from geomcheck.measurement.record import Figure, Origin, Point, Record, Row
from geomcheck.measurement.request import Request

FORMAT = 1
SUFFIX = ".parquet"
_KEY = b"geomcheck"
_MAX_METADATA_BYTES = 256 * 2**20

_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("weight", pa.dictionary(pa.int32(), pa.string())),
        ("layer", pa.int32()),
        ("module", pa.dictionary(pa.int32(), pa.string())),
        ("numel", pa.int64()),
        ("metric", pa.dictionary(pa.int32(), pa.string())),
        ("params", pa.dictionary(pa.int32(), pa.string())),
        ("stat", pa.dictionary(pa.int32(), pa.string())),
        ("value", pa.float64()),
        ("undefined", pa.string()),
    ]
)


def write_record(record: Record, path: str | Path) -> None:
    """Write `record` as one Parquet file; the file appears under its name only when it is complete.

    Columns: step, weight, layer, module, numel, metric, params (JSON), stat, value (null where there is no
    figure) and undefined (then the reason).
    """
    target = Path(path)
    columns: dict[str, list[Any]] = {name: [] for name in _SCHEMA.names}
    for row in record.rows():
        weight = record.weights[row.weight]
        place = (row.step, weight.name, weight.layer, weight.module, weight.numel)
        what = (row.request.metric, row.request.params, row.stat, row.figure.value, row.figure.undefined)
        for name, cell in zip(columns, (*place, *what), strict=True):
            columns[name].append(cell)
    table = pa.table(columns, schema=_SCHEMA.with_metadata({_KEY: json.dumps(_metadata(record)).encode()}))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    os.close(handle)
    try:
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, target)
    except BaseException:
        os.unlink(partial)
        raise


def read_record(path: str | Path) -> Record:
    """Read a record file.

    Raises:
        RecordError: it is not a record, is damaged, or was written in another format version.
    """
    try:
        table = pq.read_table(path, schema=_SCHEMA)
        metadata = (pq.read_schema(path).metadata or {}).get(_KEY)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(f"{path}: not a readable record: {error}") from error
    if metadata is None or len(metadata) > _MAX_METADATA_BYTES:
        raise RecordError(f"{path}: a Parquet file, but not one that geomcheck wrote")
    try:
        record = _skeleton(json.loads(metadata))
        for cells in table.to_pylist():
            record.add(_row(cells))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: damaged record ({error!r}); measure the run again") from error
    return record


def _metadata(record: Record) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "versions": {
            "geomcheck": geomcheck.__version__,
            "torch": torch.__version__,
            "safetensors": safetensors.__version__,
        },
        "run": record.run,
        "path": record.path,
        "layout": record.layout,
        "points": [asdict(point) for point in record.points],
        "base": asdict(record.origin),
        "weights": {w.name: {"shape": w.shape, "dtypes": w.dtypes} for w in record.weights.values()},
        "skipped": record.skipped,
        "metrics": record.versions,
        "fingerprints": record.fingerprints,
    }


def _skeleton(metadata: dict[str, Any]) -> Record:
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}, but this geomcheck reads format {FORMAT}")
    return Record(
        run=metadata["run"],
        path=metadata["path"],
        layout=metadata["layout"],
        points=tuple(Point(**point) for point in metadata["points"]),
        origin=Origin(**metadata["base"]),
        weights={
            name: describe(name, tuple(entry["shape"]), tuple(entry["dtypes"]))
            for name, entry in metadata["weights"].items()
        },
        skipped=metadata["skipped"],
        versions=metadata["metrics"],
        fingerprints=metadata["fingerprints"],
    )


def _row(cells: dict[str, Any]) -> Row:
    value, undefined = cells["value"], cells["undefined"]
    if (value is None) == (undefined is None) or (value is not None and not math.isfinite(value)):
        raise ValueError(f"a figure is neither a finite number nor undefined with a reason: {cells}")
    request = Request(cells["metric"], cells["params"])
    return Row(cells["step"], cells["weight"], request, cells["stat"], Figure(value, undefined))
