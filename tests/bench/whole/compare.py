"""Measure every gate on the run of a whole model, beside what no way of measuring it can go below."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from threadpoolctl import threadpool_limits

import geomcheck
from tests.bench.whole import floors
from tests.bench.whole.gates import BUDGET, ENTRIES, EXACT, GATES, UPDATE, Cost, Session, session
from tests.bench.whole.model import Model, write_run
from tests.bench.whole.stages import REST

ROOM = 1.5
"""Of the bytes of the runs, the multiple that is needed: factorizations that the cache keeps lie there too."""

FEW, MORE = 1, 3
"""Checkpoints of the runs whose difference is the time of one checkpoint."""


@dataclass(frozen=True)
class Weight:
    """CPU seconds of one weight with its reading: what W0 takes, and each checkpoint."""

    base: float
    checkpoint: float


@dataclass
class Findings:
    """What was measured of a model.

    Attributes:
        layers: as many as were written, ascending.
        reading, products, papers: floors, and the papers' protocol, of the whole model.
        sessions: by gate, on the most layers.
        peaks: by number of layers: of the exact gate.
        stages: CPU seconds of the exact gate by stage, on the fewest layers.
        weights: by gate and shape.
    """

    model: Model
    layers: Sequence[int]
    checkpoints: int
    reading: Cost
    products: Cost
    papers: Cost | None = None
    sessions: dict[str, Session] = field(default_factory=dict)
    peaks: dict[int, Cost] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)
    weights: dict[str, dict[tuple[int, int], Weight]] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        """Layers of the model per layer that was measured."""
        return self.model.layers / self.layers[-1]

    @property
    def start(self) -> float:
        """CPU seconds of a session beside what measures."""
        return self.stages[REST]

    def whole(self, gate: str) -> Cost:
        """What a session of the whole model takes: scaled by layers but for its start, where fewer were measured; with
        a budget, all entries and as many weights as were needed of a narrower model."""
        found = self.sessions[gate]
        if self.scale == 1:
            return found.cost
        if gate != BUDGET:
            return self._scaled(found.cost)
        entries, exact = self.whole(ENTRIES), self.sessions[EXACT].cost
        share = (found.weights or self.model.weights) / len(self.model.shapes) / self.layers[-1]
        beside = self.sessions[ENTRIES].cost
        wall, cpu = ((exact.wall - beside.wall) * share, (exact.cpu - beside.cpu) * share)
        return replace(exact, wall=entries.wall + wall, cpu=entries.cpu + cpu)

    def _scaled(self, cost: Cost) -> Cost:
        start = min(self.start, cost.cpu)
        grown = (start + (cost.cpu - start) * self.scale) / cost.cpu
        return replace(cost, wall=cost.wall * grown, cpu=cost.cpu * grown)


def measured(model: Model, layers: Sequence[int], checkpoints: int, scratch: Path, *, papers: bool) -> Findings:
    """Measure everything, in a directory below `scratch` that is removed. Exits where there is no room for it."""
    layers = sorted({*layers})
    needs = int(ROOM * sum(model.bytes(count, checkpoints) for count in layers))
    free = shutil.disk_usage(scratch).free
    said = f"{needs / 1e9:.1f} GB of {free / 1e9:.0f} GB that are free in {scratch}"
    if needs > free:
        sys.exit(f"the runs and their caches take {said}; name another place with --scratch")
    _tell(f"writing runs of {' and '.join(map(str, layers))} layers: they and their caches take {said}")
    with TemporaryDirectory(dir=scratch, prefix="geomcheck-whole-") as directory, _one_thread():
        work = Path(directory)
        runs = {count: write_run(work / f"layers-{count}", model, count, checkpoints) for count in layers}
        reading = floors.reading(runs[layers[-1]]).times(model.layers / layers[-1])
        found = Findings(model, layers, checkpoints, reading, floors.products(model, checkpoints))
        for name in GATES:
            narrow = name == BUDGET and found.scale != 1
            run = _narrow(work, model, checkpoints) if narrow else runs[layers[-1]]
            found.sessions[name] = _told(work, run, name)
        found.peaks = {count: _told(work / "fewer", runs[count], EXACT).cost for count in layers[:-1]}
        found.peaks[layers[-1]] = found.sessions[EXACT].cost
        found.stages = _stages(work / "stages", runs[layers[0]])
        found.weights = _weights(work / "weights", model)
        if papers:
            _tell("the papers' protocol")
            found.papers = floors.papers(model, checkpoints)
    return found


def _told(work: Path, run: Path, name: str, program: Sequence[str] = ("-m", "pytest")) -> Session:
    _tell(f"{run.name}: {name}")
    work.mkdir(exist_ok=True)
    found = session(work, run, name, program=program)
    _tell(f"  {found.cost.wall:.1f} s, {found.cost.cpu:.1f} s of CPU, {found.cost.peak:.0f} MB")
    return found


def _narrow(work: Path, model: Model, checkpoints: int) -> Path:
    """A run of as many layers with an eighth of the width: with a budget, as many weights decide."""
    narrow = replace(model, shapes={name: (out // 8, in_ // 8) for name, (out, in_) in model.shapes.items()})
    return write_run(work / "narrow", narrow, model.layers, checkpoints)


def _stages(work: Path, run: Path) -> dict[str, float]:
    """CPU seconds of the exact gate by stage."""
    file = work / "stages.json"
    _told(work, run, EXACT, program=("-m", "tests.bench.whole.stages", str(file)))
    seconds: dict[str, float] = json.loads(file.read_text())
    return seconds


def _weights(work: Path, model: Model) -> dict[str, dict[tuple[int, int], Weight]]:
    """What one weight of each shape takes in this process, by gate."""
    found: dict[str, dict[tuple[int, int], Weight]] = {EXACT: {}, UPDATE: {}}
    for number, shape in enumerate(sorted({*model.shapes.values()}, key=lambda shape: (prod(shape), shape))):
        _tell(f"one weight of {shape[0]}x{shape[1]}")
        one = Model({"q": shape}, layers=1, written=(1,))
        few, more = (write_run(work / f"{number}-{count}", one, 1, count) for count in (FEW, MORE))
        for gate, of_shapes in found.items():
            _seconds(few, gate)  # what is done once per process, and per size
            least, most = _seconds(few, gate), _seconds(more, gate)
            each = (most - least) / (MORE - FEW)
            of_shapes[shape] = Weight(max(0.0, least - FEW * each), each)
    return found


def _seconds(run: Path, gate: str) -> float:
    """CPU seconds of measuring a run by the metrics of a gate, without a session."""
    start = time.process_time()
    geomcheck.measure(run, metrics=sorted(GATES[gate].metrics), workers=1)
    return time.process_time() - start


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


def _tell(what: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)
