"""What a checkpoint says of its architecture: its ``config.json``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geomcheck.checkpoints.inside import read_json

CONFIG = "config.json"
MAX_CONFIG_BYTES = 16 * 2**20


def read_config(directory: Path, root: Path) -> Mapping[str, Any]:
    """``config.json`` of a model directory, empty where there is none.

    Raises:
        RunError: it cannot be read; a link that leads nowhere is no config that is missing.
    """
    path = directory / CONFIG
    return read_json(path, root, max_bytes=MAX_CONFIG_BYTES) if os.path.lexists(path) else {}
