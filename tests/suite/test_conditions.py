import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions.band import bounds, near, within
from geomcheck.suite.conditions.like import Like, Unlike
from geomcheck.suite.conditions.trend import Trend, spread
from geomcheck.suite.language.quantities import Quantity, Scale, Tolerance

PLAIN, PERCENT, ANGLE = Scale(Unit.NUMBER), Scale(Unit.FRACTION, percent=True), Scale(Unit.DEGREES)
NUMBER = st.floats(-1e6, 1e6)
EXACT, TENTH = Tolerance(0.0), Tolerance(0.1, relative=True)


def q(value):
    return Quantity(value)


@pytest.mark.parametrize(
    ("band", "text"),
    [
        (within(q(20), q(30), PLAIN), "20 <= value <= 30"),
        (bounds(q(0.5), None, PLAIN), "value > 0.5"),
        (bounds(None, q(0.3), PERCENT), "value < 30%"),
        (bounds(q(1), q(2), ANGLE), "1 deg < value < 2 deg"),
        (near(q(1), Tolerance(0.5), ANGLE), "1 deg +- 0.5 deg"),
        (near(q(0.5), Tolerance(0.05, relative=True), PERCENT), "50% +- 5% of it"),
        (near(q(0.5), Tolerance(0.05), PERCENT), "50% +- 5 points"),
        (near(q(0.5), Tolerance(0.01), PERCENT), "50% +- 1 point"),
    ],
)
def test_texts(band, text):
    assert band.text == text


def test_within_includes_its_bounds_and_above_does_not():
    assert [within(q(1), q(2), PLAIN).holds(v) for v in (1, 2, 0.99, 2.01)] == [True, True, False, False]
    assert [bounds(q(1), None, PLAIN).holds(v) for v in (1, 1.01)] == [False, True]
    assert [bounds(None, q(1), PLAIN).holds(v) for v in (1, 0.99)] == [False, True]


@given(NUMBER, NUMBER, st.sampled_from([math.nan, math.inf, -math.inf]))
def test_nothing_holds_for_what_is_not_finite(a, b, value):
    low, high = min(a, b), max(a, b)
    for band in (
        within(q(low), q(high), PLAIN),
        bounds(q(a), None, PLAIN),
        bounds(None, q(a), PLAIN),
        near(q(a), Tolerance(abs(b)), PLAIN),
        Like(Tolerance(abs(b)), PLAIN).around(value),
    ):
        assert not band.holds(value)
        assert band.violation(value) > 0 or math.isnan(band.low)


@given(NUMBER, NUMBER, NUMBER)
def test_violation_is_positive_outside_only(a, b, value):
    band = within(q(min(a, b)), q(max(a, b)), PLAIN)
    assert band.holds(value) == (band.violation(value) <= 0)


@pytest.mark.parametrize(
    ("band", "low", "high", "fault"),
    [
        (within(q(0), q(1), PLAIN), 0, 1, "cannot fail: every figure has 0 <= value <= 1"),
        (within(q(-1), q(1), PLAIN), -1, 1, "cannot fail"),
        (within(q(0), q(1), PLAIN), -1, 1, None),
        (bounds(q(-0.1), None, PLAIN), 0, 1, "cannot fail"),
        (bounds(q(0), None, PLAIN), 0, 1, None),
        (bounds(q(0.5), None, PLAIN), 1, math.inf, "cannot fail: every figure has 1 <= value"),
        (bounds(None, q(1.1), PLAIN), 0, 1, "cannot fail"),
        (bounds(None, q(1), PLAIN), 0, 1, None),
        (near(q(45), Tolerance(45), ANGLE), 0, 90, "cannot fail: every figure has 0 deg <= value <= 90 deg"),
        (within(q(30), q(20), PLAIN), 0, math.inf, "can never hold: the lower bound is above the upper one"),
        (bounds(q(2), q(2), PLAIN), 0, math.inf, "can never hold: the lower bound is above the upper one"),
        (bounds(q(1), None, PLAIN), 0, 1, "can never hold: every figure has"),
        (bounds(None, q(0), PLAIN), 0, 1, "can never hold: every figure has"),
        (within(q(2), q(3), PLAIN), 0, 1, "can never hold"),
        (within(q(1), q(3), PLAIN), 0, 1, None),
        (within(q(0), q(1e9), PLAIN), 0, math.inf, None),
        (within(q(5), q(5), PLAIN), 0, math.inf, None),
        (within(q(-1), q(0), PLAIN), 0, 1, None),
    ],
)
def test_faults(band, low, high, fault):
    found = band.fault(low, high)
    assert (found is None) if fault is None else found.startswith(fault)


