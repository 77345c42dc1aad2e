"""Shard indices: which file of a directory holds which weight."""

from __future__ import annotations

import re
from pathlib import Path

from geomcheck.checkpoints.inside import read_json
from geomcheck.errors import RunError

MAX_INDEX_BYTES = 64 * 2**20

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]{0,254}")


def read_index(path: Path, root: Path) -> dict[str, str]:
    """File name by weight name, from an index as transformers writes it.

    Raises:
        RunError: it cannot be read, names something other than plain files beside it, or a file that is missing.
    """
    weight_map = read_json(path, root, max_bytes=MAX_INDEX_BYTES).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise RunError(f"{path}: weight_map is empty or not a mapping of weight names to files")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _FILE_NAME.fullmatch(file):
            raise RunError(f"{path}: places {name} in {file!r}; shards must be plain file names in the same directory")
    for file in sorted(set(weight_map.values())):
        if not (path.parent / file).exists():
            raise RunError(
                f"{path.parent / file}: missing, though {path.name} names it; copy the shard, or remove the checkpoint"
            )
    return dict(sorted(weight_map.items()))
