"""The roles, layers and stacks that names give are those of the modules, in the models of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from .families import ODD, agreement, disagreements

README = Path(__file__).parents[2] / "README.md"

MOST_USED = (
    *(
        "llama",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "mistral",
        "mixtral",
        "gemma2",
        "gemma3_text",
        "phi3",
        "gpt2",
        "gpt_neox",
    ),
    *("bert", "roberta", "distilbert", "modernbert", "t5", "bart", "whisper", "vit", "clip", "qwen2_5_vl", "llava"),
    *("jamba", "mamba2", "gemma3n_text"),
)


@pytest.mark.parametrize("family", MOST_USED)
def test_the_names_of_a_family_say_what_its_modules_say(family: str) -> None:
    assert disagreements(family) == []


def test_the_names_of_every_family_but_the_odd_ones_say_what_their_modules_say() -> None:
    found, unbuilt = agreement()
    odd = {family: lines for family, lines in found.items() if lines}
    print(f"{len(found) - len(odd)} of {len(found)} families agree; {len(unbuilt)} cannot be built")
    assert {family: lines[0] for family, lines in odd.items() if family not in ODD} == {}
    assert len(odd) < 0.05 * len(found)
    version = ".".join(transformers.__version__.split(".")[:2])
    if f"transformers {version}" in (text := " ".join(README.read_text(encoding="utf-8").split())):
        assert f"{len(found) - len(odd)} of the {len(found)} families of transformers {version}" in text
