"""What lies at a URL, through fsspec: lists of names, properties of files, and ranges of bytes.

Each request has a deadline and is tried a few times. What a server says is not trusted: no name leads out of the
directory that was asked for, no answer is longer or shorter than what was asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from geomcheck.errors import UsageError

T = TypeVar("T")

CHUNK = 16 * 2**20
"""Most bytes of one request."""

DEADLINE = 60.0
"""Seconds in which a request must be answered: `CHUNK` then comes at 280 kB/s or more."""

WAITS = (0.5, 2.0, 5.0)
"""Seconds before the second and each further try."""

STRONG = ("ETag", "etag", "blob_id", "md5Hash", "Content-MD5", "generation", "content_md5")
"""Properties, as file systems call them, that change with the content of a file."""

WEAK = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "modified", "created", "modificationTime")
"""Properties that change when a file is written, by a clock."""

_LATER = (408, 425, 429)
"""Statuses below 500 that ask for another try."""

_FINAL = (PermissionError, NotADirectoryError, IsADirectoryError, ImportError, NotImplementedError, ValueError)


class StorageError(Exception):
    """A request failed for good. The message is the reason, as a clause without the URL."""


class Gone(StorageError):
    """There is no such file or directory."""


class Entry(NamedTuple):
    """Something in a directory: its name, and how the file system calls it."""

    name: str
    path: str
    is_directory: bool


class Properties(NamedTuple):
    """What a server says of a file.

    Attributes:
        nbytes: its size.
        mark: (name, value) of what changes with the file; empty where the server says nothing of the kind.
        lasts: whether an equal mark means an equal content, in another session too.
    """

    nbytes: int
    mark: tuple[tuple[str, str], ...]
    lasts: bool


class Storage:
    """The file system of a URL.

    Args:
        url: without credentials, which are the libraries' own affair.

    Attributes:
        path: what the URL names, as the file system calls it.
        fetched: bytes of files that were read whole, for whoever bounds them.
        commit: of the repository that is read, where it is one of the Hugging Face Hub: ``main`` may move meanwhile.

    Raises:
        UsageError: nothing knows such URLs, a library is missing, or the URL carries a password or a query.
        StorageError: it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.scheme = parts.scheme.lower()
        user, _, host = parts.netloc.rpartition("@")
        if ":" in user or (self.scheme in ("http", "https") and (user or parts.query or parts.fragment)):
            raise UsageError(
                f"{parts.scheme}://{host}{parts.path}: given with a user, password or query, which would be written "
                "into reports; leave it out, and give credentials where the library of such URLs looks for them"
            )
        try:
            from fsspec.core import url_to_fs

            self._fs, path = url_to_fs(f"{self.scheme}://{url.partition('://')[2]}")
        except ImportError as error:
            extra = "hub" if self.scheme == "hf" else "remote"
            raise UsageError(
                f"{url}: {error}; pip install 'geomcheck[{extra}]', or the library of such URLs"
            ) from error
        except ValueError as error:
            raise UsageError(f"{url}: {error}") from error
        self.commit, self.fetched = "", 0
        self.path = self._pinned(str(path)) if self.scheme == "hf" else str(path).rstrip("/")

    def list(self, path: str) -> Iterator[Entry]:
        """What lies directly in a directory, as it is now. Raises StorageError."""
        self._fs.invalidate_cache(path)
        for found in tried(lambda: self._fs.ls(path, detail=True)):
            whole = str(found["name"]).rstrip("/")
            above, _, name = whole.rpartition("/")
            if above.strip("/") != path.strip("/") or not name or (self.scheme in ("http", "https") and "?" in name):
                continue  # the directory itself, or a link in a page that leads elsewhere
            if name in (".", "..") or "\\" in name or not name.isprintable() or len(name.encode()) > 255:
                raise StorageError(f"holds {name[:100]!a}, which is no name of a file")
            yield Entry(name, whole, found["type"] == "directory")

    def properties(self, path: str) -> Properties:
        """What the server says of a file now. Raises StorageError."""
        if not self.commit:
            self._fs.invalidate_cache(path)
        found: dict[str, Any] = tried(lambda: self._fs.info(path))
        nbytes = found.get("size")
        if type(nbytes) is not int or nbytes < 0:
            raise StorageError("its size is not known to the server, so that nothing of it can be trusted to be whole")
        lasting = [name for name in STRONG if found.get(name) and not str(found[name]).startswith("W/")]
        mark = tuple((name, str(found[name])) for name in lasting or WEAK if found.get(name))
        return Properties(nbytes, mark, bool(lasting))

    def fill(self, view: memoryview, path: str, offset: int) -> None:
        """Read ``len(view)`` bytes of a file from `offset` on. Raises StorageError."""
        for start in range(0, len(view), CHUNK):
            part = view[start : start + CHUNK]
            first = offset + start
            part[:] = tried(partial(self._range, path, first, first + len(part)))

    def _range(self, path: str, start: int, end: int) -> bytes | bytearray:
        from fsspec.asyn import AsyncFileSystem, sync

        content: bytes | bytearray
        if self.scheme in ("http", "https"):
            content = sync(self._fs.loop, _http_range, self._fs, path, start, end, timeout=DEADLINE)
        else:
            how = {} if isinstance(self._fs, AsyncFileSystem) else {"cache_type": "none"}
            content = self._fs.cat_file(path, start=start, end=end, **how)
        if len(content) != end - start:
            raise OSError(f"{len(content)} bytes came of the {end - start} from {start} on; the answer was cut")
        return content

    def _pinned(self, path: str) -> str:
        """`path` at the commit that its revision means now. Raises StorageError."""
        resolved = tried(lambda: self._fs.resolve_path(path))
        if not hasattr(resolved, "repo_id"):  # a bucket
            return path.rstrip("/")
        from huggingface_hub import HfApi

        api = HfApi(endpoint=getattr(self._fs, "endpoint", None), token=self._fs.token)
        asked = {"revision": resolved.revision, "repo_type": resolved.repo_type}
        self.commit = str(tried(lambda: api.repo_info(resolved.repo_id, **asked).sha))
        if not re.fullmatch("[0-9a-f]{40,64}", self.commit):
            raise StorageError(f"its revision is {self.commit[:80]!a} by the server, which is no commit")
        kind = "" if resolved.repo_type == "model" else f"{resolved.repo_type}s/"
        return f"{kind}{resolved.repo_id}@{self.commit}/{resolved.path_in_repo}".rstrip("/")


