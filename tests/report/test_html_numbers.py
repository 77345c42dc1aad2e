from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomcheck._text import plural
from geomcheck.report.charts.axis import Axis, spanning
from geomcheck.report.charts.chart import LINE_HEIGHT, spread
from geomcheck.report.charts.numbers import Form, enumerated, plain, symbols
from geomcheck.report.safe import embedded, visible


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.142, "0.142"),
        (0.5, "0.5"),
        (9.996, "10"),
        (12_345.0, "12,300"),
        (99_999.0, "10⁵"),
        (123_456.0, "1.23×10⁵"),
        (2.7e-4, "2.7×10⁻⁴"),
        (1e-5, "10⁻⁵"),
        (-1.5, "−1.5"),
        (5e-324, "4.94×10⁻³²⁴"),
        (math.inf, "∞"),
    ],
)
def test_three_significant_digits(value: float, text: str) -> None:
    assert plain(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_is_written_short(value: float) -> None:
    assert len(plain(value)) <= 12


def test_units() -> None:
    assert Form(percent=True).show(0.1234) == "12.3%"
    assert Form(degrees=True).show(0.5) == "0.5°"
    assert Form().show(None) == Form().show(math.nan) == "–"


def test_words() -> None:
    assert (plural(1, "weight"), plural(2300, "weight")) == ("1 weight", "2,300 weights")
    assert [enumerated(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
    assert symbols("0.1 deg +- 5% <= value") == "0.1 deg ± 5% ≤ value"


@given(st.lists(st.floats(allow_nan=False), max_size=8), st.sampled_from([None, True]))
def test_an_axis_shows_what_it_is_made_for(values: list[float], log: bool | None) -> None:
    axis = spanning(values, along=(200.0, 10.0), log=log)
    assert axis.low < axis.high
    assert all(10 <= axis.place(value) <= 200 for value in values)
    assert all(axis.low <= value <= axis.high for value in values if 1e-150 < abs(value) < 1e150)
    ticks = axis.ticks()
    assert len(ticks) <= 12
    assert ticks == sorted(ticks)


def test_an_axis_is_logarithmic_where_figures_span_decades() -> None:
    assert spanning([0.1, 30], along=(0.0, 100.0)).log
    assert not spanning([5, 30], along=(0.0, 100.0)).log
    assert not spanning([-0.1, 30], along=(0.0, 100.0)).log
    assert Axis(0.1, 1000, 0, 100, log=True).ticks() == pytest.approx([0.1, 1, 10, 100, 1000])


@given(st.lists(st.floats(0, 200), min_size=1, max_size=10))
def test_labels_do_not_overlap(places: list[float]) -> None:
    found = [y for y, _, _ in spread([(y, "a", "b") for y in places], bottom=194)]
    assert all(later - earlier >= LINE_HEIGHT - 1e-9 for earlier, later in pairwise(found))
    assert max(found) <= 194


@given(st.text())
def test_nothing_invisible_is_shown(text: str) -> None:
    shown = visible(text)
    assert not any(c in shown for c in "\x00\x1b\x7f\u202e\u2066\u200b\ud800")
    assert visible(shown) == shown


def test_data_cannot_leave_its_element() -> None:
    text = embedded({"</script>": ["<!--", "\u202e", "a&b", 1.5, None]})
    assert "<" not in text
    assert text == '{"\\u003c/script\\u003e":["\\u003c!--","\\\\u202e","a\\u0026b",1.5,null]}'
