"""A digest of all rows of a record, so that figures which were edited by hand do not pass for measured ones."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow as pa


def digest_of_rows(table: pa.Table) -> str:
    """Digest of every cell of `table`, in order; texts count by what they say, not by how a dictionary numbers them.

    It shows an edit made by accident or in passing. It is no signature: whoever edits figures can compute it anew.
    """
    content = hashlib.blake2b(digest_size=16)
    for name in table.column_names:
        column = table[name].combine_chunks()
        content.update(f"{name} {len(column)}\n".encode())
        content.update(np.packbits(np.asarray(column.is_null())).tobytes())
        if pa.types.is_dictionary(column.type):
            _add_texts(content, column)
        elif pa.types.is_string(column.type):
            _add_texts(content, column.dictionary_encode())
        else:
            content.update(np.ascontiguousarray(column.fill_null(0).to_numpy()).tobytes())
    return content.hexdigest()


def _add_texts(content: hashlib.blake2b, column: pa.DictionaryArray) -> None:
    texts = np.array(column.dictionary.to_pylist(), dtype=object)
    order = np.argsort(texts)
    places = np.empty(len(texts), dtype=np.int32)
    places[order] = np.arange(len(texts), dtype=np.int32)
    content.update(json.dumps(texts[order].tolist()).encode())
    codes = column.indices.fill_null(0).to_numpy()
    content.update(places[codes].tobytes() if len(texts) else b"")
