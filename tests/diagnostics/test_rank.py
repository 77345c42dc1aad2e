"""Norms, stable rank, Hill estimate, top-k energy, rounding share."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.rank import (
    effective_rank,
    hill_exponent,
    relative_update_norm,
    rounding_share,
    stable_rank,
    stable_rank_ceiling,
    top_energy,
    update_norm,
    update_spectrum,
)
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import (
    DTYPES,
    SEEDS,
    Case,
    cases,
    make,
    orthonormal,
    shapes,
    spacing,
    update_of,
    with_values,
)


@given(cases())
def test_norms_match_the_oracle(case: Case) -> None:
    assert update_norm(case.update) == pytest.approx(oracle.norm(case.delta), rel=1e-12)
    assume(case.before.any())
    expected = oracle.norm(case.delta) / oracle.norm(case.before)
    assert relative_update_norm(case.update) == pytest.approx(expected, rel=1e-12)


@given(cases())
def test_stable_rank_matches_svd_and_lies_between_1_and_the_rank(case: Case) -> None:
    actual = stable_rank(case.update)
    assert actual == pytest.approx(oracle.stable_rank(case.delta), rel=1e-9)
    assert 1 <= actual <= np.linalg.matrix_rank(case.delta) * (1 + 1e-9)


@given(cases())
def test_the_ceiling_of_a_stable_rank_is_never_below_it(case: Case) -> None:
    assert oracle.stable_rank(case.delta) * (1 - 1e-9) <= stable_rank_ceiling(case.update) <= case.size


@pytest.mark.parametrize("kind", ["trained", "flat", "on few coordinates", "rank one", "one direction among noise"])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_ceiling_of_a_large_one_is_above_it_and_mostly_near(kind: str, scale: float) -> None:
    chance, shape = np.random.default_rng(3), (320, 260)
    noise = chance.standard_normal(shape) / 260
    left, right = (np.linalg.qr(chance.standard_normal((size, 12)))[0] for size in shape)
    delta = {
        "trained": noise + 0.25 * (left * np.arange(1, 13) ** -0.5) @ right.T,
        "flat": noise,
        "on few coordinates": np.where(np.arange(shape[1]) < 2, noise, 1e-6 * noise),
        "rank one": np.outer(left[:, 0], right[:, 0]),
        "one direction among noise": noise + 0.2 * np.outer(np.eye(320)[7], np.eye(260)[9]),
    }[kind]
    update = update_of(np.zeros(shape), scale * delta)
    exact, ceiling = oracle.stable_rank(scale * delta), stable_rank_ceiling(update)
    assert exact <= ceiling <= exact * (1.6 if kind == "flat" else 1.02)


@given(cases())
def test_effective_rank_matches_svd_and_lies_between_1_and_the_rank(case: Case) -> None:
    actual = effective_rank(case.update)
    assert actual == pytest.approx(oracle.effective_rank(case.delta), rel=1e-7)
    assert 1 <= actual <= case.size


@given(shapes(3), SEEDS, st.floats(-9, 0), st.sampled_from([1e-30, 1.0, 1e30]), st.data())
def test_effective_rank_of_a_known_spectrum(
    shape: tuple[int, int], seed: int, last: float, scale: float, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(1, min(shape)))
    values = np.geomspace(1.0, 10.0**last, rank)
    p = values / values.sum()
    update = update_of(np.zeros(shape), scale * with_values(shape, values, seed))
    assert effective_rank(update) == pytest.approx(np.exp(-np.sum(p * np.log(p))), rel=1e-7)


def test_effective_rank_of_a_random_square_is_what_chance_gives() -> None:
    assert effective_rank(update_of(np.zeros((200, 200)), np.random.default_rng(0).standard_normal((200, 200)))) == (
        pytest.approx(0.8 * 200, rel=0.02)
    )


@given(cases(smallest=3), st.data())
def test_hill_matches_svd(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, case.size) | st.sampled_from([2, case.size - 1]))
    s = oracle.spectrum(case.delta).s
    assume(s[k - 1] > 1e-8 * s[0] and s[0] > s[k - 1] * (1 + 1e-6))
    assert hill_exponent(case.update, k) == pytest.approx(oracle.hill(case.delta, k), rel=1e-6)


@given(shapes(3), SEEDS, st.floats(-9, -0.1), st.data())
def test_hill_of_a_known_spectrum(shape: tuple[int, int], seed: int, last: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, min(shape)))
    values = np.geomspace(1.0, 10.0**last, k)
    delta = with_values(shape, values, seed)
    expected = 1 / (sum(math.log(v / values[-1]) for v in values[:-1]) / (k - 1))
    assert hill_exponent(update_of(np.zeros(shape), delta), k) == pytest.approx(expected, rel=1e-6)


@given(cases(), st.data())
def test_top_energy_matches_svd(case: Case, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, case.size))
    actual = top_energy(case.update, k)
    assert actual == pytest.approx(oracle.top_energy(case.delta, k), rel=1e-9)
    assert 0 < actual <= 1


@given(cases())
def test_rounding_share_matches_the_oracle(case: Case) -> None:
    expected = oracle.rounding_share(case.delta, spacing(case.wt))
    assert rounding_share(case.update) == pytest.approx(expected, rel=1e-9)


def test_rounding_share_of_a_real_update_and_of_nothing_but_rounding() -> None:
    w0 = make((48, 48), torch.float32, seed=0).w0
    assert rounding_share(Update(Base(w0), w0.bfloat16())) == pytest.approx(1.0, abs=0.1)
    assert rounding_share(Update(Base(w0), w0 * 2)) < 1e-12


@given(shapes(), SEEDS, st.sampled_from([2.0**-60, -1.0, 2.0**60]), st.data())
def test_scale_and_orthogonal_maps_change_nothing(
    shape: tuple[int, int], seed: int, scale: float, data: st.DataObject
) -> None:
    case = make(shape, torch.float64, seed, step=0.1)
    p, q = orthonormal(shape[0], shape[0], seed + 9), orthonormal(shape[1], shape[1], seed + 10)
    mapped = update_of(scale * p @ case.before @ q, scale * p @ case.after @ q)
    k = data.draw(st.integers(1, min(shape)))
    assert stable_rank(mapped) == pytest.approx(stable_rank(case.update), rel=1e-10)
    assert top_energy(mapped, k) == pytest.approx(top_energy(case.update, k), rel=1e-10)
    assert relative_update_norm(mapped) == pytest.approx(relative_update_norm(case.update), rel=1e-10)
    assert update_norm(mapped) == pytest.approx(update_norm(case.update) * abs(scale), rel=1e-10)
    if k > 1:
        assert hill_exponent(mapped, k) == pytest.approx(hill_exponent(case.update, k), rel=1e-8)


@pytest.mark.parametrize(("values", "expected"), [([2.0], 1.0), ([1.0] * 7, 7.0), ([2.0, 1.0, 1.0], 1.5)])
def test_stable_rank_of_known_spectra(values: list[float], expected: float) -> None:
    delta = with_values((9, 12), np.array(values), seed=1)
    assert stable_rank(update_of(np.zeros((9, 12)), delta)) == pytest.approx(expected, rel=1e-12)


def test_rank_one_never_reads_below_one() -> None:
    for seed in range(30):
        delta = with_values((7, 5), np.array([1.0]), seed)
        assert stable_rank(update_of(np.zeros((7, 5)), delta)) >= 1.0


@pytest.mark.parametrize("size", [40, 128, 256, 300])
@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6, 1e-8, 1e-9])
def test_hill_of_a_nearly_tied_tail(size: int, spread: float) -> None:
    """The flatter the tail, the more errors of singular values weigh: those of a Gram matrix are too large."""
    values = np.concatenate([1 + spread * np.linspace(1, 0, 16), np.linspace(0.9, 0.1, size - 16)])
    delta = with_values((size, size + 9), values, seed=2)
    expected = oracle.hill(delta, 16)
    assert hill_exponent(update_of(np.zeros(delta.shape), delta), 16) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [20, 128, 256, 300])
def test_hill_of_a_tail_that_is_tied_but_for_rounding_is_undefined(size: int) -> None:
    values = np.concatenate([np.full(16, 3.0), np.linspace(0.9, 0.1, size - 16)])
    tied = update_of(np.zeros((size, size)), with_values((size, size), values, seed=4))
    with pytest.raises(Undefined, match="equal"):
        hill_exponent(tied, 16)


def test_hill_is_undefined_without_a_tail() -> None:
    zero = np.zeros((10, 12))
    equal = update_of(zero, with_values((10, 12), np.ones(5), seed=3))
    with pytest.raises(Undefined, match="equal"):
        hill_exponent(equal, 5)
    with pytest.raises(Undefined, match="rank below"):
        hill_exponent(equal, 6)
    with pytest.raises(Undefined, match="rank below"):
        hill_exponent(update_of(zero, with_values((10, 12), np.linspace(2, 1, 10), seed=3)), 11)
    with pytest.raises(Undefined, match="at least 2"):
        hill_exponent(equal, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_update_is_zero_norm_and_nothing_else(dtype: torch.dtype) -> None:
    w0 = make((6, 8), dtype, seed=5).w0
    still = Update(Base(w0), w0.clone())
    assert update_norm(still) == 0
    assert relative_update_norm(still) == 0
    for figure in (stable_rank, hill_exponent, top_energy, rounding_share):
        with pytest.raises(Undefined):
            figure(still)


def test_a_zero_base_has_no_relative_norm() -> None:
    with pytest.raises(Undefined, match="W0 is zero"):
        relative_update_norm(update_of(np.zeros((3, 4)), np.ones((3, 4))))


def test_the_smallest_change_that_fp32_can_hold() -> None:
    """One subnormal step in one entry: rank one, and no underflow on the way."""
    w0 = torch.zeros(5, 6)
    wt = w0.clone()
    wt[2, 3] = 2.0**-149
    update = Update(Base(w0), wt)
    assert not update.is_zero
    assert update_norm(update) == pytest.approx(2.0**-149, rel=1e-12)
    assert stable_rank(update) == pytest.approx(1.0)


@given(cases())
def test_the_spectrum_is_that_of_the_update(case: Case) -> None:
    shares = list(update_spectrum(case.update).values())
    expected = oracle.spectrum(case.delta).s[:16] / oracle.norm(case.delta)
    assert shares[: len(expected)] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert shares[len(expected) :] == [0.0] * (16 - len(expected))
    assert shares[0] == pytest.approx(stable_rank(case.update) ** -0.5, rel=1e-9)
