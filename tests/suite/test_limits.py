"""A bound beyond what the figure can be is refused by itself, whatever the rest of the condition demands."""

from __future__ import annotations

import pytest

from geomcheck.diagnostics import Unit
from geomcheck.suite.conditions import FigureCondition, Key
from geomcheck.suite.conditions.limits import beyond
from geomcheck.suite.language.fields import quantity_schema
from geomcheck.suite.language.quantities import Scale, quantity

REFUSED = [
    # where each of the bounds stands, and what is said of it
    ("update_support", "within: [47%, 58]", ["6:19: the upper bound `58` (that is 5800%) cannot fail", "`58%`?"]),
    ("update_support", "within: [0.47, 58]", ["6:20: the upper bound `58` (that is 5800%) cannot fail", "mean `58%`?"]),
    (
        "update_support",
        "within: [47, 58]",
        ["6:14: the lower bound `47` (that is 4700%) can never", "6:18: the upper bound `58`"],
    ),
    (
        "update_support",
        "within: [-1, 58%]",
        ["6:14: the lower bound `-1` (that is -100%) cannot fail", "`0%` for none"],
    ),
    ("update_support", "within: [47%, 101%]", ["6:19: the upper bound `101%` cannot fail", "write `100%` for none"]),
    ("update_support", "above: 47%\nbelow: 58", ["7:12: the upper bound `58`", "`58%`?"]),
    ("update_support", "above: 47\nbelow: 58%", ["6:12: the lower bound `47` (that is 4700%) can never", "`47%`?"]),
    ("update_support", "near: 47\ntolerance: 5%", ["6:11: `47` (that is 4700%) can never hold: every", "`47%`?"]),
    ("update_support", "near: 47%\ntolerance: 5", ["7:16: a tolerance of 500 points is as wide", "`5%`?"]),
    ("update_support", "near: 47\ntolerance: 5", ["6:11: `47`", "7:16: a tolerance of"]),
    ("update_support", "like: reference\ntolerance: 5", ["7:16: a tolerance of 500 points is as wide", "`5%`?"]),
    ("update_support", "unlike: reference\ntolerance: 5", ["7:16: a tolerance of 500 points", "`5%`?"]),
    ("update_support", "trend: rising\ntolerance: 5", ["7:16: a tolerance of 500 points is as wide", "`5%`?"]),
    ("update_support", "trend: rising\ntolerance: 150%", ["7:5: a tolerance of 150% cannot fail: no figure drops by"]),
    ("update_support", "trend: flat\ntolerance: 15", ["7:16: `tolerance`: `15` is 1500%; did you mean `15%`?"]),
    (
        "update_support",
        "bands: [{step: 1, within: [47%, 58]}, {step: 2, within: [47, 58%]}]",
        ["6:37: the upper bound `58`", "6:62: the lower bound `47`"],
    ),
    ("subspace_alignment", "within: [50%, 80]", ["6:19: the upper bound `80`", "`80%`?"]),
    (
        "principal_angle",
        "within: [0.5 deg, 95 deg]",
        ["6:23: the upper bound `95 deg` cannot fail", "`90 deg` for none"],
    ),
    (
        "principal_angle",
        "above: -1 deg\nbelow: 2 rad",
        ["6:12: the lower bound `-1 deg`", "7:12: the upper bound `2 rad`"],
    ),
    ("stable_rank", "within: [0, 30]", ["6:14: the lower bound `0` cannot fail: every figure has 1 <= value"]),
    ("relative_update_norm", "within: [-1%, 5%]", ["6:14: the lower bound `-1%`"]),
    ("relative_update_norm", "within: [1%, 5]", ["6:18: `5` stands beside a percentage, and is 500%; write `5%`, or"]),
    (
        "relative_update_norm",
        "like: reference\ntolerance: 5",
        ["7:16: a tolerance of 5 is 500 points of a ratio", "`5%`?"],
    ),
    (
        "update_support",
        "within: [0.1%, 1]",
        ["6:20: `1` stands beside a percentage, and is 100%; write `1%`, or `100%`"],
    ),
    ("update_support", "near: 47%\ntolerance: 1", ["7:16: a tolerance of 100 points is as wide", "`1%`?"]),
    ("principal_angle", "like: reference\ntolerance: 2 rad", ["7:16: a tolerance of 114.591559 deg is as wide"]),
    ("hill_exponent", "above: -1", ["6:12: the lower bound `-1`"]),
    ("principal_overlap", "excess_over: shuffled\nwithin: [2.5, 30]", ["7:14: the lower", "`2.5%`", "7:19: ", "`30%`"]),
]


@pytest.mark.parametrize(("metric", "condition", "messages"), REFUSED)
def test_each_bound_that_decides_nothing_is_an_error(refusals, metric, condition, messages):
    found = refusals(f"  - id: it\n    metric: {metric}\n" + "".join(f"    {c}\n" for c in condition.splitlines()))
    assert all(any(message in problem for problem in found) for message in messages), found
    assert len(found) == sum(message[0].isdigit() for message in messages), found


