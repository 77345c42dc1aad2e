"""The parameters of a live model under the names that its checkpoints have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from geomcheck.checkpoints.canonical.names import plain_names
from geomcheck.checkpoints.source import Stored
from geomcheck.diagnostics.storage import DTYPE_NAMES
from geomcheck.errors import UsageError


class Parameters:
    """Named parameters seen as a source of weights, wherever they lie.

    Args:
        named: as ``model.named_parameters()`` gives them, wrappers' prefixes included.
        config: the architecture, under the keys of ``config.json``; empty where nothing is known.
    """

    path = Path(".")
    layout = "live model"
    files: tuple[Path, ...] = ()

    def __init__(self, named: Iterable[tuple[str, Tensor]], config: Mapping[str, Any] | None = None) -> None:
        self._named = dict(named)
        self.config = config or {}

    @property
    def weights(self) -> Mapping[str, Stored]:
        """See `WeightSource`; shapes are those of the whole, where a parameter is sharded."""
        return {name: Stored(tuple(p.shape), DTYPE_NAMES.get(p.dtype, str(p.dtype))) for name, p in self._named.items()}

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One parameter, where it is."""
        return self._named[name][at].detach()

    def canonical(self) -> dict[str, Tensor]:
        """The parameters themselves by canonical name: without what wrapped the model, not split, not transposed.

        Raises:
            UsageError: two parameters come to one name.
        """
        found: dict[str, Tensor] = {}
        for name, part in plain_names(self, self.config):
            if name in found:
                raise UsageError(f"two parameters of the model are {name}; give the one model that is trained")
            found[name] = self._named[part.tensor]
        return found


def matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """The 2-D weights of a model's linear maps and embeddings by canonical name, each stored as (out, in).

    Others, as those of GPT-2's ``Conv1D`` (in, out) or of fused experts, are not among them.

    Raises:
        UsageError: two parameters come to one name.
    """
    owners = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | nn.Embedding)}
    known = Parameters(model.named_parameters(), config_of(model)).canonical()
    return {
        name: parameter
        for name, parameter in known.items()
        if isinstance(parameter, nn.Parameter) and id(parameter) in owners and parameter.dim() == 2
    }


def adapted(model: nn.Module) -> bool:
    """Whether an adapter of PEFT is in the model."""
    return bool(getattr(_innermost(model), "peft_config", None))


def config_of(model: nn.Module) -> Mapping[str, Any]:
    """The architecture that a model says it has; empty where it says nothing."""
    to_dict = getattr(getattr(_innermost(model), "config", None), "to_dict", None)
    return dict(to_dict()) if callable(to_dict) else {}


def _innermost(model: nn.Module) -> nn.Module:
    inner = model
    while isinstance(wrapped := getattr(inner, "module", None) or getattr(inner, "_orig_mod", None), nn.Module):
        inner = wrapped
    return inner
