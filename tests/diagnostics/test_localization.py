"""Where visible changes fall: overlaps with the principal and the low-magnitude mask."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from geomcheck.diagnostics import Base, Update
from geomcheck.diagnostics.localization import low_magnitude_overlap, principal_overlap
from geomcheck.errors import Undefined
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, SEEDS, Case, Shape, cases, gap, make, numbers, update_of, with_values

ALPHAS = st.sampled_from([0.1, 0.3, 0.5]) | st.floats(0.01, 0.99)


@given(cases(), ALPHAS)
def test_low_overlap_matches_the_oracle(case: Case, alpha: float) -> None:
    if not oracle.changed(case.before, case.after).any():
        with pytest.raises(Undefined, match="no entry visibly changed"):
            low_magnitude_overlap(case.update, alpha=alpha)
        return
    actual = low_magnitude_overlap(case.update, alpha=alpha)
    assert actual == pytest.approx(oracle.low_overlap(case.before, case.after, alpha), rel=1e-9, abs=1e-12)
    assert 0 <= actual <= 1 + 1e-12


@given(cases(smallest=3), ALPHAS, st.data())
def test_principal_overlap_matches_the_oracle(case: Case, alpha: float, data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, case.size - 1) | st.sampled_from([1, case.size - 1]))
    assume(gap(case.before, rank) > 1e-6 and oracle.changed(case.before, case.after).any())
    magnitudes = np.sort(np.abs(oracle.low_rank(case.before, rank)).ravel())
    cut = magnitudes.size - 1 - int(alpha * magnitudes.size)
    nearest = np.diff(magnitudes[max(cut - 1, 0) : cut + 2]).min()
    assume(nearest > 1e-9 * magnitudes[-1])  # else rounding alone decides which entry is inside
    actual = principal_overlap(case.update, rank=rank, alpha=alpha)
    expected = oracle.principal_overlap(case.before, case.after, rank, alpha)
    assert actual == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_visible_is_undefined(dtype: torch.dtype) -> None:
    w0 = make((8, 9), dtype, seed=1).w0
    still = Update(Base(w0), w0.clone())
    with pytest.raises(Undefined, match="no entry visibly changed"):
        low_magnitude_overlap(still)
    with pytest.raises(Undefined, match="no entry visibly changed"):
        principal_overlap(still, rank=2)


def test_invisible_changes_of_fp32_are_undefined_too() -> None:
    with pytest.raises(Undefined, match="no entry visibly changed"):
        low_magnitude_overlap(Update(Base(torch.ones(4, 4)), torch.ones(4, 4) * (1 + 1e-5)))


@given(SEEDS, st.sampled_from([0.1, 0.3, 0.5]))
def test_changes_on_the_mask_alone_overlap_fully(seed: int, alpha: float) -> None:
    """Entries of one mask moved, no others: 1 there, and for the low mask's complement 0."""
    rng = np.random.default_rng(seed)
    w0 = rng.standard_normal((20, 30)).astype(np.float32).astype(float)
    order, count = np.argsort(np.abs(w0), axis=None), round(alpha * 600)
    low, high = w0.copy(), w0.copy()
    low.flat[order[:count]] *= 1 + 2**-6
    high.flat[order[count:]] *= 1 + 2**-6
    assert low_magnitude_overlap(update_of(w0, low, torch.float32), alpha=alpha) == pytest.approx(1.0, abs=1e-12)
    assert low_magnitude_overlap(update_of(w0, high, torch.float32), alpha=alpha) == pytest.approx(0.0, abs=1e-12)
    principal = w0.copy()
    chosen = np.argsort(-np.abs(oracle.low_rank(w0, 5)), axis=None)[:count]
    principal.flat[chosen] *= 1 + 2**-6
    update = update_of(w0, principal, torch.float32)
    assert principal_overlap(update, rank=5, alpha=alpha) == pytest.approx(1.0, abs=1e-12)


@given(cases(dtypes=(torch.bfloat16,)), ALPHAS, SEEDS)
def test_low_overlap_ignores_order_signs_and_powers_of_two(case: Case, alpha: float, seed: int) -> None:
    assume(oracle.changed(case.before, case.after).any())
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(case.w0.shape[0], generator=generator)
    columns = torch.randperm(case.w0.shape[1], generator=generator)
    mapped = Update(Base(-8 * case.w0[rows][:, columns]), -8 * case.wt[rows][:, columns])
    assert low_magnitude_overlap(mapped, alpha=alpha) == low_magnitude_overlap(case.update, alpha=alpha)


def test_overlap_in_bf16_is_the_mean_over_random_tie_breaks() -> None:
    rng = np.random.default_rng(3)
    w0 = torch.tensor(rng.choice([-2.0, -1.0, 0.5, 1.0, 3.0], size=(12, 20))).bfloat16()
    wt = torch.where(torch.tensor(rng.random((12, 20)) < 0.4), w0 * 1.5, w0)
    magnitudes, changed = np.abs(numbers(w0)).ravel(), oracle.changed(numbers(w0), numbers(wt)).ravel()
    low = []
    for _ in range(4000):
        order = np.lexsort((rng.random(240), magnitudes))
        low.append(changed[order[:72]].sum() / changed.sum())
    error = 4 * np.std(low) / np.sqrt(len(low))
    assert 0 < error < 0.005
    assert low_magnitude_overlap(Update(Base(w0), wt), alpha=0.3) == pytest.approx(np.mean(low), abs=error)


def test_every_entry_changed_gives_alpha() -> None:
    case = make((16, 10), torch.bfloat16, seed=6)
    doubled = Update(Base(case.w0), case.w0 * 2)
    assert low_magnitude_overlap(doubled, alpha=0.37) == pytest.approx(0.37, rel=1e-12)
    assert principal_overlap(doubled, rank=3, alpha=0.37) == pytest.approx(0.37, rel=1e-12)


@pytest.mark.parametrize("shape", [(10, 12), (256, 270)])
def test_tied_ranks_are_undefined_and_of_a_lower_rank_w0_is_its_own_truncation(shape: Shape) -> None:
    w0 = with_values(shape, np.array([3.0, 2.0, 2.0, 1.0]), seed=0)
    wt = np.where(np.random.default_rng(1).random(shape) < 0.3, 2 * w0, w0)
    update = update_of(w0, wt)
    with pytest.raises(Undefined, match="tied"):
        principal_overlap(update, rank=2)
    assert 0 < principal_overlap(update, rank=3) < 1
    whole = oracle.membership(-np.abs(w0), 0.3)[oracle.changed(w0, wt)].mean()
    for rank in (4, 5, 9, 11, 64, 300):
        assert principal_overlap(update, rank=rank) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("size", [40, 256])
def test_entries_that_are_zero_but_for_rounding_are_tied(size: int) -> None:
    """The truncation of a permuted diagonal has `rank` entries; which of the others are largest is no geometry."""
    rng = np.random.default_rng(2)
    w0 = np.zeros((size, size))
    w0[np.arange(size), rng.permutation(size)] = np.linspace(2, 1, size)
    wt = w0 + 0.1 * (rng.random((size, size)) < 0.2)
    changed = oracle.changed(w0, wt)
    inside = np.abs(w0) > np.linspace(2, 1, size)[16]
    tied = (0.3 * size**2 - 16) / (size**2 - 16)
    expected = (np.sum(changed & inside) + tied * np.sum(changed & ~inside)) / changed.sum()
    assert principal_overlap(update_of(w0, wt), rank=16) == pytest.approx(expected, rel=1e-12)
