"""Megatron's names and fusions: stacked layers and experts, ``linear_qkv``, ``linear_fc1``, padded vocabularies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from math import prod
from typing import Any

from geomcheck.checkpoints.canonical.fused import split_grouped_qkv
from geomcheck.checkpoints.canonical.names import renamed
from geomcheck.checkpoints.canonical.parts import Part
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError

MAX_STACK = 10_000

_SPEAKS = re.compile(r"decoder\.layers\.(?:\d+\.)?(?:self_attention\.linear_|mlp\.(?:linear_fc|experts\.|router\.))")
_LAYER = re.compile(r"(decoder|mtp)\.layers\.(?:(\d{1,6})\.)?(.+)")
_QKV = re.compile(r"self_attention\.linear_qg?kv\.(weight|bias)")
_FC1 = re.compile(r"mlp\.(shared_experts\.)?linear_fc1\.(weight|bias)(_[wv])?")
_EXPERT = re.compile(r"mlp\.experts\.(?:experts\.)?(?:(\d{1,6})\.)?linear_(fc[12])\.weight(\d{1,6})?(_[wv])?")
_MTP_LAYER = re.compile(r"(?:transformer_layer|mtp_model_layer)\.")
_OWN_ATTENTION = re.compile(r"self_attention\.((?:linear_attn|self_attn)\..+)")

_TOP = {"decoder.final_layernorm.": "model.norm."}
_VOCABULARY = {"embedding.word_embeddings.weight": "model.embed_tokens.weight", "output_layer.weight": "lm_head.weight"}
_HALVES = {"_w": "gate_proj", "_v": "up_proj"}
_RENAMED = {
    "input_layernorm.": "input_layernorm.",
    "self_attention.input_layernorm.": "input_layernorm.",
    "self_attention.linear_qkv.layer_norm_": "input_layernorm.",
    "self_attention.linear_qgkv.layer_norm_": "input_layernorm.",
    "self_attention.linear_proj.": "self_attn.o_proj.",
    "self_attention.q_layernorm.": "self_attn.q_norm.",
    "self_attention.k_layernorm.": "self_attn.k_norm.",
    "self_attention.kv_layernorm.": "self_attn.kv_a_layernorm.",
    "self_attention.linear_q_up_proj.layer_norm_": "self_attn.q_a_layernorm.",
    "self_attention.linear_kv_up_proj.layer_norm_": "self_attn.kv_a_layernorm.",
    "self_attention.linear_q_proj.": "self_attn.q_proj.",
    "self_attention.linear_q_down_proj.": "self_attn.q_a_proj.",
    "self_attention.linear_q_up_proj.": "self_attn.q_b_proj.",
    "self_attention.linear_kv_down_proj.": "self_attn.kv_a_proj_with_mqa.",
    "self_attention.linear_kv_up_proj.": "self_attn.kv_b_proj.",
    "pre_mlp_layernorm.": "post_attention_layernorm.",
    "mlp.linear_fc1.layer_norm_": "post_attention_layernorm.",
    "mlp.linear_fc2.": "mlp.down_proj.",
    "mlp.router.expert_bias": "mlp.gate.e_score_correction_bias",
    "mlp.router.": "mlp.gate.",
    "mlp.shared_experts.gate_weight": "mlp.shared_expert_gate.weight",
    "final_layernorm.": "shared_head.norm.",
}
"""Start of a name within a layer, and what it becomes; the first that fits."""


def speaks(names: Collection[str]) -> bool:
    """Whether these are Megatron's names."""
    return any(_SPEAKS.match(name) for name in names)


