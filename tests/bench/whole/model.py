"""Runs of the shapes of whole models, as Hugging Face writes them, with spectra and updates like trained ones."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.bench.weights import KINDS, SHAPES_06B, trajectory

PLACES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}

SHAPES_8B = {
    "q": (4096, 4096),
    "k": (1024, 4096),
    "v": (1024, 4096),
    "o": (4096, 4096),
    "gate": (12288, 4096),
    "up": (12288, 4096),
    "down": (4096, 12288),
}

DISTINCT = 2
"""Matrices per place that are drawn; each layer then has its own by permuting and negating rows and columns, which
leaves every spectrum as it is, and by taking the steps a little larger or smaller."""

SPREAD = 0.1
"""Standard deviation of the logarithm of what a layer's steps are multiplied by."""


@dataclass(frozen=True)
class Model:
    """The matrices of a transformer's layers, all alike.

    Attributes:
        shapes: (out, in) of each matrix of a layer.
        layers: how many the model has.
        written: numbers of layers that are written and measured by default; figures are scaled where all are less.
    """

    shapes: dict[str, tuple[int, int]]
    layers: int
    written: tuple[int, ...]

    @property
    def weights(self) -> int:
        """How many matrices the model has."""
        return self.layers * len(self.shapes)

    def bytes(self, layers: int, checkpoints: int) -> int:
        """Of a run with so many layers, bf16, W0 included."""
        return 2 * (1 + checkpoints) * layers * sum(map(prod, self.shapes.values()))


MODELS = {"0.6b": Model(SHAPES_06B, layers=28, written=(4, 28)), "8b": Model(SHAPES_8B, layers=36, written=(1,))}


def write_run(directory: Path, model: Model, layers: int, checkpoints: int) -> Path:
    """A run with so many layers: ``base``, and ``checkpoint-N`` by their steps, written an hour ago."""
    drawn = min(DISTINCT, layers)
    paths = {
        (name, kind): trajectory(shape, KINDS["opd"], checkpoints, seed=len(model.shapes) * kind + number)
        for kind in range(drawn)
        for number, (name, shape) in enumerate(model.shapes.items())
    }
    for index, place in enumerate(["base", *(f"checkpoint-{step}" for step in range(1, checkpoints + 1))]):
        tensors = {}
        for layer in range(layers):
            for number, name in enumerate(model.shapes):
                w0, path = paths[name, layer % drawn]
                seed = layer * len(model.shapes) + number
                weight = f"model.layers.{layer}.{PLACES[name]}.weight"
                tensors[weight] = _varied(w0, path[index - 1] if index else w0, seed)
        _write(directory / place, tensors, layers)
    return directory


def _varied(w0: Tensor, wt: Tensor, seed: int) -> Tensor:
    """W_t of another layer with the same spectra, but for the size of the step; the same seed for all checkpoints."""
    generator = torch.Generator().manual_seed(seed)
    factor = float((SPREAD * torch.randn((), generator=generator)).exp())
    order = torch.randperm(len(wt), generator=generator)
    signs = [torch.randint(0, 2, (size,), generator=generator) * 2 - 1 for size in wt.shape]
    moved = w0 + factor * (wt.float() - w0)
    return (moved[order] * signs[0][:, None] * signs[1]).bfloat16()


def _write(place: Path, tensors: dict[str, Tensor], layers: int) -> None:
    place.mkdir(parents=True)
    save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": layers}
    (place / "config.json").write_text(json.dumps(config))
    for file in place.iterdir():
        os.utime(file, (time.time() - 3600, time.time() - 3600))
