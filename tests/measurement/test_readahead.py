"""The next checkpoint is read while the one before is measured, and never more than that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import geomcheck
from geomcheck.checkpoints import inside
from geomcheck.errors import RunError
from geomcheck.measurement.readahead import reading_ahead
from tests.runs import simple_run


class Disk:
    """Checkpoints 0..count-1, which notes what is read, and says when one is."""

    def __init__(self, count: int) -> None:
        self.order: list[int] = []
        self.began = [threading.Event() for _ in range(count)]

    def read(self, index: int) -> int:
        self.order.append(index)
        self.began[index].set()
        if index == 3:
            raise RunError("checkpoint 3 is damaged")
        assert torch.get_num_threads() == 1 or threading.current_thread() is threading.main_thread()
        return 10 * index

    def reads(self) -> list[Callable[[], int]]:
        return [lambda index=index: self.read(index) for index in range(len(self.began))]  # type: ignore[misc]


def test_the_next_is_read_meanwhile_and_only_the_next() -> None:
    disk = Disk(3)
    with reading_ahead(disk.reads(), [1, 0, 2]) as reads:
        assert reads[1]() == 10
        assert disk.began[0].wait(10)  # while checkpoint 1 is at hand
        assert not disk.began[2].is_set()
        assert reads[0]() == 0
        assert disk.began[2].wait(10)
        assert reads[2]() == 20
        assert disk.order == [1, 0, 2]  # none twice
        assert reads[0]() == 0  # looked at once more: read once more
    assert disk.order == [1, 0, 2, 0]


def test_what_is_read_out_of_turn_does_not_lose_what_was_read_ahead() -> None:
    disk = Disk(3)
    with reading_ahead(disk.reads(), [0, 1]) as reads:
        assert reads[0]() == 0
        assert reads[2]() == 20
        assert reads[1]() == 10
    assert sorted(disk.order) == [0, 1, 2]


def test_an_error_is_raised_when_its_turn_comes() -> None:
    disk = Disk(4)
    with reading_ahead(disk.reads(), [2, 3]) as reads:
        assert reads[2]() == 20
        assert disk.began[3].wait(10)
        with pytest.raises(RunError, match="checkpoint 3 is damaged"):
            reads[3]()


def test_one_checkpoint_takes_no_thread() -> None:
    before = threading.active_count()
    with reading_ahead(Disk(1).reads(), [0]) as reads:
        assert reads[0]() == 0
        assert threading.active_count() == before


def test_checkpoints_of_a_run_are_read_by_threads_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, read_bytes = [], inside.read_bytes

    def noted(path: Path, offset: int, nbytes: int) -> torch.Tensor:
        threads.append((path.parent.name, threading.current_thread().name.split("_")[0]))
        return read_bytes(path, offset, nbytes)

    run = simple_run(tmp_path / "run", (1, 2, 3))
    monkeypatch.setattr("geomcheck.checkpoints.inside.read_bytes", noted)
    record = geomcheck.measure(run, metrics=["stable_rank"], workers=1)
    assert {("checkpoint-2", "geomcheck-reads"), ("checkpoint-3", "geomcheck-reads")} <= set(threads)
    assert ("base", "geomcheck-reads") not in threads
    measured = len(record.measured_weights())
    assert [name for name, _ in threads].count("checkpoint-3") <= 2 * measured + 2  # and a norm, and the embedding
