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
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module
from torch.overrides import TorchFunctionMode

from tests.writers.megatron_model import whole_model
from tests.writers.truth import SIZES, STEPS, keep, on_every_rank, write_base

PADDED = 128
LAYERS, HIDDEN, WIDTH = SIZES["num_hidden_layers"], SIZES["hidden_size"], SIZES["intermediate_size"]
HEADS, GROUPS, SIZE = SIZES["num_attention_heads"], SIZES["num_key_value_heads"], SIZES["head_dim"]
MOE = {"num_experts": 4, "moe_intermediate_size": WIDTH, "num_experts_per_tok": 2}

TENSOR, LM = {"tensor_model_parallel_size": 2}, {"lm-torch_dist": "torch_dist", "lm-torch": "torch"}
CASES: dict[str, dict[str, Any]] = {
    "tensor": TENSOR,
    "pipeline": {"pipeline_model_parallel_size": 2},
    "distributed-optimizer": {},
    "experts": {"expert_model_parallel_size": 2},
    **(dict.fromkeys(LM, TENSOR) if importlib.util.find_spec("megatron.training") else {}),
}


class OnCpu(TorchFunctionMode):
    """What is meant for a GPU goes to the CPU."""

    def __enter__(self) -> OnCpu:
        torch.cuda.current_device = lambda: "cpu"
        torch.cuda.synchronize = lambda *_: None
        return super().__enter__()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.type and len(args) == 1:
            return func(*args).replace("torch.", "torch.cuda.")
        asked = kwargs or {}
        return func(*args, **{**asked, "device": "cpu"} if str(asked.get("device")).startswith("cuda") else asked)


def train(rank: int, directory: Path) -> None:
    """A run per way of splitting the model."""
    with OnCpu():
        for name, split in CASES.items():
            _train(rank, directory / name, split, experts=4 if name == "experts" else None)


def _train(rank: int, case: Path, split: dict[str, int], experts: int | None) -> None:
    parallel_state.initialize_model_parallel(**split, create_gloo_process_groups=True)
    torch.manual_seed(0)
    model = _model(split, experts)
    distributed = case.name == "distributed-optimizer"
    wrapped = DistributedDataParallel(
        model.module.config, DistributedDataParallelConfig(use_distributed_optimizer=distributed), model
    )
    optimizer = get_megatron_optimizer(
        OptimizerConfig(optimizer="adam", lr=1e-3, bf16=True, use_distributed_optimizer=distributed), [wrapped]
    )
    whole = whole_model(model.module)
    if rank == 0:
        write_base(case, whole, **(MOE if experts else {}))
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


def _model(split: dict[str, int], experts: int | None) -> Float16Module:
    moe = {"num_moe_experts": experts, "moe_ffn_hidden_size": WIDTH, "moe_router_topk": 2} if experts else {}
    config = TransformerConfig(
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        ffn_hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_query_groups=GROUPS,
        kv_channels=SIZE,
        normalization="RMSNorm",
        qk_layernorm=True,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        bf16=True,
        params_dtype=torch.bfloat16,
        pipeline_dtype=torch.bfloat16,
        use_cpu_initialization=True,
        gradient_accumulation_fusion=False,
        **split,
        **moe,
    )
    spec = get_gpt_layer_local_spec(num_experts=experts, qk_layernorm=True, normalization="RMSNorm")
    model = GPTModel(
        config,
        spec,
        vocab_size=PADDED,
        max_sequence_length=64,
        pre_process=parallel_state.is_pipeline_first_stage(),
        post_process=parallel_state.is_pipeline_last_stage(),
        share_embeddings_and_output_weights=False,
        position_embedding_type="rope",
    )
    return Float16Module(config, model)


def _set_gradients(model: torch.nn.Module, step: int) -> None:
    """Random gradients, the same on every rank for what is not split."""
    for number, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(1000 * step + number)
        parameter.main_grad.copy_(torch.randn(parameter.shape, generator=generator))


def _save(rank: int, run: Path, step: int, model: Any, optimizer: Any, experts: int | None) -> None:
    """What Megatron-LM's `save_checkpoint` does around megatron-core's `save`."""
    arguments = argparse.Namespace(
        num_layers=LAYERS,
        hidden_size=HIDDEN,
        num_attention_heads=HEADS,
        num_query_groups=GROUPS,
        group_query_attention=True,
        kv_channels=SIZE,
        padded_vocab_size=PADDED,
        num_experts=experts,
        untie_embeddings_and_output_weights=True,
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
