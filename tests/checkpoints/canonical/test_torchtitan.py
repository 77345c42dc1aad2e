from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from geomcheck.checkpoints.canonical import torchtitan
from geomcheck.checkpoints.canonical.parts import PartsOf, parts_of
from geomcheck.checkpoints.formats.dcp import DistributedCheckpoint
from geomcheck.checkpoints.source import WeightSource
from geomcheck.errors import RunError
from tests.checkpoints.dcp_files import save

transformers = pytest.importorskip("transformers")

HEADS, GROUPS, SIZE, HIDDEN, WIDTH, VOCABULARY, EXPERTS = 4, 2, 8, 32, 24, 65, 3
SHARED = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": SIZE,
    "vocab_size": VOCABULARY,
    "intermediate_size": WIDTH,
    "tie_word_embeddings": False,
}
NAMES = {
    "embed_tokens": "tok_embeddings",
    "q_proj": "wq",
    "k_proj": "wk",
    "v_proj": "wv",
    "o_proj": "wo",
    "gate_proj": "w1",
    "up_proj": "w3",
    "down_proj": "w2",
    "self_attn": "attention",
    "mlp": "feed_forward",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "lm_head": "output",
}


def renamed(source: WeightSource, config: Mapping[str, Any]) -> PartsOf:
    """The weights of a checkpoint under Hugging Face names."""
    return parts_of(source, torchtitan.parts(source, config))


