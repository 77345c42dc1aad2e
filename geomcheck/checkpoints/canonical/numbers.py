"""Read the numbers of an architecture from a config, which is not trusted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_LARGEST = 2**24

_HEADS = ("num_attention_heads", "n_head", "n_heads")
_KV_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num", "kv_n_heads")
_HEAD_DIM = ("head_dim", "kv_channels")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "n_embed")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")

_SCOPES = (
    ("vision", re.compile(r"(?:visual|vision_\w+|image_encoder)\.")),
    ("audio", re.compile(r"audio_\w+\.")),
    ("encoder", re.compile(r"(?:model\.)?encoder\.")),
)
"""Parts of a model beside its language model, by how the names of their weights begin."""


class Unsplittable(Exception):
    """A rule does not apply to this tensor; the message says why. It never leaves this package."""


def scope_of(name: str) -> str:
    """The part of the model that a canonical name lies in: ``vision``, ``audio``, ``encoder``, or empty."""
    return next((scope for scope, pattern in _SCOPES if pattern.match(name)), "")


def section(config: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
    """The part of `config` on one scope of a multimodal model; all of it where it has no such part."""
    nested = config.get("vision_config" if scope == "vision" else "text_config")
    return nested if isinstance(nested, Mapping) else config


def model_types(config: Mapping[str, Any], scope: str = "") -> set[str]:
    """What `config` calls the architecture: the whole model, and the part of it under `scope`."""
    types = (config.get("model_type"), section(config, scope).get("model_type"))
    return {found for found in types if isinstance(found, str) and found}


def disagreement(config: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """The first number of the architecture that two configs both have, and have differently."""
    mine, theirs = section(config, ""), section(other, "")
    keys = (*_HEADS, *_KV_HEADS, *_HEAD_DIM, *_HIDDEN)
    return next(
        (key for key in keys if None not in (mine.get(key), theirs.get(key)) and mine[key] != theirs[key]), None
    )


def layer_count(config: Mapping[str, Any]) -> int | None:
    """How many layers the language model has; None where that is not said, or there are two stacks, or empty layers."""
    numbers = section(config, "")
    if any(part.get(key) for part in (config, numbers) for key in ("is_encoder_decoder", "block_configs")):
        return None
    try:
        return Numbers(numbers)._number(*_LAYERS)
    except Unsplittable:
        return None


class Numbers:
    """The numbers in one section of a config, under whichever key the model type has for them.

    Every property raises Unsplittable where the config has no such number, or one that cannot be.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    @property
    def heads(self) -> int:
        """Query heads."""
        return self._number(*_HEADS)

    @property
    def kv_heads(self) -> int:
        """Key and value heads; as many as query heads where the config names none. They divide the query heads."""
        nested = self._config.get("attn_config")
        named = any(self._config.get(key) is not None for key in _KV_HEADS)
        within = Numbers(nested) if isinstance(nested, Mapping) and not named else self
        groups = within._number(*_KV_HEADS, default=self.heads)
        if self.heads % groups:
            raise Unsplittable(f"{self.heads} heads do not divide into {groups} groups")
        return groups

    @property
    def head_dim(self) -> int:
        """Rows of one head."""
        if any(self._config.get(key) is not None for key in _HEAD_DIM):
            return self._number(*_HEAD_DIM)
        if self.hidden % self.heads:
            raise Unsplittable(f"hidden size {self.hidden} does not divide into {self.heads} heads")
        return self.hidden // self.heads

    @property
    def hidden(self) -> int:
        """Width of what goes from layer to layer."""
        return self._number(*_HIDDEN)

    def linear_attention(self, which: str) -> int:
        """A number of Qwen3-Next's linear attention: ``num_key_heads``, ``key_head_dim``, ..."""
        return self._number(f"linear_{which}")

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """A yes or no."""
        value = self._config.get(key, default)
        if not isinstance(value, bool):
            raise Unsplittable(f"{key} = {value!r} in the config, where true or false is needed")
        return value

    def _number(self, *keys: str, default: int | None = None) -> int:
        for key in keys:
            value = self._config.get(key)
            if value is None:
                continue
            if type(value) is not int or not 1 <= value <= _LARGEST:
                raise Unsplittable(f"{key} = {value!r} in the config")
            return value
        if default is None:
            raise Unsplittable(f"the config has no {keys[0]}")
        return default
