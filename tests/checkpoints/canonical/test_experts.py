from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor

from geomcheck.checkpoints.canonical.parts import PartsOf
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.checkpoints.weights import describe
from tests.checkpoints.canonical.models import in_memory, on_disk, projected, stored, tiny

TEXT = {"vocab_size": 32, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 6, "num_key_value_heads": 2}
EXPERTS = "model.layers.0.mlp.experts"


def qwen3_moe() -> hf.PreTrainedModel:
    config = hf.Qwen3MoeConfig(**TEXT, head_dim=4, moe_intermediate_size=8, num_experts=4, num_experts_per_tok=2)
    return tiny(hf.Qwen3MoeForCausalLM, config)


def mixtral() -> hf.PreTrainedModel:
    config = hf.MixtralConfig(**TEXT, intermediate_size=8, num_local_experts=4, num_experts_per_tok=2)
    return tiny(hf.MixtralForCausalLM, config)


def gpt_oss() -> hf.PreTrainedModel:
    config = hf.GptOssConfig(**TEXT, head_dim=4, intermediate_size=8, num_local_experts=4, num_experts_per_tok=2)
    return tiny(hf.GptOssForCausalLM, config)


def llama4() -> hf.PreTrainedModel:
    config = hf.Llama4TextConfig(
        **TEXT,
        head_dim=4,
        intermediate_size=8,
        intermediate_size_mlp=8,
        num_local_experts=4,
        moe_layers=[0],
        pad_token_id=0,
    )
    return tiny(hf.Llama4ForCausalLM, config)


def qwen3_vl_moe() -> hf.PreTrainedModel:
    text = TEXT | {"head_dim": 4, "moe_intermediate_size": 8, "num_experts": 4, "num_experts_per_tok": 2}
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 0]}}
    vision = {"depth": 1, "hidden_size": 24, "num_heads": 6, "intermediate_size": 32, "out_hidden_size": 24}
    config = hf.Qwen3VLMoeConfig(text_config=text, vision_config=vision | {"deepstack_visual_indexes": []})
    return tiny(hf.Qwen3VLMoeForConditionalGeneration, config)


def equal(first: PartsOf, second: PartsOf) -> None:
    assert set(first.weights) == set(second.weights)
    for name in first.weights:
        assert first.weights[name] == second.weights[name], name
        assert first.read(name).equal(second.read(name)), name


@pytest.mark.parametrize("build", [qwen3_moe, mixtral, gpt_oss, llama4, qwen3_vl_moe])
def test_a_model_in_memory_and_on_disk_has_the_same_weights(tmp_path: Path, build: Any) -> None:
    model = build()
    memory, disk = in_memory(tmp_path / "memory", model), on_disk(tmp_path / "disk", model)
    equal(memory, disk)
    matrices = [describe(name, weight.shape) for name, weight in memory.weights.items()]
    assert not any(matrix.is_bulky for matrix in matrices if not matrix.stack.startswith("visual"))
    assert sum("experts." in matrix.name and matrix.is_matrix for matrix in matrices) == 4 * 3


def expert(source: PartsOf, module: str, number: int, x: Tensor, act: Any) -> Tensor:
    gate, up = (projected(source, f"{module}.{number}.{part}_proj", x) for part in ("gate", "up"))
    return projected(source, f"{module}.{number}.down_proj", act(gate, up).reshape(1, -1))


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    return torch.nn.functional.silu(gate) * up


def gpt_oss_glu(gate: Tensor, up: Tensor) -> Tensor:
    """As the gpt-oss model card publishes it: limit 7, alpha 1.702."""
    gate, up = gate.clamp(max=7), up.clamp(-7, 7)
    return (up + 1) * gate * torch.sigmoid(1.702 * gate)


@pytest.mark.parametrize(("build", "act"), [(qwen3_moe, swiglu), (mixtral, swiglu), (gpt_oss, gpt_oss_glu)])
def test_each_expert_computes_what_the_model_computes_with_it(tmp_path: Path, build: Any, act: Any) -> None:
    model = build()
    source = in_memory(tmp_path, model)
    x = torch.randn(1, 24)
    for number in range(4):
        with torch.no_grad():
            theirs = model.model.layers[0].mlp.experts(x, torch.tensor([[number]]), torch.ones(1, 1))
        torch.testing.assert_close(theirs.flatten(), expert(source, EXPERTS, number, x, act), rtol=1e-4, atol=1e-4)


def test_each_llama4_expert_computes_what_the_model_computes_with_it(tmp_path: Path) -> None:
    model = llama4()
    source = in_memory(tmp_path, model)
    x = torch.randn(1, 24)
    with torch.no_grad():
        theirs = model.model.layers[0].feed_forward.experts(x.repeat(4, 1)).reshape(4, 24)
    for number in range(4):
        ours = expert(source, "model.layers.0.feed_forward.experts", number, x, swiglu)
        torch.testing.assert_close(theirs[number], ours, rtol=1e-4, atol=1e-4)


def test_a_stack_is_read_one_expert_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = in_memory(tmp_path, qwen3_moe())
    asked = []
    read = SafetensorsDirectory.read
    monkeypatch.setattr(SafetensorsDirectory, "read", lambda self, n, at=(): asked.append((n, at)) or read(self, n, at))
    weight = source.read(f"{EXPERTS}.2.up_proj.weight")
    assert weight.shape == (8, 24)
    assert asked == [(f"{EXPERTS}.gate_up_proj", (2,))]


STACK = {f"{EXPERTS}.gate_up_proj": torch.randn(4, 16, 24), f"{EXPERTS}.down_proj": torch.randn(4, 24, 8)}
TURNED = {name: tensor.mT.contiguous() for name, tensor in STACK.items()}
BIASES = {f"{EXPERTS}.gate_up_proj_bias": torch.randn(4, 17)}


@pytest.mark.parametrize(
    ("tensors", "config", "reason"),
    [
        (STACK, {}, "a checkpoint without config.json stacks experts"),
        (TURNED, {"model_type": "mystery"}, "how mystery stacks experts"),
        (dict([next(iter(STACK.items()))]), {"model_type": "qwen3_moe"}, "not both there"),
        (STACK | {f"{EXPERTS}.down_proj": torch.randn(24, 8)}, {"model_type": "qwen3_moe"}, "not those of stacked"),
        (STACK | {f"{EXPERTS}.down_proj": torch.randn(5, 24, 8)}, {"model_type": "qwen3_moe"}, "not those of stacked"),
        (STACK | {f"{EXPERTS}.down_proj": torch.randn(4, 24, 9)}, {"model_type": "qwen3_moe"}, "not those of stacked"),
        ({name: torch.zeros(4, 0, 0) for name in STACK}, {"model_type": "qwen3_moe"}, "not those of stacked"),
        ({name: torch.zeros(2**20, 0, 0) for name in STACK}, {"model_type": "qwen3_moe"}, "not those of stacked"),
    ],
)
def test_stacks_that_cannot_be_told_apart_stay_whole(
    tmp_path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], reason: str
) -> None:
    source = stored(tmp_path, tensors, config)
    assert set(source.weights) == set(tensors)
    for weight in source.weights.values():
        assert reason in weight.fused


def test_a_stack_of_biases_is_never_a_matrix(tmp_path: Path) -> None:
    source = stored(tmp_path, TURNED | BIASES, {"model_type": "gpt_oss"})
    name = f"{EXPERTS}.gate_up_proj_bias"
    assert "does not fit" in source.weights[name].fused
    assert not describe(name, source.weights[name].shape).is_matrix
