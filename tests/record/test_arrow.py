from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from geomcheck.record import arrow

COLUMNS = {
    "whole": pa.array([3, 1, 2], pa.int64()),
    "half": pa.array([3, None, 2, None], pa.int32()),
    "figures": pa.array([None, 0.5, -0.0, 1e300], pa.float64()),
    "none": pa.array([], pa.float64()),
    "all null": pa.array([None] * 9, pa.int64()),
}


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("first", range(3))
def test_numbers_and_nulls_are_those_that_arrow_tells(name: str, first: int) -> None:
    column = COLUMNS[name].slice(first)
    expected = column.to_pylist()
    nulls = arrow.nulls(column).tolist()
    assert nulls == [cell is None for cell in expected]
    assert [None if null else cell for cell, null in zip(arrow.cells(column).tolist(), nulls, strict=True)] == expected


def test_columns_of_arrays_are_valid_and_hold_them() -> None:
    values, missing = np.array([1.5, 2.5, 3.5]), np.array([False, True, False])
    column = arrow.column(values, missing)
    column.validate(full=True)
    assert column.to_pylist() == [1.5, None, 3.5]
    assert arrow.column(np.arange(20, dtype=np.int32)[::2]).to_pylist() == list(range(0, 20, 2))


def test_texts_survive_whatever_their_alphabet() -> None:
    names = ["", "model.layers.0", "größe", "重み", ""]
    column = arrow.texts(names)
    column.validate(full=True)
    assert column.to_pylist() == names


def test_coded_texts_are_null_where_they_are_missing() -> None:
    codes = np.array([1, -1, 0, 1])
    column = arrow.coded(codes, ["a", "b"], codes < 0)
    column.validate(full=True)
    assert column.dictionary_decode().to_pylist() == ["b", None, "a", "b"]
    assert arrow.coded(np.array([-1]), [], np.array([True])).dictionary_decode().to_pylist() == [None]


def test_other_types_are_refused() -> None:
    with pytest.raises(KeyError):
        arrow.cells(pa.array([True]))
