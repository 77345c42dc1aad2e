"""Two processes: the figures are those of the saved checkpoints, rank 0 alone writes, and none waits for another."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch.multiprocessing as mp
from safetensors.torch import save_file

import geomcheck
from geomcheck.live.loop.plan import DEFAULT_METRICS
from tests.figures import require_same_figures
from tests.live.loop import ranks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory per kind, in which two processes trained the same model."""
    directory = tmp_path_factory.mktemp("ranks")
    for kind in ranks.KINDS:
        (directory / kind / "base").mkdir(parents=True)
        save_file(dict(ranks.Model().named_parameters()), directory / kind / "base" / "model.safetensors")
    if importlib.util.find_spec("accelerate"):
        from tests.live.loop.test_callback import write_anchor

        write_anchor(directory / ranks.TRAINER / "anchor")
        (directory / ranks.TRAINER / "suite.yaml").write_text(SUITE)
    mp.spawn(ranks.train_all, (directory,), nprocs=2)
    return directory


SUITE = """
geomcheck: 1
name: still
expect:
  - {id: still, metric: relative_update_norm, below: 1e-6}
"""


@pytest.mark.parametrize("kind", ranks.KINDS)
def test_figures_are_those_of_the_saved_checkpoints(kind: str, trained: Path) -> None:
    directory = trained / kind
    record = geomcheck.read_record(directory / "record-of-rank-0.parquet")
    after = geomcheck.measure(directory / "run", base=directory / "base", metrics=list(DEFAULT_METRICS))
    require_same_figures(record, after)
    assert len(record.measured_weights()) == 4


@pytest.mark.parametrize("kind", ranks.KINDS)
def test_rank_0_writes_and_both_know_what_came_of_it(kind: str, trained: Path) -> None:
    leader, other = (json.loads((trained / kind / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert leader["figures"] == other["figures"]
    assert leader["record"]
    assert not other["record"]
    assert not (trained / kind / "record-of-rank-1.parquet").exists()


@pytest.mark.parametrize("kind", ranks.KINDS)
def test_a_failure_of_rank_0_is_one_on_every_rank(kind: str, trained: Path) -> None:
    leader, other = (json.loads((trained / kind / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert "NaN" in leader["failure"]
    assert other["failure"].startswith("rank 0: RunError")
    assert leader["failure"] in other["failure"]


def test_the_callback_stops_a_trainer_on_every_rank(trained: Path) -> None:
    if not (trained / ranks.TRAINER).is_dir():
        pytest.skip("without accelerate there is no Trainer")
    directory = trained / ranks.TRAINER
    leader, other = (json.loads((directory / f"rank-{rank}.json").read_text()) for rank in (0, 1))
    assert (leader["step"], other["step"]) == (2, 2)
    assert leader["logged"] == other["logged"]
    assert (leader["record"], other["record"]) == (True, False)
    suite = geomcheck.load_suite(directory / "suite.yaml")
    after = geomcheck.measure(directory / "run", base=directory / "anchor", suites=[suite])
    record = geomcheck.read_record(directory / "run.geometry.parquet")
    require_same_figures(record, after)
    assert suite.evaluate(record)[0].outcome == "failed"
