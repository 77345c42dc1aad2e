from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.runs import simple_run
from tests.stories.conftest import HEALTHY, STRICT

pytest.importorskip("xdist")


def test_workers_of_xdist_judge_what_the_controller_measured_once(
    opd_run: Path, write_suite, pytester: pytest.Pytester
) -> None:
    write_suite(STRICT, "strict")
    write_suite(HEALTHY, "healthy")
    simple_run(pytester.path / "good")
    run = ("--geom-run=ckpts/opd", "--geom-reference=good", "-p", "no:cacheprovider")
    alone = pytester.runpytest_inprocess(*run, "--geom-json=alone.json")
    spread = pytester.runpytest_subprocess(*run, "-n2", "--geom-json=spread.json")
    assert (alone.ret, spread.ret) == (1, 1)
    spread.assert_outcomes(passed=3, failed=1)
    spread.stdout.fnmatch_lines(["  FAILED support *", "  PASSED norm *"])
    texts = [(pytester.path / f"{name}.json").read_text() for name in ("alone", "spread")]
    assert json.loads(texts[0]) == json.loads(texts[1])


def test_what_workers_collected_counts_as_collected(opd_run: Path, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    assert pytester.runpytest_subprocess("--geom-run=ckpts/opd", "-n1").ret == 0


def test_usage_errors_keep_their_exit_code(pytester: pytest.Pytester, opd_run: Path) -> None:
    result = pytester.runpytest_subprocess("--geom-run=nowhere", "-n1")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*the run nowhere does not exist*"])


def test_an_expectation_whose_worker_dies_is_an_error(opd_run: Path, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(HEALTHY)
    pytester.makeconftest(
        "import os, signal\n\ndef pytest_runtest_call(item):\n"
        "    if item.name == 'rank':\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = pytester.runpytest_subprocess("--geom-run=ckpts/opd", "-n1", "--geom-json=v.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["  ERROR  rank *not measured*"])
    verdicts = json.loads((pytester.path / "v.json").read_text())
    assert verdicts["summary"] == {"passed": 1, "failed": 0, "error": 1, "warned": 0, "info": 0}
    (lost,) = (e for e in verdicts["runs"][0]["suites"][0]["expectations"] if e["outcome"] == "error")
    assert "it was not judged: worker 'gw0' crashed while running 'suites/mine.yaml::rank'" in lost["message"]


def test_what_was_judged_before_the_first_failure_is_written(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(STRICT)
    for workers in ((), ("-n1",)):
        result = geom("-x", "--geom-json=verdicts.json", *workers)
        assert result.ret in (1, 2)
        assert '"failed": 1' in Path("verdicts.json").read_text()
        assert "cut short" not in result.stdout.str()
