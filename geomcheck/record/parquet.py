"""Record files: one Parquet table of figures, with their provenance in its metadata."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geomcheck._gc import lasting
from geomcheck._version import VERSION
from geomcheck.checkpoints import Account, Weight
from geomcheck.checkpoints.constraint import Constraint
from geomcheck.checkpoints.weights import describe
from geomcheck.diagnostics import load_metrics
from geomcheck.diagnostics.sketch import BYTES, unpacked
from geomcheck.diagnostics.sketch import VERSION as VERSION_OF_SKETCHES
from geomcheck.errors import RecordError
from geomcheck.files import replacing
from geomcheck.record import arrow
from geomcheck.record.column import Column, used
from geomcheck.record.limits import limits
from geomcheck.record.points import Origin, Point
from geomcheck.record.record import UNKNOWN, Record
from geomcheck.record.request import Request
from geomcheck.record.routes import Tally
from geomcheck.record.sketches import Sketches
from geomcheck.record.tabular import COLUMNS, SCHEMA, digest_of_rows, table_of

FORMAT = 1
SUFFIX = ".parquet"
MARKS = ("lent", "new")
"""What is said of a weight only where it is so."""

MAX_ROWS = 100_000_000
MAX_METADATA_BYTES = 256 * 2**20
ROWS_PER_BYTE = 8
"""A record of 46,000 matrices at five checkpoints has 0.15; any may have `FREE_ROWS`."""

FREE_ROWS = 1_000_000
BYTES_PER_ROW = 256
"""What a row may take once its pages are decompressed (usual are 6); any record may take `FREE_BYTES`."""

FREE_BYTES = 64 * 2**20
_KEY = b"geomcheck"
_DIGEST = b"geomcheck.digest"
_SKETCH = "sketch"

_TEXTS = ["undefined"]
"""Columns whose texts may be repeated in the file; read as codes into distinct texts, they cannot grow."""

_TYPES = {name: SCHEMA.field(name).type for name in COLUMNS} | {"undefined": pa.dictionary(pa.int32(), pa.string())}
"""Of the columns that are read; a file may have others, as those of later versions do."""


def write_record(record: Record, path: str | Path) -> None:
    """Write `record` as one Parquet file; the file appears under its name only when it is complete.

    Columns: step, weight, layer (its number in the stack), module, numel, metric, params (JSON), stat, value (null
    where there is no figure), undefined (then the reason), stack (the path of the list of layers, null outside) and
    sketch (bytes, see `geomcheck.diagnostics.sketch`; in the first row of each step and weight).
    """
    table = table_of(record)
    kept, _ = arrow.bytes_of(table[_SKETCH].chunk(0), BYTES)
    digests = {"rows": digest_of_rows(table), "sketches": {"version": VERSION_OF_SKETCHES, "digest": _digest_of(kept)}}
    metadata = json.dumps(_metadata(record) | digests).encode()
    table = table.replace_schema_metadata({_KEY: metadata, _DIGEST: hashlib.blake2b(metadata).hexdigest().encode()})
    with replacing(Path(path)) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)


@lasting()
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
    if not path.is_file():
        raise RecordError(f"{path}: not a readable record: no such file, or not a regular one")
    with pq.ParquetFile(path, page_checksum_verification=True, read_dictionary=_TEXTS) as file:
        metadata = (file.metadata.metadata or {}).get(_KEY)
        if metadata is None:
            raise RecordError(f"{path}: a Parquet file, but not one that geomcheck wrote")
        if file.metadata.num_rows > MAX_ROWS or len(metadata) > MAX_METADATA_BYTES:
            raise ValueError(f"{file.metadata.num_rows} rows and {len(metadata)} bytes of metadata are too many")
        if hashlib.blake2b(metadata).hexdigest().encode() != file.metadata.metadata.get(_DIGEST):
            raise ValueError("its metadata does not match its digest")
        columns = file.schema_arrow
        if any(columns.get_field_index(name) < 0 or columns.field(name).type != kind for name, kind in _TYPES.items()):
            raise ValueError(f"its columns are {columns.names[:20]}, or of other types")
        _require_sensible(file.metadata, nbytes=path.stat().st_size)
        content = json.loads(metadata)
        record = _skeleton(content)
        sketched = content.get("sketches", {}).get("version") == VERSION_OF_SKETCHES
        table = file.read([*COLUMNS, _SKETCH] if sketched else list(COLUMNS)).unify_dictionaries()
        _add_figures(record, table)
        if content.get("rows", rows := digest_of_rows(table)) != rows:  # an older geomcheck wrote none
            raise ValueError("its rows do not match their digest: they were edited")
        if sketched:
            _add_sketches(record, table, content["sketches"]["digest"])
        return record


def _require_sensible(table: Any, *, nbytes: int) -> None:
    """Refuse a table that grows out of all proportion when it is read. Raises ValueError."""
    groups = [table.row_group(index) for index in range(table.num_row_groups)]
    grown = sum(group.column(index).total_uncompressed_size for group in groups for index in range(table.num_columns))
    if table.num_rows > FREE_ROWS + ROWS_PER_BYTE * nbytes:
        raise ValueError(f"{table.num_rows} rows in {nbytes} bytes, more than any record has")
    if grown > FREE_BYTES + BYTES_PER_ROW * table.num_rows:
        raise ValueError(f"{grown} bytes of columns for {table.num_rows} rows, more than any record has")


def _metadata(record: Record) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "versions": {"geomcheck": VERSION, **{name: version(name) for name in ("torch", "safetensors")}},
        "run": record.run,
        "path": record.path,
        "layout": record.layout,
        "points": [asdict(point) for point in record.points],
        "base": asdict(record.origin),
        "weights": {w.name: _weight_facts(w) for w in record.weights.values()},
        "skipped": record.skipped,
        "notes": record.notes,
        **({"left_out": record.left_out} if record.left_out else {}),
        "metrics": record.versions,
        "fingerprints": record.fingerprints,
        "w0": record.w0,
        "contents": record.contents,
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
    if sorted(point.progress for point in points) != [point.progress for point in points]:
        raise ValueError("its training went back: progress falls from one checkpoint to a later one")
    weights = {name: _weight(name, entry) for name, entry in metadata["weights"].items()}
    return Record(
        run=_text(metadata["run"]),
        path=_text(metadata["path"]),
        layout=_text(metadata["layout"]),
        points=points,
        origin=Origin(**_texts(metadata["base"])),
        weights=weights,
        skipped=_texts(metadata["skipped"]),
        versions=metadata["metrics"],
        fingerprints=_texts(metadata["fingerprints"]),
        w0=_texts(metadata.get("w0", {})),
        contents=_contents(metadata.get("contents", {}), {"W0", *(point.name for point in points)}, len(weights)),
        notes=tuple(map(_text, metadata["notes"])),
        left_out=_left_out(metadata.get("left_out", []), weights),
        device=_text(metadata.get("device", "")),
        routes=_routes(metadata.get("routes", {})),
        account=None if metadata.get("account") is None else _account(metadata["account"]),
    )


def _weight(name: str, entry: dict[str, Any]) -> Weight:
    shape, dtypes = tuple(entry["shape"]), tuple(map(_text, entry["dtypes"]))
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name} has a shape that cannot be: {list(shape)}")
    marks = {mark: entry.get(mark) is True for mark in MARKS}
    return describe(name, shape, dtypes, fused=_text(entry["fused"]), **marks)


def _weight_facts(weight: Weight) -> dict[str, Any]:
    told = {"shape": weight.shape, "dtypes": weight.dtypes, "fused": weight.fused}
    return told | {mark: True for mark in MARKS if getattr(weight, mark)}


def _contents(metadata: dict[str, list[int]], places: set[str], count: int) -> dict[str, tuple[int, ...]]:
    """The numbers of `count` weights at some of these `places`."""
    if not metadata.keys() <= places or any(len(numbers) != count for numbers in metadata.values()):
        raise ValueError("its contents are not those of its weights and checkpoints")
    if not all(type(n) is int and UNKNOWN <= n < count * len(places) for numbers in metadata.values() for n in numbers):
        raise ValueError("its contents are no numbers of tensors")
    return {where: tuple(numbers) for where, numbers in metadata.items()}


def _left_out(names: list[str], weights: dict[str, Weight]) -> tuple[str, ...]:
    if not isinstance(names, list) or not set(names) <= weights.keys():
        raise ValueError("what was left out of it are no weights of its")
    return tuple(names)


def _told(account: Account) -> dict[str, Any]:
    """An account as plain JSON; scores that are not finite as words."""
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
    return Account(scores, constraints, tuple(map(_text, metadata["faults"])))


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
    (weights, names), *of_kind = (_decoded(table, name) for name in ("weight", "metric", "params", "stat"))
    column, reasons = table["value"].combine_chunks(), table["undefined"].combine_chunks()
    missing = arrow.nulls(column)
    values = np.where(missing, np.nan, arrow.cells(column))
    if not (missing == ~arrow.nulls(reasons)).all() or not np.isfinite(values[~missing]).all():
        raise ValueError("a figure is neither a finite number nor undefined with a reason")
    why, texts = arrow.cells(reasons.indices), reasons.dictionary.to_pylist()
    if table["step"].null_count:
        raise ValueError("a row without step")
    steps = arrow.cells(table["step"].combine_chunks())
    of_record = used(weights, names) <= record.weights.keys() and used(*of_kind[0]) <= record.versions.keys()
    if not of_record or not np.isin(steps, [point.step for point in record.points]).all():
        raise ValueError("a figure of a step, weight or metric that the record does not have")
    sizes = [len(labels) for _, labels in of_kind]
    kinds = np.ravel_multi_index([codes for codes, _ in of_kind], sizes)
    for rows in _alike(kinds.astype(np.min_scalar_type(math.prod(sizes)))):
        places = np.unravel_index(kinds[rows[0]], sizes)
        metric, params, stat = (labels[place] for place, (_, labels) in zip(places, of_kind, strict=True))
        undefined = {index: texts[why[rows[index]]] for index in np.flatnonzero(missing[rows]).tolist()}
        column = Column(steps[rows], names, weights[rows], values[rows], undefined)
        _require_possible(record, Request(metric, params), stat, column)
        record.columns[Request(metric, params), stat] = column


def _add_sketches(record: Record, table: pa.Table, digest: str) -> None:
    """Add the sketches of rows that were added, if `write_record` could have written them."""
    kept, rows = arrow.bytes_of(table[_SKETCH].combine_chunks(), BYTES)
    if _digest_of(kept) != digest:
        raise ValueError("its sketches do not match their digest")
    codes, names = _decoded(table, "weight")
    sketches = Sketches(arrow.cells(table["step"].combine_chunks())[rows], names, codes[rows], unpacked(kept))
    if sketches.repeats:
        raise ValueError("a sketch that is there twice")
    record.sketches = sketches


def _digest_of(kept: bytes) -> str:
    return hashlib.blake2b(kept, digest_size=16).hexdigest()


def _decoded(table: pa.Table, name: str) -> tuple[np.ndarray, list[str]]:
    """Codes and texts of a dictionary column."""
    column = table[name].combine_chunks()
    if column.null_count or column.dictionary.null_count:
        raise ValueError(f"a row without {name}")
    return arrow.cells(column.indices), column.dictionary.to_pylist()


def _alike(kinds: np.ndarray) -> list[np.ndarray]:
    """The places of each kind that occurs, ascending."""
    order = np.argsort(kinds, kind="stable")
    first = np.flatnonzero(np.diff(kinds[order])) + 1
    return np.split(order, first) if len(kinds) else []


def _require_possible(record: Record, request: Request, stat: str, column: Column) -> None:
    """Refuse figures that no weight of such a shape can have, and figures that are there twice."""
    metric = load_metrics().get(request.metric)
    if metric is not None:
        shapes = [record.weights[name].shape for name in column.names]
        of_shape = {shape: limits(metric, request.parameters(), stat, shape) for shape in set(shapes)}
        low, high = np.array([of_shape[shape] for shape in shapes]).reshape(-1, 2).T[:, column.codes]
        possible = (low <= column.values) & (column.values <= high)
        possible[list(column.undefined)] = True
        if not possible.all():
            name = column.names[column.codes[np.argmin(possible)]]
            raise ValueError(f"a figure of {request.metric} of {name} outside the range of its metric")
    if column.repeats:
        raise ValueError(f"a figure of {request.metric} that is there twice")


def _point(entry: dict[str, Any]) -> Point:
    point = Point(**entry)
    if type(point.step) is not int or point.step < 1 or not 0 <= point.progress <= 1 or not isinstance(point.name, str):
        raise ValueError(f"a checkpoint that cannot be: {point}")
    return point


def _texts(mapping: dict[Any, Any]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in mapping.items()}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} where a text is expected")
    return value
