"""One safetensors file, opened once and read while it stays the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from geomcheck.checkpoints.inside import identity, require_regular
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}


class SafetensorsFile:
    """The tensors of one file.

    Args:
        path: the file.
        root: nothing outside this directory is opened, whatever links say.

    Raises:
        RunError: it is truncated, or no safetensors file.
    """

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        try:
            self._identity = identity(require_regular(path, root))
            self._handle: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
            raise RunError(f"{path}: truncated or not a safetensors file ({error})") from error

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the writer noted in the header."""
        return self._handle.metadata() or {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from the header, sorted by name."""
        entries = {name: self._handle.get_slice(name) for name in sorted(self._handle.keys())}
        return {
            name: Stored(tuple(entry.get_shape()), _DTYPES.get(entry.get_dtype(), entry.get_dtype()))
            for name, entry in entries.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor, memory-mapped, in its storage dtype. Raises RunError."""
        if identity(self.path) != self._identity:
            raise RunError(f"{self.path}: changed or removed since it was opened; is the run still being written?")
        try:
            tensor: Tensor = self._handle.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot read {name}: {error}") from error
        return tensor
