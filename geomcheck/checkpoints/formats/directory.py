"""What the readers of a model directory share: its config, its index of shards, and how far links may lead."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Set
from functools import cached_property
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.inside import read_json, storage_root
from geomcheck.errors import RunError

CONFIG = "config.json"
MAX_CONFIG_BYTES = 4 * 2**20
MAX_INDEX_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]{0,254}")
_NUMBERED = re.compile(r".*-[0-9]+-of-([0-9]{1,9})\.[a-z]+")


class ModelDirectory:
    """A directory with the weights of one checkpoint.

    Args:
        path: the directory.
        root: no file outside this directory is ever opened, whatever an index, metadata or links say; by default
            `path`, or the repository where that is a snapshot in the Hugging Face cache.
    """

    def __init__(self, path: Path, *, root: Path | None = None) -> None:
        self.path = path
        self._root = storage_root(root or path)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """``config.json``. Raises RunError."""
        return read_config(self.path, self._root)


def read_config(directory: Path, root: Path) -> Mapping[str, Any]:
    """``config.json`` of a model directory, empty where there is none. Raises RunError if it cannot be read, as where
    it is a link that leads nowhere."""
    path = directory / CONFIG
    return read_json(path, root, max_bytes=MAX_CONFIG_BYTES) if os.path.lexists(path) else {}


def read_index(path: Path, root: Path, held: Callable[[str], Mapping[str, object]]) -> dict[str, str]:
    """File name by weight name, from an index as transformers writes it, given the names that each shard has `held`.
    Raises RunError where it cannot be read, names something other than plain files beside it or a file that is missing,
    does not name all shards of a set, or does not agree with the shards."""
    weight_map = read_json(path, root, max_bytes=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise RunError(f"{path}: weight_map is empty or not a mapping of weight names to files")
    placed: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or (file not in placed and not _FILE_NAME.fullmatch(file)):
            raise RunError(f"{path}: places {name} in {file!r}; shards must be plain file names in the same directory")
        placed.setdefault(file, set()).add(name)
    files = sorted(placed)
    for file in files:
        if not (path.parent / file).exists():
            raise RunError(
                f"{path.parent / file}: missing, though {path.name} names it; copy the shard, or remove the checkpoint"
            )
    _require_all_shards(path, files)
    for file in files:
        _require_agreement(path, weight_map, file, placed[file], held(file).keys())
    return dict(sorted(weight_map.items()))


def _require_agreement(index: Path, weight_map: Mapping[str, str], file: str, placed: Set[str], held: Set[str]) -> None:
    """Refuse a shard that does not hold what its index has `placed` there, or holds what the index does not name."""
    if placed == held:
        return
    if absent := sorted(placed - held):
        raise RunError(
            f"{index.parent / file}: {index.name} places {absent[0]} here, but the file does not hold it "
            f"({len(absent)} weights affected): the index is stale or the shard was overwritten"
        )
    if unnamed := sorted(held - placed):
        elsewhere = weight_map.get(unnamed[0])
        what = f"places in {elsewhere}" if elsewhere else "does not name"
        raise RunError(
            f"{index.parent / file}: holds {unnamed[0]}, which {index.name} {what} ({len(unnamed)} weights affected): "
            "the index is stale or was cut. Write the checkpoint, or its index, again"
        )


def _require_all_shards(index: Path, files: Collection[str]) -> None:
    """Refuse an index that names only some shards of a numbered set: no shard of such a set is written empty."""
    sets: dict[int, list[str]] = {}
    for file in files:
        if match := _NUMBERED.fullmatch(file):
            sets.setdefault(int(match[1]), []).append(file)
    for total, named in sorted(sets.items()):
        if len(named) < total:
            raise RunError(
                f"{index}: names {len(named)} of {total} shards, such as {min(named)}: the index is stale or was "
                "cut. Write the checkpoint, or its index, again"
            )
