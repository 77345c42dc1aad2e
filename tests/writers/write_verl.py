"""verl's checkpoint manager saves a Qwen3 that FSDP trains: ``python -m tests.writers.write_verl DIRECTORY``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer
from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager
from verl.utils.fsdp_utils import apply_fsdp2

from tests.writers.truth import RANKS, STEPS, keep, language_model, on_every_rank, tokens

ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK, ALPHA = 4, 16


def train(rank: int, directory: Path) -> None:
    """Both versions of FSDP, a tied head, an adapter, and an adapter saved alone."""
    for name in ("fsdp1", "fsdp2", "fsdp2-tied", "lora", "lora-only"):
        _train(rank, directory / name)


def _train(rank: int, case: Path) -> None:
    torch.manual_seed(0)
    model, adapted = language_model(tie_word_embeddings=case.name == "fsdp2-tied"), case.name.startswith("lora")
    if rank == 0:
        model.save_pretrained(case / "base")
        keep(case, 0, dict(model.named_parameters()))
    if adapted:
        model = peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=ADAPTED))
    mesh = init_device_mesh("cpu", (RANKS,), mesh_dim_names=("fsdp",))
    if case.name == "fsdp1":
        model = FullyShardedDataParallel(
            model,
            auto_wrap_policy=ModuleWrapPolicy({Qwen3DecoderLayer}),
            device_id=torch.device("cpu"),
            device_mesh=mesh,
            use_orig_params=True,
        )
    else:
        apply_fsdp2(model, {"mesh": mesh}, {})
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2 if adapted else 1e-3)
    contents = {"save_contents": ["model", "optimizer", "extra"], "save_lora_only": case.name == "lora-only"}
    manager = FSDPCheckpointManager(model, optimizer, checkpoint_config=contents)
    for step in range(1, STEPS[-1] + 1):
        batch = tokens(10 * step + rank)
        model(input_ids=batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in STEPS:
            manager.save_checkpoint(str(case / "run" / f"global_step_{step}" / "actor"), global_step=step)
            whole = _whole(model)
            if rank == 0:
                keep(case, step, whole)
                (case / "run" / "latest_checkpointed_iteration.txt").write_text(str(step))
    if rank == 0 and case.name in ("fsdp2", "lora"):
        _merge(case)


def _whole(model: Any) -> dict[str, Tensor]:
    """Every weight as a forward pass uses it, an adapter's update added in float64."""
    if isinstance(model, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(model):
            return {_plain(name): p.detach().clone() for name, p in model.named_parameters()}
    whole = {name: p.full_tensor() if isinstance(p, DTensor) else p for name, p in model.named_parameters()}
    found = {_plain(name): tensor.double() for name, tensor in whole.items() if ".lora_" not in name}
    for name in (name for name in whole if ".base_layer." in name):
        a, b = (whole[name.replace("base_layer", f"lora_{side}.default")].double() for side in "AB")
        found[_plain(name)] += ALPHA / RANK * (b @ a)
    return found


def _plain(name: str) -> str:
    """A parameter's name without what was wrapped around the model."""
    name = name.replace("_fsdp_wrapped_module.", "").replace(".base_layer", "")
    return name.removeprefix("base_model.model.")


def _merge(case: Path) -> None:
    """Each checkpoint as a Hugging Face model, by verl's own tool."""
    for step in STEPS:
        actor, merged = case / "run" / f"global_step_{step}" / "actor", case / "merged" / f"checkpoint-{step}"
        command = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
        subprocess.run([*command, "--local_dir", str(actor), "--target_dir", str(merged)], check=True)


if __name__ == "__main__":
    on_every_rank(train)
