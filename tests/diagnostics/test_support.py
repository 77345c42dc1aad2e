"""Update sparsity and what goes with it, against the literal eta formula after a bf16 cast."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.support import frozen_share, mask_jaccard, sign_flips, update_sparsity, update_support
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, Case, cases, make, numbers, orthonormal, update_of


@given(cases())
def test_sparsity_matches_the_literal_formula(case: Case) -> None:
    assert update_sparsity(case.update) == pytest.approx(oracle.sparsity(case.before, case.after), abs=1e-15)
    assert update_sparsity(case.update) + update_support(case.update) == pytest.approx(1.0, abs=1e-15)


@given(cases(), st.floats(0, 2**-8, exclude_max=True))
def test_any_eta_below_2_to_minus_8_gives_the_same_after_the_cast(case: Case, eta: float) -> None:
    expected = oracle.sparsity(case.before, case.after, eta)
    assert update_sparsity(case.update, eta=eta) == pytest.approx(expected, abs=1e-15)


@given(cases(), st.sampled_from([0.0, 1e-5, 1e-3, 0.1]))
def test_without_the_cast_eta_decides(case: Case, eta: float) -> None:
    expected = 1 - oracle.sparsity(case.before, case.after, eta, cast=False)
    assert update_support(case.update, cast="none", eta=eta) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_change_is_fully_sparse_and_frozen(dtype: torch.dtype) -> None:
    w0 = make((9, 14), dtype, seed=1).w0
    still = Update(Base(w0), w0.clone())
    assert update_sparsity(still) == 1.0
    assert update_support(still, cast="none", eta=0.0) == 0.0
    assert frozen_share(still) == 1.0


def test_a_change_below_bf16_resolution_is_sparse_yet_not_frozen() -> None:
    w0 = torch.ones(4, 5)
    nudged = Update(Base(w0), w0 + 1e-4)
    assert update_sparsity(nudged) == 1.0
    assert update_sparsity(nudged, cast="none", eta=1e-5) == 0.0
    assert frozen_share(nudged) == 0.0


def test_a_change_of_zeros_sign_is_no_change() -> None:
    w0 = torch.zeros(3, 4)
    assert update_sparsity(Update(Base(w0), -w0)) == 1.0
    assert frozen_share(Update(Base(w0), -w0)) == 1.0


@given(SEEDS, st.integers(0, 100))
def test_a_known_number_of_changed_bits(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    w0 = rng.standard_normal(100)
    wt = w0.copy()
    wt[rng.choice(100, count, replace=False)] *= 1 + 2**-6
    update = update_of(w0.reshape(10, 10), wt.reshape(10, 10), torch.float32)
    assert update_support(update) == pytest.approx(count / 100, abs=1e-15)


@given(cases(), st.integers(-8, 8))
def test_powers_of_two_and_reordering_change_nothing(case: Case, power: int) -> None:
    if case.w0.dtype != torch.float16:
        scaled = Update(Base(case.w0 * 2.0**power), case.wt * 2.0**power)
        assert update_sparsity(scaled) == update_sparsity(case.update)
    rows = torch.randperm(case.w0.shape[0], generator=torch.Generator().manual_seed(power + 8))
    assert update_sparsity(Update(Base(case.w0[rows].T), case.wt[rows].T)) == update_sparsity(case.update)


@given(cases(dtypes=(torch.float32,)), SEEDS)
def test_jaccard_matches_the_oracle_and_is_symmetric(case: Case, seed: int) -> None:
    rows, columns = case.w0.shape
    noise = orthonormal(max(rows, columns), columns, seed)[:rows]
    other = Case(case.w0, torch.tensor(case.before * (1 + 2**-7 * noise)).float())
    union = oracle.changed(case.before, case.after) | oracle.changed(case.before, other.after)
    if not union.any():
        with pytest.raises(Undefined):
            mask_jaccard(case.update, other.update)
        return
    expected = oracle.jaccard(case.before, case.after, other.after)
    assert mask_jaccard(case.update, other.update) == expected == mask_jaccard(other.update, case.update)


def test_jaccard_of_independent_masks_is_pq_over_p_plus_q_minus_pq() -> None:
    rng = np.random.default_rng(0)
    w0 = rng.standard_normal((300, 300))
    p, q = 0.5, 0.3
    runs = [update_of(w0, w0 * (1 + 2**-6 * (rng.random(w0.shape) < d)), torch.float32) for d in (p, q)]
    assert mask_jaccard(*runs) == pytest.approx(p * q / (p + q - p * q), abs=0.01)
    assert mask_jaccard(runs[0], runs[0]) == 1.0


def test_jaccard_of_two_unchanged_runs_is_undefined() -> None:
    w0 = torch.ones(3, 3)
    with pytest.raises(Undefined, match="no entry visibly changed"):
        mask_jaccard(Update(Base(w0), w0), Update(Base(w0), w0))


def test_density_is_measured_on_views_without_surprise() -> None:
    case = make((12, 7), torch.bfloat16, seed=4)
    view = Update(Base(case.w0.T), case.wt.T)
    np.testing.assert_array_equal(view.changed, oracle.changed(numbers(case.w0), numbers(case.wt)).T)


@given(SEEDS, st.lists(st.integers(1, 8), min_size=1, max_size=3).map(tuple), st.sampled_from(DTYPES))
def test_signs_flip_from_one_side_of_zero_to_the_other(seed: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Of tensors of any dimension, with zeros of either sign and the smallest numbers of a format among them."""
    rng = np.random.default_rng(seed)
    few = np.array([0.0, -0.0, 1.0, -1.0, 1e-44, -1e-44, 1e-7, -1e-7, 3e4])
    w0, wt = (torch.tensor(rng.choice(few, shape)).to(dtype) for _ in range(2))
    assert sign_flips(Update(Base(w0), wt)) == pytest.approx(oracle.sign_flips(numbers(w0), numbers(wt)), abs=1e-15)
    assert sign_flips(Update(Base(w0), w0)) == 0.0
    assert sign_flips(Update(Base(w0), -w0)) == float((w0 != 0).double().mean())


def test_signs_flip_by_chance_as_the_baseline_says() -> None:
    w0, step = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(0))
    for ratio in (0.1, 1.0, 3.0):
        assert sign_flips(Update(Base(w0), w0 + ratio * step)) == pytest.approx(np.arctan(ratio) / np.pi, abs=0.01)
