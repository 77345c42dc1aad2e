"""Each split against the model's own forward pass: what it attends with, not the rule written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from geomcheck.checkpoints.weights import describe
from tests.checkpoints.canonical.models import attended, in_memory, on_disk, projected, rows, tiny

SMALL = {"vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 6}
GPT = {"vocab_size": 32, "n_embd": 24, "n_layer": 1, "n_head": 6, "n_positions": 16}
FALCON = SMALL | {"ffn_hidden_size": 32, "max_position_embeddings": 16}
SDPA = {"attn_implementation": "sdpa"}

MODELS: dict[str, tuple[Any, Any, str, int]] = {
    # model class, config, module path of the fused projection, key and value heads
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config(**GPT, **SDPA), "transformer.h.0.attn.c_attn", 6),
    "phi3": (
        hf.Phi3ForCausalLM,
        hf.Phi3Config(**SMALL, **SDPA, intermediate_size=32, num_key_value_heads=2, pad_token_id=0),
        "model.layers.0.self_attn.qkv_proj",
        2,
    ),
    "gpt_neox": (
        hf.GPTNeoXForCausalLM,
        hf.GPTNeoXConfig(**SMALL, **SDPA, intermediate_size=32),
        "gpt_neox.layers.0.attention.query_key_value",
        6,
    ),
    "falcon-7b": (
        hf.FalconForCausalLM,
        hf.FalconConfig(**FALCON, **SDPA, multi_query=True, bias=True),
        "transformer.h.0.self_attention.query_key_value",
        1,
    ),
    "falcon-40b": (
        hf.FalconForCausalLM,
        hf.FalconConfig(**FALCON, **SDPA, new_decoder_architecture=True, num_kv_heads=2),
        "transformer.h.0.self_attention.query_key_value",
        2,
    ),
    "falcon-rw": (
        hf.FalconForCausalLM,
        hf.FalconConfig(**FALCON, **SDPA, multi_query=False, bias=True),
        "transformer.h.0.self_attention.query_key_value",
        6,
    ),
    "bloom": (
        hf.BloomForCausalLM,
        hf.BloomConfig(vocab_size=32, hidden_size=24, n_layer=1, n_head=6),
        "transformer.h.0.self_attention.query_key_value",
        6,
    ),
    "bigcode-mqa": (
        hf.GPTBigCodeForCausalLM,
        hf.GPTBigCodeConfig(**GPT, **SDPA, multi_query=True),
        "transformer.h.0.attn.c_attn",
        1,
    ),
    "bigcode-mha": (
        hf.GPTBigCodeForCausalLM,
        hf.GPTBigCodeConfig(**GPT, **SDPA, multi_query=False),
        "transformer.h.0.attn.c_attn",
        6,
    ),
    "persimmon": (
        hf.PersimmonForCausalLM,
        hf.PersimmonConfig(**SMALL, **SDPA, intermediate_size=32, qk_layernorm=False),
        "model.layers.0.self_attn.query_key_value",
        6,
    ),
    "mpt": (
        hf.MptForCausalLM,
        hf.MptConfig(d_model=24, n_heads=6, n_layers=1, vocab_size=32, max_seq_len=16),
        "transformer.blocks.0.attn.Wqkv",
        6,
    ),
    "dbrx": (
        hf.DbrxForCausalLM,
        hf.DbrxConfig(
            **{"d_model": 24, "n_heads": 6, "n_layers": 1, "vocab_size": 32, "max_seq_len": 16},
            attn_config={"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 100.0},
            ffn_config={"ffn_hidden_size": 16, "hidden_size": 24, "moe_num_experts": 2, "moe_top_k": 1},
            **SDPA,
        ),
        "transformer.blocks.0.norm_attn_norm.attn.Wqkv",
        2,
    ),
    "codegen": (
        hf.CodeGenForCausalLM,
        hf.CodeGenConfig(**GPT | {"n_embd": 32, "n_head": 8}, n_ctx=16, rotary_dim=4),
        "transformer.h.0.attn.qkv_proj",
        8,
    ),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("checkpoint", [in_memory, on_disk])
def test_q_k_and_v_are_what_the_model_attends_with(tmp_path: Path, name: str, checkpoint: Any) -> None:
    model_class, config, fused, kv_heads = MODELS[name]
    model = tiny(model_class, config)
    source = checkpoint(tmp_path, model)
    x, seen = attended(model, model.get_submodule(fused))
    parent = fused.rpartition(".")[0]
    heads = 8 if name == "codegen" else 6
    for part, activations, count in (
        ("q", seen.queries, heads),
        ("k", seen.keys, kv_heads),
        ("v", seen.values, kv_heads),
    ):
        expected = projected(source, f"{parent}.{part}_proj", x)
        assert expected.numel() == x.shape[1] // heads * count
        torch.testing.assert_close(rows(activations[0], count), expected, rtol=1e-4, atol=1e-5)
    assert not any(fused in stored for stored in source.weights)
    assert all(not weight.fused for weight in source.weights.values() if name != "dbrx")


@pytest.mark.parametrize(
    ("model_class", "config"),
    [
        (MODELS["phi3"][0], MODELS["phi3"][1]),
        (
            hf.GlmForCausalLM,
            hf.GlmConfig(**SMALL, intermediate_size=32, head_dim=4, num_key_value_heads=2, pad_token_id=0),
        ),
        (
            hf.Glm4ForCausalLM,
            hf.Glm4Config(**SMALL, intermediate_size=32, head_dim=4, num_key_value_heads=2, pad_token_id=0),
        ),
    ],
)
def test_gate_and_up_are_what_the_mlp_multiplies(tmp_path: Path, model_class: Any, config: Any) -> None:
    model = tiny(model_class, config)
    source = in_memory(tmp_path, model)
    mlp = model.model.layers[0].mlp
    x, seen = torch.randn(1, 24), []
    mlp.down_proj.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    mlp(x)
    gate, up = (projected(source, f"model.layers.0.mlp.{part}_proj", x) for part in ("gate", "up"))
    torch.testing.assert_close(seen[0].flatten(), torch.nn.functional.silu(gate) * up, rtol=1e-4, atol=1e-5)


def test_gpt2_weights_are_all_turned_to_out_in(tmp_path: Path) -> None:
    model = tiny(*MODELS["gpt2"][:2])
    source = in_memory(tmp_path, model)
    for module in ("attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        layer = model.get_submodule(f"transformer.h.0.{module}")
        x = torch.randn(1, layer.weight.shape[0])
        torch.testing.assert_close(projected(source, f"transformer.h.0.{module}", x), layer(x).flatten())
    assert source.weights["transformer.h.0.mlp.c_fc.weight"].shape == (96, 24)
    assert source.weights["transformer.wte.weight"].shape == (32, 24)


def qwen3_next() -> hf.PreTrainedModel:
    return tiny(
        hf.Qwen3NextForCausalLM,
        hf.Qwen3NextConfig(
            **SMALL | {"num_hidden_layers": 2},
            num_key_value_heads=2,
            head_dim=4,
            intermediate_size=32,
            moe_intermediate_size=8,
            shared_expert_intermediate_size=8,
            num_experts=4,
            num_experts_per_tok=2,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
            linear_key_head_dim=4,
            linear_value_head_dim=6,
            layer_types=["linear_attention", "full_attention"],
            **SDPA,
        ),
    )


def test_qwen3_next_attention_has_its_queries_apart_from_its_output_gates(tmp_path: Path) -> None:
    model = qwen3_next()
    source = in_memory(tmp_path, model)
    attention = model.model.layers[1].self_attn
    queries, mixed = [], []
    attention.q_norm.register_forward_pre_hook(lambda _module, args: queries.append(args[0].detach()))
    attention.o_proj.register_forward_pre_hook(lambda _module, args: mixed.append(args[0].detach()))
    x, seen = attended(model, attention.q_proj)
    name = "model.layers.1.self_attn"
    torch.testing.assert_close(queries[0].flatten(), projected(source, f"{name}.q_proj", x), rtol=1e-4, atol=1e-5)
    value = seen.values[0].reshape(-1, 4)
    per_query = value.repeat_interleave(6 // len(value), 0).flatten()  # one token attends to itself alone
    gate = projected(source, f"{name}.q_gate_proj", x)
    torch.testing.assert_close(mixed[0].flatten(), per_query * gate.sigmoid(), rtol=1e-4, atol=1e-5)


def test_qwen3_next_linear_attention_is_split_as_its_own_code_orders_it(tmp_path: Path) -> None:
    model = qwen3_next()
    source = in_memory(tmp_path, model)
    attention = model.model.layers[0].linear_attn
    x = torch.randn(1, 1, 24)
    ordered = attention.fix_query_key_value_ordering(attention.in_proj_qkvz(x), attention.in_proj_ba(x))
    for part, activation in zip("qkvzba", ordered, strict=True):
        expected = projected(source, f"model.layers.0.linear_attn.in_proj_{part}", x[0])
        torch.testing.assert_close(activation.flatten(), expected, rtol=1e-4, atol=1e-5)


def qwen_vl() -> hf.PreTrainedModel:
    text = SMALL | {"intermediate_size": 32, "num_key_value_heads": 2, "num_hidden_layers": 2}
    vision = {"depth": 2, "hidden_size": 24, "num_heads": 6, "intermediate_size": 32, "out_hidden_size": 24}
    config = hf.Qwen2_5_VLConfig(
        text_config=text | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0]}},
        vision_config=vision | {"patch_size": 2, "temporal_patch_size": 1, "spatial_merge_size": 1, "window_size": 4},
        **SDPA,
    )
    return tiny(hf.Qwen2_5_VLForConditionalGeneration, config)


def test_qwen_vl_vision_attention_is_split_as_its_tower_attends(tmp_path: Path) -> None:
    model = qwen_vl()
    source = in_memory(tmp_path, model)
    tower = model.model.visual
    pixels, grid = torch.randn(1, 12), torch.tensor([[1, 1, 1]])
    x, seen = attended(tower, tower.blocks[1].attn.qkv, hidden_states=pixels, grid_thw=grid)
    for part, activations in (("q", seen.queries), ("k", seen.keys), ("v", seen.values)):
        expected = projected(source, f"visual.blocks.1.attn.{part}_proj", x)
        torch.testing.assert_close(activations[1].flatten(), expected, rtol=1e-4, atol=1e-5)


def test_qwen_vl_has_vision_and_language_in_scopes_of_their_own(tmp_path: Path) -> None:
    model = qwen_vl()
    memory, disk = in_memory(tmp_path / "memory", model), on_disk(tmp_path / "disk", model)
    assert set(memory.weights) == set(disk.weights) | {"lm_head.weight"}
    places = {
        (w.stack, w.layer) for w in (describe(n, s.shape) for n, s in memory.weights.items()) if w.layer is not None
    }
    assert places == {("model.layers", 0), ("model.layers", 1), ("visual.blocks", 0), ("visual.blocks", 1)}
    assert "model.layers.1.self_attn.q_proj.weight" in memory.weights
