"""Sketches of updates: their cosines against exact ones, and how far off they are."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics import sketch as sketches
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.diagnostics.sketch import SIZE, STRIPE, cosines, sketch, standard_error, unpacked

Pair = tuple[Tensor, Tensor]

SHAPE = (70, 1000)
"""Two stripes, the second not full."""


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape))


def spike(seed: int) -> Tensor:
    """One entry that outweighs all others a thousand times."""
    noise = 1e-3 * drawn(*SHAPE, seed=seed) / math.sqrt(math.prod(SHAPE))
    noise.view(-1)[seed * 7919 % noise.numel()] = 1.0
    return noise


def sparse(seed: int) -> Tensor:
    """Three entries."""
    found = torch.zeros(SHAPE).double()
    found.view(-1)[np.random.default_rng(seed).choice(found.numel(), 3, replace=False)] = drawn(3, seed=seed)
    return found


def at_cosine(wanted: float, one: Tensor, other: Tensor) -> Pair:
    one = one / one.norm()
    rest = other - (one * other).sum() * one
    return one, wanted * one + math.sqrt(1 - wanted**2) * rest / rest.norm()


def column(seed: int) -> Tensor:
    """One column, of as many as a block has."""
    found = torch.zeros(512, 256).double()
    found[:, seed % 256] = drawn(512, seed=seed)
    return found


CASES: dict[str, Callable[[int], Pair]] = {
    "unrelated": lambda s: (drawn(*SHAPE, seed=s), drawn(*SHAPE, seed=s + 1)),
    "half alike": lambda s: at_cosine(0.5, drawn(*SHAPE, seed=s), drawn(*SHAPE, seed=s + 1)),
    "alike": lambda s: at_cosine(0.95, drawn(*SHAPE, seed=s), drawn(*SHAPE, seed=s + 1)),
    "against": lambda s: at_cosine(-0.9, drawn(*SHAPE, seed=s), drawn(*SHAPE, seed=s + 1)),
    "one huge entry each": lambda s: (spike(s), spike(s + 1)),
    "a huge entry in common": lambda s: at_cosine(0.9, spike(s), spike(s + 1)),
    "three entries each": lambda s: (sparse(s), sparse(s + 1)),
    "of rank one": lambda s: tuple(drawn(70, 1, seed=i) @ drawn(1, 1000, seed=i + 9) for i in (s, s + 1)),
    "of rank one, left alike": lambda s: tuple(drawn(70, 1, seed=s) @ drawn(1, 1000, seed=i) for i in (s + 1, s + 2)),
    "rows of equal entries": lambda s: tuple(drawn(1024, 1, seed=i).expand(1024, 256) for i in (s, s + 1)),
    "one column each": lambda s: (column(s), column(s + 1)),
    "vectors": lambda s: (drawn(64, seed=s), drawn(64, seed=s + 1)),
    "experts": lambda s: (drawn(4, 30, 20, seed=s), drawn(4, 30, 20, seed=s + 1)),
}


def cosine_of(one: Tensor, other: Tensor) -> float:
    a, b = (unpacked(sketch(torch.zeros_like(update), update))[0] for update in (one, other))
    return float(cosines(a, b))


@pytest.mark.parametrize("case", CASES)
def test_the_error_is_the_one_that_is_stated(case: str) -> None:
    """Over 40 pairs, its root mean square is within 30% of the standard error, or below; and no pair is far off."""
    errors = []
    for seed in range(0, 400, 10):
        one, other = CASES[case](seed)
        true = float((one * other).sum() / one.norm() / other.norm())
        errors.append((cosine_of(one, other) - true) / standard_error(true))
    assert math.sqrt(np.mean(np.square(errors))) < 1.35
    assert max(map(abs, errors)) < 5
    assert abs(np.mean(errors)) < 0.6


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.3, -1e-3])
def test_what_is_a_multiple_has_a_cosine_of_one_or_minus_one(case: str, factor: float) -> None:
    one, _ = CASES[case](3)
    assert cosine_of(one, factor * one) == pytest.approx(math.copysign(1, factor), abs=1e-6)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5), st.integers(0, 99))
def test_factors_give_the_sketch_of_the_matrix(out: int, into: int, rank: int, seed: int) -> None:
    w0 = torch.zeros(out, into).double()
    factors = LowRank(drawn(out, rank, seed=seed), drawn(rank, into, seed=seed + 1))
    kept = [unpacked(sketch(w0, stored))[0] for stored in (factors, factors.matrix)]
    np.testing.assert_allclose(*kept, atol=2e-3)


def test_factors_of_several_stripes_give_the_sketch_of_the_matrix() -> None:
    factors = LowRank(drawn(300, 3, seed=0), drawn(3, 701, seed=1))
    assert factors.matrix.numel() > 3 * STRIPE
    kept = [unpacked(sketch(torch.zeros(300, 701).double(), stored))[0] for stored in (factors, factors.matrix)]
    np.testing.assert_allclose(*kept, atol=2e-3)


def test_it_is_linear() -> None:
    one, other = drawn(*SHAPE, seed=0), drawn(*SHAPE, seed=1)
    zero = torch.zeros(SHAPE).double()
    whole, first, second = (sketches._sums(zero, d)[0] for d in (one - 2 * other, one, other))
    torch.testing.assert_close(whole, first - 2 * second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_one_pass_gives_the_norm_too_to_the_bit(dtype: torch.dtype) -> None:
    w0 = drawn(*SHAPE, seed=0).to(dtype)
    wt = (w0.double() + 0.1 * drawn(*SHAPE, seed=1)).to(dtype)
    update, alone = Update(Base(w0), wt), Update(Base(w0), wt)
    assert update.sketch == sketch(w0, wt)
    assert update.__dict__["norm"] == alone.norm


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_it_is_that_of_the_update_in_every_format(dtype: torch.dtype) -> None:
    w0 = drawn(*SHAPE, seed=0).to(dtype)
    wt = (w0.double() + 0.1 * drawn(*SHAPE, seed=1)).to(dtype)
    assert sketch(w0, wt) == sketch(torch.zeros(SHAPE).double(), wt.double() - w0.double())


def test_it_is_the_same_everywhere() -> None:
    """Whoever changes a digest here raises VERSION: records of before are then not compared with those of after."""
    update = (torch.arange(200 * 1000) % 1009 - 504).double().view(200, 1000)
    digest = hashlib.blake2b(sketch(torch.zeros_like(update), update), digest_size=8).hexdigest()
    assert (sketches.VERSION, digest) == (1, "09aed0f21e9e64ec")


def test_it_depends_on_no_generator_and_no_threads() -> None:
    one = drawn(*SHAPE, seed=0)
    torch.manual_seed(1)
    before, threads = sketch(torch.zeros_like(one), one), torch.get_num_threads()
    torch.manual_seed(2)
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        after = sketch(torch.zeros_like(one), one)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(unpacked(before), unpacked(after), atol=1e-3)


@pytest.mark.parametrize("change", [0.0, 1e308])
def test_no_update_and_one_beyond_all_range_have_no_direction(change: float) -> None:
    w0 = torch.zeros(40, 40).double()
    kept = unpacked(sketch(w0, w0 + change))[0]
    assert not kept.any()
    assert math.isnan(cosines(kept, kept))


def test_what_is_no_sketch_is_refused() -> None:
    for numbers in (np.full(SIZE, np.nan), np.full(SIZE, 1.0), np.full(SIZE, np.inf), np.full(SIZE - 1, 0.125)):
        with pytest.raises(ValueError, match="norm|reshape"):
            unpacked(numbers.astype("<f2").tobytes())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (255,), (STRIPE,), (3, STRIPE + 5)])
def test_the_norm_of_the_same_pass_is_that_of_float64(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Large beside small, subnormal and cancelling entries; neither tensor is written to."""
    count = math.prod(shape)
    scale = torch.logspace(-30, 3, max(1, count), dtype=torch.float64)[:count].reshape(shape)
    w0 = (scale * drawn(*shape, seed=0)).to(dtype)
    wt = (w0.double() + 1e-3 * scale * drawn(*shape, seed=1)).to(dtype)
    before = w0.clone(), wt.clone()
    kept, norm = sketches.sketch_and_norm(w0, wt)
    delta = wt.double() - w0.double()
    assert norm == pytest.approx(float(np.linalg.norm(delta.numpy())), rel=1e-12)
    assert kept == sketch(torch.zeros_like(delta), delta)
    assert torch.equal(w0, before[0])
    assert torch.equal(wt, before[1])
