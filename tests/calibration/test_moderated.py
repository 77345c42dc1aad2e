"""Moderated bands against probability itself: good runs drawn as `Noise` says, and otherwise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import polygamma

from geomcheck.calibration import BandRule, Moderated, Noise, Student, Trajectory
from geomcheck.calibration.moderated import freedom_of, multiple
from geomcheck.calibration.noise import shipped
from geomcheck.diagnostics import load_metrics
from geomcheck.suite.language.places import Place

NOISE = Noise(
    version=0,
    source="a test",
    usual={"relative_update_norm": 0.01, "stable_rank": 0.02, "principal_angle": 0.02, "hill_exponent": 0.015},
    slope=-0.15,
    between_recipes=1.5,
    between_metrics=0.6,
    between_checkpoints=0.25,
    independent=4.0,
    decay=0.75,
)
METRICS = (
    *NOISE.usual,
    "spectral_shift",
    "update_norm",
    "increment_norm",
    "decay_share",
    "path_efficiency",
    "linearity",
)
PROGRESS = (0.2, 0.4, 0.6, 0.8, 1.0)
PLACES = tuple(Place(step=int(100 * progress)) for progress in PROGRESS)


def normal(rng: np.random.Generator, runs: int) -> np.ndarray:
    """Deviations of one metric, (run, checkpoint), in standard deviations: they drift apart as the noise says."""
    state = rng.standard_normal(runs)
    found = [state]
    for before, now in pairwise(PROGRESS):
        kept = (before / now) ** NOISE.decay
        state = kept * state + math.sqrt(1 - kept**2) * rng.standard_normal(runs)
        found.append(state)
    return np.stack(found, axis=1)


def drawn(rng: np.random.Generator, runs: int, *, noisier: float = 1.0) -> list[Trajectory]:
    """One recipe: its metrics, with `runs` figures at each checkpoint."""
    recipe = rng.normal(0, math.sqrt(NOISE.between_recipes))
    found = []
    for name in METRICS:
        metric = recipe + rng.normal(0, math.sqrt(NOISE.between_metrics))
        logs = metric + rng.normal(0, math.sqrt(NOISE.between_checkpoints), len(PROGRESS))
        sd = noisier * np.exp(logs / 2) * [NOISE.sd(name, progress) for progress in PROGRESS]
        figures = 5 * (1 + sd * normal(rng, runs))
        rows = tuple(tuple(row) for row in figures.tolist())
        found.append(Trajectory(load_metrics()[name], PLACES, PROGRESS, rows, (-math.inf, math.inf)))
    return found


def alarms(runs: int, recipes: int, *, noisier: float = 1.0) -> float:
    """The share of fresh runs that leave any band, over recipes."""
    rng = np.random.default_rng(3)
    rule = Moderated(0.05, NOISE)
    bad = 0
    for _ in range(recipes):
        everything = drawn(rng, runs + 1, noisier=noisier)
        known = [replace(trajectory, figures=trajectory.figures[:runs]) for trajectory in everything]
        bad += any(
            not low <= value <= high
            for trajectory, bands in zip(everything, rule.bands(known), strict=True)
            for value, (low, high) in zip(trajectory.figures[runs], bands, strict=True)
        )
    return bad / recipes


def widths(rule: BandRule, trajectories: Sequence[Trajectory]) -> list[float]:
    """The half widths of all bands, in standard deviations of their runs."""
    return [
        (high - low) / 2 / spread.sd
        for trajectory, bands in zip(trajectories, rule.bands(trajectories), strict=True)
        for spread, (low, high) in zip(trajectory.spreads, bands, strict=True)
    ]


@pytest.mark.parametrize("runs", [1, 2, 3, 5])
def test_a_suite_keeps_its_false_alarm_rate(runs: int) -> None:
    recipes = 200
    assert alarms(runs, recipes) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / recipes)


def test_a_recipe_that_repeats_ten_times_more_closely_than_usual_raises_no_alarm() -> None:
    assert alarms(3, 60, noisier=0.1) == 0


def test_bands_of_three_runs_are_at_most_ten_standard_deviations_wide_and_student_s_38() -> None:
    rng = np.random.default_rng(5)
    known = [drawn(rng, 3) for _ in range(20)]
    assert statistics.median(width for each in known for width in widths(Moderated(0.05, NOISE), each)) < 10
    assert statistics.median(width for each in known for width in widths(Student(0.05), each)) > 30


def test_one_wild_metric_does_not_widen_the_bands_of_the_others() -> None:
    calm = drawn(np.random.default_rng(5), 3)
    rows = tuple(tuple(5 * (1 + 0.1 * (run - 1)) for _ in PROGRESS) for run in range(3))
    wild = [*calm[:-1], replace(calm[-1], figures=rows)]
    rule = Moderated(0.05, NOISE)
    others = widths(rule, calm[:-1])
    assert np.divide(widths(rule, wild)[: len(others)], others).max() < 1.25


def test_no_band_is_narrower_than_its_runs_and_what_never_varied_must_stay() -> None:
    known = drawn(np.random.default_rng(5), 3)
    outlier = replace(known[0], figures=((5.0,) * 5, (5.0,) * 5, (50.0,) * 5))
    constant = replace(known[1], figures=((5.0,) * 5,) * 3)
    wide, same, *_ = Moderated(0.05, NOISE).bands([outlier, constant, *known[2:]])
    assert all(low <= 5 and high >= 50 for low, high in wide)
    assert same == [(5.0, 5.0)] * 5


def test_figures_at_a_bound_have_the_band_of_the_runs() -> None:
    share = Trajectory(load_metrics()["update_support"], PLACES[-1:], (1.0,), ((1.0,), (1.0 - 1e-17,)), (0.0, 1.0))
    assert Moderated(0.05, NOISE).bands([share]) == [[(1.0, 1.0)]]


def test_a_share_scatters_relative_to_its_distance_from_0_and_1() -> None:
    metric = load_metrics()["update_support"]
    many = Trajectory(metric, PLACES[-1:], (1.0,), ((0.98,), (0.99,)), (0.0, 1.0))
    few = Trajectory(metric, PLACES[-1:], (1.0,), ((0.02,), (0.01,)), (0.0, 1.0))
    assert many.variances == pytest.approx(few.variances)


@pytest.mark.parametrize("variance", [0.01, 0.5, 1.6449, 20.0])
def test_degrees_of_freedom_have_the_variance_that_they_are_asked_for(variance: float) -> None:
    rng = np.random.default_rng(1)
    freedom = freedom_of(variance)
    assert polygamma(1, freedom / 2) == pytest.approx(variance)
    if freedom > 1:
        assert np.log(rng.chisquare(freedom, 200_000)).var() == pytest.approx(variance, rel=0.05)


def test_the_multiple_is_the_quantile_of_a_simulation_of_its_own() -> None:
    rng = np.random.default_rng(9)
    deviations = np.abs(normal(rng, 400_000)) * np.exp(
        rng.standard_normal((400_000, len(PROGRESS))) * math.sqrt(0.2) / 2
    )
    largest = deviations.max(axis=1) * np.exp(rng.standard_normal(400_000) * math.sqrt(0.5) / 2)
    limit = multiple(PROGRESS, 0.5, 0.2, 0.01, NOISE.decay)
    assert (largest > limit).mean() == pytest.approx(0.01, rel=0.1)
    one = multiple((1.0,), 0.0, 0.0, 0.05, NOISE.decay)
    assert one == pytest.approx(1.96, abs=0.02)


def test_the_shipped_noise_says_where_it_is_from() -> None:
    noise = shipped()
    assert noise.version >= 1
    assert "fixtures/repeatability" in noise.source
    assert {metric.name for metric in load_metrics()} >= {called.partition(" of ")[0] for called in noise.usual}
    assert all(0 < sd < 1 for sd in noise.usual.values())
