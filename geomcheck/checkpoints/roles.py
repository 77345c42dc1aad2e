"""The role of a tensor in the network, by its name and shape: one table of patterns for every architecture.

``tests/checkpoints/test_families.py`` holds the table against the modules of every model that transformers can build.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from geomcheck.checkpoints.layers import place_of

Role = Literal[
    "attention",  # projections of attention, of whatever kind: q, k, v, o, and what gates or indexes them
    "mlp",  # projections of MLPs, those of experts included
    "router",  # which expert a token goes to
    "projection",  # linear maps elsewhere: mixers of state-space models, projectors, poolers
    "embedding",  # rows that are looked up: of tokens, positions, kinds of tokens
    "table",  # relative-position biases
    "head",  # the output embeddings, and classifiers in their place
    "norm",
    "bias",
    "state",  # of a recurrence: A, D, the step size, its convolution
    "convolution",
    "buffer",  # what is computed or counted, and not trained: rotary frequencies, masks, running means
    "other",  # scales, learned tokens, and what else is no linear map
]

LINEAR: frozenset[Role] = frozenset({"attention", "mlp", "router", "projection"})
"""The roles of linear maps inside the network."""


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_BUFFER = _any(
    r"(?:^|[._])(?:inv_freq|rope_freqs|freqs_cis|(?:cos|sin)_cached|masked_bias|causal_mask|position_ids)$",
    r"(?:^|\.)(?:running_(?:mean|var)|num_batches_tracked|original_inv_freq)$",
    r"(?:^|\.)attn\.bias$",
)
_TABLE = _any(
    r"relative_(?:attention|position)_bias(?:_table|_layer\.\w+)?$",
    r"relative_positions?_(?:embeddings?|encoding)$",
    r"(?:^|\.)(?:rel_pos|emb_rel|rel_embeddings|attention_biases|pe_k)(?:_\w+)?$",
)
_BIAS = _any(r"bias(?:_[a-z]|_[ih]h_l\d+)?$")
_NORM = _any(r"norm", r"^ln(?:_|\d|f|$)", r"_ln\d?$", r"(?:^|_)bn\d*$")
_HEAD = _any(
    r"(?:^|\.)(?:lm_heads?(?:\.\d+)?(?:\.(?:decoder|out_proj))?|codec_heads?|generator_lm_head|lm_loss|embed_out)$",
    r"(?:^|\.)(?:predictions\.decoder|pred_layer\.proj|vocab_projector|vocab_projection|output_projection)$",
    r"^(?:\w+\.){0,2}(?:output_layer|score|classifier)$",
    r"^(?:proj_out|decoder|output|head|head\.decoder)$",
)
_STATE = re.compile(r"(?:^|\.)(?:A_log|A|D|dt_bias|\w*conv1d|time_(?:mix|decay|first)\w*)$")
_EMBEDDING = _any(
    r"(?:^|_)(?:embed(?:ding)?s?|wte|wpe|emb|tokens?|queries(?:_features)?|query_feat|reference_points|codebook)(?:_\d+)?$",
    r"embedder(?:_\d+)?$",
    r"embeddings_table$",
    r"(?:^|_)embed(?:ding)?s?_(?:tokens|positions|timestep|global|in|layers?)(?:_per_layer)?$",
    r"(?:^|_)(?:word|token|tok|position|positional)_embeddings?",
    r"^shared$",
)
_NOT_LOOKED_UP = _any(r"patch", r"proj", r"linear", r"(?:time|decoder|out_class)_embed$|^(?:class|mask)_embed(?:der)?$")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_NUMBERS = re.compile(r"(?:\.\d+)+$")
_ROUTER = _any(r"(?:mlp|moe|mixer|feed_forward|ffn|experts)\.(?:gate|router)(?:\.\w+)?$", r"\.\d+\.router(?:\.\w+)?$")
_BARE = _any(r"^(?:[qkvo]|qkv)_proj$")
_ATTENTION = _any(r"attn|attention|(?:^|_)att$|delta_?net")
_MLP = _any(
    r"(?:^|_)(?:mlps?|ffns?|ffw?|moe|experts?|feed_?forward)(?:_|\d|$)",
    r"DenseReluDense",
    r"(?:^|_)inter(?:mediate)?(?:_query)?$",
)
_IN_MLP = _any(
    r"^\.\d+\.(?:\w+_)?output(?:_query)?\.dense$",
    r"^\.\d+\.mixer\.(?:up|down)_proj$",
    r"^\.\d+\.(?:.*\.)?(?:fc\d?|lin(?:ear)?_?\d)$",
)
"""What in a layer belongs to an MLP that is no module of its own."""
_IN_ATTENTION = _any(r"^\.\d+\.mixer\.[qkvo]_proj$")
_RAW = _any(r"(?:^|_)(?:proj|linear|kernel|weight(?:_[ih]h_l\d+)?)$", r"^w(?:\d|_?[qkvo]|_(?:in|out))?$")
"""Linear maps that are parameters themselves, and not the weight of a module."""


def role_of(name: str, dimensions: int = 2) -> Role:
    """The role of a tensor with a canonical name, and of so many dimensions; it is that of all with other numbers."""
    return _role(_NUMBER.sub("0", name), dimensions)


@lru_cache(maxsize=1 << 14)
def _role(name: str, dimensions: int) -> Role:
    path = name.removesuffix(".weight")
    is_weight = path != name
    module = path.rpartition(".")[2]
    if _BUFFER.search(path) and not (module == "bias" and dimensions < 4):
        return "buffer"
    if _TABLE.search(path):
        return "table"
    if _BIAS.search(module) and not is_weight:
        return "bias"
    if _NORM.search(module) or (is_weight and dimensions == 1):
        return "norm"
    if _HEAD.search(path):
        return "head"
    if _STATE.search(path):
        return "state"
    if not (is_weight or _RAW.search(module)):
        return "embedding" if _EMBEDDING.search(module) else "other"
    block = _block(path)
    if is_weight and (dimensions > 3 or (dimensions == 3 and (block == "projection" or "conv" in path))):
        return "convolution"
    looked_up = _NUMBERS.sub("", path).rpartition(".")[2]
    if _EMBEDDING.search(looked_up) and not _NOT_LOOKED_UP.search(looked_up):
        return "embedding"
    return "router" if _ROUTER.search(path) else block


def _block(path: str) -> Role:
    """The role of a linear map, by the innermost component of its path in the layer that tells."""
    inner = path.removeprefix(place_of(path).stack)
    for component in reversed(inner.split(".")):
        if _NORM.search(component):
            return "projection"
        if _ATTENTION.search(component):
            return "attention"
        if _MLP.search(component):
            return "mlp"
    if _IN_MLP.search(inner):
        return "mlp"
    if _IN_ATTENTION.search(inner):
        return "attention"
    return "attention" if _BARE.search(inner.rpartition(".")[2]) else "projection"
