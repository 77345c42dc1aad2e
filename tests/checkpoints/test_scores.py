"""What runs say of themselves beside their weights, read from files that nobody vouches for."""

from __future__ import annotations

import json
import math
import shutil

import pytest

import geomcheck
from geomcheck.checkpoints import open_account
from geomcheck.checkpoints.constraint import Constraint
from geomcheck.errors import NoCheckpoint
from tests.runs import simple_run

LEARNED = Constraint("learned", 4, 10, "gradient", "free", None, "the run itself at step 10", 14)


def slim(run, log, steps=(10, 20), constraint=None):
    """Checkpoints without weights: what a control run may be reduced to."""
    for step in steps:
        place = run / f"checkpoint-{step}"
        place.mkdir(parents=True)
        entries = [entry for entry in log if entry["step"] <= step]
        state = {"global_step": step, "max_steps": max(steps), "log_history": entries}
        (place / "trainer_state.json").write_text(json.dumps(state))
        if constraint is not None and step > constraint.start_step:
            constraint.write(place)
    return run


LOG = [
    {"step": 0, "eval_accuracy": 0.125, "eval_loss": 2.0, "eval_runtime": 1.5},
    {"step": 5, "loss": 1.0, "grad_norm": math.nan},
    {"step": 10, "eval_accuracy": 0.25},
    {"step": 20, "eval_accuracy": 0.5, "eval_note": "fine", "eval_flag": True},
]


def test_evaluations_of_a_run_without_weights(tmp_path):
    account = open_account(slim(tmp_path / "run", LOG, constraint=LEARNED))
    assert account.scores["eval_accuracy"] == {0: 0.125, 10: 0.25, 20: 0.5}
    assert set(account.scores) == {"eval_accuracy", "eval_loss"}
    assert account.constraints == {10: None, 20: LEARNED}
    assert account.faults == ()


def test_an_opened_run_carries_the_same(tmp_path):
    run = simple_run(tmp_path / "run", (10, 20))
    shutil.copytree(slim(tmp_path / "slim", LOG), run, dirs_exist_ok=True)
    LEARNED.write(run / "checkpoint-20")
    opened = geomcheck.open_run(run)
    assert opened.account == open_account(run)
    assert opened.account.scores["eval_accuracy"] == {0: 0.125, 10: 0.25, 20: 0.5}
    assert opened.account.constraints == {10: None, 20: LEARNED}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("scores.json", '{"0": {"accuracy": 0.125}, "20": {"accuracy": 1, "f1": 0.25}}'),
        ("scores.csv", "step,accuracy,f1\n0,0.125,\n20,1,0.25\n"),
    ],
)
def test_a_scores_file(tmp_path, name, text):
    run = slim(tmp_path / "run", LOG)
    (run / name).write_text(text)
    account = open_account(run)
    assert account.scores["accuracy"] == {0: 0.125, 20: 1.0}
    assert account.scores["f1"] == {20: 0.25}
    assert account.scores["eval_accuracy"][20] == 0.5
    assert account.faults == ()


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("scores.json", "{", "no scores by step"),
        ("scores.json", "[1]", "a list at the top level"),
        ("scores.json", '{"last": {"accuracy": 1}}', "'last' is no step"),
        ("scores.json", '{"-1": {"accuracy": 1}}', "'-1' is no step"),
        ("scores.json", '{"1": 0.5}', "'1' has a float"),
        ("scores.json", '{"1": {"accuracy": "high"}}', "'accuracy' at '1' is no number"),
        ("scores.json", '{"1": {"accuracy": true}}', "is no number"),
        ("scores.json", "[" * 100_000, "no scores by step"),
        ("scores.csv", "steps,accuracy\n1,2\n", "no column `step`"),
        ("scores.csv", "step,accuracy\n1,high\n", "could not convert"),
        ("scores.json", '{"30": {"accuracy": 0.1, "accuracy": 0.9}}', "the key 'accuracy' is there twice"),
        ("scores.json", '{"30": {"accuracy": 0.1}, "30": {"accuracy": 0.9}}', "the key '30' is there twice"),
        ("scores.csv", "step,accuracy,accuracy\n30,0.1,0.9\n", "a column is there twice"),
        ("scores.csv", "", "no column `step`"),
        ("scores.json", '{"20": {"eval_accuracy": 0.75}}', "eval_accuracy at step 20 is 0.75, and 0.5 elsewhere"),
    ],
)
def test_what_cannot_be_read_is_a_fault_and_refuses_no_run(tmp_path, name, text, fault):
    run = slim(tmp_path / "run", LOG)
    (run / name).write_text(text)
    account = open_account(run)
    assert any(fault in found for found in account.faults), account.faults
    assert account.scores["eval_accuracy"][20] == 0.5