def parts(source: WeightSource, config: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """The weights of a Megatron checkpoint under Hugging Face names, unfused; what has no rule keeps its name.

    Embedding and head lose the rows that pad the vocabulary: their number depends on the tensor parallelism.

    What the checkpoint's own config says of attention goes before W0's, `config`, which goes first on the vocabulary.
    Raises RunError where neither says what a split needs, or a shape does not fit it.
    """
    model = _Model(source, config)
    for name in source.weights:
        yield from model.parts(name)


class _Model:
    """What the rules need to know of a checkpoint."""

    def __init__(self, source: WeightSource, config: Mapping[str, Any]) -> None:
        self._source = source
        self._weights = source.weights
        own, base = _flat(source.config), _flat(config)
        self._config = {**base, **own}
        self._vocabulary = {**own, **base}
        self._layers = max((self._layers_in(name) for name in self._weights), default=0)
        gated = any("shared_experts.gate_weight" in name for name in self._weights)
        qwen = str(self._config.get("model_type", "")).startswith("qwen")
        self._shared = "shared_expert" if gated or qwen else "shared_experts"

    def parts(self, name: str) -> Iterator[tuple[str, Part]]:
        """The canonical weights in one stored tensor."""
        if ".adapter." in name or ".to_wrap." in name:
            raise RunError(f"{self._source.path}: {name} belongs to a LoRA adapter; export it merged, as a whole model")
        block = Part(name, self._weights[name])
        layer = _LAYER.fullmatch(name)
        if layer is None:
            yield self._outside_layers(name, block)
            return
        stack, index, rest = layer.groups()
        first = self._layers if stack == "mtp" else 0
        if index is not None:
            yield from self._in_layer(first + int(index), rest, block)
        elif not _is_stack(block.stored.shape):
            yield name, block
        else:
            for number, inner in enumerate(block.each(), start=first):
                yield from self._in_layer(number, rest, inner)

    def _outside_layers(self, name: str, block: Part) -> tuple[str, Part]:
        if name not in _VOCABULARY:
            return renamed(name, _TOP), block
        used = self._number("vocab_size", name, self._vocabulary)
        if not block.stored.shape or used > block.stored.shape[0]:
            raise RunError(
                f"{self._source.path}: {name} of shape {list(block.stored.shape)} has fewer rows than the vocabulary "
                f"of {used}; is W0 another model?"
            )
        return _VOCABULARY[name], block if block.stored.shape[0] == used else block.rows(0, used)

    def _in_layer(self, layer: int, rest: str, block: Part) -> Iterator[tuple[str, Part]]:
        rest = _MTP_LAYER.sub("", rest, count=1)
        for suffix, part in self._suffixes(rest, block):
            yield f"model.layers.{layer}.{suffix}", part

    def _suffixes(self, rest: str, block: Part) -> Iterator[tuple[str, Part]]:
        """Names within the layer."""
        if match := _QKV.fullmatch(rest):
            yield from self._qkv(match[1], block)
        elif match := _FC1.fullmatch(rest):
            where = f"mlp.{self._shared}" if match[1] else "mlp"
            yield from self._fc1(where, match[2], match[3], block)
        elif match := _EXPERT.fullmatch(rest):
            yield from self._experts(match, block)
        elif match := _OWN_ATTENTION.fullmatch(rest):
            yield match[1], block
        elif rest.startswith("mlp.shared_experts.linear_fc2."):
            yield rest.replace("shared_experts.linear_fc2", f"{self._shared}.down_proj"), block
        elif rest.startswith("self_attention.q_layernorm.") and self._has_latent_queries(block.tensor):
            yield rest.replace("self_attention.q_layernorm", "self_attn.q_a_layernorm"), block
        else:
            yield renamed(rest, _RENAMED), block

    def _experts(self, match: re.Match[str], block: Part) -> Iterator[tuple[str, Part]]:
        number = match[1] or match[3]
        if number is None and not _is_stack(block.stored.shape):
            yield match[0], block
            return
        for expert, inner in [(int(number), block)] if number is not None else enumerate(block.each()):
            where = f"mlp.experts.{expert}"
            if match[2] == "fc1":
                yield from self._fc1(where, "weight", match[4], inner)
            else:
                yield f"{where}.down_proj.weight", inner

    def _fc1(self, where: str, kind: str, half: str | None, block: Part) -> Iterator[tuple[str, Part]]:
        """Gate and up, as rows of one tensor [gate; up], as two tensors, or up alone where nothing gates it."""
        if half is not None:
            yield f"{where}.{_HALVES[half]}.{kind}", block
            return
        width = self._width_of_mlp(block.tensor)
        if block.stored.shape[:1] == (width,):
            yield f"{where}.up_proj.{kind}", block
        elif block.stored.shape[:1] == (2 * width,):
            yield f"{where}.gate_proj.{kind}", block.rows(0, width)
            yield f"{where}.up_proj.{kind}", block.rows(width, 2 * width)
        else:
            raise self._misfit(block, f"an MLP of width {width}")

    def _width_of_mlp(self, fc1: str) -> int:
        """Input dimension of the linear_fc2 that belongs to `fc1`."""
        fc2 = fc1.replace("linear_fc1", "linear_fc2").replace(".bias", ".weight")
        if fc2 not in self._weights or not self._weights[fc2].shape:
            raise RunError(f"{self._source.path}: {fc1} is there but {fc2} is not: the checkpoint is incomplete")
        return self._weights[fc2].shape[-1]

    def _qkv(self, kind: str, block: Part) -> Iterator[tuple[str, Part]]:
        heads = self._number("num_attention_heads", block.tensor)
        groups = self._config.get("num_key_value_heads") or heads
        size = self._config.get("head_dim") or self._number("hidden_size", block.tensor) // heads
        split = split_grouped_qkv(block, heads=heads, groups=groups, size=size)
        if split is None:
            raise self._misfit(block, f"{heads} heads of {size} in {groups} groups")
        for letter, part in split.items():
            yield f"self_attn.{letter}_proj.{kind}", part

    def _misfit(self, block: Part, what: str) -> RunError:
        return RunError(
            f"{self._source.path}: {block.tensor} of shape {list(block.stored.shape)} does not fit {what}; "
            "the config is of another model"
        )

    def _number(self, key: str, tensor: str, config: Mapping[str, Any] | None = None) -> int:
        value = (self._config if config is None else config).get(key)
        if type(value) is not int or value < 1:
            raise RunError(
                f"{self._source.path}: {tensor} cannot be split without {key}, which is neither in common.pt, nor in "
                "config.json or huggingface/config.json beside the weights, nor in W0's config.json; put the "
                "config.json of the Hugging Face model there"
            )
        return value

    def _layers_in(self, name: str) -> int:
        """How many decoder layers the model has at least, as far as one tensor tells."""
        layer = _LAYER.fullmatch(name)
        if layer is None or layer[1] != "decoder":
            return 0
        shape = self._weights[name].shape
        return int(layer[2]) + 1 if layer[2] is not None else shape[0] if shape else 0

    def _has_latent_queries(self, name: str) -> bool:
        return f"{name.partition('q_layernorm.')[0]}linear_q_up_proj.weight" in self._weights


def _is_stack(shape: tuple[int, ...]) -> bool:
    """Whether the leading dimension can be that of layers or experts, which need elements and are not many."""
    return prod(shape) > 0 and len(shape) > 0 and shape[0] <= MAX_STACK


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config, the language model's part of a composite one on top."""
    text = config.get("text_config")
    both = {**config, **(text if isinstance(text, Mapping) else {})}
    return {key: value for key, value in both.items() if value is not None}
