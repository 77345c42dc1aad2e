from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.runs import K, Q, base_weights, moved, simple_run, write_run
from tests.stories.conftest import HEALTHY, STRICT


def test_a_healthy_run_passes(geom, write_suite) -> None:
    write_suite(HEALTHY)
    result = geom()
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "geomcheck *: opd: 3 checkpoints, steps 10 to 30, W0: base/ in the run; suites: suites/mine.yaml",
            "suites/mine.yaml ..*",
            "opd against healthy",
            "  PASSED support  update_support  9?.??% * above 50% *",
            "  PASSED rank     stable_rank     * -> *  1.5 to 16 *",
        ]
    )


def test_a_violation_says_everything(geom, write_suite) -> None:
    write_suite(STRICT)
    result = geom("-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "  FAILED support *",
            "  PASSED norm *",
            "update_support left value < 5% at step 30: 9?.??% (mean weighted by size of 3 weights)",
            "  expected   below 5% at the last checkpoint, mean weighted by size over weights",
            "  metric     update_support (cast=bf16, eta=0.001)",
            "  observed   step * 30*",
            "             value  9*!",
            "  furthest   from the others:",
            "             model.layers.0.*.weight  9*% at step 30",
            "  weights    3 measured, 0 frozen, 0 skipped",
            "  why        The learning rate is ten times too high.",
            "  suite      suites/mine.yaml:6",
            "FAILED suites/mine.yaml::support - 9?.??% at step 30, below 5%*",
        ]
    )


def test_only_geometry_is_collected_unless_paths_are_given(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makepyfile("def test_other(): pass")
    geom().assert_outcomes(passed=2)
    geom(".").assert_outcomes(passed=3)
    only_tests = geom("test_only_geometry_is_collected_unless_paths_are_given.py")
    only_tests.assert_outcomes(passed=1)
    assert only_tests.ret == 5
    only_tests.stdout.fnmatch_lines(["*geomcheck: nothing was checked*"])


def test_a_suite_named_as_a_path_judges_any_run(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    simple_run(pytester.path / "ckpts" / "other")
    assert geom(path="ckpts/other").ret == 4
    geom("suites/mine.yaml", path="ckpts/other").assert_outcomes(passed=2)
    geom("suites/mine.yaml::rank", path="ckpts/other").assert_outcomes(passed=1)
    geom("--geom-suite=suites/mine.yaml", path="ckpts/other").assert_outcomes(passed=2)


def test_a_suite_outside_the_project_works(geom, write_suite, tmp_path_factory: pytest.TempPathFactory) -> None:
    suite = tmp_path_factory.mktemp("elsewhere") / "suite.yaml"
    suite.write_text(HEALTHY)
    geom(f"--geom-suite={suite}").assert_outcomes(passed=2)


def test_without_suites_the_shipped_ones_are_candidates(geom) -> None:
    result = geom("--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::stable-rank-band", "*::locked-from-the-start"])
    assert result.ret == 0


def test_a_suite_of_the_project_goes_before_a_shipped_one(geom, write_suite) -> None:
    write_suite(HEALTHY.replace("name: healthy", "name: opd"), "opd")
    result = geom("--geom-suite=opd")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["geomcheck *; suites: suites/opd.yaml"])


