from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import geomcheck
from geomcheck.errors import RecordError
from geomcheck.measurement import Record, read_record, write_record
from tests.runs import Q, simple_run


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["stable_rank", "principal_angle"])


def test_a_record_survives_the_round_trip(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.parquet")
    again = read_record(tmp_path / "r.parquet")
    assert list(again.rows()) == list(record.rows())
    for name in ("run", "path", "layout", "points", "origin", "weights", "skipped", "versions", "fingerprints"):
        assert getattr(again, name) == getattr(record, name)


def test_the_columns_are_those_of_the_contract(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    contract = ["step", "weight", "layer", "module", "numel", "metric", "params", "stat", "value"]
    assert table.column_names == [*contract, "undefined"]
    row = table.filter(pa.compute.equal(table["weight"], Q)).to_pylist()[0]
    assert (row["layer"], row["module"], row["numel"]) == (0, "q_proj", 384)
    metadata = json.loads(table.schema.metadata[b"geomcheck"])
    assert {"format", "run", "base", "fingerprints", "versions"} <= set(metadata)


def test_writing_replaces_the_file_at_once(record: Record, tmp_path: Path) -> None:
    target = tmp_path / "out" / "r.parquet"
    write_record(record, target)
    write_record(record, target)
    assert [path.name for path in target.parent.iterdir()] == ["r.parquet"]


def test_what_is_no_record_is_refused(record: Record, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.parquet"
    garbage.write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(RecordError, match="not a readable record"):
        read_record(garbage)
    with pytest.raises(RecordError, match="not a readable record"):
        read_record(tmp_path / "nowhere.parquet")
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(RecordError, match="r.parquet|foreign.parquet"):
        read_record(foreign)


def test_a_truncated_record_is_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(RecordError, match="not a readable record"):
        read_record(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_figure_that_is_none_is_refused(record: Record, tmp_path: Path, value: float | None) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    values = table["value"].to_pylist()
    values[0] = value
    pq.write_table(table.set_column(table.column_names.index("value"), "value", pa.array(values, pa.float64())), file)
    with pytest.raises(RecordError, match="damaged record"):
        read_record(file)


def test_another_format_version_is_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    metadata = json.loads(table.schema.metadata[b"geomcheck"]) | {"format": 99}
    pq.write_table(table.replace_schema_metadata({b"geomcheck": json.dumps(metadata).encode()}), file)
    with pytest.raises(RecordError, match="format 99"):
        read_record(file)
