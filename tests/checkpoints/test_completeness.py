"""Checkpoints that are not whole are left out, named, and never the reason for a pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from geomcheck.checkpoints import open_run
from geomcheck.errors import RunError, UsageError
from tests.checkpoints.test_layouts import names, tree
from tests.runs import base_weights, simple_run, write_model, write_sharded


def test_a_save_without_its_state_is_left_out(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    (path / "checkpoint-30" / "trainer_state.json").unlink()
    run = open_run(path)
    assert names(run) == ["checkpoint-10", "checkpoint-20"]
    assert [(entry.name, entry.step, entry.incomplete) for entry in run.left_out] == [("checkpoint-30", 30, True)]
    assert run.notes[0] == (
        "the LAST checkpoint, checkpoint-30, is left out: no trainer_state.json, which is written last: the save was "
        "not finished. Judged as the last is checkpoint-20"
    )


def test_an_earlier_one_is_named_without_alarm(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    (path / "checkpoint-20" / "trainer_state.json").unlink()
    assert open_run(path).notes[0].startswith("left out checkpoint-20: no trainer_state.json")


def test_a_run_without_any_states_is_whole(tmp_path: Path) -> None:
    run = open_run(tree(tmp_path / "run", ["checkpoint-10", "checkpoint-20"], []))
    assert (names(run), run.notes) == (["checkpoint-10", "checkpoint-20"], ())


def test_incomplete_checkpoints_can_refuse_the_run(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    open_run(path, incomplete="error")
    (path / "checkpoint-20" / "trainer_state.json").unlink()
    with pytest.raises(UsageError, match="holds incomplete checkpoints; .*\n  checkpoint-20: no trainer_state.json"):
        open_run(path, incomplete="error")


def test_a_run_without_complete_checkpoints_is_refused(tmp_path: Path) -> None:
    path = tree(tmp_path / "run", ["iter_0000010", "iter_0000020"], ["iter_0000030/"])
    with pytest.raises(UsageError, match="holds no complete checkpoint") as error:
        open_run(path)
    assert "iter_0000010, iter_0000020: no metadata.json" in str(error.value)
    assert "iter_0000030: empty" in str(error.value)


@pytest.mark.parametrize(
    ("models", "tracker"),
    [
        (["global_step_10/actor", "global_step_20/actor"], "latest_checkpointed_iteration.txt"),
        (["global_step_10", "global_step_20"], "latest_checkpointed_iteration.txt"),
        (["global_step_10/policy", "global_step_20/policy"], "latest_ckpt_global_step.txt"),
    ],
)
def test_the_tracker_bounds_what_is_complete(tmp_path: Path, models: list[str], tracker: str) -> None:
    path = tree(tmp_path / "run", models, [])
    (path / tracker).write_text("10\n")
    run = open_run(path)
    assert names(run) == ["global_step_10"]
    assert f"{tracker} says that step 10 was saved last" in run.omissions[0]
    (path / tracker).write_text("20")
    assert names(open_run(path)) == ["global_step_10", "global_step_20"]
    (path / tracker).write_text("release")
    with pytest.raises(UsageError, match="no complete checkpoint"):
        open_run(path)


@pytest.mark.parametrize("garbage", ["", "ten", "-1", "1" * 20, "10 20", "9" * 100, "\u0663"])
def test_a_tracker_with_garbage_is_refused(tmp_path: Path, garbage: str) -> None:
    path = tree(tmp_path / "run", ["global_step_10/actor"], [])
    (path / "latest_checkpointed_iteration.txt").write_text(garbage)
    with pytest.raises(RunError, match="latest_checkpointed_iteration.txt: "):
        open_run(path)


def test_a_tracker_is_a_file_of_the_run(tmp_path: Path) -> None:
    path = tree(tmp_path / "run", ["global_step_10/actor"], [])
    (tmp_path / "elsewhere").write_text("10")
    (path / "latest_checkpointed_iteration.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="outside"):
        open_run(path)


@pytest.mark.parametrize(
    ("models", "others", "reason"),
    [
        (["step_5/policy/weights"], ["tmp_step_9/policy/weights/"], "tmp_step_9, is left out: still being written"),
        (["checkpoint-5"], ["tmp-checkpoint-9/"], "tmp-checkpoint-9, is left out: still being written"),
        (["step-5"], ["step-9/__0_0.distcp"], "its shards lack .metadata, which is written last"),
        (["step-5"], ["step-9/.metadata.tmp"], "step-9/.metadata.tmp is still there"),
        (["checkpoints/step_5/trainer"], ["checkpoints/step_9/trainer/__0_0.distcp"], "its shards lack .metadata"),
        (["checkpoint-5"], ["checkpoint-9/"], "empty"),
        (["checkpoint-5"], ["checkpoint-9"], "not a directory"),
        (["step_5"], ["step_5/COMPLETED", "step_9/model.safetensors"], "no COMPLETED"),
        (["iter_0000005/model"], ["iter_0000005/meta.json", "iter_0000009/model/x"], "no meta.json"),
        (["checkpoint-5"], ["checkpoint-9/model-00001-of-00002.safetensors"], "lack model.safetensors.index.json"),
    ],
)
def test_half_written_directories_are_left_out(
    tmp_path: Path, models: list[str], others: list[str], reason: str
) -> None:
    run = open_run(tree(tmp_path / "run", models, others))
    assert len(run.checkpoints) == 1
    assert run.omissions[0].startswith("the LAST checkpoint, ")
    assert reason in run.omissions[0]


def test_pruned_steps_are_noted_and_no_error(tmp_path: Path) -> None:
    shells = [f"global_step_{step}/data.pt" for step in range(1, 8)]
    run = open_run(tree(tmp_path / "run", ["global_step_8/actor"], shells), incomplete="error")
    assert names(run) == ["global_step_8"]
    assert run.notes == (
        "left out global_step_1, global_step_2, global_step_3, global_step_4 and 3 more: "
        "pruned: the framework kept the step's data state, and no weights",
    )


@pytest.mark.parametrize("target", ["checkpoint-40", "checkpoint-41", "nowhere"])
def test_links_that_lead_nowhere_end(tmp_path: Path, target: str) -> None:
    path = simple_run(tmp_path / "run")
    (path / "checkpoint-40").symlink_to(target)
    (path / "checkpoint-41").symlink_to("checkpoint-40")
    run = open_run(path)
    assert [c.step for c in run.checkpoints] == [10, 20, 30]
    assert {entry.reason for entry in run.left_out} == {"a link that leads nowhere"}


def test_a_link_to_the_run_itself_ends(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    (path / "checkpoint-40").symlink_to(path)
    with pytest.raises(RunError, match="outside the run or to all of it"):
        open_run(path)


def _truncate(checkpoint: Path) -> None:
    os.truncate(checkpoint / "model.safetensors", 100)


def _drop_shard(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    write_sharded(checkpoint, base_weights(), shards=2)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()


@pytest.mark.parametrize("damage", [_truncate, _drop_shard])
def test_damage_in_a_complete_checkpoint_stays_an_error(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = simple_run(tmp_path / "run")
    damage(path / "checkpoint-30")
    run = open_run(path)
    assert run.left_out == ()
    with pytest.raises(RunError, match="truncated|missing, though"):
        _ = run.checkpoints[-1].source.weights


def test_a_lost_index_of_a_complete_checkpoint_is_an_error(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    checkpoint = path / "checkpoint-30"
    (checkpoint / "model.safetensors").unlink()
    write_sharded(checkpoint, base_weights())
    (checkpoint / "model.safetensors.index.json").unlink()
    with pytest.raises(RunError, match="checkpoint-30: no weights that are read; .* lack model.safetensors.index.json"):
        open_run(path)


@pytest.mark.parametrize(
    ("others", "remedy"),
    [
        (
            ["zero_to_fp32.py", "latest", "global_step9/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"],
            "python zero_to_fp32.py . OUT/checkpoint-STEP -t global_stepN --safe_serialization",
        ),
        (
            ["mp_rank_00/model_optim_rng.pt"],
            "--load RUN --ckpt-step N --ckpt-convert-format torch_dist --ckpt-convert-save OUT`, once for each "
            "iteration N, and check OUT/torch_dist",
        ),
        (["latest_universal", "global_step9_universal/zero/w/fp32.pt"], "a universal checkpoint of DeepSpeed"),
        (["hf_batch_0.safetensors"], "export this checkpoint again"),
        (["model-q4_k.gguf"], "before quantization"),
        (["weights.pickle.pt", "config.json"], "save the model with save_pretrained"),
        (["config.json"], "The save was not finished"),
    ],
)
def test_what_no_reader_opens_is_explained(tmp_path: Path, others: list[str], remedy: str) -> None:
    files = [f"checkpoint-9/{name}" for name in others]
    with pytest.raises(RunError, match=r"checkpoint-9: no weights that are read") as error:
        open_run(tree(tmp_path / "run", ["checkpoint-5"], files))
    assert remedy in str(error.value)


def test_a_deepspeed_run_is_explained(tmp_path: Path) -> None:
    files = ["_actor/global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt", "_actor/zero_to_fp32.py"]
    with pytest.raises(RunError, match=r"ZeRO.*zero_to_fp32\.py"):
        _ = open_run(tree(tmp_path / "run", [], files)).checkpoints[0].source.weights


def test_the_step_that_is_read_is_the_one_that_is_converted(tmp_path: Path) -> None:
    run = open_run(tree(tmp_path / "run", [], ["global_step5/zero_pp_rank_0_mp_rank_00_model_states.pt"]))
    with pytest.raises(RunError, match=r"OUT/checkpoint-STEP -t global_step5 --safe_serialization"):
        _ = run.checkpoints[0].source.weights


def test_a_run_of_universal_checkpoints_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"This is a universal checkpoint of DeepSpeed, .* go back to"):
        open_run(tree(tmp_path / "run", [], ["global_step5_universal/zero/w/fp32.pt", "latest_universal"]))


def test_a_legacy_megatron_run_is_explained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="Megatron's legacy torch format"):
        open_run(tree(tmp_path / "run", [], ["iter_0000005/mp_rank_00_000/model_optim_rng.pt"]))


def test_w0_laid_beside_a_run_needs_no_state(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    write_model(path / "checkpoint-0", base_weights())
    run = open_run(path)
    assert run.own_base is not None
    assert run.left_out == ()


def test_a_last_checkpoint_that_never_arrived_is_named(tmp_path: Path) -> None:
    path = tree(tmp_path, ["global_step_10/actor", "global_step_20/actor"], [])
    (path / "latest_checkpointed_iteration.txt").write_text("40")
    run = open_run(path)
    assert any("step 40" in omission and "not here" in omission for omission in run.omissions)
    with pytest.raises(UsageError, match="step 40"):
        open_run(path, incomplete="error")


def test_checkpoints_renamed_into_each_other_are_refused(tmp_path: Path) -> None:
    path = simple_run(tmp_path / "run")
    for old, new in (("10", "x"), ("30", "10"), ("x", "30")):
        (path / f"checkpoint-{old}").rename(path / f"checkpoint-{new}")
    with pytest.raises(RunError, match="were renamed: by trainer_state.json checkpoint-10 says 30"):
        open_run(path)


def test_a_path_that_could_drive_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="its path has control characters"):
        open_run(simple_run(tmp_path / "run\n::error::x"))
