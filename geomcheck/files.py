"""Write files so that a half-written one never appears under its final name."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from geomcheck.errors import UsageError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target`, which is renamed to it where the context ends without an error. Raises UsageError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".geomcheck-")  # whatever the target's length
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


def require_writable(target: Path, *, inputs: Iterable[tuple[str, Path]], option: str = "") -> None:
    """Refuse a target that must not or cannot be written, before any work is done for it.

    Args:
        inputs: what is read, each with its name for people; no output may replace it or lie inside it.
        option: how the user named the target, for messages.

    Raises:
        UsageError: it lies in an input, is a directory, a pipe or a device, or its place cannot be written to.
    """
    require_outside(target, inputs, option=option)
    if target.is_dir():
        raise UsageError(f"{target} is a directory; name a file")
    if target.exists() and not target.is_file():
        raise UsageError(f"{target} is not a regular file; name one that can be replaced")
    parent = next(place for place in target.absolute().parents if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UsageError(f"{target}: cannot write to {parent}")


def require_outside(target: Path, inputs: Iterable[tuple[str, Path]], *, option: str = "") -> None:
    """Raise UsageError where `target` lies in one of the `inputs`; the arguments are those of `require_writable`."""
    for what, place in inputs:
        if target.resolve().is_relative_to(place.resolve()):
            raise UsageError(f"{option}{target} would write to {what}, which is never written to")


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


@contextmanager
def working_in(directory: str | Path) -> Iterator[None]:
    """Let `directory` be the working directory inside the context; the one before may have been removed meanwhile."""
    try:
        before = Path.cwd()
    except FileNotFoundError:
        before = None
    os.chdir(directory)
    try:
        yield
    finally:
        if before is not None:
            os.chdir(before)


def require_readable(path: str | Path, what: str) -> None:
    """Refuse a path that cannot be shown, or that libraries in other languages cannot open.

    Raises:
        UsageError: it has control characters, or is no UTF-8, be it only in the encoding that the locale asks for.
    """
    text = str(path)
    if any("\udc80" <= character <= "\udcff" for character in text):
        used = sys.getfilesystemencoding()
        advice = "rename it" if used == "utf-8" else f"this locale says {used}: set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
        raise UsageError(f"{what} {text!a}: its path is not readable as {used}; {advice}")
    if not text.isprintable():
        raise UsageError(f"{what} {text!a}: its path has control characters; rename it")


def displayed(path: Path) -> str:
    """`path` relative to the working directory where it is inside, else absolute."""
    try:
        absolute, here = path.resolve(), Path.cwd().resolve()
        return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
    except (OSError, ValueError):  # a name that is too long, a null character
        return str(path)
