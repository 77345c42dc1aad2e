"""The weights of a model in training, read one at a time where they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomcheck.checkpoints.source import Stored
from geomcheck.diagnostics.storage import DTYPE_NAMES
from geomcheck.errors import RunError
from geomcheck.live.ranks import Ranks


@dataclass(frozen=True, eq=False)
class Sharded:
    """A tensor of which every rank holds a part.

    Attributes:
        shape: of the whole.
        whole: gathers it. Every rank calls this, in the same order.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    whole: Callable[[], Tensor]


LiveTensor = Tensor | Sharded
"""A tensor as a training holds it; a DTensor is a Tensor."""

NamedTensors = Mapping[str, LiveTensor] | Iterable[tuple[str, LiveTensor]]


class LiveWeights:
    """The tensors that a training holds, as a `WeightSource`. Nothing is copied before it is read.

    Args:
        tensors: by the names that the model gives them; one that is there under two names counts under the first.
        ranks: those that hold parts of them.
        config: the architecture, under the keys of a Hugging Face ``config.json``; empty takes that of W0.
        path: the run's directory, for messages.

    Raises:
        RunError: a tensor holds nothing, as under DeepSpeed ZeRO-3.
    """

    layout = "live parameters"
    files: tuple[Path, ...] = ()

    def __init__(self, tensors: NamedTensors, ranks: Ranks, *, config: Mapping[str, Any], path: Path) -> None:
        self._tensors = _once(tensors.items() if isinstance(tensors, Mapping) else tensors)
        self._ranks = ranks
        self.config = config
        self.path = path
        _require_content(self._tensors)

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name: shape of the whole, and format."""
        return {name: Stored(tuple(held.shape), _format(held.dtype)) for name, held in self._tensors.items()}

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor on the CPU, gathered from all ranks. On rank 0, while the others `gather`."""
        self._ranks.call(name)
        return gathered(self._tensors[name])[at].cpu()

    def gather(self, name: str) -> None:
        """What the other ranks do while rank 0 reads a tensor."""
        gathered(self._tensors[name])


@torch.no_grad()
def gathered(held: LiveTensor) -> Tensor:
    """All of a tensor; where ranks hold parts of it, every one of them has to call this."""
    if isinstance(held, Sharded):
        return held.whole().detach()
    gather = getattr(held, "full_tensor", None)  # a DTensor's, which not every torch can name
    return held.detach() if gather is None else gather()


def _once(named: Iterable[tuple[str, LiveTensor]]) -> dict[str, LiveTensor]:
    """Every tensor under one name: a tied head is the embedding."""
    first: dict[object, str] = {}
    return {name: held for name, held in named if first.setdefault(_identity(held), name) == name}


def _identity(held: LiveTensor) -> object:
    """Equal for two names of one tensor, which only the address of its memory shows."""
    local = getattr(held, "_local_tensor", held)
    if isinstance(local, Tensor) and local.numel():
        return local.data_ptr(), tuple(held.shape), held.dtype
    return id(held)


def _format(dtype: torch.dtype) -> str:
    return DTYPE_NAMES.get(dtype, str(dtype).removeprefix("torch."))


def _require_content(tensors: Mapping[str, LiveTensor]) -> None:
    for name, held in tensors.items():
        if hasattr(held, "ds_id"):
            raise RunError(
                f"{name} is partitioned by DeepSpeed ZeRO-3, whose parameters are placeholders between uses; reading "
                "them is not supported: measure the saved checkpoints"
            )
        if isinstance(held, Tensor) and held.is_meta:
            raise RunError(f"{name} is on the meta device: it holds no values")
