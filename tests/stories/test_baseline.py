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


def test_without_a_baseline_nothing_is_green(geom, write_suite) -> None:
    write_suite(LIKE)
    result = geom("--geom-reference=baseline.parquet", "-rs")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.assert_outcomes(skipped=1)
    bless = "bless a good run with: geomcheck measure RUN -o baseline.parquet"
    result.stdout.fnmatch_lines([f"note: 1 expectation not judged: no baseline at baseline.parquet yet; {bless}"])
    result.stdout.fnmatch_lines(["geomcheck: no expectation was judged"])


def test_without_a_baseline_the_rest_is_judged(geom, write_suite) -> None:
    write_suite(LIKE)
    write_suite(HEALTHY, "healthy")
    result = geom("--geom-reference=baseline.parquet", "--geom-json=v.json")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=2, skipped=1)
    assert '"outcome": "info"' in Path("v.json").read_text()


def test_a_missing_baseline_may_be_an_error(geom, write_suite) -> None:
    write_suite(LIKE)
    result = geom("--geom-reference=baseline.parquet", "--geom-missing-baseline=error")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["cannot judge relative_update_norm: no baseline at baseline.parquet yet*"])


def test_under_xdist_too(geom, write_suite) -> None:
    write_suite(LIKE)
    result = geom("--geom-reference=baseline.parquet", "-n1")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["geomcheck: no expectation was judged"])


def test_only_measure_writes_a_baseline(geom, write_suite, pytester: pytest.Pytester) -> None:
    write_suite(LIKE)
    result = geom("--geom-reference=baseline.parquet", "--geom-record=baseline.parquet")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*would write to the baseline baseline.parquet, which is never written to"])
    base = base_weights()
    good = write_run(pytester.path / "good", base, {s: moved(base, 1e-3 * s, seed=s + 1) for s in (10, 20, 30)})
    assert main(["measure", str(good), "-o", "baseline.parquet"]) == 0
    before = Path("baseline.parquet").read_bytes()
    geom("--geom-reference=baseline.parquet").assert_outcomes(passed=1)
    assert geom("--geom-reference=baseline.parquet", "--geom-record=baseline.parquet").ret == 4
    assert Path("baseline.parquet").read_bytes() == before
