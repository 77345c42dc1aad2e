"""Every registered metric against float64 brute force at the edges of storage, shape and rank."""

from __future__ import annotations

import random

import pytest
import torch

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.diagnostics.linalg import ACCURACY
from geomcheck.errors import Undefined
from tests.bench.weights import KINDS, trajectory
from tests.diagnostics import oracle
from tests.diagnostics.cases import Run
from tests.diagnostics.edges import (
    Edge,
    asked,
    compare,
    depends_on_k,
    half_precision,
    lines,
    ranks,
    repeated,
    scales,
    ties,
)

SMALL, LARGE = ((24, 16),), ((256, 264),)
DENSE_ACCURACY = 1e-6

DENSE = [*scales(SMALL), *half_precision(SMALL), *ties(SMALL), *ranks(SMALL), *repeated(((5, 9), (24, 16))), *lines()]
FAST = [*list(scales(LARGE))[5::5], *list(half_precision(LARGE))[1:2], *list(ties(LARGE))[2:], *list(ranks(LARGE))[1:2]]
FAST += [*list(repeated(LARGE))[:1]]


@pytest.mark.parametrize("edge", DENSE, ids=str)
def test_below_256_every_figure_is_that_of_the_definition(edge: Edge) -> None:
    assert_as_defined(edge, DENSE_ACCURACY)


@pytest.mark.parametrize("edge", FAST, ids=str)
def test_from_256_on_every_figure_is_within_what_is_promised(edge: Edge) -> None:
    assert_as_defined(edge, ACCURACY)


def assert_as_defined(edge: Edge, accuracy: float) -> None:
    weight = edge.weight
    for metric in load_metrics():
        for k in edge.ks if depends_on_k(metric) else edge.ks[:1]:
            compared = compare(edge.run, weight, metric, k)
            assert not compared.problem, f"{metric.name}, k = {k}"
            assert compared.error is None or compared.error <= accuracy, f"{metric.name}, k = {k}"


def test_brute_force_knows_every_metric() -> None:
    assert oracle.FIGURES.keys() == set(load_metrics().names())


def test_brute_force_is_compared_and_not_passed_over() -> None:
    """At least at scale one, nothing is left out as undefined or unresolved."""
    (edge,) = (edge for edge in scales(SMALL) if "float64 1e+00" in edge.name)
    for metric in load_metrics():
        assert compare(edge.run, edge.weight, metric, 5).error is not None, metric.name


# ---- the same digits, whatever else was asked


def figures(metric: Metric, run: Run, k: int) -> dict[str, float] | str:
    try:
        return dict(metric.compute(run.this, asked(metric, k), run))
    except Undefined as reason:
        return str(reason)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(300, 264), (150, 140)])
def test_no_digit_depends_on_what_was_asked_before(shape: tuple[int, int], kind: str) -> None:
    """A cache answers a part of what a suite asks; the rest must come out as it would have with that part."""
    w0, path = trajectory(shape, KINDS[kind], 2, 0)
    questions = [(metric, k) for metric in load_metrics() for k in ((2, 16, 33) if depends_on_k(metric) else (2,))]

    def run() -> Run:
        base = Base(w0)
        return Run(Update(base, path[-1]), Update(base, path[0]))

    def answered(order: list[tuple[Metric, int]]) -> dict[tuple[str, int], dict[str, float] | str]:
        together = run()
        return {(metric.name, k): figures(metric, together, k) for metric, k in order}

    alone = {(metric.name, k): figures(metric, run(), k) for metric, k in questions}
    assert answered(questions) == alone
    assert answered(questions[::-1]) == alone
    assert answered(random.Random(0).sample(questions, len(questions))) == alone


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_no_digit_depends_on_where_in_a_file_a_weight_lies(dtype: torch.dtype) -> None:
    """Memory-mapped tensors begin at any multiple of their size, and unaligned products may sum in another order."""
    w0, path = trajectory((270, 260), KINDS["opd"], 2, 0)

    def placed(tensor: torch.Tensor, offset: int) -> torch.Tensor:
        room = torch.empty(tensor.numel() + offset, dtype=dtype)
        room[offset:] = tensor.to(dtype).flatten()
        return room[offset:].view(tensor.shape)

    def answers(offset: int) -> dict[str, dict[str, float] | str]:
        base = Base(placed(w0, offset))
        run = Run(Update(base, placed(path[-1], offset)), Update(base, placed(path[0], offset)))
        return {metric.name: figures(metric, run, 16) for metric in load_metrics()}

    expected = answers(0)
    assert all(answers(offset) == expected for offset in (1, 3, 5))
