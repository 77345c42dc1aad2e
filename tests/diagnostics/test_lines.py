"""Where an update lies, by rows and columns, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics import storage as storage_module
from geomcheck.diagnostics.lines import ROW_CONCENTRATION, frozen_rows, row_concentration
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, numbers

SIDES = st.sampled_from(["rows", "columns"])
SHARES = st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]) | st.floats(0, 1)


@st.composite
def partly_frozen(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Matrices and stacks of them, some rows and columns of which did not change."""
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple))
    rng = np.random.default_rng(draw(SEEDS))
    dtype = draw(st.sampled_from(DTYPES))
    step = rng.standard_normal(shape) * (rng.random(shape[:-1]) < 0.6)[..., None] * (rng.random(shape[-1]) < 0.6)
    w0 = torch.tensor(rng.standard_normal(shape)).to(dtype)
    size = 10.0 ** draw(st.integers(-3, 2))
    return w0, torch.tensor(numbers(w0) + size * step).to(dtype)


@given(partly_frozen(), SIDES, SHARES, st.sampled_from([1, 7, 64, 1 << 16]))
def test_of_tensors_of_any_dimension_and_in_any_blocks(
    weights: tuple[Tensor, Tensor], side: str, share: float, block: int
) -> None:
    (w0, wt), update = weights, Update(Base(weights[0]), weights[1])
    d = numbers(wt) - numbers(w0)
    usual, storage_module.BLOCK = storage_module.BLOCK, block
    try:
        if d.any():
            assert frozen_rows(update, side=side) == pytest.approx(oracle.frozen_rows(d, side), abs=1e-15)
            found = row_concentration(update, side=side, share=share)
            assert found == pytest.approx(oracle.concentration(d, side, share), rel=1e-12)
            low, high = ROW_CONCENTRATION.range({"side": side, "share": share}, w0.shape)
            assert low <= found <= high
        else:
            for figure in (frozen_rows, row_concentration):
                with pytest.raises(Undefined, match="W_t equals W0"):
                    figure(update, side=side)
    finally:
        storage_module.BLOCK = usual


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 6), SEEDS, SIDES)
def test_of_updates_by_their_factors(out: int, in_: int, rank: int, seed: int, side: str) -> None:
    rng = np.random.default_rng(seed)
    left = torch.tensor(rng.standard_normal((out, rank)) * (rng.random(out) < 0.7)[:, None])
    right = torch.tensor(rng.standard_normal((rank, in_)) * (rng.random(in_) < 0.7))
    update = Update(Base(torch.zeros(out, in_).bfloat16()), LowRank(left, right))
    d = left.numpy() @ right.numpy()
    if d.any():
        assert frozen_rows(update, side=side) == pytest.approx(oracle.frozen_rows(d, side), abs=1e-15)
        assert row_concentration(update, side=side, share=0.2) == pytest.approx(
            oracle.concentration(d, side, 0.2), rel=1e-9
        )


def test_factors_are_not_multiplied_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage_module, "BLOCK", 40)
    update = Update(Base(torch.zeros(8, 20)), LowRank(torch.ones(8, 1).double(), torch.ones(1, 20).double()))
    monkeypatch.setattr(LowRank, "matrix", property(lambda _: pytest.fail("D was formed")))
    assert frozen_rows(update) == 0.0
    assert row_concentration(update, share=0.25) == 0.25


def test_half_of_a_stack_of_experts_that_never_trains_is_half_of_the_rows() -> None:
    w0 = torch.ones(4, 6, 5)
    wt = w0.clone()
    wt[2:] += 0.5
    update = Update(Base(w0), wt)
    assert frozen_rows(update, side="rows") == 0.5
    assert frozen_rows(update, side="columns") == 0.0
    assert row_concentration(update, share=0.5) == 1.0


def test_a_change_of_zeros_sign_is_no_change() -> None:
    zeros, half = torch.zeros(3, 4), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert frozen_rows(Update(Base(torch.zeros(2, 2)), torch.where(half == 0, -half, half))) == 0.5
    with pytest.raises(Undefined, match="W_t equals W0"):
        frozen_rows(Update(Base(zeros), -zeros))


def test_a_vector_has_neither_rows_nor_columns() -> None:
    update = Update(Base(torch.ones(5)), torch.zeros(5))
    for figure in (frozen_rows, row_concentration):
        with pytest.raises(Undefined, match="a vector has no rows and columns"):
            figure(update)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_squares_beyond_float64_are_an_error_and_no_figure(size: float) -> None:
    with pytest.raises(OverflowError):
        row_concentration(Update(Base(torch.zeros(2, 3).double()), torch.full((2, 3), size, dtype=torch.float64)))


def test_two_formats_are_compared_as_numbers() -> None:
    w0 = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert frozen_rows(Update(Base(w0.bfloat16()), w0 + torch.tensor([[0.0, 1e-3], [0.0, 0.0]]))) == 0.5
