"""The cost of measuring everything, and its accuracy, against the papers' protocol and the public peer's approach.

``python -m tests.bench`` takes every protocol in turn on every checkpoint, in one process and on one thread, and
compares CPU times, wall times, peak memory, and the worst relative error per metric against float64 brute force; then
a sample of the adversaries of ``tests.diagnostics.adversaries``, whose figures must be within what is promised.

``python -m tests.bench --whole 0.6b`` measures the run of a whole model instead, by sessions of pytest: seconds,
memory, and the multiple of the float32 products and of reading the bytes, see `tests.bench.whole`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from geomcheck.diagnostics import Base
from geomcheck.measurement.machine import keep_freed_memory
from tests.bench.protocols import Figures, protocols
from tests.bench.weights import KINDS, SHAPES_06B, trajectory
from tests.bench.whole.compare import measured
from tests.bench.whole.model import MODELS
from tests.bench.whole.table import aims, lines
from tests.diagnostics.adversaries import Table, sampled

SHAPES = {"0.6b": SHAPES_06B, "4096": {"square": (4096, 4096)}}
PAPER_CHECKPOINTS = {"0.6b": 99, "4096": 1}
"""Checkpoints on which the dear protocols run; their times are scaled to all."""

DEAR = ("paper", "peer")
TARGETS = {"0.6b": {"cold": 8.5, "cached": 10.0, "update-only": 35.0}, "4096": {"cached": 20.0}}
DEARER_AIM = 2.0
"""The most that metrics of entries cost with those of the path, or those on request, as a multiple of them alone."""
ACCURACY = 1e-3
FLOORS = defaultdict(lambda: 1e-12, principal_angle=0.01)
"""Magnitudes below which a relative error is taken against the floor (angles: 0.01 degrees)."""


@dataclass
class Tally:
    """What one kind of update cost, and how far each protocol was off.

    Attributes:
        cpu, wall: seconds by protocol, scaled to all checkpoints.
        worst: the largest relative error by protocol and metric.
        routes: how often each route of ours answered.
    """

    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    wall: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    worst: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    routes: Counter[str] = field(default_factory=Counter)

    def timed(self, name: str, work: Callable[[], Any], scale: float = 1.0) -> Any:
        """What `work` returns; its time is added to protocol `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self.cpu[name] += (time.process_time() - cpu) * scale
        self.wall[name] += (time.perf_counter() - wall) * scale
        return result

    def compare(self, name: str, actual: list[Figures], expected: list[Figures]) -> None:
        """Note errors against the brute force at the last checkpoints, as many as both have."""
        for mine, theirs in zip(reversed(actual), reversed(expected), strict=False):
            for metric in mine.keys() & theirs.keys():
                error = abs(mine[metric] - theirs[metric]) / max(abs(theirs[metric]), FLOORS[metric.split()[0]])
                self.worst[name][metric] = max(self.worst[name].get(metric, 0.0), error)


def run(tally: Tally, shape: tuple[int, int], kind: str, checkpoints: int, dear: int, seed: int) -> None:
    """Measure one weight with every protocol, in turn on each checkpoint."""
    w0, path = trajectory(shape, KINDS[kind], checkpoints, seed)
    cached = Base(w0)
    _ = cached.basis
    factories = protocols(w0, path[0], cached.state())
    scales = {name: len(path) / min(dear, len(path)) if name in DEAR else 1.0 for name in factories}
    running = {name: tally.timed(name, factory, scales[name]) for name, factory in factories.items()}
    for index, wt in enumerate(path):
        for name, protocol in running.items():
            if name not in DEAR or index >= len(path) - dear:
                tally.timed(name, partial(protocol.see, wt), scales[name])
    figures = {name: tally.timed(name, protocol.figures, scales[name]) for name, protocol in running.items()}
    expected = figures["paper"]
    for figure in expected if dear < len(path) else ():
        figure.pop("subspace_energy")  # its channel is of the first checkpoint, which was left out
    for name in figures.keys() - {"paper"}:
        tally.compare(name, figures[name], expected)
    for routes in running["cold"].routes:
        tally.routes.update(f"{what.split(',')[0]}: {certificate.route}" for what, certificate in routes.items())


def peak(shape: tuple[int, int], name: str) -> float:
    """Peak resident memory, MiB, of a fresh process that measures one checkpoint of `shape`."""
    command = [sys.executable, "-m", "tests.bench", "--peak", f"{shape[0]}x{shape[1]}", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_of_this_process(shape: tuple[int, int], name: str) -> float:
    """Measure one checkpoint and read the high-water mark, MiB (`ru_maxrss` would be the parent's)."""
    w0, path = trajectory(shape, KINDS["opd"], 1)
    state = {"values": torch.ones(min(shape), dtype=torch.float64), "vectors": torch.eye(min(shape))}
    if name != "nothing":
        protocols(w0, path[0], state)[name]().see(path[0])
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def report(shapes: str, kind: str, tally: Tally, memory: Mapping[str, float]) -> bool:
    """Print one kind's tables. Returns whether every target was met."""
    names = list(tally.cpu)
    print(f"\n{shapes}, {kind}")
    print(f"{'':12} {'CPU s':>9} {'wall s':>9} {'paper / this':>13} {'peer / this':>12} {'peak MiB':>9}")
    for name in names:
        ratios = [tally.cpu[other] / tally.cpu[name] for other in DEAR]
        high = f"{memory[name]:9.0f}" if name in memory else f"{'':>9}"
        print(f"{name:12} {tally.cpu[name]:9.2f} {tally.wall[name]:9.2f} {ratios[0]:12.1f}x {ratios[1]:11.1f}x {high}")
    print(f"\n{'worst relative error':30}" + "".join(f"{name:>13}" for name in names if name != "paper"))
    for metric in sorted(tally.worst["cold"]):
        errors = (tally.worst[name].get(metric) for name in names if name != "paper")
        print(f"{metric:30}" + "".join(f"{'':>13}" if e is None else f"{e:13.1e}" for e in errors))
    print("\nroutes, cold: " + "; ".join(f"{route} ({count})" for route, count in sorted(tally.routes.items())))
    return targets(shapes, tally)


def targets(shapes: str, tally: Tally) -> bool:
    """Print what was aimed at and what was achieved."""
    lines = [
        (f"{name} against the paper's protocol", f"{tally.cpu['paper'] / tally.cpu[name]:.1f}x", f">= {goal:.0f}x",
         tally.cpu["paper"] / tally.cpu[name] >= goal)
        for name, goal in TARGETS[shapes].items()
    ]  # fmt: skip
    for name in ("path", "on request"):
        dearer = tally.cpu[name] / tally.cpu["elementwise"]
        lines.append((f"elementwise with {name}", f"{dearer:.2f}x", f"<= {DEARER_AIM:g}x", dearer <= DEARER_AIM))
    worst = max(tally.worst["cold"].values())
    lines.append(("worst relative error of any figure", f"{worst:.1e}", f"<= {ACCURACY:g}", worst <= ACCURACY))
    print(f"\n{'target':40} {'achieved':>10} {'aim':>10}")
    for what, achieved, aim, met in lines:
        print(f"{what:40} {achieved:>10} {aim:>10}  {'met' if met else 'MISSED'}")
    return all(line[-1] for line in lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=SHAPES, default="0.6b", help="the matrices of a 0.6B layer, or one more")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["opd"], help="how the updates look")
    parser.add_argument("--checkpoints", type=int, default=5, help="per weight, besides the base")
    whole = parser.add_argument_group("the run of a whole model")
    whole.add_argument("--whole", choices=MODELS, help="measure the run of such a model; one layer of 8b, scaled")
    whole.add_argument("--layers", type=int, nargs="+", help="how many are written and measured (0.6b: 4 and 28)")
    whole.add_argument("--scratch", type=Path, default=Path(gettempdir()), help="where the run lies meanwhile")
    whole.add_argument("--no-papers", action="store_true", help="leave out the papers' protocol")
    parser.add_argument("--adversaries", type=int, default=60, help="how many, whose figures must be right too")
    parser.add_argument("--no-memory", action="store_true", help="leave out peak memory, which takes more processes")
    parser.add_argument("--peak", nargs=2, metavar=("SHAPE", "PROTOCOL"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the comparison. Exits with 1 where a target is missed."""
    args = arguments()
    torch.set_num_threads(1)
    keep_freed_memory()
    with threadpool_limits(limits=1):
        if args.peak:
            out, in_ = map(int, args.peak[0].split("x"))
            print(peak_of_this_process((out, in_), args.peak[1]))
            return
        if args.whole:
            model = MODELS[args.whole]
            layers = args.layers or model.written
            found = measured(model, layers, args.checkpoints, args.scratch, papers=not args.no_papers)
            print("\n".join(lines(found)))
            sys.exit(0 if all(value <= aim for _, value, aim, _ in aims(found)) else 1)
        sys.exit(0 if compare(args) else 1)


def compare(args: argparse.Namespace) -> bool:
    """Every kind in turn."""
    shapes, dear = SHAPES[args.shapes], PAPER_CHECKPOINTS[args.shapes]
    print(f"bf16, base + {args.checkpoints} checkpoints, one thread; shapes {', '.join(map(str, shapes.values()))}")
    if dear < args.checkpoints:
        print(f"paper and peer: {dear} checkpoint(s) timed, scaled to {args.checkpoints}")
    largest = max(shapes.values(), key=lambda shape: shape[0] * shape[1])
    memory: dict[str, float] = {}
    if not args.no_memory:
        memory = {name: peak(largest, name) for name in ("paper", "peer", "cold", "update-only", "elementwise")}
        print(f"peak memory: one checkpoint of {largest}; {peak(largest, 'nothing'):.0f} MiB before any measurement")
    met = []
    for kind in args.kinds:
        tally = Tally()
        for seed, (name, shape) in enumerate(shapes.items()):
            print(f"  {kind} {name} {shape[0]}x{shape[1]}", file=sys.stderr, flush=True)
            run(tally, shape, kind, args.checkpoints, dear, seed)
        met.append(report(args.shapes, kind, tally, memory))
    return all([*met, *([adversaries(args.adversaries)] if args.adversaries else [])])


def adversaries(count: int) -> bool:
    """Print how right the same routes are on weights made to mislead them. Returns whether all figures are."""
    found = Table.of(sampled(count))
    print(f"\nso that speed is not bought with accuracy: worst error against brute force of\n{found}")
    return not found.broken


if __name__ == "__main__":
    main()
