"""What no way to measure a run can go below, and what the papers' protocol takes, in this process and on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from geomcheck.diagnostics.linalg.kernels import gram, product
from tests.bench.protocols import Paper
from tests.bench.weights import KINDS, trajectory
from tests.bench.whole.gates import Cost
from tests.bench.whole.model import Model

PIECE = 1 << 23
"""Bytes that are read at a time."""

REPEATS = 3


def reading(run: Path) -> Cost:
    """To read every byte of the run once, from the page cache if that has room for it: the faster of two passes."""
    return min((_timed(partial(_read, run)) for _ in range(2)), key=lambda cost: cost.cpu)


def _read(run: Path) -> None:
    piece = memoryview(bytearray(PIECE))
    for file in run.rglob("*.safetensors"):
        with file.open("rb", buffering=0) as opened:
            while opened.readinto(piece):
                pass


def products(model: Model, checkpoints: int) -> Cost:
    """The float32 products of a whole model: a Gram matrix per weight, and three more per checkpoint."""
    return _of_all(model, partial(_products, checkpoints=checkpoints))


def _products(shape: tuple[int, int], checkpoints: int) -> Cost:
    """W0^T W0; then at each checkpoint T = D V, U^T T and T^T T, which has the cost of the first."""
    tall, size = max(shape), min(shape)
    matrix, vectors = torch.randn(tall, size), torch.randn(size, size)
    transposed = torch.randn(size, tall)
    square, once, back = (
        _best(work)
        for work in (partial(gram, matrix), partial(product, matrix, vectors), partial(product, transposed, matrix))
    )
    return _sum([square.times(1 + checkpoints), once.times(checkpoints), back.times(checkpoints)])


def papers(model: Model, checkpoints: int) -> Cost:
    """The papers' protocol at all checkpoints, from one checkpoint of one weight of each shape."""
    return _of_all(model, _paper).times(checkpoints)


def _paper(shape: tuple[int, int]) -> Cost:
    w0, (wt,) = trajectory(shape, KINDS["opd"], 1)
    return _timed(lambda: Paper(w0, wt).see(wt))


def _of_all(model: Model, of_shape: Callable[[tuple[int, int]], Cost]) -> Cost:
    """The cost of all matrices of a model, from that of one of each shape; a wide one costs what a tall one does."""
    shapes = [(max(shape), min(shape)) for shape in model.shapes.values()]
    each = {shape: of_shape(shape) for shape in dict.fromkeys(shapes)}
    return _sum([each[shape] for shape in shapes]).times(model.layers)


def _best(work: Callable[[], object]) -> Cost:
    work()
    return min((_timed(work) for _ in range(REPEATS)), key=lambda cost: cost.cpu)


def _timed(work: Callable[[], object]) -> Cost:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def _sum(costs: list[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs))
