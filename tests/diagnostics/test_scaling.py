"""Matrices at the scale of one, and norms of differences, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from geomcheck.diagnostics.linalg.scaling import difference, difference_norm, scaled


@pytest.mark.parametrize("exponent", [-140, -101, -3, 0, 5, 101, 120])
def test_the_largest_magnitude_is_brought_to_one(exponent: int) -> None:
    matrix = (torch.tensor([[0.5, -0.75], [0.25, 0.125]], dtype=torch.float64) * 2.0**exponent).float()
    found = scaled(matrix)
    assert (found.exponent, found.factor) == (exponent, 2.0**exponent)
    assert not found.is_zero
    assert torch.equal(found.matrix.double() * found.factor, matrix.double())
    assert float(found.matrix.abs().max()) == 0.75


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_only_nothing_is_zero(value: float) -> None:
    found = scaled(torch.full((2, 3), value))
    assert found.is_zero == (value == 0)
    assert torch.equal(found.matrix.double() * found.factor, torch.full((2, 3), value).double())


def test_differences() -> None:
    rng = np.random.default_rng(0)
    before, after = (torch.tensor(rng.standard_normal((30, 20))).float() for _ in range(2))
    exact = after.double().numpy() - before.double().numpy()
    assert difference_norm(before, after) == pytest.approx(math.sqrt(math.fsum((exact**2).ravel())), rel=1e-12)
    found = difference(before, after)
    np.testing.assert_allclose(found.matrix.double().numpy() * found.factor, exact, atol=1e-6)
