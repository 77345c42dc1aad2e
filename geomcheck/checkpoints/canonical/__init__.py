"""Bring the tensors of all layouts under canonical names, as matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geomcheck.checkpoints.canonical import megatron, torchtitan
from geomcheck.checkpoints.canonical.experts import single_experts
from geomcheck.checkpoints.canonical.fused import projections, upright
from geomcheck.checkpoints.canonical.names import plain
from geomcheck.checkpoints.canonical.numbers import layer_count
from geomcheck.checkpoints.canonical.parts import parts_of
from geomcheck.checkpoints.canonical.quantized import holds_scaled_fp8, is_fp8, unquantized
from geomcheck.checkpoints.canonical.tied import tied_apart, tied_once, ties
from geomcheck.checkpoints.source import WeightSource

__all__ = ["canonical", "holds_scaled_fp8", "is_fp8", "layer_count", "tied_apart", "tied_once", "ties"]


DIALECTS = ((megatron.speaks, megatron.parts), (torchtitan.speaks, torchtitan.parts))
"""Of each framework with names of its own: whether these are they, and its tensors under Hugging Face's names."""


def canonical(source: WeightSource, config: Mapping[str, Any], *, dequantize: bool = False) -> WeightSource:
    """`source` as matrices (out, in) under the names of the unfused Hugging Face model.

    Headers are enough; no weight is read.

    Args:
        source: the tensors as they are stored.
        config: the architecture, under the keys of ``config.json``; empty where nothing is known.
        dequantize: make fp32 of fp8 weights and their scales, instead of leaving them unmeasurable.

    Raises:
        RunError: two tensors are one weight, weights are quantized, or a tensor is a placeholder.
    """
    parts = next((parts for speaks, parts in DIALECTS if speaks(source.weights)), None)
    seen = plain(source, config) if parts is None else parts_of(source, parts(source, config))
    seen = unquantized(seen, config, dequantize=dequantize)
    return projections(upright(single_experts(seen, config), config), config)
