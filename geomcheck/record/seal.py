"""A digest of all figures of a record, by which a record file shows that figures were edited by hand."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa

from geomcheck.record import arrow

COLUMNS = ("step", "weight", "metric", "params", "stat", "value", "undefined")
"""The columns that are read back; the others repeat them for people who query the file."""


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
