"""Bring the tensors of all layouts under canonical names, as matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geomcheck.checkpoints.canonical import megatron, torchtitan
from geomcheck.checkpoints.canonical.experts import single_experts
from geomcheck.checkpoints.canonical.fused import projections, upright
from geomcheck.checkpoints.canonical.names import plain
from geomcheck.checkpoints.canonical.numbers import layer_count
from geomcheck.checkpoints.canonical.parts import parts_of, taken_alike
from geomcheck.checkpoints.canonical.quantized import holds_scaled_fp8, is_fp8, unquantized
from geomcheck.checkpoints.canonical.tied import tied_apart, tied_once, ties
from geomcheck.checkpoints.source import WeightSource

__all__ = [
    "canonical",
    "canonical_each",
    "holds_scaled_fp8",
    "is_fp8",
    "layer_count",
    "tied_apart",
    "tied_once",
    "ties",
]


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


def canonical_each(
    sources: Sequence[WeightSource], configs: Sequence[Mapping[str, Any]], *, dequantize: bool = False
) -> list[WeightSource]:
    """Each of `sources` as `canonical` has it by its config. The checkpoints of a run mostly have tensors of the same
    names, shapes and formats, which are worked out once then. Raises RunError."""
    seen: list[WeightSource] = []
    for index, (source, config) in enumerate(zip(sources, configs, strict=True)):
        before = sources[index - 1]
        alike = (
            index > 0
            and (config, source.config) == (configs[index - 1], before.config)
            and source.weights == before.weights
            and not (dequantize and holds_scaled_fp8(source))  # its parts read their scales from their own source
        )
        seen.append(
            taken_alike(seen[-1], before, source) if alike else canonical(source, config, dequantize=dequantize)
        )
    return seen
