"""Sets of weights and checkpoints in words."""

from __future__ import annotations

import pytest

from geomcheck.checkpoints.weights import describe
from geomcheck.diagnosis.words import Vocabulary, listed, numbered, span, when
from geomcheck.record import Point

MODULES = {
    "self_attn.q_proj": (8, 8),
    "self_attn.k_proj": (4, 8),
    "mlp.up_proj": (16, 8),
    "mlp.down_proj": (8, 16),
    "input_layernorm": (8,),
}
EMBED, HEAD, LAST = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
SHAPES = {f"model.layers.{n}.{module}.weight": shape for n in range(4) for module, shape in MODULES.items()}
WORDS = Vocabulary([describe(n, s) for n, s in {**SHAPES, EMBED: (32, 8), HEAD: (32, 8), LAST: (8,)}.items()])
EVERY = {*SHAPES, EMBED, HEAD, LAST}


def having(*parts: str) -> set[str]:
    return {name for name in EVERY if any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (EVERY, "every weight is"),
        (EVERY - having("norm"), "every matrix is"),
        ({EMBED}, f"{EMBED} is"),
        ({EMBED, HEAD}, "head and embedding are"),
        (having("norm"), "all norms are"),
        (having("q_proj"), "all q_proj are"),
        (having("q_proj", "k_proj"), "all attention are"),
        (having("q_proj", "up_proj"), "all q_proj and up_proj are"),
        (having("layers.1."), "layer 1 is"),
        (having("layers.0.", "layers.2.", "layers.3."), "layers 0, 2 and 3 are"),
        (having("layers.1.", "layers.2.", "layers.3."), "layers 1 to 3 are"),
        (having("layers.1.") - having("norm"), "every matrix of layer 1 is"),
        (having("layers.1.mlp", "layers.2.mlp"), "MLPs of layers 1 and 2 are"),
        (having("layers.2.self_attn.q_proj", "layers.3.self_attn.q_proj"), "q_proj of layers 2 and 3 are"),
        (EVERY - {HEAD}, f"every weight but {HEAD} is"),
        (EVERY - having("layers.1."), "every weight but layer 1 is"),
        (having("layers.1.") | {EMBED}, f"layer 1 and {EMBED} are"),
        (having("0.mlp.up_proj", "1.mlp.down_proj", "2.self_attn.k"), "3 of 18 matrices, such as"),
    ],
)
def test_weights_are_called_by_what_they_have_in_common(names: set[str], words: str) -> None:
    assert WORDS.phrase(names).verb("is", "are").startswith(words)


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([0, 1, 2, 3], "at every checkpoint"),
        ([2], "at c-3"),
        ([1, 2, 3], "from c-2 on"),
        ([0, 1], "up to c-2"),
        ([0, 2], "at c-1 and c-3"),
    ],
)
def test_checkpoints_are_told_as_an_adverb(indices: list[int], words: str) -> None:
    assert when([Point(f"c-{step}", step, step / 4) for step in range(1, 5)], indices) == words


def test_experts_have_numbers() -> None:
    shapes = {f"model.layers.{n}.mlp.experts.{e}.{m}.weight": (8, 8) for n in (0, 1) for e in range(3) for m in "ab"}
    words = Vocabulary([describe(name, shape) for name, shape in {**SHAPES, **shapes}.items()])
    third = {name for name in shapes if "experts.2." in name}
    assert words.phrase(third).verb("is", "are") == "expert 2 of every layer is"
    assert words.phrase({name for name in third if "layers.1." in name}).verb("is", "are") == "expert 2 of layer 1 is"


def test_long_lists_end_with_how_many_more_there_are() -> None:
    assert listed(["a", "b", "c", "d", "e", "f"]) == "a, b, c and 3 more"
    assert numbered(["encoder layer 1", "decoder layer 1"]) == "encoder layer 1 and decoder layer 1"
    assert span([0.1, 0.1]) == "0.1"
