"""Small runs on disk, for tests that need one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]

Q = "model.layers.0.self_attn.q_proj.weight"
K = "model.layers.0.self_attn.k_proj.weight"
DOWN = "model.layers.0.mlp.down_proj.weight"
NORM = "model.layers.0.input_layernorm.weight"
EMBED = "model.embed_tokens.weight"

SHAPES = {Q: (24, 16), K: (16, 16), DOWN: (16, 24), NORM: (16,), EMBED: (32, 16)}


def base_weights(seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensors:
    """Gaussian weights of a one-layer model."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}


def moved(weights: Tensors, scale: float, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensors:
    """`weights` after a Gaussian update of the given scale."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (w.double() + scale * torch.randn(w.shape, generator=generator).double()).to(dtype)
        for name, w in weights.items()
    }


def write_model(directory: Path, weights: Tensors, config: Mapping[str, object] | None = None) -> Path:
    """One ``model.safetensors`` with a config."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file({name: w.contiguous() for name, w in weights.items()}, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config or {"model_type": "qwen3"}))
    return directory


def write_sharded(directory: Path, weights: Tensors, shards: int = 2) -> Path:
    """The same weights in several files with an index."""
    directory.mkdir(parents=True, exist_ok=True)
    names = sorted(weights)
    weight_map = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number::shards]
        save_file({name: weights[name].contiguous() for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory


def write_run(directory: Path, base: Tensors, checkpoints: Mapping[int, Tensors], max_steps: int | None = None) -> Path:
    """A run as the transformers Trainer leaves it, with ``base/`` beside the checkpoints."""
    write_model(directory / "base", base)
    for step, weights in checkpoints.items():
        write_model(directory / f"checkpoint-{step}", weights)
        state = {"global_step": step, "max_steps": max_steps or max(checkpoints)}
        (directory / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps(state))
    return directory


def simple_run(directory: Path, steps: tuple[int, ...] = (10, 20, 30), *, scale: float = 1e-3) -> Path:
    """A healthy run, whose update grows with the steps."""
    base = base_weights()
    return write_run(directory, base, {step: moved(base, scale * step, seed=step) for step in steps})


def repeats(directory: Path, count: int, *, scale: float = 1e-2, base_seed: int = 0) -> list[Path]:
    """Runs of one recipe that differ in nothing but the seed: two checkpoints, the second twice as far."""
    base = base_weights(base_seed)
    return [
        write_run(
            directory / f"seed-{seed}",
            base,
            {10: moved(base, scale, seed=100 + seed), 20: moved(base, 2 * scale, seed=200 + seed)},
        )
        for seed in range(count)
    ]


def age(directory: Path) -> Path:
    """Let every file below be an hour old: the identity of a file that was just written proves nothing."""
    for path in directory.rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime_ns - 3600 * 10**9
            os.utime(path, ns=(then, then))
    return directory
