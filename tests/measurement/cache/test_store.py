"""The table on disk: shared, killed, damaged, full, bounded."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

import geomcheck
from geomcheck.measurement.cache import store as store_module
from geomcheck.measurement.cache.store import Store
from tests.conftest import Reads

LARGE = 10**9


def opened(path: Path, told: list[str], max_bytes: int = LARGE) -> Store:
    return Store(path, max_bytes=max_bytes, tell=told.append)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "m.sqlite"


def test_what_was_put_is_there_for_the_next(file: Path) -> None:
    told: list[str] = []
    entries = {bytes([i]) * 16: bytes([i]) * 1000 for i in range(200)}
    store = opened(file, told)
    assert not file.exists()
    store.put(entries)
    store.close()
    again = opened(file, told)
    assert again.get([*entries, b"absent"]) == entries
    again.close()
    assert not told


def test_a_store_without_a_place_keeps_nothing() -> None:
    store = Store(None, max_bytes=LARGE, tell=pytest.fail)
    store.put({b"a": b"b"})
    assert not store.works
    assert store.get([b"a"]) == {}
    store.close()


def test_processes_share_it(file: Path) -> None:
    told: list[str] = []
    one, other = opened(file, told), opened(file, told)
    one.put({b"a": b"1"})
    one.flush()
    other.put({b"b": b"2"})
    other.flush()
    assert one.get([b"a", b"b"]) == {b"a": b"1", b"b": b"2"}
    one.close()
    other.close()
    assert not told


@pytest.mark.parametrize("damage", ["garbage", "truncated", "overwritten", "empty"])
def test_a_damaged_file_is_replaced_and_never_believed(file: Path, damage: str) -> None:
    told: list[str] = []
    entries = {os.urandom(16): os.urandom(500) for _ in range(500)}
    store = opened(file, told)
    store.put(entries)
    store.close()
    content = bytearray(file.read_bytes())
    if damage == "overwritten":
        for place in range(5000, len(content), 4096):
            content[place] ^= 0xFF
    file.write_bytes(
        {"garbage": b"not a database " * 999, "truncated": content[:9000], "empty": b""}.get(damage, bytes(content))
    )
    for _ in range(3):  # damage is found where it is touched
        store = opened(file, told)
        assert store.get(entries).items() <= entries.items()
        store.put(entries)
        store.close()
    assert all("was damaged" in line for line in told)
    again = opened(file, told)
    assert again.get(entries) == entries
    again.close()


def test_an_entry_that_was_altered_is_absent(file: Path) -> None:
    told: list[str] = []
    store = opened(file, told)
    store.put({b"k": b"0.5", b"m": b"0.7"})
    store.close()
    with sqlite3.connect(file) as connection:
        (value,) = connection.execute("SELECT value FROM entries WHERE key = ?", [b"k"]).fetchone()
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", [value.replace(b"0.5", b"0.9"), b"k"])
        connection.execute("INSERT INTO entries VALUES ('text', 'text', 'text')")
    connection.close()
    again = opened(file, told)
    assert again.get([b"k", b"m", b"text"]) == {b"m": b"0.7"}
    again.close()


TABLE = "CREATE TABLE entries (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL)"
COUNT = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
ENDLESS = f"{COUNT} SELECT x'61' AS key, x'62' AS value, x AS used FROM c"
OURS = "PRAGMA application_id = 1734700909; PRAGMA user_version = 1"
PREPARED = {
    "another table": "CREATE TABLE entries (a)",
    "a table more": f"{TABLE}; CREATE TABLE more (a); {OURS}",
    "a view without end": f"CREATE VIEW entries AS {ENDLESS} WHERE x < 0; {OURS}",
    "a view of blobs": f"CREATE VIEW entries AS SELECT x'61' AS key, randomblob(500000000) AS value, 1 AS used; {OURS}",
    "a trigger without end": f"{TABLE}; CREATE VIEW endless AS {ENDLESS} WHERE x < 0; "
    "CREATE TRIGGER t BEFORE INSERT ON entries BEGIN DELETE FROM entries WHERE key IN (SELECT key FROM endless); END; "
    f"{OURS}",
    "a trigger": f"{TABLE}; CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END; {OURS}",
    "a generated column": f"{TABLE.replace('value BLOB NOT NULL', 'value BLOB AS (zeroblob(500000000))')}; {OURS}",
    "a default": f"{TABLE.replace('value BLOB', 'value BLOB DEFAULT (randomblob(9))')}; {OURS}",
    "an index on an expression": f"{TABLE}; CREATE INDEX i ON entries (hex(zeroblob(length(value) * 1000))); {OURS}",
    "another version": f"{TABLE}; PRAGMA application_id = 1734700909; PRAGMA user_version = 2",
    "another application": f"{TABLE}; PRAGMA application_id = 1; PRAGMA user_version = 1",
    "a log": f"PRAGMA journal_mode = WAL; {TABLE}; {OURS}",
    "another encoding": f"PRAGMA encoding = 'UTF-16'; {TABLE}; {OURS}",
}


@pytest.mark.parametrize("script", PREPARED.values(), ids=PREPARED)
def test_a_prepared_file_is_replaced_and_nothing_in_it_runs(file: Path, script: str) -> None:
    told: list[str] = []
    file.parent.mkdir()
    connection = sqlite3.connect(file)
    connection.executescript(script)
    connection.close()
    started = time.monotonic()
    store = opened(file, told)
    assert store.get([b"a"]) == {}
    store.put({b"a": b"1"})
    store.close()
    assert time.monotonic() - started < 5
    (line,) = told
    assert "is not geomcheck's" in line
    assert "was removed" in line
    again = opened(file, told)
    assert again.get([b"a"]) == {b"a": b"1"}
    again.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "locked").mkdir(mode=0o555)
    store = opened(tmp_path / "locked" / "m.sqlite", told)
    store.put({b"a": b"1"})
    store.close()
    assert len(told) == 1


def test_a_place_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    store = opened(tmp_path / "file" / "m.sqlite", told)
    assert store.get([b"a"]) == {}
    store.put({b"a": b"1"})
    store.close()
    assert len(told) == 1
    assert "everything is measured" in told[0]


def test_a_full_disk_is_told_once(file: Path) -> None:
    told: list[str] = []
    store = opened(file, told)
    assert store.works
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 10")
    store.put({os.urandom(16): os.urandom(100_000)})
    store.flush()
    assert store.get([b"a"]) == {}
    store.close()
    assert len(told) == 1
    assert "full" in told[0]


def test_the_bound_drops_what_was_not_used_for_longest(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    old = {b"old" + bytes([i]): os.urandom(4000) for i in range(100)}
    new = {b"new" + bytes([i]): os.urandom(4000) for i in range(100)}
    now = time.time()
    for days, entries, used in ((3, old, []), (2, new, []), (1, {}, list(old)[:10])):
        monkeypatch.setattr(time, "time", lambda days=days: now - days * 86_400)
        store = opened(file, told)
        store.get(used)
        store.put(entries)
        store.close()
    store = opened(file, told, max_bytes=500_000)
    store.get([])
    store.close()
    assert file.stat().st_size <= 500_000
    again = opened(file, told)
    assert set(again.get([*old, *new])) >= set(list(old)[:10])
    assert len(again.get(list(old)[10:])) < len(again.get(new))
    again.close()
    assert not told


def test_killed_at_any_moment_the_next_session_goes_on(settled_run: Path, tmp_path: Path, reads: Reads) -> None:
    cold = geomcheck.measure(settled_run)
    slow = """
