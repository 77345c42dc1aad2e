"""The experiments' figures: measured as they should be, and those in the documents are those of the results file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fixtures.experiments import documents, figure, measured, tables
from fixtures.experiments.measured import RESULTS, Outcome, Series, outcome
from geomcheck.checkpoints.constraint import Constraint
from geomcheck.projection.channel import Channel
from tests.runs import DOWN, SHAPES, K, Q, base_weights, moved, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two checkpoints with scores, the second further on."""
    base = base_weights()
    run = write_run(tmp_path / "opd-random", base, {4: moved(base, 1e-3, seed=1), 20: moved(base, 3e-3, seed=2)})
    for step in (4, 20):
        state = {
            "global_step": step,
            "max_steps": 20,
            "log_history": [{"step": 0, "eval_accuracy": 0.5}, {"loss": 1.0}],
        }
        state["log_history"] += [{"step": s, "eval_accuracy": 0.5 + s / 100} for s in (4, 20) if s <= step]
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    return run


def brute_force(run: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """D at the last checkpoint, and what was added since the first."""
    base, first, last = (
        {n: w.double().numpy() for n, w in measured.load_file(run / place / "model.safetensors").items()}
        for place in ("base", "checkpoint-4", "checkpoint-20")
    )
    return {n: last[n] - base[n] for n in last}, {n: last[n] - first[n] for n in last}


def test_an_outcome_is_that_of_a_brute_force(run: Path) -> None:
    held = Channel.random({name: SHAPES[name] for name in (Q, K, DOWN)}, 3, 0)
    held.save(run / "checkpoint-20")
    Constraint("random", 3, 10, "gradient", "free", 0, "random", 3).write(run / "checkpoint-20")
    found = outcome(run, 3)
    whole, since = brute_force(run)
    ranks = [np.sum(whole[n] ** 2) / np.linalg.norm(whole[n], 2) ** 2 for n in (Q, K, DOWN)]
    assert found.stable_rank[-1] == pytest.approx(np.mean(ranks))
    kept = {n: v.double().numpy() for n, v in held.vectors.items()}
    outside = sum(np.sum((since[n] - since[n] @ v @ v.T) ** 2) for n, v in kept.items())
    assert found.outside == pytest.approx(outside / sum(np.sum(since[n] ** 2) for n in kept))
    assert found.steps == (0, 4, 20)
    assert found.accuracy == pytest.approx((0.5, 0.54, 0.7))
    assert found.gain() == pytest.approx(0.2)
    assert found.gain(1) == pytest.approx(0.16)


def test_a_free_run_is_held_against_its_own_early_channel(run: Path) -> None:
    _, since = brute_force(run)
    found = outcome(run, 3)
    channels = Channel.of_run(run, k=3, at="first", weights=measured.Selection("all")).vectors
    outside = sum(np.sum((since[n] - since[n] @ (v := c.double().numpy()) @ v.T) ** 2) for n, c in channels.items())
    assert found.outside == pytest.approx(outside / sum(np.sum(since[n] ** 2) for n in channels), rel=1e-6)


def test_the_share_kept_is_of_the_free_run_of_the_same_seed() -> None:
    def scored(*accuracy: float) -> Outcome:
        return Outcome((0, 1, 2), accuracy, (1.0, 1.0), (0.1, 0.1), 0.0)

    free = Series("opd-free", "OPD", "opd", False, {0: scored(0.5, 0.7, 0.9)})
    learned = Series("opd-learned", "confined", "opd", False, {0: scored(0.5, 0.7, 0.8), 1: scored(0.5, 0.7, 0.8)})
    assert tables.free_of([learned, free], learned) is free
    assert tables.share_kept(learned, free, 0) == pytest.approx(0.75)
    assert tables.share_kept(learned, free, 0, since=1) == pytest.approx(0.5)
    assert tables.share_kept(learned, free, 1) is None


def test_results_are_read_back_as_written(run: Path, tmp_path: Path) -> None:
    found = [Series("opd-free", "OPD", "opd", False, {0: outcome(run, 3)})]
    measured.write(found, 3, tmp_path / "results.json")
    assert measured.read(tmp_path / "results.json") == found


def test_documents_hold_the_tables_and_the_figure_of_the_results() -> None:
    found = measured.read(RESULTS)
    for document in documents.TEXTS:
        text = document.read_text()
        assert "| OPD in its own early channel |" in text
        assert documents.filled(text, found) == text, document
    assert documents.FIGURE.read_text() == figure.draw(found)
