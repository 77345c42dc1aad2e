"""A good run with a defect, which is in it only while it is read: nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck._lazy import torch
from geomcheck.checkpoints import BaseWeights, Change, Run, Stored, WeightSource
from geomcheck.checkpoints.source import Wrapped
from geomcheck.defects.defect import Spoiling
from geomcheck.defects.operations import W0, Good, Operation
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GoodRun:
    """The weights of a run and its W0, which are comparable; a `Good`."""

    run: Run
    base: BaseWeights

    def read(self, name: str, index: int) -> Tensor | Change:
        """See `Good`."""
        return (self.base.source if index == W0 else self.run.checkpoints[index].source).read(name)

    def spoiled(self, spoiling: Spoiling) -> tuple[Run, BaseWeights]:
        """The run and its W0 with a defect."""
        checkpoints = (
            replace(checkpoint, source=Spoiled(checkpoint.source, index, self, spoiling.operations))
            for index, checkpoint in enumerate(self.run.checkpoints)
        )
        base = self.base
        if spoiling.to_w0:
            base = replace(base, source=Spoiled(base.source, W0, self, spoiling.to_w0))
        return replace(self.run, checkpoints=tuple(checkpoints)), base


class Spoiled(Wrapped):
    """A source with operations done to some of its weights.

    It says that no file decides what its weights are, so that nothing is remembered of it under the files of the good
    run, which hold other weights.

    Args:
        index: of the checkpoint, or `W0`.
        operations: by weight.
    """

    files: tuple[Path, ...] = ()

    def __init__(self, source: WeightSource, index: int, good: Good, operations: Mapping[str, Operation]) -> None:
        super().__init__(source)
        self._index, self._good, self._operations = index, good, operations

    @property
    def weights(self) -> Mapping[str, Stored]:
        """Those of the good run: a defect changes no header."""
        return self._source.weights

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor | Change:
        """See `WeightSource`. Raises RunError, also where an operation makes another shape."""
        operation = self._operations.get(name)
        if operation is None:
            return self._source.read(name, at)
        made = operation(self._good, name, self._index)
        if not isinstance(made, torch.Tensor):
            return made
        if tuple(made.shape) != self.weights[name].shape:
            raise RunError(f"{name}: the defect makes shape {tuple(made.shape)} of {self.weights[name].shape}")
        return made[at].contiguous()
