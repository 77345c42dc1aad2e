"""How wide calibrated bands are."""

from __future__ import annotations

import math

from geomcheck.calibration import BandRule, Moderated, Noise, Student, Trajectory
from geomcheck.calibration.noise import shipped
from geomcheck.diagnostics import load_metrics
from geomcheck.suite.language.places import Place

RUNS = (1, 2, 3, 5, 10)
METRICS, CHECKPOINTS = 12, 5


def factor_table() -> str:
    """The half width of a band in usual standard deviations, by number of runs, of a suite of 60 bands."""
    rows = [f"| {n} | {_width(Moderated(), n)} | {_width(Student(), n)} |" for n in RUNS]
    return "\n".join(["| good runs | moderated | `--rule student` |", "|---|---|---|", *rows])


def _width(rule: BandRule, runs: int) -> str:
    """Of a recipe that scatters as recipes usually do."""
    if runs == 1 and isinstance(rule, Student):
        return "-"
    noise = shipped()
    found = [_usual(noise, name, runs) for name in (*noise.usual,)[:METRICS]]
    widths = [
        (high - low) / 2 / (spread.mean * noise.sd(trajectory.called, progress))
        for trajectory, bands in zip(found, rule.bands(found), strict=True)
        for (low, high), spread, progress in zip(bands, trajectory.spreads, trajectory.progress, strict=True)
    ]
    return f"{sorted(widths)[len(widths) // 2]:.1f}"


def _usual(noise: Noise, called: str, runs: int) -> Trajectory:
    """Figures around 1 whose sample standard deviation is the usual one."""
    progress = tuple((index + 1) / CHECKPOINTS for index in range(CHECKPOINTS))
    places = tuple(Place(step=index + 1) for index in range(CHECKPOINTS))
    middle, metric, _, of = (runs - 1) / 2, *called.partition(" of ")
    unit = math.sqrt(sum((run - middle) ** 2 for run in range(runs)) / max(1, runs - 1)) or 1.0
    rows = [tuple(1 + noise.sd(called, at) * (run - middle) / unit for at in progress) for run in range(runs)]
    return Trajectory(load_metrics()[metric], places, progress, tuple(rows), (-math.inf, math.inf), of)
