from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import geomcheck
from geomcheck.errors import RecordError
from geomcheck.record import Record, read_record, write_record
from tests.runs import Q, simple_run


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["stable_rank", "principal_angle"])


def test_a_record_survives_the_round_trip(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.parquet")
    again = read_record(tmp_path / "r.parquet")
    assert list(again.rows()) == list(record.rows())
    for name in (
        "run",
        "path",
        "layout",
        "points",
        "origin",
        "weights",
        "skipped",
        "versions",
        "fingerprints",
        "contents",
    ):
        assert getattr(again, name) == getattr(record, name)


def test_the_columns_are_those_of_the_contract(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.parquet")
    table = pq.read_table(tmp_path / "r.parquet")
    contract = ["step", "weight", "layer", "module", "numel", "metric", "params", "stat", "value"]
    assert table.column_names == [*contract, "undefined", "stack", "sketch"]
    row = table.filter(pa.compute.equal(table["weight"], Q)).to_pylist()[0]
    assert (row["layer"], row["module"], row["numel"], row["stack"]) == (0, "q_proj", 384, "model.layers")
    metadata = json.loads(table.schema.metadata[b"geomcheck"])
    assert {"format", "run", "base", "fingerprints", "versions"} <= set(metadata)


def test_sketches_survive_the_round_trip(record: Record, tmp_path: Path) -> None:
    write_record(record, tmp_path / "r.parquet")
    again, names = read_record(tmp_path / "r.parquet").sketches, sorted(record.measured_weights())
    assert len(again.values) == len(record.points) * len(names) == len(record.sketches.values)
    for point in record.points:
        kept = again.at(point.step, names)
        assert kept.any(axis=1).all()
        assert (kept == record.sketches.at(point.step, names)).all()
    assert not again.at(11, names).any()
    assert not again.at(10, ["nowhere"]).any()


SKETCHES = [
    (lambda cells: [None, *cells[1:]], "do not match their digest"),
    (lambda cells: [bytes(128), *cells[1:]], "do not match their digest"),
    (lambda cells: [cells[0][:-2], *cells[1:]], "a cell that has not 128 bytes"),
    (lambda cells: [b"\x00\x7c" * 64, *cells[1:]], "do not match|neither 0 nor 1"),
]


@pytest.mark.parametrize(("edit", "message"), SKETCHES)
def test_a_sketch_that_cannot_be_is_refused(record: Record, tmp_path: Path, edit, message: str) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    rewritten(file, lambda m: None, sketch=edit(pq.read_table(file)["sketch"].to_pylist()))
    with pytest.raises(RecordError, match=message):
        read_record(file)


def test_a_sketch_that_cannot_be_is_refused_whatever_its_digest(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    cells = [None if cell is None else b"\x00\x7c" * 64 for cell in pq.read_table(file)["sketch"].to_pylist()]
    digest = hashlib.blake2b(b"".join(cell for cell in cells if cell), digest_size=16).hexdigest()
    rewritten(file, lambda m: m["sketches"].update(digest=digest), sketch=cells)
    with pytest.raises(RecordError, match="neither 0 nor 1"):
        read_record(file)


def test_sketches_in_a_column_of_another_type_are_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    for kind in (pa.binary(), None):
        index = table.column_names.index("sketch")
        other = table.remove_column(index)
        if kind is not None:
            other = table.set_column(index, "sketch", table["sketch"].cast(kind))
        pq.write_table(other, file)
        with pytest.raises(RecordError, match="damaged record"):
            read_record(file)


def test_sketches_of_another_version_are_left_out(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    for change in (lambda m: m["sketches"].update(version=99), lambda m: m.pop("sketches")):
        rewritten(file, change)
        again = read_record(file)
        assert list(again.rows()) == list(record.rows())
        assert not len(again.sketches.values)


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


def rewritten(file: Path, change, **columns: list[object]) -> None:
    """Write the record again, with changed metadata (under a correct digest) and columns."""
    table = pq.read_table(file)
    metadata = json.loads(table.schema.metadata[b"geomcheck"])
    change(metadata)
    for name, values in columns.items():
        index = table.column_names.index(name)
        table = table.set_column(index, name, pa.array(values, table.schema.field(name).type))
    text = json.dumps(metadata).encode()
    digest = hashlib.blake2b(text).hexdigest().encode()
    pq.write_table(table.replace_schema_metadata({b"geomcheck": text, b"geomcheck.digest": digest}), file)


METADATA = [
    (lambda m: m.update(format=99), "format 99"),
    (lambda m: m.pop("points"), "points"),
    (lambda m: m.update(points=[]), "checkpoints are none"),
    (lambda m: m["points"].append(m["points"][0]), "repeated, or out of order"),
    (lambda m: m["points"].reverse(), "out of order"),
    (lambda m: m["points"][0].update(step=1.5), "a checkpoint that cannot be"),
    (lambda m: m["points"][0].update(progress=float("nan")), "a checkpoint that cannot be"),
    (lambda m: m.update(run=["x"]), "where a text is expected"),
    (lambda m: m.update(skipped=None), "damaged record"),
    (lambda m: m.update(weights={}, contents={}), "that the record does not have"),
    (lambda m: m.update(metrics={}), "that the record does not have"),
    (lambda m: m.update(routes={"D_t": {"svd": {"count": "9", "worst": None}}}), "no counts with certificates"),
    (lambda m: m.update(routes=[1]), "damaged record"),
    (lambda m: m.update(device=7), "where a text is expected"),
    (lambda m: m["contents"].update({"checkpoint-7": m["contents"]["W0"]}), "not those of its weights and checkpoints"),
    (lambda m: m["contents"]["W0"].pop(), "not those of its weights and checkpoints"),
    (lambda m: m["contents"].update(W0=["0"] * 5), "its contents are no numbers"),
    (lambda m: m["contents"].update(W0=[10**9] * 5), "its contents are no numbers"),
    (lambda m: m.update(contents=[]), "damaged record"),
    (lambda m: m["points"][0].update(progress=1.0), "progress falls"),
    (lambda m: m["weights"][Q].update(shape=[-24, 16]), "a shape that cannot be"),
    (lambda m: m["weights"][Q].update(shape=["24", 16]), "a shape that cannot be"),
    (lambda m: m["weights"][Q].update(dtypes=[7]), "where a text is expected"),
    (lambda m: m["weights"].update({Q: {"shape": None, "dtypes": []}}), "damaged record"),
]


@pytest.mark.parametrize(("change", "message"), METADATA)
def test_metadata_that_cannot_be_is_refused(record: Record, tmp_path: Path, change, message: str) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    rewritten(file, change)
    with pytest.raises(RecordError, match=message):
        read_record(file)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, -1.0])
def test_a_figure_that_cannot_be_is_refused(record: Record, tmp_path: Path, value: float | None) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    values = pq.read_table(file)["value"].to_pylist()
    rewritten(file, lambda m: None, value=[value, *values[1:]])
    with pytest.raises(RecordError, match="damaged record"):
        read_record(file)


def test_a_figure_above_the_rank_of_its_weight_is_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    values, metrics = table["value"].to_pylist(), table["metric"].to_pylist()
    values[metrics.index("stable_rank")] = 16.5
    rewritten(file, lambda m: m.pop("rows"), value=values)
    with pytest.raises(RecordError, match=r"a figure of stable_rank of \S+ outside the range of its metric"):
        read_record(file)


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("value", lambda cells: [1.5, *cells[1:]]),
        ("step", lambda cells: [30, *cells[1:]]),
        ("stat", lambda cells: ["other", *cells[1:]]),
    ],
)
def test_rows_that_were_edited_by_hand_are_refused(record: Record, tmp_path: Path, name: str, edit) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    index = table.column_names.index(name)
    cells = pa.array(edit(table[name].to_pylist()), table.schema.field(name).type)
    pq.write_table(table.set_column(index, table.schema.field(name), cells), file)
    with pytest.raises(RecordError, match="damaged record"):
        read_record(file)


