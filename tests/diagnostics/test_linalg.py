"""Singular values, subspaces and angles against LAPACK's SVD, above all where Gram matrices lose digits."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics.linalg import Factorization, principal_angles, spectral_shift_norm
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS, STEPS, Case, cases, gap, make, numbers, orthonormal, shapes, with_values


def factor(matrix: oracle.Array) -> Factorization:
    return Factorization(torch.from_numpy(matrix))


def turned(a: torch.Tensor, b: oracle.Array) -> float:
    """Largest angle between two subspaces."""
    return float(principal_angles(a, torch.from_numpy(b.copy())).max())


@given(cases(), st.data())
def test_top_values_match_svd(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size))
    expected = oracle.spectrum(case.delta).s
    actual = factor(case.delta).top_values(k).numpy()
    np.testing.assert_allclose(actual, expected[:k], rtol=1e-8, atol=1e-13 * expected[0])


@given(cases())
def test_values_are_descending_and_svd_is_an_alternative(case: Case) -> None:
    factored = factor(case.after)
    expected = oracle.spectrum(case.after).s
    assert (np.diff(factored.values.numpy()) <= 0).all()
    np.testing.assert_allclose(factored.exact_values.numpy(), expected, rtol=1e-12, atol=1e-13 * expected[0])
    assert float(factored.top_values(1)[0]) == pytest.approx(expected[0], rel=1e-12)


@given(shapes(), SEEDS, st.floats(-6, 0), st.floats(-4, -0.05), st.data())
def test_subspaces_of_ill_conditioned_matrices(
    shape: tuple[int, int], seed: int, kth: float, drop: float, data: st.DataObject
) -> None:
    """sigma_k down to 1e-6 sigma_1, with every distance to sigma_{k+1}: the Gram route and the SVD route."""
    size = min(shape)
    k = data.draw(st.integers(1, size - 1))
    above = np.geomspace(1.0, 10.0**kth, k)
    below = above[-1] * (1 - 10.0**drop) * np.geomspace(1.0, 1e-2, size - k)
    matrix = with_values(shape, np.concatenate([above, below]), seed)
    assume(gap(matrix, k) > 1e-8)
    expected, factored = oracle.spectrum(matrix), factor(matrix)
    tolerance = 2e-8 + 50 * np.finfo(float).eps / gap(matrix, k)
    assert turned(factored.left(k), expected.u[:, :k]) <= tolerance
    assert turned(factored.right(k), expected.v[:, :k]) <= tolerance
    for basis in (factored.left(k), factored.right(k)):
        np.testing.assert_allclose(basis.T @ basis, np.eye(k), atol=4e-8)
    np.testing.assert_allclose(
        factored.truncated(k), (expected.u[:, :k] * expected.s[:k]) @ expected.v[:, :k].T, atol=2 * tolerance
    )


@given(shapes(3), SEEDS, st.sampled_from([1e-30, 1e-4, 1.0, 1e30]), st.data())
def test_tied_singular_values_are_refused_at_the_cut_only(
    shape: tuple[int, int], seed: int, scale: float, data: st.DataObject
) -> None:
    size = min(shape)
    k = data.draw(st.integers(1, size - 1))
    values = np.linspace(2.0, 1.0, size)
    values[k] = values[k - 1]
    factored = factor(with_values(shape, values, seed) * scale)
    for cut in (factored.left, factored.right, factored.truncated):
        with pytest.raises(Undefined, match="tied"):
            cut(k)
    if k > 1:
        assert factored.right(k - 1).shape == (shape[1], k - 1)
    if k + 1 < size:
        assert factored.left(k + 1).shape == (shape[0], k + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_ties_survive_storage(dtype: torch.dtype) -> None:
    """Two equal blocks: every singular value is there twice."""
    block = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    factored = Factorization(torch.block_diag(block, block).double())
    with pytest.raises(Undefined, match="tied"):
        factored.right(3)
    assert factored.right(4).shape == (10, 4)


@given(shapes(), SEEDS, st.data())
def test_rank_below_k_is_refused(shape: tuple[int, int], seed: int, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, min(shape) - 1))
    factored = factor(with_values(shape, np.linspace(2.0, 1.0, rank), seed))
    assert factored.right(rank).shape == (shape[1], rank)
    with pytest.raises(Undefined, match="rank below"):
        factored.right(rank + 1)


@given(shapes())
def test_zero_matrix_has_no_subspace(shape: tuple[int, int]) -> None:
    factored = factor(np.zeros(shape))
    assert float(factored.top_values(1)[0]) == 0
    with pytest.raises(Undefined, match="rank below"):
        factored.left(1)


@given(shapes(), SEEDS, st.integers(1, 5))
def test_k_beyond_the_matrix_is_refused(shape: tuple[int, int], seed: int, excess: int) -> None:
    factored = factor(orthonormal(max(shape), min(shape), seed) * np.linspace(2, 1, min(shape)))
    for cut in (factored.left, factored.right):
        with pytest.raises(Undefined, match="rank below"):
            cut(factored.size + excess)
    assert torch.equal(factored.truncated(factored.size + excess), factored.matrix)


@given(cases(), STEPS)
def test_spectral_shift_matches_svd(case: Case, shrink: float) -> None:
    before, after = case.before, case.before + case.delta * shrink
    expected = oracle.shift(before, after)
    noise = 1e-14 * max(oracle.norm(before), oracle.norm(after))
    assert spectral_shift_norm(factor(before), factor(after)) == pytest.approx(expected, rel=2e-6, abs=noise)


@given(shapes(), SEEDS, st.floats(-12, -3), st.floats(0, 10))
def test_spectral_shift_of_small_updates_of_ill_conditioned_matrices(
    shape: tuple[int, int], seed: int, size: float, condition: float
) -> None:
    values = np.geomspace(1.0, 10.0**-condition, min(shape))
    before = with_values(shape, values, seed)
    after = before + with_values(shape, np.full(min(shape), 10.0**size), seed + 7)
    expected = oracle.shift(before, after)
    assert spectral_shift_norm(factor(before), factor(after)) == pytest.approx(expected, rel=2e-6, abs=2e-14)


@given(cases())
def test_mirsky_and_weyl(case: Case) -> None:
    before, after, delta = factor(case.before), factor(case.after), factor(case.delta)
    slack = 1e-13 * max(float(before.top_values(1)[0]), float(after.top_values(1)[0]))
    moved = (after.exact_values - before.exact_values).abs().max().item()
    assert moved <= float(delta.top_values(1)[0]) + slack
    assert spectral_shift_norm(before, after) <= oracle.norm(case.delta) * (1 + 2e-6) + 10 * slack


@given(st.integers(2, 24), st.lists(st.floats(-4, math.log10(90)), min_size=1, max_size=24), SEEDS)
def test_prescribed_angles_come_back(extra: int, exponents: list[float], seed: int) -> None:
    """Angles from 1e-4 to 90 degrees together, each to 1e-9 relative: no digits lost to arccos near 0."""
    angles = np.sort(10.0 ** np.array(exponents))
    k = len(angles)
    frame = orthonormal(2 * k + extra, 2 * k, seed)
    other = frame[:, :k] * np.cos(np.radians(angles)) + frame[:, k:] * np.sin(np.radians(angles))
    mixed = other @ orthonormal(k, k, seed + 1)
    start, end = torch.from_numpy(frame[:, :k].copy()), torch.from_numpy(mixed)
    measured = principal_angles(start, end).rad2deg()
    np.testing.assert_allclose(measured, angles, rtol=1e-9, atol=1e-13 * 180)


@given(cases(smallest=3), st.data())
def test_principal_angles_match_the_oracle_and_are_symmetric(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size - 1))
    a = torch.from_numpy(orthonormal(case.w0.shape[0], k, 1))
    b = torch.from_numpy(orthonormal(case.w0.shape[0], k, 2))
    expected = np.radians(oracle.subspace_angles(a.numpy(), b.numpy()))
    np.testing.assert_allclose(principal_angles(a, b), expected, rtol=1e-9, atol=1e-13)
    np.testing.assert_allclose(principal_angles(b, a), expected, rtol=1e-9, atol=1e-13)


@given(st.integers(1, 24), st.floats(46, 90), st.floats(-4, 1), SEEDS)
def test_scipy_agrees_where_it_is_exact(size: int, large: float, small: float, seed: int) -> None:
    """All angles below, or all above, 45 degrees."""
    for angle in (large, 10.0**small):
        frame = orthonormal(2 * size, 2 * size, seed)
        a = frame[:, :size].copy()
        b = a * math.cos(math.radians(angle)) + frame[:, size:] * math.sin(math.radians(angle))
        theirs = np.sort(scipy.linalg.subspace_angles(a, b))
        mine = principal_angles(torch.from_numpy(a), torch.from_numpy(b)).numpy()
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)
        np.testing.assert_allclose(np.degrees(mine), angle, rtol=1e-9)


def test_scaling_changes_nothing_but_the_values() -> None:
    case = make((17, 11), torch.float64, seed=3)
    matrix = torch.from_numpy(numbers(case.w0))
    plain, scaled = Factorization(matrix), Factorization(matrix * 2.0**80)
    torch.testing.assert_close(scaled.values, plain.values * 2.0**80, rtol=1e-14, atol=0.0)
    assert turned(plain.right(4), scaled.right(4).numpy()) < 1e-12


@pytest.mark.parametrize("shape", [(128, 160), (160, 128), (200, 200)])
@pytest.mark.parametrize("seed", range(3))
def test_the_leading_eigenpairs_alone_are_those_of_the_whole_spectrum(shape: tuple[int, int], seed: int) -> None:
    """Matrices of this size ask for 32 eigenpairs first; the answers must not depend on it."""
    rng = np.random.default_rng(seed)
    matrix = torch.tensor(rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], 1))))
    few = Factorization(matrix)
    expected = oracle.spectrum(matrix.numpy())
    assert float(few.top_values(1)[0]) == pytest.approx(expected.s[0], rel=1e-12)
    np.testing.assert_allclose(few.top_values(16).numpy(), expected.s[:16], rtol=1e-10)
    angles = oracle.subspace_angles(few.right(16).numpy(), expected.v[:, :16])
    assert angles.max() < 1e-6
    assert "_all" not in few.__dict__
    squaring = np.finfo(float).eps * expected.s[0] ** 2 / expected.s
    assert (np.abs(few.values.numpy() - expected.s) <= 16 * squaring).all()
    assert oracle.subspace_angles(few.left(40).numpy(), expected.u[:, :40]).max() < 1e-6
