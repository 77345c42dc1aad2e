"""What is normal for single weights, from good runs: who is called outside, in clean and in spoiled runs."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

import geomcheck
from geomcheck.calibration import normal
from geomcheck.calibration.noise import shipped
from geomcheck.record import Record
from geomcheck.report.html import judged
from geomcheck.report.html.verdicts import Run, card
from geomcheck.report.text.screen import Screen
from geomcheck.report.text.summary import table
from geomcheck.report.text.verdicts import failure
from geomcheck.suite import Suite
from geomcheck.suite.language.selection import Selection
from geomcheck.suite.normal import Normal
from tests.figures import edit
from tests.runs import Tensors, base_weights, moved, write_run

STEPS = (10, 20, 30)
LAYERS = 3
BASE = {
    name.replace("layers.0", f"layers.{i}"): w
    for i in range(LAYERS)
    for name, w in base_weights(i, torch.float32).items()
}
MATRICES = sorted(name for name in BASE if "proj" in name)
DRIFT = {n: w - BASE[n] for n, w in moved(BASE, 1e-2, seed=7).items()}
SIZE = {name: 1 + index / 4 for index, name in enumerate(MATRICES)}
"""Weights differ much more from each other than from run to run."""

Spoil = Callable[[dict[int, Tensors]], dict[int, Tensors]]


def run_of(directory: Path, seed: int, spoil: Spoil = lambda saved: saved) -> Path:
    """A run whose weights repeat within some percent from seed to seed."""
    rate = 1 + 0.01 * np.random.default_rng(seed).standard_normal()
    saved = {
        step: {n: w + rate * step / 10 * SIZE.get(n, 1) * (DRIFT[n] + 0.2 * (noise[n] - w)) for n, w in BASE.items()}
        for step in STEPS
        for noise in [moved(BASE, 1e-2, seed=1000 * seed + step)]
    }
    return write_run(directory, BASE, spoil(saved))


def record_of(directory: Path, seed: int, spoil: Spoil = lambda saved: saved) -> Record:
    return geomcheck.measure(run_of(directory, seed, spoil), metrics=["relative_update_norm"])


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    directory = tmp_path_factory.mktemp("good")
    return [record_of(directory / f"seed-{seed}", seed) for seed in range(5)]


@pytest.fixture(scope="module")
def suite(good: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Suite:
    path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    geomcheck.calibrate(good, metrics=["relative_update_norm"]).write(path)
    return geomcheck.load_suite(path)


def outside(suite: Suite, record: Record) -> dict[int, set[str]]:
    """The weights of a record that are not normal, by step."""
    (expectation,) = suite.expectations
    assert expectation.normal is not None
    (key,) = [key for key in record.columns if key[0].metric == "relative_update_norm"]
    figures, found = record.columns[key].figures, {}
    for step in STEPS:
        ranges = expectation.normal.at(step, record.points)
        assert ranges.keys() == {*MATRICES}
        found[step] = {n for n, (low, high) in ranges.items() if not low <= (figures[step, n].value or 0.0) <= high}
    return found


def test_no_good_run_has_a_weight_outside(suite: Suite, good: list[Record]) -> None:
    for record in good:
        assert not any(outside(suite, record).values())


def test_hardly_a_fresh_run_has_a_weight_outside(suite: Suite, tmp_path: Path) -> None:
    found = [outside(suite, record_of(tmp_path / str(seed), seed)) for seed in range(50, 70)]
    assert sum(any(by_step.values()) for by_step in found) <= 1


@pytest.mark.parametrize("name", MATRICES)
def test_a_single_stale_matrix_is_the_one_outside(suite: Suite, tmp_path: Path, name: str) -> None:
    def stale(saved: dict[int, Tensors]) -> dict[int, Tensors]:
        return saved | {30: saved[30] | {name: saved[10][name] + 1e-6}}

    found = outside(suite, record_of(tmp_path / "run", 90, stale))
    assert found == {10: set(), 20: set(), 30: {name}}


def frozen(saved: dict[int, Tensors]) -> dict[int, Tensors]:
    return {s: {n: BASE[n] if "layers.1" in n else w for n, w in held.items()} for s, held in saved.items()}


def test_a_frozen_layer_is_named_by_the_verdict_and_the_report(suite: Suite, tmp_path: Path) -> None:
    record = record_of(tmp_path / "run", 91, frozen)
    (verdict,), (expectation,) = suite.evaluate(record), suite.expectations
    assert verdict.outcome == "failed"
    layer = {name for name in MATRICES if "layers.1" in name}
    assert {worst.weight for worst in verdict.worst} == layer
    assert {worst.outside for worst in verdict.worst} == {True}
    text = failure(verdict.to_dict())
    assert "  outside    model.layers.1." in text
    assert "from the others" not in text
    shown = card(Run("run"), judged(suite.name, verdict.to_dict(), expectation, record, None))
    assert "Outside in 1 of 3 layers: 1." in shown["since"] + shown["where"]
    assert shown["called"] == "Weights outside of what is normal for them"
    assert {name for name, _ in shown["worst"]} == layer


def test_a_suite_without_it_compares_weights_with_each_other(suite: Suite, tmp_path: Path) -> None:
    record = record_of(tmp_path / "run", 91, frozen)
    text = "\n".join(line for line in suite.file.read_text().partition("\nnormal:")[0].splitlines())
    (tmp_path / "old.yaml").write_text(text)
    old = geomcheck.load_suite(tmp_path / "old.yaml")
    (verdict,), (expectation,) = old.evaluate(record), old.expectations
    assert {worst.weight for worst in verdict.worst[:3]} == {name for name in MATRICES if "layers.1" in name}
    assert {worst.outside for worst in verdict.worst} == {None}
    told = failure(verdict.to_dict())
    assert "outside" not in told
    assert "from the others" in told
    shown = card(Run("run"), judged(old.name, verdict.to_dict(), expectation, record, None))
    assert shown["where"] == "Furthest from the others is layer 1."
    assert shown["called"] == "Weights furthest from the others"


def test_it_is_left_out_where_it_would_be_no_text(good: list[Record], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomcheck.calibration.derive.MAX_CHARACTERS", 100)
    calibrated = geomcheck.calibrate(good, metrics=["relative_update_norm"])
    assert calibrated.expectations[0].normal is None
    assert "\nnormal:" not in calibrated.to_yaml()


def normal_at_the_end(records: list[Record]) -> Normal | None:
    (size,) = geomcheck.calibrate(records, metrics=["relative_update_norm"], keep_outlier=True).expectations
    return normal.normal_of(size.metric, records, Selection(), size.bands[-1:], shipped())


def figures_of(records: list[Record]) -> np.ndarray:
    (key,) = [key for key in records[0].columns if key[0].metric == "relative_update_norm"]
    return np.array([[record.columns[key].figures[30, name].value for name in MATRICES] for record in records])


def test_no_good_run_is_outside_and_no_range_is_narrower_than_the_band(good: list[Record]) -> None:
    found = normal_at_the_end(good)
    assert found is not None
    (band,) = geomcheck.calibrate(good, metrics=["relative_update_norm"]).expectations[0].bands[-1:]
    figures = figures_of(good)
    for index, name in enumerate(MATRICES):
        low, high = found.at(30, good[0].points)[name]
        assert low <= figures[:, index].min() <= figures[:, index].max() <= high
        assert found.means[name][0] == pytest.approx(figures[:, index].mean())
        assert (high - low) / 2 / found.means[name][0] >= (band.high - band.low) / 2 / band.spread.mean


def test_a_weight_that_varies_more_than_the_others_has_a_wider_range(good: list[Record]) -> None:
    noisy = MATRICES[4]
    varied = []
    for record, factor in zip(good, (0.97, 1.04, 0.95, 1.03, 1.01), strict=True):
        other = deepcopy(record)
        (column,) = [column for key, column in other.columns.items() if key[0].metric == "relative_update_norm"]
        cells = {cell: figure for cell, figure in column.figures.items() if cell[1] == noisy}
        scaled = {cell: figure._replace(value=factor * (figure.value or 0)) for cell, figure in cells.items()}
        edit(other, "relative_update_norm", scaled)
        varied.append(other)
    found = normal_at_the_end(varied)
    assert found is not None
    assert found.factors[noisy] == max(found.factors.values())
    assert found.factors[noisy] > 1.3 * np.median(list(found.factors.values()))


def test_two_runs_that_differ_as_much_as_weights_do_have_no_normal(tmp_path: Path) -> None:
    doubled = lambda saved: {s: {n: 2 * w - BASE[n] for n, w in held.items()} for s, held in saved.items()}  # noqa: E731
    runs = [record_of(tmp_path / "a", 1), record_of(tmp_path / "b", 2, lambda saved: doubled(doubled(saved)))]
    assert normal_at_the_end(runs) is None


def test_the_picture_by_layer_has_the_range_of_good_runs(suite: Suite, tmp_path: Path) -> None:
    for spoil, layers in ((frozen, ["layer 1"]), (lambda saved: saved, [])):
        record = record_of(tmp_path / str(len(layers)), 92, spoil)
        (verdict,), (expectation,) = suite.evaluate(record), suite.expectations
        seen = judged(suite.name, verdict.to_dict(), expectation, record, None)
        assert seen.layers  # whether it fails or passes
        assert {entry["group"] for entry in seen.layers if entry["holds"] is False} == {*layers}
        for entry in seen.layers:
            assert entry["low"] < entry["high"]
            assert (entry["low"] <= (entry["value"] or 0.0) <= entry["high"]) == (entry["group"] not in layers)
        assert "normal in good runs" in str(card(Run("run"), seen)["layers"])


def test_a_weight_that_is_within_its_own_range_has_its_own_figure(good_runs: list[Path], tmp_path: Path) -> None:
    records = [geomcheck.measure(run) for run in good_runs[:3]]
    geomcheck.calibrate(records, name="mine").write(tmp_path / "mine.yaml")
    suite = geomcheck.load_suite(tmp_path / "mine.yaml")
    (each,) = (v.to_dict() for v in suite.evaluate(records[0]) if v.to_dict()["id"] == "each-weight")
    value, low, high = (each["decisive"][key] for key in ("value", "low", "high"))
    ((line,),) = table([each], Screen())
    assert each["outcome"] == "passed"
    assert f" {value:.4g} " in line
    assert f" {low:.4g} to {high:.4g} at step {each['decisive']['step']}" in line


PROGRESS = (0.2, 0.4, 0.6, 0.8, 1.0)


def drifting(rng: np.random.Generator, runs: int, weights: int) -> np.ndarray:
    """Relative deviations of (run, weight, checkpoint): of a run as a whole, and of weights, some of them noisier."""
    whole = np.cumsum(rng.standard_normal((runs, 1, 5)), axis=2) / np.arange(1, 6)
    own = np.cumsum(rng.standard_normal((runs, weights, 5)), axis=2) / np.arange(1, 6)
    return 0.01 * whole + 0.01 * np.exp(0.5 * rng.standard_normal((1, weights, 1))) * own


def test_one_expert_of_64_that_stands_still_is_seen_and_good_runs_are_not() -> None:
    rng = np.random.default_rng(4)
    size = np.exp(rng.standard_normal((1, 192, 1))) * np.linspace(1, 2, 5)
    outside, recipes = 0, 20
    for _ in range(recipes):
        away = drifting(rng, 4, 192)
        good, fresh = size * (1 + away[:3]), (size * (1 + away[3:]))[0]
        means = good.mean(axis=0)
        reach = normal._shares(good, PROGRESS, shipped()) + 0.04  # the half width of the band of the mean
        assert (np.abs(good / means - 1) <= reach).all()
        outside += bool((np.abs(fresh / means - 1) > reach).any())
        stale = fresh.copy()
        stale[5, 2:] = stale[5, 1]
        assert abs(stale.mean(axis=0)[-1] / fresh.mean(axis=0)[-1] - 1) < 0.02  # lost in the mean
        assert (np.abs(stale / means - 1) > reach)[5].any()
    assert outside <= 1  # of 1% that are allowed
