"""Record files and the entries of a cache as targets."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save

from geomcheck.inspection import inspect
from geomcheck.measurement.cache import Cache
from geomcheck.measurement.cache.recall import decoded_digests, decoded_entry
from geomcheck.measurement.cache.store import Store
from geomcheck.record import Record, read_record, write_record
from geomcheck.report.html import Reported, judged, page
from geomcheck.suite import Suite, judge, load_suite
from tests.reliability.fuzz.places import put
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.watch import ROOT
from tests.report.records import record_of

_NAMES = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"]


@cache
def _suite() -> Suite:
    return load_suite(ROOT / "suites" / "tiny-opd.yaml")


def _use(record: Record) -> None:
    """What a gate does with a record: judge it, describe it, draw it."""
    verdicts = [judge(expectation, record, record) for expectation in _suite().expectations]
    pairs = zip(_suite().expectations, verdicts, strict=True)
    shown = [judged("tiny-opd", verdict.to_dict(), expectation, record, None) for expectation, verdict in pairs]
    page([Reported(record.run, record.path, record, shown)])


def _record(content: bytes, scratch: Path) -> None:
    path = put(scratch / "fuzzed.parquet", content)
    _use(read_record(path))
    inspect(path)


@cache
def good() -> pa.Table:
    with TemporaryDirectory() as directory:
        write_record(record_of(_NAMES, steps=(30, 60)), Path(directory) / "r.parquet")
        return pq.read_table(Path(directory) / "r.parquet")


def _written(table: pa.Table, metadata: bytes, compression: str = "none") -> bytes:
    """`table` as a record, with a digest that fits `metadata`."""
    described = {b"geomcheck": metadata, b"geomcheck.digest": hashlib.blake2b(metadata).hexdigest().encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(described), sink, compression=compression, write_page_checksum=False)
    return sink.getvalue().to_pybytes()


def _metadata() -> dict[str, bytes]:
    """As an older geomcheck wrote it, without a digest of the rows, which are fuzzed."""
    known = json.loads(good().schema.metadata[b"geomcheck"])
    return {"usual": json.dumps({key: value for key, value in known.items() if key != "rows"}).encode()}


def _records() -> dict[str, bytes]:
    usual = _metadata()["usual"]
    return {
        "plain": _written(good(), usual),
        "zstd": _written(good(), usual, "zstd"),
        "none": _written(good()[:0], usual),
    }


def _record_metadata(content: bytes, scratch: Path) -> None:
    _record(_written(good()[:20], content), scratch)


def _record_rows(content: bytes, scratch: Path) -> None:
    """Rows as JSON, over those of a good record: figures and texts that fit together, or do not."""
    try:
        changes = json.loads(content)
    except (ValueError, RecursionError):
        return
    rows: list[dict[str, Any]] = good()[:20].to_pylist()
    if not isinstance(changes, list) or not all(isinstance(change, dict) for change in changes):
        return
    for row, change in zip(rows, changes, strict=False):
        row |= {key: value for key, value in change.items() if key in row}
    try:
        table = pa.Table.from_pylist(rows, schema=good().schema)
        written = _written(table, _metadata()["usual"])
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return  # no such table can be written
    _record(written, scratch)


def _rows() -> dict[str, bytes]:
    changes = [{"value": 0.5}, {"value": None, "undefined": "zero"}]
    other = [{"weight": "x", "metric": "other", "params": '{"k": [1]}', "layer": None, "numel": -1}]
    return {"changes": json.dumps(changes).encode(), "other": json.dumps(other).encode()}


_KEYS = [bytes([number]) * 16 for number in range(4)]


@cache
def _sqlite() -> bytes:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "s.sqlite"
        store = Store(path, max_bytes=10**6, tell=lambda text: None)
        store.put({key: json.dumps({"answers": {"a": {"value": 1.0}}}).encode() for key in _KEYS})
        store.close()
        with sqlite3.connect(path) as connection:
            connection.execute("VACUUM")
        return path.read_bytes()


def _store(content: bytes, scratch: Path) -> None:
    store = Store(put(scratch / "fuzzed.sqlite", content), max_bytes=10**6, tell=lambda text: None)
    for value in store.get(_KEYS).values():
        decoded_entry(value)
    store.put({_KEYS[0]: b"{}"})
    store.close()


def _entry(content: bytes, scratch: Path) -> None:
    decoded_digests(content)
    entry = decoded_entry(content)
    for answer in entry.get("answers", {}).values():
        assert isinstance(answer, str | dict)
    assert all(len(route) == 2 for route in entry.get("routes", {}).values())


def _entries() -> Mapping[str, bytes]:
    full = {"answers": {"a": {"value": 1.0}, "b": "zero"}, "routes": {"svd": ["dense", None], "gram": ["krylov", 1e-9]}}
    return {"full": json.dumps(full).encode(), "digests": b'{"w": "00"}'}


def _base(content: bytes, scratch: Path) -> None:
    cache = Cache(scratch / "cache", tell=lambda text: None)
    cache.keep_base_state("00", {"s": torch.ones(2)})
    (kept,) = (scratch / "cache" / "bases").iterdir()
    put(kept, content)
    cache.base_state("00", max_bytes=10**6)
    cache.close()


def targets() -> list[Target]:
    """Records, and what a cache keeps."""
    good(), _suite()  # made before anybody watches
    return [
        Target("record", _record, _records),
        Target("record-metadata", _record_metadata, _metadata),
        Target("record-rows", _record_rows, _rows),
        Target("cache-file", _store, lambda: {"usual": _sqlite()}),
        Target("cache-entry", _entry, _entries),
        Target("cache-base", _base, lambda: {"usual": save({"s": torch.ones(2)}, {"content": "00"})}),
    ]
