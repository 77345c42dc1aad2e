"""Threads: how many at once, what memory allows, and that nothing depends on it."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from geomcheck.checkpoints import find_base, open_run
from geomcheck.errors import RunError
from geomcheck.measurement import machine
from geomcheck.measurement.executors.local import run_locally
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import Sources
from tests.runs import simple_run


@dataclass
class Watch:
    """Who is at work, and the most that were."""

    bytes_now: int = 0
    most_bytes: int = 0
    order: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    meeting: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))


@dataclass(frozen=True)
class Weight:
    """A task that takes `bytes` and says so."""

    name: str
    bytes: int
    watch: Watch
    numel: int = 1
    device: str = "cpu"
    error: Exception | None = None

    def __call__(self, sources: Sources) -> Measured:
        with self.watch.lock:
            self.watch.order.append(self.name)
            self.watch.bytes_now += self.bytes
            self.watch.most_bytes = max(self.watch.most_bytes, self.watch.bytes_now)
        self.watch.meeting.wait(timeout=10)
        with self.watch.lock:
            self.watch.bytes_now -= self.bytes
        if self.error is not None:
            raise self.error
        assert torch.get_num_threads() == 1
        assert torch.get_float32_matmul_precision() == "highest"
        return Measured()


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    run = open_run(simple_run(tmp_path / "run"))
    return Sources(run, find_base(run))


def done(tasks: list[Any], sources: Sources, **options: int) -> set[str]:
    return {task.name for task, _ in run_locally(tasks, sources, **options)}


def test_workers_work_at_the_same_time(sources: Sources) -> None:
    watch = Watch(meeting=threading.Barrier(3))
    tasks = [Weight(str(i), 1, watch) for i in range(9)]
    assert len(done(tasks, sources, workers=3)) == 9


def test_products_are_exact_whatever_a_training_has_allowed(sources: Sources) -> None:
    torch.set_float32_matmul_precision("medium")  # bf16, on processors that have it
    try:
        assert done([Weight("a", 1, Watch())], sources) == {"a"}
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_the_weights_at_work_fit_the_budget_and_smaller_ones_fill_the_gaps(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight(f"{size}-{i}", size, watch) for size in (60, 50, 30, 10) for i in range(3)]
    assert len(done(tasks, sources, workers=4, budget=100)) == 12
    assert watch.most_bytes <= 100
    assert watch.order[0] == "60-0"
    assert "30-0" in watch.order[:2]  # beside 60, 50 does not fit


def test_a_weight_beyond_the_budget_is_measured_alone(sources: Sources) -> None:
    watch = Watch()
    tasks = [Weight("huge", 1000, watch), *(Weight(str(i), 10, watch) for i in range(4))]
    assert len(done(tasks, sources, workers=4, budget=100)) == 5
    assert watch.most_bytes == 1000


def test_an_error_of_one_weight_is_its_outcome(sources: Sources) -> None:
    tasks: list[Any] = [Weight("bad", 1, Watch(), error=RunError("NaN")), Weight("good", 1, Watch())]
    outcomes = {task.name: outcome for task, outcome in run_locally(tasks, sources, workers=2)}
    assert str(outcomes["bad"]) == "NaN"
    assert outcomes["good"] == Measured()


def test_a_bug_is_not_swallowed(sources: Sources) -> None:
    with pytest.raises(ZeroDivisionError):
        done([Weight("bug", 1, Watch(), error=ZeroDivisionError())], sources, workers=1)


@dataclass(frozen=True)
class Stuck(Weight):
    """A task during which Ctrl-C comes, and that ends when it is told to."""

    end: threading.Event = field(default_factory=threading.Event)

    def __call__(self, sources: Sources) -> Measured:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self.end.wait(timeout=60)
        return Measured()


def test_an_interrupt_does_not_wait_for_what_is_at_work(sources: Sources) -> None:
    task, started = Stuck("stuck", 1, Watch()), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        done([task], sources, workers=1)
    assert time.monotonic() - started < 30
    task.end.set()
    with pytest.raises(RunError, match="the measurement was given up"):  # a real task ends there
        sources.read_checkpoint("w", 0)


def test_without_tasks_nothing_happens(sources: Sources) -> None:
    assert done([], sources) == set()


@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000\n", None), ("150000 100000\n", 1), ("20000 100000\n", 1), ("garbage", None)]
)
def test_containers_limit_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int | None
) -> None:
    free = machine.processors()
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert machine.processors() == (expected or free)


def test_containers_limit_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.available_memory() > 2**20
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{3 * 2**20}\n")
    (tmp_path / "memory.current").write_text(f"{2 * 2**20}\n")
    assert machine.available_memory() == 2**20
