"""Factorizations of W0 on disk: tensors by the digest of the weight that they belong to."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from geomcheck.errors import UsageError
from geomcheck.files import replacing
from geomcheck.measurement.cache.identity import code
from geomcheck.measurement.content import digest

FREE_SHARE = 0.1
"""Share of the disk that stays free, whatever the bound."""


class Bases:
    """Tensors by name, for one W0 each.

    One safetensors file per weight appears under its name when it is complete; its name holds the identity of the
    code that made it, and its header a digest of the tensors. A file that does not match is removed.

    Args:
        directory: made when needed; None keeps nothing.
        max_bytes: above it, the files that were not used for longest are removed.
        tell: gets the sentence that says why nothing is kept.
    """

    def __init__(self, directory: Path | None, *, max_bytes: int, tell: Callable[[str], None]) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._tell = tell

    def load(self, weight: str) -> dict[str, Tensor] | None:
        """What was kept for the W0 with the digest `weight`, on the CPU; None where there is nothing."""
        if self._directory is None:
            return None
        path = self._path(self._directory, weight)
        try:
            with safe_open(path, framework="pt") as file:
                state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
                complete = (file.metadata() or {}).get("content") == _content(state)
            os.utime(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, RuntimeError, TypeError):
            complete = False
        if not complete:
            path.unlink(missing_ok=True)
            return None
        return state

    def keep(self, weight: str, state: Mapping[str, Tensor]) -> None:
        """Keep `state` for the W0 with the digest `weight`, if there is room."""
        if self._directory is None:
            return
        size = sum(tensor.nbytes for tensor in state.values())
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            if size > self._room(self._directory):
                return
            with replacing(self._path(self._directory, weight)) as partial:
                tensors = {name: tensor.contiguous().cpu() for name, tensor in state.items()}
                save_file(tensors, partial, metadata={"content": _content(tensors)})
            self._evict(self._directory)
        except (OSError, UsageError, SafetensorError) as error:
            self._tell(f"the cache {self._directory} cannot be written to ({error}): factorizations are not kept")
            self._directory = None

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

    @staticmethod
    def _path(directory: Path, weight: str) -> Path:
        return directory / f"{weight}-{code()}.safetensors"


def _content(state: Mapping[str, Tensor]) -> str:
    parts = "".join(f"{name}={digest(state[name])}\n" for name in sorted(state))
    return hashlib.blake2b(parts.encode(), digest_size=16).hexdigest()
