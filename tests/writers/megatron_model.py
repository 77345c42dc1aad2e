"""A model of megatron-core that lies on several ranks, and what it is as a whole, under Hugging Face names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from megatron.core import parallel_state
from megatron.core.models.gpt import GPTModel
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.module import Float16Module
from torch import Tensor
from torch.overrides import TorchFunctionMode

from tests.writers.truth import SIZES, VOCABULARY

HEADS, GROUPS, SIZE = SIZES["num_attention_heads"], SIZES["num_key_value_heads"], SIZES["head_dim"]
PADDED = 128
"""Rows of Megatron's embedding, which is padded."""

TOP = {
    "embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "output_layer.weight": "lm_head.weight",
    "decoder.final_layernorm.weight": "model.norm.weight",
}
IN_LAYER = {
    "self_attention.linear_proj.weight": "self_attn.o_proj.weight",
    "self_attention.q_layernorm.weight": "self_attn.q_norm.weight",
    "self_attention.k_layernorm.weight": "self_attn.k_norm.weight",
    "input_layernorm.weight": "input_layernorm.weight",
    "pre_mlp_layernorm.weight": "post_attention_layernorm.weight",
    "mlp.router.weight": "mlp.gate.weight",
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


def build_model(split: Mapping[str, int], *, experts: int | None = None, tied: bool = False) -> Float16Module:
    """The part of the model that this rank has, in bf16, with the same weights whoever has them."""
    torch.manual_seed(0)
    width = SIZES["intermediate_size"]
    moe = {"num_moe_experts": experts, "moe_ffn_hidden_size": width, "moe_router_topk": 2} if experts else {}
    config = TransformerConfig(
        num_layers=SIZES["num_hidden_layers"],
        hidden_size=SIZES["hidden_size"],
        ffn_hidden_size=width,
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
        share_embeddings_and_output_weights=tied,
        position_embedding_type="rope",
    )
    return Float16Module(config, model)


def whole_model(model: Any) -> dict[str, Tensor]:
    """Every parameter of the model of which each rank has a part."""
    own = [(name, parameter.detach().clone(), _split(parameter)) for name, parameter in _numbered(model)]
    of_ranks: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(of_ranks, own)
    parts: dict[str, list[Tensor]] = {}
    splits: dict[str, int] = {}
    for name, tensor, split in (entry for entries in of_ranks for entry in entries):
        parts.setdefault(name, []).append(tensor)
        splits[name] = split
    found: dict[str, Tensor] = {}
    for name, tensors in parts.items():
        found |= _renamed(name, tensors if splits[name] >= 0 else tensors[:1], max(splits[name], 0))
    return found


def _split(parameter: Tensor) -> int:
    """The dimension that tensor parallelism splits, or -1."""
    parallel = parallel_state.get_tensor_model_parallel_world_size() > 1
    return parameter.partition_dim if parallel and getattr(parameter, "tensor_model_parallel", False) else -1


def _numbered(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The parameters of this rank, with the numbers that layers and experts have in the whole model."""
    numbers = [layer.layer_number - 1 for layer in model.decoder.layers]
    for name, parameter in model.named_parameters():
        words = name.split(".")
        if "layers" in words:
            at = words.index("layers") + 1
            words[at] = str(numbers[int(words[at])])
        if "local_experts" in words:
            at = words.index("local_experts") + 1
            of_rank = model.config.num_moe_experts // parallel_state.get_expert_model_parallel_world_size()
            words[at] = str(int(words[at]) + parallel_state.get_expert_model_parallel_rank() * of_rank)
        yield ".".join(words), parameter


def _renamed(name: str, parts: list[Tensor], split: int) -> dict[str, Tensor]:
    """What a parameter is in Hugging Face's model, from its part on every tensor-parallel rank."""
    whole = torch.cat(parts, dim=split)
    if name in TOP:
        return {TOP[name]: whole[:VOCABULARY] if name != "decoder.final_layernorm.weight" else whole}
    _, _, layer, rest = name.split(".", 3)
    into = f"model.layers.{layer}."
    if rest in IN_LAYER:
        return {into + IN_LAYER[rest]: whole}
    if rest == "self_attention.linear_qkv.weight":
        return {f"{into}self_attn.{letter}_proj.weight": rows for letter, rows in _heads(whole).items()}
    place, _, projection = rest.removesuffix(".weight").rpartition(".")
    place = place.replace("local_experts.", "")
    if projection == "linear_fc2":
        return {f"{into}{place}.down_proj.weight": whole}
    assert projection == "linear_fc1", name
    halves = zip(*(part.chunk(2) for part in parts), strict=True)  # gate and up, of each rank
    return {f"{into}{place}.{half}_proj.weight": torch.cat(of) for half, of in zip(("gate", "up"), halves, strict=True)}


def _heads(fused: Tensor) -> dict[str, Tensor]:
    """Queries, keys and values: the heads lie by group, the queries of a group before its key and its value."""
    found: dict[str, list[Tensor]] = {"q": [], "k": [], "v": []}
    for number, head in enumerate(fused.split(SIZE)):
        place = number % (HEADS // GROUPS + 2) - HEADS // GROUPS
        found["q" if place < 0 else "kv"[place]].append(head)
    return {letter: torch.cat(heads) for letter, heads in found.items()}
