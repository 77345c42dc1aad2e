"""Intruder dimensions against brute force: left vectors one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.intruders import INTRUDER_DIMENSIONS, intruder_dimensions
from geomcheck.diagnostics.lowrank import LowRank
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, Case, cases, numbers, orthonormal, update_of, with_values


@given(cases(), st.integers(1, 12), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
def test_as_many_as_by_brute_force(case: Case, k: int, epsilon: float) -> None:
    """Where that is unique; in 0..k always."""
    try:
        found = intruder_dimensions(case.update, k=k, epsilon=epsilon)
    except Undefined:
        found = None
    try:
        expected = oracle.intruders(case.before, case.after, k, epsilon)
    except ValueError:
        assert found is None or 0 <= found <= k
        return
    assert found == expected


@given(st.integers(4, 30), st.integers(4, 30), st.integers(1, 4), SEEDS, st.sampled_from([0.01, 1.0, 30.0]))
def test_of_updates_by_their_factors(out: int, in_: int, rank: int, seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    w0 = torch.tensor(rng.standard_normal((out, in_))).bfloat16()
    change = LowRank(
        torch.tensor(rng.standard_normal((out, rank)) * size), torch.tensor(rng.standard_normal((rank, in_)))
    )
    k = min(3, out, in_)
    expected = oracle.intruders(numbers(w0), numbers(w0) + change.matrix.numpy(), k)
    assert intruder_dimensions(Update(Base(w0), change), k=k) == expected


@pytest.mark.parametrize("count", [0, 1, 3])
def test_strong_new_outputs_are_counted(count: int) -> None:
    """A rank-`count` update along outputs that W0 has none of, stronger than all that it has."""
    basis = orthonormal(40, 20, 0)
    w0 = basis[:, :12] @ (np.linspace(2, 1, 12)[:, None] * orthonormal(24, 12, 1).T)
    strong = basis[:, 12 : 12 + count] @ (np.linspace(9, 7, count)[:, None] * orthonormal(24, 3, 2).T[:count])
    update = update_of(w0, w0 * 1.001 + strong)
    assert intruder_dimensions(update, k=10) == count
    low, high = INTRUDER_DIMENSIONS.range({"k": 10}, (40, 24))
    assert (low, high) == (0, 10)


def test_new_inputs_are_none_but_new_outputs_are() -> None:
    """By left vectors: the same output read from another input is no new direction."""
    w0 = np.diag([3.0, 2.0, 1.0, 0.0])
    inputs, outputs = w0.copy(), w0.copy()
    inputs[0] = [0, 0, 0, 9]
    outputs[:, 0] = [0, 0, 0, 9]
    assert [intruder_dimensions(update_of(w0, wt), k=1) for wt in (inputs, outputs)] == [0, 1]


def test_no_change_has_none_whatever_is_tied() -> None:
    assert intruder_dimensions(update_of(np.eye(5), np.eye(5)), k=2) == 0.0


def test_ties_among_what_is_looked_at_are_refused_and_ties_beyond_are_not() -> None:
    w0 = with_values((12, 9), np.arange(9.0, 0, -1), 0)
    turned = orthonormal(12, 9, 5), orthonormal(9, 9, 6)
    tied = (turned[0] * np.array([9, 8, 8, 5, 4, 3, 2, 1, 1.0])) @ turned[1].T
    update = update_of(w0, tied)
    assert intruder_dimensions(update, k=1) in (0, 1)
    for k in (2, 3, 7):
        with pytest.raises(Undefined, match="singular values 2 and 3 are tied"):
            intruder_dimensions(update, k=k)


def test_ties_of_w0_are_refused_where_they_decide() -> None:
    """Of the identity every direction may be called its own, and none has to be."""
    step = np.zeros((9, 9))
    step[:, 0] = np.arange(1, 10)
    with pytest.raises(Undefined, match="singular values of W0 are tied"):
        intruder_dimensions(update_of(np.eye(9), np.eye(9) + step), k=1)
    split = np.diag([4.0, 2.0, 2.0, 1.0, 0.5])
    assert intruder_dimensions(update_of(split, np.diag([4.5, 2.1, 2.2, 1.0, 0.5])), k=1) == 0.0


def test_what_has_no_directions_has_no_figure() -> None:
    w = with_values((6, 8), np.array([3.0, 2.0, 1.0]), 0)
    with pytest.raises(Undefined, match="W0 is zero"):
        intruder_dimensions(update_of(np.zeros((6, 8)), w), k=2)
    for k in (4, 7, 100):
        with pytest.raises(Undefined, match=f"rank below k = {k}"):
            intruder_dimensions(update_of(w[::-1].copy(), w), k=k)
    with pytest.raises(Undefined, match="rank below k = 1"):
        intruder_dimensions(update_of(w, np.zeros((6, 8))), k=1)