def test_two_scores_files_a_damaged_constraint_a_link_out(tmp_path):
    run = slim(tmp_path / "run", LOG)
    (run / "scores.json").write_text("{}")
    (run / "scores.csv").write_text("step\n")
    (run / "checkpoint-20" / "geomcheck_constraint.json").write_text('{"format": 1}')
    (tmp_path / "state.json").write_text("{}")
    (run / "trainer_state.json").symlink_to(tmp_path / "state.json")
    faults = open_account(run).faults
    assert len(faults) == 3
    assert "scores.json and scores.csv; keep one" in "\n".join(faults)
    assert "outside" in "\n".join(faults)


def test_literals_that_are_no_numbers_stay_what_they_are(tmp_path):
    run = slim(tmp_path / "run", [{"step": 20, "eval_accuracy": math.nan, "eval_loss": -math.inf, "eval_n": 10**400}])
    scores = open_account(run).scores
    assert math.isnan(scores["eval_accuracy"][20])
    assert (scores["eval_loss"][20], scores["eval_n"][20]) == (-math.inf, math.inf)
    assert open_account(run).faults == ()  # NaN does not contradict NaN


@pytest.mark.parametrize("step", ["1e400", "NaN", "true", '"20"', "null", "-1", "[1]", "20.5"])
def test_an_evaluation_of_no_step_is_a_fault(tmp_path, step):
    run = slim(tmp_path / "run", LOG)
    log = f'{{"eval_accuracy": 0.9, "step": {step}}}'
    (run / "trainer_state.json").write_text(f'{{"log_history": [{{"loss": 1, "step": {step}}}, {log}]}}')
    (fault,) = open_account(run).faults
    assert "trainer_state.json: 'eval_accuracy' is logged at step " in fault


def test_scores_are_bounded_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr("geomcheck.checkpoints.scores.MAX_SCORES", 3)
    run = slim(tmp_path / "run", LOG)  # four
    account = open_account(run)
    assert sum(map(len, account.scores.values())) == 3
    (fault,) = account.faults
    assert "checkpoint-20/trainer_state.json: more than 3 scores in all" in fault


@pytest.mark.parametrize("value", ["{}", "[]", "1", '"x"'])
def test_a_file_of_more_values_than_any_has_is_not_parsed(tmp_path, value):
    run = slim(tmp_path / "run", LOG, steps=())
    run.mkdir()
    for name in ("trainer_state.json", "scores.json"):
        (run / name).write_text('{"log_history": [' + ",".join([value] * 3_100_000) + "]}")
        (fault,) = open_account(run).faults
        assert "values, more than the 3000000 that such a file can need" in fault
        (run / name).unlink()


def test_an_evaluation_that_was_repeated_takes_another_time(tmp_path):
    speed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
    run = slim(tmp_path / "run", [{"step": 20, "eval_accuracy": 0.5, **dict.fromkeys(speed, 1.0)}])
    again = {"step": 20, "eval_accuracy": 0.5, **dict.fromkeys(speed, 2.0)}
    (run / "trainer_state.json").write_text(json.dumps({"log_history": [again]}))
    account = open_account(run)
    assert account.faults == ()
    assert account.scores == {"eval_accuracy": {20: 0.5}}


def test_a_state_that_only_the_run_itself_has(tmp_path):
    """As `Trainer.save_state` leaves it."""
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": LOG}))
    assert open_account(tmp_path).scores["eval_accuracy"] == {0: 0.125, 10: 0.25, 20: 0.5}


def test_no_run(tmp_path):
    with pytest.raises(NoCheckpoint, match="does not exist"):
        open_account(tmp_path / "nothing")
    with pytest.raises(NoCheckpoint, match="no checkpoint directory and no scores"):
        open_account(tmp_path)
