"""The rules that say which rows of a fused projection are whose, by module and model type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from geomcheck.checkpoints.canonical.numbers import Numbers, Unsplittable, model_types
from geomcheck.checkpoints.canonical.parts import RowLayout

Shape = tuple[int, ...]

CONV1D_TYPES = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
"""Model types whose linear layers are ``Conv1D``, stored as (in, out)."""

_CONV1D_MODULE = re.compile(r"\.(?:c_attn|q_attn|c_proj|c_fc)\.weight$")


def has_conv1d(config: Mapping[str, Any]) -> bool:
    """Whether the model in `config` has any ``Conv1D``."""
    return bool(CONV1D_TYPES & model_types(config))


def is_conv1d(name: str, config: Mapping[str, Any]) -> bool:
    """Whether a weight of the model in `config` is that of a ``Conv1D``."""
    return has_conv1d(config) and _CONV1D_MODULE.search(name) is not None


@dataclass(frozen=True)
class SplitRule:
    """How one kind of fused module is laid out.

    Attributes:
        module: the last components of its path.
        types: the model types that have it so.
        layout: from the config's numbers and the tensor's shape; None where the module is not fused here.
            Raises Unsplittable.
        scope: the part of a multimodal model.
    """

    module: str
    types: frozenset[str]
    layout: Callable[[Numbers, Shape], RowLayout | None]
    scope: str = ""


def _qkv(groups: int, query: int, key: int) -> RowLayout:
    return RowLayout(groups, (("q_proj", query), ("k_proj", key), ("v_proj", key)))


def _stacked(numbers: Numbers, _: Shape) -> RowLayout:
    """All of q, then k, then v."""
    kv = numbers.kv_heads * numbers.head_dim
    return _qkv(1, numbers.heads * numbers.head_dim, kv)


def _per_head(numbers: Numbers, _: Shape) -> RowLayout:
    """q, k, v of each head in turn."""
    return _qkv(numbers.heads, numbers.head_dim, numbers.head_dim)


def _per_kv_head(numbers: Numbers, _: Shape) -> RowLayout:
    """For each k and v head: the q heads that use it, then k, then v."""
    heads_each = numbers.heads // numbers.kv_heads
    return _qkv(numbers.kv_heads, heads_each * numbers.head_dim, numbers.head_dim)


def _one_kv_head(numbers: Numbers, _: Shape) -> RowLayout:
    """All q heads, then the one k and v head that they share."""
    return _qkv(1, numbers.heads * numbers.head_dim, numbers.head_dim)


def _falcon(numbers: Numbers, shape: Shape) -> RowLayout:
    if numbers.flag("new_decoder_architecture", default=False):
        return _per_kv_head(numbers, shape)
    return _bigcode(numbers, shape)


def _bigcode(numbers: Numbers, shape: Shape) -> RowLayout:
    return _one_kv_head(numbers, shape) if numbers.flag("multi_query") else _per_head(numbers, shape)


def _chatglm(numbers: Numbers, shape: Shape) -> RowLayout:
    mqa = numbers.flag("multi_query_attention", default=False)
    return _stacked(numbers, shape) if mqa else _per_head(numbers, shape)


def _codegen(numbers: Numbers, _: Shape) -> RowLayout:
    """Four blocks, as four accelerators trained them; in each q, v, k: in this order."""
    rows, rest = divmod(numbers.heads * numbers.head_dim, 4)
    if rest:
        raise Unsplittable(f"{numbers.heads} heads of {numbers.head_dim} rows do not divide into 4 blocks")
    return RowLayout(4, (("q_proj", rows), ("v_proj", rows), ("k_proj", rows)))


def _equal(*names: str) -> Callable[[Numbers, Shape], RowLayout]:
    def layout(_: Numbers, shape: Shape) -> RowLayout:
        rows, rest = divmod(shape[0], len(names))
        if rest or not rows:
            raise Unsplittable(f"its shape {shape} does not divide into {len(names)} projections")
        return RowLayout(1, tuple((name, rows) for name in names))

    return layout


def _square_thirds(numbers: Numbers, shape: Shape) -> RowLayout:
    """q, k and v, each as wide as the hidden size."""
    if len(shape) == 2 and shape[0] != 3 * shape[1]:
        raise Unsplittable(f"its shape {shape} is not that of three square projections")
    return _equal("q_proj", "k_proj", "v_proj")(numbers, shape)


def _gated_query(numbers: Numbers, shape: Shape) -> RowLayout | None:
    """Qwen3-Next: for each head its query rows, then the rows of its output gate."""
    if not numbers.flag("attn_output_gate", default=True) or shape[0] == numbers.heads * numbers.head_dim:
        return None
    return RowLayout(numbers.heads, (("q_proj", numbers.head_dim), ("q_gate_proj", numbers.head_dim)))


def _linear_attention(numbers: Numbers) -> tuple[int, int, int, int]:
    """Key heads, rows of one, value heads for each, rows of all of those."""
    keys, values = numbers.linear_attention("num_key_heads"), numbers.linear_attention("num_value_heads")
    if values % keys:
        raise Unsplittable(f"{values} value heads do not divide into {keys} key heads")
    each = values // keys
    return keys, numbers.linear_attention("key_head_dim"), each, each * numbers.linear_attention("value_head_dim")


def _qkvz(numbers: Numbers, _: Shape) -> RowLayout:
    keys, key, _each, value = _linear_attention(numbers)
    return RowLayout(keys, (("in_proj_q", key), ("in_proj_k", key), ("in_proj_v", value), ("in_proj_z", value)))


def _beta_alpha(numbers: Numbers, _: Shape) -> RowLayout:
    keys, _key, each, _value = _linear_attention(numbers)
    return RowLayout(keys, (("in_proj_b", each), ("in_proj_a", each)))


def _linear_qkv(numbers: Numbers, _: Shape) -> RowLayout:
    keys, key, _each, value = _linear_attention(numbers)
    return RowLayout(1, (("in_proj_q", keys * key), ("in_proj_k", keys * key), ("in_proj_v", keys * value)))


_QWEN35 = frozenset({"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"})
_VISION = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe"}) | _QWEN35
_GATE_UP = frozenset({"phi3", "glm", "glm4", "glm4v", "glm4v_text"})
_halves = _equal("gate_proj", "up_proj")

RULES = (
    SplitRule("crossattention.c_attn", frozenset({"gpt2"}), _equal("k_proj", "v_proj")),
    SplitRule("attn.c_attn", CONV1D_TYPES | {"qwen"}, _square_thirds),
    SplitRule("attn.c_attn", frozenset({"gpt_bigcode"}), _bigcode),
    SplitRule("qkv_proj", frozenset({"phi3"}), _stacked),
    SplitRule("qkv_proj", frozenset({"codegen"}), _codegen),
    SplitRule("query_key_value", frozenset({"gpt_neox", "bloom", "persimmon"}), _per_head),
    SplitRule("query_key_value", frozenset({"falcon"}), _falcon),
    SplitRule("query_key_value", frozenset({"chatglm"}), _chatglm),
    SplitRule("attention.wqkv", frozenset({"internlm2"}), _per_kv_head),
    SplitRule("W_pack", frozenset({"baichuan"}), _square_thirds),
    SplitRule("Wqkv", frozenset({"mpt"}), _square_thirds),
    SplitRule("Wqkv", frozenset({"dbrx"}), _stacked),
    SplitRule("attn.qkv", _VISION, _square_thirds, scope="vision"),
    SplitRule("self_attn.q_proj", _QWEN35 | {"qwen3_next"}, _gated_query),
    SplitRule("in_proj_qkvz", frozenset({"qwen3_next"}), _qkvz),
    SplitRule("in_proj_ba", frozenset({"qwen3_next"}), _beta_alpha),
    SplitRule("in_proj_qkv", _QWEN35, _linear_qkv),
    SplitRule("gate_up_proj", _GATE_UP, _halves),
    SplitRule("mlp.dense_h_to_4h", frozenset({"chatglm"}), _halves),
)
"""From the models' own forward passes; the test of each rule is that pass, not the rule written again."""