async def _http_range(fs: Any, url: str, start: int, end: int) -> bytearray:
    """Bytes of a file, of which no more are kept than were asked for."""
    from aiohttp import ClientTimeout

    session = await fs.set_session()
    headers = {**fs.kwargs.get("headers", {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    how = {**fs.kwargs, "headers": headers, "timeout": ClientTimeout(total=DEADLINE)}
    async with session.get(fs.encode_url(url), **how) as answer:
        answer.raise_for_status()
        whole = answer.status == 200 and start == 0 and answer.headers.get("Content-Length") == str(end)
        if not whole and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-{end - 1}/"):
            raise NotImplementedError(
                f"the server does not give the range of bytes that was asked for ({answer.status} {answer.reason}); "
                "copy the run to this machine by other means"
            )
        content = bytearray()
        async for piece in answer.content.iter_chunked(2**20):
            content += piece
            if len(content) > end - start:
                raise OSError("the answer is longer than what was asked for")
        return content


def tried(call: Callable[[], T]) -> T:
    """What `call` gives within `DEADLINE`, tried again where that may help. Raises StorageError."""
    for wait in (*WAITS, None):
        try:
            return _within(DEADLINE, call)
        except Exception as error:  # each library has its own
            error = _meant(error)
            if isinstance(error, FileNotFoundError) or _status(error) in (404, 410):
                raise Gone(f"is not there: {_reason(error)}") from error
            if isinstance(error, _FINAL) or (400 <= _status(error) < 500 and _status(error) not in _LATER):
                raise StorageError(_reason(error)) from error
            if wait is None:
                raise StorageError(f"{_reason(error)}, after {len(WAITS) + 1} tries") from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def _meant(error: Exception) -> Exception:
    """What went wrong: fsspec takes any trouble of a web server for a file that is not there."""
    cause = error.__cause__
    of_web = isinstance(error, FileNotFoundError) and type(cause).__module__.startswith("aiohttp")
    return cause if of_web and isinstance(cause, Exception) else error


def _status(error: Exception) -> int:
    """The status of the answer that an error is about; 0 where there was none."""
    found = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else 0


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {DEADLINE:g} seconds"
    said = " ".join(str(error).split())[:300]
    return f"{said} ({type(error).__name__})" if said else type(error).__name__


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` gives. Raises TimeoutError where it takes longer; it is then left to itself."""
    result: Future[T] = Future()

    def work() -> None:
        try:
            result.set_result(call())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=work, name="geomcheck-request", daemon=True).start()
    return result.result(timeout=seconds)
