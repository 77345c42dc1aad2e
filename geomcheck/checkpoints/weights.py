"""Describe a weight from headers alone: its name, shape, storage, and place in the network."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

Kind = Literal["attention", "mlp", "embedding", "head", "norm", "other"]

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.([0-9]{1,6})\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|output_layer|embed_out|score|classifier)\.weight$")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|wpe|word_embeddings|embed_in|embeddings?|pos_embed)(?:\.|$)")
_ATTENTION = re.compile(r"(?:^|\.)(?:self_attn|self_attention|attention|attn|cross_attn|crossattention|linear_attn)\.")
_MLP = re.compile(r"(?:^|\.)(?:mlp|feed_forward|ffn|block_sparse_moe|moe|experts?)\.")
_NORM = re.compile(r"norm|(?:^|\.)ln_", re.IGNORECASE)
_SCOPES = (
    ("vision", re.compile(r"(?:visual|vision_\w+|image_encoder)\.")),
    ("audio", re.compile(r"audio_\w+\.")),
    ("encoder", re.compile(r"(?:model\.)?encoder\.")),
)


@dataclass(frozen=True)
class Weight:
    """One named tensor of a run.

    Attributes:
        name: canonical name, as the Hugging Face model calls it.
        shape: as stored, (out, in) for matrices.
        layer: index of the layer within its scope, None outside layers.
        module: last component of the module path (``q_proj``).
        kind: role in the network.
        dtypes: storage formats seen, the base's first, then the run's (``bf16``, ``fp32``).
        scope: the part of the model that counts layers on its own: ``vision``, ``audio``, ``encoder``, or empty for
            the language model.
        fused: why several projections lie unsplit in this one matrix; empty where it is one projection.
    """

    name: str
    shape: tuple[int, ...]
    layer: int | None
    module: str
    kind: Kind
    dtypes: tuple[str, ...] = ()
    scope: str = ""
    fused: str = ""

    @property
    def numel(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @cached_property
    def is_matrix(self) -> bool:
        """Whether the diagnostics apply: two dimensions, both above 1, and no stack of biases."""
        return len(self.shape) == 2 and min(self.shape) > 1 and not self.name.endswith("bias")

    @cached_property
    def is_linear(self) -> bool:
        """Whether this is a matrix of a layer's linear map: no embedding, head or norm."""
        return self.is_matrix and self.kind not in ("embedding", "head", "norm")

    @property
    def is_bulky(self) -> bool:
        """Whether this is part of attention or an MLP, and not a vector, but no matrix either: fused experts."""
        return self.kind in ("attention", "mlp") and len(self.shape) >= 2 and not self.is_matrix


@lru_cache(maxsize=1 << 17)
def _place(name: str) -> tuple[int | None, Kind, str]:
    """Layer, kind and scope of a canonical weight name."""
    layer = _LAYER.search(name)
    return int(layer.group(1)) if layer else None, _kind(name), scope_of(name)


def describe(name: str, shape: tuple[int, ...], dtypes: tuple[str, ...] = (), *, fused: str = "") -> Weight:
    """Place a canonical weight name in the network."""
    layer, kind, scope = _place(name)
    return Weight(name, shape, layer, _module(name), kind, dtypes, scope, fused)


def scope_of(name: str) -> str:
    """The scope of a canonical weight name, as in `Weight`."""
    return next((scope for scope, pattern in _SCOPES if pattern.match(name)), "")


def _module(name: str) -> str:
    return name.removesuffix(".weight").rsplit(".", 1)[-1]


def _kind(name: str) -> Kind:
    if _HEAD.search(name):
        return "head"
    if _NORM.search(_module(name)):
        return "norm"
    if _ATTENTION.search(name):
        return "attention"
    if _MLP.search(name):
        return "mlp"
    return "embedding" if _EMBEDDING.search(name) else "other"
