"""Writing files so that their final name never holds half of them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomcheck.errors import UsageError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path beside `target`, which takes its name when the context ends without an error.

    Raises:
        UsageError: the place cannot be written to.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise UsageError(f"{target}: cannot write there: {error.strerror}") from error
    partial = Path(name)
    try:
        os.close(handle)
        yield partial
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def require_writable(target: Path) -> None:
    """Refuse a target that no file can replace, before any work is done for it.

    Raises:
        UsageError: it is a directory, or its place cannot be written to.
    """
    if target.is_dir():
        raise UsageError(f"{target} is a directory; name a file")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is not a regular file; name one that can be replaced")
    parent = next(place for place in target.absolute().parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"{target}: cannot write to {parent}")


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
