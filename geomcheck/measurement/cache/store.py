"""A table of small entries in one SQLite file, which several processes share and a kill cannot corrupt."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from geomcheck.own import Foreign, status

WAIT_SECONDS = 30.0
"""How long to wait for another process that is writing."""

FLUSH_SECONDS = 1.0
"""How long entries may wait to be written, and so what a kill may lose. No transaction stays open in between."""

MAX_SECONDS = 60.0
"""How long one piece of work may take, with its waiting: a table whose pages are children of one another has no end."""

MAX_VALUE_BYTES = 64 * 2**20
"""Largest value: the digests of half a million weights."""

EMPTY_BYTES = 2**20
"""What a file may take that holds nothing."""

_DAY = 86_400
_CHECKSUM = 16
_TABLE = "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
_SCHEMA = [("table", "entries", "entries", _TABLE), ("index", "sqlite_autoindex_entries_1", "entries", None)]
_APPLICATION, _VERSION = 0x67656F6D, 1
_DAMAGED = (
    *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR),
    *(sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT),
)
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal ends that names a further file, which SQLite would then read and remove. Ours never do."""

T = TypeVar("T")


class Store:
    """Bytes by key. A failure is no error: `tell` gets a sentence once, and from then on the store is empty.

    The file is made on first use. It has a rollback journal and no write-ahead log: that is as safe,
    and works on network file systems. Each value carries a checksum; one that does not match is as good as absent.
    Above `max_bytes`, the entries that were not used for longest are dropped. A `path` of None keeps nothing.

    Whoever may write to the directory may have prepared the file. It is used only where it is a plain file with exactly
    the table that is made here, and its entries are within the bounds above; otherwise it is removed, as one that is
    damaged. What lies in the place of it or of its journal and is no plain file is left, and the store does not work.
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
        self._deadline = 0.0

    @property
    def works(self) -> bool:
        """Whether anything is kept."""
        return self._trying(lambda: self._connect() is not None, False)

    def get(self, keys: Iterable[bytes], *, each: int = MAX_VALUE_BYTES) -> dict[bytes, bytes]:
        """The values of those of `keys` that are there, or wait to be written; none of more than `each` bytes."""
        return self._trying(lambda: self._get(keys, each), {})

    def put(self, entries: Mapping[bytes, bytes]) -> None:
        """Keep `entries`, in place of what had their keys; but not what is beyond all bounds."""
        self._pending.update({key: value for key, value in entries.items() if len(value) < MAX_VALUE_BYTES // 2})
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
        self._deadline = time.monotonic() + MAX_SECONDS
        try:
            return work()
        except (sqlite3.Error, OSError, UnicodeDecodeError, _NotOurs) as error:
            path = self._path
            self._drop()
            if _is_damage(error) and not self._renewed and _removed(path):
                was = "is not geomcheck's" if isinstance(error, _NotOurs) else "was damaged"
                self._tell(f"the cache {path} {was} ({error}): it was removed, and a new one is started")
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
        _require_plain(self._path)
        connection = self._connection = sqlite3.connect(self._path, timeout=WAIT_SECONDS)
        connection.set_progress_handler(lambda: time.monotonic() > self._deadline, 10_000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        if not _schema(connection):
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.executescript(
                f"BEGIN IMMEDIATE; {_TABLE.replace('TABLE', 'TABLE IF NOT EXISTS', 1)}; "
                f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; COMMIT"
            )
        _require_ours(connection)
        return connection

    def _get(self, keys: Iterable[bytes], each: int) -> dict[bytes, bytes]:
        connection = self._connect()
        assert self._path is not None
        found: dict[bytes, bytes] = {}
        today = int(time.time()) // _DAY
        left, unread = iter(keys), 2 * self._path.stat().st_size  # it may grow meanwhile
        while some := list(islice(left, 500)):
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value, used FROM entries WHERE key IN ({marks}) AND length(value) <= ?"
            for key, value, used in connection.execute(query, [*some, each + _CHECKSUM]):
                if not isinstance(key, bytes) or not isinstance(value, bytes):
                    continue
                unread -= len(value)
                if unread < 0:
                    raise _NotOurs("its entries lie on one another")
                if value[:_CHECKSUM] == _checksum(key, value[_CHECKSUM:]):
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
        while (size := _size(connection)) > self._max_bytes:
            rows = connection.execute("SELECT sum(1) FROM entries").fetchone()[0]  # count(*) knows no deadline
            if not rows and size > EMPTY_BYTES:
                raise _NotOurs(f"it takes {size} bytes, and holds nothing")
            if not rows:
                return
            connection.execute(
                "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY used, rowid LIMIT ?)",
                [rows // 4 + 1],
            )
            connection.commit()
            connection.executescript("PRAGMA incremental_vacuum")


class _NotOurs(Exception):
    """A file that a store did not write. The message says how it shows."""


def _require_plain(path: Path) -> None:
    """Raise Foreign where SQLite would follow a link from `path` or a file beside it, or heed what is not ours."""
    status(path)
    for ending in ("-wal", "-shm"):
        if os.path.lexists(f"{path}{ending}"):
            raise Foreign(f"{path}{ending} is nothing that geomcheck writes; remove it")
    journal = Path(f"{path}-journal")
    if status(journal) is not None:
        with suppress(FileNotFoundError), journal.open("rb") as file:  # it goes when another process has done its work
            file.seek(-min(len(_SUPER_JOURNAL), file.seek(0, os.SEEK_END)), os.SEEK_CUR)
            if file.read() == _SUPER_JOURNAL:
                raise Foreign(f"{journal} names a further file, as none that geomcheck writes; remove it")


def _schema(connection: sqlite3.Connection) -> list[tuple[str, str, str, str | None]]:
    """The first entries of the table of tables; SQLite compiles them, and runs none."""
    return connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 3").fetchall()


def _require_ours(connection: sqlite3.Connection) -> None:
    """Raise _NotOurs where there is not just the table that a store makes: a view or a trigger may have no end."""
    names = ("application_id", "user_version", "journal_mode", "encoding")
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    if _schema(connection) != _SCHEMA or found != [_APPLICATION, _VERSION, "delete", "UTF-8"]:
        raise _NotOurs("it has other tables than geomcheck makes, or is of another version")


def _is_damage(error: Exception) -> bool:
    """Whether the file is at fault, and not its place: SQLite says so, or its message is not even text."""
    return isinstance(error, UnicodeDecodeError | _NotOurs) or getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def _removed(path: Path) -> bool:
    """Whether the file is gone, with its journal."""
    try:
        for place in (path, Path(f"{path}-journal")):
            if status(place) is not None:
                place.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _size(connection: sqlite3.Connection) -> int:
    """Size of the file in bytes."""
    page, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count"))
    return int(page * pages)


def _checksum(key: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(value, key=key[:64], digest_size=_CHECKSUM).digest()
