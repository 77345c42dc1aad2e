"""Bring the tensors of all layouts under canonical names, as matrices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from geomcheck.checkpoints.canonical import megatron, torchtitan
from geomcheck.checkpoints.canonical.experts import single_experts
from geomcheck.checkpoints.canonical.fused import projections, upright
from geomcheck.checkpoints.canonical.names import plain
from geomcheck.checkpoints.canonical.numbers import layer_count
from geomcheck.checkpoints.canonical.parts import Part, parts_of
from geomcheck.checkpoints.canonical.quantized import holds_scaled_fp8, is_fp8, unquantized
from geomcheck.checkpoints.canonical.tied import tied_once, ties
from geomcheck.checkpoints.source import WeightSource

__all__ = ["DIALECTS", "Dialect", "canonical", "holds_scaled_fp8", "is_fp8", "layer_count", "tied_once", "ties"]


class Dialect(NamedTuple):
    """A framework that has names of its own.

    Attributes:
        speaks: whether these are its names.
        parts: its tensors under the names of the Hugging Face model, given the config. Raises RunError.
    """

    speaks: Callable[[Collection[str]], bool]
    parts: Callable[[WeightSource, Mapping[str, Any]], Iterable[tuple[str, Part]]]


DIALECTS = (Dialect(megatron.speaks, megatron.parts), Dialect(torchtitan.speaks, torchtitan.parts))


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
    dialect = next((dialect for dialect in DIALECTS if dialect.speaks(source.weights)), None)
    seen = parts_of(source, dialect.parts(source, config)) if dialect is not None else plain(source, config)
    seen = unquantized(seen, config, dequantize=dequantize)
    return projections(upright(single_experts(seen, config), config), config)
