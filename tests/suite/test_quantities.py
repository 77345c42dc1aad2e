import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck.diagnostics import Unit
from geomcheck.suite.language.quantities import Quantity, Refusal, Scale, Tolerance, flatness, quantity, tolerance
from geomcheck.suite.loading.parameters import rank

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@pytest.mark.parametrize(
    ("raw", "unit", "value"),
    [
        ("30%", Unit.FRACTION, 0.3),
        ("30 %", Unit.FRACTION, 0.3),
        ("27.76%", Unit.FRACTION, 0.2776),
        (0.3, Unit.FRACTION, 0.3),
        (1, Unit.FRACTION, 1.0),
        ("1 deg", Unit.DEGREES, 1.0),
        ("1deg", Unit.DEGREES, 1.0),
        ("1°", Unit.DEGREES, 1.0),
        ("1e-2 rad", Unit.DEGREES, math.degrees(0.01)),
        (25, Unit.NUMBER, 25.0),
        ("25", Unit.NUMBER, 25.0),
    ],
)
def test_units(raw, unit, value):
    assert quantity(raw, unit).value == value


@pytest.mark.parametrize(
    ("raw", "unit", "message"),
    [
        (1, Unit.DEGREES, "`1` has no unit; write `1 deg`, `1°` or `0.0175 rad`"),
        ("1%", Unit.DEGREES, "`1%` has the unit `%`, which is not one of angles; write `1 deg`"),
        ("30%", Unit.NUMBER, "`30%` has the unit `%`; expected a plain number such as `25`"),
        ("1 deg", Unit.FRACTION, "`1 deg` has the unit `deg`; expected a fraction such as `30%` or `0.3`"),
        ("1 turn", Unit.DEGREES, "`1 turn` is not a number with a unit; expected an angle"),
        (True, Unit.NUMBER, "found `true`; expected a plain number"),
        (None, Unit.NUMBER, "found nothing; expected"),
        ([1], Unit.NUMBER, "found a list; expected"),
        ({}, Unit.NUMBER, "found a mapping; expected"),
        (math.inf, Unit.NUMBER, "`inf` is not a finite number"),
        (math.nan, Unit.NUMBER, "`nan` is not a finite number"),
        ("1e999 deg", Unit.DEGREES, "is not a finite number"),
        (10**400, Unit.NUMBER, "is not a finite number"),
        ("٣ deg", Unit.DEGREES, "is not a number with a unit"),
    ],
)
def test_refusals_say_what_is_allowed(raw, unit, message):
    with pytest.raises(Refusal) as caught:
        quantity(raw, unit)
    assert message in str(caught.value)


@given(FINITE)
def test_an_angle_survives_its_own_spelling(value):
    text = Scale(Unit.DEGREES).show(value, 17)
    assert quantity(text, Unit.DEGREES) == Quantity(value)


@given(FINITE)
def test_radians_are_degrees(value):
    assert quantity(f"{math.radians(value)!r} rad", Unit.DEGREES).value == pytest.approx(value, rel=1e-12)


@given(st.integers(0, 10_000))
def test_percent_and_fraction_are_one_figure(hundredths):
    percent = quantity(f"{hundredths / 100:.2f}%", Unit.FRACTION)
    assert percent == Quantity(float(f"{hundredths / 10000:.4f}"), percent=True)


def test_tolerances():
    assert tolerance("10%", Unit.NUMBER) == Tolerance(0.1, relative=True)
    assert tolerance("10%", Unit.FRACTION) == Tolerance(0.1, relative=True)
    assert tolerance("0.5 deg", Unit.DEGREES) == Tolerance(0.5)
    assert tolerance(0.1, Unit.FRACTION) == Tolerance(0.1)
    assert Tolerance(0.1, relative=True).around(-20) == 2
    for raw, message in [(-1, "a tolerance is not negative"), ("-1%", "not negative")]:
        with pytest.raises(Refusal, match=message):
            tolerance(raw, Unit.NUMBER)
    with pytest.raises(Refusal, match="`1` has no unit"):
        tolerance(1, Unit.DEGREES)


def test_how_flat():
    assert flatness("10%") == flatness(0.1) == Tolerance(0.1, relative=True)
    assert flatness("0%") == Tolerance(0.0, relative=True)
    with pytest.raises(Refusal, match="`-1%`: a tolerance is not negative"):
        flatness("-1%")


def test_a_tolerance_above_100_percent_tolerates_less_than_everything():
    assert tolerance("150%", Unit.NUMBER) == Tolerance(1.5, relative=True)
    assert flatness("150%") == flatness(1.5) == Tolerance(1.5, relative=True)


def test_a_percent_sign_that_was_forgotten_is_asked_for():
    for raw in (15, 2.5):
        with pytest.raises(Refusal, match=rf"`{raw}` is {raw * 100:g}%; did you mean `{raw}%`\? \(write"):
            flatness(raw)
    assert flatness("1500%").amount == 15


def test_ranks_have_one_spelling():
    assert [rank(raw) for raw in (16, "12.5%", "12.50 %", "10.0%")] == [16, "12.5%", "12.5%", "10%"]


@pytest.mark.parametrize("raw", [0, -1, True, 1.0, "16", "0%", "100%", "x%", None, [1]])
def test_what_is_no_rank(raw):
    with pytest.raises(Refusal):
        rank(raw)


def test_a_fraction_for_a_share_is_explained():
    with pytest.raises(Refusal, match=r"did you mean `12\.5%`"):
        rank(0.125)
