"""Adapters on disk, as PEFT saves them, and as a wrapped model holds them; for tests that need one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import geomcheck
from geomcheck.record import Record

Tensors = dict[str, Tensor]
RANK, ALPHA = 2, 4
CONFIG = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA}
PREFIX = "base_model.model."


def factors(weights: Mapping[str, Tensor], targets: Iterable[str], *, seed: int, name: str = "") -> Tensors:
    """A and B of the targets by PEFT's keys; `name` is that of the adapter, where a model holds it."""
    generator = torch.Generator().manual_seed(seed)
    held = {}
    for target in targets:
        out, in_ = weights[target].shape
        module = f"{PREFIX}{target.removesuffix('.weight')}"
        held[f"{module}.lora_A{name}.weight"] = torch.randn(RANK, in_, generator=generator)
        held[f"{module}.lora_B{name}.weight"] = 1e-3 * seed * torch.randn(out, RANK, generator=generator)
    return held


def merged(weights: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> Tensors:
    """The weights in fp32 with the update of `factors`."""
    whole = {name: weight.float() for name, weight in weights.items()}
    for key, a in held.items():
        if ".lora_A" in key:
            target = key.removeprefix(PREFIX).partition(".lora_A")[0] + ".weight"
            whole[target] = whole[target] + ALPHA / RANK * held[key.replace(".lora_A", ".lora_B")] @ a
    return whole


def wrapped(weights: Mapping[str, Tensor], targets: Iterable[str], held: Mapping[str, Tensor]) -> Tensors:
    """The state dict of a model that PEFT has wrapped: frozen base layers, everything else, and the factors."""
    inside = set(targets)

    def key(name: str) -> str:
        return f"{PREFIX}{name.removesuffix('.weight')}.base_layer.weight" if name in inside else f"{PREFIX}{name}"

    return {**{key(name): weight.clone() for name, weight in weights.items()}, **held}


def write_adapter(directory: Path, held: Tensors, **config: object) -> Path:
    """``adapter_model.safetensors`` and its config."""
    directory.mkdir(parents=True, exist_ok=True)
    save_file(held, directory / "adapter_model.safetensors")
    (directory / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    return directory


def figures(run: Path) -> Record:
    """A few figures of all linear weights of a run."""
    return geomcheck.measure(run, metrics=["update_support", "relative_update_norm", "stable_rank"], workers=1)


def assert_same_figures(one: Record, other: Record) -> None:
    rows, others = list(one.rows()), list(other.rows())
    assert [(r.step, r.weight, r.request, r.stat) for r in rows] == [
        (r.step, r.weight, r.request, r.stat) for r in others
    ]
    for row, twin in zip(rows, others, strict=True):
        one_value, other_value = row.figure.value, twin.figure.value
        assert (one_value is None) == (other_value is None)
        assert one_value is None or one_value == pytest.approx(other_value, rel=1e-4, abs=1e-6)
