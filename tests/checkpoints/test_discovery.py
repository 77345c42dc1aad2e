from __future__ import annotations

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from geomcheck.checkpoints import at_hand, find_base, open_base, open_run
from geomcheck.checkpoints.discovery.base import HOW_ADAPTERS
from geomcheck.checkpoints.formats.directory import read_config
from geomcheck.errors import RunError, UsageError
from tests.runs import base_weights, simple_run, write_model


def test_checkpoints_are_ordered_by_step_not_by_name_or_time(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "opd", steps=(200, 1000, 30))
    os.utime(run_path / "checkpoint-30")
    run = open_run(run_path)
    assert [c.step for c in run.checkpoints] == [30, 200, 1000]
    assert run.name == "opd"
    assert run.layout == "safetensors"


def test_progress_counts_from_the_planned_total(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run", steps=(10, 20))
    state = run_path / "checkpoint-20" / "trainer_state.json"
    state.write_text(json.dumps({"global_step": 20, "max_steps": 40}))
    assert [c.progress for c in open_run(run_path).checkpoints] == [0.25, 0.5]


def test_progress_without_a_known_total_counts_from_the_last_step(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run", steps=(10, 20))
    for state in run_path.glob("*/trainer_state.json"):
        state.unlink()
    assert [c.progress for c in open_run(run_path).checkpoints] == [0.5, 1.0]


def test_nan_in_the_trainer_log_is_not_an_obstacle(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run", steps=(10, 20))
    state = run_path / "checkpoint-20" / "trainer_state.json"
    state.write_text('{"global_step": 20, "max_steps": 20, "log_history": [{"loss": NaN}]}')
    assert open_run(run_path).checkpoints[-1].progress == 1.0


def test_a_renamed_checkpoint_is_noted(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run", steps=(10, 20))
    (run_path / "checkpoint-20").rename(run_path / "checkpoint-25")
    assert open_run(run_path).notes == ("checkpoint-25: its trainer_state.json says global_step 20; was it renamed?",)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda p: p / "nowhere", "does not exist"),
        (lambda p: p, "holds no checkpoint directory and no model; found nothing"),
        (lambda p: simple_run(p / "run").parent, "Did you mean"),
        (lambda p: simple_run(p / "run") / "checkpoint-10", "point at the directory above it"),
        (lambda p: simple_run(p / "run") / "base" / "config.json", "is a file, not a run directory"),
    ],
)
def test_what_is_no_run_is_named(tmp_path: Path, prepare, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_run(prepare(tmp_path))


def test_two_directories_for_one_step_are_refused(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    write_model(run_path / "checkpoint-010", base_weights())
    with pytest.raises(RunError, match="checkpoint-010 and checkpoint-10 are one step, or one directory"):
        open_run(run_path)


def test_a_checkpoint_without_weights_is_refused(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    (run_path / "checkpoint-20" / "model.safetensors").unlink()
    with pytest.raises(RunError, match=r"checkpoint-20: no weights that are read; .* The save was not finished"):
        open_run(run_path)


def test_a_damaged_trainer_state_is_refused(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    (run_path / "checkpoint-30" / "trainer_state.json").write_text('{"global_step": 3')
    with pytest.raises(RunError, match="the save may be incomplete"):
        open_run(run_path)


ODD = {"1e400": "Infinity", "NaN": "NaN", "true": "true", '"20"': '"20"', "null": "null", "20.0": "20.0", "[1]": "[1]"}


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("key", ["global_step", "max_steps"])
def test_a_count_of_steps_that_is_none_is_told(tmp_path: Path, key: str, value: str) -> None:
    run = simple_run(tmp_path / "run")
    (run / "checkpoint-20" / "trainer_state.json").write_text(f'{{"{key}": {value}}}')
    (note,) = open_run(run).notes
    assert note.startswith(f"checkpoint-20: trainer_state.json says {key} {ODD[value]}, which is no number of steps; ")


@pytest.mark.parametrize("value", [*ODD, "0", "-3"])
def test_a_single_model_of_an_odd_step_says_so(tmp_path: Path, value: str) -> None:
    model = write_model(tmp_path / "model", base_weights())
    (model / "trainer_state.json").write_text(f'{{"global_step": {value}}}')
    opened = open_run(model)
    assert opened.checkpoints[0].step == 1
    assert (
        f"its step is {ODD.get(value, value)} by its trainer_state.json, which is none, and counts" in opened.notes[0]
    )


def test_states_are_bounded_in_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = simple_run(tmp_path / "run")
    total = sum(path.stat().st_size for path in run.glob("*/trainer_state.json"))
    monkeypatch.setattr("geomcheck.checkpoints.discovery.opening.MAX_STATES_BYTES", total - 1)
    with pytest.raises(RunError, match=f"the trainer_state.json of all checkpoints have {total} bytes, more than"):
        open_run(run)


def test_of_a_state_only_what_is_used_stays_in_memory(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    open_run(run)  # what is imported and cached
    for path in run.glob("checkpoint-*/trainer_state.json"):
        log = [{"loss": i + 0.5} for i in range(20_000)]
        path.write_text(json.dumps({"global_step": int(path.parent.name[11:]), "log_history": log}))
    tracemalloc.start()
    open_run(run)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * path.stat().st_size


def test_a_checkpoint_that_links_out_of_the_run_is_refused(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    outside = write_model(tmp_path / "outside", base_weights())
    (run_path / "checkpoint-99").symlink_to(outside)
    with pytest.raises(RunError, match="outside the run"):
        open_run(run_path)


@pytest.mark.parametrize("kind", ["secret-plan.txt", "secret.bin", "secret.distcp", "secret-q/x", "model.safetensors/"])
def test_what_lies_in_a_directory_that_a_file_names_is_not_listed(tmp_path: Path, kind: str) -> None:
    run = open_run(simple_run(tmp_path / "run"))
    (tmp_path / "private" / kind).parent.mkdir(parents=True)
    if kind.endswith("/"):
        (tmp_path / "private" / kind).mkdir()
    else:
        (tmp_path / "private" / kind).touch()
    with pytest.raises(UsageError, match="no weights that are read|where a file with weights") as caught:
        find_base(run, suite=str(tmp_path / "private"))
    assert "secret" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        at_hand(str(tmp_path / "private"), HOW_ADAPTERS)
    assert "secret" not in str(caught.value)


def test_what_lies_in_a_directory_that_the_user_names_is_listed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    with pytest.raises(UsageError, match="found notes.txt"):
        open_base(tmp_path / "mine", "--geom-base")


class TestBase:
    def test_the_users_choice_goes_first(self, tmp_path: Path) -> None:
        run = open_run(simple_run(tmp_path / "run"))
        other = write_model(tmp_path / "other", base_weights())
        given = open_base(other, "--geom-base")
        assert find_base(run, given=given, suite="nowhere") is given

    def test_then_the_suites(self, tmp_path: Path) -> None:
        run = open_run(simple_run(tmp_path / "run"))
        other = write_model(tmp_path / "other", base_weights())
        found = find_base(run, suite=str(other))
        assert (found.source.path, found.how) == (other, "the suite's base")

    def test_then_step_0(self, tmp_path: Path) -> None:
        run_path = simple_run(tmp_path / "run")
        write_model(run_path / "checkpoint-0", base_weights())
        run = open_run(run_path)
        assert find_base(run).how == "the run's step-0 checkpoint"
        assert [c.step for c in run.checkpoints] == [10, 20, 30]

    def test_then_the_base_directory(self, tmp_path: Path) -> None:
        assert find_base(open_run(simple_run(tmp_path / "run"))).how == "base/ in the run"

    def test_otherwise_the_four_ways_are_listed(self, tmp_path: Path) -> None:
        run_path = simple_run(tmp_path / "run")
        (run_path / "base").rename(tmp_path / "elsewhere")
        with pytest.raises(UsageError) as error:
            find_base(open_run(run_path))
        for way in ("--geom-base=PATH", "base: PATH in the suite", "base/ directory", "base_model_name_or_path"):
            assert way in str(error.value)

    def test_a_choice_that_is_no_model_is_refused(self, tmp_path: Path) -> None:
        run = open_run(simple_run(tmp_path / "run"))
        with pytest.raises(UsageError, match="no weights that are read; found run"):
            open_base(tmp_path, "--geom-base")
        with pytest.raises(UsageError, match=r"the suite's base\) is not a directory"):
            find_base(run, suite=str(tmp_path / "nowhere"))

    def test_a_checkpoint_of_the_run_itself_is_refused(self, tmp_path: Path) -> None:
        run_path = simple_run(tmp_path / "run")
        with pytest.raises(UsageError, match="is checkpoint-10 of the run that is checked"):
            find_base(open_run(run_path), given=open_base(run_path / "checkpoint-10", "--geom-base"))


@pytest.mark.parametrize(
    "name", ["checkpoint-٣", "checkpoint-1e3", "checkpoint--5", "checkpoint-7\n", "checkpoint-" + "9" * 20]
)
def test_other_names_are_no_checkpoints(tmp_path: Path, name: str) -> None:
    run_path = simple_run(tmp_path / "run")
    write_model(run_path / name, base_weights())
    assert [c.step for c in open_run(run_path).checkpoints] == [10, 20, 30]


def test_a_linked_checkpoint_is_no_second_one(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    (run_path / "checkpoint-40").symlink_to(run_path / "checkpoint-30")
    with pytest.raises(RunError, match="checkpoint-30 and checkpoint-40 are one step, or one directory"):
        open_run(run_path)


def test_files_outside_the_run_and_pipes_are_not_read(tmp_path: Path) -> None:
    run_path = simple_run(tmp_path / "run")
    state = run_path / "checkpoint-30" / "trainer_state.json"
    state.unlink()
    (tmp_path / "secret.json").write_text('{"global_step": 7}')
    state.symlink_to(tmp_path / "secret.json")
    with pytest.raises(RunError, match="outside"):
        open_run(run_path)
    state.unlink()
    os.mkfifo(state)
    with pytest.raises(RunError, match="not a regular file"):
        open_run(run_path)


@pytest.mark.parametrize(
    ("put", "what"),
    [
        (os.mkfifo, "a pipe"),
        (Path.mkdir, "a directory"),
        (lambda path: path.symlink_to("nowhere"), "a link that leads nowhere"),
        (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    ],
)
def test_what_is_no_regular_file_is_called_by_its_name(tmp_path: Path, put: Callable[[Path], None], what: str) -> None:
    run = simple_run(tmp_path / "opd")
    file = run / "checkpoint-20" / "model.safetensors"
    file.unlink()
    put(file)
    with pytest.raises(
        RunError, match=f"checkpoint-20/model.safetensors: {what}, where a file with weights is expected"
    ):
        open_run(run)


def test_a_base_that_links_to_a_checkpoint_is_refused(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "opd")
    shutil.rmtree(run / "base")
    (run / "base").symlink_to("checkpoint-10")
    with pytest.raises(UsageError, match="opd/base .* is checkpoint-10 of the run that is checked"):
        find_base(open_run(run))


def test_a_config_that_links_nowhere_is_not_taken_for_none(tmp_path: Path) -> None:
    directory = write_model(tmp_path / "model", base_weights())
    (directory / "config.json").unlink()
    assert read_config(directory, directory) == {}
    (directory / "config.json").symlink_to("nowhere")
    with pytest.raises(RunError, match="config.json: cannot be opened"):
        read_config(directory, directory)


def test_what_to_do_about_incomplete_checkpoints_is_one_of_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="incomplete=maybe: give skip or error"):
        open_run(simple_run(tmp_path / "opd"), incomplete="maybe")  # type: ignore[arg-type]
