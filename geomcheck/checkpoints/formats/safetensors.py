"""Hugging Face model directories: ``model.safetensors``, or shards named by ``model.safetensors.index.json``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from geomcheck.checkpoints.formats.directory import CONFIG, ModelDirectory, read_index
from geomcheck.checkpoints.formats.safetensors_file import SafetensorsFile
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


def holds_safetensors(directory: Path) -> bool:
    """Whether `directory` is a model directory that this reader understands."""
    return (directory / SINGLE).is_file() or (directory / INDEX).is_file()


class SafetensorsDirectory(ModelDirectory):
    """The weights of one Hugging Face model directory.

    ``model.safetensors`` goes before the index, as in transformers: saving a model again in one file leaves a
    stale index behind. The files are called `stem`, before ``.safetensors``.
    """

    layout = "safetensors"

    def __init__(self, path: Path, *, root: Path | None = None, stem: str = "model") -> None:
        super().__init__(path, root=root)
        self._single, self._index = f"{stem}.safetensors", f"{stem}.safetensors.index.json"
        self._opened: dict[str, SafetensorsFile] = {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from headers alone. Raises RunError."""
        held = {file: self._open(file).weights for file in set(self._files.values())}
        return {name: held[file][name] for name, file in self._files.items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """The shards, what names them, and the config that says how their tensors are split."""
        names = {*self._files.values(), *([] if (self.path / self._single).is_file() else [self._index])}
        names |= {CONFIG} if (self.path / CONFIG).is_file() else set()
        return tuple(self.path / name for name in sorted(names))

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, or a part of it, in its storage dtype. Raises RunError."""
        return self._open(self._files[name]).read(name, at)

    @cached_property
    def _files(self) -> Mapping[str, str]:
        """File name by tensor name."""
        if (self.path / self._single).is_file():
            return dict.fromkeys(self._open(self._single).weights, self._single)
        return read_index(self.path / self._index, self._root, lambda file: self._open(file).weights)

    def _open(self, file: str) -> SafetensorsFile:
        if file not in self._opened:
            path = self.path / file
            opened = SafetensorsFile(path, root=self._root)
            if "DCP_SHARDING_INFO" in opened.metadata:
                raise RunError(
                    f"{path}: holds slices of tensors (distributed checkpoint) under the name of a file with whole "
                    "ones; give the slices their names shard-0000R-model-0000X-of-0000Y.safetensors back, or "
                    "consolidate the checkpoint first"
                )
            self._opened[file] = opened
        return self._opened[file]
