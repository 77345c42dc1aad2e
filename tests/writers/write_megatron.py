"""megatron-core splits, optimizes and saves a GPT: ``python -m tests.writers.write_megatron DIRECTORY``.

The gradients are random: its layers want a GPU, its checkpoints do not.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import torch
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer

from tests.writers.megatron_model import PADDED, OnCpu, build_model, whole_model
from tests.writers.truth import SIZES, STEPS, keep, on_every_rank, write_base

MOE = {"num_experts": 4, "moe_intermediate_size": SIZES["intermediate_size"], "num_experts_per_tok": 2}

TENSOR, LM = {"tensor_model_parallel_size": 2}, {"lm-torch_dist": "torch_dist", "lm-torch": "torch"}
CASES: dict[str, dict[str, Any]] = {
    "tensor": TENSOR,
    "tied": TENSOR,
    "pipeline": {"pipeline_model_parallel_size": 2},
    "distributed-optimizer": {},
    "experts": {"expert_model_parallel_size": 2},
    **(dict.fromkeys(LM, TENSOR) if importlib.util.find_spec("megatron.training") else {}),
}


def train(rank: int, directory: Path) -> None:
    """A run per way of splitting the model."""
    with OnCpu():
        for name, split in CASES.items():
            _train(rank, directory / name, split, experts=4 if name == "experts" else None)


def _train(rank: int, case: Path, split: dict[str, int], experts: int | None) -> None:
    parallel_state.initialize_model_parallel(**split, create_gloo_process_groups=True)
    tied = case.name == "tied"
    model = build_model(split, experts=experts, tied=tied)
    distributed = case.name == "distributed-optimizer"
    wrapped = DistributedDataParallel(
        model.module.config, DistributedDataParallelConfig(use_distributed_optimizer=distributed), model
    )
    optimizer = get_megatron_optimizer(
        OptimizerConfig(optimizer="adam", lr=1e-3, bf16=True, use_distributed_optimizer=distributed), [wrapped]
    )
    whole = whole_model(model.module)
    if rank == 0:
        write_base(case, whole, tie_word_embeddings=tied, **(MOE if experts else {}))
    for step in range(1, STEPS[-1] + 1):
        _set_gradients(model, step)
        optimizer.step()
        if step in STEPS:
            if case.name in LM:
                from tests.writers import megatron_lm

                megatron_lm.save(case / "run", step, wrapped, optimizer, form=LM[case.name])
            else:
                _save(rank, case / "run", step, wrapped, optimizer, experts)
            whole = whole_model(model.module)
            if rank == 0:
                keep(case, step, whole)
    parallel_state.destroy_model_parallel()


def _set_gradients(model: torch.nn.Module, step: int) -> None:
    """Random gradients, the same on every rank for what is not split."""
    for number, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(1000 * step + number)
        parameter.main_grad.copy_(torch.randn(parameter.shape, generator=generator))


def _save(rank: int, run: Path, step: int, model: Any, optimizer: Any, experts: int | None) -> None:
    """What Megatron-LM's `save_checkpoint` does around megatron-core's `save`."""
    arguments = argparse.Namespace(
        num_layers=SIZES["num_hidden_layers"],
        hidden_size=SIZES["hidden_size"],
        num_attention_heads=SIZES["num_attention_heads"],
        num_query_groups=SIZES["num_key_value_heads"],
        group_query_attention=True,
        kv_channels=SIZES["head_dim"],
        padded_vocab_size=PADDED,
        num_experts=experts,
        untie_embeddings_and_output_weights=run.parent.name != "tied",
    )
    place = run / f"iter_{step:07d}"
    place.mkdir(parents=True, exist_ok=True)
    metadata = {"distrib_optim_sharding_type": "dp_reshardable"}
    state: dict[str, Any] = {"args": arguments, "checkpoint_version": 3.0, "iteration": step}
    state["model"] = model.module.sharded_state_dict()
    state["optimizer"] = optimizer.sharded_state_dict(state, metadata=metadata)
    dist_checkpointing.save(state, str(place), content_metadata=metadata)
    if rank == 0:
        (run / "latest_checkpointed_iteration.txt").write_text(str(step))


if __name__ == "__main__":
    on_every_rank(train)
