"""torchtitan shards, optimizes and saves its own models: ``python -m tests.writers.write_torchtitan DIRECTORY``.

The gradients are random: its attention wants a GPU, its checkpoints do not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.components.optimizer import LRSchedulersContainer, default_adamw
from torchtitan.distributed.fsdp import apply_fsdp_to_decoder
from torchtitan.models import llama3, qwen3
from torchtitan.models.common import ComplexRoPE, CosSinRoPE

from tests.writers.truth import RANKS, SIZES, STEPS, keep, on_every_rank, write_base

WIDTH, HEADS, SIZE = SIZES["hidden_size"], SIZES["num_attention_heads"], SIZES["head_dim"]
LAYERS: dict[str, Any] = {
    "n_layers": SIZES["num_hidden_layers"],
    "dim": WIDTH,
    "n_heads": HEADS,
    "n_kv_heads": SIZES["num_key_value_heads"],
    "attn_backend": "flex",
}
EXPERTS = {"num_experts": 4, "moe_intermediate_size": 24, "num_experts_per_tok": 2}


def train(rank: int, directory: Path) -> None:
    """A run per model; one ends with an export to Hugging Face's format, as torchtitan does on request."""
    rope = CosSinRoPE.Config(dim=SIZE, max_seq_len=64)
    qwen = qwen3._build_qwen3_layers(**LAYERS, head_dim=SIZE, hidden_dim=SIZES["intermediate_size"], rope=rope)
    sparse = {"moe_hidden_dim": 24, "num_experts": 4, "top_k": 2, "moe_comm_backend": "standard"}
    moe = qwen3._build_qwen3_moe_layers(**LAYERS, **sparse, head_dim=SIZE, rope=rope)
    llama = llama3._build_llama3_layers(
        **LAYERS, hidden_dim=SIZES["intermediate_size"], rope=ComplexRoPE.Config(dim=SIZE, max_seq_len=64)
    )
    cases: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen3": (qwen3, qwen, {}),
        "qwen3-export": (qwen3, qwen, {}),
        "qwen3-moe": (qwen3, moe, EXPERTS),
        "llama3": (llama3, llama, {"model_type": "llama"}),
    }
    for name, (family, layers, config) in cases.items():
        _train(rank, directory / name, family, layers, config)


def _train(rank: int, case: Path, family: Any, layers: Any, config: Any) -> None:
    spec = family.model_registry("debugmodel")
    template = spec.model
    sizes = {"vocab_size": SIZES["vocab_size"], "dim": WIDTH, "layers": layers, "enable_weight_tying": False}
    template.norm.normalized_shape = template.lm_head.in_features = template.tok_embeddings.embedding_dim = WIDTH
    template.lm_head.out_features = template.tok_embeddings.num_embeddings = SIZES["vocab_size"]
    template.tok_embeddings.param_init = {"weight": torch.nn.init.normal_}
    for field, value in sizes.items():
        setattr(template, field, value)
    torch.manual_seed(0)
    model = template.build()
    mesh = init_device_mesh("cpu", (RANKS,), mesh_dim_names=("fsdp",))
    apply_fsdp_to_decoder(model, mesh, param_dtype=torch.bfloat16, reduce_dtype=torch.float32, pp_enabled=False)
    model.init_states()
    adapter = spec.state_dict_adapter(template, None)
    optimizers = default_adamw(lr=1e-3, foreach=False).build(model_parts=[model])
    checkpointer = CheckpointManager.Config(
        enable=True, folder="checkpoint", interval=1, last_save_in_hf=case.name == "qwen3-export"
    ).build(
        dataloader=None,
        model_parts=[model],
        optimizers=optimizers,
        lr_schedulers=LRSchedulersContainer.Config().build(optimizers=optimizers, training_steps=STEPS[-1]),
        states={},
        sd_adapter=adapter,
        base_folder=str(case / "run"),
    )
    checkpointer.save(0)
    whole = _whole(model, adapter)
    if rank == 0:
        write_base(case, whole, **config)
        if case.name == "qwen3":  # the seed checkpoint serves as W0 once it says what model it is
            shutil.copy(case / "base" / "config.json", case / "run" / "checkpoint" / "step-0")
    for step in range(1, STEPS[-1] + 1):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizers.step()
        if step in STEPS:
            checkpointer.save(step, last_step=step == STEPS[-1])
            whole = _whole(model, adapter)
            if rank == 0:
                keep(case, step, whole)
    checkpointer.close()


def _whole(model: Any, adapter: Any) -> dict[str, Tensor]:
    """The model under Hugging Face names, as torchtitan converts it."""
    state = {name: w.full_tensor() if isinstance(w, DTensor) else w for name, w in model.state_dict().items()}
    return adapter.to_hf(state)


if __name__ == "__main__":
    on_every_rank(train)
