"""Give tensors the names of the Hugging Face model, whatever wrapped the model when it was saved."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

from geomcheck.checkpoints.canonical.numbers import model_types
from geomcheck.checkpoints.canonical.parts import Part, parts_of
from geomcheck.checkpoints.source import WeightSource

_TOKENS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_LEADING = re.compile(r"(?:module\.)*(?:base_model\.model\.)?")

WRAPPERS = ("model_state.model.", "app.model.", "dcp.model.", "state.model.", "model.")
"""Prefixes of distributed-checkpoint writers, the longer before the one that ends it."""

_WHOLE_MODELS = ("model.", "transformer.", "gpt_neox.", "language_model.model.")
"""How names begin in a model with a head: what follows a wrapper begins so."""

_COMPOSITE = re.compile(r"(?:model\.language_model|language_model\.model)\.")
_LANGUAGE_HEAD = "language_model.lm_head."
_THINKER = "thinker."
"""What Qwen-Omni is called that reads and writes text; it is often trained and saved alone."""
_TOWERS = re.compile(r"model\.(?=(?:visual|vision_|audio_|multi_modal_projector|image_)\w*\.)")

_BARE = re.compile(r"(?:h|layers)\.[0-9]+\.")
_HEADS = re.compile(r"(?:lm_head|embed_out|score|classifier)\.")


def renamed(name: str, table: Mapping[str, str]) -> str:
    """`name` with the first start that `table` has replaced by what it stands for there."""
    return next((new + name[len(old) :] for old, new in table.items() if name.startswith(old)), name)


def plain(source: WeightSource, config: Mapping[str, Any]) -> WeightSource:
    """`source` with every tensor under the name that the model in `config` gives it. Raises RunError as `parts_of`."""
    named = list(plain_names(source, config))
    return source if all(name == part.tensor for name, part in named) else parts_of(source, named)


def plain_names(source: WeightSource, config: Mapping[str, Any]) -> Iterator[tuple[str, Part]]:
    """Every tensor under the name that the model in `config` gives it."""
    stripped = {name: _stripped(name) for name in source.weights}
    wrapper = _wrapper(stripped.values())
    unwrapped = {name: _composite(plain.removeprefix(wrapper)) for name, plain in stripped.items()}
    prefix = _missing_prefix(unwrapped.values(), config)
    for name, plain in unwrapped.items():
        yield plain if _HEADS.match(plain) else prefix + plain, Part(name, source.weights[name])


@lru_cache(maxsize=1 << 17)
def _stripped(name: str) -> str:
    """`name` without what wrapped modules add to it; the checkpoints of a run mostly have the same names."""
    return _LEADING.sub("", _TOKENS.sub("", name), count=1)


def _wrapper(names: Collection[str]) -> str:
    """The prefix that all names carry, if what follows are the names of a whole model; or none."""
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in names):
            rest = [name.removeprefix(wrapper) for name in names]
            if any(name.startswith(_WHOLE_MODELS) for name in rest):
                return wrapper
    return ""


@lru_cache(maxsize=1 << 17)
def _composite(name: str) -> str:
    """The language model of a multimodal one under its own names, its towers beside it."""
    name = name.removeprefix(_THINKER)
    if name.startswith(_LANGUAGE_HEAD):
        return name.removeprefix("language_model.")
    return _TOWERS.sub("", _COMPOSITE.sub("model.", name, count=1), count=1)


def _missing_prefix(names: Collection[str], config: Mapping[str, Any]) -> str:
    """What a model that was saved without its head leaves out (``h.0.``, as GPT-2 is published); or nothing."""
    if any(name.startswith(_WHOLE_MODELS) for name in names):
        return ""
    first = next((name for name in names if _BARE.match(name)), None)
    if first is None:
        return ""
    if first.startswith("h."):
        return "transformer."
    return "gpt_neox." if "gpt_neox" in model_types(config) else "model."
