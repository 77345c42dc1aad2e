"""The rules against probability itself: coverage by simulation, with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from geomcheck.calibration import BandRule, Range, Spread, Student, Trajectory
from geomcheck.calibration.rules import REPEATABILITY
from geomcheck.diagnostics import load_metrics
from geomcheck.suite.language.places import Place

TRIALS = 20_000


def alarms(rule: Student, runs: NDArray[np.float64], fresh: NDArray[np.float64]) -> float:
    """Share of trials in which `fresh` (trial, figure) leaves a band made of `runs` (trial, run, figure)."""
    _, n, figures = runs.shape
    reach = rule.factor(n, figures) * runs.std(axis=1, ddof=1)
    low, high = runs.mean(axis=1) - reach, runs.mean(axis=1) + reach
    low, high = np.minimum(low, runs.min(axis=1)), np.maximum(high, runs.max(axis=1))
    return float(((fresh < low) | (fresh > high)).any(axis=1).mean())


def band(rule: BandRule, *figures: float) -> tuple[float, float]:
    """The band of a metric with these figures at its only checkpoint."""
    rows = tuple((figure,) for figure in figures)
    trajectory = Trajectory(load_metrics()["update_norm"], (Place(step=1),), (1.0,), rows, (0.0, math.inf))
    ((found,),) = rule.bands([trajectory])
    return found


def simulated(n: int, figures: int, correlation: float, target: float) -> float:
    rng = np.random.default_rng(7)
    shared = rng.standard_normal((TRIALS, n + 1, 1))
    own = rng.standard_normal((TRIALS, n + 1, figures))
    values = 3 + 0.1 * (math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own)
    return alarms(Student(target), values[:, :n], values[:, n])


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_a_suite_keeps_its_false_alarm_rate(n: int, correlation: float) -> None:
    rate = simulated(n, 12, correlation, 0.05)
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    assert rate > 0.002  # a bound that nothing ever reaches would be deaf


def test_one_band_has_exactly_the_rate_where_iso_s_factor_is_no_floor() -> None:
    assert simulated(4, 1, 0.0, 0.05) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / TRIALS))


def test_2_8_standard_deviations_of_five_runs_would_not_keep_it() -> None:
    """What the correction is for."""

    class Plain(Student):
        def factor(self, n: int, bands: int) -> float:
            return REPEATABILITY

    rng = np.random.default_rng(7)
    values = rng.standard_normal((TRIALS, 6, 12))
    assert alarms(Plain(), values[:, :5], values[:, 5]) > 0.3


def test_with_many_runs_the_limit_is_that_of_iso_5725() -> None:
    assert pytest.approx(math.sqrt(2) * stats.norm.ppf(0.975), abs=0.03) == REPEATABILITY
    assert Student(0.05).factor(1000, 1) == REPEATABILITY
    assert Student(0.01).factor(10**6, 10) == pytest.approx(stats.norm.ppf(1 - 0.0005), abs=1e-4)


def test_fewer_runs_more_bands_and_a_smaller_rate_widen_the_band() -> None:
    factors = [Student(0.05).factor(n, 10) for n in (2, 3, 5, 10, 100)]
    assert factors == sorted(factors, reverse=True)
    assert Student(0.05).factor(5, 50) > Student(0.05).factor(5, 5)
    assert Student(0.01).factor(5, 5) > Student(0.05).factor(5, 5)


def test_a_band_holds_its_own_runs_even_an_outlier() -> None:
    assert band(Student(0.5), *[1.0] * 60, 2.0)[1] == 2.0


def test_the_range_adds_a_margin_of_the_mean() -> None:
    assert band(Range(0.1), 9.0, 10.0, 11.0) == pytest.approx((8.0, 12.0))
    assert band(Range(0.1), -9.0, -10.0, -11.0) == pytest.approx((-12.0, -8.0))


def test_spread() -> None:
    spread = Spread.of([1.0, 2.0, 3.0])
    assert (spread.n, spread.mean, spread.sd, spread.low, spread.high) == (3, 2.0, 1.0, 1.0, 3.0)
    assert spread.relative == 0.5
    assert Spread.of([0.0, 0.0]).relative == 0.0
    assert Spread.of([-1.0, 1.0]).relative == math.inf
