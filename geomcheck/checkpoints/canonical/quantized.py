"""Recognise quantized weights from headers and refuse them, but for fp8 with scales, which can be dequantized.

The step between two values of a quantized weight is far above a training update: what could be measured is
the quantization. Scales are never weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geomcheck.checkpoints.canonical.parts import Part, Pieces, taken_apart
from geomcheck.checkpoints.changes import whole
from geomcheck.checkpoints.source import Stored, WeightSource
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_BLOCK = (128, 128)

_FORMATS = (
    (re.compile(r"\.quant_state\.bitsandbytes__\w+$"), "bitsandbytes 4-bit"),
    (re.compile(r"\.SCB$"), "bitsandbytes int8"),
    (re.compile(r"\.qweight$"), "GPTQ or AWQ"),
    (re.compile(r"\.weight_packed$"), "compressed-tensors"),
    (re.compile(r"\.weight_(?:scale_2|global_scale)$"), "NVFP4"),
    (re.compile(r"\.W_q$"), "HQQ"),
)
_INTEGERS = ("I8", "U8", "I32", "I4", "U4")
_SCALE = re.compile(r"(?:weight_scale(?:_inv)?|_proj_scale_inv|input_scale|activation_scale(?:_inv)?)$")


def is_fp8(stored: Stored) -> bool:
    """Whether a tensor is stored as 8-bit floating point."""
    return stored.dtype.startswith("F8_E4M3") or stored.dtype.startswith("F8_E5M2")


def unquantized(source: WeightSource, config: Mapping[str, Any], *, dequantize: bool) -> WeightSource:
    """`source` without the tensors that only scale others; fp8 as fp32 where `dequantize` asks for it. Raises RunError
    if weights are quantized in another format, or a scale does not fit its weight."""
    for name, what in _quantized(source.weights):
        raise RunError(
            f"{source.path}: {name}: quantized ({what}): its rounding is far above a training update. "
            "Give the model in bf16, fp16 or fp32: the weights that were quantized, not those read back from this"
        )
    if not any(is_fp8(stored) for stored in source.weights.values()):
        return source

    def unscaled(name: str, stored: Stored) -> Pieces | None:
        if _SCALE.search(name):
            return []
        scale = _scale(source.weights, name) if dequantize else None
        if scale is None:
            return None
        block = _block(source, name, stored.shape, scale, config)
        return [(name, Part(name, Stored(stored.shape, "fp32"), take=Dequantize(source, scale, block)))]

    return taken_apart(source, unscaled)


@dataclass(frozen=True)
class Dequantize:
    """W = q * scale, both as fp32; each entry of the scale spans `block` rows and columns, the last ones cropped."""

    source: WeightSource
    scale: str
    block: tuple[int, int]

    def __call__(self, quantized: Tensor) -> Tensor:
        """The matrix. Raises RunError."""
        rows, columns = quantized.shape
        scale = whole(self.source.read(self.scale)).float()
        if scale.ndim < 2:
            scale = scale.reshape(-1, 1)
        spread = scale.repeat_interleave(self.block[0], 0)[:rows].repeat_interleave(self.block[1], 1)[:, :columns]
        return quantized.float() * spread


def _quantized(weights: Mapping[str, Stored]) -> Iterator[tuple[str, str]]:
    """(tensor, format) where the name alone says it, or a tensor beside it."""
    for pattern, what in _FORMATS:
        yield from ((name, what) for name in weights if pattern.search(name))
    for name, stored in weights.items():
        if name.endswith("_blocks") and f"{name.removesuffix('_blocks')}_scales" in weights:
            yield name, "MXFP4"
        if stored.dtype in _INTEGERS and f"{name}_scale" in weights:
            yield name, f"{stored.dtype} with scales, as compressed-tensors writes it"


def holds_scaled_fp8(source: WeightSource) -> bool:
    """Whether there is an fp8 matrix here that can be dequantized."""
    return any(_scale(source.weights, name) is not None for name in source.weights)


def _scale(weights: Mapping[str, Stored], name: str) -> str | None:
    """The tensor that scales an fp8 matrix; None for any other weight."""
    if not is_fp8(weights[name]) or len(weights[name].shape) != 2:
        return None
    return next((scale for scale in (f"{name}_scale_inv", f"{name}_scale") if scale in weights), None)


def _block(
    source: WeightSource, name: str, shape: tuple[int, ...], scale: str, config: Mapping[str, Any]
) -> tuple[int, int]:
    """Rows and columns that one entry of the scale spans. Raises RunError."""
    rows, columns = shape
    stored = source.weights[scale].shape
    if stored in ((), (1,), (1, 1)):
        return rows, columns
    if stored in ((rows,), (rows, 1)):
        return 1, columns
    block = _block_size(config)
    if stored != tuple(-(-length // step) for length, step in zip(shape, block, strict=True)):
        raise RunError(
            f"{source.path}: {scale} has shape {stored}, which is no scale for {name} of shape {shape}: neither one "
            f"for all, nor one a row, nor one for each block of {block[0]} x {block[1]}"
        )
    return min(block[0], rows), min(block[1], columns)


def _block_size(config: Mapping[str, Any]) -> tuple[int, int]:
    """``weight_block_size`` of the config, or the usual one."""
    quantization = config.get("quantization_config")
    found = quantization.get("weight_block_size") if isinstance(quantization, Mapping) else None
    if isinstance(found, list) and len(found) == 2 and all(type(n) is int and n > 0 for n in found):
        return found[0], found[1]
    return DEFAULT_BLOCK
