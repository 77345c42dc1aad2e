"""What is normal for single weights: how a suite carries it, and what verdicts make of it."""

from __future__ import annotations

import math
from textwrap import dedent

import pytest

from geomcheck.errors import SuiteError
from geomcheck.record import Point
from geomcheck.suite import Suite, load_suite
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
        ("within 10 0%\na 1", "a distance is above 0; found `0%`"),
        ("within 10 -3%\na 1", "a distance is above 0; found `-3%`"),
        ("within 10 3%, 10 4%\na 1 2", "line 1 has step 10 twice"),
        ("within 10 3%\na 1\na x900 1", "line 3 has `a` again"),
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


EACH = """
geomcheck: 1
weights: attention
expect:
  - {{id: each, metric: stable_rank, per: weight, normal: each weight{more}}}
normal:
  each: |
    within {within}
"""


def each(suite_file, within: str, *figures: str, more: str = "", above: str = "") -> Suite:
    return load_suite(suite_file(EACH.format(within=within, more=more) + rows(*figures) + above))


@pytest.mark.parametrize("factor", ["x10", "x1e9"])
def test_ranges_that_a_weight_at_rest_would_not_leave_judge_nothing(suite_file, factor: str) -> None:
    with pytest.raises(SuiteError, match=r"self_attn.*at step 100 under `normal` reaches down to 0"):
        each(suite_file, "100 10%", "10", "10", f"{factor} 10", "10")
    with pytest.raises(SuiteError, match="reaches down to 0"):
        each(suite_file, "100 10%, 300 100%", *["10 30"] * 4)
    each(suite_file, "100 10%", "10", "10", "x9.9 10", "10")


def test_checkpoints_after_the_last_range_are_not_passed_over(suite_file, make_record) -> None:
    record = make_record({("stable_rank", "value"): lambda step, name: 10.0})
    (verdict,) = each(suite_file, "100 10%", *["10"] * 4).evaluate(record)
    assert (verdict.outcome, verdict.cause[:26]) == ("error", "no range judges step 200, ")
    (verdict,) = each(suite_file, "100 10%, 300 10%", *["10 10"] * 4).evaluate(record)
    assert verdict.outcome == "passed"
    assert "no range judges step 200" in verdict.warnings
    (verdict,) = each(suite_file, "100 10%", *["10"] * 4, more=", at: first").evaluate(record)
    assert (verdict.outcome, verdict.warnings) == ("passed", ())


@pytest.mark.parametrize(
    ("at", "outcome"),
    [("last", "passed"), ("{from: {step: 200}}", "passed"), ("{from: first, to: last}", "error"), ("all", "error")],
)
def test_a_range_that_is_not_asked_for_is_not_missed(suite_file, make_record, at: str, outcome: str) -> None:
    suite = each(suite_file, "50 10%, 200 10%, 300 10%", *["10 10 10"] * 4, more=f", at: {at}")
    (verdict,) = suite.evaluate(make_record({("stable_rank", "value"): lambda step, name: 10.0}))
    assert verdict.outcome == outcome


GOOD = """
calibrated:
  steps: 150
  runs: [good]
  figures: |
    each: mean stable_rank of attention
      50 [9, 11] 10
      100 [18, 22] 20
      150 [27, 33] 30
"""


def test_ranges_are_those_of_the_same_share_of_a_longer_training(suite_file, make_record) -> None:
    """As bands are: of 150 steps, 50, 100 and 150 are what 100, 200 and 300 are of 300."""
    suite = each(suite_file, "50 10%, 100 10%, 150 10%", *["10 20 30"] * 4, above=GOOD)
    (verdict,) = suite.evaluate(make_record({("stable_rank", "value"): lambda step, name: step / 10}))
    assert verdict.outcome == "passed"
    assert {one.step for one in verdict.observed} == {100, 200, 300}
    for one in verdict.observed:
        assert one.band == pytest.approx((one.step * 0.09, one.step * 0.11))
