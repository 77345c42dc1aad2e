"""What surrounds the algorithms: the unchanged run, one worker against two, peak memory at Qwen3-8B shapes.

``python -m tests.bench.bench_engine unchanged [WEIGHTS]`` prints the seconds and the peak memory of a first and a
second ``pytest --geom-run`` on the same run, pytest's start included. ``workers`` prints the wall time of the same
measurement by one worker and by two, in turn. ``growth`` prints the CPU time of measuring more weights, and more
checkpoints. ``memory`` prints the peak of two workers on a 12288x4096 and a 4096x4096 weight with two checkpoints.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

import geomcheck
from tests.bench.weights import KINDS, trajectory

SUITE = """
geomcheck: 1
expect:
  - {id: support, metric: update_support, above: 0.0001}
  - {id: angle, metric: principal_angle, k: 2, below: 89 deg}
  - {id: shift, metric: spectral_shift, above: 1e-9}
  - {id: rank, metric: stable_rank, above: 1.01}
  - {id: norm, metric: relative_update_norm, above: 1e-9}
  - {id: hill, metric: hill_exponent, k: 4, above: 0.01}
  - {id: alignment, metric: subspace_alignment, k: 4, above: 0.01%}
  - {id: energy, metric: subspace_energy, k: 4, above: 0.01%}
"""


def write_run(directory: Path, shapes: list[tuple[int, int]], checkpoints: int) -> Path:
    """A run with one matrix per shape, written an hour ago."""
    places = [directory / "base", *(directory / f"checkpoint-{step}" for step in range(1, checkpoints + 1))]
    tensors: list[dict[str, torch.Tensor]] = [{} for _ in places]
    for layer, shape in enumerate(shapes):
        w0, path = trajectory(shape, KINDS["opd"], checkpoints, seed=layer)
        for into, tensor in zip(tensors, [w0, *path], strict=True):
            into[f"model.layers.{layer}.mlp.up_proj.weight"] = tensor
    for place, content in zip(places, tensors, strict=True):
        place.mkdir(parents=True)
        file = place / "model.safetensors"
        save_file(content, file)
        os.utime(file, (time.time() - 3600, time.time() - 3600))
    return directory


PEAK = "print('peak', open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
"""``ru_maxrss`` is that of whoever started the process, where that is larger."""


def cost(code: str, where: Path) -> str:
    """Wall and CPU time and peak memory of a process that runs `code`, and must succeed."""
    start, before = time.perf_counter(), os.times()
    command = [sys.executable, "-c", f"import atexit; atexit.register(lambda: {PEAK}); {code}"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    wall, after = time.perf_counter() - start, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    peak = int(done.stdout.split()[-1]) / 1024
    return f"{wall:.2f} s, CPU {cpu:.2f} s, peak {peak:.0f} MiB"


PYTEST = "import pytest, sys; sys.exit(pytest.main({}))"


def unchanged(work: Path, count: int) -> None:
    """The same command twice."""
    write_run(work / "run", [(32, 24)] * count, 5)
    (work / "suite.yaml").write_text(SUITE)
    session = ["-q", "--geom-run=run", "--geom-suite=suite.yaml", "--geom-workers=2"]
    print(f"pytest --version: {cost(PYTEST.format(['--version']), work)}")
    print(f"import of torch: {cost('import torch', work)}")
    for name in ("first", "second", "third"):
        print(f"{count} weights x 5 checkpoints, {name} session: {cost(PYTEST.format(session), work)}", flush=True)


def workers(work: Path) -> None:
    """One worker and two on equal weights, in turn."""
    run = write_run(work / "run", [(2048, 1024)] * 4, 2)
    spent = {1: [0.0, 0.0], 2: [0.0, 0.0]}
    for _ in range(2):
        for number, (wall, cpu) in spent.items():
            start, busy = time.perf_counter(), time.process_time()
            geomcheck.measure(run, workers=number)
            spent[number] = [wall + time.perf_counter() - start, cpu + time.process_time() - busy]
    for number, (wall, cpu) in spent.items():
        print(f"{number} workers: {wall:.1f} s, CPU {cpu:.1f} s, {cpu / wall:.2f} processors busy")
    print(f"speedup {spent[1][0] / spent[2][0]:.2f}x; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")


def growth(work: Path) -> None:
    """The same measurement of more weights, and at more checkpoints."""
    geomcheck.measure(write_run(work / "first", [(1024, 1024)], 1), workers=1)  # what is done once per process
    print(f"{'weights':>8} {'checkpoints':>12} {'CPU s':>8} {'per weight and checkpoint':>26}")
    for weights, checkpoints in ((2, 2), (4, 2), (8, 2), (2, 4), (2, 8)):
        run = write_run(work / f"{weights}-{checkpoints}", [(1024, 1024)] * weights, checkpoints)
        busy = time.process_time()
        geomcheck.measure(run, workers=1)
        spent = time.process_time() - busy
        print(f"{weights:8} {checkpoints:12} {spent:8.2f} {spent / weights / checkpoints:26.3f}", flush=True)


def memory(work: Path) -> None:
    """The peak of this process."""
    run = write_run(work / "run", [(12288, 4096), (4096, 4096)], 2)
    command = [sys.executable, "-m", "tests.bench.bench_engine", "measure", str(run)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"2 workers, 12288x4096 and 4096x4096, 2 checkpoints: {done.stdout.strip()}")


def measure(run: str) -> None:
    """Measure, and print what that took."""
    start = time.perf_counter()
    geomcheck.measure(run, workers=2)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024  # ru_maxrss is inherited
    print(f"peak {peak:.0f} MiB, {time.perf_counter() - start:.0f} s")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("unchanged", "workers", "growth", "memory", "measure"))
    parser.add_argument("value", nargs="?")
    args = parser.parse_args()
    if args.what == "measure":
        measure(args.value)
        return
    with tempfile.TemporaryDirectory() as directory:
        if args.what == "unchanged":
            unchanged(Path(directory), int(args.value or 252))
        elif args.what == "workers":
            workers(Path(directory))
        elif args.what == "growth":
            growth(Path(directory))
        else:
            memory(Path(directory))


if __name__ == "__main__":
    main()
