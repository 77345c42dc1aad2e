"""Fused projections: which rows of ``qkv_proj``, ``c_attn`` or ``gate_up_proj`` are whose, by model type.

A tensor whose rule is not known, or that does not fit its rule exactly, stays whole and says so: the singular
values of a fused matrix are not those of its parts, and a wrong split has neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from geomcheck.checkpoints.canonical.numbers import Numbers, Unsplittable, model_types, section
from geomcheck.checkpoints.canonical.parts import Part
from geomcheck.checkpoints.canonical.rows import Layout, transpose
from geomcheck.checkpoints.source import Stored, WeightSource
from geomcheck.checkpoints.weights import describe, scope_of
from geomcheck.errors import RunError

Shape = tuple[int, ...]

_FUSED = re.compile(r"qkv|query_key_value|w_?pack|c_attn|gate_up_proj|^in_proj_weight$", re.IGNORECASE)
_DBRX_EXPERTS = re.compile(r"ffn\.experts\.mlp\.[wv][12]$")
_PLACEHOLDERS = ((0,), (1,))
_CONV1D = re.compile(r"\.(?:c_attn|q_attn|c_proj|c_fc)\.weight$")
_CONV1D_TYPES = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})


@dataclass(frozen=True)
class Rule:
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
    layout: Callable[[Numbers, Shape], Layout | None]
    scope: str = ""


def upright(source: WeightSource, config: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Every weight as (out, in): GPT-2's ``Conv1D`` stores (in, out)."""
    conv1d = bool(_CONV1D_TYPES & model_types(config))
    for name, stored in source.weights.items():
        if conv1d and len(stored.shape) == 2 and _CONV1D.search(name):
            yield name, Part(name, replace(stored, shape=stored.shape[::-1]), take=transpose)
        else:
            yield name, Part(name, stored)