def titan_name(name: str) -> str:
    return ".".join(NAMES.get(word, word) for word in name.removeprefix("model.").split("."))


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows as Meta's Llama has them: row i of the first half of a head beside row i of the second, row by row."""
    size = weight.shape[0] // heads
    rows = []
    for head in range(heads):
        for row in range(size // 2):
            rows += [weight[head * size + row], weight[head * size + size // 2 + row]]
    return torch.stack(rows)


def read_all(directory: Path, config: Mapping[str, object]) -> dict[str, Tensor]:
    source = DistributedCheckpoint(directory)
    assert torchtitan.speaks(source.weights)
    canonical = renamed(source, config)
    for name, stored in canonical.weights.items():
        assert tuple(canonical.read(name).shape) == stored.shape
    return {name: canonical.read(name) for name in canonical.weights}


def assert_same(read: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert set(read) == set(expected)
    for name, weight in expected.items():
        assert torch.equal(read[name], weight), name


def test_llama_comes_back_with_the_rows_of_hugging_face(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(**SHARED)
    model = transformers.LlamaForCausalLM(config).state_dict()
    stored = {}
    for name, weight in model.items():
        heads = {"q_proj": HEADS, "k_proj": GROUPS}.get(name.split(".")[-2])
        stored[titan_name(name)] = interleaved(weight, heads) if heads else weight
    assert stored["layers.0.attention.wq.weight"].ne(model["model.layers.0.self_attn.q_proj.weight"]).any()
    assert_same(read_all(save(tmp_path, stored), {**SHARED, "model_type": "llama"}), model)


def test_the_rotation_of_llama_is_the_same_in_both_orders() -> None:
    """Rotating neighbours in Meta's order is what Hugging Face's model does with halves in its own."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(HEADS * SIZE, HIDDEN, generator=generator)
    x = torch.randn(5, HIDDEN, generator=generator)
    angles = torch.outer(torch.arange(5.0), 10_000.0 ** (-torch.arange(0, SIZE, 2) / SIZE))
    ours = (x @ weight.T).view(1, 5, HEADS, SIZE).transpose(1, 2)
    both = torch.cat([angles, angles], -1)[None]
    rotated, _ = apply_rotary_pos_emb(ours, ours, both.cos(), both.sin())
    metas = torch.view_as_complex((x @ interleaved(weight, HEADS).T).view(5, HEADS, SIZE // 2, 2))
    expected = torch.view_as_real(metas * torch.polar(torch.ones_like(angles), angles)[:, None])
    assert torch.allclose(rotated[0].transpose(0, 1)[..., : SIZE // 2], expected[..., 0], atol=1e-5)
    assert torch.allclose(rotated[0].transpose(0, 1)[..., SIZE // 2 :], expected[..., 1], atol=1e-5)


@pytest.mark.parametrize("module", ["", "qkv_linear."])
def test_qwen3_comes_back_as_it_is(tmp_path: Path, module: str) -> None:
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SHARED)).state_dict()
    stored = {
        titan_name(name).replace(".wq.", f".{module}wq.").replace(".wk.", f".{module}wk."): weight
        for name, weight in model.items()
    }
    assert_same(read_all(save(tmp_path, stored), {**SHARED, "model_type": "qwen3"}), model)


@pytest.mark.parametrize("form", ["moe.experts.w{}", "moe.routed_experts.inner_experts.w{}_EFD"])
def test_experts_come_apart(tmp_path: Path, form: str) -> None:
    stacks = {"1": torch.randn(EXPERTS, 6, 4), "3": torch.randn(EXPERTS, 6, 4), "2": torch.randn(EXPERTS, 4, 6)}
    stored = {f"layers.1.{form.format(number)}": stack for number, stack in stacks.items()}
    stored |= {"layers.1.moe.router.gate.weight": torch.randn(3, 4), "layers.1.attention.wq.weight": torch.randn(4, 4)}
    read = read_all(save(tmp_path, stored), {"model_type": "qwen3_moe"})
    expected = {
        f"model.layers.1.mlp.experts.{expert}.{name}_proj.weight": stacks[number][expert]
        for expert in range(EXPERTS)
        for number, name in (("1", "gate"), ("3", "up"), ("2", "down"))
    }
    expected["model.layers.1.mlp.gate.weight"] = stored["layers.1.moe.router.gate.weight"]
    expected["model.layers.1.self_attn.q_proj.weight"] = stored["layers.1.attention.wq.weight"]
    assert_same(read, expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "of model_type None: how they map .* Put the model's config.json into W0's directory, such as step-0"),
        ({"model_type": "gpt_oss"}, "of model_type 'gpt_oss'"),
        ({"model_type": "llama"}, r"does not fit None heads \(num_attention_heads in config.json\)"),
        ({"model_type": "llama", "num_attention_heads": 5}, "does not fit 5 heads"),
        ({"model_type": "llama", "num_attention_heads": "4"}, "does not fit 4 heads"),
    ],
)
def test_without_a_config_that_fits_nothing_is_guessed(tmp_path: Path, config: dict[str, object], message: str) -> None:
    source = DistributedCheckpoint(save(tmp_path, {"layers.0.attention.wq.weight": torch.ones(8, 4)}))
    with pytest.raises(RunError, match=message):
        renamed(source, config)


def test_fused_queries_keys_and_values_come_apart(tmp_path: Path) -> None:
    q, k, v = torch.randn(HEADS, SIZE, HIDDEN), torch.randn(GROUPS, SIZE, HIDDEN), torch.randn(GROUPS, SIZE, HIDDEN)
    fused = torch.cat([q[0], q[1], k[0], v[0], q[2], q[3], k[1], v[1]])
    directory = save(tmp_path, {"layers.0.attention.qkv_linear.wqkv.weight": fused})
    into = "model.layers.0.self_attn."
    expected = {
        f"{into}{letter}_proj.weight": torch.cat([*heads]) for letter, heads in zip("qkv", (q, k, v), strict=True)
    }
    assert_same(read_all(directory, {**SHARED, "model_type": "qwen3"}), expected)
    for config in (
        {**SHARED, "model_type": "llama"},
        {**SHARED, "model_type": "qwen3", "head_dim": 7},
        {"model_type": "qwen3"},
    ):
        with pytest.raises(RunError, match="fuses queries, keys and values, and cannot be split"):
            renamed(DistributedCheckpoint(directory), config)


def test_two_names_for_one_weight_are_refused(tmp_path: Path) -> None:
    tensors = {f"layers.0.attention.{module}wv.weight": torch.ones(4, 4) for module in ("", "qkv_linear.")}
    with pytest.raises(RunError, match=r"layers.* and layers.* are both model.layers.0.self_attn.v_proj.weight"):
        renamed(DistributedCheckpoint(save(tmp_path, tensors)), {"model_type": "qwen3"})


def test_other_names_are_not_torchtitans() -> None:
    assert not torchtitan.speaks(["model.layers.0.self_attn.q_proj.weight", "model.layers.0.attention.wqkv.weight"])
