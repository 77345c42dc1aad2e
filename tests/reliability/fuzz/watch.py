"""What a piece of code opens and starts, as the interpreter's own audit events tell it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: the package's own files and suites may be read."""

STARTS = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "pty.spawn",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "urllib.Request",
    "webbrowser.open",
)
"""Events after which somebody else's code runs, or somebody else is spoken to."""

_ENTRIES = ("os.listdir", "os.scandir", "sqlite3.connect")
_CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink", "os.truncate")
_INSTALLED = tuple(
    {Path(place).resolve() for place in (sys.prefix, sys.base_prefix, *filter(None, sys.path), "/dev/null")}
)


class Watch:
    """Audit events outside of the directories that may be used, while one of them is `watched`."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._allowed: tuple[Path, ...] = ()
        self._active = False
        sys.addaudithook(self._event)

    @contextmanager
    def watched(self, *allowed: Path) -> Iterator[list[str]]:
        """Yield the list of what happens outside of `allowed`, of Python's own files and of this checkout's code."""
        self.seen = []
        self._allowed = tuple(path.resolve() for path in allowed)
        self._active = True
        try:
            yield self.seen
        finally:
            self._active = False

    def _event(self, event: str, args: tuple[object, ...]) -> None:
        if not self._active:
            return
        if event in STARTS:
            self._note(f"{event} {args!r:.200}")
        elif event == "open":
            self._opened(args)
        elif event in _ENTRIES or event in _CHANGES:
            self._reached(event, _from(args) if event == "os.remove" else args[0], changes=event in _CHANGES)

    def _opened(self, args: tuple[object, ...]) -> None:
        path, mode, flags = args[:3]
        writes = bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        self._reached("open" if mode is None else f"open {mode}", path, changes=writes)

    def _reached(self, event: str, path: object, *, changes: bool) -> None:
        if not isinstance(path, str | bytes | os.PathLike) or path == ":memory:":
            return  # a file descriptor: it was opened before
        self._active = False  # what follows raises events of its own
        try:
            place = Path(os.path.realpath(os.fsdecode(path)))
            inside = any(place.is_relative_to(allowed) for allowed in self._allowed)
            readable = any(place.is_relative_to(known) for known in (*_INSTALLED, ROOT))
            if not inside and (changes or not readable):
                self._note(f"{event} {place}")
        finally:
            self._active = True

    def _note(self, what: str) -> None:
        self.seen.append(what)


def _from(args: tuple[object, ...]) -> object:
    """What is removed, where its directory is given by a descriptor."""
    path, directory = args[:2]
    if isinstance(path, str) and isinstance(directory, int) and directory >= 0:
        return os.path.join(os.readlink(f"/proc/self/fd/{directory}"), path)
    return path
