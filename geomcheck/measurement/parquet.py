"""Record files: one Parquet table of figures, with what they came from in its metadata."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import torch

import geomcheck
from geomcheck.checkpoints.constraint import Constraint
from geomcheck.checkpoints.scores import Account
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.errors import RecordError
from geomcheck.files import replacing
from geomcheck.measurement.column import Column
from geomcheck.measurement.record import Origin, Point, Record
from geomcheck.measurement.request import Request
from geomcheck.measurement.routes import Tally

FORMAT = 1
SUFFIX = ".parquet"
MAX_ROWS = 100_000_000
MAX_METADATA_BYTES = 256 * 2**20

_KEY = b"geomcheck"
_DIGEST = b"geomcheck.digest"

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
    metadata = json.dumps(_metadata(record)).encode()
    described = {_KEY: metadata, _DIGEST: hashlib.blake2b(metadata).hexdigest().encode()}
    table = pa.table(columns, schema=_SCHEMA.with_metadata(described))
    with replacing(target) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


def read_record(path: str | Path) -> Record:
    """Read a record file.

    Raises:
        RecordError: it is not a record, is damaged, or was written in another format version.
    """
    try:
        return _read(Path(path))
    except (pa.ArrowException, OSError) as error:
        raise RecordError(f"{path}: not a readable record: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise RecordError(f"{path}: damaged record ({error}); measure the run again") from error


def _read(path: Path) -> Record:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        metadata = (file.metadata.metadata or {}).get(_KEY)
        if metadata is None:
            raise RecordError(f"{path}: a Parquet file, but not one that geomcheck wrote")
        if file.metadata.num_rows > MAX_ROWS or len(metadata) > MAX_METADATA_BYTES:
            raise ValueError(f"{file.metadata.num_rows} rows and {len(metadata)} bytes of metadata are too many")
        if hashlib.blake2b(metadata).hexdigest().encode() != file.metadata.metadata.get(_DIGEST):
            raise ValueError("its metadata does not match its digest")
        if not file.schema_arrow.equals(_SCHEMA):
            raise ValueError(f"its columns are {file.schema_arrow.names}, or of other types")
        record = _skeleton(json.loads(metadata))
        _add_figures(record, file.read().unify_dictionaries())
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
        "weights": {w.name: {"shape": w.shape, "dtypes": w.dtypes, "fused": w.fused} for w in record.weights.values()},
        "skipped": record.skipped,
        "notes": record.notes,
        "metrics": record.versions,
        "fingerprints": record.fingerprints,
        "device": record.device,
        "account": None if record.account is None else _told(record.account),
        "routes": {
            quantity: {how: asdict(tally) for how, tally in by_route.items()}
            for quantity, by_route in record.routes.items()
        },
    }


def _skeleton(metadata: dict[str, Any]) -> Record:
    if metadata["format"] != FORMAT:
        raise ValueError(f"format {metadata['format']}, but this geomcheck reads format {FORMAT}")
    points = tuple(_point(entry) for entry in metadata["points"])
    if not points or sorted({point.step for point in points}) != [point.step for point in points]:
        raise ValueError("its checkpoints are none, repeated, or out of order")
    _texts({key: metadata[key] for key in ("run", "path", "layout")})
    return Record(
        run=metadata["run"],
        path=metadata["path"],
        layout=metadata["layout"],
        points=points,
        origin=Origin(**_texts(metadata["base"])),
        weights={
            name: describe(name, tuple(entry["shape"]), tuple(entry["dtypes"]), fused=entry["fused"])
            for name, entry in metadata["weights"].items()
        },
        skipped=_texts(metadata["skipped"]),
        versions=metadata["metrics"],
        fingerprints=_texts(metadata["fingerprints"]),
        notes=tuple(_texts(dict.fromkeys(metadata["notes"], ""))),
        device=_texts({"device": metadata.get("device", "")})["device"],
        routes=_routes(metadata.get("routes", {})),
        account=None if metadata.get("account") is None else _account(metadata["account"]),
    )


def _told(account: Account) -> dict[str, Any]:
    """An account in plain JSON; a score that is no number as a word."""
    return {
        "scores": {
            name: {str(step): value if math.isfinite(value) else str(value) for step, value in by_step.items()}
            for name, by_step in account.scores.items()
        },
        "constraints": {str(s): None if c is None else asdict(c) for s, c in account.constraints.items()},
        "faults": account.faults,
    }


def _account(metadata: dict[str, Any]) -> Account:
    scores = {
        name: {int(step): float(value) for step, value in by_step.items()}
        for name, by_step in metadata["scores"].items()
    }
    constraints = {int(s): None if c is None else Constraint(**c) for s, c in metadata["constraints"].items()}
    return Account(scores, constraints, tuple(_texts(dict.fromkeys(metadata["faults"], ""))))


def _routes(metadata: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Tally]]:
    routes = {
        quantity: {how: Tally(**entry) for how, entry in by_route.items()} for quantity, by_route in metadata.items()
    }
    tallies = [tally for by_route in routes.values() for tally in by_route.values()]
    if not all(type(tally.count) is int and type(tally.worst) in (float, type(None)) for tally in tallies):
        raise ValueError("its routes are no counts with certificates")
    return routes


def _add_figures(record: Record, table: pa.Table) -> None:
    """Add all rows, if they are such as `write_record` could have written."""
    known = {name: _decoded(table, name) for name in ("weight", "metric", "params", "stat")}
    values, reasons = table["value"].to_numpy(), table["undefined"]
    missing = np.asarray(table["value"].is_null())
    if not (missing == np.asarray(reasons.is_valid())).all() or not np.isfinite(values[~missing]).all():
        raise ValueError("a figure is neither a finite number nor undefined with a reason")
    steps = table["step"].to_numpy()
    names, metrics = ({texts[code] for code in np.unique(codes)} for codes, texts in (known["weight"], known["metric"]))
    of_record = names <= record.weights.keys() and metrics <= record.versions.keys()
    if not of_record or not np.isin(steps, [point.step for point in record.points]).all():
        raise ValueError("a figure of a step, weight or metric that the record does not have")
    sizes = [len(known[name][1]) for name in ("metric", "params", "stat")]
    kinds = np.ravel_multi_index([known[name][0] for name in ("metric", "params", "stat")], sizes)
    for kind in np.unique(kinds):
        rows = np.flatnonzero(kinds == kind)
        metric, params, stat = np.unravel_index(kind, sizes)
        request = Request(known["metric"][1][metric], known["params"][1][params])
        undefined = np.flatnonzero(missing[rows])
        why = reasons.take(pa.array(rows[undefined])).to_pylist()
        column = Column(
            steps[rows],
            known["weight"][1],
            known["weight"][0][rows],
            values[rows],
            dict(zip(undefined.tolist(), why, strict=True)),
        )
        _require_possible(request, known["stat"][1][stat], column)
        record.add_column(request, known["stat"][1][stat], column)


def _decoded(table: pa.Table, name: str) -> tuple[np.ndarray, list[str]]:
    """Codes and texts of a dictionary column."""
    column = table[name].combine_chunks()
    if column.null_count or column.dictionary.null_count:
        raise ValueError(f"a row without {name}")
    return column.indices.to_numpy(), column.dictionary.to_pylist()


def _require_possible(request: Request, stat: str, column: Column) -> None:
    low, high = _range(request)
    values = np.delete(column.values, list(column.undefined))
    derived = stat.startswith(("null.", "observed."))
    if not derived and not ((low <= values) & (values <= high)).all():
        raise ValueError(f"a figure of {request.metric} outside the range of its metric")
    if column.repeats:
        raise ValueError(f"a figure of {request.metric} that is there twice")


@lru_cache(maxsize=1024)
def _range(request: Request) -> tuple[float, float]:
    """The range of a metric's figures; without bounds where this installation does not know the metric."""
    metrics = load_metrics()
    known = request.metric in metrics
    return metrics[request.metric].range(request.parameters()) if known else (-math.inf, math.inf)


def _point(entry: dict[str, Any]) -> Point:
    point = Point(**entry)
    if type(point.step) is not int or point.step < 1 or not 0 <= point.progress <= 1 or not isinstance(point.name, str):
        raise ValueError(f"a checkpoint that cannot be: {point}")
    return point


def _texts(mapping: dict[str, str]) -> dict[str, str]:
    if not all(isinstance(text, str) for pair in mapping.items() for text in pair):
        raise ValueError("a text is expected, and is none")
    return mapping
