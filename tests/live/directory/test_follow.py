"""Following directories that grow, shrink, stall and break."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from contextlib import closing, nullcontext

import pytest
from safetensors.torch import load_file, save_file

from geomcheck.errors import NoCheckpoint, RunError, UsageError
from geomcheck.live.directory import Code, FollowedRun, Pace, follow
from geomcheck.measurement import Cache, Resources
from geomcheck.record import read_record, write_record
from geomcheck.suite import load_suite
from tests.runs import Q, age, base_weights, moved, simple_run, write_model, write_run

STEPS = (10, 20, 30, 40, 50)
HEAD = "geomcheck: 1\nexpect:\n"
RANK = "  - {id: rank, metric: stable_rank, below: 15}\n"
LAST = "  - {id: last, metric: relative_update_norm, below: 90%, at: last}\n"


class Script:
    """Does the next thing whenever nothing is new; fails a test in which it would wait for ever."""

    def __init__(self, *acts):
        self.acts = list(acts)
        self.reasons = []
        self.snapshots = []

    def show(self, run):
        return nullcontext(lambda done, total: None)

    def waits(self, reason):
        self.reasons.append(reason)
        if not self.acts:
            raise AssertionError(f"nothing more happens, and it waits: {reason}")
        self.acts.pop(0)()

    def took(self, snapshot):
        self.snapshots.append(snapshot)

    @property
    def standings(self):
        """Of each snapshot, its steps and how each expectation stands."""
        return [
            (
                [p.step for p in snapshot.record.points],
                [(e.standing, e.verdict and e.verdict.outcome) for e in snapshot.entries],
            )
            for snapshot in self.snapshots
        ]


def standing(entry):
    return entry.standing, entry.verdict and entry.verdict.outcome


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """Its files are old enough to be known by their identity (`SETTLED_NS`)."""
    run = simple_run(tmp_path_factory.mktemp("finished") / "run", STEPS)
    before = time.time() - 60
    for path in run.rglob("*"):
        os.utime(path, (before, before))
    return run


@pytest.fixture
def growing(tmp_path, finished_run):
    """A run with nothing but W0 in it; ``arrive(step)`` brings a checkpoint."""
    run = tmp_path / "run"
    shutil.copytree(finished_run / "base", run / "base")
    return run


@pytest.fixture
def arrive(growing, finished_run):
    def arriving(step):
        return lambda: shutil.copytree(finished_run / f"checkpoint-{step}", growing / f"checkpoint-{step}")

    return arriving


@pytest.fixture
def leave(growing):
    return lambda step: lambda: shutil.rmtree(growing / f"checkpoint-{step}")


@pytest.fixture
def watch(growing, tmp_path):
    """Follow the growing run by a suite written inline."""

    def watched(script, text=HEAD + RANK, *, pace=None, **options):
        file = tmp_path / "suite.yaml"
        file.write_text(text)
        with closing(Cache(tmp_path / "cache")) as cache:
            resources = Resources(workers=1, cache=cache)
            run = FollowedRun(str(growing), [load_suite(file)], resources=resources, **options)
            return follow(run, pace or Pace(every=0.001), script)

    return watched


def test_each_checkpoint_is_judged_as_it_comes(watch, arrive):
    script = Script(*(arrive(step) for step in STEPS))
    end = watch(script, HEAD + RANK + LAST)
    assert (end.code, end.why) == (Code.HOLDS, "the run has ended at step 50")
    so_far = [("provisional", "passed"), ("not due yet", None)]
    assert script.standings == [
        *((list(STEPS[:count]), so_far) for count in (1, 2, 3, 4)),
        (list(STEPS), [("settled", "passed")] * 2),
    ]


def test_a_run_that_leaves_its_band_at_the_third_of_five_ends_there(watch, arrive):
    script = Script(*(arrive(step) for step in STEPS))
    rising = "  - {id: size, metric: relative_update_norm, below: 2.5%, fold: median}\n"
    end = watch(script, HEAD + rising + RANK)
    assert end.code is Code.VIOLATED
    assert end.why == "violated, whatever still comes: size"
    assert [p.step for p in end.snapshot.record.points] == [10, 20, 30]
    assert len(script.acts) == 2  # the fourth and the fifth never came


@pytest.mark.parametrize(("level", "code"), [("warn", Code.HOLDS), ("info", Code.HOLDS), ("error", Code.VIOLATED)])
def test_only_what_binds_ends_it(watch, arrive, level, code):
    text = HEAD + RANK + f"  - {{id: size, metric: relative_update_norm, below: 2.5%, fold: median, level: {level}}}\n"
    assert watch(Script(*(arrive(step) for step in STEPS)), text).code is code


def test_figures_are_those_of_a_measurement_at_the_end(watch, arrive, finished_run, tmp_path):
    import geomcheck

    text = HEAD + RANK + LAST + "  - {id: lock, metric: subspace_alignment, k: 4, above: 1%, to: previous}\n"
    end = watch(Script(*(arrive(step) for step in STEPS)), text)
    whole = geomcheck.measure(finished_run, suites=[load_suite(tmp_path / "suite.yaml")], workers=1)
    assert list(end.snapshot.record.rows()) == list(whole.rows())


def test_a_checkpoint_that_is_half_written_is_waited_for(watch, arrive, growing):
    whole = growing / "checkpoint-20" / "model.safetensors"
    content = []

    def half():
        arrive(20)()
        content.append(whole.read_bytes())
        (growing / "checkpoint-20" / "trainer_state.json").unlink()
        whole.write_bytes(content[0][:1000])

    def rest():
        whole.write_bytes(content[0])
        (growing / "checkpoint-20" / "trainer_state.json").write_text('{"global_step": 20, "max_steps": 20}')

    script = Script(arrive(10), half, lambda: None, rest)
    assert watch(script).code is Code.HOLDS
    assert [reason for reason in script.reasons if "checkpoint-20 not complete yet" in reason]
    assert [steps for steps, _ in script.standings] == [[10], [10, 20]]


def test_without_a_mark_of_completeness_the_first_checkpoint_must_stand_still(watch, growing, finished_run):
    target = growing / "checkpoint-10"
    content = (finished_run / "checkpoint-10" / "model.safetensors").read_bytes()

    def write(count):
        def writing():
            target.mkdir(exist_ok=True)
            (target / "model.safetensors").write_bytes(content[:count])

        return writing

    script = Script(write(1000), write(2000), write(None), lambda: None)
    end = watch(script, pace=Pace(every=0.001), steps=10)
    assert end.code is Code.HOLDS
    assert script.reasons.count("checkpoint-10 not complete yet") == 3
    assert len(script.snapshots) == 1


def test_a_damaged_file_is_not_waited_for_for_ever(watch, arrive, growing):
    def damage():
        arrive(10)()
        path = growing / "checkpoint-10" / "model.safetensors"
        path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(RunError, match="model.safetensors"):
        watch(Script(damage, lambda: None))


def test_a_log_that_grows_keeps_no_damage_waiting(watch, arrive, growing):
    """The Trainer's TensorBoard files lie in the run and change as long as it trains."""

    def log(text="loss\n"):
        (growing / "runs").mkdir(exist_ok=True)
        with (growing / "runs" / "events").open("a") as file:
            file.write(text)

    def diverged():
        arrive(20)()
        file = growing / "checkpoint-20" / "model.safetensors"
        save_file({name: w * float("nan") for name, w in load_file(file).items()}, file)

    script = Script(arrive(10), diverged, *[log] * 3)
    with pytest.raises(RunError, match="NaN"):
        watch(script)
    assert script.acts  # not waited for to the end


