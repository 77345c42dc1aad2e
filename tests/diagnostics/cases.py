"""Matrices before and after an update, for the property tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.locking import top_channel
from geomcheck.diagnostics.path import Path, path_of
from tests.diagnostics.oracle import Array, bf16_spacing, spectrum

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

Shape = tuple[int, int]


@dataclass(frozen=True)
class Case:
    """W0 and W_t as stored."""

    w0: Tensor
    wt: Tensor

    @property
    def update(self) -> Update:
        """The package's view of it."""
        return Update(Base(self.w0), self.wt)

    @property
    def before(self) -> Array:
        return numbers(self.w0)

    @property
    def after(self) -> Array:
        return numbers(self.wt)

    @property
    def delta(self) -> Array:
        return self.after - self.before

    @property
    def size(self) -> int:
        return min(self.w0.shape)


def numbers(tensor: Tensor) -> Array:
    """The stored values, exactly, as float64."""
    return tensor.to(torch.float64).numpy().copy()


def update_of(w0: Array, wt: Array, dtype: torch.dtype = torch.float64) -> Update:
    """An update of two arrays, stored as `dtype`."""
    return Update(Base(torch.tensor(w0).to(dtype)), torch.tensor(wt).to(dtype))


def orthonormal(rows: int, columns: int, seed: int) -> Array:
    """Haar-distributed orthonormal columns."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((rows, columns)))
    return q * np.sign(np.diag(r))


def with_values(shape: Shape, values: Array, seed: int) -> Array:
    """A matrix with the given singular values and random singular vectors."""
    count = len(values)
    return (orthonormal(shape[0], count, seed) * values) @ orthonormal(shape[1], count, seed + 1).T


def make(
    shape: Shape,
    dtype: torch.dtype,
    seed: int,
    *,
    base_rank: int | None = None,
    delta_rank: int | None = None,
    decay: float = 0.5,
    scale: float = 1.0,
    step: float = 1e-2,
) -> Case:
    """W0 of norm about `scale` with power-law singular values, D_t of norm about `step * scale`."""
    size = min(shape)
    base = with_values(shape, np.arange(1.0, (base_rank or size) + 1) ** -decay, seed)
    delta = with_values(shape, np.arange(1.0, (delta_rank or size) + 1) ** -0.4, seed + 2)
    w0 = torch.tensor(base * scale).to(dtype)
    return Case(w0, torch.tensor(numbers(w0) + delta * (step * scale)).to(dtype))


def shapes(smallest: int = 2, largest: int = 48) -> st.SearchStrategy[Shape]:
    """Wide, square and tall, each often."""
    sides = st.integers(smallest, largest)
    square = sides.map(lambda n: (n, n))
    return st.one_of(square, st.tuples(sides, sides), st.tuples(sides, st.just(largest)))


SEEDS = st.integers(0, 2**31)
STEPS = st.sampled_from([1e-4, 1e-3, 1e-2, 0.1, 1.0])


@st.composite
def cases(draw: st.DrawFn, *, smallest: int = 2, dtypes: tuple[torch.dtype, ...] = DTYPES) -> Case:
    """Updates of every shape, storage, scale and rank whose W_t differs from W0."""
    shape, dtype = draw(shapes(smallest)), draw(st.sampled_from(dtypes))
    ranks = st.none() | st.integers(1, min(shape))
    exponents = st.integers(-1, 3) if dtype == torch.float16 else st.integers(-30, 30)
    case = make(
        shape,
        dtype,
        draw(SEEDS),
        base_rank=draw(ranks),
        delta_rank=draw(ranks),
        decay=draw(st.sampled_from([0.0, 0.5, 2.0])),
        scale=10.0 ** draw(exponents),
        step=draw(STEPS),
    )
    return case if case.delta.any() else Case(case.w0, -case.w0)


def gap(matrix: Array, k: int) -> float:
    """(sigma_k - sigma_{k+1}) / sigma_1: what decides how well the top-k subspace is determined."""
    s = np.append(spectrum(matrix).s, 0.0)
    return float((s[k - 1] - s[k]) / s[0]) if s[0] else 0.0


def spacing(tensor: Tensor) -> Array:
    """Distance from each stored magnitude to the next larger number of its format."""
    values = np.abs(numbers(tensor))
    if tensor.dtype == torch.bfloat16:
        return bf16_spacing(values)
    formats = {torch.float16: np.float16, torch.float32: np.float32, torch.float64: np.float64}
    return np.spacing(values.astype(formats[tensor.dtype])).astype(np.float64)


class Run:
    """A two-checkpoint run: "this" and everything else."""

    def __init__(self, this: Update, other: Update) -> None:
        self.this, self.other = this, other

    def channel(self, at: Any, k: int, side: str) -> torch.Tensor:
        return top_channel(self.this if at == "this" else self.other, k, side)

    def reference(self) -> Update:
        return self.other

    def path(self) -> Path:
        """From W0 by way of the other checkpoint."""
        both = self.other.stored, self.this.stored
        return path_of(self.this.base.w0, (1, 2), both.__getitem__, at_once=4)

    def cosine(self, at: Any) -> float:
        return self.path().cosine(1, 0)
