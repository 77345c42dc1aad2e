"""Split fused projections such as ``qkv_proj``, ``c_attn`` and ``gate_up_proj`` by the rules of the model type.

A tensor whose rule is not known, or that does not fit its rule exactly, stays whole and says so: the singular
values of a fused matrix are not those of its parts, and a wrong split has neither.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from geomcheck.checkpoints.canonical.numbers import Numbers, Unsplittable, model_types, section
from geomcheck.checkpoints.canonical.parts import Part, Pieces, taken_apart
from geomcheck.checkpoints.canonical.rows import RowLayout, transpose
from geomcheck.checkpoints.canonical.rules import RULES, Shape, SplitRule, is_conv1d
from geomcheck.checkpoints.source import Stored, WeightSource
from geomcheck.checkpoints.weights import describe, scope_of
from geomcheck.errors import RunError

_FUSED = re.compile(r"qkv|query_key_value|w_?pack|c_attn|gate_up_proj|^in_proj_weight$", re.IGNORECASE)
_DBRX_EXPERTS = re.compile(r"ffn\.experts\.mlp\.[wv][12]$")
_BY_MODULE = {
    module: tuple(rule for rule in RULES if rule.module.rpartition(".")[2] == module)
    for module in {rule.module.rpartition(".")[2] for rule in RULES}
}

_PLACEHOLDERS = ((0,), (1,))


def upright(source: WeightSource, config: Mapping[str, Any]) -> WeightSource:
    """`source` with every weight as (out, in): GPT-2's ``Conv1D`` stores (in, out)."""

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
    return bool(named) and len(stored.shape) <= 2 and describe(path, stored.shape).kind != "norm"


def _rule(path: str, config: Mapping[str, Any]) -> SplitRule | None:
    for rule in _BY_MODULE.get(path.rpartition(".")[2], ()):
        scope = scope_of(path)
        here = rule.scope == scope and f".{path}".endswith(f".{rule.module}")
        if here and rule.types & model_types(config, scope):
            return rule
    return None
