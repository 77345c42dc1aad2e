"""What a run of a 235B mixture of experts takes on a Ray cluster: a simulation in which only the time is not real.

``python -m tests.bench.cluster`` measures every weight of one layer (of its 128 experts one), with W0 and 5
checkpoints, task by task. Then pytest judges a run with the files, names and shapes of the whole model, and holes for
weights, with ``--geom-workers=ray``: it opens it, plans it and sends tasks as ever, but the cluster is one of ours, on
which a task takes what one of its shape took here. Where a cluster's processors, or its files, are faster or slower
than those here, so is it. Nothing is assumed of its storage: the table says how fast it must be.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import ray

from geomcheck.checkpoints import find_base, open_run
from geomcheck.measurement.executors.opening import Opening, opened
from geomcheck.measurement.executors.ray import run_on_ray
from geomcheck.measurement.task import DigestWeight, Sources
from tests.bench.cluster.hollow import MODELS, MixtureOfExperts, write_hollow
from tests.bench.cluster.simulated import Costs, FewerRays, Here, Simulated
from tests.bench.weights import KINDS, trajectory
from tests.runs import Tensors, write_run

CHECKPOINTS = 5
WORKERS = (2, 8, 32)

ELEMENTWISE = """
  - {id: support, metric: update_support, within: [0.1, 1], at: last}
  - {id: off-principal, metric: low_magnitude_overlap, alpha: 0.3, above: 0.1, at: last}
"""
UPDATE_ONLY = """
  - {id: stable-rank, metric: stable_rank, above: 2}
  - {id: locked, metric: subspace_alignment, k: 16, above: 0.1, at: first}
  - {id: top, metric: top_energy, k: 16, below: 0.99, at: last}
"""
SPECTRAL = """
  - {id: angles, metric: principal_angle, k: 12.5%, stat: median, fold: median, below: 45 deg, at: last}
  - {id: drift, metric: spectral_shift, below: 0.5}
  - {id: principal, metric: principal_overlap, rank: 64, alpha: 0.3, below: 0.95, at: last}
"""
GATES = {
    "elementwise": (ELEMENTWISE, ()),
    "update only": (ELEMENTWISE + UPDATE_ONLY, ()),
    "all metrics": (ELEMENTWISE + UPDATE_ONLY + SPECTRAL, ()),
    "all, --geom-budget": (ELEMENTWISE + UPDATE_ONLY + SPECTRAL, ("--geom-budget=24h",)),
}
"""What is expected, and with which options."""


def one_layer(directory: Path, model: MixtureOfExperts, checkpoints: int) -> Path:
    """A run of one layer with one expert, and a part of the vocabulary, with weights like trained ones."""
    small = replace(model, layers=1, experts=1, vocabulary=min(8192, model.vocabulary))
    snapshots: list[Tensors] = [{} for _ in range(1 + checkpoints)]
    for seed, (name, shape) in enumerate(small.shapes().items()):
        rows = model.experts if name.endswith("mlp.gate.weight") else shape[0]
        w0, path = trajectory((rows, shape[1] if len(shape) == 2 else 64), KINDS["opd"], checkpoints, seed)
        for tensors, weight in zip(snapshots, [w0, *path], strict=True):
            tensors[name] = weight if len(shape) == 2 else weight.flatten()[: shape[0]].clone()
    return write_run(directory, snapshots[0], dict(enumerate(snapshots[1:], 1)))


def session(run: Path, suite: Path, cluster: FewerRays, options: tuple[str, ...]) -> float:
    """Let pytest judge a `run` with the workers of a `cluster`. Returns the seconds of its own process.

    Raises:
        RuntimeError: not everything passed.
    """
    said, before = io.StringIO(), time.process_time()
    common = ["-p", "no:cacheprovider", "--geom-cache=off", "--geom-workers=ray", f"--geom-run={run}", str(suite)]
    with redirect_stdout(said), patch.dict(sys.modules, ray=cluster.module()):
        code = pytest.main([*common, *options])
    if code:
        raise RuntimeError(f"the session on {run.name} ended with {code}:\n{said.getvalue()}")
    return time.process_time() - before


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.cluster", description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="235b")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS, help="single-threaded ones, of one session")
    parser.add_argument("--checkpoints", type=int, default=CHECKPOINTS, help="besides W0")
    parser.add_argument("--scratch", type=Path, help="where the runs are written (default: a temporary directory)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.scratch) as scratch:
        report(Path(scratch), MODELS[given.model], given.workers, given.checkpoints)


def report(scratch: Path, model: MixtureOfExperts, workers: list[int], checkpoints: int) -> None:
    """One line for each gate and number of workers."""
    layer = one_layer(scratch / "layer", model, checkpoints)
    whole = write_hollow(scratch / "whole", model, checkpoints)
    start, task = starting(whole), sending(layer)
    print(f"a worker is ready after {start:.1f} s; Ray takes {1000 * task:.1f} ms for each task")
    print(f"{'':20}{'workers':>8}{'tasks':>9}{'hours':>8}{'their CPU h':>13}{'own CPU h':>11}{'TB read':>9}{'GB/s':>7}")
    known: dict[str, Costs] = {}
    for gate, (text, options) in GATES.items():
        suite = scratch / "gate.yaml"
        suite.write_text(f"geomcheck: 1\nname: gate\nweights: linear\nexpect:{text}")
        if text not in known:
            here = Here()
            session(layer, suite, here, ())
            known[text] = Costs(here.entries, here.rest, here.digest, start, task)
        costs = known[text]
        for count in workers:
            cluster = Simulated(count, costs)
            own = session(whole, suite, cluster, options)
            took = cluster.tally
            print(
                f"{gate:20}{count:8}{took.tasks:9}{(took.wall + own) / 3600:8.2f}{took.processors / 3600:13.1f}"
                f"{own / 3600:11.2f}{took.bytes / 1e12:9.2f}{took.bytes / took.wall / 1e9:7.2f}",
                flush=True,
            )


def starting(run: Path) -> float:
    """Seconds of a worker until it can measure: a process that imports what tasks need, and opens the run."""
    found = open_run(run)
    opening = Opening.of(Sources(found, find_base(found)))
    before = os.times()
    subprocess.run([sys.executable, "-c", "import geomcheck.measurement.executors.ray"], check=True)
    opened.cache_clear()
    opened(opening)
    return sum(os.times()[:4]) - sum(before[:4])


def sending(run: Path) -> float:
    """Seconds that a real Ray on this machine takes for a task in which there is nothing to do."""
    found = open_run(run)
    sources = Sources(found, find_base(found))
    idle = [DigestWeight(f"{index}", 1, ()) for index in range(1000)]
    list(run_on_ray(idle[:100], sources))  # starts the cluster and its workers
    before = time.perf_counter()
    list(run_on_ray(idle, sources))
    took = time.perf_counter() - before
    ray.shutdown()
    return took / len(idle)


if __name__ == "__main__":
    main()