def test_a_removed_checkpoint_keeps_its_figures(watch, arrive, leave, tmp_path):
    script = Script(arrive(10), arrive(20), leave(10), arrive(30), leave(20), arrive(40), leave(30), arrive(50))
    end = watch(script, HEAD + RANK + LAST)
    assert end.code is Code.HOLDS
    assert script.standings[-1] == (list(STEPS), [("settled", "passed")] * 2)
    assert end.snapshot.record.notes == (
        "removed after they were measured: checkpoint-10, checkpoint-20, checkpoint-30",
    )
    write_record(end.snapshot.record, tmp_path / "all.parquet")
    assert list(read_record(tmp_path / "all.parquet").rows()) == list(end.snapshot.record.rows())


def test_a_removed_checkpoint_that_violated_is_not_forgotten(watch, arrive, leave):
    falling = (
        "  - {id: first, metric: relative_update_norm, above: 50%, at: {from: first, to: {step: 50}}, level: warn}\n"
    )
    script = Script(arrive(10), leave(10), *map(arrive, (20, 30, 40, 50)))
    end = watch(script, HEAD + RANK + falling)
    (_, verdict) = (entry.verdict for entry in end.snapshot.entries)
    assert [o.step for o in verdict.observed] == list(STEPS)
    assert verdict.outcome == "warned"


