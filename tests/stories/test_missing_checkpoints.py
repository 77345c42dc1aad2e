"""A run that lacks checkpoints of a suite with bands, or has more; and one cause that stops many expectations."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from geomcheck.report.html import write_report
from geomcheck.report.session import Reported
from tests.runs import base_weights, simple_run, write_model
from tests.stories.conftest import HEALTHY

BANDS = "[{step: 10, within: [0.1%, 99.9%]}, {step: 20, within: [0.1%, 99.9%]}, {step: 30, within: [0.1%, 99.9%]}]"
BANDED = f"""
geomcheck: 1
name: banded
expect:
  - {{id: support, metric: update_support, bands: {BANDS}}}
  - {{id: size, metric: relative_update_norm, bands: {BANDS}}}
  - {{id: top, metric: top_energy, k: 4, bands: {BANDS}}}
  - {{id: frozen, metric: frozen_share, below: 50%}}
"""
ACCEPT = "--geom-missing-checkpoints=info"
PRUNED = "the run has no checkpoint at step 20; it has 10, 30"
PLACES = "     stops support, size, top"


@pytest.fixture
def pruned(opd_run: Path, write_suite) -> Path:
    write_suite(BANDED)
    shutil.rmtree(opd_run / "checkpoint-20")
    return opd_run


@pytest.mark.parametrize("arguments", [(), ("-q",), ("-v",), ("--tb=no",), ("--tb=line",), ("-n1",)], ids=" ".join)
def test_what_is_missing_is_told_once_with_the_figures_of_the_rest(geom, pruned, arguments) -> None:
    result = geom(*arguments)
    result.assert_outcomes(failed=3, passed=1)
    assert result.ret == 1
    told = f"cause 1, of 3 errors: opd: {PRUNED} ({ACCEPT} accepts that)"
    result.stdout.fnmatch_lines([told, PLACES])
    assert result.stdout.str().count(PRUNED) == 1
    assert "FAILURES" not in result.stdout.str()
    short = [line for line in result.stdout.lines if line.startswith("FAILED")]
    assert ["see cause 1: cannot judge " in line for line in short] == [True] * 3
    if "-q" not in arguments:
        result.stdout.fnmatch_lines(["  ERROR  support *% *0.1% to 99.9% at step 30*"])


@pytest.mark.parametrize("how", ["option", "ini", "ini, under xdist"])
def test_missing_checkpoints_may_be_accepted(geom, pruned, pytester: pytest.Pytester, how: str) -> None:
    if how != "option":
        pytester.makeini("[pytest]\ngeom_missing_checkpoints = info\n")
    result = geom(*{"option": [ACCEPT], "ini": [], "ini, under xdist": ["-n1"]}[how])
    assert result.ret == 0
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines([f"warning: support (and 2 more): {PRUNED}"])


def test_a_wrong_word_in_the_ini_file_is_wrong_usage(geom, pruned, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngeom_missing_checkpoints = warn\n")
    result = geom()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*geom_missing_checkpoints = warn in the ini file: write error or info"])


def test_a_violation_has_its_text_beside_the_cause(geom, pruned, write_suite) -> None:
    top = f"metric: top_energy, k: 4, bands: {BANDS}"
    write_suite(BANDED.replace(top, top.replace("0.1%, 99.9%", "30%, 31%")))
    result = geom()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["cause 1, of 2 errors: *", "*FAILURES*", "top_energy left its band *"])
    result.stdout.fnmatch_lines([f"  warning    {PRUNED}"])


def test_a_last_checkpoint_without_a_band_does_not_pass(geom, opd_run: Path, write_suite) -> None:
    write_suite(BANDED)
    write_model(opd_run / "checkpoint-40", {name: w.float() + 0.1 for name, w in base_weights().items()})
    state = json.dumps({"global_step": 40, "max_steps": 40})
    (opd_run / "checkpoint-40" / "trainer_state.json").write_text(state)
    result = geom("--geom-json=out.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["cause 1, of 3 errors: opd: no band judges step 40: the last is that of step 30 *"])
    lax = geom(ACCEPT)
    assert lax.ret == 0
    lax.stdout.fnmatch_lines(["warning: support (and 2 more): no band judges step 40: the last is that of step 30"])


@pytest.mark.parametrize(("at", "said"), [("first", True), ("{step: 20}", True), ("last", False), ("all", False)])
def test_a_last_checkpoint_that_nothing_looks_at_is_named(geom, write_suite, pytester, at: str, said: bool) -> None:
    write_suite(f"geomcheck: 1\nexpect:\n  - {{id: support, metric: update_support, above: 1%, at: {at}}}\n")
    result = geom("-q", "--geom-json=out.json")
    assert result.ret == 0
    assert ("note: opd: nothing judges its last checkpoint, step 30" in result.stdout.lines) == said
    (run,) = json.loads((pytester.path / "out.json").read_text())["runs"]
    judged = {"first": [True, False, False], "{step: 20}": [False, True, False], "last": [False, False, True]}
    assert [point["judged"] for point in run["checkpoints"]] == judged.get(at, [True, True, True])


@pytest.fixture
def foreign(opd_run: Path, write_suite) -> Path:
    """A run beside the W0 of another model."""
    write_suite(BANDED)
    write_model(opd_run / "base", base_weights(seed=5))
    return opd_run


def test_a_w0_that_does_not_fit_is_told_once_everywhere(geom, foreign, pytester, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    outputs = ("--geom-json=out.json", "--geom-report=out.html", "--junitxml=out.xml")
    result = geom(*outputs)
    assert result.ret == 1
    assert result.stdout.str().count("are different models") == 4  # the finding, what was refused, their annotations
    finding, annotation = (line for line in result.stdout.lines if line.startswith("::"))
    assert "another-model" in finding
    assert annotation.startswith(
        "::error file=suites/mine.yaml,line=5,title=geomcheck%3A opd%3A 4 expectations not judged::W0 "
    )
    assert "frozen (suites/mine.yaml:8)" in annotation
    summary = (pytester.path / "summary.md").read_text()
    assert (summary.count("are different models"), summary.count("see finding 1")) == (2, 4), summary
    page = (pytester.path / "out.html").read_text()
    assert page.count("are different models") == 2
    (run,) = json.loads((pytester.path / "out.json").read_text())["runs"]
    found = run["suites"][0]["expectations"]
    assert len({own["cause"] for own in found}) == 1
    assert all(own["message"] == f"cannot judge {own['metric']}: {own['cause']}" for own in found)
    failures = ElementTree.parse(pytester.path / "out.xml").getroot().iter("failure")
    assert ["are different models" in str(failure.get("message")) for failure in failures] == [True] * 4


def test_what_stops_one_alone_is_told_as_ever(geom, foreign) -> None:
    result = geom("-k", "support")
    result.stdout.fnmatch_lines(["  1. W0 and the run are different models: *", "     explains  support"])
    assert "cause 1" not in result.stdout.str()


def test_two_runs_have_their_own_causes(geom, pruned, pytester: pytest.Pytester) -> None:
    shutil.rmtree(simple_run(pytester.path / "ckpts" / "other") / "checkpoint-10")
    result = geom("--geom-run=ckpts/other")
    result.stdout.fnmatch_lines(
        [
            f"cause 1, of 3 errors: opd: {PRUNED} *",
            "cause 2, of 3 errors: other: the run has no checkpoint at step 10; it has 20, 30 *",
            "FAILED *support?opd? - see cause 1: *",
            "FAILED *support?other? - see cause 2: *",
        ]
    )


def test_a_run_that_cannot_be_read_is_told_once_on_a_page(tmp_path: Path) -> None:
    run = Reported("opd", "ckpts/opd", problem="it is <torn>")
    write_report(tmp_path / "out.html", [run])
    assert (tmp_path / "out.html").read_text().count("it is &lt;torn&gt;") == 1


def test_a_run_that_ended_early_says_so_once_where_there_is_no_header(geom, opd_run: Path, write_suite) -> None:
    write_suite(HEALTHY.replace("at: last", "at: all"))
    for state in opd_run.glob("*/trainer_state.json"):
        state.write_text(state.read_text().replace('"max_steps": 30', '"max_steps": 150'))
    result = geom("-q")
    assert result.ret == 0
    assert result.stdout.lines.count("note: opd: it ended at step 30, 20% of the training that was planned") == 1


def test_a_suite_for_the_last_checkpoint_stays_green(geom, pruned, write_suite) -> None:
    write_suite(HEALTHY)
    result = geom()
    assert result.ret == 0
    assert "warning" not in result.stdout.str()
