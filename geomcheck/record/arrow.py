"""Convert columns of Arrow to numpy arrays and back.

pyarrow's own conversions (``to_numpy``, ``__array__``, ``pa.array``) import pandas wherever it is installed, which
takes longer than reading a record. These functions use the buffers directly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

_DTYPES = {pa.int32(): np.int32, pa.int64(): np.int64, pa.float64(): np.float64}


def cells(column: pa.Array) -> np.ndarray:
    """The numbers of a column, shape (rows,), without a copy; undefined where null. Raises KeyError on other types."""
    dtype = np.dtype(_DTYPES[column.type])
    if not len(column):
        return np.empty(0, dtype)
    return np.frombuffer(column.buffers()[1], dtype, len(column), column.offset * dtype.itemsize)


def nulls(column: pa.Array) -> np.ndarray:
    """Which cells are null: bool, shape (rows,)."""
    valid = column.buffers()[0]
    if valid is None or not column.null_count:
        return np.zeros(len(column), dtype=bool)
    bits = np.unpackbits(np.frombuffer(valid, np.uint8), bitorder="little")
    return bits[column.offset : column.offset + len(column)] == 0


def column(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """A column of these numbers, shape (rows,), null where they are `missing`."""
    kind = next(kind for kind, dtype in _DTYPES.items() if values.dtype == dtype)
    valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(np.ascontiguousarray(values))])


def texts(values: Sequence[str]) -> pa.Array:
    """A column of these texts."""
    encoded = [text.encode() for text in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def coded(codes: np.ndarray, values: Sequence[str], missing: np.ndarray | None = None) -> pa.DictionaryArray:
    """A column of texts, given by codes of shape (rows,) into `values`; null where they are `missing`."""
    return pa.DictionaryArray.from_arrays(column(codes.astype(np.int32), missing), texts(values))
