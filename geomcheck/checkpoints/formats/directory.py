"""What the readers of a model directory share: its ``config.json``, and how far links may lead."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.inside import read_json, storage_root

CONFIG = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20


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
