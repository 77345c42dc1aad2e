"""Do tasks on a GPU: weights of one shape are measured together, in lockstep, so that their factorizations fill it.

Two batches are at work at a time: while one computes, the other reads its files and copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.lockstep import Lockstep
from geomcheck.errors import RunError
from geomcheck.measurement.device import free_memory, parse_device, prepared
from geomcheck.measurement.executors.local import MEMORY_SHARE, next_that_fits, single_threaded
from geomcheck.measurement.machine import available_memory, processors
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight, NotEnoughMemory, Outcome, Sources

K = TypeVar("K", bound=MeasureWeight)

LARGEST = 32
"""Largest number of weights in a batch; more do not make a device busier."""

IN_FLIGHT = 2
"""Batches at work."""

DEVICE_SHARE = 0.8
"""Share of the device's free memory that weights at work may take."""


@dataclass(frozen=True)
class Memory:
    """Bytes that all running batches may take together, on the device and on the host."""

    device: int
    host: int

    @classmethod
    def free(cls, device: torch.device) -> Memory:
        """What there is now."""
        return cls(int(DEVICE_SHARE * free_memory(device)), int(MEMORY_SHARE * available_memory()))


@dataclass(frozen=True, eq=False)
class Batch(Generic[K]):
    """Weights that are measured together.

    Attributes:
        tasks: of one shape.
        bytes: what they need on the device.
        at_once: how many of them may compute at the same time, on the host.
        again: whether they did not fit into a larger batch.
    """

    tasks: Sequence[K]
    bytes: int
    at_once: int
    again: bool = False

    def __post_init__(self) -> None:
        _ = self.lockstep  # before threads ask for it

    @cached_property
    def lockstep(self) -> Lockstep:
        """What they share while they are at work."""
        return Lockstep(len(self.tasks), at_once=self.at_once)

    def measured(self, index: int, sources: Sources) -> Measured:
        """Do one of the tasks; the others must be done at the same time. Raises RunError."""
        with self.lockstep.member(index):
            return self.tasks[index](sources)


def batches_of(tasks: Iterable[K], memory: Memory, in_flight: int) -> list[Batch[K]]:
    """Batches of equal shape and nearly equal size, as few as memory allows, in the order of their first tasks."""
    by_shape: dict[tuple[int, ...], list[K]] = defaultdict(list)
    for task in tasks:
        by_shape[task.shape].append(task)
    at_once = max(1, processors() // in_flight)
    parts = [part for alike in by_shape.values() for part in _split(alike, _most(alike[0], memory, in_flight))]
    return [Batch(part, sum(task.bytes for task in part), at_once) for part in parts]


def _most(task: MeasureWeight, memory: Memory, in_flight: int) -> int:
    """How many such tasks a batch may have."""
    fitting = min(memory.device // max(1, task.bytes), memory.host // max(1, task.host_bytes)) // in_flight
    return max(1, min(LARGEST, fitting))


def _split(alike: Sequence[K], most: int) -> list[Sequence[K]]:
    count = -(-len(alike) // most)
    return [alike[index * len(alike) // count : (index + 1) * len(alike) // count] for index in range(count)]


def run_in_batches(
    tasks: Sequence[K], sources: Sources, *, in_flight: int | None = None, memory: Memory | None = None
) -> Iterator[tuple[K, Outcome]]:
    """Do `tasks` in batches of equal shape, each task in a thread of its own.

    Weights for which the device has not enough memory are tried once more, in batches of half the size with nothing
    beside them.

    Args:
        tasks: the largest first, all for one device.
        in_flight: how many batches are at work at a time.
        memory: what they may take. By default most of what is free on the device, and half of the host's.
    """
    if not tasks:
        return
    device = parse_device(tasks[0].device)
    in_flight = in_flight or IN_FLIGHT
    memory = memory or Memory.free(device)
    with prepared(device), single_threaded(in_flight * LARGEST) as pool:
        work = _Work(batches_of(tasks, memory, in_flight), sources, pool, memory, in_flight)
        try:
            work.submit()
            while work.is_going_on:
                outcomes = work.finished()
                work.submit()  # before the outcomes are looked at, so that the device does not wait for that
                yield from outcomes
        finally:
            work.cancel()


class _Work(Generic[K]):
    """Batches that wait, and those at work in the threads of `pool`."""

    def __init__(
        self, waiting: list[Batch[K]], sources: Sources, pool: Executor, memory: Memory, in_flight: int
    ) -> None:
        self.waiting, self.sources, self.pool, self.memory, self.in_flight = waiting, sources, pool, memory, in_flight
        self._running: dict[Future[Measured], tuple[K, Batch[K]]] = {}
        self._short: dict[Batch[K], list[K]] = defaultdict(list)  # what did not fit, by batches at work

    @property
    def is_going_on(self) -> bool:
        """Whether any batch is at work."""
        return bool(self._running)

    def submit(self) -> None:
        """Start batches as long as there are threads and memory."""
        batches = self._batches()
        while len(batches) < self.in_flight and (index := self._next(batches)) is not None:
            batch = self.waiting.pop(index)
            batches.append(batch)
            for member, task in enumerate(batch.tasks):
                self._running[self.pool.submit(batch.measured, member, self.sources)] = task, batch

    def finished(self) -> list[tuple[K, Outcome]]:
        """What is done once anything is, but for what will be tried again. Raises what is no error of one weight."""
        futures, _ = wait(self._running, return_when=FIRST_COMPLETED)
        done = [(*self._running.pop(future), _outcome(future)) for future in futures]
        outcomes = []
        for task, batch, outcome in done:
            if isinstance(outcome, NotEnoughMemory) and not batch.again:
                self._short[batch].append(task)
            else:
                outcomes.append((task, outcome))
        self._halve()
        return outcomes

    def cancel(self) -> None:
        """Let the batches at work end soon."""
        for batch in self._batches():
            batch.lockstep.cancel()

    def _next(self, batches: list[Batch[K]]) -> int | None:
        return next_that_fits(self.waiting, batches, self.memory.device)

    def _batches(self) -> list[Batch[K]]:
        return list(dict.fromkeys(batch for _, batch in self._running.values()))

    def _halve(self) -> None:
        """Put what did not fit into batches of half the size, each to be given all memory."""
        at_work = self._batches()
        for batch in [batch for batch in self._short if batch not in at_work]:
            tasks, size = self._short.pop(batch), max(1, len(batch.tasks) // 2)
            parts = [tasks[start : start + size] for start in range(0, len(tasks), size)]
            self.waiting += [Batch(part, self.memory.device, batch.at_once, again=True) for part in parts]


def _outcome(future: Future[Measured]) -> Outcome:
    """What came of a task. Raises what is not an error of that weight alone."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RunError):
        return error
    raise error