import sys, time, geomcheck
from geomcheck.measurement.cache import Recall, recall, store
store.FLUSH_SECONDS = recall.REMEMBER_SECONDS = 0
keep = Recall.keep
def slowly(self, task, measured):
    keep(self, task, measured)
    print("kept", flush=True)
    time.sleep(0.2)
Recall.keep = slowly
geomcheck.measure(sys.argv[1], cache=sys.argv[2], workers=2)
"""
    for after in (1, 2, 3, 4, 5):
        command = [sys.executable, "-c", slow, str(settled_run), str(tmp_path / f"cache-{after}")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(after):
                assert process.stdout.readline() == "kept\n"
            process.send_signal(signal.SIGKILL)
        reads.clear()
        record = geomcheck.measure(settled_run, cache=tmp_path / f"cache-{after}")
        assert list(record.rows()) == list(cold.rows())
        assert record.fingerprints == cold.fingerprints
        assert len(reads) <= 4 * (2 * 3 + 2 - after)  # three matrices twice, and of the others how much they changed


def test_answers_are_plain_json(settled_run: Path, tmp_path: Path) -> None:
    """Nothing in a cache can be executed."""
    geomcheck.measure(settled_run, cache=tmp_path / "cache")
    with sqlite3.connect(tmp_path / "cache" / "measurements.sqlite") as connection:
        values = [value for (value,) in connection.execute("SELECT value FROM entries")]
    connection.close()
    assert values
    assert all(isinstance(json.loads(value[16:]), dict) for value in values)


def endless(file: Path) -> None:
    """Make a store's table end nowhere: inner pages that are, 200 times each, the parents of the next."""
    levels, each, page = 16, 200, 4096
    with sqlite3.connect(file) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE type = 'table'").fetchone()
    connection.close()
    content = bytearray(file.read_bytes())
    leaf = len(content) // page + levels  # the last page
    content += bytes(levels * page)
    content[(leaf - 1) * page :] = content[(root - 1) * page : root * page]
    for level in range(levels):
        number, child = (root if level == 0 else leaf - levels + level), leaf - levels + level + 1
        cells = b"".join(struct.pack(">IB", child, 1) for _ in range(each))
        header = struct.pack(">BHHHBI", 5, 0, each, page - len(cells), 0, child)
        pointers = struct.pack(f">{each}H", *(page - len(cells) + 5 * index for index in range(each)))
        body = header + pointers
        content[(number - 1) * page : number * page] = body.ljust(page - len(cells), b"\0") + cells
    content[28:32] = struct.pack(">I", leaf)
    file.write_bytes(content)


def test_a_table_whose_pages_are_one_another_s_children_is_replaced(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    store = opened(file, told)
    store.put({b"a": b"1"})
    store.close()
    endless(file)
    monkeypatch.setattr("geomcheck.measurement.cache.store.MAX_SECONDS", 0.3)
    store = opened(file, told, max_bytes=10_000)
    store.put({b"b": b"2"})
    store.close()
    (line,) = told
    assert "was damaged (interrupted)" in line
    again = opened(file, told)
    assert again.get([b"a", b"b"]) == {}
    again.close()


def test_entries_larger_than_figures_are_absent(file: Path) -> None:
    told: list[str] = []
    store = opened(file, told)
    store.put({b"a": b"1" * 1000, b"b": b"2" * 1001, b"c": bytes(store_module.MAX_VALUE_BYTES)})
    store.close()
    again = opened(file, told)
    assert again.get([b"a", b"b", b"c"], each=1000).keys() == {b"a"}
    assert again.get([b"a", b"b", b"c"]).keys() == {b"a", b"b"}
    again.close()
    assert not told
