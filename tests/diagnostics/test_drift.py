"""Spectral shift (NSS) and spectral share."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.drift import spectral_share, spectral_shift
from geomcheck.diagnostics.rank import relative_update_norm
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, Case, cases, make, orthonormal, shapes, update_of, with_values


@given(cases())
def test_nss_matches_svd(case: Case) -> None:
    expected = oracle.nss(case.before, case.after)
    assert spectral_shift(case.update) == pytest.approx(expected, rel=2e-6, abs=1e-13)


@given(cases())
def test_share_matches_svd_and_stays_below_one(case: Case) -> None:
    share = spectral_share(case.update)
    noise = 1e-14 * oracle.norm(case.before) / oracle.norm(case.delta)
    assert share == pytest.approx(oracle.spectral_share(case.before, case.after), rel=2e-6, abs=10 * noise)
    assert 0 <= share <= 1


@given(cases())
def test_nss_is_at_most_the_relative_norm(case: Case) -> None:
    """Mirsky."""
    assert spectral_shift(case.update) <= relative_update_norm(case.update) * (1 + 2e-6) + 1e-13


@given(shapes(), SEEDS, st.floats(-12, 1), st.sampled_from([-1, 1]))
def test_rescaling_by_1_plus_c_has_nss_c_and_share_1(
    shape: tuple[int, int], seed: int, exponent: float, sign: int
) -> None:
    c = sign * min(10.0**exponent, 0.9 if sign < 0 else 10.0)
    w0 = with_values(shape, np.geomspace(1, 1e-3, min(shape)), seed)
    update = update_of(w0, w0 * (1 + c))
    assert spectral_shift(update) == pytest.approx(abs(c), rel=2e-6, abs=2e-15)
    assert spectral_share(update) == pytest.approx(1.0, rel=1e-6 + 1e-14 / abs(c))


@given(shapes(), SEEDS)
def test_a_pure_rotation_leaves_the_spectrum(shape: tuple[int, int], seed: int) -> None:
    w0 = with_values(shape, np.linspace(2, 0.5, min(shape)), seed)
    turned = orthonormal(shape[0], shape[0], seed + 5) @ w0 @ orthonormal(shape[1], shape[1], seed + 6)
    assert spectral_shift(update_of(w0, turned)) < 1e-14
    assert spectral_share(update_of(w0, turned)) < 1e-13


@given(shapes(), SEEDS, st.sampled_from([2.0**-70, -1.0, 2.0**70]))
def test_scale_and_orthogonal_maps_change_nothing(shape: tuple[int, int], seed: int, scale: float) -> None:
    case = make(shape, torch.float64, seed, step=0.05)
    p, q = orthonormal(shape[0], shape[0], seed + 9), orthonormal(shape[1], shape[1], seed + 10)
    mapped = update_of(scale * p @ case.before @ q, scale * p @ case.after @ q)
    assert spectral_shift(mapped) == pytest.approx(spectral_shift(case.update), rel=2e-6, abs=1e-14)
    assert spectral_share(mapped) == pytest.approx(spectral_share(case.update), rel=2e-6, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_update_is_no_shift(dtype: torch.dtype) -> None:
    w0 = make((18, 11), dtype, seed=3, base_rank=4).w0
    assert spectral_shift(Update(Base(w0), w0.clone())) == 0.0


@given(cases())
def test_an_unchanged_matrix_has_no_share_and_a_zero_base_no_nss(case: Case) -> None:
    with pytest.raises(Undefined):
        spectral_share(Update(Base(case.w0), case.w0.clone()))
    zero = torch.zeros_like(case.w0)
    assume(case.wt.any())
    with pytest.raises(Undefined, match="W0 is zero"):
        spectral_shift(Update(Base(zero), case.wt))
    assert spectral_share(Update(Base(zero), case.wt)) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_no_rounding_takes_the_share_above_one(seed: int) -> None:
    w0 = torch.randn(40, 24, generator=torch.Generator().manual_seed(seed))
    share = spectral_share(Update(Base(w0), 2 * w0))
    assert share <= 1.0
    assert share == pytest.approx(1.0, rel=1e-9)
