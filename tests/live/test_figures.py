"""What trackers are shown of a training is the figure at its newest checkpoint, whatever the condition is about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import geomcheck
from geomcheck.diagnostics import load_metrics
from geomcheck.record import Record, Request
from geomcheck.suite.folds import fold
from geomcheck.training import Monitor
from tests.runs import base_weights, moved, simple_run, write_run

STEPS = (10, 20, 30, 40, 50)
NORM = Request.of(load_metrics()["relative_update_norm"], {})


def mean_norm(record: Record, step: int) -> float:
    figures = record.figures(NORM, "value")
    return fold({name: f.value for (at, name), f in figures.items() if at == step and f.value}, "mean", record.weights)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return simple_run(tmp_path / "opd", STEPS)


def shown(run: Path, condition: str, **options: Any) -> dict[int, dict[str, float]]:
    """What is shown of one expectation at each step, without its name."""
    suite = run.parent / "suite.yaml"
    suite.write_text(f"geomcheck: 1\nexpect:\n  - {{id: size, metric: relative_update_norm, {condition}}}\n")
    monitor = Monitor(run / "base", suite, total_steps=STEPS[-1], run=run, **options)
    found = {}
    for step in STEPS:
        seen = monitor.observe(step, run / f"checkpoint-{step}", finished=step == STEPS[-1])
        found[step] = {name: value for name, value in seen.figures.items() if name.startswith("geom/size")}
    return found


CONDITIONS = {
    "a band": "below: 90%",
    "a band at the first": "below: 90%, at: first",
    "a band in the end": "below: 90%, at: last",
    "bands, held": "bands: [{step: 20, within: [0.1%, 90%]}, {step: 40, within: [0.1%, 90%]}]",
    "bands, left at once": "bands: [{step: 20, within: [80%, 90%]}, {step: 40, within: [0.1%, 90%]}]",
    "a trend": "trend: rising",
    "a trend that is broken at once": "trend: falling",
    "a likeness": "like: reference, tolerance: 1%",
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
def test_the_figure_is_that_of_the_newest_checkpoint(run: Path, condition: str) -> None:
    record = geomcheck.measure(run, metrics=[NORM])
    found = shown(run, condition, reference=record)
    expected = {step: pytest.approx(mean_norm(record, step), rel=1e-6) for step in STEPS}
    assert {step: figures["geom/size"] for step, figures in found.items()} == expected


def test_the_edges_are_those_of_the_checkpoint_that_is_shown(run: Path) -> None:
    found = shown(run, CONDITIONS["bands, left at once"])
    edges = {step: (figures.get("geom/size/low"), figures.get("geom/size/high")) for step, figures in found.items()}
    nothing = None, None
    assert edges == {10: nothing, 20: (0.8, 0.9), 30: nothing, 40: (0.001, 0.9), 50: nothing}


def test_of_a_calibrated_suite_the_figure_moves_on_and_has_the_band_of_its_step(tmp_path: Path) -> None:
    """One band of many decides; a chart that kept showing its checkpoint would be flat from there on."""
    base = base_weights()

    def run(seed: int, steps: Sequence[int]) -> Path:
        weights = {step: moved(base, step * 1e-3, seed=seed + step) for step in steps}
        return write_run(tmp_path / f"seed-{seed}", base, weights)

    good = [run(seed, (10, 20, 30)) for seed in (100, 200, 300)]
    geomcheck.calibrate(good, name="mine").write(tmp_path / "mine.yaml")
    fresh = run(400, (10, 20, 25, 30))
    record = geomcheck.measure(fresh, metrics=[NORM])
    monitor = Monitor(fresh / "base", tmp_path / "mine.yaml", total_steps=30, run=fresh)
    shown = {}
    for point in record.points:
        seen = monitor.observe(point.step, fresh / point.name, finished=point.step == 30).figures
        shown[point.step] = [seen.get(f"geom/relative-update-norm{edge}") for edge in ("/low", "", "/high")]
    assert [value for _, value, _ in shown.values()] == [
        pytest.approx(mean_norm(record, point.step), rel=1e-6) for point in record.points
    ]
    lows, values, highs = zip(*(shown[step] for step in (10, 20, 30)), strict=True)
    assert all(low < value < high for low, value, high in zip(lows, values, highs, strict=True))
    assert len(set(lows)) == len(set(highs)) == 3
    assert shown[25][0] is shown[25][2] is None


def test_of_groups_the_one_that_decides_is_shown(run: Path) -> None:
    record = geomcheck.measure(run, metrics=[NORM])
    figures = record.figures(NORM, "value")
    for condition in ("below: 0.1%", "bands: [{step: 20, within: [0.01%, 0.1%]}, {step: 40, within: [0.01%, 0.1%]}]"):
        found = shown(run, f"{condition}, per: weight")
        for step in (20, 50):
            worst = max(f.value or 0.0 for (at, _), f in figures.items() if at == step)
            assert found[step]["geom/size"] == pytest.approx(worst, rel=1e-6)


def test_a_figure_that_is_fixed_at_the_newest_checkpoint_is_that_of_the_one_before(run: Path) -> None:
    suite = run.parent / "lock.yaml"
    suite.write_text("geomcheck: 1\nexpect:\n  - {id: lock, metric: subspace_alignment, k: 4, above: 1%, at: first}\n")
    monitor = Monitor(run / "base", suite, total_steps=STEPS[-1], run=run)
    assert "geom/lock" not in monitor.observe(10, run / "checkpoint-10").figures
    for step in (20, 30):
        seen = monitor.observe(step, run / f"checkpoint-{step}")
    assert monitor.record is not None
    (request,) = (request for request, _ in monitor.record.measured() if request.metric == "subspace_alignment")
    figures = monitor.record.figures(request, "value")
    own = {name: figure.value for (at, name), figure in figures.items() if at == 20 and figure.value is not None}
    assert seen.figures["geom/lock"] == pytest.approx(fold(own, "mean", monitor.record.weights), rel=1e-9)