@pytest.mark.parametrize(
    ("direction", "tolerance", "series", "marks"),
    [
        ("rising", EXACT, [1, 2, 2, 3], [True, True, True, True]),
        ("rising", EXACT, [1, 3, 2, 4], [True, True, False, True]),
        ("rising", TENTH, [1, 3, 2.75, 4], [True, True, True, True]),
        ("rising", Tolerance(5.0), [3, 2, 1], [True, True, False]),
        ("rising", EXACT, [1, 1], [True, False]),
        ("falling", EXACT, [3, 2, 1], [True, True, True]),
        ("falling", TENTH, [3, 3.2, 1], [True, True, True]),
        ("falling", EXACT, [3, 3.2, 1], [True, False, True]),
        ("flat", TENTH, [10, 10.5, 10.2], [True, True, True]),
        ("flat", TENTH, [10, 12, 10], [False, False, False]),
        ("rising", EXACT, [1, math.nan, 2], [True, False, False]),
        ("flat", TENTH, [1, math.nan], [False, False]),
        ("flat", Tolerance(0.2, relative=True), [9, 11], [True, True]),
        ("flat", EXACT, [10, 10], [True, True]),
        ("rising", EXACT, [1, 2, 2], [True, True, True]),
        ("rising", EXACT, [math.nan, 1, 2], [False, False, False]),
    ],
)
def test_trends(direction, tolerance, series, marks):
    trend = Trend(direction, tolerance, PLAIN)
    assert list(trend.judge_series(series)) == marks
    if all(math.isfinite(value) for value in series) and series[0] != series[-1]:
        assert (trend.violation(series) <= 0) == all(marks)


def test_trend_texts():
    assert Trend("rising", EXACT, PLAIN).text == "rising"
    assert Trend("falling", TENTH, PLAIN).text == "falling (rises up to 10% tolerated)"
    assert Trend("rising", Tolerance(0.5), ANGLE).text == "rising (drops up to 0.5 deg tolerated)"
    assert Trend("rising", TENTH, PERCENT).text == "rising (drops up to 10% tolerated)"
    assert Trend("rising", Tolerance(0.1), PERCENT).text == "rising (drops up to 10 points tolerated)"
    assert Trend("flat", TENTH, PLAIN).text == "flat within 10%: (max - min) / |mean|"


@pytest.mark.parametrize(
    ("direction", "series", "index"),
    [
        ("rising", [1, 2, 3], 2),
        ("rising", [1, 3, 2, 1], 2),
        ("falling", [3, 3], 1),
        ("flat", [10, 10, 10], 2),
        ("flat", [10, 14, 10, 9], 1),
        ("flat", [10, 14], 1),
        ("flat", [10, 2, 11], 1),
    ],
)
def test_the_point_that_decides_a_trend(direction, series, index):
    assert Trend(direction, EXACT, PLAIN).decisive(series) == index


def test_how_far_a_rise_is_from_breaking():
    """Its last figure is 1 above the first; the drops on the way are well within the tolerance."""
    assert Trend("rising", Tolerance(5.0), PLAIN).offence([1, 4, 2]) == (False, -1)


def test_a_value_on_a_strict_bound_is_on_the_wrong_side():
    band = bounds(q(1), None, PLAIN)
    assert [band.offence(value) for value in (1, 0.5, 3)] == [(True, 0), (True, 0.5), (False, -2)]


def test_spread():
    assert spread([2, 2]) == 0
    assert spread([-1, 1]) == math.inf
    assert spread([0, 0]) == 0
    assert spread([0, 1]) == 2
    assert spread([9, 11]) == pytest.approx(0.2)


def test_like():
    like = Like(TENTH, PLAIN)
    assert like.text == "reference +- 10%"
    assert like.around(20).holds(22)
    assert not like.around(20).holds(22.1)
    assert like.fault(0, 1) is None
    assert Like(Tolerance(1.0), PLAIN).fault(0, 1).startswith("cannot fail")


@pytest.mark.parametrize(
    ("value", "reference", "offence"),
    [
        (30, 20, (False, -8)),
        (20.5, 20, (True, 1.5)),
        (22, 20, (True, 0)),
        (math.nan, 20, (True, math.inf)),
        (30, math.nan, (True, math.inf)),
    ],
)
def test_unlike_wants_both_figures_and_a_distance_between_them(value, reference, offence):
    assert Unlike(TENTH, PLAIN).offence(value, reference) == offence


@pytest.mark.parametrize(
    ("tolerance", "unlike", "fault"),
    [
        (Tolerance(2.0), False, "cannot fail"),
        (Tolerance(1.9), False, None),
        (Tolerance(2.0), True, "can never hold"),
        (Tolerance(1.9), True, None),
        (Tolerance(0.0), True, "almost always holds"),
        (Tolerance(1.9, relative=True), False, None),
        (Tolerance(1.9, relative=True), True, None),
        (Tolerance(2.0, relative=True), False, "cannot fail"),
        (Tolerance(2.0, relative=True), True, "can never hold"),
    ],
)
def test_a_tolerance_as_wide_as_the_range_says_nothing(tolerance, unlike, fault):
    """Of a figure from 1 to 3; a share of the reference is no share of the range, but three times 1 is all of it."""
    found = (Unlike if unlike else Like)(tolerance, PLAIN).fault(1, 3)
    assert (found is None) if fault is None else found.startswith(fault)
