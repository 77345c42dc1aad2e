"""A bounded directory of complete files, of which the least recently used are removed first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from geomcheck.errors import UsageError
from geomcheck.files import replacing

FREE_SHARE = 0.1
"""Share of the disk that stays free, whatever the bound."""


class Shelf:
    """Files by name, in a `directory` that is made when needed; None keeps nothing. Above `max_bytes`, the files that
    were not used for longest are removed. A failure is no error: `tell` gets a sentence, and nothing is stored then."""

    def __init__(self, directory: Path | None, *, max_bytes: int, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._tell = tell

    def find(self, name: str) -> Path | None:
        """The file called `name`, now used; None where there is none."""
        if self._directory is None:
            return None
        path = self._directory / name
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def keep(self, name: str, write: Callable[[Path], None], *, size: int) -> None:
        """Let `write` make the file called `name`, of about `size` bytes, if there is room."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if size > self._room(self._directory):
                return
            with replacing(self._directory / name) as partial:
                write(partial)
            self._evict(self._directory)
        except (OSError, UsageError) as error:
            self._tell(f"the cache {self._directory} cannot be written to ({error}): nothing more is kept there")
            self._directory = None

    def discard(self, path: Path) -> None:
        """Remove a file that is not what it should be."""
        with suppress(OSError):
            path.unlink()

    def _room(self, directory: Path) -> int:
        disk = shutil.disk_usage(directory)
        return min(self._max_bytes, disk.free - int(FREE_SHARE * disk.total))

    def _evict(self, directory: Path) -> None:
        """Remove the files that were not used for longest, until the rest fits."""
        files = []
        for path in directory.iterdir():
            with suppress(FileNotFoundError):  # another process evicts too
                files.append((path.stat().st_mtime_ns, path.stat().st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                return
            path.unlink(missing_ok=True)
            total -= size
