"""A small part of ``python -m tests.reliability.early``, which simulates 10,000 sessions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.reliability.early import CLEAR, UNCLEAR, share_needed, simulate


def test_early_verdicts_are_the_exact_ones() -> None:
    found = simulate(252, confidence=0.99, seed=1)
    assert sum(outcome.wrong for outcome in found) <= 4  # more than 4 of 252 at 1% have a chance of 4%
    assert sum(outcome.early for outcome in found) > len(found) / 4


def test_a_lower_confidence_is_kept_too() -> None:
    found = simulate(144, confidence=0.8, seed=2)
    assert sum(outcome.wrong for outcome in found) <= 0.2 * len(found)


@pytest.mark.parametrize("case", CLEAR, ids=lambda case: case[0])
@pytest.mark.parametrize("count", [196, 252])
def test_a_clear_run_takes_a_fourth_of_its_weights_at_most(case: Any, count: int) -> None:
    assert np.mean([share_needed(*case[1:], count, alpha=0.001, seed=seed) for seed in range(5)]) <= 0.25


@pytest.mark.parametrize("case", UNCLEAR, ids=lambda case: case[0])
def test_nothing_is_decided_while_one_bad_matrix_could_turn_it(case: Any) -> None:
    assert np.mean([share_needed(*case[1:], 196, alpha=0.001, seed=seed) for seed in range(3)]) > 0.8