@pytest.mark.parametrize(("to", "code"), [("previous", Code.HOLDS), ("last", Code.VIOLATED), ("first", Code.VIOLATED)])
def test_figures_that_compare_checkpoints_need_both_at_once(watch, arrive, leave, to, code):
    text = HEAD + f"  - {{id: lock, metric: subspace_alignment, k: 4, above: 0.1%, to: {to}}}\n"
    script = Script(arrive(10), arrive(20), leave(10), arrive(30), leave(20), arrive(40), arrive(50))
    end = watch(script, text)
    (entry,) = end.snapshot.entries
    assert end.code is code, entry.verdict.message
    if code is Code.VIOLATED:
        assert entry.verdict.outcome == "error"
        assert "not all of them were there at once" in entry.verdict.message


def test_a_checkpoint_that_left_before_it_was_measured_cannot_be_passed_over(watch, arrive, leave, growing):
    def come_and_go():
        for step in (10, 20):
            arrive(step)()
        script.show = failing

    def failing(run):
        leave(10)()
        script.show = Script.show.__get__(script)
        return script.show(run)

    script = Script(come_and_go, lambda: None, *map(arrive, (30, 40, 50)))
    end = watch(script, HEAD + "  - {id: first, metric: stable_rank, below: 15, at: first}\n" + LAST)
    first, _last = end.snapshot.entries
    assert end.code is Code.VIOLATED
    assert "checkpoint-10 came, and was removed before it was measured" in first.verdict.message


def test_a_training_that_goes_back_and_on(watch, arrive, leave, growing):
    def restart():
        for step in (20, 30):
            leave(step)()
        weights = base_weights()
        write_run(growing, weights, {15: moved(weights, 1e-3, seed=9)}, max_steps=50)

    end = watch(Script(*map(arrive, (10, 20, 30)), restart, arrive(50)))
    assert end.code is Code.HOLDS
    assert [p.step for p in end.snapshot.record.points] == [10, 15, 50]


def test_a_directory_that_is_not_there_yet(watch, growing, finished_run):
    shutil.rmtree(growing)
    script = Script(
        lambda: None, lambda: growing.mkdir(), lambda: shutil.copytree(finished_run, growing, dirs_exist_ok=True)
    )
    assert watch(script).code is Code.HOLDS
    assert "does not exist" in script.reasons[0]
    assert "holds no checkpoint directory" in script.reasons[2]


def test_no_checkpoint_ever(watch):
    script = Script(*[lambda: None] * 1000)
    end = watch(script, pace=Pace(every=0.001, idle=0.05))
    assert (end.code, end.why, end.snapshot) == (Code.NOTHING_CHECKED, "no checkpoint came", None)


def test_a_run_that_stops_early_is_judged_as_it_is(watch, arrive):
    script = Script(arrive(10), arrive(20), *[lambda: None] * 1000)
    end = watch(script, HEAD + RANK + LAST, pace=Pace(every=0.001, idle=0.1))
    assert end.code is Code.HOLDS
    assert script.standings[-1] == ([10, 20], [("settled", "passed")] * 2)
    assert end.why == "no new checkpoint came, and the run counts as ended"


