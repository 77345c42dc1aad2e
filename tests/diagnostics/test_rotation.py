"""Principal angles and principal energy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.rotation import principal_energy, rotation_angles, summaries
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, Case, cases, gap, make, orthonormal, shapes, update_of, with_values

FLOOR = 0.01
"""Degrees from which an angle must be right to 1e-4 relative."""


def assert_angles(actual: torch.Tensor, expected: np.ndarray, rtol: float = 1e-4) -> None:
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=rtol * FLOOR)


@given(cases(smallest=3), st.data())
def test_angles_match_the_oracle(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size - 1) | st.sampled_from([1, case.size - 1]))
    assume(gap(case.before, k) > 1e-6 and gap(case.after, k) > 1e-6)
    left, right = oracle.angles(case.before, case.after, k)
    actual = rotation_angles(case.update, k)
    assert_angles(actual["left"], left)
    assert_angles(actual["right"], right)
    assert_angles(actual["both"], np.sort(np.concatenate([left, right])))


@given(cases(smallest=3), st.data())
def test_angles_are_undefined_exactly_where_the_cut_is_tied(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size - 1))
    smallest = min(gap(case.before, k), gap(case.after, k))
    assume(not 1e-12 < smallest < 1e-8)
    if smallest <= 1e-12:
        with pytest.raises(Undefined):
            rotation_angles(case.update, k)
    else:
        assert rotation_angles(case.update, k)["both"].shape == (2 * k,)


@given(shapes(4), SEEDS, st.floats(math.log10(FLOOR), math.log10(89.9)), st.booleans(), st.data())
def test_rotation_by_a_known_angle(
    shape: tuple[int, int], seed: int, exponent: float, turn_left: bool, data: st.DataObject
) -> None:
    """U_k (or V_k) turned by one angle in k planes: all k angles on that side, none on the other."""
    size, angle = min(shape), 10.0**exponent
    k = data.draw(st.integers(1, size // 2))
    values = np.concatenate([np.linspace(3, 2, k), np.linspace(1, 0.1, size - k)])
    u, v = orthonormal(shape[0], size, seed), orthonormal(shape[1], size, seed + 1)
    moving = (u if turn_left else v).copy()
    first, second = moving[:, :k].copy(), moving[:, k : 2 * k].copy()
    moving[:, :k] = first * math.cos(math.radians(angle)) + second * math.sin(math.radians(angle))
    moving[:, k : 2 * k] = second * math.cos(math.radians(angle)) - first * math.sin(math.radians(angle))
    wt = (moving * values) @ v.T if turn_left else (u * values) @ moving.T
    actual = rotation_angles(update_of((u * values) @ v.T, wt), k)
    turned, still = ("left", "right") if turn_left else ("right", "left")
    assert_angles(actual[turned], np.full(k, angle), rtol=1e-9)
    assert_angles(actual[still], np.zeros(k), rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(12, 30), (20, 20), (30, 12)])
def test_no_update_is_no_rotation(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    w0 = make(shape, dtype, seed=8).w0
    for angles in rotation_angles(Update(Base(w0), w0.clone()), 4).values():
        assert angles.max() < 1e-10


@given(shapes(3), SEEDS, st.sampled_from([2.0**-60, -3.0, 2.0**60]), st.data())
def test_angles_ignore_scale_and_orthogonal_maps(
    shape: tuple[int, int], seed: int, scale: float, data: st.DataObject
) -> None:
    case = make(shape, torch.float64, seed, step=data.draw(st.sampled_from([1e-3, 0.1])))
    k = data.draw(st.integers(1, min(shape) - 1))
    assume(gap(case.before, k) > 1e-3 and gap(case.after, k) > 1e-3)
    p, q = orthonormal(shape[0], shape[0], seed + 9), orthonormal(shape[1], shape[1], seed + 10)
    mapped = update_of(scale * p @ case.before @ q, scale * p @ case.after @ q)
    plain = rotation_angles(case.update, k)
    for side, angles in rotation_angles(mapped, k).items():
        assert_angles(angles, plain[side].numpy(), rtol=1e-7)
    assert principal_energy(mapped, k) == pytest.approx(principal_energy(case.update, k), rel=1e-9, abs=1e-13)


def test_transposing_swaps_the_sides() -> None:
    case = make((25, 14), torch.float64, seed=2, step=0.3)
    plain = rotation_angles(case.update, 5)
    swapped = rotation_angles(Update(Base(case.w0.T), case.wt.T), 5)
    assert_angles(plain["left"], swapped["right"].numpy(), rtol=1e-9)
    assert_angles(plain["right"], swapped["left"].numpy(), rtol=1e-9)


def test_summaries_are_numpys() -> None:
    angles = torch.tensor([0.5, 1.0, 4.0, 10.0], dtype=torch.float64)
    expected = {"max": 10.0, "mean": 3.875, "median": 2.5, "p95": float(np.quantile(angles.numpy(), 0.95))}
    assert summaries(angles) == pytest.approx(expected)


@given(cases(smallest=3), st.data())
def test_principal_energy_matches_the_oracle(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size - 1))
    assume(gap(case.before, k) > 1e-6)
    actual = principal_energy(case.update, k)
    assert actual == pytest.approx(oracle.principal_energy(case.before, case.delta, k), rel=1e-6, abs=1e-12)
    assert 0 <= actual <= 1


def test_principal_energy_inside_outside_and_by_chance() -> None:
    shape, k = (40, 30), 6
    w0 = with_values(shape, np.linspace(3, 1, 30), seed=0)
    u, _, v = oracle.spectrum(w0)
    inside = u[:, :k] @ orthonormal(k, k, 5) @ v[:, :k].T
    outside = u[:, k:] @ orthonormal(30 - k, 30 - k, 6) @ v[:, k:].T
    assert principal_energy(update_of(w0, w0 + 0.1 * inside), k) == pytest.approx(1.0, abs=1e-12)
    assert principal_energy(update_of(w0, w0 + 0.1 * outside), k) == pytest.approx(0.0, abs=1e-12)
    rng = np.random.default_rng(1)
    chance = [principal_energy(update_of(w0, w0 + 0.1 * rng.standard_normal(shape)), k) for _ in range(60)]
    assert np.mean(chance) == pytest.approx(k * k / (40 * 30), rel=0.15)


def test_whole_update_inside_never_reads_above_one() -> None:
    """Rounding may not push a fraction above its range."""
    for seed in range(30):
        w0 = with_values((9, 9), np.linspace(2, 1, 9), seed)
        assert principal_energy(update_of(w0, w0 * 1.01), 9) <= 1.0


def test_principal_energy_of_no_update_is_undefined() -> None:
    w0 = make((6, 5), torch.float32, seed=0).w0
    with pytest.raises(Undefined):
        principal_energy(Update(Base(w0), w0), 2)
