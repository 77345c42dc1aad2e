from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import geomcheck
from geomcheck.errors import UsageError
from geomcheck.record import Request
from tests.runs import DOWN, K, Q, simple_run
from tests.stories.conftest import HEALTHY


def test_a_run_is_measured_and_judged_from_python(tmp_path: Path) -> None:
    run = geomcheck.open_run(simple_run(tmp_path / "opd"))
    (tmp_path / "suite.yaml").write_text(HEALTHY)
    suite = geomcheck.load_suite(tmp_path / "suite.yaml")
    record = geomcheck.measure(run, suites=[suite])
    assert [verdict.outcome for verdict in suite.evaluate(record)] == ["passed", "passed"]


def test_metrics_are_measured_by_name(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["stable_rank"])
    assert record.measured_metrics() == {"stable_rank", "frozen_share", "rounding_share", "relative_update_norm"}
    assert record.measured_weights() == {Q, K, DOWN}


def test_by_default_everything_that_can_tell_anything_is_measured(tmp_path: Path) -> None:
    record = geomcheck.measure(simple_run(tmp_path / "opd"))
    measured = record.measured_metrics()
    assert {"update_sparsity", "principal_angle", "spectral_shift"} <= measured
    assert "subspace_alignment" not in measured  # 16 directions are everything in a 16-wide matrix
    assert record.figures(Request("stable_rank"), "value")


def test_another_base_can_be_given(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    other = shutil.copytree(run / "checkpoint-10", tmp_path / "other")
    record = geomcheck.measure(run, base=other, metrics=["update_norm"])
    assert record.origin.path == str(other)
    first = record.figures(Request("update_norm"), "value")[10, Q]
    assert first.value == 0.0


def test_an_unknown_metric_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric is called 'stable_rnak'; did you mean `stable_rank`?"):
        geomcheck.measure(simple_run(tmp_path / "opd"), metrics=["stable_rnak"])


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        _ = geomcheck.mesure