def test_suites_that_the_ini_file_promises_must_be_there(geom, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngeom_suites = nowhere/*.yaml")
    result = geom()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*: geom_suites in the ini file: `nowhere/[*].yaml` names no suite in *"])


def test_the_base_of_the_ini_file_counts_from_the_rootdir(
    write_suite, opd_run: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_suite(HEALTHY)
    (opd_run / "base").rename(pytester.path / "anchor")
    pytester.makeini("[pytest]\ngeom_base = anchor")
    (pytester.path / "sub").mkdir()
    monkeypatch.chdir(pytester.path / "sub")
    result = pytester.runpytest_inprocess("--geom-run=../ckpts/opd", "--rootdir=..", "-c", "../tox.ini")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*W0: geom_base of the ini file*"])


def test_several_runs_are_told_apart(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    simple_run(pytester.path / "ckpts" / "opd-2")
    simple_run(pytester.path / "other" / "opd")
    result = geom("--geom-run=ckpts/opd-2", "--geom-run=other/opd", "-v")
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(
        [
            "suites/mine.yaml::support?opd? PASSED*",
            "suites/mine.yaml::support?opd-2? PASSED*",
            "suites/mine.yaml::support?other-opd? PASSED*",
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "passed", "failed"),
    [(("-k", "norm"), 1, 0), (("-k", "support"), 0, 1), (("-m", "geom"), 1, 1), (("-x",), 0, 1)],
)
def test_pytests_own_selection_works(geom, write_suite, arguments, passed: int, failed: int) -> None:
    write_suite(STRICT)
    result = geom(*arguments)
    outcomes = result.parseoutcomes()
    assert (outcomes.get("passed", 0), outcomes.get("failed", 0)) == (passed, failed)


def test_last_failed_runs_what_failed(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    run = ("--geom-run=ckpts/opd", "--lf")
    pytester.runpytest_inprocess(*run).assert_outcomes(passed=1, failed=1)
    pytester.runpytest_inprocess(*run).assert_outcomes(failed=1)


def test_a_selection_that_leaves_nothing_is_no_pass(geom, write_suite) -> None:
    write_suite(HEALTHY)
    assert geom("-k", "nothing").ret == 5


def test_collect_only_reads_no_weights(geom, write_suite, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(HEALTHY)

    def fail(*_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("geomcheck.checkpoints.formats.safetensors.SafetensorsDirectory.read", fail)
    result = geom("--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["suites/mine.yaml::support", "suites/mine.yaml::rank"])


def test_the_other_suites_are_judged_where_pytest_goes_on_after_a_broken_one(geom, write_suite) -> None:
    write_suite(HEALTHY)
    write_suite("geomcheck: 1\nexpect: nothing", "broken")
    geom("--continue-on-collection-errors").assert_outcomes(passed=2, errors=1)


def test_only_what_is_selected_is_measured(geom, write_suite, monkeypatch: pytest.MonkeyPatch) -> None:
    write_suite(HEALTHY)

    def fail(*_: object) -> None:
        raise AssertionError("a spectrum was computed")

    monkeypatch.setattr("torch.linalg.eigh", fail)
    geom("-k", "support").assert_outcomes(passed=1)


def test_levels_decide_what_fails_the_session(geom, write_suite) -> None:
    write_suite(STRICT.replace("below: 5%", "below: 5%\n    level: warn"))
    warned = geom()
    assert warned.ret == 0
    warned.stdout.fnmatch_lines(["  WARNED support *"])
    assert geom("--geom-fail-on=warn").ret == 1
    write_suite(STRICT.replace("below: 5%", "below: 5%\n    level: info"))
    info = geom("--geom-fail-on=warn")
    assert info.ret == 0
    info.stdout.fnmatch_lines(["  INFO * support *"])


def test_a_reference_run_is_compared_with(geom, write_suite, pytester: pytest.Pytester) -> None:
    simple_run(pytester.path / "good")
    like = HEALTHY.replace("above: 50%", "like: reference\n    tolerance: 1%")
    write_suite(like)
    geom("--geom-reference=good").assert_outcomes(passed=2)
    missing = geom()
    missing.assert_outcomes(passed=1, failed=1)
    missing.stdout.fnmatch_lines(["*--geom-reference=PATH*"])


def test_masks_are_compared_with_the_reference(geom, write_suite, pytester: pytest.Pytester) -> None:
    simple_run(pytester.path / "good")
    jaccard = HEALTHY.replace("update_support\n    above: 50%", "mask_jaccard\n    above: 99%")
    write_suite(jaccard)
    geom("--geom-reference=good", "-k", "support").assert_outcomes(passed=1)
    geom("-k", "support").assert_outcomes(failed=1)


def test_a_python_test_can_use_the_record(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makepyfile("def test_record(geom_record): assert len(geom_record.measured_weights()) == 3")
    geom(".").assert_outcomes(passed=3)
    without = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rs")
    without.assert_outcomes(skipped=1)
    without.stdout.fnmatch_lines(["*geom_record needs a run: pytest --geom-run=PATH"])


def test_without_a_suite_the_record_holds_everything(geom, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_record(geom_record): assert 'stable_rank' in geom_record.measured_metrics()")
    geom("test_without_a_suite_the_record_holds_everything.py").assert_outcomes(passed=1)


def test_without_a_suite_the_base_of_the_ini_file_counts(geom, opd_run: Path, pytester: pytest.Pytester) -> None:
    (opd_run / "base").rename(pytester.path / "anchor")
    pytester.makeini("[pytest]\ngeom_base = anchor")
    pytester.makepyfile("def test_record(geom_record): assert geom_record.origin.path.endswith('anchor')")
    geom("test_without_a_suite_the_base_of_the_ini_file_counts.py").assert_outcomes(passed=1)


def test_without_a_run_the_plugin_is_absent(write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_was_imported():
            assert not {"torch", "pydantic", "numpy", "geomcheck.gate"} & set(sys.modules)
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*geomcheck [0-9]*")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, geomcheck, geomcheck.plugin; sys.exit(bool({'torch', 'pydantic', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_says_its_version_without_torch() -> None:
    code = "import sys, geomcheck.cli.program; sys.exit(bool({'torch', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_nothing_is_written_to_the_run(geom, write_suite, opd_run: Path) -> None:
    write_suite(HEALTHY)

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [opd_run, *opd_run.rglob("*")]}

    before = state()
    assert geom("--geom-json=out/v.json", "--geom-record=out/r.parquet").ret == 0
    assert state() == before


def test_many_runs_of_one_name_are_all_judged(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    geom("--geom-record=recs/0.parquet")
    for number in range(1, 8):
        shutil.copy(pytester.path / "recs" / "0.parquet", pytester.path / "recs" / f"{number}.parquet")
    runs = [f"--geom-run=recs/{number}.parquet" for number in range(1, 8)]
    geom(*runs, path="recs/0.parquet").assert_outcomes(passed=16)


def test_a_named_suite_is_collected_wherever_it_lies(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    (pytester.path / "build").mkdir()
    (pytester.path / "build" / "hidden.yaml").write_text(STRICT)
    result = geom("suites", "--geom-suite=build/hidden.yaml")
    result.assert_outcomes(passed=3, failed=1)


@pytest.mark.parametrize("arguments", [(), ("-n1",)])
def test_a_named_suite_is_judged_where_pytest_does_not_go(
    geom, write_suite, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    """pytest drops a file below a directory argument, and enters no directory such as build/."""
    write_suite(HEALTHY)
    (pytester.path / "build").mkdir()
    (pytester.path / "build" / "hidden.yaml").write_text(STRICT)
    geom(".", "--geom-suite=build/hidden.yaml", *arguments).assert_outcomes(passed=3, failed=1)


@pytest.mark.parametrize("arguments", [(), ("-n1",)])
def test_a_suite_that_applies_is_judged_where_pytest_does_not_go(
    geom, write_suite, pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    """Two suites apply; pytest enters the directory of one of them."""
    write_suite(HEALTHY)
    (pytester.path / "build").mkdir()
    (pytester.path / "build" / "strict.yaml").write_text(STRICT)
    pytester.makeini("[pytest]\ngeom_suites = suites/*.yaml build/*.yaml")
    result = geom(".", *arguments)
    result.assert_outcomes(passed=3, failed=1)
    assert geom(".", "-k", "rank", *arguments).ret == 0
    assert geom(".", "--ignore=build", *arguments).ret == 0


def test_groups_that_start_late_keep_their_columns(geom, write_suite, opd_run: Path) -> None:
    base = base_weights()
    first = moved(base, 1e-2) | {Q: base[Q].float()}
    write_run(opd_run, base, {10: first, 20: moved(base, 2e-2), 30: moved(base, 3e-2)})
    write_suite(HEALTHY.replace("within: [1.5, 16]", "within: [1.5, 2]\n    per: weight"))
    result = geom("-k", "rank", "-v")
    assert result.ret == 1
    result.stdout.re_match_lines([rf" +{Q} +- +\d+\.\d+! +\d+\.\d+!.*"])


def test_a_run_that_ended_early_is_named_in_the_header_and_at_the_last_checkpoint(
    pytester: pytest.Pytester, write_suite
) -> None:
    base = base_weights()
    checkpoints = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
    write_run(pytester.path / "opd-early", base, checkpoints, max_steps=150)
    write_suite(HEALTHY)
    result = pytester.runpytest_inprocess("--geom-run=opd-early", "-p", "no:cacheprovider")
    assert result.ret == 0
    result.stdout.re_match_lines(
        [
            r"geomcheck .*: opd-early: 3 checkpoints, steps 10 to 30 \(ended at step 30, 20%",
            r"warning: support: `last` is not the end of the training: the run ended at step 30, 20% of .*",
        ]
    )
    write_suite(HEALTHY.replace("at: last", "at: {progress: 100%}"))
    result = pytester.runpytest_inprocess("--geom-run=opd-early", "-p", "no:cacheprovider")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*no checkpoint is near progress 100%: the nearest is step 30 at 20%*"])


def test_an_expected_failure_is_not_called_one(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker(pytest.mark.xfail(reason="known: #12"))
        """
    )
    result = geom("--geom-json=verdicts.json", "--geom-report=report.html")
    assert result.ret == 0
    result.assert_outcomes(xfailed=1, xpassed=1)
    result.stdout.fnmatch_lines(
        [
            "  WARNED support *",
            "  PASSED norm *",
            "warning: support: violated, and does not fail the session (marked xfail: known: #12)",
            "warning: norm: it holds, though marked xfail: known: #12",
        ]
    )
    assert "FAILED" not in result.stdout.str()
    counts = json.loads(Path("verdicts.json").read_text())["summary"]
    assert (counts["warned"], counts["passed"], counts["failed"]) == (1, 1, 0)
    assert "1 of 2 expectations warned" in Path("report.html").read_text()


def test_an_expected_failure_that_holds_fails_where_it_is_strict(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    pytester.makeini("[pytest]\nxfail_strict = true\nstrict_xfail = true")
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker("xfail")
        """
    )
    result = geom("-k", "norm")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  FAILED norm *", "warning: norm: the session fails for *XPASS*", "*FAILURES*"])


@pytest.mark.parametrize("inside", [True, False])
def test_the_suites_of_the_project_are_not_passed_over_for_shipped_ones(
    write_suite, opd_run: Path, pytester: pytest.Pytester, inside: bool
) -> None:
    write_suite(HEALTHY, "opd")
    suite = pytester.path / "suites" / "opd.yaml"
    suite.write_text(suite.read_text().replace("geomcheck: 1", '"geomcheck": 1'))
    ini = pytester.path / "sub" / "pytest.ini"
    ini.parent.mkdir()
    ini.write_text("[pytest]\n")
    if inside:
        pytester.chdir()
        os.chdir("sub")
    arguments = (f"--geom-run={opd_run}", *([] if inside else ["-c", "sub/pytest.ini"]))
    for further in ((), ("--geom-suite=opd",)):
        result = pytester.runpytest_inprocess(*arguments, *further)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*pytest's rootdir is */sub, by */pytest.ini, which has no suites/*.yaml: the *"])
    healthy = pytester.path / "suites" / "opd.yaml"
    assert pytester.runpytest_inprocess(*arguments, f"--geom-suite={healthy}").ret == 0
    assert pytester.runpytest_inprocess(f"--geom-run={opd_run}", f"--rootdir={pytester.path}").ret == 0


@pytest.mark.parametrize("option", ["--cache-show", "--fixtures", "--fixtures-per-test", "--markers", "--help"])
def test_what_pytest_only_shows_needs_no_gate(
    opd_run: Path, write_suite, pytester: pytest.Pytester, option: str
) -> None:
    write_suite(HEALTHY)
    result = pytester.runpytest_inprocess(f"--geom-run={opd_run}", "--geom-json=verdicts.json", option)
    assert result.ret in (0, pytest.ExitCode.NO_TESTS_COLLECTED)
    said = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in said
    assert "nothing was checked" not in said
    assert not Path("verdicts.json").exists()


def test_a_plugin_that_runs_failures_again_has_one_verdict_of_each(
    geom, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(STRICT)
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for last in (False, True):
                for report in runtestprotocol(item, nextitem=nextitem, log=False):
                    if report.failed and not last:
                        report.outcome = "rerun"
                    if last or report.outcome == "rerun":
                        item.ihook.pytest_runtest_logreport(report=report)
            return True
        """
    )
    result = geom()
    assert result.ret == 1
    verdicts = [line for line in result.stdout.lines if line.startswith(("  FAILED", "  WARNED", "  PASSED"))]
    assert [line.split()[:2] for line in verdicts] == [["FAILED", "support"], ["PASSED", "norm"]]
    assert "overruled" not in result.stdout.str()


def test_marks_and_early_ends_are_told_together(write_suite, pytester: pytest.Pytester) -> None:
    base = base_weights()
    checkpoints = {step: moved(base, 1e-3 * step, seed=step) for step in (10, 20, 30)}
    write_run(pytester.path / "opd-early", base, checkpoints, max_steps=100)
    span = "at: {from: {progress: 10%}, to: {progress: 90%}}"
    write_suite(STRICT.replace("below: 1", f"below: 0.001\n    level: warn\n    {span}"))
    pytester.makeini("[pytest]\nxfail_strict = true\nstrict_xfail = true")
    pytester.makeconftest(
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                item.add_marker("xfail")
        """
    )
    result = pytester.runpytest_inprocess("--geom-run=opd-early", "-p", "no:cacheprovider")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        [
            "  FAILED norm *",
            "  WARNED support *",
            "warning: support: `last` is not the end of the training: *",
            "warning: support: violated, and does not fail the session (marked xfail)",
            "warning: norm: `at` is judged up to there alone: the run ended at step 30, 30% of *",
            "warning: norm: the session fails for its mark: [[]XPASS(strict)[]]*",
        ]
    )


def test_a_frozen_weight_without_a_figure_is_left_out_and_counted(write_suite, pytester: pytest.Pytester) -> None:
    base = base_weights()
    base[K] = torch.zeros_like(base[K])
    write_run(pytester.path / "opd", base, {s: moved(base, 1e-2 * s, seed=s) | {K: base[K].float()} for s in (1, 2)})
    write_suite(
        """
        geomcheck: 1
        name: zeros
        expect:
          - {id: norm, metric: relative_update_norm, below: 50%}
          - {id: shift, metric: spectral_shift, below: 50%}
          - {id: angle, metric: principal_angle, k: 4, below: 80 deg}
          - {id: each, metric: relative_update_norm, below: 50%, per: weight}
        """
    )
    result = pytester.runpytest_inprocess("--geom-run=opd", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines([f"cannot judge relative_update_norm: {K} never changed, and has no *: exclude it *"])
