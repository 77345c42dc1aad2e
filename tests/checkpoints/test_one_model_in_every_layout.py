"""The same weights through every layout give the same figures, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import Tensor

import geomcheck
from geomcheck.record import Record
from tests.runs import moved, write_model, write_sharded

CONFIG = {
    "model_type": "qwen3",
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_size": 16,
    "vocab_size": 32,
    "num_hidden_layers": 1,
}
HEADS, GROUPS, SIZE = 4, 2, 8
SHAPES = {
    "model.embed_tokens.weight": (32, 16),
    "model.layers.0.self_attn.q_proj.weight": (32, 16),
    "model.layers.0.self_attn.k_proj.weight": (16, 16),
    "model.layers.0.self_attn.v_proj.weight": (16, 16),
    "model.layers.0.self_attn.o_proj.weight": (16, 32),
    "model.layers.0.mlp.gate_proj.weight": (24, 16),
    "model.layers.0.mlp.up_proj.weight": (24, 16),
    "model.layers.0.mlp.down_proj.weight": (16, 24),
}
STEPS = (10, 20)

Weights = dict[str, Tensor]
Write = Callable[[Path, Weights], None]


def model(seed: int = 0) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).bfloat16() for name, shape in SHAPES.items()}


def trained(step: int) -> Weights:
    return moved(model(), 1e-3 * step, seed=step)


def safetensors(directory: Path, weights: Weights) -> None:
    write_model(directory, weights, CONFIG)


def shards(directory: Path, weights: Weights) -> None:
    write_sharded(directory, weights, 3)
    (directory / "config.json").write_text(json.dumps(CONFIG))


def slices(directory: Path, weights: Weights) -> None:
    """Half of the rows of every tensor in each of two files, as distributed saves leave them."""
    directory.mkdir(parents=True)
    for rank in range(2):
        rows = {name: slice(rank * (len(w) // 2), None if rank else len(w) // 2) for name, w in weights.items()}
        offsets = {name: {"saved_offsets": [at.start, 0]} for name, at in rows.items()}
        own = {name: weights[name][at].contiguous() for name, at in rows.items()}
        file = directory / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
        save_file(own, file, metadata={"DCP_SHARDING_INFO": json.dumps(offsets), "DCP_VERSION": "1.0"})


def pickled(directory: Path, weights: Weights) -> None:
    directory.mkdir(parents=True)
    torch.save({f"module._orig_mod.{name}": w for name, w in weights.items()}, directory / "pytorch_model.bin")


def ranked(directory: Path, weights: Weights) -> None:
    directory.mkdir(parents=True)
    torch.save(weights, directory / "model_world_size_1_rank_0.pt")


def distributed(directory: Path, weights: Weights) -> None:
    directory.mkdir(parents=True)
    dcp.save({"model": weights}, storage_writer=dcp.FileSystemWriter(directory), no_dist=True)


def megatron(directory: Path, weights: Weights) -> None:
    """Stacked layers, heads by group, gate above up, padded vocabulary."""
    layer = "model.layers.0."
    q, k, v = (weights[f"{layer}self_attn.{name}_proj.weight"] for name in "qkv")
    rows = []
    for group in range(GROUPS):
        heads = HEADS // GROUPS * SIZE
        rows += [q[group * heads : (group + 1) * heads]]
        rows += [w[group * SIZE : (group + 1) * SIZE] for w in (k, v)]
    gate, up = weights[f"{layer}mlp.gate_proj.weight"], weights[f"{layer}mlp.up_proj.weight"]
    embedding = weights["model.embed_tokens.weight"]
    tensors = {
        "embedding.word_embeddings.weight": torch.cat([embedding, torch.zeros(96, 16, dtype=embedding.dtype)]),
        "decoder.layers.self_attention.linear_qkv.weight": torch.cat(rows)[None],
        "decoder.layers.self_attention.linear_proj.weight": weights[f"{layer}self_attn.o_proj.weight"][None],
        "decoder.layers.mlp.linear_fc1.weight": torch.cat([gate, up])[None],
        "decoder.layers.mlp.linear_fc2.weight": weights[f"{layer}mlp.down_proj.weight"][None],
    }
    directory.mkdir(parents=True)
    dcp.save(tensors, storage_writer=dcp.FileSystemWriter(directory), no_dist=True)
    marker = {"sharded_backend": "torch_dist", "sharded_backend_version": 1}
    (directory / "metadata.json").write_text(json.dumps(marker))


LAYOUTS: dict[str, tuple[str, Write]] = {
    "shards": ("checkpoint-{}", shards),
    "slices": ("epoch_0_step_{}/model", slices),
    "pickle": ("checkpoint-{}", pickled),
    "per-rank": ("global_step_{}/actor", ranked),
    "dcp": ("step-{}", distributed),
    "megatron": ("iter_{:07d}", megatron),
}


def measured(run: Path, base: Path) -> Record:
    return geomcheck.measure(run, base=base, metrics=["update_support", "stable_rank", "spectral_shift"])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")
def test_the_same_weights_give_the_same_figures(layout: str, tmp_path: Path) -> None:
    place, write = LAYOUTS[layout]
    safetensors(tmp_path / "base", model())
    for step in STEPS:
        safetensors(tmp_path / "plain" / f"checkpoint-{step}", trained(step))
        write(tmp_path / "other" / place.format(step), trained(step))
    expected = measured(tmp_path / "plain", tmp_path / "base")
    actual = measured(tmp_path / "other", tmp_path / "base")
    assert len(expected.measured_weights()) == 7
    assert list(actual.rows()) == list(expected.rows())
    assert actual.layout != "safetensors" or layout == "shards"
