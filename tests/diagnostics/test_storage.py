"""The changed test and rounding energy, bit for bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics.storage import (
    COMPARED,
    DTYPE_NAMES,
    magnitude_keys,
    relatively_changed,
    rounding_energy,
    visibly_changed,
)
from tests.diagnostics import oracle
from tests.diagnostics.cases import DTYPES, Case, cases, numbers, spacing

BELOW_INFINITY = 2.0**127 * 1.5
BITS = st.integers(0, 0xFFFF).filter(lambda bits: bits & 0x7F80 != 0x7F80)  # neither infinite nor NaN


def bf16(bits: list[int]) -> torch.Tensor:
    return torch.tensor(np.array(bits, dtype=np.uint16).view(np.int16)).view(torch.bfloat16)


@given(st.lists(st.tuples(BITS, st.integers(-2, 2)), min_size=1, max_size=60), st.floats(0, 2**-8, exclude_max=True))
def test_eta_below_2_to_minus_8_is_bit_equality(pairs: list[tuple[int, int]], eta: float) -> None:
    """Neighbouring bit patterns, over all of bf16: subnormals, powers of two, both zeros."""
    before = [bits for bits, _ in pairs]
    after = [min(max(bits + step, 0), 0xFFFF) for bits, step in pairs]
    after = [old if new & 0x7F80 == 0x7F80 else new for old, new in zip(before, after, strict=True)]
    w0, wt = bf16(before), bf16(after)
    expected = oracle.changed(numbers(w0), numbers(wt), eta)
    np.testing.assert_array_equal(visibly_changed(w0, wt), expected)


def test_eta_of_2_to_minus_8_is_no_longer_bit_equality() -> None:
    """The bound is sharp: just below a power of two, neighbours are 2^-8 apart."""
    w0, wt = torch.tensor([2.0 - 2**-7]), torch.tensor([2.0])
    assert visibly_changed(w0, wt).all()
    assert oracle.changed(numbers(w0), numbers(wt), 2**-8 - 1e-9).all()
    assert not oracle.changed(numbers(w0), numbers(wt), 2**-8).any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_of_both_signs_are_equal(dtype: torch.dtype) -> None:
    zeros, negative = torch.zeros(3, dtype=dtype), -torch.zeros(3, dtype=dtype)
    assert not visibly_changed(zeros, negative).any()
    assert not visibly_changed(negative, zeros).any()
    assert not relatively_changed(zeros, negative, 0.0).any()
    assert (magnitude_keys(zeros) == magnitude_keys(negative)).all()


def test_subnormals_and_signs_are_changes() -> None:
    tiny = 2.0**-133  # the smallest bf16 number above zero
    w0, wt = torch.tensor([0.0, tiny, tiny, 1.0]), torch.tensor([tiny, 2 * tiny, -tiny, -1.0])
    assert visibly_changed(w0, wt).all()
    assert not visibly_changed(torch.tensor([0.0]), torch.tensor([tiny / 4])).any()


@given(st.lists(st.floats(-BELOW_INFINITY, BELOW_INFINITY, width=32), min_size=1, max_size=50))
def test_oracle_rounds_to_bf16_as_torch_does(values: list[float]) -> None:
    single = torch.tensor(values, dtype=torch.float32)
    np.testing.assert_array_equal(oracle.to_bf16(numbers(single)), numbers(single.to(torch.bfloat16)))


@given(cases())
def test_visible_changes_match_the_literal_formula(case: Case) -> None:
    np.testing.assert_array_equal(visibly_changed(case.w0, case.wt), oracle.changed(case.before, case.after))


@given(cases(), st.sampled_from([0.0, 1e-6, 1e-3, 0.05, 1.0]))
def test_relative_changes_match_the_literal_formula(case: Case, eta: float) -> None:
    expected = oracle.changed(case.before, case.after, eta, cast=False)
    np.testing.assert_array_equal(relatively_changed(case.w0, case.wt, eta), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_order_as_magnitudes_do(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    edges = [0.0, -0.0, info.smallest_normal / 4, info.smallest_normal, info.max, -info.max, -1.0, 1 + info.eps]
    noise = torch.randn(200, generator=torch.Generator().manual_seed(1))
    values = torch.cat([torch.tensor(edges, dtype=dtype), noise.to(dtype)])
    magnitudes = np.abs(numbers(values))
    _, expected = np.unique(magnitudes, return_inverse=True)
    _, actual = np.unique(magnitude_keys(values), return_inverse=True)
    np.testing.assert_array_equal(actual, expected)


@given(cases())
def test_rounding_energy_is_the_sum_of_squared_spacings(case: Case) -> None:
    expected = math.fsum((spacing(case.wt) ** 2).ravel()) / 12
    assert rounding_energy(case.wt) == pytest.approx(expected, rel=1e-12, abs=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_rounding_energy_of_zeros_subnormals_and_powers_of_two(dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    step = info.smallest_normal * info.eps
    ulps = {0.0: step, step: step, info.smallest_normal: step, 1.0: info.eps, -2.0: 2 * info.eps}
    for value, ulp in ulps.items():
        assert rounding_energy(torch.tensor([[value]], dtype=dtype)) == pytest.approx(ulp**2 / 12, rel=1e-12, abs=0)


def test_rounding_energy_predicts_the_error_of_storing() -> None:
    exact = torch.randn(400, 400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    stored = exact.to(torch.bfloat16)
    made = ((stored.double() - exact) ** 2).sum().item()
    assert rounding_energy(stored) == pytest.approx(made, rel=0.02)


def test_every_supported_format_has_its_short_name() -> None:
    assert list(DTYPE_NAMES) == list(DTYPES)
    assert list(DTYPE_NAMES.values()) == ["bf16", "fp16", "fp32", "fp64"]


def test_blocks_meet_without_a_gap_or_an_overlap() -> None:
    """Finite bit patterns of bf16, moved by a place, by their sign or not at all, over more than two blocks."""
    count = 2 * COMPARED + 11
    patterns = np.arange(count) * 7919 % 65536
    patterns[patterns & 0x7F80 == 0x7F80] = 0x8000
    moved = patterns ^ np.where(np.arange(count) % 3 == 0, 0x8000, np.arange(count) % 2)
    w0, wt = bf16(patterns.tolist()), bf16(moved.tolist())
    expected = numbers(w0) != numbers(wt)
    np.testing.assert_array_equal(visibly_changed(w0, wt), expected)
    np.testing.assert_array_equal(visibly_changed(w0.float(), wt.float()), expected)
    turned = visibly_changed(w0[:-11].view(-1, 4).T, wt[:-11].view(-1, 4).T)  # in another order than in memory
    np.testing.assert_array_equal(turned, expected[:-11].reshape(-1, 4).T)


@pytest.mark.parametrize("shape", [(), (0,), (0, 4), (1,), (3, 0, 2)])
def test_there_may_be_one_entry_or_none(shape: tuple[int, ...]) -> None:
    found = visibly_changed(torch.zeros(shape), torch.ones(shape))
    assert found.shape == shape
    assert found.all()
