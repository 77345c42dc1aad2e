"""Every framework's run directory: a tree as it writes it, around real weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from geomcheck.checkpoints import Run, find_base, open_run
from geomcheck.checkpoints.discovery.layouts import LAYOUTS
from geomcheck.errors import RunError, UsageError
from tests.runs import base_weights, simple_run, write_model, write_run

WEIGHTS = base_weights()

TREES = {
    "Hugging Face Trainer (TRL, LLaMA-Factory, Axolotl, Unsloth)": (
        ["checkpoint-200", "checkpoint-1000"],
        ["checkpoint-200/global_step200/", "checkpoint-1000-merged/", "checkpoint-best/", "runs/", "tmp/"],
        [200, 1000],
    ),
    "ms-swift": (
        ["v0-20260101-101010/checkpoint-5", "v0-20260101-101010/checkpoint-10"],
        ["v1-20260102-101010/args.json", "v0-20260101-101010/checkpoint-10-merged/", "v0-20260101-101010/args.json"],
        [5, 10],
    ),
    "verl": (
        ["global_step_20/actor/huggingface", "global_step_100/actor/huggingface"],
        [
            "global_step_20/critic/",
            "global_step_20/data.pt",
            "global_step_100/actor/extra_state_world_size_1_rank_0.pt",
        ],
        [20, 100],
    ),
    "SkyRL": (
        ["global_step_4/policy/huggingface", "global_step_12/policy/huggingface"],
        ["global_step_4/critic/", "global_step_4/data.pt", "global_step_4/trainer_state.pt"],
        [4, 12],
    ),
    "verl (SFT)": (
        ["global_step_9/huggingface", "global_step_10/huggingface"],
        ["global_step_9/data.pt", "global_step_9/optim_world_size_1_rank_0.pt"],
        [9, 10],
    ),
    "miles or slime (FSDP)": (
        ["iter_0000010/model", "iter_0000020/model"],
        ["iter_0000010/meta.json", "iter_0000020/meta.json", "iter_0000010/optimizer/", "rollout/"],
        [10, 20],
    ),
    "slime (Megatron)": (
        ["iter_0000000", "iter_0000063", "iter_0000127"],
        ["rollout/global_dataset_state_dict_63.pt", *[f"iter_{n:07d}/metadata.json" for n in (0, 63, 127)]],
        [0, 63, 127],
    ),
    "Megatron-LM": (
        ["iter_0000063", "iter_0000127"],
        ["iter_0000063/metadata.json", "iter_0000127/metadata.json"],
        [63, 127],
    ),
    "NeMo-RL": (
        ["step_10/policy/weights/iter_0000000", "step_25/policy/weights/model"],
        ["step_10/training_info.json", "step_10/value/", "old_step_25/"],
        [10, 25],
    ),
    "prime-rl": (
        ["checkpoints/step_10/trainer", "checkpoints/step_20/trainer"],
        ["checkpoints/step_10/orchestrator/", "broadcasts/step_19/STABLE"],
        [10, 20],
    ),
    "open-instruct": (["step_50", "step_100"], ["step_50/COMPLETED", "step_100/COMPLETED"], [50, 100]),
    "open-instruct (by epoch)": (["epoch_1", "epoch_2"], ["epoch_1/COMPLETED", "epoch_2/COMPLETED"], [1, 2]),
    "NeMo Automodel": (
        ["epoch_0_step_9/model/consolidated", "epoch_1_step_19/model"],
        ["epoch_0_step_9/optim/", "training.jsonl"],
        [9, 19],
    ),
    "torchtitan": (["checkpoint/step-100", "checkpoint/step-1000"], ["tb/", "config.json"], [100, 1000]),
    "OpenRLHF": (
        ["global_step20_hf", "global_step40_hf"],
        ["best_global_step40_hf/", "_actor/global_step40/mp_rank_00_model_states.pt", "_critic/", "global_step40/x"],
        [20, 40],
    ),
    "DeepSpeed": (
        ["_actor/global_step8", "_actor/global_step16"],
        ["_actor/latest", "_critic/global_step8/x"],
        [8, 16],
    ),
    "torchtune": (["epoch_0_step_10", "epoch_1_step_20"], ["recipe_state/", "logs/"], [10, 20]),
    "merged adapters (ms-swift)": (["checkpoint-10-merged", "checkpoint-100-merged"], ["args.json"], [10, 100]),
    "directories by step": (["step20", "step1000", "step100-tokens4B"], [], [20, 100, 1000]),
    "exports by step": (["global_step_10_hf", "global_step_20_hf"], [], [10, 20]),
    "Lightning": (["epoch=0-step=10", "epoch=1-step=20"], ["hparams.yaml"], [10, 20]),
    "directories by epoch": (["checkpoint-epoch-1", "checkpoint-epoch-2"], [], [1, 2]),
    "AReaL": (
        ["default/epoch0epochstep0globalstep0", "default/epoch1epochstep3globalstep13"],
        ["recover_checkpoint/", "default/epoch.txt"],
        [0, 13],
    ),
}


def tree(root: Path, models: list[str], others: list[str]) -> Path:
    """Weights in each of `models`, each different, and `others` as empty files or directories."""
    for number, place in enumerate(models):
        write_model(root / place, {name: w + number for name, w in WEIGHTS.items()})
    for other in others:
        path = root / other
        path.parent.mkdir(parents=True, exist_ok=True)
        if other.endswith("/"):
            path.mkdir(exist_ok=True)
        elif not path.exists():
            path.write_text("{}" if other.endswith(".json") else "")
    return root


def names(run: Run) -> list[str]:
    return [checkpoint.name for checkpoint in run.checkpoints]


def test_every_layout_has_a_tree_or_refuses() -> None:
    assert {layout.framework for layout in LAYOUTS if not layout.refused} == set(TREES)


@pytest.mark.parametrize("framework", TREES)
def test_a_framework_s_own_tree_is_read(tmp_path: Path, framework: str) -> None:
    models, others, steps = TREES[framework]
    run = open_run(tree(tmp_path / "run", models, others))
    assert run.framework == framework
    assert [c.step for c in run.checkpoints] == steps
    assert {c.source.path for c in run.checkpoints} == {tmp_path / "run" / place for place in models}
    assert all(c.name in str(c.source.path) for c in run.checkpoints)
    assert run.left_out == ()
    first = 0 if framework in ("slime (Megatron)", "AReaL") else 1
    assert [c.progress for c in run.checkpoints] == [(s + 1 - first) / (steps[-1] + 1 - first) for s in steps]


@pytest.mark.parametrize("form", ["epoch_", "epoch-", "epoch", "checkpoint-epoch-", "checkpoint_epoch_"])
def test_epoch_0_is_trained_and_no_w0(tmp_path: Path, form: str) -> None:
    run = open_run(tree(tmp_path / "run", [f"{form}0", f"{form}1", f"{form}2"], []))
    assert [(c.step, c.progress) for c in run.checkpoints] == [(0, 1 / 3), (1, 2 / 3), (2, 1.0)]
    assert run.own_base is None
    assert f"its steps are epochs, counted from 0: {form}0 is the model after the first" in run.notes


def test_a_run_of_one_epoch_has_a_checkpoint(tmp_path: Path) -> None:
    assert names(open_run(tree(tmp_path / "run", ["epoch_0"], ["epoch_0/COMPLETED"]))) == ["epoch_0"]


@pytest.mark.parametrize(
    ("models", "steps"),
    [
        (["step0", "step10"], [10]),
        (["step10", "step20", "step1000"], [10, 20, 1000]),
        (["step10-tokens4B", "step20-tokens8B"], [10, 20]),
        (["weights-step-10", "weights-step-20"], [10, 20]),
        (["checkpoint-step-10", "checkpoint-step-20"], [10, 20]),
        (["checkpoint-10-hf", "checkpoint-20-hf"], [10, 20]),
        (["v0-20260101-1/checkpoint-10-merged", "v0-20260101-1/checkpoint-20-merged"], [10, 20]),
        (["checkpoint-10", "checkpoint-20", "checkpoint-10-merged", "checkpoint-20-merged"], [10, 20]),
        (["step-0010", "step-0020"], [10, 20]),
        (["step_000100", "step_000200"], [100, 200]),
    ],
)
def test_steps_are_read_from_other_names(tmp_path: Path, models: list[str], steps: list[int]) -> None:
    run = open_run(tree(tmp_path / "run", models, []))
    assert [c.step for c in run.checkpoints] == steps
    assert (run.own_base is not None) == (models[0] == "step0")


def test_models_under_other_names_beside_the_checkpoints_are_told(tmp_path: Path) -> None:
    models = ["checkpoint-10", "checkpoint-10-merged", "last-checkpoint", "best", "base"]
    run = open_run(tree(tmp_path / "run", models, ["runs/"]))
    told = "best, checkpoint-10-merged, last-checkpoint"
    assert f"not judged, as no checkpoint of this run is called so: {told}" in run.notes


@pytest.mark.parametrize(
    ("models", "advice"),
    [
        (["iter_10", "iter_20"], "iter_10 holds a model, .* rename each to checkpoint-STEP"),
        (["round3", "round4"], "round3 holds a model, .* rename each to checkpoint-STEP"),
        (["best", "final"], r"best holds a model, .* point at \S+/run/best to judge that alone, or rename each to"),
        (["last-checkpoint"], r"point at \S+/run/last-checkpoint to judge that alone"),
        (["checkpoints/checkpoint-10"], r"Did you mean \S+/run/checkpoints\?"),
    ],
)
def test_names_without_a_step_have_advice(tmp_path: Path, models: list[str], advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        open_run(tree(tmp_path / "run", models, []))


class TestParts:
    """Weights one directory further down than their layout has them."""

    @pytest.mark.parametrize("part", ["policy", "hf_ckpt", "model", "actor", "my-adapter"])
    @pytest.mark.parametrize("step", ["checkpoint-", "global_step_", "step1", "epoch_0_step_"])
    def test_one_part_is_read(self, tmp_path: Path, step: str, part: str) -> None:
        run = open_run(tree(tmp_path / "run", [f"{step}10/{part}", f"{step}20/{part}"], []))
        assert {c.source.path.relative_to(tmp_path / "run").as_posix() for c in run.checkpoints} == {
            f"{step}10/{part}",
            f"{step}20/{part}",
        }

    def test_what_is_read_is_said(self, tmp_path: Path) -> None:
        run = open_run(tree(tmp_path / "run", ["checkpoint-10/policy", "checkpoint-10/reference"], []))
        assert run.checkpoints[0].source.path.name == "policy"
        assert "read of each checkpoint is policy/" in run.notes

    def test_several_parts_are_named_and_one_is_chosen_by_name(self, tmp_path: Path) -> None:
        path = tree(tmp_path / "run", [f"checkpoint-{n}/{part}" for n in (10, 20) for part in ("one", "two")], [])
        with pytest.raises(UsageError, match=rf"holds one and two, .* as in --geom-run={path}/one"):
            open_run(path)
        run = open_run(path / "two")
        assert (run.name, run.path, run.address) == ("run-two", path, path / "two")
        assert [c.source.path for c in run.checkpoints] == [path / f"checkpoint-{n}" / "two" for n in (10, 20)]
        assert [c.source.path for c in open_run(run.address).checkpoints] == [c.source.path for c in run.checkpoints]

    def test_a_part_that_some_checkpoints_lack_is_an_error(self, tmp_path: Path) -> None:
        path = tree(tmp_path / "run", ["checkpoint-10/one", "checkpoint-10/two", "checkpoint-20/two"], [])
        with pytest.raises(RunError, match="checkpoint-20"):
            open_run(path / "one")

    def test_checkpoints_with_different_parts_are_refused(self, tmp_path: Path) -> None:
        path = tree(tmp_path / "run", ["checkpoint-10/one", "checkpoint-20/two"], [])
        with pytest.raises(UsageError, match=r"in different places, checkpoint-10/one and checkpoint-20/two"):
            open_run(path)

    def test_a_name_that_nothing_has_does_not_exist(self, tmp_path: Path) -> None:
        path = tree(tmp_path / "run", ["checkpoint-10/one"], [])
        with pytest.raises(UsageError, match="run/three does not exist"):
            open_run(path / "three")

    def test_one_checkpoint_with_parts_says_both_ways(self, tmp_path: Path) -> None:
        path = tree(tmp_path / "run", ["checkpoint-10/one", "checkpoint-10/two"], [])
        with pytest.raises(UsageError, match=r"point at the directory above it, or at \S+/checkpoint-10/one to judge"):
            open_run(path / "checkpoint-10")
        assert names(open_run(path / "checkpoint-10" / "one")) == ["final"]


def test_steps_are_counted_from_zero_by_slime(tmp_path: Path) -> None:
    models, others, _ = TREES["slime (Megatron)"]
    run = open_run(tree(tmp_path / "run", models, others))
    assert [c.progress for c in run.checkpoints] == [1 / 128, 64 / 128, 1.0]
    assert run.own_base is None


def test_iteration_0_without_slime_s_files_is_neither_w0_nor_a_checkpoint(tmp_path: Path) -> None:
    models, others, _ = TREES["slime (Megatron)"]
    run = open_run(tree(tmp_path / "run", models, others[1:]))
    assert (run.framework, names(run), run.own_base) == ("Megatron-LM", models[1:], None)
    assert "W0 if Megatron-LM" in run.notes[0]
    with pytest.raises(UsageError, match="left out iter_0000000: W0 if Megatron-LM"):
        find_base(run)
    assert names(open_run(tmp_path / "run", incomplete="error")) == models[1:]


def test_release_beside_iterations_is_w0(tmp_path: Path) -> None:
    models, others, _ = TREES["Megatron-LM"]
    run = open_run(tree(tmp_path / "run", [*models, "release"], others))
    assert names(run) == models
    assert find_base(run).how == "release/ in the run"


@pytest.mark.parametrize(
    ("zero", "models"),
    [
        ("step-0", ["step-10"]),
        ("checkpoint-0", ["checkpoint-10"]),
        ("global_step_0/actor", ["global_step_10/actor"]),
        ("global_step0_hf", ["global_step10_hf"]),
    ],
)
def test_step_0_is_w0_where_frameworks_count_from_1(tmp_path: Path, zero: str, models: list[str]) -> None:
    run = open_run(tree(tmp_path / "run", [zero, *models], []))
    assert [c.step for c in run.checkpoints] == [10]
    assert find_base(run).source.path == tmp_path / "run" / zero


def test_the_whole_model_goes_before_another_copy(tmp_path: Path) -> None:
    run = tree(tmp_path / "run", ["checkpoint-5", "checkpoint-5/pytorch_model_fsdp_0"], [])
    assert open_run(run).checkpoints[0].source.path == run / "checkpoint-5"


class TestOneRun:
    def test_two_versions_are_listed(self, tmp_path: Path) -> None:
        run = tree(tmp_path / "run", ["v0-20260101-1/checkpoint-5", "v1-20260102-1/checkpoint-5"], [])
        with pytest.raises(UsageError, match="more than one run or layout") as error:
            open_run(run)
        assert f"{run}/v0-20260101-1: checkpoint-5 (ms-swift)" in str(error.value)
        assert f"{run}/v1-20260102-1: checkpoint-5 (ms-swift)" in str(error.value)
        assert names(open_run(run / "v1-20260102-1")) == ["checkpoint-5"]

    @pytest.mark.parametrize(
        "models",
        [
            ["checkpoint-5", "global_step_5/actor"],
            ["step_5", "epoch_1"],
            ["iter_0000005", "checkpoint-5"],
            ["checkpoint-5", "v0-20260101-1/checkpoint-5"],
        ],
    )
    def test_mixed_layouts_are_refused(self, tmp_path: Path, models: list[str]) -> None:
        with pytest.raises(UsageError, match="more than one run or layout"):
            open_run(tree(tmp_path / "run", models, []))

    def test_what_lies_in_a_checkpoint_is_no_step(self, tmp_path: Path) -> None:
        inner = ["checkpoint-5/iter_0000007", "checkpoint-5/global_step9", "checkpoint-5/checkpoint-6"]
        assert names(open_run(tree(tmp_path / "run", ["checkpoint-5", *inner], []))) == ["checkpoint-5"]

    def test_another_directory_name_for_one_step_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(RunError, match="epoch_0_step_9 and epoch_1_step_9 are one step"):
            open_run(tree(tmp_path / "run", ["epoch_0_step_9/model", "epoch_1_step_9/model"], []))

    def test_links_to_the_latest_are_no_checkpoints(self, tmp_path: Path) -> None:
        run = tree(tmp_path / "run", ["epoch_0_step_9/model", "epoch_0_step_19/model"], [])
        (run / "LATEST").symlink_to("epoch_0_step_19")
        (run / "LOWEST_VAL").symlink_to("epoch_0_step_9")
        assert names(open_run(run)) == ["epoch_0_step_9", "epoch_0_step_19"]

    def test_accelerate_s_counters_are_no_steps(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="numbers its saves, not the steps: rename each directory"):
            open_run(tree(tmp_path / "run", ["checkpoints/checkpoint_0", "checkpoints/checkpoint_1"], []))


class TestSpelling:
    def test_a_misspelt_run_has_a_hint(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="verl writes global_step_N, not global_steps_5: rename"):
            open_run(tree(tmp_path / "run", ["global_steps_5/actor"], []))

    def test_a_misspelt_directory_is_named(self, tmp_path: Path) -> None:
        run = open_run(tree(tmp_path / "run", ["global_step_4/actor", "global_steps_5/actor"], []))
        assert names(run) == ["global_step_4"]
        assert "global_steps_5 is ignored: verl writes global_step_N" in run.notes

    @pytest.mark.parametrize(
        "name", ["iter_63", "global_step_", "step_1_5", "step-1e3", "global_step_9999999999999999"]
    )
    def test_other_names_are_no_steps(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UsageError, match="holds no checkpoint directory"):
            open_run(tree(tmp_path / "run", [name], []))

    def test_a_large_step_is_a_step(self, tmp_path: Path) -> None:
        run = open_run(
            tree(
                tmp_path / "run",
                ["iter_0000001", "iter_999999999999999"],
                ["iter_0000001/metadata.json", "iter_999999999999999/metadata.json"],
            )
        )
        assert run.checkpoints[-1].step == 999_999_999_999_999

    @pytest.mark.parametrize("below", [".", "actor", "actor/huggingface"])
    def test_a_checkpoint_is_no_run(self, tmp_path: Path, below: str) -> None:
        run = tree(tmp_path / "run", ["global_step_4/actor/huggingface"], [])
        with pytest.raises(UsageError, match="This is one checkpoint: point at the directory above it"):
            open_run(run / "global_step_4" / below)

    def test_the_run_inside_is_suggested(self, tmp_path: Path) -> None:
        tree(tmp_path / "project" / "run", ["step_4/policy/weights"], [])
        with pytest.raises(UsageError, match=f"Did you mean {tmp_path}/project/run?"):
            open_run(tmp_path / "project")


class TestFinalModel:
    def test_a_model_alone_is_one_checkpoint(self, tmp_path: Path) -> None:
        run = open_run(write_model(tmp_path / "opd", WEIGHTS))
        assert [(c.name, c.step, c.progress) for c in run.checkpoints] == [("final", 1, 1.0)]
        assert run.notes == ("opd: a single model; its step is not recorded and counts as 1",)

    def test_its_trainer_state_has_the_step(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "opd", WEIGHTS)
        (path / "trainer_state.json").write_text('{"global_step": 70, "max_steps": 70}')
        run = open_run(path)
        assert [(c.step, run.notes) for c in run.checkpoints] == [(70, ())]

    def test_beside_checkpoints_it_is_no_further_point(self, tmp_path: Path) -> None:
        path = write_model(simple_run(tmp_path / "run"), WEIGHTS)
        run = open_run(path)
        assert [c.step for c in run.checkpoints] == [10, 20, 30]
        assert run.notes[0].endswith("is taken for the final one, and is no further point")


class TestContents:
    """verl's own list of what a checkpoint holds."""

    @staticmethod
    def write(tmp_path: Path, content: object, model: str = "model/dist_ckpt") -> Path:
        run = tree(tmp_path / "run", [f"global_step_4/actor/{model}"], [])
        (run / "global_step_4/actor/ckpt_contents.json").write_text(json.dumps(content))
        return run

    def test_the_model_is_read_where_it_says(self, tmp_path: Path) -> None:
        run = self.write(tmp_path, {"schema_version": 2, "contents": {"model": {"path": "weights/hf"}}}, "weights/hf")
        assert open_run(run).checkpoints[0].source.path == run / "global_step_4/actor/weights/hf"

    @pytest.mark.parametrize("path", ["../../../outside", "/etc", "model/../../..", "..", "linked"])
    def test_it_never_leads_outside(self, tmp_path: Path, path: str) -> None:
        write_model(tmp_path / "outside", WEIGHTS)
        run = self.write(tmp_path, {"contents": {"model": {"path": path}}})
        (run / "global_step_4/actor/linked").symlink_to(tmp_path / "outside")
        with pytest.raises(RunError, match="outside the checkpoint"):
            open_run(run)

    @pytest.mark.parametrize(
        "content",
        [{}, {"contents": []}, {"contents": {"model": {"path": 5}}}, [], {"contents": {"model": {"path": "a\0b"}}}],
    )
    def test_without_a_place_it_is_refused(self, tmp_path: Path, content: object) -> None:
        with pytest.raises(RunError, match="no place for the model|a mapping is expected"):
            open_run(self.write(tmp_path, content))


def test_a_checkpoint_of_the_run_is_no_w0_wherever_its_weights_lie(tmp_path: Path) -> None:
    from geomcheck.checkpoints import open_base

    path = tree(tmp_path / "run", ["global_step_4/actor", "global_step_4/actor/huggingface", "."], [])
    run = open_run(path)
    for place in ("global_step_4", "global_step_4/actor", "global_step_4/actor/huggingface"):
        with pytest.raises(UsageError, match="is global_step_4 of the run that is checked"):
            find_base(run, given=open_base(path / place, "--geom-base"))
    with pytest.raises(UsageError, match="is the final model of the run that is checked"):
        find_base(run, given=open_base(path, "--geom-base"))


def test_planned_steps_bound_progress_in_every_layout(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", WEIGHTS, {10: WEIGHTS, 20: WEIGHTS}, max_steps=80)
    assert [c.progress for c in open_run(run).checkpoints] == [0.125, 0.25]
