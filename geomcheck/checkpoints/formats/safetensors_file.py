"""One safetensors file, read while it stays the same."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError, safe_open

from geomcheck.checkpoints.formats.raw import plain_bytes, read_bytes
from geomcheck.checkpoints.inside import identity, require_regular
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}
_TORCH = {
    "BF16": "bfloat16",
    "F16": "float16",
    "F32": "float32",
    "F64": "float64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I8": "int8",
    "I16": "int16",
    "I32": "int32",
    "I64": "int64",
    "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32",
    "U64": "uint64",
    "BOOL": "bool",
    "C64": "complex64",
}
_LENGTH_BYTES = 8


class _Place(NamedTuple):
    """Where a tensor lies: its shape, its format as the file calls it, and its first byte."""

    shape: tuple[int, ...]
    dtype: str
    offset: int


class SafetensorsFile:
    """The tensors of one file.

    The safetensors library judges the header, and is done with the file then: what it maps would kill the process
    where the file is cut.

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
            with safe_open(path, framework="numpy") as handle:
                self.metadata: Mapping[str, str] = handle.metadata() or {}
                names = sorted(handle.keys())
            self._places = _places(path, names)
        except (SafetensorError, OSError, RuntimeError, MemoryError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: truncated or not a safetensors file ({error})") from error
        kinds = {(shape, dtype): Stored(shape, _DTYPES.get(dtype, dtype)) for shape, dtype, _ in self._places.values()}
        self.weights: Mapping[str, Stored] = {
            name: kinds[shape, dtype] for name, (shape, dtype, _) in self._places.items()
        }

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, or with indices `at` into its leading dimensions that part of it, in its storage dtype.

        Raises:
            IndexError: there is no such part.
            RunError: it cannot be read.
        """
        import torch

        place = self._places[name]
        part = place.shape[len(at) :]
        if len(at) > len(place.shape) or any(not 0 <= i < n for i, n in zip(at, place.shape, strict=False)):
            raise IndexError(f"{name}: {at} lies outside {place.shape}")
        if (dtype := getattr(torch, _TORCH.get(place.dtype, ""), None)) is None:
            raise RunError(f"{self.path}: {name} is stored as {place.dtype}, which is not read")
        self._require_unchanged()
        first = sum(i * math.prod(place.shape[axis + 1 :]) for axis, i in enumerate(at))
        try:
            content = read_bytes(self.path, place.offset + first * dtype.itemsize, math.prod(part) * dtype.itemsize)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot read {name}: {error}") from error
        self._require_unchanged()
        return content.view(dtype).view(part)

    def _require_unchanged(self) -> None:
        if identity(self.path) != self._identity:
            raise RunError(f"{self.path}: changed or removed since it was opened; is the run still being written?")


def _places(path: Path, names: list[str]) -> dict[str, _Place]:
    """Where the tensors lie, by a header that the library has found to be sound. Raises as reading and parsing do."""
    length = int.from_bytes(plain_bytes(path, 0, _LENGTH_BYTES), "little")
    header = json.loads(plain_bytes(path, _LENGTH_BYTES, length))
    data = _LENGTH_BYTES + length
    return {
        name: _Place(tuple(header[name]["shape"]), header[name]["dtype"], data + header[name]["data_offsets"][0])
        for name in names
    }
