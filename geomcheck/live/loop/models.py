"""What a torch model holds while it trains: its parameters, or those of its adapter, whatever wraps it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomcheck.errors import UsageError
from geomcheck.live.loop.model import Held, Sharded


@dataclass(frozen=True)
class Holding:
    """The tensors of a model in training.

    Attributes:
        tensors: its parameters by name, nothing copied; of a model with a LoRA adapter, the adapter's as PEFT saves
            them.
        adapter: the adapter's ``LoraConfig``, if there is one.
        base: what the model, or the model under the adapter, was loaded from.
        revision: of it on the Hub.
        config: the architecture, under the keys of ``config.json``.
    """

    tensors: Mapping[str, Held]
    adapter: Mapping[str, Any] | None = None
    base: str | None = None
    revision: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def holding(model: nn.Module) -> Holding:
    """What `model` holds. Under FSDP1 every rank must ask, since that gathers shapes.

    Raises:
        UsageError: its adapter cannot be watched.
    """
    inner = _unwrapped(model)
    config = getattr(inner, "config", None)
    described = config.to_dict() if config is not None and hasattr(config, "to_dict") else {}
    if getattr(inner, "peft_config", None):
        return _adapted(inner)
    name = getattr(inner, "name_or_path", None) or getattr(config, "_name_or_path", None)
    revision = getattr(config, "_commit_hash", None)
    return Holding(dict(_parameters(inner)), base=name, revision=revision, config=described)


def _unwrapped(model: Any) -> Any:
    """The model within torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def _adapted(model: Any) -> Holding:
    from peft import get_peft_model_state_dict

    if _fsdp1_of(model) is not None:
        raise UsageError("an adapter under FSDP1 is not watched; use FSDP2, or measure the saved checkpoints")
    active = model.active_adapters
    names = list(active() if callable(active) else active)  # a property of PEFT's models, a method of transformers'
    if len(names) != 1:
        raise UsageError(f"the model has {len(names)} active adapters ({', '.join(names)}): their sum is not watched")
    config = model.peft_config[names[0]]
    tensors = get_peft_model_state_dict(model, adapter_name=names[0], save_embedding_layers=False)
    return Holding(
        tensors,
        adapter=config.to_dict(),
        base=config.base_model_name_or_path,
        revision=getattr(config, "revision", None),
    )


def _parameters(model: nn.Module) -> Iterator[tuple[str, Held]]:
    wrapper = _fsdp1_of(model)
    if wrapper is None:
        yield from model.named_parameters()
        return
    for prefix, module in model.named_modules():
        if isinstance(module, wrapper):
            for name, shape, dtype in _shapes(module, wrapper):
                whole = partial(_summoned, wrapper, module, name)
                yield ".".join(filter(None, (prefix, name))), Sharded(shape, dtype, whole)


def _fsdp1_of(model: nn.Module) -> Any:
    """FSDP1's wrapper, if modules are wrapped in it: it flattens their parameters, which FSDP2 leaves as DTensors."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    wrapper = None if fsdp is None else fsdp.FullyShardedDataParallel
    return wrapper if wrapper and any(isinstance(module, wrapper) for module in model.modules()) else None


def _shapes(module: nn.Module, wrapper: Any) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    """The parameters that a wrapped module gathers itself, by their names in it."""
    with wrapper.summon_full_params(module, recurse=False, writeback=False):
        return [
            (name, tuple(parameter.shape), parameter.dtype)
            for name, parameter in module.named_parameters()
            if _is_own(name, module, wrapper)
        ]


def _is_own(name: str, module: nn.Module, wrapper: Any) -> bool:
    """Whether a parameter is not of a module that is wrapped on its own."""
    path = name.split(".")[:-1]
    inside = (module.get_submodule(".".join(path[:depth])) for depth in range(1, len(path) + 1))
    return not any(isinstance(part, wrapper) for part in inside)


def _summoned(wrapper: Any, module: nn.Module, name: str) -> Tensor:
    with wrapper.summon_full_params(module, recurse=False, writeback=False):
        return module.get_parameter(name).detach().clone()
