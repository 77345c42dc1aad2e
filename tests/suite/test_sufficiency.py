"""What a run that was confined to a channel kept of the free run's gain: judged, or refused with the reason."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest

import geomcheck
from geomcheck.checkpoints import Account
from geomcheck.record import read_record, write_record
from geomcheck.suite.conditions.parties import party_of
from geomcheck.suite.conditions.sufficiency import SUFFICIENCY
from geomcheck.suite.verdict import Unanswerable
from tests.confined import CHANCE, FREE, KEPT, LEARNED, RANDOM, Confined, family

KEYS = """
    metric: functional_sufficiency
    score: eval_accuracy
    free: free
    random: [random-0]
"""


def record_of(run):
    return geomcheck.measure(run, metrics=["stable_rank"], workers=1)


@pytest.fixture
def judge(suite_file, tmp_path):
    """The verdict on the run of a family, by KEYS and what is added to them."""

    def judged(added, *, keys=KEYS, record=None, reference=None, **parties):
        if record is None:
            record = record_of(family(tmp_path, **parties))
        lines = "".join(f"    {line}\n" for line in added.splitlines())
        path = suite_file(f"geomcheck: 1\nexpect:\n  - id: it{keys}{lines}")
        (verdict,) = geomcheck.load_suite(path).evaluate(record, reference)
        return verdict

    return judged


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("above: 85%", "passed"),
        ("above: 91%", "failed"),
        ("above: 85%\nat: {step: 20}", "passed"),
        ("above: 92%\nat: {step: 20}", "passed"),
        ("above: 92%\nat: all", "failed"),
        ("above: 0.85\nbelow: 95%", "passed"),
        ("below: 60%", "failed"),
        ("below: 60%\nlevel: warn", "warned"),
        ("above: 85%\nover_random: 39%", "passed"),
        ("above: 85%\nover_random: 41%", "failed"),
        ("above: 20%\nover_random: 0%", "passed"),
        ("above: 85%\nmin_gain: 0.4", "passed"),
        ("above: 85%\nstart: 0.1", "passed"),
        ("above: 82%\nsince: constraint", "passed"),  # (0.55 - 0.3) / (0.6 - 0.3) = 0.8333
        ("above: 84%\nsince: constraint", "failed"),
    ],
)
def test_conditions(judge, condition, outcome):
    assert judge(condition).outcome == outcome


def test_what_the_verdict_says(judge):
    verdict = judge("above: 95%\nover_random: 5%")
    assert verdict.message == (
        "functional_sufficiency left value > 95%, and more than 5 points above random channels at step 30: 90% of the "
        "free run's gain in eval_accuracy is kept inside K = 4 directions learned by step 10, the random channel keeps "
        "50% (0.1 to 0.55; free 0.6)"
    )
    (observed,) = verdict.observed
    assert (observed.step, observed.holds) == (30, False)
    assert observed.value == pytest.approx((0.55 - 0.1) / (0.6 - 0.1))
    assert observed.random == pytest.approx(0.5)
    assert [w.weight.rsplit("/")[-1] for w in verdict.worst] == ["run (learned, K = 4)", "random-0 (random, K = 4)"]
    assert [w.value for w in verdict.worst] == pytest.approx([0.9, 0.5])
    facts = verdict.to_dict()
    assert (facts["unit"], facts["percent"], facts["bounds"]) == ("fraction", True, {"low": 0.95, "high": None})
    assert facts["observed"][0]["random"] == pytest.approx(0.5)
    assert facts["params"] == {
        "score": "eval_accuracy", "better": "higher", "since": "start", "free": "free", "random": ["random-0"]
    }  # fmt: skip


def test_every_judged_checkpoint_after_the_start_counts(judge):
    verdict = judge("above: 85%\nat: all")
    assert [o.step for o in verdict.observed] == [20, 30]
    assert [o.value for o in verdict.observed] == pytest.approx([0.95, 0.9])


def test_the_best_control_is_what_must_be_exceeded(judge):
    better = replace(RANDOM, seed=1)
    randoms = (Confined(scores=CHANCE, constraint=RANDOM), Confined(scores={**CHANCE, 30: 0.52}, constraint=better))
    keys = KEYS.replace("[random-0]", "[random-0, random-1]")
    verdict = judge("above: 85%\nover_random: 10%", keys=keys, randoms=randoms)
    assert verdict.outcome == "failed"  # 90% against 84%; the mean control keeps 67%
    assert "the best of 2 random channels keeps 84%" in verdict.message


def test_above_asks_for_more_than_random_by_itself(judge):
    as_good = Confined(scores=KEPT, constraint=RANDOM)
    assert judge("above: 85%", randoms=(as_good,)).outcome == "failed"
    assert judge("above: 85%\nover_random: 0%", randoms=(as_good,)).outcome == "failed"


def test_a_loss(judge):
    free, kept, chance = ({step: 1 - value for step, value in scores.items()} for scores in (FREE, KEPT, CHANCE))
    verdict = judge(
        "above: 85%\nbetter: lower",
        keys=KEYS.replace("eval_accuracy", "eval_loss"),
        own=Confined(scores=kept, constraint=LEARNED, score="eval_loss"),
        free=Confined(scores=free, score="eval_loss"),
        randoms=(Confined(scores=chance, constraint=RANDOM, score="eval_loss"),),
    )
    assert verdict.outcome == "passed"
    assert verdict.observed[0].value == pytest.approx(0.9)


def test_since_the_constraint_each_run_is_measured_by_its_own_score_there(judge):
    verdict = judge(
        "above: 80%\nsince: constraint",
        own=Confined(scores={10: 0.32, 30: 0.55}, constraint=LEARNED),  # not evaluated before training
        randoms=(Confined(scores={10: 0.28, 30: 0.4}, constraint=RANDOM),),
    )
    assert verdict.outcome == "failed"
    assert verdict.observed[0].value == pytest.approx(0.23 / 0.3)
    assert verdict.observed[0].random == pytest.approx(0.12 / 0.3)
    assert "76.67% of the free run's gain in eval_accuracy since step 10 is kept" in verdict.message
    assert "(0.32 to 0.55; free 0.3 to 0.6)" in verdict.message


def own(**changes):
    return {"own": Confined(**{"scores": KEPT, "constraint": LEARNED, **changes})}


def free(**changes):
    return {"free": Confined(**{"scores": FREE, **changes})}


def control(**changes):
    return {"randoms": (Confined(**{"scores": CHANCE, "constraint": RANDOM, **changes}),)}


REFUSED = [
    (own(constraint=None), "run 'run' was not constrained: none of its 3 checkpoints has a geomcheck_constraint.json"),
    (own(unsaid=(30,)), "run 'run' was not constrained at step 30: its checkpoint has no geomcheck_constraint.json"),
    (own(unsaid=(20,)), "run 'run' was not constrained at step 20"),
    (own(constraint=RANDOM), "run 'run' has a random channel, where a learned one is expected"),
    (own(constraint=replace(LEARNED, start_step=30)), "was not constrained: none of its 3"),
    (own(constraint=replace(LEARNED, k=16)), "K = 16 spans all 16 input directions of model.layers.0"),
    (own(constraint=replace(LEARNED, weights=2)), "only 2 weights were confined, and 3 are selected: the others"),
    (own(scores={10: 0.3, 30: 0.5}), "has no eval_accuracy at step 0; it has steps 10, 30; evaluate before training"),
    (own(scores={0: 0.1, 29: 0.5}), "run 'run' has no eval_accuracy at step 30; it has steps 0, 29"),
    (own(score="eval_f1"), "run 'run' has no score `eval_accuracy`; it has: eval_f1"),
    (own(scores={**KEPT, 30: math.nan}), "eval_accuracy of run 'run' at step 30 is nan, not a number"),
    (own(scores={**KEPT, 30: math.inf}), "at step 30 is inf, not a number"),
    (own(scores={**KEPT, 0: 0.2}), "the runs do not start alike: eval_accuracy at step 0 is 0.2 in run 'run'"),
    (free(constraint=LEARNED), "was not free: its checkpoint at step 20 has a geomcheck_constraint.json"),
    (
        free(scores={**FREE, 30: 0.1}),
        "the free run gained 0 in eval_accuracy by step 30 (0.1 to 0.1): there is no gain",
    ),
    (free(scores={**FREE, 30: 0.05}), "the free run gained -0.05"),
    (
        free(scores={0: 0.1, 10: 0.3, 20: 0.5}, steps=(10, 20)),
        "has no eval_accuracy at step 30; it has steps 0, 10, 20",
    ),
    (free(scores={**FREE, 30: -math.inf}), "is -inf, not a number"),
    (control(constraint=None), "random-0 was not constrained: none of its 3"),
    (control(constraint=LEARNED), "random-0 has a learned channel, where a random one is expected"),
    (control(constraint=replace(RANDOM, k=8)), "random-0 is no control: its k is 8, and the run's is 4"),
    (control(constraint=replace(RANDOM, start_step=0)), "is no control: its start_step is 0, and the run's is 10"),
    (control(constraint=replace(RANDOM, how="step")), "is no control: its how is step, and the run's is gradient"),
    (control(steps=(10, 20)), "has no checkpoint at step 30 or later that says that it was constrained"),
    (control(scores={**CHANCE, 0: 0.12}), "the runs do not start alike"),
]


@pytest.mark.parametrize(("parties", "reason"), REFUSED)
def test_what_is_no_test_is_an_error(judge, parties, reason):
    verdict = judge("above: 85%", **parties)
    assert verdict.outcome == "error"
    assert reason in verdict.message
    assert verdict.observed == ()


@pytest.mark.parametrize("parties", [own(constraint=None), control(constraint=None), free(constraint=LEARNED)])
def test_so_it_is_where_less_is_demanded(judge, parties):
    assert judge("below: 99%", **parties).outcome == "error"


def test_a_constraint_that_changes_along_the_run(judge, tmp_path):
    run = family(tmp_path)
    replace(LEARNED, k=5).write(run / "checkpoint-30")
    assert "changed its constraint along the run" in judge("above: 85%", record=record_of(run)).message
    replace(LEARNED, source="resumed from checkpoint-20").write(run / "checkpoint-30")
    assert judge("above: 85%", record=record_of(run)).outcome == "passed"


def test_a_start_that_no_run_scored(judge, tmp_path):
    """Far below, it would turn any two scores into a share of nearly 100%."""
    message = judge("above: 85%\nstart: -100").message
    assert "`start` is -100, but before training the runs scored 0.1 to 0.1 in eval_accuracy; remove" in message
    assert judge("above: 85%\nstart: 0.2", record=record_of(tmp_path / "run")).outcome == "error"


@pytest.mark.parametrize(("condition", "outcome"), [("above: 88%", "failed"), ("above: 87%", "passed")])
def test_a_start_where_the_runs_were_not_evaluated_before_or_differ(judge, condition, outcome):
    """(0.55 - 0.2) / (0.6 - 0.2) = 0.875"""
    later = {key: value for key, value in CHANCE.items() if key}
    starts = own(scores={**KEPT, 0: 0.1}), free(scores={**FREE, 0: 0.3}), control(scores=later)
    parties = {key: value for part in starts for key, value in part.items()}
    assert judge(f"{condition}\nstart: 0.2", **parties).outcome == outcome


def test_a_constraint_that_was_copied_into_an_earlier_checkpoint(judge, tmp_path):
    run = family(tmp_path, own=Confined(scores=KEPT), **control(constraint=replace(RANDOM, start_step=15)))
    for step in (10, 20, 30):
        replace(LEARNED, start_step=15).write(run / f"checkpoint-{step}")
    message = judge("above: 85%", record=record_of(run)).message
    assert "run 'run' says at step 10 that it is constrained, and that it is so since step 15" in message


def test_a_copy_of_the_free_run_that_says_it_was_constrained(judge):
    message = judge("above: 85%", **own(scores=FREE)).message
    assert "agree exactly in all 2 scores after step 10: one is a copy of the other" in message


def test_scores_that_agree_at_one_step_only(judge):
    assert judge("above: 85%", **own(scores={**KEPT, 30: FREE[30]})).outcome == "passed"


def test_a_free_run_must_say_so(judge, tmp_path):
    record = record_of(family(tmp_path, own=Confined(scores=KEPT, constraint=LEARNED)))
    for step in (20, 30):
        shutil.rmtree(tmp_path / "free" / f"checkpoint-{step}")
    listed = {str(step): {"eval_accuracy": value} for step, value in FREE.items()}
    (tmp_path / "free" / "scores.json").write_text(json.dumps(listed))
    message = judge("above: 85%", record=record).message
    assert "has no checkpoint after step 10, where the constraint began, to say that it was free" in message


def test_before_the_constraint_there_is_nothing_to_judge(judge):
    assert "the constraint began at step 10, and no later checkpoint is judged" in judge("above: 1%\nat: first").message


def test_a_gain_below_what_is_asked(judge):
    assert "not above `min_gain` 0.5" in judge("above: 85%\nmin_gain: 0.5").message


def test_two_controls_of_one_seed(judge):
    twins = (Confined(scores=CHANCE, constraint=RANDOM),) * 2
    verdict = judge("above: 85%", keys=KEYS.replace("[random-0]", "[random-0, random-1]"), randoms=twins)
    assert "drew the same channel (seed 0); keep one" in verdict.message


def test_files_that_cannot_be_read(judge, tmp_path):
    run = family(tmp_path)
    (tmp_path / "free" / "scores.json").write_text("[]")
    assert "a list at the top level" in judge("above: 85%", record=record_of(run)).message
    shutil.rmtree(tmp_path / "free")
    assert "free does not exist" in judge("above: 85%", record=record_of(run)).message
    (tmp_path / "free").write_text("no record")
    assert "not a readable record" in judge("above: 85%", record=record_of(run)).message


def test_records_instead_of_runs(judge, tmp_path):
    """Of all that take part; the run's weights are measured for nothing but themselves."""
    run = family(tmp_path)
    Confined(scores=FREE).write_whole(tmp_path / "free")
    Confined(scores=CHANCE, constraint=RANDOM).write_whole(tmp_path / "random-0")
    for name in ("run", "free", "random-0"):
        write_record(record_of(tmp_path / name), tmp_path / f"{name}.parquet")
        shutil.rmtree(tmp_path / name)
    keys = KEYS.replace("free: free", "free: free.parquet").replace("random-0", "random-0.parquet")
    verdict = judge("above: 85%", keys=keys, record=read_record(tmp_path / "run.parquet"))
    assert verdict.outcome == "passed", verdict.message
    assert not run.exists()


