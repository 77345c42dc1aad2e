"""A band per checkpoint, from YAML to verdict; and the opposite of likeness."""

from dataclasses import replace

import pytest

BANDS = """
metric: stable_rank
bands:
  - {step: 100, within: [4, 6]}
  - {step: 200, within: [9, 11]}
"""


def rank(values):
    return {("stable_rank", "value"): lambda step, _: values[step]}


def test_each_checkpoint_is_held_against_its_own_band(judge, make_record):
    verdict = judge(BANDS, make_record(rank({100: 5, 200: 10}), steps=(100, 200)))
    assert verdict.outcome == "passed"
    assert [(o.step, o.value, o.band) for o in verdict.observed] == [(100, 5, (4, 6)), (200, 10, (9, 11))]
    assert verdict.at == "steps 100, 200"
    assert verdict.condition == "4 to 6 at step 100, 9 to 11 at step 200"
    assert verdict.to_dict()["observed"][0] == {
        "step": 100, "group": None, "value": 5.0, "holds": True, "low": 4.0, "high": 6.0,
    }  # fmt: skip


def test_the_checkpoint_furthest_outside_its_band_decides(judge, make_record):
    verdict = judge(BANDS, make_record(rank({100: 12, 200: 14, 300: 1})))
    assert verdict.outcome == "failed"
    assert verdict.decisive.step == 100
    assert verdict.message.startswith(
        "stable_rank left its band at 2 of 2 checkpoints, furthest at step 100: 12 (mean of 4 weights)"
    )
    assert verdict.message.endswith("; that of step 100 is 4 to 6")


@pytest.mark.parametrize(
    ("wide", "narrow", "figures", "step"),
    [
        ("[10, 14]", "[1.0, 1.2]", {100: 16, 200: 1.5}, 200),  # half its width outside; one and a half
        ("[10, 14]", "[1.0, 1.2]", {100: 22, 200: 1.5}, 100),  # two widths; one and a half
        ("[2, 12]", "[30, 31]", {100: 19, 200: 31.8}, 200),  # 0.7 widths; 0.8
        ("[5, 5]", "[1.0, 1.2]", {100: 5.5, 200: 1.5}, 200),  # a band without width counts plainly: 0.5; 1.5
    ],
)
def test_distances_from_several_bands_are_compared_in_their_widths(judge, make_record, wide, narrow, figures, step):
    bands = f"[{{step: 100, within: {wide}}}, {{step: 200, within: {narrow}}}]"
    verdict = judge(f"metric: stable_rank\nbands: {bands}", make_record(rank({**figures, 300: 1})))
    assert (verdict.outcome, verdict.decisive.step) == ("failed", step)


def test_one_violation_is_enough(judge, make_record):
    assert judge(BANDS, make_record(rank({100: 5, 200: 5, 300: 5}))).outcome == "failed"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{step: 150, within: [1, 2]}", "the run has no checkpoint at step 150; it has 100, 200, 300"),
        ("{progress: 50%, within: [1, 2]}", "no checkpoint is near progress 50%: the nearest is step 100 at 33%"),
        ("{progress: 34%, within: [1, 2]}, {step: 100, within: [1, 2]}", "are one checkpoint, step 100"),
    ],
)
def test_a_checkpoint_that_the_run_lacks_is_an_error(judge, make_record, entry, reason):
    verdict = judge(f"metric: stable_rank\nbands: [{entry}]", make_record(rank({100: 5, 200: 5, 300: 5})))
    assert verdict.outcome == "error"
    assert reason in verdict.message


