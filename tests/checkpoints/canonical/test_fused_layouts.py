"""Splits of models whose code is not in transformers, and what no split may do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from geomcheck.checkpoints.canonical.parts import RowLayout
from geomcheck.errors import RunError
from tests.checkpoints.canonical.models import projected, stored

HEADS, GROUPS, DIM = 6, 2, 4
HIDDEN = HEADS * DIM
HF = {"num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "hidden_size": HIDDEN}


def internlm2(y: Tensor) -> tuple[Tensor, ...]:
    """``rearrange('b q (h gs d) -> b q h gs d')``, then gs[:-2], gs[-2], gs[-1]."""
    heads = [y[i * DIM : (i + 1) * DIM] for i in range(len(y) // DIM)]
    per_group = HEADS // GROUPS + 2
    groups = [heads[g * per_group : (g + 1) * per_group] for g in range(GROUPS)]
    return (
        torch.cat([head for group in groups for head in group[:-2]]),
        torch.cat([group[-2] for group in groups]),
        torch.cat([group[-1] for group in groups]),
    )


def chatglm_mqa(y: Tensor) -> tuple[Tensor, ...]:
    """``mixed_x_layer.split([np * hn, ng * hn, ng * hn])``."""
    return y[:HIDDEN], y[HIDDEN : HIDDEN + GROUPS * DIM], y[HIDDEN + GROUPS * DIM :]


def chatglm_mha(y: Tensor) -> tuple[Tensor, ...]:
    """``[sq, b, np, 3 * hn]``, then three along the last dimension."""
    heads = [y[i * 3 * DIM : (i + 1) * 3 * DIM] for i in range(HEADS)]
    return tuple(torch.cat([head[i * DIM : (i + 1) * DIM] for head in heads]) for i in range(3))


def thirds(y: Tensor) -> tuple[Tensor, ...]:
    """Baichuan ``unflatten(-1, (3, hidden))``, Qwen ``split(split_size)``."""
    return y[:HIDDEN], y[HIDDEN : 2 * HIDDEN], y[2 * HIDDEN :]


GLM = {"model_type": "chatglm", "num_attention_heads": HEADS, "hidden_size": HIDDEN, "kv_channels": DIM}
MQA = {"multi_query_attention": True, "multi_query_group_num": GROUPS}
PUBLISHED: dict[str, tuple[Mapping[str, Any], str, int, Any]] = {
    "internlm2": ({"model_type": "internlm2"} | HF, "model.layers.3.attention.wqkv", 40, internlm2),
    "chatglm3": (GLM | MQA, "transformer.encoder.layers.3.self_attention.query_key_value", 40, chatglm_mqa),
    "chatglm": (GLM, "transformer.encoder.layers.3.self_attention.query_key_value", 72, chatglm_mha),
    "baichuan": ({"model_type": "baichuan"}, "model.layers.3.self_attn.W_pack", 72, thirds),
    "qwen": ({"model_type": "qwen"}, "transformer.h.3.attn.c_attn", 72, thirds),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_split_as_the_published_forward_pass_takes_the_activations_apart(tmp_path: Path, model: str) -> None:
    config, module, count, forward = PUBLISHED[model]
    weight, bias, x = torch.randn(count, HIDDEN), torch.randn(count), torch.randn(1, HIDDEN)
    source = stored(tmp_path, {f"{module}.weight": weight, f"{module}.bias": bias}, config)
    parent = module.rpartition(".")[0]
    assert set(source.weights) == {f"{parent}.{p}_proj.{leaf}" for p in "qkv" for leaf in ("weight", "bias")}
    for part, activation in zip("qkv", forward((x @ weight.T + bias).flatten()), strict=True):
        torch.testing.assert_close(projected(source, f"{parent}.{part}_proj", x), activation)


def test_qwen35_linear_attention_as_its_forward_pass_splits_it(tmp_path: Path) -> None:
    config = {"model_type": "qwen3_5_text", "linear_num_key_heads": 2, "linear_num_value_heads": 4}
    config |= {"linear_key_head_dim": 4, "linear_value_head_dim": 6}
    weight, x = torch.randn(40, HIDDEN), torch.randn(1, HIDDEN)
    source = stored(tmp_path, {"model.layers.0.linear_attn.in_proj_qkv.weight": weight}, config)
    activations = torch.split((x @ weight.T).flatten(), [8, 8, 24])
    for part, activation in zip("qkv", activations, strict=True):
        torch.testing.assert_close(projected(source, f"model.layers.0.linear_attn.in_proj_{part}", x), activation)


@given(
    groups=st.integers(1, 5),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    hidden=st.integers(1, 5),
    transposed=st.booleans(),
)
def test_to_fuse_and_to_split_is_to_do_nothing(groups: int, counts: list[int], hidden: int, transposed: bool) -> None:
    layout = RowLayout(groups, tuple((f"p{i}", count) for i, count in enumerate(counts)))
    parts = [torch.randn(groups * count, hidden) for count in counts]
    fused = torch.cat(
        [part[g * count : (g + 1) * count] for g in range(groups) for part, count in zip(parts, counts, strict=True)]
    )
    assert layout.rows == len(fused)
    split = list(layout.split(transposed=transposed))
    for part, (_, count, take) in zip(parts, split, strict=True):
        assert count == len(part)
        assert take(fused.T.contiguous() if transposed else fused).equal(part)


PHI = {"model_type": "phi3"} | HF
QKV = "model.layers.0.self_attn.qkv_proj.weight"


@pytest.mark.parametrize(
    ("config", "shape", "reason"),
    [
        ({}, (40, 24), "not known for a checkpoint without config.json"),
        ({"model_type": "mystery"} | HF, (40, 24), "not known for mystery"),
        (PHI | {"num_attention_heads": 0}, (40, 24), "num_attention_heads = 0"),
        (PHI | {"num_attention_heads": -6}, (40, 24), "num_attention_heads = -6"),
        (PHI | {"num_attention_heads": "6"}, (40, 24), "num_attention_heads = '6'"),
        (PHI | {"num_attention_heads": True}, (40, 24), "num_attention_heads = True"),
        (PHI | {"num_attention_heads": 1e400}, (40, 24), "num_attention_heads = inf"),
        (PHI | {"num_attention_heads": 5}, (40, 24), "5 heads do not divide into 2 groups"),
        (PHI | {"num_attention_heads": 10}, (40, 24), "hidden size 24 does not divide into 10 heads"),
        (PHI | {"num_key_value_heads": [2]}, (40, 24), r"num_key_value_heads = \[2\]"),
        (PHI | {"head_dim": 2**40}, (40, 24), "head_dim = 1099511627776"),
        ({"model_type": "phi3"}, (40, 24), "the config has no num_attention_heads"),
        (PHI, (41, 24), r"\(41, 24\) does not fit the config, which makes 40 rows: 1 x 24 q_proj, 1 x 8 k_proj"),
        (PHI, (40, 3, 8), r"\(40, 3, 8\) is not that of a projection"),
        ({"model_type": "mystery"}, (), r"\(\) is not that of a projection"),
    ],
)
def test_what_does_not_fit_its_rule_stays_whole_and_says_why(
    tmp_path: Path, config: Mapping[str, Any], shape: tuple[int, ...], reason: str
) -> None:
    tensor = torch.randn(shape)
    source = stored(tmp_path, {QKV: tensor}, config)
    assert list(source.weights) == [QKV]
    assert source.read(QKV).equal(tensor)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(source.weights[QKV].fused)


@pytest.mark.parametrize("shape", [(0,), (1,)])
def test_a_placeholder_of_a_fused_weight_is_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match=r"qkv_proj.weight has shape .* zero_to_fp32.py"):
        stored(tmp_path, {QKV: torch.zeros(shape)}, PHI)


def test_a_vector_beside_a_fused_projection_is_no_placeholder(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.qkv_scale"
    assert set(stored(tmp_path, {name: torch.ones(1), f"{name}s": torch.ones(7)}, PHI).weights) == {name, f"{name}s"}


def test_a_norm_is_no_fused_projection(tmp_path: Path) -> None:
    names = ["model.layers.0.self_attn.qkv_norm.weight", "model.layers.0.self_attn.kv_a_proj_with_mqa.weight"]
    source = stored(tmp_path, {names[0]: torch.ones(8), names[1]: torch.ones(8, 8)}, {"model_type": "deepseek_v3"})
    assert {name: weight.fused for name, weight in source.weights.items()} == dict.fromkeys(names, "")


def test_an_ungated_query_is_left_alone(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.weight"
    config = {"model_type": "qwen3_next", "head_dim": DIM} | HF
    source = stored(tmp_path, {name: torch.ones(HIDDEN, HIDDEN)}, config)
    assert source.weights[name].shape == (HIDDEN, HIDDEN)
