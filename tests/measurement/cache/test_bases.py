"""Factorizations on disk: complete or absent, bounded."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geomcheck.measurement import Cache

STATE = {"v": torch.arange(12.0).reshape(3, 4).T, "s": torch.tensor([3.0, 2.0]).double(), "k": torch.tensor(2)}


LARGE = 10**6
DIGESTS = [f"{number:032x}" for number in range(4)]


def same(one: dict[str, Tensor] | None, other: dict[str, Tensor]) -> bool:
    return one is not None and one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in other)


def test_what_was_kept_is_there_for_the_next(tmp_path: Path) -> None:
    Cache(tmp_path / "cache").keep_base_state("abc", STATE)
    cache = Cache(tmp_path / "cache")
    assert same(cache.base_state("abc", max_bytes=LARGE), STATE)
    assert cache.base_state("abd", max_bytes=LARGE) is None
    assert Cache.off().base_state("abc", max_bytes=LARGE) is None


def test_other_code_finds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    cache.keep_base_state("abc", STATE)
    monkeypatch.setattr("geomcheck.measurement.cache.bases.code", lambda: "another")
    assert cache.base_state("abc", max_bytes=LARGE) is None


@pytest.mark.parametrize("damage", ["garbage", "truncated", "flipped", "empty"])
def test_a_damaged_file_is_removed(tmp_path: Path, damage: str) -> None:
    cache = Cache(tmp_path / "cache")
    cache.keep_base_state("abc", STATE)
    (file,) = (tmp_path / "cache" / "bases").iterdir()
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes({"garbage": b"x" * 99, "truncated": content[:-9], "empty": b""}.get(damage, bytes(content)))
    assert cache.base_state("abc", max_bytes=LARGE) is None
    assert not file.exists()
    cache.keep_base_state("abc", STATE)
    assert same(cache.base_state("abc", max_bytes=LARGE), STATE)


def test_the_least_recently_used_make_room(tmp_path: Path) -> None:
    state = {"v": torch.zeros(1000, dtype=torch.uint8)}
    cache = Cache(tmp_path / "cache", max_bytes=5_000)  # 4000 for factorizations: three with their headers
    for number in range(3):
        cache.keep_base_state(DIGESTS[number], state)
    for age, file in enumerate(sorted((tmp_path / "cache" / "bases").iterdir())):
        os.utime(file, (1000 + age, 1000 + age))
    assert cache.base_state(DIGESTS[0], max_bytes=LARGE) is not None  # now the latest
    cache.keep_base_state(DIGESTS[3], state)
    assert [cache.base_state(digest, max_bytes=LARGE) is not None for digest in DIGESTS] == [True, False, True, True]


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", max_bytes=1_000)
    cache.keep_base_state("abc", {"v": torch.zeros(1000)})
    assert cache.base_state("abc", max_bytes=LARGE) is None


def test_a_place_that_cannot_be_written_to_is_told_once(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file", tell=told.append)
    for _ in range(2):
        cache.keep_base_state("abc", STATE)
        assert cache.base_state("abc", max_bytes=LARGE) is None
    assert len(told) == 1
    assert "nothing more is kept there" in told[0]


def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    """No file may grow beyond a hundred bytes: what safetensors says then is no OSError."""
    told: list[str] = []
    cache = Cache(tmp_path / "cache", tell=told.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        for _ in range(2):
            cache.keep_base_state("abc", STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cache.base_state("abc", max_bytes=LARGE) is None
    assert len(told) == 1
    assert "nothing more is kept there" in told[0]
    assert not any((tmp_path / "cache" / "bases").iterdir())
