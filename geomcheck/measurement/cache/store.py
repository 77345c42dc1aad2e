"""A table of small entries in one SQLite file, which several processes share and a kill cannot corrupt."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

WAIT_SECONDS = 30.0
"""How long to wait for another process that is writing."""

FLUSH_SECONDS = 1.0
"""How long entries may wait to be written, and so what a kill may lose. No transaction stays open in between."""

_DAY = 86_400
_CHECKSUM = 16
_SCHEMA = "CREATE TABLE IF NOT EXISTS entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

T = TypeVar("T")


class Store:
    """Bytes by key. A failure is no error: `tell` gets a sentence once, and from then on the store is empty.

    The file is made on first use. It has a rollback journal and no write-ahead log: that is as safe,
    and works on network file systems. Each value carries a checksum; one that does not match is as good as absent.
    Above `max_bytes`, the entries that were not used for longest are dropped. A `path` of None keeps nothing.
    """

    def __init__(self, path: Path | None, *, max_bytes: int, tell: Callable[[str], None]) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._tell = tell
        self._used: set[bytes] = set()
        self._pending: dict[bytes, bytes] = {}
        self._flushed = time.monotonic()
        self._connection: sqlite3.Connection | None = None
        self._renewed = False

    @property
    def works(self) -> bool:
        """Whether anything is kept."""
        return self._trying(lambda: self._connect() is not None, False)

    def get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The values of those of `keys` that are there, or wait to be written."""
        return self._trying(lambda: self._get(keys), {})

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep `entries`, in place of what had their keys."""
        self._pending.update(entries)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._trying(self._flush, None)

    def flush(self) -> None:
        """Write what is waiting."""
        self._trying(self._flush, None)

    def close(self) -> None:
        """Write what is left, note what was used, and drop what is too much."""
        if self._connection is not None or self._pending:
            self._trying(self._finish, None)
        self._drop()

    def _trying(self, work: Callable[[], T], otherwise: T) -> T:
        """The result of `work`; `otherwise` where the store does not work, or fails now."""
        if self._path is None:
            return otherwise
        try:
            return work()
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            path = self._path
            self._drop()
            if _is_damage(error) and not self._renewed and _removed(path):
                self._tell(f"the cache {path} was damaged ({error}): it was removed, and a new one is started")
                self._renewed = True
                return self._trying(work, otherwise)
            self._tell(f"the cache {path} cannot be used ({error}): everything is measured")
            self._path = None
            return otherwise

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=WAIT_SECONDS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(_SCHEMA)
        connection.commit()
        self._connection = connection
        return connection

    def _get(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        connection = self._connect()
        found: dict[bytes, bytes] = {}
        today = int(time.time()) // _DAY
        left = iter(keys)
        while some := list(islice(left, 500)):
            marks = ",".join("?" * len(some))
            rows = connection.execute(f"SELECT key, value, used FROM entries WHERE key IN ({marks})", some)
            for key, value, used in rows:
                if isinstance(value, bytes) and value[:_CHECKSUM] == _checksum(key, value[_CHECKSUM:]):
                    found[key] = value[_CHECKSUM:]
                    if used != today:
                        self._used.add(key)
            found |= {key: self._pending[key] for key in some if key in self._pending}
        return found

    def _flush(self) -> None:
        connection = self._connect()
        today = int(time.time()) // _DAY
        rows = [(key, _checksum(key, value) + value, today) for key, value in self._pending.items()]
        with connection:
            connection.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", rows)
        self._pending.clear()
        self._flushed = time.monotonic()

    def _finish(self) -> None:
        connection = self._connect()
        self._flush()
        marks = [(int(time.time()) // _DAY, key) for key in self._used]
        with connection:
            connection.executemany("UPDATE entries SET used = ? WHERE key = ?", marks)
        while _bytes(connection) > self._max_bytes:
            connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY used, rowid "
                "LIMIT (SELECT count(*) / 4 + 1 FROM entries))"
            )
            connection.commit()
            connection.executescript("PRAGMA incremental_vacuum")


def _is_damage(error: Exception) -> bool:
    """Whether the file is damaged: SQLite says so, or its message is not even text."""
    return isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _removed(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _bytes(connection: sqlite3.Connection) -> int:
    """Size of the file, 0 where it holds no entry."""
    page, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count"))
    return page * pages if connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone() else 0


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=key[:64], digest_size=_CHECKSUM).digest()
