"""Runs that have the files, names and shapes of a large model's, and holes where its weights would be.

The headers are those that a real checkpoint has; the entries behind them take no room on the disk, and are zero.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

SHARD = 5 * 10**9
"""Bytes of a shard, as the Hugging Face libraries write them."""


@dataclass(frozen=True)
class MixtureOfExperts:
    """The shapes of a mixture-of-experts transformer in the style of Qwen3.

    Attributes:
        width: of the residual stream.
        queries, keys: rows of the projections to queries, and to keys and values.
        expert: rows of an expert's gate and up projections.
        vocabulary: rows of the embedding and of the head.
    """

    layers: int
    experts: int
    width: int
    queries: int
    keys: int
    expert: int
    vocabulary: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight, by its name."""
        ends = {"model.embed_tokens": (self.vocabulary, self.width), "lm_head": (self.vocabulary, self.width)}
        layers = {
            f"model.layers.{layer}.{name}": shape for layer in range(self.layers) for name, shape in self._layer()
        }
        return {f"{name}.weight": shape for name, shape in {**ends, "model.norm": (self.width,), **layers}.items()}

    def _layer(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        attention = {"q": self.queries, "k": self.keys, "v": self.keys}
        yield from ((f"self_attn.{name}_proj", (rows, self.width)) for name, rows in attention.items())
        yield "self_attn.o_proj", (self.width, self.queries)
        yield from ((f"{name}_layernorm", (self.width,)) for name in ("input", "post_attention"))
        yield "mlp.gate", (self.experts, self.width)
        for expert in range(self.experts):
            yield f"mlp.experts.{expert}.gate_proj", (self.expert, self.width)
            yield f"mlp.experts.{expert}.up_proj", (self.expert, self.width)
            yield f"mlp.experts.{expert}.down_proj", (self.width, self.expert)

    def config(self) -> dict[str, object]:
        """What its ``config.json`` says of these."""
        return {
            "architectures": ["Qwen3MoeForCausalLM"],
            "model_type": "qwen3_moe",
            "num_hidden_layers": self.layers,
            "num_experts": self.experts,
            "hidden_size": self.width,
            "moe_intermediate_size": self.expert,
        }


MODELS = {"235b": MixtureOfExperts(94, 128, 4096, 8192, 512, 1536, 151936)}


def write_hollow(directory: Path, model: MixtureOfExperts, checkpoints: int) -> Path:
    """A run of `model` with W0 in ``base`` and so many checkpoints, without a byte of weights, written an hour ago."""
    shards = list(_shards(model.shapes()))
    for place in ("base", *(f"checkpoint-{step}" for step in range(1, checkpoints + 1))):
        files = {f"model-{n:05d}-of-{len(shards):05d}.safetensors": names for n, names in enumerate(shards, 1)}
        (directory / place).mkdir(parents=True)
        for file, weights in files.items():
            _write_hollow_file(directory / place / file, weights)
        where = {name: file for file, weights in files.items() for name in weights}
        (directory / place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
        (directory / place / "config.json").write_text(json.dumps(model.config()))
        for path in (directory / place).iterdir():
            os.utime(path, (time.time() - 3600, time.time() - 3600))
    return directory


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * prod(shape)


def _shards(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[dict[str, tuple[int, ...]]]:
    shard: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if shard and sum(map(_bytes, shard.values())) + _bytes(shape) > SHARD:
            yield shard
            shard = {}
        shard[name] = shape
    yield shard


def _write_hollow_file(path: Path, weights: Mapping[str, tuple[int, ...]]) -> None:
    end, entries = 0, dict[str, object]()
    for name, shape in weights.items():
        start, end = end, end + _bytes(shape)
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
