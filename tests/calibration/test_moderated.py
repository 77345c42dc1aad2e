"""Moderated bands against probability itself: good runs drawn as `Noise` says, and otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from geomcheck.calibration import Moderated, Noise, Trajectory
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
Draw = Callable[[np.random.Generator, int], np.ndarray]


def normal(rng: np.random.Generator, runs: int) -> np.ndarray:
    """Deviations of one metric, (run, checkpoint), in standard deviations: they drift apart as the noise says."""
    state = rng.standard_normal(runs)
    found = [state]
    for before, now in zip(PROGRESS, PROGRESS[1:], strict=False):
        kept = (before / now) ** NOISE.decay
        state = kept * state + math.sqrt(1 - kept**2) * rng.standard_normal(runs)
        found.append(state)
    return np.stack(found, axis=1)


def drawn(rng: np.random.Generator, runs: int, *, noisier: float = 1.0, draw: Draw = normal) -> list[Trajectory]:
    """One recipe: its metrics, with `runs` figures at each checkpoint."""
    recipe = rng.normal(0, math.sqrt(NOISE.between_recipes))
    found = []
    for name in METRICS:
        metric = recipe + rng.normal(0, math.sqrt(NOISE.between_metrics))
        logs = metric + rng.normal(0, math.sqrt(NOISE.between_checkpoints), len(PROGRESS))
        sd = noisier * np.exp(logs / 2) * [NOISE.sd(name, progress) for progress in PROGRESS]
        figures = 5 * (1 + sd * draw(rng, runs))
        rows = tuple(tuple(row) for row in figures.tolist())
        found.append(Trajectory(load_metrics()[name], PLACES, PROGRESS, rows, (-math.inf, math.inf)))
    return found


def alarms(runs: int, *, recipes: int = 600, noisier: float = 1.0, draw: Draw = normal) -> float:
    """The share of fresh runs that leave any band, over recipes."""
    rng = np.random.default_rng(3)
    rule = Moderated(0.05, NOISE)
    bad = 0
    for _ in range(recipes):
        everything = drawn(rng, runs + 1, noisier=noisier, draw=draw)
        known = [replace(trajectory, figures=trajectory.figures[:runs]) for trajectory in everything]
        bad += any(
            not low <= value <= high
            for trajectory, bands in zip(everything, rule.bands(known), strict=True)
            for value, (low, high) in zip(trajectory.figures[runs], bands, strict=True)
        )
    return bad / recipes


def at_most(rate: float, recipes: int = 600) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / recipes)


@pytest.mark.parametrize("runs", [1, 2, 3, 5, 10])
def test_a_suite_keeps_its_false_alarm_rate(runs: int) -> None:
    assert alarms(runs) <= at_most(0.05)
