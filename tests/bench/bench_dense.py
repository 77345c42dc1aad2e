"""The cost of measuring everything, against the papers' own protocol, side by side in one run.

``OMP_NUM_THREADS=1 python -m tests.bench.bench_dense`` prints CPU times, their ratio, the worst relative
difference per metric, and how peak memory grows with layers and checkpoints.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from geomcheck.diagnostics import Base, Metric, Update, load_metrics, resolve_rank
from geomcheck.diagnostics.locking import alignment, subspace_energy, top_channel

SHAPE, CHECKPOINTS, CHANNEL, RANK, ALPHA, ETA = (2048, 1024), 5, 16, 64, 0.3, 1e-3
FLOORS = defaultdict(lambda: 1e-12, principal_angle=0.01)
"""Magnitudes below which a relative difference is taken against the floor (angles: 0.01 degrees)."""

Figures = dict[str, float]


def weights(shape: tuple[int, int], checkpoints: int, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """A bf16 base with lognormal rows and columns and power-law spikes, and checkpoints that drift from it.

    At the last one about half of the entries have visibly changed, as in the paper's OPD runs.
    """
    generator = torch.Generator().manual_seed(seed)
    out, in_ = shape

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    def low_rank(rank: int) -> Tensor:
        values = torch.arange(1.0, rank + 1) ** -0.7
        return (normal(out, rank) * values) @ normal(rank, in_) / (out * in_) ** 0.25

    base = normal(out, in_) * (0.3 * normal(out, 1)).exp() * (0.3 * normal(1, in_)).exp() * 0.02
    w0 = (base + 0.05 * low_rank(min(64, in_))).bfloat16()
    first, second, noise = low_rank(24), low_rank(24), normal(out, in_)
    path = []
    for t in range(1, checkpoints + 1):
        share = t / checkpoints
        step = share * first + share**2 * 0.5 * second
        delta = 8e-5 * (0.7 * step / step.std() + 0.7 * share**0.5 * noise)
        path.append((w0.float() + delta).bfloat16())
    return w0, path


def paper(w0: Tensor, wt: Tensor, early: Tensor, last: Tensor, first: Tensor) -> Figures:
    """Every metric of one checkpoint as the papers describe it: SVDs in float64, arccos, top-k masks."""
    a, b, k = w0.double(), wt.double(), min(SHAPE) // 8
    d = b - a
    (u0, s0, v0), (u1, s1, v1), (_, s, v) = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (a, b, d))
    figures: Figures = {}
    sides = {"left": u0[:, :k].T @ u1[:, :k], "right": v0[:k] @ v1[:k].T}
    angles = {name: torch.linalg.svdvals(o).clamp(-1, 1).arccos().rad2deg() for name, o in sides.items()}
    for side, values in {**angles, "both": torch.cat(list(angles.values()))}.items():
        ranked = {"max": values.max(), "mean": values.mean()}
        ranked |= {"median": values.quantile(0.5), "p95": values.quantile(0.95)}
        figures |= {f"principal_angle {side}.{stat}": float(value) for stat, value in ranked.items()}
    changed = (wt.float() - w0.float()).abs() > ETA * torch.maximum(w0.float().abs(), wt.float().abs())
    other = (first.float() - w0.float()).abs() > ETA * torch.maximum(w0.float().abs(), first.float().abs())
    count = int(ALPHA * a.numel())
    masks = {}
    for name, scores in {
        "low_magnitude_overlap": -a.abs(),
        "principal_overlap": ((u0[:, :RANK] * s0[:RANK]) @ v0[:RANK]).abs(),
    }.items():
        mask = masks[name] = torch.zeros(a.numel(), dtype=torch.bool)
        mask[scores.flatten().topk(count).indices] = True
    norm, shift = s.norm(), (s1 - s0).norm()
    ulp = 2.0 ** (torch.frexp(wt.float()).exponent.double() - 8)
    scalars = {
        "update_sparsity": 1 - changed.double().mean(),
        "update_support": changed.double().mean(),
        "frozen_share": (w0 == wt).all().double(),
        "mask_jaccard": (changed & other).sum() / (changed | other).sum(),
        "spectral_shift": shift / s0.norm(),
        "spectral_share": shift / norm,
        **{name: (mask & changed.flatten()).sum() / changed.sum() for name, mask in masks.items()},
        "stable_rank": norm**2 / s[0] ** 2,
        "update_norm": norm,
        "relative_update_norm": norm / s0.norm(),
        "hill_exponent": 1 / (s[: CHANNEL - 1] / s[CHANNEL - 1]).log().mean(),
        "top_energy": s[:CHANNEL].norm() ** 2 / norm**2,
        "principal_energy": (u0[:, :k].T @ d @ v0[:k].T).norm() ** 2 / norm**2,
        "rounding_share": ulp.pow(2).sum() / 12 / norm**2,
        "subspace_alignment": (v[:CHANNEL] @ last).norm() ** 2 / CHANNEL,
        "subspace_energy": (d @ early @ early.T).norm() ** 2 / norm**2,
    }
    return figures | {name: float(value) for name, value in scalars.items()}


def defaults(metric: Metric) -> Mapping[str, object]:
    """The declared defaults of the parameters that change what is measured."""
    return {parameter.name: parameter.default for parameter in metric.measured_parameters}


class Reference:
    """What `mask_jaccard` asks of a run: the first checkpoint stands in for a second run."""

    def __init__(self, update: Update) -> None:
        self.update = update

    def reference(self) -> Update:
        """The update to compare with."""
        return self.update


def ours(update: Update, first: Tensor) -> Figures:
    """Every metric of one checkpoint that needs no other checkpoint."""
    run = Reference(Update(update.base, first))
    figures: Figures = {}
    for metric in load_metrics():
        if not metric.across:
            for stat, value in metric.compute(update, defaults(metric), run).items():
                figures[metric.name if stat == "value" else f"{metric.name} {stat}"] = value
    return figures


def cpu_time(work: Callable[[], Figures]) -> tuple[float, Figures]:
    """CPU seconds of `work`, and what it returned."""
    start = time.process_time()
    figures = work()
    return time.process_time() - start, figures


def compare() -> float:
    """Both protocols in turn on each checkpoint. Returns the ratio of CPU times."""
    w0, path = weights(SHAPE, CHECKPOINTS)
    assert resolve_rank("12.5%", SHAPE) == min(SHAPE) // 8
    ends = {step: torch.linalg.svd(path[step].double() - w0.double())[2][:CHANNEL].T for step in (0, -1)}
    base, spent, worst = Base(w0), {"paper": 0.0, "ours": 0.0}, defaultdict(float)
    channels: list[Tensor] = []
    expected: list[Figures] = []
    actual: list[Figures] = []
    for wt in path:
        seconds, figures = cpu_time(lambda wt=wt: paper(w0, wt, ends[0], ends[-1], path[0]))
        spent["paper"] += seconds
        expected.append(figures)
        start = time.process_time()
        update = Update(base, wt)
        actual.append(ours(update, path[0]))
        channels.append(top_channel(update, CHANNEL, "right"))
        actual[-1]["subspace_energy"] = subspace_energy(update, channels[0])
        spent["ours"] += time.process_time() - start
        print(f"  paper {seconds:6.2f} s   ours, so far {spent['ours']:6.2f} s", flush=True)
    for figures, channel in zip(actual, channels, strict=True):
        figures["subspace_alignment"] = alignment(channel, channels[-1])
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine.keys() == theirs.keys(), mine.keys() ^ theirs.keys()
        for name, value in theirs.items():
            floor = FLOORS[name.split()[0]]
            worst[name] = max(worst[name], abs(mine[name] - value) / max(abs(value), floor))
    print(f"\n{SHAPE[0]}x{SHAPE[1]} bf16, base + {CHECKPOINTS} checkpoints, {torch.get_num_threads()} thread(s)")
    ratio = spent["paper"] / spent["ours"]
    print(f"CPU time: paper {spent['paper']:.2f} s, ours {spent['ours']:.2f} s: {ratio:.1f}x")
    print("\nmetric                          last value   worst relative difference")
    for name, difference in worst.items():
        print(f"{name:30} {actual[-1][name]:12.6g}   {difference:.1e}")
    return ratio


def stream(layers: int, checkpoints: int) -> Iterator[Figures]:
    """Measure one matrix per layer along a run, as a worker does: one base and one update at a time."""
    for layer in range(layers):
        w0, path = weights((1024, 512), 2, seed=layer)
        base, channels = Base(w0), []
        for index in range(checkpoints):
            update = Update(base, path[index % 2])
            yield ours(update, path[0])
            channels.append(top_channel(update, CHANNEL, "right"))


def peak(layers: int, checkpoints: int) -> float:
    """Peak resident memory, MiB, of a fresh process that measures such a run."""
    command = [sys.executable, "-m", "tests.bench.bench_dense", "--stream", str(layers), str(checkpoints)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def peak_of_this_process() -> float:
    """MiB. Not `ru_maxrss`, which a child inherits from its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Run the comparison, then the memory series."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", nargs=2, type=int, metavar=("LAYERS", "CHECKPOINTS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.stream:
        for _ in stream(*args.stream):
            pass
        print(peak_of_this_process())
        return
    ratio = compare()
    print("\npeak memory at 1024x512, MiB (layers x checkpoints)")
    for layers, checkpoints in [(1, 2), (2, 2), (4, 2), (1, 4), (1, 8)]:
        print(f"  {layers} x {checkpoints}: {peak(layers, checkpoints):.0f}", flush=True)
    sys.exit(0 if ratio >= 4 else 1)


if __name__ == "__main__":
    main()
