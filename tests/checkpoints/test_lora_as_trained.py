"""LoRA as trainings keep it: the state of the wrapped model, in the files of every writer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.checkpoints import comparable, find_base, open_run
from geomcheck.checkpoints.canonical import canonical
from geomcheck.checkpoints.formats.adapter import open_adapter
from geomcheck.errors import RunError, UsageError
from geomcheck.record import Record
from tests.checkpoints.lora_files import CONFIG, assert_same_figures, factors, figures, merged, wrapped, write_adapter
from tests.runs import DOWN, Q, base_weights, write_model, write_run

W0 = base_weights(dtype=torch.float32)
TARGETS = (Q, DOWN)
ADAPTERS = {step: factors(W0, TARGETS, seed=step, name=".default") for step in (10, 20)}
META = {"r": CONFIG["r"], "lora_alpha": CONFIG["lora_alpha"], "task_type": "CAUSAL_LM"}

Tensors = dict[str, Tensor]
Write = Callable[[Path, Tensors], None]


def per_rank(place: Path, state: Tensors) -> None:
    torch.save(state, place / "model_world_size_1_rank_0.pt")


def pickle(place: Path, state: Tensors) -> None:
    torch.save(state, place / "pytorch_model.bin")


def safetensors(place: Path, state: Tensors) -> None:
    save_file(state, place / "model.safetensors")


@pytest.mark.filterwarnings("ignore::UserWarning")
def distributed(place: Path, state: Tensors) -> None:
    dcp.save({f"model.{name}": w for name, w in state.items()}, checkpoint_id=str(place), no_dist=True)


def whole(held: Tensors) -> Tensors:
    return wrapped(W0, TARGETS, held)


def lora_only(held: Tensors) -> Tensors:
    return held


def before_base_layer(held: Tensors) -> Tensors:
    """As PEFT had it before 0.6: W0's weight beside its factors."""
    return {name.replace(".base_layer.", "."): w for name, w in whole(held).items()}


def run_of(directory: Path, write: Write, state: Callable[[Tensors], Tensors] = whole, meta: str = "verl") -> Path:
    write_model(directory / "base", W0)
    for step, held in ADAPTERS.items():
        place = directory / f"global_step_{step}" / "actor"
        place.mkdir(parents=True)
        write(place, state(held))
        if meta == "verl":
            (place / "lora_train_meta.json").write_text(json.dumps(META))
        elif meta == "peft":
            (place / "adapter_config.json").write_text(json.dumps(CONFIG))
    return directory


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Record:
    trained = {step: merged(W0, held) for step, held in ADAPTERS.items()}
    return figures(write_run(tmp_path_factory.mktemp("twin") / "run", W0, trained))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("meta", ["verl", "peft"])
@pytest.mark.parametrize("write", [per_rank, pickle, safetensors, distributed])
def test_a_wrapped_models_state_is_measured_as_the_merged_model(
    tmp_path: Path, write: Write, meta: str, twin: Record
) -> None:
    assert_same_figures(figures(run_of(tmp_path / "run", write, meta=meta)), twin)


@pytest.mark.parametrize("state", [lora_only, before_base_layer])
def test_so_is_what_older_or_sparing_writers_save(
    tmp_path: Path, state: Callable[[Tensors], Tensors], twin: Record
) -> None:
    assert_same_figures(figures(run_of(tmp_path / "run", per_rank, state)), twin)


@pytest.mark.parametrize("write", [per_rank, pickle, safetensors])
def test_without_alpha_the_message_says_what_it_is_and_what_to_copy(tmp_path: Path, write: Write) -> None:
    run = open_run(run_of(tmp_path / "run", write, meta=""))
    with pytest.raises(RunError, match=r"a model that PEFT has wrapped .* copy that file there, or merge the adapter"):
        comparable(run, find_base(run))


def test_a_wrapped_model_is_no_w0(tmp_path: Path) -> None:
    run = open_run(run_of(tmp_path / "run", safetensors))
    pickle(run.path / "base", whole(ADAPTERS[10]))
    (run.path / "base" / "model.safetensors").unlink()
    run = open_run(run.path)
    with pytest.raises(UsageError, match="is an adapter; give the model that it was trained on"):
        comparable(run, find_base(run))


def test_a_wrapped_state_goes_behind_the_adapter_that_peft_saved(tmp_path: Path) -> None:
    write_model(tmp_path / "run" / "base", W0)
    for step, held in ADAPTERS.items():
        place = tmp_path / "run" / f"checkpoint-{step}"
        write_adapter(place, {name.replace(".default", ""): w for name, w in held.items()})
        torch.save(whole(held), place / "pytorch_model_fsdp.bin")
    run = open_run(tmp_path / "run")
    assert comparable(run, find_base(run))[0].notes == (
        "pytorch_model_fsdp.bin is not read: accelerate's copy for resuming",
    )


@pytest.mark.parametrize("hidden", [8, 6])
@pytest.mark.parametrize("leaf", ["gate_up_proj", "down_proj"])
def test_an_adapter_of_one_of_two_stacked_projections_is_of_every_expert(
    tmp_path: Path, leaf: str, hidden: int
) -> None:
    experts, inner, rank = 3, 4, CONFIG["r"]
    out, in_ = (2 * inner, hidden) if leaf == "gate_up_proj" else (hidden, inner)
    module = "base_model.model.model.layers.0.mlp.experts"
    held = {
        f"{module}.lora_A.weight": torch.randn(experts * rank, in_),
        f"{module}.lora_B.weight": torch.randn(out, rank * experts),
    }
    write_adapter(tmp_path / "adapter", held, target_parameters=[f"mlp.experts.{leaf}"])
    config = {"model_type": "qwen3_moe", "hidden_size": hidden}
    base = {
        f"model.layers.0.mlp.experts.{expert}.{name}.weight": torch.randn(shape)
        for expert in range(experts)
        for name, shape in (
            ("gate_proj", (inner, hidden)),
            ("up_proj", (inner, hidden)),
            ("down_proj", (hidden, inner)),
        )
    }
    write_model(tmp_path / "run" / "base", base, config)
    (tmp_path / "adapter").rename(tmp_path / "run" / "checkpoint-5")
    run = open_run(tmp_path / "run")
    trained = comparable(run, find_base(run))[0].checkpoints[0].source
    assert trained.weights.keys() == base.keys()
    changed = canonical(open_adapter(tmp_path / "run" / "checkpoint-5"), config).weights
    modules = {"gate_up_proj": {"gate_proj", "up_proj"}, "down_proj": {"down_proj"}}[leaf]
    assert changed.keys() == {name for name in base if name.split(".")[-2] in modules}
