"""torch distributed checkpoints (DCP): ``.metadata`` says where in the ``.distcp`` files the chunks of tensors lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.checkpoints.formats.dcp_metadata import Chunk, Entry, Metadata, read_metadata
from geomcheck.checkpoints.formats.directory import CONFIG, ModelDirectory, read_config
from geomcheck.checkpoints.formats.sharding import assembled
from geomcheck.checkpoints.formats.torch_save.file import find_tensor, read_object_pickle
from geomcheck.checkpoints.inside import OpenedFile, require_regular
from geomcheck.checkpoints.source import Stored
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

METADATA = ".metadata"
MAX_METADATA_BYTES = 64 * 2**20

_NO_WEIGHT = re.compile(
    r"(?:[^.]+\.){0,2}(?:optim|optimizers?|optim_state|optimizer_state|chained_\d+|lr_schedulers?|scheduler|dataloader"
    r"|train_state|rng_state|rerun_state_machine\w*|opt_param_scheduler|common_state)(?:[./].*)?|.*_extra_state.*"
)


def holds_dcp(directory: Path) -> bool:
    """Whether `directory` is a distributed checkpoint, finished or not."""
    return (directory / METADATA).is_file() or any(directory.glob("__*.distcp"))


class DistributedCheckpoint(ModelDirectory):
    """The weights of one distributed checkpoint, under the names that it gives them.

    Optimizer, scheduler, random and other states are left out. A chunk is read when a slice that it covers is.
    """

    layout = "torch distributed checkpoint (DCP)"

    def __init__(self, path: Path, *, root: Path | None = None) -> None:
        super().__init__(path, root=root)
        self._opened: dict[str, OpenedFile] = {}

    @cached_property
    def weights(self) -> Mapping[str, Stored]:
        """Every tensor by name, from the metadata alone. Raises RunError."""
        return {name: Stored(entry.shape, entry.dtype.called) for name, entry in self._entries.items()}

    @property
    def files(self) -> tuple[Path, ...]:
        """The metadata, and the files that hold weights."""
        names = {chunk.place.file for entry in self._entries.values() for chunk in entry.chunks}
        return tuple(self.path / name for name in sorted({METADATA, *names}))

    def read(self, name: str, at: tuple[int, ...] = ()) -> Tensor:
        """One tensor, from the chunks that `at` touches, in its storage dtype. Raises RunError."""
        entry = self._entries[name]
        blocks = ((c.offsets, c.shape, partial(self._read_chunk, name, entry, c)) for c in entry.chunks)
        try:
            if not entry.chunks:
                return torch.empty(entry.shape, dtype=getattr(torch, entry.dtype.name))[at]
            return assembled(name, entry.shape, at, blocks)
        except (MemoryError, RuntimeError) as error:
            raise RunError(f"{self.path}: cannot read {name}: {error or 'out of memory'}") from error

    def read_object(self, name: str, *, max_bytes: int) -> bytes | None:
        """The pickle of an object that is no tensor, unread, or None where there is none. Raises RunError."""
        place = self._metadata.objects.get(name)
        if place is None:
            return None
        path = self._open(place.file)
        try:
            with path.open("rb") as file:
                return read_object_pickle(file, place.within, max_bytes=max_bytes)
        except (ValueError, OSError) as error:
            raise RunError(f"{self.path / place.file}: {name} {error}") from error

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json`` in the directory, or in ``huggingface/`` in or beside it. Raises RunError."""
        for place in (self.path, self.path / "huggingface", self.path.parent / "huggingface"):
            if os.path.lexists(place / CONFIG) and place.resolve().is_relative_to(self._root):
                return read_config(place, self._root)
        return {}

    def _read_chunk(self, name: str, entry: Entry, chunk: Chunk, inner: tuple[int, ...]) -> Tensor:
        path = self._open(chunk.place.file)
        try:
            with path.open("rb") as file:
                found = find_tensor(file, chunk.place.within)
            if (found.shape, found.dtype) != (chunk.shape, entry.dtype):
                raise ValueError(
                    f"holds {list(found.shape)} elements of {found.dtype} where {METADATA} announces "
                    f"{list(chunk.shape)} of {entry.dtype}"
                )
            chunk_read = found.at(inner).read(path)
            self._open(chunk.place.file)  # it must not have changed meanwhile
            return chunk_read
        except (ValueError, OSError) as error:
            where = f"the chunk at byte {chunk.place.within.offset}, a part of {name}"
            raise RunError(f"{self.path / chunk.place.file}: {where}, {error}; the save is damaged") from error

    @cached_property
    def _entries(self) -> Mapping[str, Entry]:
        """The weights, each of whose chunks lies within its file."""
        entries = self._metadata.tensors
        if not entries:
            raise RunError(f"{self.path / METADATA}: lists no weights, only optimizer or other states")
        for file in sorted({chunk.place.file for entry in entries.values() for chunk in entry.chunks}):
            self._open(file)
        return entries

    @cached_property
    def _metadata(self) -> Metadata:
        path = self.path / METADATA
        if not os.path.exists(path):
            raise RunError(
                f"{self.path}: holds .distcp files but no {METADATA}, which is written last: the save was never "
                "finished; use an earlier checkpoint"
            )
        resolved = require_regular(path, self._root, max_bytes=MAX_METADATA_BYTES)
        try:
            return read_metadata(resolved.read_bytes(), wanted=lambda name: not _NO_WEIGHT.fullmatch(name))
        except (ValueError, OSError) as error:
            raise RunError(f"{path}: {error}; damaged, or not the metadata of a checkpoint") from error

    def _open(self, file: str) -> Path:
        """The resolved path of a file, if it is as long as the metadata says, and as it was when first opened."""
        path = self.path / file
        if file not in self._opened:
            if not os.path.exists(path):
                raise RunError(f"{path}: missing, though {METADATA} places weights in it; copy the whole checkpoint")
            opened = OpenedFile(path, self._root)
            if opened.nbytes != (expected := self._metadata.ends[file]):
                raise RunError(
                    f"{path}: {opened.nbytes} bytes where {METADATA} describes {expected}: the save is "
                    "incomplete, or the files are of two saves"
                )
            self._opened[file] = opened
        self._opened[file].require_unchanged()
        return self._opened[file].resolved
