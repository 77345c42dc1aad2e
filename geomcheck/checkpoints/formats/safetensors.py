"""Hugging Face model directories: ``model.safetensors``, or shards named by ``model.safetensors.index.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from geomcheck.checkpoints.config import CONFIG, read_config
from geomcheck.checkpoints.inside import read_json, require_regular
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]*")
_DTYPES = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}


def holds_safetensors(directory: Path) -> bool:
    """Whether `directory` is a model directory that this reader understands."""
    return (directory / SINGLE).is_file() or (directory / INDEX).is_file()


class SafetensorsDirectory:
    """The weights of one Hugging Face model directory.

    ``model.safetensors`` goes before the index, as in transformers: saving a model again in one file leaves a
    stale index behind.

    Args:
        path: the directory.
        root: no file outside this directory is ever opened, whatever index or links say.
        stem: what the files are called, before ``.safetensors``.
    """

    layout = "safetensors"

    def __init__(self, path: Path, *, root: Path | None = None, stem: str = "model") -> None:
        self.path = path
        self._single, self._index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
        self._root = _storage_root(root or path)
        self._handles: dict[str, Any] = {}
        self._stats: dict[str, tuple[int, ...]] = {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from headers alone. Raises RunError."""
        stored: dict[str, Stored] = {}
        for name, file in self._files.items():
            entry = self._open(file).get_slice(name)
            dtype = entry.get_dtype()
            stored[name] = Stored(tuple(entry.get_shape()), _DTYPES.get(dtype, dtype))
        return stored

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, what names them, and the config that says how their tensors are split."""
        names = {*self._files.values(), *([] if (self.path / self._single).is_file() else [self._index])}
        names |= {CONFIG} if (self.path / CONFIG).is_file() else set()
        return tuple(self.path / name for name in sorted(names))

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json``. Raises RunError."""
        return read_config(self.path, self._root)

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, memory-mapped, in its storage dtype. Raises RunError."""
        file = self._files[name]
        handle = self._open(file)
        if _identity(self.path / file) != self._stats[file]:
            raise RunError(
                f"{self.path / file}: changed or removed since it was opened; is the run still being written?"
            )
        try:
            tensor: Tensor = handle.get_tensor(name)
        except (SafetensorError, OSError, RuntimeError) as error:
            raise RunError(f"{self.path / file}: cannot read {name}: {error}") from error
        return tensor[at] if at else tensor

    @cached_property
    def _files(self) -> Mapping[str, str]:
        """File name by tensor name."""
        if (self.path / self._single).is_file():
            return dict.fromkeys(sorted(self._open(self._single).keys()), self._single)
        weight_map = self._read_index()
        for file in sorted(set(weight_map.values())):
            present = set(self._open(file).keys())
            absent = sorted(name for name, where in weight_map.items() if where == file and name not in present)
            if absent:
                raise RunError(
                    f"{self.path / file}: {self._index} places {absent[0]} here, but the file does not hold it "
                    f"({len(absent)} weights affected): the index is stale or the shard was overwritten"
                )
        return dict(sorted(weight_map.items()))

    def _read_index(self) -> dict[str, str]:
        path = self.path / self._index
        weight_map = read_json(path, self._root, max_bytes=MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise RunError(f"{path}: weight_map is empty or not a mapping of weight names to files")
        for name, file in weight_map.items():
            if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
                raise RunError(
                    f"{path}: places {name} in {file!r}; shards must be plain file names in the same directory"
                )
        return weight_map

    def _open(self, file: str) -> Any:
        if file not in self._handles:
            path = self.path / file
            if file != self._single and not path.is_file():
                raise RunError(
                    f"{path}: missing, though {self._index} names it; copy the shard, or remove the checkpoint"
                )
            try:
                self._stats[file] = _identity(require_regular(path, self._root))
                self._handles[file] = safe_open(path, framework="pt")
            except (SafetensorError, OSError, RuntimeError, MemoryError) as error:
                raise RunError(f"{path}: truncated or not a safetensors file ({error})") from error
            if "DCP_SHARDING_INFO" in (self._handles[file].metadata() or {}):
                raise RunError(
                    f"{path}: holds slices of tensors (distributed checkpoint), not whole ones; "
                    "consolidate the checkpoint first"
                )
        return self._handles[file]


def _identity(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced; empty where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _storage_root(path: Path) -> Path:
    """Where the files of `path` may lie: the directory itself, or for a snapshot in the Hugging Face cache,
    whose files are links into ``blobs/``, that repository's folder."""
    resolved = path.resolve()
    if resolved.parent.name == "snapshots" and (resolved.parent.parent / "blobs").is_dir():
        return resolved.parent.parent
    return resolved
