"""What a calibrated suite knows of its good runs is held, told once, and can be deleted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from geomcheck.checkpoints.formats import adapter
from geomcheck.errors import SuiteError
from geomcheck.record import Record
from geomcheck.suite import Suite, judge, load_suite
from geomcheck.suite.due import due
from geomcheck.suite.good_runs import GoodRuns
from geomcheck.suite.language.places import Training
from geomcheck.suite.language.quantities import Refusal
from geomcheck.suite.language.selection import Selection

ATTENTION = Selection("attention")
FIGURES = """figures: |
  rank: mean stable_rank of attention
    100 [4, 6] 5 5.1
    200 [9, 11] 10 10.1
    300 [14, 16] 15 15.1
"""
SUITE = """
geomcheck: 1
weights: attention
expect:
  - id: rank
    metric: stable_rank
    bands: [{step: 100, within: [4, 6]}, {step: 200, within: [9, 11]}, {step: 300, within: [14, 16]}]
  - {id: end, metric: stable_rank, within: [14, 16], at: {step: 300}}
calibrated:
"""
Change = Callable[[Record], Record]


@pytest.fixture
def good(make_record) -> Record:
    record = make_record({("stable_rank", "value"): lambda step, _: step / 20})
    record.weights = {n: replace(w, dtypes=("bf16", "fp32")) for n, w in record.weights.items()}
    return replace(record, w0=dict.fromkeys(record.weights, "aa"))


@pytest.fixture
def suite(load, good) -> Suite:
    held = GoodRuns.of([good], ATTENTION).text
    return load(SUITE + "".join(f"  {line}\n" for line in [*held, "runs: [a, b]", *FIGURES.splitlines()]))


def _another_w0(record: Record) -> Record:
    return replace(record, w0=dict.fromkeys(record.weights, "bb"))


def _w0_in_fp32(record: Record) -> Record:
    weights = {name: replace(weight, dtypes=("fp32", "fp32")) for name, weight in record.weights.items()}
    return replace(_another_w0(record), weights=weights)


def _unknown_w0(record: Record) -> Record:
    return replace(record, w0={})


def _adapter(record: Record) -> Record:
    return replace(record, layout=adapter.LAYOUT)


def _fewer(record: Record) -> Record:
    gone = next(name for name in record.weights if "k_proj" in name)
    return replace(record, weights={name: weight for name, weight in record.weights.items() if name != gone})


def _other_shape(record: Record) -> Record:
    name = next(name for name in record.weights if "k_proj" in name)
    return replace(record, weights={**record.weights, name: replace(record.weights[name], shape=(16, 64))})


CHANGES = [
    (_another_w0, "w0", "not the W0 of the calibration: /base has the content"),
    (_w0_in_fp32, "w0", "not known to be from the W0 of the calibration: /base is stored as fp32, and that W0 as bf16"),
    (_unknown_w0, "w0", "not known to be from the W0 of the calibration: the record does not hold"),
    (_adapter, "layout", "not what was trained in the calibration: this run is of an adapter"),
    (_fewer, "weights", "not the weights of the calibration: this run has 3 (attention), and the good runs had 4"),
    (_other_shape, "weights", "not the weights of the calibration: this run has 4 of other names or shapes"),
]


def test_a_run_like_the_good_ones_is_judged(suite, good):
    assert {verdict.outcome for verdict in suite.evaluate(good)} == {"passed"}


@pytest.mark.parametrize(("change", "key", "said"), CHANGES)
def test_a_run_that_differs_is_an_error_of_each_expectation_with_one_cause(suite, good, change: Change, key, said):
    verdicts = suite.evaluate(change(good))
    assert {verdict.outcome for verdict in verdicts} == {"error"}
    (cause,) = {verdict.cause for verdict in verdicts}
    assert cause.startswith(said)
    assert f"delete `{key}` under `calibrated`" in cause


@pytest.mark.parametrize(("change", "key", "said"), CHANGES)
def test_a_key_that_is_deleted_is_no_longer_held(load, good, change: Change, key, said):
    held = [line for line in GoodRuns.of([good], ATTENTION).text if not line.startswith(key)]
    loosened = load(SUITE + "".join(f"  {line}\n" for line in held))
    assert said not in " ".join(verdict.cause for verdict in loosened.evaluate(change(good)))


def test_across_bases_w0_is_not_held(good):
    assert GoodRuns.of([good, _another_w0(good)], ATTENTION, across_bases=True).difference(_another_w0(good)) == ""


def test_a_training_in_memory_does_not_tell_what_will_be_saved(suite, good):
    live = replace(good, layout="live parameters")
    assert {verdict.outcome for verdict in suite.evaluate(live)} == {"passed"}


def test_w0_of_all_weights_of_the_suite_is_read_whichever_expectation_is_asked(suite, good):
    (of_one, _) = suite.expectations
    narrow = replace(of_one, weights=Selection(include=("*q_proj*",)))
    assert {name for name in good.weights if "self_attn" in name} == narrow.requests(good).keys()


def test_a_suite_that_extends_it_holds_it_too(suite_file, good):
    held = GoodRuns.of([good], ATTENTION).text
    suite_file(SUITE + "".join(f"  {line}\n" for line in held), "base.yaml")
    child = load_suite(suite_file("geomcheck: 1\nextends: ./base.yaml\nweights: mlp\n", "child.yaml"))
    assert {verdict.outcome for verdict in child.evaluate(_another_w0(good))} == {"error"}
    assert child.good is not None
    assert child.good.difference(good) == ""


def at_share(record: Record, steps: tuple[int, ...], total: int) -> Record:
    """The record with its checkpoints at other steps, of a training of `total`."""
    by_step = dict(zip((p.step for p in record.points), steps, strict=True))
    points = tuple(replace(p, step=by_step[p.step], progress=by_step[p.step] / total) for p in record.points)
    columns = {}
    for key, column in record.columns.items():
        columns[key] = type(column).of({(by_step[s], w): figure for (s, w), figure in column.figures.items()})
    return replace(record, points=points, columns=columns)


def test_a_training_of_half_the_length_is_judged_by_progress_and_says_so(suite, good):
    rank, end = suite.evaluate(at_share(good, (50, 100, 150), 150))
    assert (rank.outcome, end.outcome) == ("passed", "passed")
    assert [(o.step, o.band) for o in rank.observed] == [(50, (4, 6)), (100, (9, 11)), (150, (14, 16))]
    said = "the training is of 150 steps, and that of the good runs was of 300: it is judged by progress, "
    assert rank.warnings == (f"{said}step 50 as step 100, step 100 as step 200, step 150 as step 300",)
    assert end.warnings == (f"{said}step 150 as step 300",)


def test_a_longer_training_with_the_same_steps_is_judged_by_step(suite, good):
    rank, _ = suite.evaluate(at_share(good, (100, 200, 300), 600))
    assert rank.outcome == "passed"
    assert rank.warnings[0] == "the training is of 600 steps, and that of the good runs was of 300"


def test_a_run_that_was_cut_short_is_not_taken_for_a_short_training(suite, good):
    cut = replace(good, points=(replace(good.points[0], progress=1.0),))
    rank, end = suite.evaluate(cut)
    assert (rank.outcome, end.outcome) == ("error", "error")
    assert "no checkpoint at step 300" in end.message


def test_a_checkpoint_nearby_is_not_the_same_share_of_the_training(suite, good):
    near = at_share(good, (48, 97, 148), 150)
    assert suite.evaluate(near)[0].outcome == "error"


def test_while_a_run_of_another_length_goes_on_it_waits(suite, good):

    points = at_share(good, (150, 300, 450), 600).points
    assert due(suite.expectations[0], points, finished=False).waits_for.startswith(
        "the end: the training is of another"
    )
    assert due(suite.expectations[0], good.points, finished=False).waits_for == ""


def test_it_survives_its_text(load, good):
    held = replace(GoodRuns.of([good], ATTENTION), rule="range 10%", runs=("it's", "b: [", "c\n"))
    figures = (
        "figures: |\n  rank: mean stable_rank of attention\n    100 [4, 6] 1 2 3\n    last [4%, 6%] 1e-09 0.5 -2\n"
    )
    again = load(SUITE + "".join(f"  {line}\n" for line in [*held.text, *figures.splitlines()])).good
    assert (again.w0, again.weights, again.layout, again.steps, again.rule) == (
        *(held.w0, held.weights, "whole model", 300, "range 10%"),
    )
    assert again.runs == ("it's", "b: [", "c?")
    assert again.text[-4:] == figures.splitlines()
    assert again.training == Training(300, (100,))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("x", "expected what `geomcheck calibrate` writes; found `x`"),
        ({"weigths": "x"}, "unknown key; allowed: w0, weights.*did you mean `weights`"),
        ({"w0": "bf16"}, "such as `bf16 blake3:0123456789abcdef`"),
        ({"w0": 3}, "found `3`"),
        ({"weights": "many 0123456789abcdef"}, "expected what"),
        ({"layout": "lora"}, "such as `whole model`"),
        ({"steps": 0}, "such as `150`"),
        ({"steps": True}, "such as `150`"),
        ({"runs": "a"}, "expected what"),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] x\n"}, "line 2 is no line that"),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] 1 --2\n"}, "line 2: `--2` is no number"),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] nan\n"}, "line 2: `nan` is no number"),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] -inf\n"}, "line 2: `-inf` is no number"),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] 1e308\n"}, 'line 2: `"1e308"` is no number'),
        ({"runs": ["a"], "figures": "a: b\n  30 [1, 2] 1 2\n"}, "step 30 has 2 figures, and there are 1 run"),
        ({"runs": ["a"], "figures": "  30 [1, 2] 1\n"}, "line 1 is no line"),
        ({"figures": ["a"]}, "expected what"),
    ],
)
def test_what_is_wrong_with_it_is_said(raw, said):
    with pytest.raises(Refusal, match=said):
        GoodRuns.parse(raw)


def test_a_mistake_is_told_with_its_line(load):
    with pytest.raises(SuiteError, match=re.escape("suite.yaml:10:7: `calibrated`: expected what")):
        load(SUITE + "  w0: x\n")


def test_early_judgement_holds_it_too(suite, good):
    assert judge(suite.expectations[0], _another_w0(good), ended=False).outcome == "error"
