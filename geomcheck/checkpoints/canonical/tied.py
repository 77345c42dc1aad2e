"""Count a head that is tied to the embedding as one weight with it, whether it was saved once or twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from geomcheck._lazy import torch
from geomcheck.checkpoints.canonical.numbers import model_types
from geomcheck.checkpoints.canonical.parts import Part, taken_apart
from geomcheck.checkpoints.source import WeightSource

_HEADS = ("lm_head.weight", "embed_out.weight")
_EMBEDDINGS = (
    "model.embed_tokens.weight",
    "transformer.wte.weight",
    "transformer.word_embeddings.weight",
    "gpt_neox.embed_in.weight",
)
_TIED_BY_DEFAULT = frozenset({"gpt2", "gpt_bigcode", "bloom", "falcon", "mpt", "gemma", "gemma2", "gemma3_text"})


def ties(config: Mapping[str, Any]) -> bool:
    """Whether `config` makes the head the embedding."""
    for section in (config, config.get("text_config")):
        if isinstance(section, Mapping) and isinstance(section.get("tie_word_embeddings"), bool):
            return bool(section["tie_word_embeddings"])
    return bool(_TIED_BY_DEFAULT & model_types(config))


def tied_once(sources: Sequence[WeightSource]) -> list[WeightSource]:
    """`sources` of models that tie, with the head left out where it is the embedding in all of them.

    The head is read only where a source has both. If they differ anywhere the head is a weight of its own, and a source
    that leaves it out has the embedding in its place. Raises RunError where a tensor cannot be read.
    """
    pair = _pair(set().union(*(source.weights for source in sources)))
    if pair is None:
        return list(sources)
    head, embedding = pair
    if any(_diverged(source, head, embedding) for source in sources):
        return [_with_head(source, head, embedding) for source in sources]
    return [taken_apart(source, lambda name, _: [] if name == head else None) for source in sources]


def tied_apart(source: WeightSource) -> tuple[str, str] | None:
    """Head and embedding that the config of `source` ties and that are two of its weights; None where it has no such.
    Raises RunError where the config cannot be read."""
    return _pair(source.weights.keys()) if ties(source.config) else None


def _pair(names: Set[str]) -> tuple[str, str] | None:
    return next(((head, e) for head in _HEADS for e in _EMBEDDINGS if {head, e} <= names), None)


def _diverged(source: WeightSource, head: str, embedding: str) -> bool:
    first, second = source.weights.get(head), source.weights.get(embedding)
    if first is None or second is None:
        return first is not None
    if first != second:
        return True
    one, other = source.read(head), source.read(embedding)
    return not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.equal(other))


def _with_head(source: WeightSource, head: str, embedding: str) -> WeightSource:
    if head in source.weights or embedding not in source.weights:
        return source
    tied = Part(embedding, source.weights[embedding])
    return taken_apart(source, lambda name, _: [(name, tied), (head, tied)] if name == embedding else None)
