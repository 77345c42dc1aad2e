"""Whoever may write to a cache directory may plant links, pipes and names in it: none is followed, none is lost."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from geomcheck.measurement import Cache
from geomcheck.measurement.cache.shelf import Shelf
from geomcheck.measurement.cache.store import Store
from tests.files import tree

NAME = "0" * 31 + "{}.parquet"
OLD = (1000.0, 1000.0)


def shelf_in(directory: Path, told: list[str]) -> Shelf:
    """One that holds three of the files that `fill` writes."""
    return Shelf(directory, names=r"[0-9a-f]{32}\.parquet", max_bytes=3000, tell=told.append)


def fill(path: Path) -> None:
    path.write_bytes(bytes(1000))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of somebody else, with a file that looks like one of the cache and is older than all of it."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("optimizer.pt", NAME.format(9), "measurements.sqlite"):
        (outside / name).write_bytes(b"precious" * 1000)
        os.utime(outside / name, OLD)
    return outside


PLANTED: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda place, outside: place.symlink_to(outside / "optimizer.pt"),
    "link to nothing": lambda place, outside: place.symlink_to(outside / "new"),
    "hard link": lambda place, outside: os.link(outside / "optimizer.pt", place),
    "pipe": lambda place, outside: os.mkfifo(place),
    "directory": lambda place, outside: place.mkdir(),
}


@pytest.mark.parametrize("place", ["records", "bases"])
@pytest.mark.parametrize("leads", ["link", "link to nothing", "pipe"])
def test_a_directory_of_the_cache_that_is_a_link_is_neither_filled_nor_emptied(
    tmp_path: Path, outside: Path, place: str, leads: str
) -> None:
    told: list[str] = []
    (tmp_path / "cache").mkdir()
    if leads == "link":
        (tmp_path / "cache" / place).symlink_to(outside)
    else:
        PLANTED[leads](tmp_path / "cache" / place, outside)
    before = tree(outside)
    cache = Cache(tmp_path / "cache", max_bytes=10_000, tell=told.append)
    shelf = cache.records if place == "records" else cache._bases
    shelf.keep(NAME.format(1), fill, size=1000)
    assert shelf.find(NAME.format(9)) is None
    assert tree(outside) == before
    (line,) = told
    assert str(tmp_path / "cache" / place) in line


def test_the_directory_that_the_user_named_may_be_a_link(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "disk").mkdir()
    (tmp_path / "cache").symlink_to(tmp_path / "disk")
    cache = Cache(tmp_path / "cache", tell=told.append)
    cache.store.put({b"a": b"1"})
    cache.records.keep(NAME.format(1), fill, size=1000)
    cache.close()
    assert cache.records.find(NAME.format(1)) is not None
    assert {path.name for path in (tmp_path / "disk").iterdir()} == {"measurements.sqlite", "records"}
    assert not told


def test_eviction_removes_nothing_but_files_that_geomcheck_named(tmp_path: Path, outside: Path) -> None:
    told: list[str] = []
    place = tmp_path / "cache"
    place.mkdir()
    for digit, plant in zip("abcde", PLANTED.values(), strict=True):
        plant(place / NAME.format(digit), outside)
    for name in ("notes.txt", "0.parquet", f"{NAME.format(7)}.bak", f"x{NAME.format(7)}", NAME.format("F")):
        (place / name).write_bytes(bytes(10_000))
        os.utime(place / name, OLD)
    half = place / f".{NAME.format(8)}.ab12_xyz"  # by a session that was killed
    half.write_bytes(bytes(2000))
    os.utime(half, OLD)
    before = {path for path in tree(place) if path != str(half)}
    foreign = tree(outside)
    shelf = shelf_in(place, told)
    for number in range(6):
        shelf.keep(NAME.format(number), fill, size=1000)
        os.utime(place / NAME.format(number), (2000.0 + number, 2000.0 + number))
    assert not half.exists()
    assert {path.name for path in place.glob("0*") if str(path) not in before} == {NAME.format(n) for n in (3, 4, 5)}
    assert before <= tree(place).keys()
    assert tree(outside) == foreign
    assert not told


@pytest.mark.parametrize("planted", PLANTED)
def test_what_lies_in_the_place_of_a_file_is_neither_read_touched_nor_replaced(
    tmp_path: Path, outside: Path, planted: str
) -> None:
    told: list[str] = []
    (tmp_path / "cache").mkdir()
    PLANTED[planted](tmp_path / "cache" / NAME.format(1), outside)
    before = tree(tmp_path / "cache"), tree(outside)
    shelf_in(tmp_path / "cache", told).keep(NAME.format(1), fill, size=1000)
    assert shelf_in(tmp_path / "cache", told).find(NAME.format(1)) is None
    shelf_in(tmp_path / "cache", told).discard(NAME.format(1))
    assert (tree(tmp_path / "cache").keys(), tree(outside)) == (before[0].keys(), before[1])
    assert len(told) == 2
    assert all(NAME.format(1) in line for line in told)


@pytest.mark.parametrize("ending", ["", "-journal", "-wal", "-shm"])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_store_with_a_link_among_its_files_does_not_work(
    tmp_path: Path, outside: Path, planted: str, ending: str
) -> None:
    told: list[str] = []
    file = tmp_path / "cache" / "m.sqlite"
    if ending:
        store = Store(file, max_bytes=10**6, tell=told.append)
        store.put({b"a": b"1"})
        store.close()
    file.parent.mkdir(exist_ok=True)
    PLANTED[planted](Path(f"{file}{ending}"), outside)
    before = tree(outside)
    store = Store(file, max_bytes=10**6, tell=told.append)
    assert store.get([b"a"]) == {}
    store.put({b"a": b"1"})
    store.close()
    assert tree(outside) == before
    assert os.path.lexists(f"{file}{ending}")
    (line,) = told
    assert f"m.sqlite{ending} is" in line
    assert line.endswith("remove it): everything is measured")


def test_a_journal_removes_no_file_that_it_names(tmp_path: Path, outside: Path) -> None:
    """A rollback journal may end in the name of another file, which SQLite reads, and removes."""
    told: list[str] = []
    file, victim = tmp_path / "cache" / "m.sqlite", outside / "optimizer.pt"
    store = Store(file, max_bytes=10**6, tell=told.append)
    store.put({bytes([i]): os.urandom(3000) for i in range(200)})
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA cache_size = 2")
        connection.execute("BEGIN")
        connection.execute("UPDATE entries SET value = zeroblob(3000)")  # more than fits in memory
        content, journal = file.read_bytes(), Path(f"{file}-journal").read_bytes()
        connection.rollback()
    connection.close()
    name = bytes(victim)
    file.write_bytes(content)
    trailer = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name))
    Path(f"{file}-journal").write_bytes(journal + trailer + bytes.fromhex("d9d505f920a163d7"))
    store = Store(file, max_bytes=10**6, tell=told.append)
    assert store.get([b"a"]) == {}
    store.close()
    assert victim.exists()
    (line,) = told
    assert "names a further file" in line
    Path(f"{file}-journal").write_bytes(journal)  # one that names none is rolled back
    store = Store(file, max_bytes=10**6, tell=told.append)
    assert len(store.get(bytes([i]) for i in range(200))) == 200
    store.close()
