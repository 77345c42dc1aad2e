import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.checkpoints.weights import describe
from geomcheck.suite.folds import fold, quantile

WEIGHTS = {name: describe(name, shape) for name, shape in {"a": (2, 2), "b": (4, 3), "c": (2, 5)}.items()}
VALUES = {"a": 1.0, "b": 2.0, "c": 6.0}


@pytest.mark.parametrize(
    ("how", "value"), [("mean", 3.0), ("median", 2.0), ("max", 6.0), ("min", 1.0), ("p95", 5.6), ("weighted", 88 / 26)]
)
def test_folds(how, value):
    assert fold(VALUES, how, WEIGHTS) == pytest.approx(value, rel=1e-15)


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=20), st.randoms())
def test_the_order_of_arrival_does_not_show(figures, shuffler: random.Random):
    values = {f"w{i}": figure for i, figure in enumerate(figures)}
    shuffled = list(values.items())
    shuffler.shuffle(shuffled)
    assert fold(values, "mean", {}) == fold(dict(shuffled), "mean", {})


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.floats(0, 1))
def test_quantile_is_numpys(figures, q):
    assert quantile(figures, q) == pytest.approx(np.quantile(figures, q), rel=1e-9, abs=1e-6)


def test_the_95th_percentile_of_many_lies_between_two_in_the_middle():
    """Of 0 to 143 it is 135.85: below 21 figures the upper one of the two is always the largest."""
    assert fold({f"w{i:03}": float(i) for i in range(144)}, "p95", {}) == pytest.approx(0.95 * 143, rel=1e-12)


def test_an_overflow_is_infinite():
    assert fold({"a": 1.7e308, "b": 1.7e308}, "mean", WEIGHTS) == math.inf


def test_nothing_has_no_fold():
    with pytest.raises(ValueError, match="nothing to fold"):
        fold({}, "mean", {})


def test_a_fold_that_is_not_known_is_no_figure():
    with pytest.raises(ValueError, match="unknown fold 'mode'"):
        fold(VALUES, "mode", WEIGHTS)
