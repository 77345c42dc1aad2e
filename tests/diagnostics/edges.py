"""Weights at the edges of storage, shape and rank, and how far every metric is from its definition there.

``python -m tests.diagnostics.edges`` prints the worst relative error of each metric in each class of edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geomcheck.diagnostics import Base, Metric, Update, load_metrics
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import Run, Shape, numbers, spacing, with_values

POWERS = tuple(2.0 ** round(exponent * math.log2(10)) for exponent in (-30, -15, 0, 15, 30))
"""1e-30 to 1e30, to the next power of two: what is representable at one is at every other."""

SMALL_SHAPES: tuple[Shape, ...] = ((5, 9), (24, 16), (40, 40))
LARGE_SHAPES: tuple[Shape, ...] = ((256, 300), (288, 256))
"""Below and from 256 on: the dense route, and the certified fast ones."""

ANGLE_FLOOR = 0.01
"""Degrees; smaller angles are held to the same absolute error as this one."""

SHARE_FLOOR = 1e-6
"""Shares are 0..1; smaller ones are held to the same absolute error as this one."""

RESOLVED = 1e-9
"""Part of the largest singular value below which float64 brute force is itself noise."""


BLURRED = 1e-5
"""Part of the largest entry of a truncated W0 below which the fast routes take entries for zero."""


@dataclass(frozen=True, eq=False)
class Edge:
    """A weight at an edge.

    Attributes:
        kind: class of edges.
        name: within it.
        w0, wt, other: W0 and two checkpoints as stored.
        ks: dimensions of subspaces to ask for.
    """

    kind: str
    name: str
    w0: Tensor
    wt: Tensor
    other: Tensor
    ks: tuple[int, ...]

    @property
    def weight(self) -> oracle.Weight:
        """As brute force sees it."""
        return oracle.Weight(numbers(self.w0), numbers(self.wt), numbers(self.other), spacing(self.wt))

    @property
    def run(self) -> Run:
        """As metrics see it."""
        base = Base(self.w0)
        return Run(Update(base, self.wt), Update(base, self.other))

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


def moving(shape: Shape, dtype: torch.dtype, power: float, *, rank: int | None = None, seed: int = 0) -> list[Tensor]:
    """W0 and two checkpoints, their entries multiplied by `power`.

    With `rank`, everything is integer before that, and updates have exactly this rank in fp32 and above.
    """
    rng = np.random.default_rng(seed)
    if rank is not None:
        before = rng.integers(-2000, 2000, shape).astype(float)
        steps = [rng.integers(-9, 10, (shape[0], rank)) @ rng.integers(-9, 10, (rank, shape[1])) for _ in range(2)]
        return [torch.tensor((before + step) * power).to(dtype) for step in (0, *steps)]
    before = rng.standard_normal(shape)
    early = rng.standard_normal(shape) * np.geomspace(1, 0.05, shape[1])
    late = 2 * early + 0.3 * rng.standard_normal(shape)
    return [torch.tensor((before + 0.02 * step) * power).to(dtype) for step in (0.0, early, late)]


def ks_of(shape: Shape) -> tuple[int, ...]:
    """1, one that is neither, and min - 1."""
    size = min(shape)
    return tuple(sorted({k for k in (1, size // 3, size - 1) if 1 <= k < size}))


def scales(shapes: Sequence[Shape]) -> Iterator[Edge]:
    for shape in shapes:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            for power in POWERS:
                yield Edge(
                    "scales 1e-30 to 1e30", f"{shape} {dtype} {power:.0e}", *moving(shape, dtype, power), ks_of(shape)
                )


def half_precision(shapes: Sequence[Shape]) -> Iterator[Edge]:
    """Multiples of fp16's smallest number, the border to its normal numbers, and its largest ones."""
    rng = np.random.default_rng(1)
    for shape in shapes:
        for name, low, high in (("subnormal", 1, 900), ("border to normal", 900, 1200), ("deepest", 1, 8)):
            before = rng.integers(low, high, shape) * rng.choice([-1, 1], shape)
            after = [before + rng.integers(-3, 4, shape) for _ in range(2)]
            stored = [torch.tensor(matrix * 2.0**-24).to(torch.float16) for matrix in (before, *after)]
            yield Edge("fp16 subnormals", f"{shape} {name}", *stored, ks_of(shape))
        largest = moving(shape, torch.float16, 2.0**13)
        yield Edge("fp16 subnormals", f"{shape} largest", *largest, ks_of(shape))


