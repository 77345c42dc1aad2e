from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geomcheck.checkpoints.canonical import canonical
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from geomcheck.errors import RunError
from tests.checkpoints.canonical.models import stored
from tests.runs import write_model, write_sharded

Q = "model.layers.0.self_attn.q_proj.weight"
BLOCK = {"model_type": "deepseek_v3", "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}


def dequantized(directory: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] = BLOCK) -> Tensor:
    source = SafetensorsDirectory(write_model(directory, dict(tensors), config))
    seen = canonical(source, config, dequantize=True)
    assert list(seen.weights) == [Q]
    assert (seen.weights[Q].dtype, seen.weights[Q].shape) == ("fp32", tuple(tensors[Q].shape))
    return seen.read(Q)


def fp8(*shape: int, dtype: torch.dtype = torch.float8_e4m3fn) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(50).to(dtype)


@pytest.mark.parametrize("shape", [(256, 128), (200, 300), (130, 7), (5, 129)])
@pytest.mark.parametrize("block", [(128, 128), (64, 32)])
def test_blocks_are_scaled_each_by_its_own_scale(
    tmp_path: Path, shape: tuple[int, int], block: tuple[int, int]
) -> None:
    weight = fp8(*shape)
    scale = torch.rand(-(-shape[0] // block[0]), -(-shape[1] // block[1])) + 0.01
    config = {"model_type": "x", "quantization_config": {"weight_block_size": list(block)}}
    result = dequantized(tmp_path, {Q: weight, f"{Q}_scale_inv": scale}, config)
    exact = np.empty(shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            exact[i, j] = float(weight[i, j]) * float(scale[i // block[0], j // block[1]])
    np.testing.assert_array_equal(result.numpy(), exact.astype(np.float32))


@pytest.mark.parametrize("scale_shape", [(), (1,), (1, 1), (6,), (6, 1)])
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_a_scale_for_all_or_for_each_row(tmp_path: Path, scale_shape: tuple[int, ...], dtype: torch.dtype) -> None:
    weight, scale = fp8(6, 9, dtype=dtype), torch.rand(scale_shape).bfloat16() + 0.5
    result = dequantized(tmp_path, {Q: weight, f"{Q}_scale": scale, f"{Q[:-6]}input_scale": torch.ones(1)})
    spread = scale.double().reshape(-1, 1).expand(6, 1) if scale.numel() > 1 else scale.double().reshape(1, 1)
    torch.testing.assert_close(result, (weight.double() * spread).float(), rtol=0, atol=0)


def test_exponents_as_scales(tmp_path: Path) -> None:
    weight, scale = fp8(128, 256), torch.tensor([[0.25, 8.0]]).to(torch.float8_e8m0fnu)
    result = dequantized(tmp_path, {Q: weight, f"{Q}_scale_inv": scale})
    exact = weight.double() * torch.tensor([0.25, 8.0]).double().repeat_interleave(128)
    assert result.equal(exact.float())


def test_a_scale_in_another_shard(tmp_path: Path) -> None:
    weight, scale = fp8(8, 8), torch.tensor(0.5)
    source = SafetensorsDirectory(write_sharded(tmp_path, {Q: weight, f"{Q}_scale": scale}))
    assert canonical(source, BLOCK, dequantize=True).read(Q).equal(weight.float() * 0.5)


def test_a_fused_fp8_projection_is_dequantized_whole_and_then_split(tmp_path: Path) -> None:
    config = {"model_type": "phi3", "num_attention_heads": 2, "hidden_size": 8}
    name = "model.layers.0.self_attn.qkv_proj.weight"
    weight, scale = fp8(24, 8), torch.rand(24)
    source = SafetensorsDirectory(write_model(tmp_path, {name: weight, f"{name}_scale": scale}, config))
    k = canonical(source, config, dequantize=True).read("model.layers.0.self_attn.k_proj.weight")
    assert k.equal((weight.float() * scale[:, None])[8:16])


@pytest.mark.parametrize("scale_shape", [(2, 1), (5,), (6, 2), (1, 1, 1), (0,)])
def test_a_scale_that_does_not_fit_is_an_error(tmp_path: Path, scale_shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match=r"q_proj.weight_scale_inv has shape .* is no scale for"):
        dequantized(tmp_path, {Q: fp8(6, 9), f"{Q}_scale_inv": torch.ones(scale_shape)})


@pytest.mark.parametrize("size", [[0, 128], [128], "128", [-1, 2], [True, 128], None, {}])
def test_a_block_size_that_cannot_be_is_the_usual_one(tmp_path: Path, size: Any) -> None:
    config = {"model_type": "x", "quantization_config": {"weight_block_size": size}}
    weight, scale = fp8(130, 4), torch.tensor([[2.0], [4.0]])
    result = dequantized(tmp_path, {Q: weight, f"{Q}_scale_inv": scale}, config)
    assert result.equal(weight.float() * torch.tensor([2.0] * 128 + [4.0] * 2)[:, None])


def test_a_block_beyond_all_bounds_is_the_whole_matrix(tmp_path: Path) -> None:
    config = {"model_type": "x", "quantization_config": {"weight_block_size": [2**60, 4]}}
    result = dequantized(tmp_path, {Q: fp8(6, 8), f"{Q}_scale_inv": torch.tensor([[2.0, 3.0]])}, config)
    assert result.equal(fp8(6, 8).float() * torch.tensor([2.0, 3.0]).repeat_interleave(4))


def test_without_the_option_fp8_stays_fp8_and_scales_are_no_weights(tmp_path: Path) -> None:
    source = stored(tmp_path, {Q: fp8(6, 9), f"{Q}_scale_inv": torch.ones(1, 1)}, BLOCK)
    assert {name: weight.dtype for name, weight in source.weights.items()} == {Q: "F8_E4M3"}


def test_fp8_without_a_scale_is_never_taken_at_its_word(tmp_path: Path) -> None:
    directory = write_model(tmp_path, {Q: fp8(6, 9)}, BLOCK)
    seen = canonical(SafetensorsDirectory(directory), BLOCK, dequantize=True)
    assert seen.weights[Q].dtype == "F8_E4M3"


U8 = torch.zeros(8, 1, dtype=torch.uint8)
STEM = Q.removesuffix(".weight")


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({Q: U8, f"{Q}.absmax": U8, f"{Q}.quant_state.bitsandbytes__nf4": U8}, "bitsandbytes 4-bit"),
        ({Q: U8, f"{STEM}.SCB": torch.ones(8)}, "bitsandbytes int8"),
        ({f"{STEM}.qweight": U8, f"{STEM}.qzeros": U8, f"{STEM}.scales": torch.ones(8)}, "GPTQ or AWQ"),
        ({f"{Q}_packed": U8, f"{Q}_scale": torch.ones(8), f"{Q}_shape": U8}, "compressed-tensors"),
        ({Q: U8, f"{Q}_scale": fp8(8, 1), f"{Q}_scale_2": torch.ones(1)}, "NVFP4"),
        ({Q: torch.zeros(8, 8, dtype=torch.int8), f"{Q}_scale": torch.ones(8)}, "I8 with scales"),
        (
            {
                "model.layers.0.mlp.experts.gate_up_proj_blocks": U8,
                "model.layers.0.mlp.experts.gate_up_proj_scales": U8,
            },
            "MXFP4",
        ),
    ],
)
@pytest.mark.parametrize("dequantize", [False, True])
def test_other_quantized_weights_are_refused_by_name(
    tmp_path: Path, tensors: dict[str, Tensor], what: str, dequantize: bool
) -> None:
    source = SafetensorsDirectory(write_model(tmp_path, {name: tensor.clone() for name, tensor in tensors.items()}))
    with pytest.raises(RunError, match=rf"model.layers.0.*: quantized \({what}.*Give the model in bf16"):
        canonical(source, {}, dequantize=dequantize)
