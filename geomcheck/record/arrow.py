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


def packed(values: np.ndarray, rows: np.ndarray, count: int) -> pa.Array:
    """A column of `count` cells of bytes: of `values`, shape (n, any), in these `rows`, ascending; others are null."""
    there = np.zeros(count, dtype=bool)
    there[rows] = True
    width = values.itemsize * values.shape[1]
    ends = np.concatenate([[0], np.cumsum(there, dtype=np.int64) * width]).astype(np.int64)
    data = pa.py_buffer(np.ascontiguousarray(values))
    valid = pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(pa.large_binary(), count, [valid, pa.py_buffer(ends), data])


def bytes_of(column: pa.Array, width: int) -> tuple[bytes, np.ndarray]:
    """The bytes of all cells of a column of bytes, one after the other, and their rows. Raises ValueError where a cell
    has not this width, or the column another type than `packed` gives."""
    if column.type != pa.large_binary():
        raise ValueError(f"cells of {column.type} instead of bytes")
    if not len(column):
        return b"", np.empty(0, np.int64)
    there = ~nulls(column)
    ends = np.frombuffer(column.buffers()[1], np.int64, len(column) + 1, column.offset * 8)
    if not (np.diff(ends) == np.where(there, width, 0)).all():
        raise ValueError(f"a cell that has not {width} bytes")
    data = column.buffers()[2]
    return (data.to_pybytes()[ends[0] : ends[-1]] if data is not None else b""), np.flatnonzero(there)