def test_scores_and_constraints_survive_in_records(tmp_path):
    run = family(tmp_path, **own(scores={**KEPT, 20: math.nan, 30: -math.inf}))
    (run / "scores.json").write_text("[")
    record = record_of(run)
    write_record(record, tmp_path / "record.parquet")
    found = read_record(tmp_path / "record.parquet").account
    assert repr(found) == repr(record.account)  # NaN is not equal to itself
    assert found.constraints == {10: None, 20: LEARNED, 30: LEARNED}
    assert len(found.faults) == 1


def test_a_record_of_before_there_were_scores(judge, tmp_path):
    record = record_of(family(tmp_path))
    record.account = None
    write_record(record, tmp_path / "old.parquet")
    old = read_record(tmp_path / "old.parquet")
    assert old.account is None
    message = judge("above: 85%", record=old).message
    assert "run 'run' is a record that an older geomcheck wrote, without scores; measure the run again" in message


def test_the_reference_is_the_free_run_where_none_is_named(judge, tmp_path):
    record = record_of(family(tmp_path))
    keys = KEYS.replace("    free: free\n", "")
    assert "name it with `free: PATH` or --geom-reference=PATH" in judge("above: 85%", keys=keys, record=record).message
    reference = record_of(Confined(scores=FREE).write_whole(tmp_path / "whole"))
    assert judge("above: 85%", keys=keys, record=record, reference=reference).outcome == "passed"


