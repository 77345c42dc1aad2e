"""Tiny real models, what their own forward passes do, and their checkpoints under canonical names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig, PreTrainedModel

from geomcheck.checkpoints.canonical import canonical
from geomcheck.checkpoints.canonical.parts import PartsOf
from geomcheck.checkpoints.formats.safetensors import SafetensorsDirectory
from tests.runs import write_model


def tiny(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """A model with weights and biases that are all different from each other and from zero."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return model


def config_of(model: PreTrainedModel) -> dict[str, Any]:
    return json.loads(model.config.to_json_string(use_diff=False))


def in_memory(directory: Path, model: PreTrainedModel) -> PartsOf:
    """The model's state dict, as FSDP and DCP checkpoints have it."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return stored(directory, tensors, config_of(model))


def on_disk(directory: Path, model: PreTrainedModel) -> PartsOf:
    """What save_pretrained writes."""
    model.save_pretrained(directory)
    source = SafetensorsDirectory(directory)
    return canonical(source, source.config)


def stored(directory: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> PartsOf:
    """Tensors in a file, under canonical names."""
    source = SafetensorsDirectory(write_model(directory, dict(tensors), config or {"unknown": True}))
    return canonical(source, config)


class Attended(TorchFunctionMode):
    """Records what a model itself takes for queries, keys and values.

    Args:
        sdpa: its attention is torch's, not written out as products.
    """

    def __init__(self, *, sdpa: bool) -> None:
        super().__init__()
        self.sdpa = sdpa
        self.queries: list[Tensor] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.sdpa and name == "scaled_dot_product_attention":
            query, key, value = (*args, *(kwargs[k] for k in ("query", "key", "value") if k in kwargs))[:3]
            self.queries.append(query)
            self.keys.append(key)
            self.values.append(value)
        elif not self.sdpa and name == "baddbmm":  # Bloom: scores
            query, key = kwargs["batch1"], kwargs["batch2"]
            self.queries.append(query)
            self.keys.append(key.mT)
        elif not self.sdpa and (name == "bmm" or (name == "matmul" and args[0].ndim == 4)):
            first, second = args[:2]  # scores first, then the values
            if len(self.queries) == len(self.values):
                self.queries.append(first)
                self.keys.append(second.mT)
            else:
                self.values.append(second)
        return func(*args, **kwargs)


def attended(model: PreTrainedModel, module: torch.nn.Module, **inputs: Tensor) -> tuple[Tensor, Attended]:
    """The input of `module` in a forward pass, and what is attended to. One token: rotary embeddings are
    the identity there."""
    seen: list[Tensor] = []
    hook = module.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach()))
    given = inputs or {"input_ids": torch.tensor([[5]])}
    sdpa = model.config._attn_implementation == "sdpa"
    with torch.no_grad(), Attended(sdpa=sdpa) as record:
        model(**given, **({} if inputs else {"use_cache": False}))
    hook.remove()
    return seen[0].reshape(-1, seen[0].shape[-1]), record


def rows(activation: Tensor, heads: int) -> Tensor:
    """(heads * d) of a one-token activation with `heads` heads, which may be repeated for each query head."""
    flat = activation.reshape(-1, activation.shape[-1])
    return flat[:: len(flat) // heads].flatten()


def projected(source: PartsOf, name: str, x: Tensor) -> Tensor:
    """x W^T + b by a canonical weight."""
    y = x @ source.read(f"{name}.weight").T
    bias = f"{name}.bias"
    return (y + source.read(bias) if bias in source.weights else y).flatten()
