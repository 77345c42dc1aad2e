"""torchtitan's own names, which are those of Meta's Llama: ``layers.0.attention.wq``, ``feed_forward.w1``."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.canonical.fused import split_grouped_qkv
from geomcheck.checkpoints.canonical.names import renamed
from geomcheck.checkpoints.canonical.parts import Part
from geomcheck.checkpoints.source import Stored, WeightSource
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_SPEAKS = re.compile(r"layers\.\d+\.attention\.(?:qkv_linear\.)?w(?:q|k|v|qkv)\.weight")
_LAYER = re.compile(r"layers\.(\d{1,6})\.(.+)")
_EXPERTS = re.compile(r"moe\.(?:routed_experts\.inner_)?experts\.(w[123])(?:_E\w*)?")
_FUSED = "attention.qkv_linear.wqkv.weight"

_TOP = {
    "tok_embeddings.weight": "model.embed_tokens.weight",
    "norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
    "lm_head.weight": "lm_head.weight",
}
_PROJECTIONS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
_IN_LAYER = {
    "attention_norm.": "input_layernorm.",
    "ffn_norm.": "post_attention_layernorm.",
    "attention.q_norm.": "self_attn.q_norm.",
    "attention.k_norm.": "self_attn.k_norm.",
    "attention.wo.": "self_attn.o_proj.",
    **{
        f"attention.{module}w{letter}.": f"self_attn.{letter}_proj."
        for module in ("", "qkv_linear.")
        for letter in "qkv"
    },
    **{f"feed_forward.{theirs}.": f"mlp.{ours}." for theirs, ours in _PROJECTIONS.items()},
    "moe.router.gate.": "mlp.gate.",
}


def speaks(names: Collection[str]) -> bool:
    """Whether these are torchtitan's names."""
    return any(_SPEAKS.fullmatch(name) for name in names)


def parts(source: WeightSource, config: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """The weights under Hugging Face names; what has no rule keeps its name.

    Llama's queries and keys have the rows of each head in another order than Hugging Face's, whose rotary
    embedding pairs the first half of a head with the second instead of neighbours. Their rows are put in that order.

    Raises RunError where neither the checkpoint's config nor W0's, `config`, says which model this is, or it is none
    whose names and rows are known.
    """
    model = {**config, **source.config}
    kind = model.get("model_type")
    if kind != "llama" and not str(kind).startswith("qwen3"):
        raise RunError(
            f"{source.path}: torchtitan's names, but of model_type {kind!r}: how they map to Hugging Face's is known "
            "for llama and qwen3. Put the model's config.json into W0's directory, such as step-0, which torchtitan "
            "writes without one; or export the checkpoint to Hugging Face's format"
        )
    for name, stored in source.weights.items():
        yield from _parts(source, model, name, stored)


def _parts(source: WeightSource, model: Mapping[str, Any], name: str, stored: Stored) -> Iterator[tuple[str, Part]]:
    """The canonical weights in one stored tensor."""
    layer = _LAYER.fullmatch(name)
    if layer is None:
        yield _TOP.get(name, name), Part(name, stored)
        return
    where, rest = f"model.layers.{layer[1]}", layer[2]
    if rest == _FUSED:
        for letter, part in _split(source, model, Part(name, stored)).items():
            yield f"{where}.self_attn.{letter}_proj.weight", part
        return
    if (experts := _EXPERTS.fullmatch(rest)) and len(stored.shape) == 3 and prod(stored.shape):
        for expert, part in enumerate(Part(name, stored).each()):
            yield f"{where}.mlp.experts.{expert}.{_PROJECTIONS[experts[1]]}.weight", part
        return
    suffix = renamed(rest, _IN_LAYER)
    heads = _rotated_heads(source, model, suffix, stored)
    yield f"{where}.{suffix}", Part(name, stored, take=partial(_halves_first, heads=heads) if heads else None)


def _split(source: WeightSource, model: Mapping[str, Any], fused: Part) -> Mapping[str, Part]:
    """Query, key and value of a fused projection; Llama's are refused, for want of a rule for the order of the rows."""
    heads, groups, size = (model.get(key) for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    split = split_grouped_qkv(fused, heads=heads, groups=groups, size=size)
    if split is None or model["model_type"] == "llama":
        raise RunError(
            f"{source.path}: {fused.tensor} of shape {list(fused.stored.shape)} fuses queries, keys and values, and "
            f"cannot be split for model_type {model['model_type']} with {heads} heads of {size} in {groups} groups; "
            "give W0 the config.json of this model, or export the checkpoint to Hugging Face's format"
        )
    return split


def _rotated_heads(source: WeightSource, model: Mapping[str, Any], suffix: str, stored: Stored) -> int | None:
    """Number of heads whose rows have to change places, or None where they have not."""
    keys = {"self_attn.q_proj.weight": "num_attention_heads", "self_attn.k_proj.weight": "num_key_value_heads"}
    if model.get("model_type") != "llama" or suffix not in keys:
        return None
    heads = model.get(keys[suffix]) or model.get("num_attention_heads")
    if type(heads) is not int or heads < 1 or len(stored.shape) != 2 or stored.shape[0] % (2 * heads):
        raise RunError(
            f"{source.path}: {suffix} of shape {list(stored.shape)} does not fit {heads} heads ({keys[suffix]} in "
            "config.json), so that its rows cannot be put in Hugging Face's order"
        )
    return heads


def _halves_first(tensor: Tensor, *, heads: int) -> Tensor:
    """The rows of each head: those with even index first, then those with odd."""
    rows, columns = tensor.shape
    return tensor.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)