def ties(shapes: Sequence[Shape]) -> Iterator[Edge]:
    """fp32 halfway between two bf16 numbers, and one fp32 step to either side; at carries, near zero, near infinity."""
    rng = np.random.default_rng(2)
    for shape in shapes:
        for name, low, high in (
            ("anywhere", 0x0080, 0x7F00),
            ("subnormal", 0x0001, 0x0080),
            ("ordinary", 0x3E00, 0x4000),
        ):
            upper = rng.integers(low, high, shape).astype(np.uint32)
            upper[:, 0] |= 0x7F  # the next step carries into the exponent
            lower = [rng.choice(np.array([0x7FFF, 0x8000, 0x8001, 0], np.uint32), shape) for _ in range(3)]
            sign = rng.integers(0, 2, shape).astype(np.uint32) << 31
            bits = [(sign | (upper << 16) | part).astype(np.uint32) for part in lower]
            yield Edge("bf16 ties", f"{shape} {name}", *(torch.tensor(b.view(np.float32)) for b in bits), ks_of(shape))


def ranks(shapes: Sequence[Shape]) -> Iterator[Edge]:
    for shape in shapes:
        for rank in (1, 2, min(shape)):
            for dtype, power in ((torch.float64, 1.0), (torch.float32, POWERS[0]), (torch.float32, POWERS[-1])):
                stored = moving(shape, dtype, power, rank=rank)
                yield Edge("rank 1, 2 and full", f"{shape} rank {rank} {dtype} {power:.0e}", *stored, ks_of(shape))


def repeated(shapes: Sequence[Shape]) -> Iterator[Edge]:
    """Singular values k and k + 1 equal, of W0 or of D: at the cut there is no subspace, beside it there is."""
    for shape in shapes:
        size = min(shape)
        cut = size // 2
        tied, free = np.linspace(3, 1, size), np.linspace(1, 0.3, size) * 1e-2
        tied[cut] = tied[cut - 1]
        steps = [with_values(shape, free, seed) for seed in (5, 9)]
        w0 = with_values(shape, tied, 1)
        stored = [torch.tensor(w0 + step) for step in (np.zeros(shape), *steps)]
        yield Edge("repeated singular values", f"{shape} of W0", *stored, (cut - 1, cut, cut + 1))
        low = with_values(shape, tied * 1e-2, 3)
        exact = [torch.tensor(step) for step in (np.zeros(shape), low, with_values(shape, free, 7))]
        yield Edge("repeated singular values", f"{shape} of D", *exact, (cut - 1, cut, cut + 1))


def lines() -> Iterator[Edge]:
    """1 x N and N x 1."""
    for shape in ((1, 33), (33, 1), (1, 300), (300, 1), (1, 1)):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            yield Edge("1 x N and N x 1", f"{shape} {dtype}", *moving(shape, dtype, 1.0), (1,))


def edges() -> Iterator[Edge]:
    """All of them."""
    for shapes in (SMALL_SHAPES, LARGE_SHAPES):
        few = shapes if shapes is SMALL_SHAPES else shapes[:1]
        yield from scales(few)
        yield from half_precision(shapes)
        yield from ties(few)
        yield from ranks(few)
        yield from repeated(shapes)
    yield from lines()


# ---- against the definitions


def asked(metric: Metric, k: int) -> dict[str, object]:
    """Default parameters, but for this k."""
    given = {"k": k, "rank": k}
    return {p.name: given.get(p.name, p.usual) for p in metric.measured_parameters}


def depends_on_k(metric: Metric) -> bool:
    return any(parameter.kind == "rank" for parameter in metric.parameters)