def projections(source: WeightSource, config: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Every projection as a matrix of its own.

    Raises:
        RunError: a fused weight is the placeholder of a tensor that lies elsewhere.
    """
    for name, stored in source.weights.items():
        path, _, leaf = name.rpartition(".")
        if leaf not in ("weight", "bias"):
            path, leaf = name, "weight"
        rule = _rule(path, config)
        if stored.fused or (rule is None and not _looks_fused(path, stored)):
            yield name, Part(name, stored)
            continue
        if name.endswith(".weight") and stored.shape in _PLACEHOLDERS:
            raise RunError(
                f"{source.path}: {name} has shape {stored.shape}, the placeholder of a tensor that DeepSpeed keeps "
                "elsewhere; write the weights out with zero_to_fp32.py and point at those"
            )
        yield from _split(name, path, leaf, stored, rule, config)


def _split(
    name: str, path: str, leaf: str, stored: Stored, rule: Rule | None, config: Mapping[str, Any]
) -> Iterator[tuple[str, Part]]:
    try:
        layout = _layout(path, stored.shape, rule, config)
    except Unsplittable as reason:
        yield name, Part(name, replace(stored, fused=str(reason)))
        return
    if layout is None:
        yield name, Part(name, stored)
        return
    parent = path.rpartition(".")[0]
    for projection, rows, take in layout.split():
        yield f"{parent}.{projection}.{leaf}", Part(name, replace(stored, shape=(rows, *stored.shape[1:])), take=take)


def _layout(path: str, shape: Shape, rule: Rule | None, config: Mapping[str, Any]) -> Layout | None:
    """The rows of a fused module. Raises Unsplittable."""
    if rule is None:
        types = " ".join(sorted(model_types(config))) or "a checkpoint without config.json"
        raise Unsplittable(f"its split is not known for {types}")
    layout = rule.layout(Numbers(section(config, rule.scope)), shape)
    if layout is not None and (len(shape) > 2 or layout.rows != shape[0]):
        parts = ", ".join(f"{layout.groups} x {rows} {name}" for name, rows in layout.projections)
        raise Unsplittable(f"its shape {shape} does not fit the config, which makes {layout.rows} rows: {parts}")
    return layout


def _looks_fused(path: str, stored: Stored) -> bool:
    named = _FUSED.search(path.rpartition(".")[2]) or _DBRX_EXPERTS.search(path)
    return bool(named) and len(stored.shape) <= 2 and describe(path, stored.shape).kind != "norm"


def _rule(path: str, config: Mapping[str, Any]) -> Rule | None:
    scope = scope_of(path)
    for rule in _BY_MODULE.get(path.rpartition(".")[2], ()):
        here = rule.scope == scope and f".{path}".endswith(f".{rule.module}")
        if here and rule.types & model_types(config, scope):
            return rule
    return None


def _qkv(groups: int, query: int, key: int) -> Layout:
    return Layout(groups, (("q_proj", query), ("k_proj", key), ("v_proj", key)))


def _stacked(numbers: Numbers, _: Shape) -> Layout:
    """All of q, then k, then v."""
    kv = numbers.kv_heads * numbers.head_dim
    return _qkv(1, numbers.heads * numbers.head_dim, kv)


def _per_head(numbers: Numbers, _: Shape) -> Layout:
    """q, k, v of each head in turn."""
    return _qkv(numbers.heads, numbers.head_dim, numbers.head_dim)


def _per_kv_head(numbers: Numbers, _: Shape) -> Layout:
    """For each k and v head: the q heads that use it, then k, then v."""
    heads_each = numbers.heads // numbers.kv_heads
    return _qkv(numbers.kv_heads, heads_each * numbers.head_dim, numbers.head_dim)


def _one_kv_head(numbers: Numbers, _: Shape) -> Layout:
    """All q heads, then the one k and v head that they share."""
    return _qkv(1, numbers.heads * numbers.head_dim, numbers.head_dim)


def _falcon(numbers: Numbers, shape: Shape) -> Layout:
    if numbers.flag("new_decoder_architecture", default=False):
        return _per_kv_head(numbers, shape)
    return _one_kv_head(numbers, shape) if numbers.flag("multi_query") else _per_head(numbers, shape)


def _bigcode(numbers: Numbers, shape: Shape) -> Layout:
    return _one_kv_head(numbers, shape) if numbers.flag("multi_query") else _per_head(numbers, shape)


def _chatglm(numbers: Numbers, shape: Shape) -> Layout:
    mqa = numbers.flag("multi_query_attention", default=False)
    return _stacked(numbers, shape) if mqa else _per_head(numbers, shape)


def _codegen(numbers: Numbers, _: Shape) -> Layout:
    """Four blocks, as four accelerators trained them; in each q, v, k: in this order."""
    rows, rest = divmod(numbers.heads * numbers.head_dim, 4)
    if rest:
        raise Unsplittable(f"{numbers.heads} heads of {numbers.head_dim} rows do not divide into 4 blocks")
    return Layout(4, (("q_proj", rows), ("v_proj", rows), ("k_proj", rows)))


def _equal(*names: str) -> Callable[[Numbers, Shape], Layout]:
    def layout(_: Numbers, shape: Shape) -> Layout:
        rows, rest = divmod(shape[0], len(names))
        if rest or not rows:
            raise Unsplittable(f"its shape {shape} does not divide into {len(names)} projections")
        return Layout(1, tuple((name, rows) for name in names))

    return layout


def _square_thirds(numbers: Numbers, shape: Shape) -> Layout:
    """q, k and v, each as wide as the hidden size."""
    if len(shape) == 2 and shape[0] != 3 * shape[1]:
        raise Unsplittable(f"its shape {shape} is not that of three square projections")
    return _equal("q_proj", "k_proj", "v_proj")(numbers, shape)


def _gated_query(numbers: Numbers, shape: Shape) -> Layout | None:
    """Qwen3-Next: for each head its query rows, then the rows of its output gate."""
    if not numbers.flag("attn_output_gate", default=True) or shape[0] == numbers.heads * numbers.head_dim:
        return None
    return Layout(numbers.heads, (("q_proj", numbers.head_dim), ("q_gate_proj", numbers.head_dim)))


def _linear_attention(numbers: Numbers) -> tuple[int, int, int, int]:
    """Key heads, rows of one, value heads for each, rows of all of those."""
    keys, values = numbers.linear_attention("num_key_heads"), numbers.linear_attention("num_value_heads")
    if values % keys:
        raise Unsplittable(f"{values} value heads do not divide into {keys} key heads")
    each = values // keys
    return keys, numbers.linear_attention("key_head_dim"), each, each * numbers.linear_attention("value_head_dim")


def _qkvz(numbers: Numbers, _: Shape) -> Layout:
    keys, key, _each, value = _linear_attention(numbers)
    return Layout(keys, (("in_proj_q", key), ("in_proj_k", key), ("in_proj_v", value), ("in_proj_z", value)))


def _beta_alpha(numbers: Numbers, _: Shape) -> Layout:
    keys, _key, each, _value = _linear_attention(numbers)
    return Layout(keys, (("in_proj_b", each), ("in_proj_a", each)))


def _linear_qkv(numbers: Numbers, _: Shape) -> Layout:
    keys, key, _each, value = _linear_attention(numbers)
    return Layout(1, (("in_proj_q", keys * key), ("in_proj_k", keys * key), ("in_proj_v", keys * value)))


_QWEN35 = frozenset({"qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text"})
_VISION = frozenset({"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe"}) | _QWEN35
_GATE_UP = frozenset({"phi3", "glm", "glm4", "glm4v", "glm4v_text"})
_halves = _equal("gate_proj", "up_proj")

RULES = (
    Rule("crossattention.c_attn", frozenset({"gpt2"}), _equal("k_proj", "v_proj")),
    Rule("attn.c_attn", _CONV1D_TYPES | {"qwen"}, _square_thirds),
    Rule("attn.c_attn", frozenset({"gpt_bigcode"}), _bigcode),
    Rule("qkv_proj", frozenset({"phi3"}), _stacked),
    Rule("qkv_proj", frozenset({"codegen"}), _codegen),
    Rule("query_key_value", frozenset({"gpt_neox", "bloom", "persimmon"}), _per_head),
    Rule("query_key_value", frozenset({"falcon"}), _falcon),
    Rule("query_key_value", frozenset({"chatglm"}), _chatglm),
    Rule("attention.wqkv", frozenset({"internlm2"}), _per_kv_head),
    Rule("W_pack", frozenset({"baichuan"}), _square_thirds),
    Rule("Wqkv", frozenset({"mpt"}), _square_thirds),
    Rule("Wqkv", frozenset({"dbrx"}), _stacked),
    Rule("attn.qkv", _VISION, _square_thirds, scope="vision"),
    Rule("self_attn.q_proj", _QWEN35 | {"qwen3_next"}, _gated_query),
    Rule("in_proj_qkvz", frozenset({"qwen3_next"}), _qkvz),
    Rule("in_proj_ba", frozenset({"qwen3_next"}), _beta_alpha),
    Rule("in_proj_qkv", _QWEN35, _linear_qkv),
    Rule("gate_up_proj", _GATE_UP, _halves),
    Rule("mlp.dense_h_to_4h", frozenset({"chatglm"}), _halves),
)
"""From the models' own forward passes; the test of each rule is that pass, not the rule written again."""

_BY_MODULE = {
    module: tuple(rule for rule in RULES if rule.module.rpartition(".")[2] == module)
    for module in {rule.module.rpartition(".")[2] for rule in RULES}
}
