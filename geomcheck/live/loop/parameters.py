"""The parameters of a torch model in training, or those of its adapter, whatever wraps the model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geomcheck.errors import UsageError
from geomcheck.live.loop.live_weights import LiveTensor, Sharded


@dataclass(frozen=True)
class Parameters:
    """What a model in training holds.

    Attributes:
        tensors: its parameters by name, nothing copied; of a model with a LoRA adapter, the adapter's as PEFT saves
            them.
        adapter: the adapter's ``LoraConfig``, if there is one.
        base: what the model, or the model under the adapter, was loaded from.
        revision: of it on the Hub.
        config: the architecture, under the keys of ``config.json``.
    """

    tensors: Mapping[str, LiveTensor]
    adapter: Mapping[str, Any] | None = None
    base: str | None = None
    revision: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)


def parameters_of(model: nn.Module) -> Parameters:
    """The parameters of `model`; under FSDP1 every rank must ask. Raises UsageError: its adapter cannot be followed."""
    inner = unwrapped(model)
    if has_adapter(inner):
        return _of_adapter(inner)
    config = getattr(inner, "config", None)
    name = getattr(inner, "name_or_path", None) or getattr(config, "_name_or_path", None)
    revision = getattr(config, "_commit_hash", None)
    return Parameters(dict(_named(inner)), base=name, revision=revision, config=config_of(inner))


def has_adapter(model: Any) -> bool:
    """Whether an adapter of PEFT is in the model."""
    return bool(getattr(unwrapped(model), "peft_config", None))


def config_of(model: Any) -> Mapping[str, Any]:
    """The architecture that a model says it has; empty where it says nothing."""
    to_dict = getattr(getattr(unwrapped(model), "config", None), "to_dict", None)
    return dict(to_dict()) if callable(to_dict) else {}


def unwrapped(model: Any) -> Any:
    """The model within torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        elif hasattr(model, "_orig_mod"):
            model = model._orig_mod
        else:
            return model


def _of_adapter(model: Any) -> Parameters:
    from peft import get_peft_model_state_dict

    if _fsdp1_of(model) is not None:
        raise UsageError("an adapter under FSDP1 is not watched; use FSDP2, or measure the saved checkpoints")
    active = model.active_adapters
    names = list(active() if callable(active) else active)  # a property of PEFT's models, a method of transformers'
    if len(names) != 1:
        raise UsageError(f"the model has {len(names)} active adapters ({', '.join(names)}): their sum is not watched")
    config = model.peft_config[names[0]]
    tensors = get_peft_model_state_dict(model, adapter_name=names[0], save_embedding_layers=False)
    revision = getattr(config, "revision", None)
    return Parameters(tensors, adapter=config.to_dict(), base=config.base_model_name_or_path, revision=revision)


def _named(model: nn.Module) -> Iterator[tuple[str, LiveTensor]]:
    wrapper = _fsdp1_of(model)
    if wrapper is None:
        yield from model.named_parameters()
        return
    for prefix, module in model.named_modules():
        if isinstance(module, wrapper):
            for name, shape, dtype in _own_shapes(module, wrapper):
                gather = partial(_summoned, wrapper, module, name)
                yield ".".join(filter(None, (prefix, name))), Sharded(shape, dtype, gather)


def _fsdp1_of(model: nn.Module) -> Any:
    """FSDP1's wrapper, if modules are wrapped in it: it flattens their parameters, which FSDP2 leaves as DTensors."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    wrapper = None if fsdp is None else fsdp.FullyShardedDataParallel
    return wrapper if wrapper and any(isinstance(module, wrapper) for module in model.modules()) else None


def _own_shapes(module: nn.Module, wrapper: Any) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    """The parameters that a wrapped module gathers itself, by their names in it."""
    with wrapper.summon_full_params(module, recurse=False, writeback=False):
        return [
            (name, tuple(parameter.shape), parameter.dtype)
            for name, parameter in module.named_parameters()
            if not _is_wrapped_on_its_own(name, module, wrapper)
        ]


def _is_wrapped_on_its_own(name: str, module: nn.Module, wrapper: Any) -> bool:
    path = name.split(".")[:-1]
    return any(isinstance(module.get_submodule(".".join(path[: n + 1])), wrapper) for n in range(len(path)))


def _summoned(wrapper: Any, module: nn.Module, name: str) -> Tensor:
    with wrapper.summon_full_params(module, recurse=False, writeback=False):
        return module.get_parameter(name).detach().clone()
