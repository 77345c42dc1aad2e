"""One safetensors file, which must not change while it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safetensors import SafetensorError, safe_open

from geomcheck._lazy import torch
from geomcheck.checkpoints.formats.dtypes import SAFETENSORS
from geomcheck.checkpoints.inside import OpenedFile, plain_bytes
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH_BYTES = 8


class _Entry(NamedTuple):
    """Where a tensor lies: its shape, its format as the file calls it, and its first byte."""

    shape: tuple[int, ...]
    dtype: str
    offset: int


class SafetensorsFile:
    """The tensors of one file.

    The safetensors library judges the header, and is done with the file then: what it maps would kill the process
    where the file is cut. Nothing outside `root` is opened, whatever links say. Raises RunError where the file is
    truncated, or no safetensors file.
    """

    def __init__(self, path: Path, *, root: Path) -> None:
        self.path = path
        try:
            self._file = OpenedFile(path, root)
            with self._file.headed() as headed:
                with safe_open(headed, framework="numpy") as handle:
                    self.metadata: Mapping[str, str] = handle.metadata() or {}
                    names = sorted(handle.keys())
                self._entries = _entries(headed, names)
        except (SafetensorError, OSError, RuntimeError, MemoryError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: truncated or not a safetensors file ({error})") from error
        kinds = {(shape, dtype): _stored(shape, dtype) for shape, dtype, _ in self._entries.values()}
        self.weights: Mapping[str, Stored] = {
            name: kinds[shape, dtype] for name, (shape, dtype, _) in self._entries.items()
        }

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """``tensor[at]``, of shape ``shape[len(at):]``, in its storage dtype. Raises IndexError where there is no such
        part; RunError where it cannot be read."""
        entry = self._entries[name]
        part = entry.shape[len(at) :]
        if len(at) > len(entry.shape) or any(not 0 <= i < n for i, n in zip(at, entry.shape, strict=False)):
            raise IndexError(f"{name}: {at} lies outside {entry.shape}")
        dtype = getattr(torch, SAFETENSORS[entry.dtype].name, None) if entry.dtype in SAFETENSORS else None
        if dtype is None:
            raise RunError(f"{self.path}: {name} is stored as {entry.dtype}, which is not read")
        first = sum(i * math.prod(entry.shape[axis + 1 :]) for axis, i in enumerate(at))
        try:
            content = self._file.read(entry.offset + first * dtype.itemsize, math.prod(part) * dtype.itemsize)
        except (OSError, ValueError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot read {name}: {error}") from error
        return content.view(dtype).view(part)


def _stored(shape: tuple[int, ...], dtype: str) -> Stored:
    return Stored(shape, SAFETENSORS[dtype].called if dtype in SAFETENSORS else dtype)


def _entries(path: Path, names: list[str]) -> dict[str, _Entry]:
    """Where the tensors lie, by a header that the library has found to be sound. Raises as reading and parsing do."""
    length = int.from_bytes(plain_bytes(path, 0, _LENGTH_BYTES), "little")
    header = json.loads(plain_bytes(path, _LENGTH_BYTES, length))
    data = _LENGTH_BYTES + length
    return {
        name: _Entry(tuple(header[name]["shape"]), header[name]["dtype"], data + header[name]["data_offsets"][0])
        for name in names
    }
