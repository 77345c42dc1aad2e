"""The fractional rule for ties against random tie-breaks and against the oracle's other way to state it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics.masks import SAMPLED, MagnitudeMask, _order_statistic
from tests.diagnostics import oracle
from tests.diagnostics.cases import SEEDS

ALPHAS = st.floats(0.01, 0.99) | st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.75])
KEYS = st.lists(st.integers(0, 6), min_size=2, max_size=80).map(lambda keys: np.array(keys, dtype=np.uint16))


def weights(mask: MagnitudeMask) -> np.ndarray:
    return mask.inside + mask.tied_share * mask.tied


@given(KEYS, ALPHAS)
def test_membership_matches_the_oracle(keys: np.ndarray, alpha: float) -> None:
    magnitudes = keys.astype(float)
    smallest, largest = MagnitudeMask.smallest(keys, alpha), MagnitudeMask.largest(keys, alpha)
    np.testing.assert_allclose(weights(smallest), oracle.membership(magnitudes, alpha), atol=1e-12)
    np.testing.assert_allclose(weights(largest), oracle.membership(-magnitudes, alpha), atol=1e-12)


@given(KEYS, ALPHAS)
def test_a_mask_holds_exactly_alpha(keys: np.ndarray, alpha: float) -> None:
    for mask in (MagnitudeMask.smallest(keys, alpha), MagnitudeMask.largest(keys, alpha)):
        assert weights(mask).sum() == pytest.approx(alpha * keys.size, rel=1e-12)
        assert mask.share_of(np.ones(keys.size, bool)) == pytest.approx(alpha, rel=1e-12)
        assert 0 <= mask.tied_share <= 1
        assert not (mask.inside & mask.tied).any()


@given(KEYS, ALPHAS)
def test_the_smallest_and_the_largest_share_out_all_entries(keys: np.ndarray, alpha: float) -> None:
    both = weights(MagnitudeMask.smallest(keys, alpha)) + weights(MagnitudeMask.largest(keys, 1 - alpha))
    np.testing.assert_allclose(both, 1.0, atol=1e-9)


@given(KEYS, ALPHAS, SEEDS)
def test_the_order_of_entries_does_not_matter(keys: np.ndarray, alpha: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    order, chosen = rng.permutation(keys.size), rng.random(keys.size) < 0.5
    chosen[0] = True
    plain = MagnitudeMask.smallest(keys, alpha).share_of(chosen)
    assert MagnitudeMask.smallest(keys[order], alpha).share_of(chosen[order]) == plain


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5])
def test_share_is_the_mean_over_random_tie_breaks(alpha: float) -> None:
    rng = np.random.default_rng(5)
    keys = rng.integers(0, 8, 200).astype(np.uint16)
    changed = rng.random(200) < 0.4
    count = round(alpha * 200)
    shares = []
    for _ in range(4000):
        order = np.lexsort((rng.random(200), keys))
        shares.append(changed[order[:count]].sum() / changed.sum())
    error = 4 * np.std(shares) / np.sqrt(len(shares))
    assert error < 0.005
    assert MagnitudeMask.smallest(keys, alpha).share_of(changed) == pytest.approx(np.mean(shares), abs=error)


def test_without_ties_a_mask_is_a_set() -> None:
    keys = np.array([[4.0, 1.0, 3.0], [0.5, 2.0, 9.0]])
    low, high = MagnitudeMask.smallest(keys, 0.5), MagnitudeMask.largest(keys, 1 / 3)
    assert weights(low).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert weights(high).tolist() == [[1, 0, 0], [0, 0, 1]]
    changed = np.array([[True, True, False], [False, False, True]])
    assert low.share_of(changed) == pytest.approx(1 / 3)
    assert high.share_of(changed) == pytest.approx(2 / 3)


def test_equal_entries_all_belong_by_alpha() -> None:
    mask = MagnitudeMask.largest(np.full((5, 7), 3, np.uint16), 0.3)
    chosen = np.zeros((5, 7), bool)
    chosen[2, 3] = True
    assert mask.share_of(chosen) == pytest.approx(0.3)


ENTRIES = 40 * SAMPLED + 7
PLACES = np.arange(ENTRIES)
STEP = ENTRIES // SAMPLED | 1

LARGE = {
    "bf16": np.random.default_rng(1).standard_normal(ENTRIES).astype(np.float32).view(np.int32) >> 16 & 0x7FFF,
    "one value": np.full(ENTRIES, 3, np.int16),
    "two values": (PLACES % 2).astype(np.int16),
    "ascending": PLACES,
    "descending": PLACES[::-1],
    "in the step of the sample": PLACES % STEP,
    "what is sampled is unlike the rest": np.where(PLACES % STEP == 0, PLACES % 9, PLACES),
    "one outlier": np.where(PLACES == ENTRIES // 3, 2**62, 1),
    "columns": np.tile(np.arange(1024), (ENTRIES // 1024, 1)),
}


@pytest.mark.parametrize("kind", LARGE)
def test_an_order_statistic_of_many_entries_is_that_of_a_sort(kind: str) -> None:
    keys = LARGE[kind]
    ordered = np.sort(keys, axis=None)
    for rank in (0, 1, 7, keys.size // 100, keys.size // 3, keys.size // 2, keys.size - 2, keys.size - 1):
        assert _order_statistic(keys, rank) == ordered[rank]