def test_rows_are_the_same_however_parquet_lays_them_out(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    pq.write_table(pq.read_table(file), file, row_group_size=5, compression="none", data_page_size=64)
    assert list(read_record(file).rows()) == list(record.rows())


def test_a_figure_that_is_there_twice_is_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), file)
    with pytest.raises(RecordError, match="there twice"):
        read_record(file)


def test_a_record_of_an_older_geomcheck_is_read(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    rewritten(file, lambda m: [m.pop("routes"), m.pop("device"), m.pop("rows")])
    again = read_record(file)
    assert list(again.rows()) == list(record.rows())
    assert (again.routes, again.device) == ({}, "")


@pytest.mark.parametrize("name", ["weight", "metric", "params", "stat", "step"])
def test_a_row_with_a_gap_is_refused(record: Record, tmp_path: Path, name: str) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    cells = pq.read_table(file)[name].to_pylist()
    rewritten(file, lambda m: None, **{name: [None, *cells[1:]]})
    with pytest.raises(RecordError, match="damaged record"):
        read_record(file)


def test_a_record_without_the_column_of_stacks_or_with_one_of_later_versions_is_read(
    record: Record, tmp_path: Path
) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    for other in (table.drop_columns(["stack"]), table.append_column("later", pa.array([1] * len(table)))):
        pq.write_table(other, file)
        assert list(read_record(file).rows()) == list(record.rows())


def test_columns_of_other_types_are_refused(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    table = pq.read_table(file)
    pq.write_table(table.cast(table.schema.set(0, pa.field("step", pa.int32())), safe=False), file)
    with pytest.raises(RecordError, match="or of other types"):
        read_record(file)


def test_no_flipped_bit_changes_a_figure_unseen(record: Record, tmp_path: Path) -> None:
    file = tmp_path / "r.parquet"
    write_record(record, file)
    clean, content = list(record.rows()), file.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(150):
        flipped = bytearray(content)
        flipped[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        file.write_bytes(flipped)
        try:
            again = read_record(file)
        except RecordError:
            refused += 1
        else:
            assert list(again.rows()) == clean
            assert (again.points, again.weights, again.run) == (record.points, record.weights, record.run)
    assert refused > 50
