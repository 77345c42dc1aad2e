"""The simulation of a cluster runs our scheduler, and its clock is right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.bench.cluster.hollow import MODELS, MixtureOfExperts, write_hollow

SMALL = MixtureOfExperts(layers=3, experts=96, width=128, queries=128, keys=96, expert=96, vocabulary=160)


def test_a_hollow_run_has_the_shapes_of_the_model_and_takes_no_room(tmp_path: Path) -> None:
    run = write_hollow(tmp_path / "run", SMALL, 1)
    (file,) = (run / "checkpoint-1").glob("*.safetensors")
    with safe_open(file, "pt") as weights:
        assert {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118 == SMALL.shapes()
        assert not weights.get_tensor("model.layers.2.mlp.experts.3.down_proj.weight").any()
    assert file.stat().st_blocks * 512 < file.stat().st_size / 2


def test_the_large_model_has_the_parameters_in_its_name() -> None:
    entries = sum(rows * (columns[0] if columns else 1) for rows, *columns in MODELS["235b"].shapes().values())
    assert entries == pytest.approx(235e9, rel=0.01)


def test_every_gate_is_judged_on_clusters_of_every_size(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from tests.bench.cluster.__main__ import report; "
        f"from tests.bench.cluster.hollow import MixtureOfExperts; report(Path({str(tmp_path)!r}), {SMALL}, [1, 4], 2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.rsplit(maxsplit=7) for line in done.stdout.splitlines()[2:]]
    tasks = {(gate.strip(), int(workers)): int(count) for gate, workers, count, *_ in rows}
    weights = 3 * (4 + 1 + 3 * 96)
    assert tasks["elementwise", 1] == tasks["elementwise", 4] == len(SMALL.shapes())
    assert tasks["all metrics", 1] == len(SMALL.shapes()) + weights
    assert tasks["elementwise", 1] < tasks["all, --geom-budget", 4] < tasks["all metrics", 4]