def test_a_run_that_stops_early_does_not_pass_what_needed_more(watch, arrive):
    text = HEAD + RANK + "  - {id: later, metric: stable_rank, below: 15, at: {step: 40}}\n"
    end = watch(Script(arrive(10), *[lambda: None] * 1000), text, pace=Pace(every=0.001, idle=0.1))
    assert end.code is Code.VIOLATED
    assert "no checkpoint at step 40" in list(end.snapshot.entries)[1].verdict.message


def test_a_run_that_vanishes_is_judged_by_what_is_known(watch, arrive, growing):
    script = Script(arrive(10), lambda: shutil.rmtree(growing), *[lambda: None] * 1000)
    end = watch(script, pace=Pace(every=0.001, idle=0.1))
    assert end.code is Code.HOLDS
    assert [p.step for p in end.snapshot.record.points] == [10]


def test_steps_say_how_long_the_training_is(watch, arrive, growing):
    for step in STEPS[:3]:
        arrive(step)()
        state = growing / f"checkpoint-{step}" / "trainer_state.json"
        state.write_text(json.dumps({"global_step": step}))
    fifth = HEAD + "  - {id: fifth, metric: stable_rank, below: 15, at: {progress: 35%}}\n"
    unknown = Script()
    with pytest.raises(AssertionError, match="how long the training is is not known"):
        watch(unknown, fifth)
    assert unknown.standings == [([10, 20, 30], [("not due yet", None)])]
    known = Script()
    assert watch(known, fifth, steps=30).code is Code.HOLDS
    assert [round(p.progress, 3) for p in known.snapshots[0].record.points] == [0.333, 0.667, 1.0]


def test_once(watch, arrive, growing):
    with pytest.raises(NoCheckpoint):
        watch(Script(), pace=Pace(once=True))
    arrive(10)()
    end = watch(Script(), HEAD + RANK, pace=Pace(once=True))
    assert (end.code, end.why) == (Code.HOLDS, "the run goes on")
    assert watch(Script(), HEAD + LAST, pace=Pace(once=True)).code is Code.NOTHING_CHECKED
    too_much = HEAD + "  - {id: size, metric: relative_update_norm, below: 0.1%}\n"
    assert watch(Script(), too_much, pace=Pace(once=True)).code is Code.VIOLATED


def test_nothing_is_measured_twice(watch, arrive, growing, reads):
    """Files that were just written are read again to know them by their content, so these are older.

    A matrix is read for its entries, and again once all checkpoints' are known to be sound, to be factorized. When the
    run has ended, what is wrong with it is looked for in the weights, which reads each twice more.
    """
    age(growing)
    arrivals = [lambda step=step: age(arrive(step)()) for step in STEPS]
    watch(Script(*arrivals))
    seen = [where for where, name in reads if name == Q and where.startswith("checkpoint")]
    assert Counter(seen) == {f"checkpoint-{step}": 2 + 2 for step in STEPS}


def test_interrupted(watch, arrive):
    def interrupt():
        raise KeyboardInterrupt

    end = watch(Script(arrive(10), interrupt))
    assert end.code is Code.INTERRUPTED
    assert [p.step for p in end.snapshot.record.points] == [10]


def test_another_w0_is_refused_at_once(watch, growing, arrive):
    write_model(growing / "base", {name: w[:8] for name, w in base_weights().items()})
    with pytest.raises(UsageError, match="does not belong"):
        watch(Script(arrive(10)))


def test_like_reference(watch, arrive, finished_run):
    text = HEAD + "  - {id: same, metric: stable_rank, like: reference, tolerance: 1%}\n"
    end = watch(Script(*map(arrive, STEPS)), text, reference=str(finished_run))
    assert end.code is Code.HOLDS
    assert watch(Script(), text, reference=None).code is Code.VIOLATED
