"""Nothing beside the weights that are read is passed over in silence: it is used, or an error that names it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from geomcheck.checkpoints import Run, comparable, find_base, open_base, open_run
from geomcheck.errors import RunError
from tests.checkpoints.lora_files import assert_same_figures, factors, figures, merged, write_adapter
from tests.runs import DOWN, Q, base_weights, moved, simple_run, write_model, write_run, write_sharded

W0 = base_weights(dtype=torch.float32)
TARGETS = (Q, DOWN)
ADAPTERS = {step: factors(W0, TARGETS, seed=step) for step in (10, 20)}
PROJECTOR = {"model.mm_projector.0.weight": torch.randn(6, 5), "model.mm_projector.2.weight": torch.randn(6, 6)}


def named(path: Path) -> Run:
    run = open_run(path)
    return comparable(run, find_base(run))[0]


def bin_save(checkpoint: Path) -> None:
    torch.save(moved(base_weights(), 1e-2), checkpoint / "pytorch_model.bin")


def sharded_save(checkpoint: Path) -> None:
    write_sharded(checkpoint, base_weights())


def a_shard(checkpoint: Path) -> None:
    save_file({Q: base_weights()[Q]}, checkpoint / "model-00003-of-00007.safetensors")


def distributed(checkpoint: Path) -> None:
    (checkpoint / "__0_0.distcp").write_bytes(b"chunks")


def a_tower(checkpoint: Path) -> None:
    save_file({"visual.x.weight": torch.ones(2, 2)}, checkpoint / "tower.safetensors")


def averaged(checkpoint: Path) -> None:
    torch.save(base_weights(), checkpoint / "ema.pt")


@pytest.mark.parametrize("save", [bin_save, sharded_save, a_shard, distributed, a_tower, averaged])
@pytest.mark.parametrize("where", ["checkpoint-20", "base"])
def test_further_weights_in_a_directory_are_an_error_that_names_them(
    tmp_path: Path, save: Callable[[Path], None], where: str
) -> None:
    run = simple_run(tmp_path / "run")
    before = set((run / where).iterdir())
    save(run / where)
    with pytest.raises(RunError, match=r"weights beside model.safetensors, which is read: a second model") as refused:
        named(run)
    assert any(str(run / where / file.name) in str(refused.value) for file in set((run / where).iterdir()) - before)


@pytest.mark.parametrize(
    "file",
    [
        "optimizer.pt",
        "optimizer.bin",
        "scheduler.pt",
        "scheduler.bin",
        "training_args.bin",
        "rng_state.pth",
        "rng_state_7.pth",
        "scaler.pt",
        "random_states_0.pkl",
        "sampler.bin",
        "data.pt",
        "extra_state_world_size_2_rank_1.pt",
        "optim_world_size_2_rank_1.pt",
        "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "train_dataloader.pt",
        "recipe_state.pt",
    ],
)
def test_states_of_a_training_are_no_weights(tmp_path: Path, file: str) -> None:
    run = simple_run(tmp_path / "run")
    (run / "checkpoint-20" / file).write_bytes(b"state")
    assert named(run).notes == ()


@pytest.mark.parametrize(
    ("file", "note"),
    [
        ("pytorch_model_fsdp.bin", "pytorch_model_fsdp.bin is not read: accelerate's copy for resuming"),
        ("value_head.safetensors", "value_head.safetensors, a value head, is not compared with W0"),
        ("consolidated.safetensors", "consolidated.safetensors is not read: the publisher's own format"),
    ],
)
def test_known_companions_are_noted(tmp_path: Path, file: str, note: str) -> None:
    run = simple_run(tmp_path / "run")
    (run / "checkpoint-20" / file).write_bytes(b"")
    assert named(run).notes == (f"checkpoint-20: {note}",)


def test_weights_in_a_directory_below_are_noted(tmp_path: Path) -> None:
    """As sentence-transformers keeps a dense layer, which may have been trained."""
    run = simple_run(tmp_path / "run")
    for step in (10, 20, 30):
        write_model(run / f"checkpoint-{step}" / "2_Dense", {"linear.weight": torch.ones(2, 2)})
        (run / f"checkpoint-{step}" / "1_Pooling").mkdir()
        write_model(run / f"checkpoint-{step}" / "pytorch_model_fsdp_0", base_weights())
    assert named(run).notes == ("not read are the weights in 2_Dense/",)


def test_a_snapshot_of_the_hub_is_as_it_was_published(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--org--name" / "snapshots" / "abc"
    write_model(snapshot, base_weights())
    torch.save(base_weights(), snapshot / "pytorch_model.bin")
    (tmp_path / "models--org--name" / "blobs").mkdir()
    run = open_run(simple_run(tmp_path / "run"))
    assert comparable(run, open_base(snapshot, "given"))[0].notes == ()


def test_a_published_model_may_be_there_in_two_formats(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run")
    torch.save(base_weights(), run / "base" / "pytorch_model.bin")
    assert named(run).notes == ("W0: pytorch_model.bin is not read: the same model as a pickle",)


def test_a_tensor_that_the_index_places_in_another_shard_is_an_error(tmp_path: Path) -> None:
    run = simple_run(tmp_path / "run", steps=(10,))
    (run / "checkpoint-10" / "model.safetensors").unlink()
    write_sharded(run / "checkpoint-10", moved(base_weights(), 1e-3))
    index = json.loads((run / "checkpoint-10" / "model.safetensors.index.json").read_text())["weight_map"]
    file, name = "model-00002-of-00002.safetensors", next(n for n, f in index.items() if "00001" in f)
    held = {n: w for n, w in moved(base_weights(), 1e-3).items() if index[n] == file}
    save_file({**held, name: base_weights()[name]}, run / "checkpoint-10" / file)
    with pytest.raises(RunError, match=rf"{file}: holds {name}, which .* places in model-00001-of-00002.safetensors"):
        named(run)


def lora_run(directory: Path, *, model: bool, adapter: str) -> Path:
    """W0, and checkpoints with an adapter in the place `adapter` of each, beside W0 as another dtype if `model`."""
    write_model(directory / "base", W0)
    for step, held in ADAPTERS.items():
        checkpoint = directory / f"checkpoint-{step}"
        write_adapter(checkpoint / adapter, held)
        if model:
            write_model(checkpoint, {name: weight.bfloat16() for name, weight in W0.items()})
    return directory


def whole_run(directory: Path) -> Path:
    return write_run(directory, W0, {step: merged(W0, held) for step, held in ADAPTERS.items()})


def test_the_adapter_that_verl_leaves_below_the_base_is_what_is_judged(tmp_path: Path) -> None:
    adapted = figures(lora_run(tmp_path / "a", model=True, adapter="lora_adapter"))
    assert_same_figures(adapted, figures(whole_run(tmp_path / "b")))


@pytest.mark.parametrize(
    "contents",
    [
        {"model": {"path": "model", "peft_adapter_path": "adapter"}},
        {"model": {"path": "model"}, "peft_adapters": ["adapter"]},
        {"model": {"path": "model"}, "peft_adapters": {"default": {"path": "adapter"}}},
        {"model": {"path": "model", "peft_adapter_path": "adapter"}, "peft_adapters": [{"path": "adapter"}]},
    ],
)
def test_the_adapter_that_verls_list_of_contents_names_is_what_is_judged(tmp_path: Path, contents: object) -> None:
    write_model(tmp_path / "run" / "base", W0)
    for step, held in ADAPTERS.items():
        actor = tmp_path / "run" / f"global_step_{step}" / "actor"
        write_model(actor / "model", W0)
        write_adapter(actor / "adapter", held)
        (actor / "ckpt_contents.json").write_text(json.dumps({"contents": contents}))
    assert {c.source.layout for c in open_run(tmp_path / "run").checkpoints} == {"PEFT LoRA"}


def test_several_adapters_in_verls_list_of_contents_are_not_chosen_between(tmp_path: Path) -> None:
    actor = tmp_path / "run" / "global_step_1" / "actor"
    write_adapter(actor / "adapter", ADAPTERS[10])
    (actor / "ckpt_contents.json").write_text(json.dumps({"contents": {"peft_adapters": ["one", "two"]}}))
    with pytest.raises(RunError, match="names several adapters, one and two"):
        open_run(tmp_path / "run")


def test_a_base_beside_its_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="a model beside an adapter that is not merged into it"):
        named(lora_run(tmp_path / "run", model=True, adapter="."))


def test_a_model_beside_the_adapter_that_is_merged_into_it_is_read(tmp_path: Path) -> None:
    run = whole_run(tmp_path / "run")
    for step, held in ADAPTERS.items():
        write_adapter(run / f"checkpoint-{step}", held)
    opened = named(run)
    assert opened.layout == "safetensors"
    assert opened.notes == ("adapter_model.safetensors is not read: the adapter that the model was merged with",)


def test_another_adapter_below_a_model_is_refused(tmp_path: Path) -> None:
    run = lora_run(tmp_path / "run", model=True, adapter="policy")
    with pytest.raises(RunError, match=r"checkpoint-10/policy: an adapter below a whole model"):
        open_run(run)


def test_a_final_model_above_the_adapters_of_its_training_is_a_w0(tmp_path: Path) -> None:
    lora_run(tmp_path / "sft", model=False, adapter=".")
    write_model(tmp_path / "sft", W0)
    run = open_run(simple_run(tmp_path / "run"))
    assert comparable(run, open_base(tmp_path / "sft", "given"))[1].source.weights.keys() == W0.keys()


@pytest.mark.parametrize("file", ["non_lora_trainables.bin", "vit.safetensors"])
def test_what_was_trained_whole_beside_an_adapter_is_measured(tmp_path: Path, file: str) -> None:
    run = lora_run(tmp_path / "run", model=False, adapter=".")
    write_model(run / "base", {**W0, **PROJECTOR})
    trained = {step: moved(PROJECTOR, 1e-2 * step, seed=step) for step in ADAPTERS}
    for step, projector in trained.items():
        held = {f"base_model.model.{name}": weight for name, weight in projector.items()}
        save = torch.save if file.endswith(".bin") else save_file
        save(held, run / f"checkpoint-{step}" / file)
    whole = {step: {**merged(W0, held), **trained[step]} for step, held in ADAPTERS.items()}
    twin = write_run(tmp_path / "twin", {**W0, **PROJECTOR}, whole)
    assert_same_figures(figures(run), figures(twin))


def test_unknown_weights_beside_an_adapter_are_an_error(tmp_path: Path) -> None:
    run = lora_run(tmp_path / "run", model=False, adapter=".")
    torch.save(PROJECTOR, run / "checkpoint-10" / "resampler.bin")
    with pytest.raises(RunError, match=r"resampler.bin: weights beside adapter_model.safetensors"):
        named(run)


def test_a_tensor_in_both_files_of_an_adapter_is_refused(tmp_path: Path) -> None:
    run = lora_run(tmp_path / "run", model=False, adapter=".")
    shutil.copy(run / "checkpoint-10" / "adapter_model.safetensors", run / "checkpoint-10" / "vit.safetensors")
    with pytest.raises(RunError, match=r"is both in adapter_model.safetensors and in vit.safetensors"):
        named(run)
