"""What lies in a directory, to the last detail: nothing of it may change."""

from __future__ import annotations

import os
from pathlib import Path


def tree(directory: Path) -> dict[str, tuple[object, ...]]:
    """Every entry below: kind, mode, times, content."""
    found = {}
    for path in sorted([directory, *directory.rglob("*")]):
        stat = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, content)
    return found
