"""A baseline is a record that someone blessed. Until there is one, nothing is compared and nothing passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from geomcheck.cli import main
from tests.runs import base_weights, moved, write_run
from tests.stories.conftest import HEALTHY

LIKE = """
geomcheck: 1
name: like
expect:
  - id: same
    metric: relative_update_norm
    like: reference
    tolerance: 5%
"""


MISSING = ("--geom-reference=baseline.parquet", "--geom-missing-baseline=info")


def test_without_a_baseline_nothing_is_green(geom, write_suite) -> None:
    write_suite(LIKE)
    result = geom(*MISSING, "-rs")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.assert_outcomes(skipped=1)
    bless = "bless a good run with: geomcheck measure RUN -o baseline.parquet"
    result.stdout.fnmatch_lines([f"note: 1 expectation not judged: no baseline at baseline.parquet yet; {bless}"])
    result.stdout.fnmatch_lines(["geomcheck: no expectation on opd was judged"])


def test_without_a_baseline_the_rest_is_judged(geom, write_suite) -> None:
    write_suite(LIKE)
    write_suite(HEALTHY, "healthy")
    result = geom(*MISSING, "--geom-json=v.json")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2, skipped=1)
    assert '"outcome": "info"' in Path("v.json").read_text()


@pytest.mark.parametrize("suite", [LIKE, HEALTHY])
def test_a_missing_baseline_is_an_error_unless_the_project_says_that_it_may_be(
    geom, write_suite, pytester: pytest.Pytester, suite: str
) -> None:
    write_suite(suite)
    for arguments in ((), ("--geom-missing-baseline=error",)):
        result = geom("--geom-reference=nope.parquet", *arguments)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--geom-reference: no baseline at nope.parquet yet; bless a good run with:*"])
    pytester.makeini("[pytest]\ngeom_missing_baseline = info")
    assert geom("--geom-reference=nope.parquet").ret != pytest.ExitCode.USAGE_ERROR
    assert geom("--geom-reference=nope.parquet", "--geom-missing-baseline=error").ret == 4
    pytester.makeini("[pytest]\ngeom_missing_baseline = perhaps")
    result = geom("--geom-reference=nope.parquet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*geom_missing_baseline = perhaps in the ini file: write error or info"])


def test_under_xdist_too(geom, write_suite) -> None:
    write_suite(LIKE)
    result = geom(*MISSING, "-n1")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["geomcheck: no expectation on opd was judged"])


def test_only_measure_writes_a_baseline(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(LIKE)
    result = geom(*MISSING, "--geom-record=baseline.parquet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*would write to the baseline baseline.parquet, which is never written to"])
    base = base_weights()
    good = write_run(pytester.path / "good", base, {s: moved(base, 1e-3 * s, seed=s + 1) for s in (10, 20, 30)})
    assert main(["measure", str(good), "-o", "baseline.parquet"]) == 0
    before = Path("baseline.parquet").read_bytes()
    geom("--geom-reference=baseline.parquet").assert_outcomes(passed=1)
    assert geom("--geom-reference=baseline.parquet", "--geom-record=baseline.parquet").ret == 4
    assert Path("baseline.parquet").read_bytes() == before
