"""A bounded directory of complete files, of which the least recently used are removed first."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from geomcheck.errors import UsageError
from geomcheck.files import replacing
from geomcheck.own import Foreign, opened, status

FREE_SHARE = 0.1
"""Share of the disk that stays free, whatever the bound."""


class Shelf:
    """Files by name, in a `directory` that is made when needed; None keeps nothing. Above `max_bytes`, the files that
    were not used for longest are removed. A failure is no error: `tell` gets a sentence, and nothing is stored then.

    Args:
        names: a pattern of what the files are called. Nothing else in the directory is counted or removed, nor what is
            no plain file.
    """

    def __init__(self, directory: Path | None, *, names: str, max_bytes: int, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._ours = re.compile(rf"{names}|\.{names}\.[a-z0-9_]{{8}}")  # or half written, see `replacing`
        self._max_bytes = max_bytes
        self._tell = tell

    def find(self, name: str, *, max_bytes: int | None = None) -> Path | None:
        """The file called `name`, now used; None where there is none, or one of more than `max_bytes`."""
        if self._directory is None:
            return None
        try:
            with opened(self._directory) as directory:
                found = status(name, directory)
                if found is None or (max_bytes is not None and found.st_size > max_bytes):
                    return None
                os.utime(name, dir_fd=directory, follow_symlinks=False)
        except Foreign as error:
            self._give_up(error)
            return None
        except OSError:
            return None
        return self._directory / name

    def keep(self, name: str, write: Callable[[Path], None], *, size: int) -> None:
        """Let `write` make the file called `name`, of about `size` bytes, if there is room."""
        if self._directory is None:
            return
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with opened(self._directory) as directory:
                status(name, directory)
                if size > self._room(self._directory):
                    return
                with replacing(self._directory / name) as partial:
                    write(partial)
                self._evict(directory)
        except (OSError, UsageError) as error:
            self._give_up(error)

    def discard(self, name: str) -> None:
        """Remove a file that is not what it should be."""
        if self._directory is not None:
            with suppress(OSError), opened(self._directory) as directory:
                if status(name, directory) is not None:
                    os.unlink(name, dir_fd=directory)

    def _give_up(self, error: Exception) -> None:
        self._tell(f"the cache {self._directory} cannot be used ({error}): nothing more is kept there")
        self._directory = None

    def _room(self, directory: Path) -> int:
        disk = shutil.disk_usage(directory)
        return min(self._max_bytes, disk.free - int(FREE_SHARE * disk.total))

    def _evict(self, directory: int) -> None:
        """Remove the files that were not used for longest, until the rest fits."""
        files = []
        for name in os.listdir(directory):
            with suppress(Foreign):
                found = status(name, directory) if self._ours.fullmatch(name) else None
                if found is not None:  # another process evicts too
                    files.append((found.st_mtime_ns, found.st_size, name))
        total = sum(size for _, size, _ in files)
        for _, size, name in sorted(files):
            if total <= self._max_bytes:
                return
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            total -= size
