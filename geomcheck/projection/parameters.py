"""The parameters of a live model under the names that its checkpoints have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geomcheck.checkpoints.canonical.names import plain_names
from geomcheck.checkpoints.weights import describe
from geomcheck.errors import UsageError
from geomcheck.live.loop.live_weights import LiveWeights
from geomcheck.live.loop.parameters import config_of
from geomcheck.live.ranks import Ranks
from geomcheck.suite.language.selection import DEFAULT, Selection


def canonical_parameters(
    named: Iterable[tuple[str, Tensor]], config: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """Parameters by canonical name: without what wrapped the model, not split, not transposed.

    Args:
        named: as ``model.named_parameters()`` gives them, wrappers' prefixes included.
        config: the architecture, under the keys of ``config.json``; empty where nothing is known.

    Raises:
        UsageError: two parameters come to one name.
        RunError: one of them holds no values.
    """
    tensors = dict(named)
    source = LiveWeights(tensors, Ranks(), config=config or {}, path=Path("the live model"))
    found: dict[str, Tensor] = {}
    for name, part in plain_names(source, source.config):
        if name in found:
            raise UsageError(f"two parameters of the model are {name}; give the one model that is trained")
        found[name] = tensors[part.tensor]
    return found


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The 2-D weights of a model's linear maps and embeddings by canonical name, each stored as (out, in).

    Others, as those of GPT-2's ``Conv1D`` (in, out) or of fused experts, are not among them.

    Raises:
        UsageError: two parameters come to one name.
    """
    owners = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)}
    return {
        name: parameter
        for name, parameter in canonical_parameters(model.named_parameters(), config_of(model)).items()
        if isinstance(parameter, nn.Parameter) and id(parameter) in owners and parameter.dim() == 2
    }


def selected(parameters: Mapping[str, Tensor], weights: Selection) -> dict[str, Tensor]:
    """The parameters that are selected. Raises Unanswerable where none is."""
    described = {name: describe(name, tuple(p.shape)) for name, p in parameters.items()}
    return {weight.name: parameters[weight.name] for weight in weights.matrices(described, "a channel")}


def shapes_of(model: nn.Module, weights: Selection = DEFAULT) -> Mapping[str, tuple[int, ...]]:
    """The shapes of the matrices that would be constrained by default, for `Channel.random`."""
    return {name: tuple(parameter.shape) for name, parameter in selected(matrices(model), weights).items()}
