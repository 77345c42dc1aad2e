from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from geomcheck.checkpoints.canonical.parts import PartsOf
from geomcheck.errors import RunError
from tests.checkpoints.canonical.models import config_of, in_memory, stored, tiny

Q = "model.layers.0.self_attn.q_proj.weight"
EMBED = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


def named(directory: Path, names: list[str], config: Mapping[str, Any] | None = None) -> PartsOf:
    return stored(directory, {name: torch.full((4, 4), float(i)) for i, name in enumerate(names)}, config or {})


@pytest.mark.parametrize(
    "wrapper",
    [
        "_orig_mod.",
        "module.",
        "module.module.",
        "_fsdp_wrapped_module.",
        "module._orig_mod.",
        "base_model.model.",
        "module.base_model.model.",
        "model_state.model.",
        "app.model.",
        "dcp.model.",
        "state.model.",
        "model.",
        "model._orig_mod.",
    ],
)
def test_what_wrapped_the_model_is_no_part_of_a_name(tmp_path: Path, wrapper: str) -> None:
    names = [Q, EMBED, HEAD]
    source = named(tmp_path, [wrapper + name for name in names])
    assert list(source.weights) == sorted(names)
    assert [float(source.read(name)[0, 0]) for name in names] == [0, 1, 2]


def test_wrappers_inside_a_name_go_too(tmp_path: Path) -> None:
    inside = "model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.self_attn.q_proj._orig_mod.weight"
    assert list(named(tmp_path, [inside]).weights) == [Q]


@pytest.mark.parametrize(
    "names",
    [
        [Q, EMBED],  # a tied model: everything begins with "model." and nothing is wrapped
        ["model.language_model.layers.0.self_attn.q_proj.weight", "model.visual.blocks.0.attn.proj.weight"],
        ["model_state.model.model.layers.0.self_attn.q_proj.weight", "elsewhere.weight"],
    ],
)
def test_a_prefix_that_is_no_wrapper_stays(tmp_path: Path, names: list[str]) -> None:
    source = named(tmp_path, names)
    expected = [name.replace("model.language_model.", "model.").replace("model.visual.", "visual.") for name in names]
    assert set(source.weights) == set(expected)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("model.language_model.layers.0.self_attn.q_proj.weight", Q),
        ("language_model.model.layers.0.self_attn.q_proj.weight", Q),
        ("language_model.lm_head.weight", HEAD),
        ("model.visual.blocks.3.attn.proj.weight", "visual.blocks.3.attn.proj.weight"),
        ("model.vision_tower.layers.1.mlp.fc1.weight", "vision_tower.layers.1.mlp.fc1.weight"),
        ("model.multi_modal_projector.linear_1.weight", "multi_modal_projector.linear_1.weight"),
    ],
)
def test_a_composite_model_has_the_names_of_its_language_model(tmp_path: Path, name: str, canonical: str) -> None:
    assert canonical in named(tmp_path, [name, "model.norm.weight"]).weights


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (hf.GPT2Model, hf.GPT2Config(vocab_size=32, n_embd=24, n_layer=1, n_head=6, n_positions=16)),
        (hf.BloomModel, hf.BloomConfig(vocab_size=32, hidden_size=24, n_layer=1, n_head=6)),
        (
            hf.GPTNeoXModel,
            hf.GPTNeoXConfig(
                vocab_size=32, hidden_size=24, num_hidden_layers=1, num_attention_heads=6, intermediate_size=32
            ),
        ),
        (
            hf.Qwen3Model,
            hf.Qwen3Config(
                vocab_size=32, hidden_size=24, num_hidden_layers=1, num_attention_heads=6, intermediate_size=32
            ),
        ),
    ],
)
def test_a_model_published_without_its_head_has_the_names_of_one_with_it(
    tmp_path: Path, model_class: Any, config: Any
) -> None:
    bare = tiny(model_class, config)
    headed = getattr(
        hf, model_class.__name__.replace("Model", "LMHeadModel" if "GPT2" in str(model_class) else "ForCausalLM")
    )
    whole = headed(config)
    getattr(whole, whole.base_model_prefix).load_state_dict(bare.state_dict())
    without, within = in_memory(tmp_path / "bare", bare), in_memory(tmp_path / "whole", whole)
    heads = {"lm_head.weight", "embed_out.weight"}
    assert set(without.weights) == set(within.weights) - heads
    assert all(without.read(name).equal(within.read(name)) for name in without.weights)
    assert config_of(bare)["model_type"] == config.model_type


@pytest.mark.parametrize(
    "names",
    [
        [Q, f"module.{Q}"],
        [Q, "model.language_model.layers.0.self_attn.q_proj.weight"],
        ["model.layers.0._orig_mod.self_attn.q_proj.weight", Q],
    ],
)
def test_two_tensors_that_are_one_weight_are_an_error_that_names_both(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(RunError) as caught:
        named(tmp_path, names)
    assert all(name in str(caught.value) for name in (*names, str(tmp_path)))


def test_a_split_that_makes_a_name_twice_is_an_error(tmp_path: Path) -> None:
    config = {"model_type": "phi3", "num_attention_heads": 2, "hidden_size": 4}
    tensors = {"model.layers.0.self_attn.qkv_proj.weight": torch.randn(12, 4), Q: torch.randn(4, 4)}
    with pytest.raises(RunError, match=r"q_proj.weight and .*qkv_proj.weight are both"):
        stored(tmp_path, tensors, config)