@dataclass(frozen=True)
class Compared:
    """A metric at an edge.

    Attributes:
        error: relative error of its worst figure; None where neither side has one, or float64 cannot tell.
        problem: what is wrong, empty where nothing is.
    """

    error: float | None = None
    problem: str = ""


def compare(run: Run, weight: oracle.Weight, metric: Metric, k: int) -> Compared:
    """The figures of `metric` against its definition, and whether it has any where it should."""
    try:
        found = metric.compute(run.this, asked(metric, k), run)
    except Undefined as reason:
        found = str(reason)
    unique = min(
        [oracle.separation(m, k) for m in oracle.SUBSPACES.get(metric.name, lambda _: ())(weight)], default=1.0
    )
    if metric.name == "principal_overlap" and unique < 0:
        unique = 1.0  # of a lower rank than k, W0 is its own truncation
    expected = _expected(metric.name, weight, k) if unique > RESOLVED else None
    if isinstance(found, str):
        return Compared(problem=f"undefined: {found}" if expected is not None else "")
    if metric.name in oracle.SUBSPACES and unique < 1e-14:
        return Compared(problem=f"a figure, {found}, of a subspace that is not unique")
    if expected is None:
        return Compared()
    if expected.keys() != found.keys():
        return Compared(problem=f"statistics {sorted(found)}")
    noise = oracle.RESOLUTIONS.get(metric.name, lambda *_: 0.0)(weight, k)
    return Compared(max(_error(metric, found[stat], value, noise) for stat, value in expected.items()))


def _expected(name: str, weight: oracle.Weight, k: int) -> dict[str, float] | None:
    """By definition; None where there is no figure, or where brute force cannot resolve it."""
    if name == "hill_exponent":
        s = oracle.spectrum(weight.d).s
        if k < 2 or k > len(s) or s[k - 1] < RESOLVED * s[0] or s[0] - s[k - 1] < RESOLVED * s[0]:
            return None
    if name == "principal_overlap":
        entries = np.abs(oracle.low_rank(weight.w0, k))
        if 0 < np.quantile(entries, 0.69) < BLURRED * entries.max():
            return None
    with np.errstate(all="ignore"):
        try:
            figure = oracle.FIGURES[name](weight, k)
        except (ZeroDivisionError, ValueError):
            return None
    figures = figure if isinstance(figure, dict) else {"value": figure}
    return figures if all(map(math.isfinite, figures.values())) else None


def _error(metric: Metric, found: float, expected: float, noise: float) -> float:
    floor = ANGLE_FLOOR if metric.name == "principal_angle" else SHARE_FLOOR if metric.high == 1.0 else 0.0
    beyond = max(0.0, abs(found - expected) - noise)
    return beyond / max(abs(expected), floor) if beyond else 0.0


def table(some: Sequence[Edge]) -> list[str]:
    """The worst relative error by metric and class of edges; a problem instead where there is one."""
    metrics = list(load_metrics())
    worst: dict[tuple[str, str], float] = {}
    problems: list[str] = []
    for edge in some:
        weight = edge.weight
        for metric in metrics:
            for k in edge.ks if depends_on_k(metric) else edge.ks[:1]:
                compared = compare(edge.run, weight, metric, k)
                if compared.problem:
                    problems.append(f"{edge}, {metric.name}, k = {k}: {compared.problem}")
                if compared.error is not None:
                    cell = metric.name, edge.kind
                    worst[cell] = max(worst.get(cell, 0.0), compared.error)
    kinds = list(dict.fromkeys(edge.kind for edge in some))
    lines = [" " * 24 + "".join(f"{kind:>27}" for kind in kinds)]
    for metric in metrics:
        cells = (worst.get((metric.name, kind)) for kind in kinds)
        lines.append(f"{metric.name:24}" + "".join(f"{'-' if cell is None else f'{cell:.1e}':>27}" for cell in cells))
    return [*lines, *problems]


if __name__ == "__main__":
    for name, group in (("below 256", False), ("from 256 on", True)):
        print(name, *table([edge for edge in edges() if (min(edge.w0.shape) >= 256) is group]), sep="\n")
