"""HTML reports, as sessions and the command leave them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geomcheck.cli import main
from tests.runs import DOWN, Q, base_weights, moved, write_run
from tests.stories.conftest import HEALTHY, STRICT


def test_a_session_leaves_a_report(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    result = geom("--geom-report=out/report.html")
    result.stdout.fnmatch_lines(["report: out/report.html"])
    page = (pytester.path / "out" / "report.html").read_text(encoding="utf-8")
    assert "1 of 2 expectations failed" in page
    assert "The learning rate is ten times too high." in page
    assert "suites/mine.yaml:6" in page
    assert Q in page
    for title in ("Stable rank", "Principal-angle rotation", "Which training does it look like?"):
        assert title in page  # measured for the report: no expectation asks for them


def test_a_report_does_not_change_the_verdicts(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    geom("--geom-json=plain.json")
    geom("--geom-json=with.json", "--geom-report=r.html")
    assert (pytester.path / "plain.json").read_text() == (pytester.path / "with.json").read_text()


def test_workers_of_xdist_leave_the_same_report(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    geom("--geom-report=one.html")
    geom("--geom-report=two.html", "-n1")
    assert (pytester.path / "one.html").read_text() == (pytester.path / "two.html").read_text()


@pytest.mark.parametrize("target", ["ckpts/opd/report.html", "ckpts/opd/base/model.safetensors", "suites/mine.yaml"])
def test_a_report_never_replaces_what_is_read(geom, write_suite, pytester: pytest.Pytester, target: str) -> None:
    write_suite(HEALTHY)
    before = {path: path.read_bytes() for path in pytester.path.rglob("*") if path.is_file()}
    result = geom(f"--geom-report={target}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--geom-report={target} would write to*never written to"])
    assert {path: path.read_bytes() for path in pytester.path.rglob("*") if path.is_file()} == before


def test_two_outputs_are_two_files(geom, write_suite) -> None:
    write_suite(HEALTHY)
    result = geom("--geom-report=x", "--geom-json=./x")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*name the same file"])


def test_a_run_that_cannot_be_measured_is_in_the_report(geom, write_suite, opd_run: Path, pytester) -> None:
    write_suite(HEALTHY)
    copy = (opd_run / "checkpoint-10" / "model.safetensors").read_bytes()
    (opd_run / "checkpoint-20" / "model.safetensors").write_bytes(copy)
    assert geom("--geom-report=r.html").ret == 1
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert "2 of 2 expectations failed; 1 run could not be measured" in page
    assert "hold the same weights" in page


def test_a_broken_weight_is_in_the_report(geom, write_suite, opd_run: Path, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    broken = moved(base_weights(), 1e-2)
    broken[Q][0, 0] = float("nan")
    write_run(opd_run, base_weights(), {10: broken})
    assert geom("--geom-report=r.html").ret == 1
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert "1 run could not be measured" in page
    assert "1 of 384 values are NaN or infinite" in page
    assert page.count("Explains") == 1


def test_a_suite_that_cannot_be_read_is_in_the_report(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY.replace("above", "abvoe"))
    assert geom("--geom-report=r.html").ret == 2
    page = (pytester.path / "r.html").read_text(encoding="utf-8")
    assert "1 suite could not be read" in page
    assert "unknown key `abvoe`" in page


def command(*arguments: str) -> int:
    return main(["report", *arguments])


def test_the_command_reports_a_record(geom, write_suite, opd_run: Path, pytester: pytest.Pytester, capsys) -> None:
    suite = write_suite(STRICT)
    geom("--geom-record=r.parquet")
    assert command("r.parquet", "-o", "plain.html") == 0
    assert capsys.readouterr().out.endswith("plain.html\n")
    assert "No suite was judged: figures only" in Path("plain.html").read_text(encoding="utf-8")
    assert command("r.parquet", "-o", "judged.html", "--suite", str(suite)) == 0
    assert "1 of 2 expectations failed" in Path("judged.html").read_text(encoding="utf-8")


def test_the_command_compares_a_run_with_a_record(geom, write_suite, opd_run: Path, capsys) -> None:
    write_suite(HEALTHY)
    geom("--geom-record=r.parquet")
    assert command("r.parquet", str(opd_run), "-o", "c.html") == 0
    page = Path("c.html").read_text(encoding="utf-8")
    assert "Comparison of 2 runs" in page
    assert re.search(r'class="line run1[ "]', page)
    assert DOWN in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "-o", "x.html"], "nowhere"),
        (["ckpts/opd", "-o", "ckpts/opd/x.html"], "would write to the run ckpts/opd, which is never written to"),
        (["ckpts/opd", "-o", "ckpts"], "ckpts is a directory; name a file"),
        (["ckpts/opd", "-o", "x.html", "--suite", "odp"], "odp"),
        (["notes.txt", "-o", "x.html"], "not a readable record"),
    ],
)
def test_the_command_refuses_what_cannot_be(
    opd_run: Path, pytester, capsys, arguments: list[str], message: str
) -> None:
    Path("notes.txt").write_text("no record")
    assert command(*arguments) == 4
    error = capsys.readouterr().err
    assert error.startswith("geomcheck: ")
    assert message in error
    assert not Path("x.html").exists()
