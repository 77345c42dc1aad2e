"""What is normal for single weights: how a suite carries it, and what verdicts make of it."""

from __future__ import annotations

import math
from textwrap import dedent

import pytest

from geomcheck.errors import SuiteError
from geomcheck.record import Point
from geomcheck.suite import load_suite
from geomcheck.suite.language.places import Place
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.normal import EXAMPLE, Normal
from tests.suite.conftest import ATTENTION

POINTS = tuple(Point(f"checkpoint-{step}", step, step / 300) for step in (100, 200, 300))

SUITE = """
geomcheck: 1
weights: attention
expect:
  - id: rank
    metric: stable_rank
    bands: [{step: 100, within: [9, 11]}, {step: 300, within: [29, 31]}]
normal:
  rank: |
    within 100 10%, 300 5%
"""


def rows(*figures: str) -> str:
    return "".join(f"    {name} {row}\n" for name, row in zip(ATTENTION, figures, strict=True))


TEXT = SUITE + rows("8 28", "12 32", "8 28", "12 -")


def test_it_survives_the_text() -> None:
    within = {Place(step=30): 0.0341, Place(progress="40%"): 0.001}
    normal = Normal(within, {"a.weight": (0.0123, 1234.5), "b": (-1e-9, math.nan)})
    again = Normal.parse(normal.text)
    assert again.within == within
    assert again.means["a.weight"] == pytest.approx((0.0123, 1234.5), rel=1e-3)
    assert again.means["b"] == (-1e-9, pytest.approx(math.nan, nan_ok=True))
    assert Normal.parse(EXAMPLE).text == EXAMPLE


def test_a_range_is_around_the_mean_at_its_checkpoint() -> None:
    normal = Normal({Place(step=100): 0.1, Place(progress="100%"): 0.5}, {"a": (10.0, -4.0), "b": (math.nan, 2.0)})
    assert normal.at(100, POINTS) == {"a": (pytest.approx(9.0), pytest.approx(11.0))}
    assert normal.at(300, POINTS) == {"a": (-6.0, -2.0), "b": (1.0, 3.0)}
    assert normal.at(200, POINTS) == {}
    assert normal.at(100, POINTS[1:]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (7, "expected the lines that"),
        ("", "line 1 is `within"),
        ("10 20", "line 1 is `within"),
        ("within", "line 1 is `within"),
        (f"within {'9' * 5000} 3%", "line 1 is `within"),
        ("within ten 3%", "`ten` is not a checkpoint"),
        ("within 10 much", "much"),
        ("within 10 3%\na 1 2", "line 2 has 2 figures"),
        ("within 10 3%\n\n", "line 2 has 0 figures"),
        ("within 10 3%\na nan", "line 2: `nan` is no number"),
        ("within 10 3%\na x", "line 2: `x` is no number"),
        ("within 10 3%\na x 1", "is no number"),
        ("within 10 3%\na xnan 1", "`nan` is no number"),
        ("within 10 3%\na x0 1", "line 2: a factor is above 0; found 0"),
        (f"within 10 3%\na {'9' * 400}", "is no number"),
    ],
)
def test_what_is_no_range_is_refused(text: object, said: str) -> None:
    with pytest.raises(Refusal, match=".*") as raised:
        Normal.parse(text)
    assert said in str(raised.value)


def test_a_suite_says_where_it_is_wrong(suite_file) -> None:
    with pytest.raises(SuiteError) as raised:
        load_suite(suite_file(TEXT.replace("  rank: |", "  rang: |")))
    assert "no expectation has the id `rang`" in str(raised.value)
    with pytest.raises(SuiteError) as raised:
        load_suite(suite_file(TEXT.replace("12 32", "12")))
    assert "line 3 has 1 figures after the weight, and line 1 2" in str(raised.value)


def test_a_weight_is_held_against_its_own_figures(suite_file, make_record) -> None:
    """The mean falls because of one weight; others lie further from the mean, where they belong."""
    suite = load_suite(suite_file(TEXT))
    own = dict(zip(ATTENTION, (28.0, 32.0, 23.0, 32.0), strict=True))
    record = make_record({("stable_rank", "value"): lambda step, name: own.get(name, 9.9) if step == 300 else 10.0})
    (verdict,) = suite.evaluate(record)
    assert verdict.outcome == "failed"
    (worst,) = verdict.worst
    assert (worst.weight, worst.value, worst.outside) == (ATTENTION[2], 23.0, True)
    assert worst.normal == pytest.approx((26.6, 29.4))
    facts = verdict.to_dict()["worst"][0]
    assert (facts["low"], facts["high"]) == pytest.approx((26.6, 29.4))


def test_nothing_is_outside_where_all_move_a_little(suite_file, make_record) -> None:
    suite = load_suite(suite_file(TEXT))
    own = dict(zip(ATTENTION, (27.0, 31.0, 27.0, 30.0), strict=True))
    record = make_record({("stable_rank", "value"): lambda step, name: own.get(name, 9.9) if step == 300 else 10.0})
    (verdict,) = suite.evaluate(record)
    assert verdict.outcome == "failed"
    assert {worst.outside for worst in verdict.worst} == {False}


def test_no_weight_of_a_run_that_passes_is_outside(suite_file, make_record) -> None:
    suite = load_suite(suite_file(TEXT))
    own = dict(zip(ATTENTION, (23.0, 36.0, 29.0, 32.0), strict=True))
    record = make_record({("stable_rank", "value"): lambda step, name: own.get(name, 9.9) if step == 300 else 10.0})
    (verdict,) = suite.evaluate(record)
    assert verdict.outcome == "passed"
    assert {worst.outside for worst in verdict.worst} == {None}


@pytest.mark.parametrize(
    ("override", "inherits"),
    [
        ("level: warn", True),
        ("why: it matters", True),
        ("per: layer", False),
        ("bands: [{step: 100, within: [1, 2]}, {step: 200, within: [1, 2]}]", False),
    ],
)
def test_a_suite_inherits_what_is_normal_as_long_as_it_judges_the_same(
    suite_file, override: str, inherits: bool
) -> None:
    suite_file(TEXT, "parent.yaml")
    child = f"geomcheck: 1\nextends: ./parent.yaml\nexpect:\n  - {{id: rank, {override}}}\n"
    (expectation,) = load_suite(suite_file(dedent(child), "child.yaml")).expectations
    assert (expectation.normal is not None) == inherits
