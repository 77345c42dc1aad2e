"""The long form has every figure once, and a record shows itself without markup from its names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import geomcheck
from geomcheck.errors import UsageError
from geomcheck.record import Figure, Record
from geomcheck.record.long import SCHEMA, long_form
from tests.figures import edit
from tests.report.records import record_of

NAMES = [f"model.layers.{layer}.self_attn.{module}.weight" for layer in (0, 1) for module in ("q_proj", "k_proj")]


@pytest.fixture
def record() -> Record:
    found = record_of([*NAMES, "lm_head.weight"])
    edit(found, "stable_rank", {(200, NAMES[0]): Figure(undefined="its spectrum is flat")})
    return found


def test_every_figure_has_a_row_with_its_place_and_unit(record: Record) -> None:
    rows = long_form(record).to_pylist()
    assert len(rows) == len(list(record.rows()))
    for row, told in zip(record.rows(), rows, strict=True):
        assert (told["step"], told["weight"], told["metric"]) == (row.step, row.weight, row.request.metric)
        assert (told["value"], told["undefined"]) == row.figure
        assert told["checkpoint"] == f"checkpoint-{row.step}"
        assert told["progress"] == row.step / 500
    odd = next(row for row in rows if row["undefined"])
    assert (odd["value"], odd["undefined"], odd["layer"], odd["module"]) == (None, "its spectrum is flat", 0, "q_proj")
    assert {row["metric"]: row["unit"] for row in rows}["principal_angle"] == "deg"
    assert {row["layer"] for row in rows if row["weight"] == "lm_head.weight"} == {None}


def test_pandas_gets_the_same_columns(record: Record) -> None:
    pandas = pytest.importorskip("pandas")
    frame = record.to_pandas()
    assert list(frame.columns) == SCHEMA.names
    assert len(frame) == long_form(record).num_rows
    assert frame["layer"].dtype == pandas.Int32Dtype()
    at = frame[(frame["metric"] == "stable_rank") & (frame["weight"] == NAMES[0])]
    assert at["value"].isna().tolist() == [False, True, False, False, False]


def test_a_record_without_figures_is_an_empty_frame(record: Record) -> None:
    pytest.importorskip("pandas")
    record.columns = {}
    assert record.to_pandas().empty
    assert "0 measured weights" in record._repr_html_()


def test_without_pandas_it_says_what_to_install(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        record.to_pandas()


def test_a_notebook_shows_provenance_and_the_last_figures(record: Record) -> None:
    shown = record._repr_html_()
    assert "<b>Record of synthetic</b>" in shown
    assert "5 checkpoints, steps 100 to 500" in shown
    assert "principal_angle" in shown
    edit(record, "stable_rank", {(500, name): Figure(undefined="flat") for name in record.weights})
    (row,) = (row for row in record._repr_html_().split("<tr>") if ">stable_rank<" in row)
    assert row.count(">-<") == 3


def test_names_are_no_markup(record: Record, tmp_path: Path) -> None:
    record.run = "<script>alert(1)</script>\u202e"
    assert "<script" not in record._repr_html_()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e" in record._repr_html_()
    suite = tmp_path / "suite.yaml"
    text = "geomcheck: 1\nexpect:\n  - {id: rank, metric: stable_rank, below: 2, why: '<img src=x>'}\n"
    suite.write_text(text)
    del record.columns[next(key for key in record.columns if key[0].metric == "stable_rank")]
    verdicts = geomcheck.load_suite(suite).evaluate(record)
    for shown in (verdicts._repr_html_(), verdicts[0]._repr_html_()):
        assert "<img" not in shown
        assert "<script" not in shown
        assert "error" in shown