def test_a_figure_that_is_fixed_at_a_banded_checkpoint_is_an_error(judge, make_record):
    record = make_record({("subspace_alignment", "value"): lambda step, _: None if step == 300 else 0.5})
    bands = "[{step: 100, within: [0.4, 0.6]}, {step: 300, within: [0.9, 0.95]}]"
    verdict = judge(f"metric: subspace_alignment\nbands: {bands}", record)
    assert verdict.outcome == "error"
    assert "at step 300 compares that checkpoint with itself: a band says nothing there" in verdict.message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("metric: stable_rank\nbands: []", "expected a list of `{step: 30, within: [low, high]}`"),
        ("metric: stable_rank\nbands: [{step: 1}]", "expected `{step: 30, within"),
        ("metric: stable_rank\nbands: [{step: 1, within: [2, 3]}, {step: 1, within: [2, 3]}]", "step 1 has two bands"),
        ("metric: stable_rank\nbands: [{step: -1, within: [2, 3]}]", "a step is an integer >= 0"),
        ("metric: stable_rank\nbands: [{step: 1, within: [3, 2]}]", "can never hold"),
        ("metric: update_support\nbands: [{step: 1, within: [0, 1]}]", "cannot fail"),
        ("metric: principal_angle\nbands: [{step: 1, within: [1, 2]}]", "has no unit"),
        ("metric: stable_rank\nbands: [{step: 1, within: [2, 3]}]\nat: last", "`bands` names its own checkpoints"),
        ("metric: stable_rank\nbands: [{step: 1, within: [2, 3]}]\nwithin: [1, 2]", "several conditions"),
        (
            "metric: subspace_alignment\nto: {step: 5}\nbands: [{step: 5, within: [0.2, 0.3]}]",
            "compares a checkpoint with itself",
        ),
    ],
)
def test_refusals(refusals, keys, message):
    lines = "\n".join(f"    {line}" for line in keys.splitlines())
    assert any(message in problem for problem in refusals(f"  - id: it\n{lines}\n"))


UNLIKE = "metric: stable_rank\nunlike: reference\ntolerance: 20%"


@pytest.mark.parametrize(
    ("theirs", "outcome", "message"),
    [
        (8.0, "passed", "stable_rank is outside reference +- 20%"),
        (5.5, "failed", "stable_rank is not outside reference +- 20%"),
    ],
)
def test_unlike_the_reference(judge, make_record, theirs, outcome, message):
    record, reference = (make_record({("stable_rank", "value"): value}) for value in (5.0, theirs))
    verdict = judge(UNLIKE, record, reference)
    assert verdict.outcome == outcome
    assert verdict.message.startswith(message)
    assert f"the reference has {theirs:g} at step" in verdict.message


def test_what_is_asked_of_a_reference_needs_one(judge, make_record):
    for key in ("like", "unlike"):
        verdict = judge(
            f"metric: stable_rank\n{key}: reference\ntolerance: 20%", make_record(rank({100: 5, 200: 5, 300: 5}))
        )
        assert verdict.outcome == "error"
        assert f"`{key}: reference` needs a reference run" in verdict.message


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [("0", "any difference satisfies it"), ("1", "is as wide as the range: two figures are at most 100 points apart")],
)
def test_unlike_within_a_tolerance_that_says_nothing(refusals, tolerance, message):
    (problem,) = refusals(f"  - {{id: it, metric: update_support, unlike: reference, tolerance: {tolerance}}}\n")
    assert message in problem


def test_a_reference_in_another_storage_format_is_refused_with_both(judge, make_record):
    mine, theirs = (make_record({("stable_rank", "value"): 5.0}) for _ in range(2))
    theirs.weights = {name: replace(weight, dtypes=("bf16",)) for name, weight in theirs.weights.items()}
    mine.weights = {name: replace(weight, dtypes=("bf16", "fp32")) for name, weight in mine.weights.items()}
    verdict = judge("metric: stable_rank\nlike: reference\ntolerance: 5%", mine, theirs)
    assert verdict.outcome == "error"
    assert "(W0, run) differ: bf16, fp32 against bf16" in verdict.message


@pytest.mark.parametrize(
    ("heading", "message"),
    [
        ("storage: fp32", "2:10: `storage`: expected a list of W0's format and the run's, such as `[bf16, fp32]`"),
        ("storage: [fp8]", "`storage`: expected a list of W0's format"),
        ("storage: []", "`storage`: expected a list of W0's format"),
        ("profiles: paper", "2:11: `profiles`: expected a list such as `[paper, profiles/mine.yaml]`"),
        ("profiles: [nowhere.yaml]", "no such file; give `paper`, a profile file, or a directory of them"),
    ],
)
def test_headings_that_are_refused(refusals, heading, message):
    (problem,) = refusals(f"geomcheck: 1\n{heading}\nexpect: [{{id: it, metric: stable_rank, above: 2}}]\n")
    assert message in problem


def test_figures_for_another_storage_format_are_not_judged(load, make_record):
    suite = load("geomcheck: 1\nstorage: [bf16, fp32]\nexpect: [{id: it, metric: stable_rank, above: 2}]\n")
    record = make_record({("stable_rank", "value"): 5.0})
    for formats, outcome in ((("bf16", "fp32"), "passed"), (("bf16",), "error")):
        record.weights = {name: replace(weight, dtypes=formats) for name, weight in record.weights.items()}
        (verdict,) = suite.evaluate(record)
        assert verdict.outcome == outcome
