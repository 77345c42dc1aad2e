"""Open only files that a run may be trusted with: regular ones inside its directory, of a sensible size.

Nothing is mapped: if a mapped file is truncated, reading it kills the process (SIGBUS). What lies at a URL is fetched:
a file of bounded size whole, of others the bytes that are read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomcheck._lazy import torch
from geomcheck.checkpoints.remote import fetch_whole, remote_file
from geomcheck.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

MAX_VALUES = 3_000_000
"""Most values in a JSON file. The shortest, such as ``{}``, take 25 times their bytes in memory."""

OfPairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]

_REPOSITORY = re.compile("(?:models|datasets|spaces)--")


def require_regular(path: Path, root: Path, *, max_bytes: int | None = None) -> Path:
    """`path`, if it is a regular file inside `root` (links followed) of at most `max_bytes`. Raises RunError if it is
    missing, a directory, a pipe or a device, lies outside, or is larger."""
    try:
        resolved = path.resolve(strict=True)
        if not resolved.is_relative_to(root):
            raise RunError(f"{path}: links to {resolved}, outside {root}; copy the file instead")
        if not resolved.is_file():
            raise RunError(f"{path}: not a regular file")
        if max_bytes is not None:
            fetch_whole(resolved, max_bytes)
        size = resolved.stat().st_size
    except (OSError, ValueError, RuntimeError) as error:  # missing, unreadable, a null character, a circle of links
        raise RunError(f"{path}: cannot be opened: {error}") from error
    if max_bytes is not None and size > max_bytes:
        raise RunError(f"{path}: {size} bytes, more than the {max_bytes} that such a file can need")
    return resolved


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The mapping of these keys. Raises ValueError where one is there twice: readers differ in which then counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice[:100]!r} is there twice")
    return found


def read_json(path: Path, root: Path, *, max_bytes: int, of: OfPairs = distinct) -> dict[str, Any]:
    """The mapping in a JSON file. Raises RunError as `require_regular`, where it holds none, or a key twice.

    Args:
        of: makes each mapping of its pairs, and may leave out what is not needed.
    """
    resolved = require_regular(path, root, max_bytes=max_bytes)
    try:
        content = loaded(resolved.read_bytes(), of)
    except TooMany as error:
        raise RunError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: not readable as JSON ({error}); the save may be incomplete") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: a {type(content).__name__} at the top level, where a mapping is expected")
    return content


class TooMany(ValueError):
    """A text that may take too much memory once it is read."""


def loaded(text: bytes, of: OfPairs = distinct) -> Any:
    """What a JSON text holds. Raises ValueError where it holds nothing, a key twice, or more than `MAX_VALUES`."""
    most = 1 + sum(map(text.count, (b",", b"[", b"{")))  # nothing else comes before a value
    if most > MAX_VALUES:
        raise TooMany(f"up to {most} values, more than the {MAX_VALUES} that such a file can need")
    return json.loads(text, object_pairs_hook=of)


class OpenedFile:
    """A regular file inside `root` that must stay as it is while it is read. Raises RunError as `require_regular`."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        self._resolved = require_regular(path, root)
        self._remote = remote_file(self._resolved)
        self._known = self._remote.properties() if self._remote else None
        self._identity = file_identity(self._resolved)

    @property
    def resolved(self) -> Path:
        """Where it lies on this machine. Raises RunError where it does not."""
        if self._remote:
            raise RunError(
                f"{self.path}: only safetensors files are read from a URL, by ranges; let a local copy be made and "
                "kept with --geom-download, of a command --download, or save the model as safetensors"
            )
        return self._resolved

    @property
    def nbytes(self) -> int:
        """Its size when it was opened; 0 where it had vanished."""
        return self._known.nbytes if self._known else self._identity[1] if self._identity else 0

    def require_unchanged(self) -> None:
        """Raise RunError where it was written to, replaced or removed since it was opened."""
        if self._remote and self._known:
            self._remote.require(self._known)
        elif file_identity(self.path) != self._identity:
            raise RunError(f"{self.path}: changed or removed since it was opened; is the run still being written?")

    @contextmanager
    def headed(self) -> Iterator[Path]:
        """A file of this machine of the same size, with the header of the safetensors file that it is, if no more.
        Raises RunError, OSError."""
        if self._remote and self._known:
            with self._remote.with_header(self._known) as path:
                yield path
        else:
            yield self.path

    def read(self, offset: int, nbytes: int) -> Tensor:
        """`nbytes` bytes as `read_bytes` has them, all of the file as it was opened. Raises RunError; OSError,
        ValueError and RuntimeError as reading does."""
        if self._remote:
            content = torch.empty(nbytes, dtype=torch.uint8)
            self._remote.fill(content.numpy().data, offset)
        else:
            self.require_unchanged()
            content = read_bytes(self.path, offset, nbytes)
        self.require_unchanged()
        return content


def file_identity(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced; empty where there is none. Of one at a URL, nothing: it is
    asked for with each read."""
    if remote_file(path) is not None:
        return (-1,)
    try:
        stat = path.stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def storage_root(path: Path) -> Path:
    """Where the files of `path` may lie: the directory itself, or for a snapshot in the Hugging Face cache
    (``models--ORG--NAME/snapshots/COMMIT``), whose files are links into ``blobs/``, that repository's folder."""
    resolved = path.resolve()
    repository = resolved.parent.parent
    if resolved.parent.name == "snapshots" and _REPOSITORY.match(repository.name) and (repository / "blobs").is_dir():
        return repository
    return resolved


def read_bytes(path: Path, offset: int, nbytes: int) -> Tensor:
    """`nbytes` bytes from `offset` on: uint8, shape (nbytes,), in memory that is aligned for every dtype. Raises
    OSError where the file cannot be read; ValueError where it ends before."""
    content = torch.empty(nbytes, dtype=torch.uint8)
    _fill(content.numpy().data, path, offset)
    return content


def plain_bytes(path: Path, offset: int, nbytes: int) -> bytearray:
    """The same as a bytearray, for a header. Raises as `read_bytes`."""
    content = bytearray(nbytes)
    _fill(memoryview(content), path, offset)
    return content


def _fill(left: memoryview, path: Path, offset: int) -> None:
    with path.open("rb", buffering=0) as file:
        file.seek(offset)
        while left:
            count = file.readinto(left)
            if not count:
                raise ValueError(f"ends {len(left)} bytes before its content does; it was cut while it was read")
            left = left[count:]
