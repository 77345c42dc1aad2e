"""Runs and models at a URL: a private directory with the names that are there stands for one.

Its files are empty. One that is read whole (a config, an index, a Trainer's state) comes when it is asked for, of the
size that its reader allows; of a safetensors file only the header and the tensors that are asked for, by ranges. What
reads a file in any other way finds it empty, and fails.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from threading import RLock
from urllib.parse import urlsplit

from geomcheck.checkpoints.storage import Gone, Properties, Storage, StorageError
from geomcheck.errors import NoCheckpoint, RunError, UsageError
from geomcheck.files import replacing
from geomcheck.own import require_no_links, status
from geomcheck.urls import is_url, stand_for

MAX_ENTRIES, MAX_DEPTH = 100_000, 8
"""Most files and directories of one run, and how far below it they are looked for."""

MAX_WHOLE_BYTES = 4 * 2**30
"""Most bytes of all files of one run that are read whole."""

MAX_HEADER_BYTES = 100_000_000
"""Longest header that the safetensors library takes."""

COPIED = ".geomcheck-copied.json"
"""What a local copy was made of: (size, mark) by name."""

_STATES = re.compile(r"(?:optim|optimizer|scheduler|rng_state|random_states|scaler)[^/]*")
"""What a checkpoint holds beside weights, twice their size and more: it is not copied."""

_LENGTH_BYTES = 8
_COPIES: ContextVar[Path | None] = ContextVar("copies", default=None)

_FILES: dict[Path, RemoteFile] = {}
_LOCK = RLock()


def located(path: str | Path) -> Path:
    """Where `path` is read on this machine: the path itself, or a directory that stands for the URL, with what is there
    now; a local copy of it inside `copying`. A URL always has the same directory. Raises UsageError where the URL can
    be no run's; NoCheckpoint where there is nothing; RunError where it cannot be read."""
    if not is_url(path):
        return Path(path)
    url = str(path)
    if url.endswith(".parquet"):
        raise UsageError(f"{url}: a record is read from this machine alone; copy it here")
    if urlsplit(url).scheme.lower() in ("file", "local"):
        from fsspec.implementations.local import LocalFileSystem

        return Path(LocalFileSystem._strip_protocol(url))
    try:
        storage = Storage(url)
        directory = _directory(storage, url)
        with _LOCK:
            _mirror(storage, directory, url)
        copies = _COPIES.get()
        if copies is not None:
            return _copied(directory, copies / directory.relative_to(_root()), below=copies)
    except Gone as error:
        raise NoCheckpoint(f"{url}: {error}") from error
    except (StorageError, OSError) as error:  # two names may be one on this disk, or too long for it
        raise RunError(f"{url}: {error}") from error
    return directory


@contextmanager
def copying(directory: Path | None) -> Iterator[None]:
    """Let what `located` is asked for be copied into `directory`, below which it lies as in its URL, and stay there;
    None copies nothing."""
    token = _COPIES.set(directory)
    try:
        yield
    finally:
        _COPIES.reset(token)


def remote_file(path: Path) -> RemoteFile | None:
    """What `path` stands for; None where it is a file of this machine."""
    return _FILES.get(path) if _FILES else None


def is_remote(directory: Path) -> bool:
    """Whether `directory` stands for a URL, or for a part of one."""
    return bool(_FILES) and directory.is_relative_to(_root())


def fetch_whole(path: Path, max_bytes: int) -> None:
    """Fetch a file that is to be read whole, if it lies at a URL and is not here yet. Raises RunError where it is
    larger than `max_bytes`, or cannot be had."""
    file = remote_file(path)
    if file is not None:
        with _LOCK:
            file.fetch(max_bytes)


class RemoteFile:
    """A file at a URL, which `place` stands for."""

    def __init__(self, storage: Storage, path: str, place: Path) -> None:
        self.place = place
        self._storage, self._path = storage, path
        self._fetched = False

    def properties(self) -> Properties:
        """What the server says of it now. Raises RunError."""
        try:
            return self._storage.properties(self._path)
        except StorageError as error:
            raise RunError(f"{self.place}: {error}") from error

    def fill(self, view: memoryview, offset: int) -> None:
        """Read ``len(view)`` bytes from `offset` on. Raises RunError."""
        try:
            self._storage.fill(view, self._path, offset)
        except StorageError as error:
            raise RunError(f"{self.place}: cannot be read: {error}") from error

    def require(self, known: Properties) -> None:
        """Raise RunError where the file is another than the one that had these properties."""
        if not self._storage.commit and self.properties() != known:
            raise RunError(f"{self.place}: changed since it was opened; is the run still being written?")

    def fetch(self, max_bytes: int) -> None:
        """Let `place` hold the content. Raises RunError."""
        if not self._fetched:
            left = MAX_WHOLE_BYTES - self._storage.fetched
            self._storage.fetched += self.copy_to(self.place, min(max_bytes, left))
            self._fetched = True

    def copy_to(self, target: Path, max_bytes: int | None = None) -> int:
        """Copy it whole to `target`, part by part; returns its size. Raises RunError where it is larger than
        `max_bytes`, or changes."""
        known = self.properties()
        if max_bytes is not None and known.nbytes > max_bytes:
            raise RunError(f"{self.place}: {known.nbytes} bytes, more than the {max_bytes} that such a file can need")
        part = memoryview(bytearray(min(known.nbytes, 2**24)))
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".geomcheck-", delete=False) as file:
            try:
                for offset in range(0, known.nbytes, 2**24):
                    piece = part[: known.nbytes - offset]
                    self.fill(piece, offset)
                    file.write(piece)
                self.require(known)
                file.close()
                os.replace(file.name, target)
                return known.nbytes
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    @contextmanager
    def with_header(self, known: Properties) -> Iterator[Path]:
        """A file of this machine with the header of the safetensors file, and nothing but a hole after it: good for
        judging the header alone. Raises RunError; OSError where it cannot be written."""
        start = bytearray(_LENGTH_BYTES)
        if known.nbytes < _LENGTH_BYTES:
            raise RunError(f"{self.place}: truncated or not a safetensors file ({known.nbytes} bytes)")
        self.fill(memoryview(start), 0)
        length = int.from_bytes(start, "little")
        if length > min(MAX_HEADER_BYTES, known.nbytes - _LENGTH_BYTES):
            raise RunError(f"{self.place}: truncated or not a safetensors file (a header of {length} bytes)")
        header = bytearray(length)
        self.fill(memoryview(header), _LENGTH_BYTES)
        self.require(known)
        with tempfile.NamedTemporaryFile(dir=_root(), prefix="header-") as file:
            file.write(start + header)
            file.truncate(known.nbytes)
            file.flush()
            yield Path(file.name)


