"""Split fused projections such as ``qkv_proj``, ``c_attn`` and ``gate_up_proj`` by the rules of the model type.

A tensor whose rule is not known, or that does not fit its rule exactly, stays whole and says so: the singular
values of a fused matrix are not those of its parts, and a wrong split has neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.canonical.numbers import Numbers, Unsplittable, model_types, scope_of, section
from geomcheck.checkpoints.canonical.parts import Part, Pieces, RowLayout, taken_apart, transpose
from geomcheck.checkpoints.canonical.rules import RULES, Shape, SplitRule, has_conv1d, is_conv1d
from geomcheck.checkpoints.source import Stored, WeightSource
from geomcheck.checkpoints.weights import describe
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_FUSED = re.compile(r"qkv|query_key_value|w_?pack|c_attn|gate_up_proj|^in_proj_weight$", re.IGNORECASE)
_DBRX_EXPERTS = re.compile(r"ffn\.experts\.mlp\.[wv][12]$")
_BY_MODULE = {
    module: tuple(rule for rule in RULES if rule.module.rpartition(".")[2] == module)
    for module in {rule.module.rpartition(".")[2] for rule in RULES}
}

_PLACEHOLDERS = ((0,), (1,))


def upright(source: WeightSource, config: Mapping[str, Any]) -> WeightSource:
    """`source` with every weight as (out, in): GPT-2's ``Conv1D`` stores (in, out)."""
    if not has_conv1d(config):
        return source

    def turned(name: str, stored: Stored) -> Pieces | None:
        if len(stored.shape) != 2 or not is_conv1d(name, config):
            return None
        return [(name, Part(name, replace(stored, shape=stored.shape[::-1]), take=transpose))]

    return taken_apart(source, turned)


def projections(source: WeightSource, config: Mapping[str, Any]) -> WeightSource:
    """`source` with every projection as a matrix of its own. Raises RunError if a fused weight is the placeholder of a
    tensor that lies elsewhere, and as `parts_of`."""

    def split(name: str, stored: Stored) -> Pieces | None:
        path, leaf = _module(name)
        rule = _rule(path, config)
        if stored.fused or (rule is None and not _looks_fused(path, stored)):
            return None
        if name.endswith(".weight") and stored.shape in _PLACEHOLDERS:
            raise RunError(
                f"{source.path}: {name} has shape {stored.shape}, the placeholder of a tensor that DeepSpeed keeps "
                "elsewhere; write the weights out with zero_to_fp32.py and point at those"
            )
        try:
            layout = _layout(path, stored.shape, rule, config)
        except Unsplittable as reason:
            return [(name, Part(name, replace(stored, fused=str(reason))))]
        above = path[: path.rfind(".") + 1]
        if layout is None:
            return None
        return [
            (f"{above}{projection}.{leaf}", Part(name, replace(stored, shape=(rows, *stored.shape[1:])), take=take))
            for projection, rows, take in layout.split()
        ]

    return taken_apart(source, split)


def _module(name: str) -> tuple[str, str]:
    """The path of a tensor's module, and which of its tensors it is: ``weight`` or ``bias``."""
    path, _, leaf = name.rpartition(".")
    return (path, leaf) if leaf in ("weight", "bias") else (name, "weight")


def _layout(path: str, shape: Shape, rule: SplitRule | None, config: Mapping[str, Any]) -> RowLayout | None:
    """The rows of a fused module. Raises Unsplittable."""
    if len(shape) not in (1, 2):
        raise Unsplittable(f"its shape {shape} is not that of a projection")
    if rule is None:
        types = " ".join(sorted(model_types(config))) or "a checkpoint without config.json"
        raise Unsplittable(f"its split is not known for {types}")
    layout = rule.layout(Numbers(section(config, rule.scope)), shape)
    if layout is not None and layout.rows != shape[0]:
        parts = ", ".join(f"{layout.groups} x {rows} {name}" for name, rows in layout.projections)
        raise Unsplittable(f"its shape {shape} does not fit the config, which makes {layout.rows} rows: {parts}")
    return layout


def _looks_fused(path: str, stored: Stored) -> bool:
    named = _FUSED.search(path[path.rfind(".") + 1 :]) or _DBRX_EXPERTS.search(path)
    return bool(named) and len(stored.shape) <= 2 and describe(path, stored.shape).role != "norm"


def _rule(path: str, config: Mapping[str, Any]) -> SplitRule | None:
    rules = _BY_MODULE.get(path.rpartition(".")[2], ())
    here = (rule for rule in rules if rule.scope == scope_of(path) and f".{path}".endswith(f".{rule.module}"))
    return next((rule for rule in here if rule.types & model_types(config, rule.scope)), None)


def split_grouped_qkv(fused: Part, *, heads: Any, groups: Any, size: Any) -> dict[str, Part] | None:
    """The parts ``q``, ``k`` and ``v`` of a fused weight or bias.

    Megatron and torchtitan store it as (groups, queries per group + 2, size, in). Where attention has an output
    gate, which shows in the number of rows, the gates of a group follow its queries; Hugging Face has each query head
    followed by its own gate.

    Args:
        fused: the whole of it, without `take`.
        heads, groups, size: numbers of query heads, of keys, and of rows per head, whatever the config says they are.

    Returns:
        The parts, or None where these are no such numbers, or do not fit the number of rows.
    """
    if any(type(number) is not int or number < 1 for number in (heads, groups, size)) or heads % groups:
        return None
    rows, *rest = fused.stored.shape or (0,)
    own = heads // groups * size
    layouts = [RowLayout(groups, (("q", queries), ("k", size), ("v", size))) for queries in (own, 2 * own)]
    layout = next((layout for layout in layouts if layout.rows == rows), None)
    if layout is None:
        return None
    parts = {}
    for letter, count, taken in layout.split():
        own_gates = letter == "q" and layout is layouts[1]
        take = partial(_with_own_gates, queries=taken, groups=groups, size=size) if own_gates else taken
        parts[letter] = replace(fused, stored=Stored((count, *rest), fused.stored.dtype), take=take)
    return parts


def _with_own_gates(tensor: Tensor, *, queries: Callable[[Tensor], Tensor], groups: int, size: int) -> Tensor:
    """Each query head followed by its gate, (2 heads * size, in), where a group has all queries before all gates."""
    heads = queries(tensor)
    rest = heads.shape[1:]
    return heads.reshape(groups, 2, -1, size, *rest).transpose(1, 2).reshape(-1, *rest)
