"""``adapter_model.bin``: the pickled adapters of older PEFT versions, and of OpenRLHF under ZeRO-3."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geomcheck.checkpoints.inside import require_regular
from geomcheck.checkpoints.source import Stored
from geomcheck.diagnostics.storage import DTYPE_NAMES
from geomcheck.errors import RunError

BIN = "adapter_model.bin"


class PickledAdapter:
    """The tensors of ``adapter_model.bin``, without ever running what a pickle may carry.

    Args:
        path: the directory.
        root: the file must lie inside.
    """

    layout = "pickle"
    config: Mapping[str, Any] = {}

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        self._root = root

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path / BIN,)

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name. Raises RunError."""
        return {
            name: Stored(tuple(tensor.shape), DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype)))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, memory-mapped."""
        tensor = self._tensors[name]
        return tensor[at] if at else tensor

    @cached_property
    def _tensors(self) -> Mapping[str, Tensor]:
        path = require_regular(self.path / BIN, self._root)
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RunError(f"{path}: cannot be read as tensors alone ({reason}); save it as safetensors") from error
        if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
            raise RunError(f"{path}: holds something other than named tensors")
        return dict(sorted(loaded.items()))
