"""A run among good ones that is none is named, and good ones are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import geomcheck
from geomcheck.calibration.outlier import apart, outlier
from geomcheck.errors import UsageError
from geomcheck.suite.language.places import Place
from tests.runs import base_weights, moved, repeats, write_run

PLACES = tuple(Place(step=step) for step in (30, 60, 90))
METRICS = tuple(f"metric-{n}" for n in range(8))


def figures(runs, *, noise=0.02, seed=0, off=None, run=0):
    """Of `runs` runs; in one the metrics of `off` are that many times larger."""
    rng = np.random.default_rng(seed)
    found = {}
    for name in METRICS:
        table = 3 * (1 + noise * rng.standard_normal((runs, 1))) * (1 + noise / 3 * rng.standard_normal((runs, 3)))
        table[run] *= (off or {}).get(name, 1)
        found[name] = tuple(dict(zip(PLACES, row, strict=True)) for row in table.tolist())
    return found


@pytest.mark.parametrize("runs", [3, 4, 5, 8])
def test_good_runs_are_hardly_ever_accused(runs):
    accused = sum(outlier(figures(runs, seed=seed)) is not None for seed in range(300))
    assert accused <= 3


@pytest.mark.parametrize("runs", [3, 5])
@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_a_run_of_which_half_the_metrics_are_off_is_named(runs, factor):
    for seed in range(20):
        found = outlier(figures(runs, seed=seed, off=dict.fromkeys(METRICS[:4], factor), run=seed % runs))
        assert found is not None
        assert found.run == seed % runs
        assert f"{METRICS[0]} {factor:.1}"[:9] in found.why or "metric-" in found.why


def test_one_odd_metric_accuses_nobody():
    assert outlier(figures(5, off={METRICS[0]: 9.0})) is None


def test_a_weight_that_never_moved_in_one_run_alone_accuses_it():
    still = [tuple(dict.fromkeys(PLACES, share) for share in shares) for shares in ((0, 0.1, 0), (0.1, 0.1, 0.1))]
    found = outlier({**figures(3), "frozen-share": still[0]})
    assert found is not None
    assert (found.run, found.why) == (1, "10% of its weights never moved, and in every other run they did")
    assert outlier({**figures(3), "frozen-share": still[1]}) is None


def test_from_two_runs_nobody_is_accused_and_a_large_distance_is_told():
    assert outlier(figures(2, off=dict.fromkeys(METRICS, 3.0))) is None
    assert "from two nobody can tell which" in apart(figures(2, off=dict.fromkeys(METRICS, 3.0)))
    assert apart(figures(2)) == ""
    assert apart(figures(3, off=dict.fromkeys(METRICS, 3.0))) == ""


def test_figures_around_zero_and_none_at_all_accuse_nobody():
    assert outlier({}) is None
    assert outlier({"cosine": tuple({PLACES[0]: 0.0} for _ in range(3))}) is None


def test_calibration_stops_at_a_run_of_twice_the_size(good_runs: list[Path], tmp_path: Path) -> None:
    (odd,) = repeats(tmp_path, 1, scale=2e-2)
    with pytest.raises(UsageError, match=r"seed-0 differs from the other 3 runs: .*--keep-outlier") as error:
        geomcheck.calibrate([*good_runs[:3], odd])
    assert str(odd) in str(error.value)
    kept = geomcheck.calibrate([*good_runs[1:4], odd], keep_outlier=True)
    assert "it was kept" in kept.warnings[0]


def test_calibration_stops_at_a_run_with_a_frozen_weight(good_runs: list[Path], tmp_path: Path) -> None:
    base = base_weights()
    name = next(name for name in base if "q_proj" in name)
    steps = {step: {**moved(base, 1e-3 * step, seed=step), name: base[name].float()} for step in (10, 20)}
    odd = write_run(tmp_path / "frozen", base, steps)
    with pytest.raises(UsageError, match="of its weights never moved"):
        geomcheck.calibrate([*good_runs[:3], odd])
