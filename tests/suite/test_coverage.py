"""A run that lacks checkpoints, or has some that no band is for: what is there is judged, and the rest is named."""

import math
from dataclasses import replace

import pytest

from geomcheck.suite import judge as judged_by

ACCEPTED = " (--geom-missing-checkpoints=info accepts that)"

BANDS = """
metric: stable_rank
bands:
  - {step: 100, within: [4, 6]}
  - {step: 200, within: [9, 11]}
  - {step: 300, within: [14, 16]}
"""


def rank(values):
    return {("stable_rank", "value"): lambda step, _: values.get(step, step / 20)}


@pytest.fixture
def verdicts(load, make_record):
    """The verdicts on a run with these steps and figures: by default, and where missing checkpoints are accepted."""

    def found(text, steps, figures=None, *, progress=lambda share: share, reference=None):
        (expectation,) = load("- id: it\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())).expectations
        record = make_record(rank(figures or {}), steps=steps)
        record.points = tuple(replace(point, progress=progress(point.progress)) for point in record.points)
        return [judged_by(expectation, record, reference, missing=missing) for missing in ("error", "info")]

    return found


def test_what_a_run_lacks_is_an_error_that_shows_the_rest(verdicts):
    strict, lax = verdicts(BANDS, (100, 300))
    cause = f"the run has no checkpoint at step 200; it has 100, 300{ACCEPTED}"
    assert (strict.outcome, strict.cause) == ("error", cause)
    head = "cannot judge stable_rank at every checkpoint"
    assert strict.message.startswith(f"{head}: {cause}. Elsewhere stable_rank keeps")
    assert [(o.step, o.value, o.holds) for o in strict.observed] == [(100, 5, True), (300, 15, True)]
    assert (lax.outcome, lax.cause, lax.observed) == ("passed", "", strict.observed)
    assert lax.warnings == ("the run has no checkpoint at step 200; it has 100, 300",)


@pytest.mark.parametrize("level", ["error", "warn", "info"])
def test_a_violation_at_what_is_there_never_passes_for_what_is_not(verdicts, level):
    strict, lax = verdicts(f"{BANDS}level: {level}", (100, 300), {300: 99})
    violated = {"error": "failed", "warn": "warned", "info": "info"}[level]
    assert (strict.outcome, lax.outcome) == ("failed" if level == "error" else "error", violated)
    assert "the run has no checkpoint at step 200; it has 100, 300" in lax.warnings
    assert "99" in strict.message
    assert "step 200" in (strict.cause or strict.warnings[0])


@pytest.mark.parametrize("steps", [(10,), (150, 250), (400, 500)])
def test_a_run_without_any_of_the_checkpoints_is_an_error_in_any_case(verdicts, steps):
    for verdict in verdicts(BANDS, steps):
        assert (verdict.outcome, verdict.observed) == ("error", ())
        assert "no checkpoint at steps 100, 200, 300; it has" in verdict.cause


def test_a_run_that_goes_on_beyond_the_last_band_is_not_judged_by_the_others(verdicts):
    strict, lax = verdicts(BANDS, (100, 200, 300, 400), {400: math.inf})
    assert (strict.outcome, strict.cause) == (
        "error", f"no band judges step 400: the last is that of step 300{ACCEPTED}"
    )  # fmt: skip
    assert (lax.outcome, lax.warnings) == ("passed", ("no band judges step 400: the last is that of step 300",))


def test_checkpoints_between_bands_are_named(verdicts):
    for verdict in verdicts(BANDS, (50, 100, 150, 200, 300)):
        assert (verdict.outcome, verdict.warnings) == ("passed", ("no band judges steps 50, 150",))


def test_where_the_training_ended_is_told_with_what_is_missing(verdicts):
    strict, _ = verdicts(BANDS, (100, 200), progress=lambda share: 0.4 * share)
    said = "no checkpoint at step 300; it has 100, 200, and ended at step 200, 40% of the training that was planned"
    assert said in strict.cause


def test_bands_by_progress_are_judged_where_there_are_checkpoints(verdicts):
    bands = ", ".join(f"{{progress: {share}%, within: [1, 20]}}" for share in (20, 60, 100))
    strict, lax = verdicts(f"metric: stable_rank\nbands: [{bands}]", (20, 100))
    assert [o.step for o in strict.observed] == [20, 100]
    assert strict.cause.startswith("the run has no checkpoint near 60% of the training; it has 20 (20%), 100 (100%)")
    assert lax.outcome == "passed"
    strict, _ = verdicts("metric: stable_rank\nbands: [{progress: 20%, within: [1, 9]}]", (20, 100))
    assert strict.cause.startswith("no band judges step 100: the last is that of step 20")


@pytest.mark.parametrize(
    ("span", "steps", "lacking"),
    [
        ("{from: {step: 100}, to: {step: 300}}", (50, 200, 300), "at step 100; it has 50, 200, 300"),
        ("{from: {step: 100}, to: {step: 300}}", (100, 200, 400), "at step 300; it has 100, 200, 400"),
        ("{from: {step: 100}, to: {step: 300}}", (50, 200, 400), "at steps 100, 300; it has 50, 200, 400"),
        ("{from: {step: 100}}", (50, 200, 400), "at step 100; it has 50, 200, 400"),
    ],
)
def test_a_span_is_judged_as_far_as_its_ends_are_there(verdicts, span, steps, lacking):
    strict, lax = verdicts(f"metric: stable_rank\nabove: 4\nat: {span}", steps, {50: 1})
    assert (strict.outcome, lax.outcome) == ("error", "passed")
    assert strict.cause == f"the run has no checkpoint {lacking}{ACCEPTED}"
    assert min(o.step for o in strict.observed) >= 100
    assert max(o.step for o in strict.observed) <= (300 if "to" in span else 400)


@pytest.mark.parametrize("at", ["first", "last", "all", "{step: 200}", "{progress: 50%}", "{to: {progress: 50%}}"])
def test_looking_at_some_checkpoints_on_purpose_is_complete(verdicts, at):
    for verdict in verdicts(f"metric: stable_rank\nabove: 4\nat: {at}", (100, 200, 300, 400)):
        assert (verdict.outcome, verdict.cause, verdict.warnings) == ("passed", "", ())


@pytest.mark.parametrize("at", ["{step: 250}", "{from: {step: 250}, to: {step: 280}}"])
def test_one_checkpoint_that_is_not_there_is_an_error_in_any_case(verdicts, at):
    for verdict in verdicts(f"metric: stable_rank\nabove: 4\nat: {at}", (100, 200, 300)):
        assert (verdict.outcome, verdict.observed) == ("error", ())


def test_a_reference_is_compared_where_both_have_a_checkpoint(verdicts, make_record):
    reference = make_record(rank({}), steps=(100, 300), run="good")
    strict, lax = verdicts("metric: stable_rank\nlike: reference\ntolerance: 1", (100, 200, 300), reference=reference)
    cause = "reference 'good': no checkpoint matches step 200 (progress 67%): the nearest is step 100 at 33%"
    assert strict.outcome == "error"
    assert strict.cause.startswith(cause)
    assert [(o.step, o.reference) for o in strict.observed] == [(100, 5), (300, 15)]
    assert (lax.outcome, lax.observed) == ("passed", strict.observed)
    assert lax.warnings[0].startswith(cause)


def test_a_run_that_ends_before_its_reference_is_not_held_to_the_rest(verdicts, make_record):
    reference = make_record(rank({}), steps=(100, 200, 300), run="good")
    text = "metric: stable_rank\nlike: reference\ntolerance: 1"
    strict, lax = verdicts(text, (100, 200), progress=lambda share: share * 2 / 3, reference=reference)
    said = "reference 'good' has step 300, which no checkpoint of this run matches: it ends at step 200 (67%)"
    assert (strict.outcome, strict.cause) == ("error", said + ACCEPTED)
    assert (lax.outcome, lax.warnings) == ("passed", (said,))
    for at in ("first", "{progress: 67%}"):
        strict, _ = verdicts(f"{text}\nat: {at}", (100, 200), progress=lambda share: share * 2 / 3, reference=reference)
        assert strict.outcome == "passed"


def test_what_a_run_lacks_of_its_reference_on_the_way_is_named(verdicts, make_record):
    reference = make_record(rank({}), steps=(100, 200, 300), run="good")
    for verdict in verdicts("metric: stable_rank\nlike: reference\ntolerance: 1", (100, 300), reference=reference):
        said = "reference 'good' has step 200, which no checkpoint of this run matches"
        assert (verdict.outcome, verdict.warnings) == ("passed", (said,))


def test_a_comparison_that_fails_where_it_can_be_made_fails(verdicts, make_record):
    reference = make_record(rank({}), steps=(100, 300), run="good")
    text = "metric: stable_rank\nlike: reference\ntolerance: 1"
    strict, _ = verdicts(text, (100, 200, 300), {300: 99}, reference=reference)
    assert strict.outcome == "failed"
    assert "no checkpoint matches step 200" in strict.warnings[0]