@cache
def _root() -> Path:
    """A private directory of this process, removed at its end."""
    root = Path(tempfile.mkdtemp(prefix="geomcheck-")).resolve()
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def _directory(storage: Storage, url: str) -> Path:
    """The directory that stands for a URL. Those of URLs below one another lie below one another, so that W0 in a run
    is known to be in it. Raises UsageError where the URL is none of a directory."""
    base = _root() / storage.scheme
    below = storage.path if storage.commit else url.partition("://")[2].strip("/")
    parts = [part for part in below.split("/") if part]
    if not parts or any(part in (".", "..") or not part.isprintable() or len(part.encode()) > 255 for part in parts):
        raise UsageError(f"{url}: names no directory")
    if storage.commit:  # ORG/NAME@COMMIT: a run is called as its repository is
        at = next(index for index, part in enumerate(parts) if part.endswith(f"@{storage.commit}"))
        name = parts[at].removesuffix(f"@{storage.commit}")
        repository = base.joinpath(*parts[:at], storage.commit, name)
        stand_for(repository, f"hf://{'/'.join(parts[: at + 1])}")
        return repository.joinpath(*parts[at + 1 :])
    stand_for(base, f"{storage.scheme}:/")
    return base.joinpath(*parts)


def _mirror(storage: Storage, directory: Path, url: str) -> None:
    """Let `directory` have the names that are at the URL now. Raises StorageError; NoCheckpoint where there is none."""
    found = list(_tree(storage, storage.path, directory))
    if not found:
        raise NoCheckpoint(f"{url}: is no directory that can be listed, or an empty one")
    for place in [place for place in _FILES if place.is_relative_to(directory)]:
        del _FILES[place]
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    for place, path in found:
        if path is None:
            place.mkdir(exist_ok=True)
        else:
            place.touch(exist_ok=False)
            _FILES[place] = RemoteFile(storage, path, place)


def _copied(directory: Path, target: Path, *, below: Path) -> Path:
    """`target`, a copy of what `directory` stands for: what it holds already under the same size and mark stays, what
    is at the URL no more is removed. No link `below` a directory is followed. Raises RunError, OSError."""
    require_no_links(target, below=below)
    target.mkdir(parents=True, exist_ok=True)
    list_of_copies = target / COPIED
    known = _copies(list_of_copies)
    files = {
        str(place.relative_to(directory)): file
        for place, file in sorted(_FILES.items())
        if place.is_relative_to(directory) and not _STATES.fullmatch(place.name)
    }
    for gone in known.keys() - files.keys():
        if not Path(gone).is_absolute() and ".." not in Path(gone).parts:
            require_no_links((target / gone).parent, below=below)
            if status(target / gone) is not None:
                (target / gone).unlink()
    for place in sorted(directory.rglob("*")):
        if place.is_dir():
            require_no_links(target / place.relative_to(directory), below=below)
            (target / place.relative_to(directory)).mkdir(exist_ok=True)
    for name, file in files.items():
        said, held = file.properties(), status(target / name)
        made_of = [said.nbytes, [list(pair) for pair in said.mark]]
        if not said.mark or known.get(name) != made_of or held is None or held.st_size != said.nbytes:
            file.copy_to(target / name)
            known[name] = made_of
            _note(list_of_copies, known)
    _note(list_of_copies, {name: known[name] for name in files})
    return target


def _note(path: Path, copies: Mapping[str, object]) -> None:
    with replacing(path) as partial:
        partial.write_text(json.dumps(copies), encoding="utf-8")


def _copies(path: Path) -> dict[str, object]:
    """What a copy was made of; nothing where that is not known. Raises OSError where that is no plain file."""
    if status(path) is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _tree(storage: Storage, path: str, directory: Path) -> Iterator[tuple[Path, str | None]]:
    """Everything below a directory: its place, and for a file how the file system calls it; above before below."""
    waiting, count = [(path, directory, 1)], 0
    while waiting:
        above, place, depth = waiting.pop()
        names: dict[str, bool] = {}
        for entry in storage.list(above):
            count += 1
            if count > MAX_ENTRIES:
                raise StorageError(f"more than {MAX_ENTRIES} files and directories; name one run")
            if entry.name in names:
                if names[entry.name] == entry.is_directory:
                    continue
                raise StorageError(f"holds {entry.name} as a file and as a directory, which no disk can")
            names[entry.name] = entry.is_directory
            yield place / entry.name, None if entry.is_directory else entry.path
            if entry.is_directory and depth < MAX_DEPTH:
                waiting.append((entry.path, place / entry.name, depth + 1))