def test_paths_count_from_the_file_that_names_them(suite_file, tmp_path):
    record = record_of(family(tmp_path / "runs"))
    parent = KEYS.replace("free: free", "free: ../runs/free").replace("random-0", "../runs/random-0")
    suite_file(f"geomcheck: 1\nexpect:\n  - id: it{parent}    above: 85%\n", "parents/parent.yaml")
    child = suite_file(
        "geomcheck: 1\nextends: ./parents/parent.yaml\nexpect:\n  - id: it\n    above: 91%\n", "child.yaml"
    )
    (verdict,) = geomcheck.load_suite(child).evaluate(record)
    assert verdict.outcome == "failed", verdict.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (KEYS, "expectation `it` has no condition; give `above`, `below` or both"),
        (KEYS + "    below: 60%\n    over_random: 5%\n", "`over_random` goes with `above`"),
        (KEYS + "    above: 60%\n    below: 50%\n", "can never hold"),
        (KEYS + "    above: 60 deg\n", "`above`: `60 deg` has the unit `deg`"),
        (KEYS + "    above: 60%\n    over_random: -5%\n", "`over_random`: a margin above random"),
        (KEYS + "    above: 60%\n    min_gain: -1\n", "`min_gain`: a gain that is asked for is not negative"),
        (KEYS + "    above: 60%\n    better: more\n", "`better`: found `more`; allowed: higher, lower"),
        (KEYS + "    above: 60%\n    start: .nan\n", "`start`"),
        (KEYS.replace("accuracy", "loss") + "    above: 60%\n", "`eval_loss` looks like a score that falls"),
        (KEYS + "    above: 60%\n    k: 4\n", "unknown key `k` in expectation `it`"),
        (KEYS + "    within: [1, 2]\n", "unknown key `within`"),
        (KEYS + "    above: 60%\n    start: 0.1\n    since: constraint\n", "`start` is not looked at"),
        (KEYS.replace("    random: [random-0]\n", "    above: 1%\n"), "expectation `it` needs `random`"),
        (KEYS.replace("[random-0]", "[]") + "    above: 1%\n", "`random`: expected a path, or a list of them"),
        (KEYS.replace("[random-0]", "[a, a]") + "    above: 1%\n", "`random`: a control is named twice"),
        (KEYS.replace("    score: eval_accuracy\n", "") + "    above: 1%\n", "needs `score`"),
        (KEYS.replace("sufficiency", "sufficient") + "    above: 1%\n", "did you mean `functional_sufficiency`"),
    ],
)
def test_what_a_suite_may_not_say(refusals, text, problem):
    assert any(problem in found for found in refusals(f"geomcheck: 1\nexpect:\n  - id: it{text}"))


def test_it_measures_nothing(suite_file, tmp_path):
    record = record_of(family(tmp_path))
    suite = geomcheck.load_suite(suite_file(f"geomcheck: 1\nexpect:\n  - id: it{KEYS}    above: 85%\n"))
    (expectation,) = suite.expectations
    assert expectation.metric == SUFFICIENCY
    assert not expectation.compares
    assert suite.requests(record) == {}
    assert {path.name for path in suite.parties} == {"free", "random-0"}


def test_it_needs_a_reference_where_no_free_run_is_named(suite_file):
    keys = KEYS.replace("    free: free\n", "")
    (stated,) = geomcheck.load_suite(
        suite_file(f"geomcheck: 1\nexpect:\n  - id: it{keys}    above: 85%\n")
    ).expectations
    assert stated.compares


@pytest.mark.parametrize(
    ("faults", "told"), [(("a",), "free: a"), (("a", "b"), "free: a (and 1 more)"), (("a", "b", "c"), "a (and 2 more)")]
)
def test_the_first_fault_of_an_account_is_told_and_the_others_counted(faults, told):
    with pytest.raises(Unanswerable) as caught:
        party_of("free", "free", Account(faults=faults))
    assert str(caught.value).endswith(told)
