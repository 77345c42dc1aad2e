"""The table of a record file, with a row per figure, from the columns of a record; and its digest, by which the file
shows that figures were edited by hand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from geomcheck.checkpoints import Weight
from geomcheck.record import arrow
from geomcheck.record.column import Column
from geomcheck.record.points import Origin, Point
from geomcheck.record.request import Request
from geomcheck.record.sketches import Sketches

SCHEMA = pa.schema(
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
        ("stack", pa.dictionary(pa.int32(), pa.string())),
        ("sketch", pa.large_binary()),
    ]
)

COLUMNS = ("step", "weight", "metric", "params", "stat", "value", "undefined")
"""The columns that are read back; the others repeat them for people who query the file."""


class Measured(Protocol):
    """What tables are made of: a `geomcheck.record.Record`, which can make them of itself."""

    run: str
    points: tuple[Point, ...]
    origin: Origin
    weights: dict[str, Weight]
    sketches: Sketches

    def measured(self) -> list[tuple[Request, str]]:
        """Every (request, statistic) that has figures, sorted."""
        ...

    def measured_weights(self) -> set[str]:
        """Names of the weights that have figures."""
        ...

    def column(self, request: Request, stat: str) -> Column:
        """All figures of one statistic."""
        ...


def table_of(record: Measured) -> pa.Table:
    """All figures, ordered by step, weight, request and statistic; the first of a step and weight has its sketch."""
    keys = record.measured()
    columns = [record.column(*key) for key in keys]
    weights = [record.weights[name] for name in sorted(record.measured_weights())]
    places = {weight.name: place for place, weight in enumerate(weights)}
    steps = _joined([column.steps for column in columns], np.int64)
    weight = _joined(
        [np.array([places.get(name, -1) for name in c.names], np.int32)[c.codes] for c in columns], np.int32
    )
    key = np.repeat(np.arange(len(keys), dtype=np.int32), [len(column.steps) for column in columns])
    values = _joined([column.values for column in columns], np.float64)
    reasons, why = _reasons(columns)
    order = np.lexsort((key, weight, steps))
    steps, weight, key, values, why = steps[order], weight[order], key[order], values[order], why[order]
    layer = np.array([-1 if w.layer is None else w.layer for w in weights], np.int32)[weight]
    return pa.Table.from_arrays(
        [
            arrow.column(steps),
            arrow.coded(weight, [w.name for w in weights]),
            arrow.column(layer, layer < 0),
            labelled([w.module for w in weights], weight),
            arrow.column(np.array([w.numel for w in weights], np.int64)[weight]),
            labelled([request.metric for request, _ in keys], key),
            labelled([request.params for request, _ in keys], key),
            labelled([stat for _, stat in keys], key),
            arrow.column(values, why >= 0),
            arrow.coded(why, reasons, why < 0).dictionary_decode(),
            labelled([w.stack for w in weights], weight, layer < 0),
            _sketches(record, steps, weight, places),
        ],
        schema=SCHEMA,
    )


def _sketches(record: Measured, steps: np.ndarray, weight: np.ndarray, places: Mapping[str, int]) -> pa.Array:
    """The sketch of each step and weight, in the first of its rows; those of what has no row are left out."""
    kept = record.sketches
    place = np.array([places.get(name, -1) for name in kept.names], np.int64)[kept.codes]
    first = np.flatnonzero(np.diff(steps, prepend=-1) | np.diff(weight, prepend=-1))
    ids = steps[first] * len(places) + weight[first]
    wanted = kept.steps * len(places) + place
    rows = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    found = np.flatnonzero((place >= 0) & (ids[rows] == wanted)) if len(ids) else np.empty(0, np.int64)
    found = found[np.argsort(rows[found])]
    return arrow.packed(kept.values[found], first[rows[found]], len(steps))


def _joined(parts: Sequence[np.ndarray], dtype: type[np.generic]) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype)


def labelled(labels: Sequence[str], codes: np.ndarray, missing: np.ndarray | None = None) -> pa.DictionaryArray:
    """The label of each row, by its code; several codes may have one label, and `missing` rows have none."""
    places = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    return arrow.coded(np.array([places[label] for label in labels], np.int32)[codes], list(places), missing)


def _reasons(columns: Sequence[Column]) -> tuple[list[str], np.ndarray]:
    """Why figures are undefined, and of each figure the place of its reason among those; -1 of the others."""
    starts = np.cumsum([0, *(len(column.steps) for column in columns)]).tolist()
    found = {
        start + index: reason
        for start, column in zip(starts, columns, strict=False)
        for index, reason in column.undefined.items()
    }
    places = {reason: place for place, reason in enumerate(dict.fromkeys(found.values()))}
    why = np.full(starts[-1], -1, np.int32)
    why[list(found)] = [places[reason] for reason in found.values()]
    return list(places), why


def digest_of_rows(table: pa.Table) -> str:
    """Digest of every cell of `COLUMNS`, in order, whatever encoding the texts have.

    It shows edits made by accident or in passing. It is no signature: anyone who edits figures can compute it anew.
    """
    content = hashlib.blake2b(digest_size=16)
    for name in COLUMNS:
        column = table[name].combine_chunks()
        missing = arrow.nulls(column)
        content.update(f"{name} {len(column)}\n".encode())
        content.update(np.packbits(missing).tobytes())
        if pa.types.is_string(column.type):
            column = column.dictionary_encode()
        if pa.types.is_dictionary(column.type):
            _add_texts(content, column, missing)
        else:
            content.update(np.where(missing, 0, arrow.cells(column)).tobytes())
    return content.hexdigest()


def _add_texts(content: hashlib.blake2b, column: pa.DictionaryArray, missing: np.ndarray) -> None:
    """Add the texts that occur, sorted, and for each row the place of its own among them."""
    texts = np.array(column.dictionary.to_pylist(), dtype=object)
    codes = arrow.cells(column.indices)[~missing]
    used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
    order = used[np.argsort(texts[used])]
    places = np.zeros(len(texts), dtype=np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    content.update(json.dumps(texts[order].tolist()).encode())
    content.update(places[codes].tobytes())
