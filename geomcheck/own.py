"""What in a directory that geomcheck makes, such as a cache, is its own: others may leave links there.

Below the directory that the user named no link is followed, and nothing but a plain file with one name is opened,
touched or removed. Who writes there during a session can exchange a file between the look and the opening.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomcheck.errors import UsageError


class Foreign(OSError):
    """Something that geomcheck did not make. The message says what, and what to do."""


@contextmanager
def opened(directory: Path) -> Iterator[int]:
    """A descriptor of the directory itself. Raises Foreign where it is a link or no directory; OSError."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Foreign(f"{directory} is a link or no directory, and not followed; remove it") from error
        raise
    try:
        yield handle
    finally:
        os.close(handle)


def status(path: str | Path, directory: int | None = None) -> os.stat_result | None:
    """What the file `path`, in a `directory` that is `opened`, is by itself; None where there is none. Raises Foreign
    where it is no plain file, or has another name somewhere that a change of it would reach; OSError."""
    try:
        found = os.stat(path, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise Foreign(f"{path} is a link or no plain file, and not followed; remove it")
    if found.st_nlink > 1:
        raise Foreign(f"{path} is a hard link, and another place has the same file; remove it")
    return found


def is_own(path: Path) -> bool:
    """Whether `path` is a plain file with one name."""
    try:
        return status(path) is not None
    except OSError:
        return False


def require_own(directory: Path) -> None:
    """Raise UsageError where a directory that geomcheck makes is a link, or no directory."""
    try:
        require_no_links(directory, below=directory.parent)
    except OSError as error:
        raise UsageError(str(error)) from error


def require_no_links(directory: Path, *, below: Path) -> None:
    """Raise Foreign where a part of `directory`, which lies `below` another, is a link or no directory."""
    for place in [directory, *directory.parents]:
        if place == below:
            return
        if os.path.lexists(place):
            with opened(place):
                pass
