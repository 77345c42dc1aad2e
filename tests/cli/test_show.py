"""The figures of one run: as a table, in files, as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import geomcheck
from geomcheck.cli import main
from geomcheck.record import Figure, Record
from geomcheck.record.column import Column
from geomcheck.record.long import SCHEMA
from geomcheck.suite.folds import fold
from tests.figures import edit
from tests.report.records import record_of
from tests.runs import age, simple_run

NAMES = [f"model.layers.{layer}.self_attn.{module}.weight" for layer in (0, 1) for module in ("q_proj", "k_proj")]
Read = Callable[..., str]


@pytest.fixture
def record() -> Record:
    return record_of([*NAMES, "model.embed_tokens.weight"])


@pytest.fixture
def shown(record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Read:
    """What `geomcheck show RECORD ...` prints."""
    monkeypatch.chdir(tmp_path)

    def show(*arguments: str, code: int = 0) -> str:
        geomcheck.write_record(record, "r.parquet")
        assert main(["show", "r.parquet", *arguments]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return show


def row(text: str, label: str) -> list[str]:
    return next(line.split()[1:] for line in text.splitlines() if line.startswith(f"  {label} "))


def test_a_row_per_metric_folded_as_suites_fold(record: Record, shown: Read) -> None:
    text = shown()
    assert "synthetic: 5 checkpoints, steps 100 to 500, W0: --base" in text
    assert max(map(len, text.splitlines())) <= 80
    (key,) = (key for key in record.columns if key[0].metric == "stable_rank")
    figures = record.figures(*key)
    mean = fold({name: figures[100, name].value or 0 for name in NAMES}, "mean", record.weights)
    assert row(text, "stable_rank")[0] == f"{mean:.4g}"
    assert row(text, "update_support")[0].endswith("%")


@pytest.mark.parametrize(
    ("per", "labels"), [("layer", ["layer 0", "layer 1"]), ("module", ["k_proj", "q_proj"]), ("weight", sorted(NAMES))]
)
def test_a_table_per_metric_with_a_row_per_group(per: str, labels: list[str], shown: Read) -> None:
    text = shown(f"--per={per}", "--metrics=stable_rank,principal_angle")
    assert text.count("\n  step ") == 2
    assert "\nprincipal_angle (deg)\n" in text
    assert all(text.count(f"\n  {label} ") == 2 for label in labels)
    assert "embed" not in text


def test_what_is_missing_is_a_dash_or_marked_and_the_reason_is_told(record: Record, shown: Read) -> None:
    undefined = Figure(undefined="its spectrum is flat")
    edit(record, "stable_rank", {(200, NAMES[0]): undefined, **{(300, name): undefined for name in NAMES}})
    edit(record, "frozen_share", {(100, name): Figure(1.0) for name in NAMES})
    text = shown("--metrics=stable_rank")
    cells = row(text, "stable_rank")
    assert cells[0] == cells[2] == "-"
    assert cells[1].endswith("*")
    assert "at step 100: 4 of 4 weights without a figure" in text
    assert "it equals W0 there" in text
    assert "at step 200: 1 of 4 weights" in text
    assert "its spectrum is flat" in text
    told = json.loads(shown("--metrics=stable_rank", "--json"))["metrics"][0]["figures"]
    assert told[2]["value"] is None
    assert "its spectrum is flat" in told[2]["reason"]


def test_files_hold_the_same_in_long_form(shown: Read) -> None:
    shown("--per=layer", "--csv=f.csv", "--parquet=f.parquet")
    with Path("f.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == SCHEMA.names == pq.read_schema("f.parquet").names
    kept = pq.read_table("f.parquet").to_pylist()
    assert [float(told["value"]) for told in rows] == [told["value"] for told in kept]
    assert {(told["layer"], told["weight"]) for told in kept} == {(0, None), (1, None)}
    shown("--per=weight", "--csv=f.csv")
    with Path("f.csv").open(newline="") as file:
        assert {told["weight"] for told in csv.DictReader(file)} == set(NAMES)


def test_a_run_is_measured_and_remembered(tmp_path: Path, shown: Read, no_reading: Callable[[], None], capsys) -> None:
    age(simple_run(tmp_path / "opd"))
    assert main(["show", "opd", "--metrics=stable_rank", "-q"]) == 0
    first = capsys.readouterr().out
    assert row(first, "stable_rank")
    no_reading()
    assert main(["show", "opd", "--metrics=stable_rank", "-q"]) == 0
    assert capsys.readouterr().out == first


def test_many_checkpoints_keep_to_the_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for count in (12, 60):
        geomcheck.write_record(record_of(NAMES, tuple(range(10, 10 * count + 1, 10))), "long.parquet")
        assert main(["show", "long.parquet"]) == 0
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        assert str(10 * count) in text
        assert ("left out" in text) is (count == 60)


def test_what_a_budget_left_out_is_told_beside_the_figures_of_the_others(record: Record, shown: Read) -> None:
    (key,) = (key for key in record.columns if key[0].metric == "stable_rank")
    kept = {cell: figure for cell, figure in record.columns[key].figures.items() if cell[1] not in NAMES[:2]}
    record.columns[key], record.left_out = Column.of(kept), tuple(NAMES[:2])
    text = shown("--metrics=stable_rank")
    assert all(cell.endswith("*") for cell in row(text, "stable_rank")[:5])
    assert "2 of 4 weights without a figure" in text
    assert "not measured there" in text


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-x", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_text_of_a_table_is_a_formula(record: Record, shown: Read, name: str) -> None:
    record.run = name
    shown("--csv=f.csv", "--parquet=f.parquet")
    with Path("f.csv").open(newline="") as file:
        assert {told["run"] for told in csv.DictReader(file)} == {f"'{name}"}
    assert pq.read_table("f.parquet").column("run")[0].as_py() == name


def test_what_cannot_be_shown_is_told(shown: Read) -> None:
    assert "no metric is called 'stable_rnk'; did you mean `stable_rank`?" in shown("--metrics=stable_rnk", code=4)
    assert "holds no subspace_alignment; it holds frozen_share," in shown("--metrics=subspace_alignment", code=4)
    assert "no weight" in shown("--weights=*nowhere*", code=4)
    assert "the output goes to a file" in shown("--csv=-", code=4)
    assert "which is never written to" in shown("--csv=r.parquet", code=4)
    assert geomcheck.read_record("r.parquet").run == "synthetic"


def test_names_do_not_drive_the_terminal(record: Record, shown: Read) -> None:
    record.run = "\x1b[2Jopd"
    assert "\\x1b[2Jopd" in shown()