@pytest.mark.parametrize(
    ("metric", "condition"),
    [
        ("update_support", "within: [47%, 100%]"),
        ("update_support", "within: [0, 58%]"),
        ("update_support", "near: 98%\ntolerance: 5%"),
        ("update_support", "near: 1%\ntolerance: 0.05"),
        ("update_support", "like: reference\ntolerance: 150%"),
        ("update_support", "trend: falling\ntolerance: 150%"),
        ("update_support", "trend: rising\ntolerance: 100%"),
        ("update_support", "trend: flat\ntolerance: 1500%"),
        ("relative_update_norm", "within: [0, 5]"),
        ("relative_update_norm", "within: [50%, 300%]"),
        ("stable_rank", "within: [1, 30]"),
        ("stable_rank", "near: 20\ntolerance: 150%"),
        ("principal_angle", "within: [1.5 rad, 90 deg]"),
        ("principal_overlap", "excess_over: shuffled\nwithin: [-10%, 30%]"),
    ],
)
def test_a_bound_on_the_end_of_the_range_and_a_tolerance_beyond_it_are_allowed(load, metric, condition):
    load(f"  - id: it\n    metric: {metric}\n" + "".join(f"    {c}\n" for c in condition.splitlines()))


def test_a_bound_that_the_shapes_keep_is_named_beside_one_that_binds(judge, make_record):
    """Of 64 x 64 matrices, whose stable rank is at most 64."""
    record = make_record({("stable_rank", "value"): 25.0}, shapes={"model.layers.0.self_attn.q_proj.weight": (64, 64)})
    said = "the upper bound 75 cannot fail: every figure has 1 <= value <= 64, of weights of these shapes"
    for keys in ("within: [20, 75]", "above: 20\nbelow: 75"):
        verdict = judge(f"metric: stable_rank\n{keys}", record)
        assert verdict.outcome == "passed"
        assert said in verdict.warnings
    bands = judge("metric: stable_rank\nbands: [{step: 100, within: [20, 75]}]", record)
    assert bands.warnings == (f"at step 100, {said}",)
    assert judge("metric: stable_rank\nnear: 60\ntolerance: 90%", record).warnings == ()


def test_a_kept_share_of_hundreds_is_a_forgotten_percent_sign(refusals):
    keys = "metric: functional_sufficiency, score: eval_acc, random: r"
    (above,) = refusals(f"  - {{id: it, {keys}, above: 80}}\n")
    assert above.endswith("`above`: `80` is 8000%; did you mean `80%`? (write `8000%` if not)")
    below, over = refusals(f"  - {{id: it, {keys}, above: 5%, below: 80, over_random: 5}}\n")
    assert "`below`: `80` is 8000%" in below
    assert "`over_random`: `5` is 500%" in over


@pytest.mark.parametrize(
    ("keys", "measured"),
    [
        ("metric: top_energy, k: 31, above: 96%", False),
        ("metric: top_energy, k: 31, above: 97%", True),
        ("metric: subspace_alignment, k: 31, above: 93%, at: first", False),
        ("metric: update_spectrum, index: s16, below: 25.1%", False),
        ("metric: update_spectrum, index: s16, below: 24%", True),
        ("metric: stable_rank, below: 33", False),
        ("metric: stable_rank, trend: flat, tolerance: 300%", False),
        ("metric: stable_rank, trend: flat, tolerance: 150%", True),
    ],
)
def test_what_cannot_fail_of_these_shapes_is_not_even_measured(load, make_record, keys, measured):
    """Of 32 x 32 matrices, at three checkpoints."""
    record = make_record(shapes={"model.layers.0.self_attn.q_proj.weight": (32, 32)})
    suite = load(f"  - {{id: it, {keys}}}\n")
    (expectation,) = suite.expectations
    assert bool(expectation.requests(record)) is measured
    (verdict,) = suite.evaluate(record)
    assert verdict.outcome == "error"  # the record has no figures
    assert ("cannot fail" in verdict.message) is not measured


class AtLeast(FigureCondition):
    """A condition of another package: its figures are demands without a word of its own."""

    keys = (Key("at_least", "The figure is so large.", quantity, quantity_schema),)


def test_a_condition_from_outside_shares_the_rule():
    demands = list(AtLeast.demands({"at_least": quantity(58, Unit.FRACTION)}))
    (refusal,) = beyond(demands, None, 0.0, 1.0, Scale(Unit.FRACTION, percent=True))
    assert refusal.path == ("at_least",)
    assert str(refusal).startswith("`58` (that is 5800%) can never hold: every figure has 0% <= value <= 100%; did you")


def test_a_missing_tolerance_hides_no_figure_beyond_the_range(refusals):
    missing, beyond_range = refusals("  - {id: it, metric: update_support, near: 47}\n")
    assert "`near` needs a `tolerance`" in missing
    assert beyond_range.startswith("4:44: `47` (that is 4700%)")
