"""Do tasks on a GPU: weights of one shape are measured together, in lockstep, so that their factorizations fill it.

Two batches are at work at a time: while one computes, the other reads its files and copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import torch

from geomcheck._compat import cached_property
from geomcheck.diagnostics.linalg.lockstep import Lockstep
from geomcheck.measurement.device import free_memory, parse_device, prepared
from geomcheck.measurement.executors.local import MEMORY_SHARE, Work, single_threaded
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
        short: those of them for which there was not enough memory.
    """

    tasks: Sequence[K]
    bytes: int
    at_once: int
    again: bool = False
    short: list[K] = field(default_factory=list)

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
) -> Generator[tuple[K, Outcome], None, None]:
    """Do `tasks` in batches of equal shape, each task in a thread of its own.

    Weights for which the device has not enough memory are tried once more, in batches of half the size with nothing
    beside them. The tasks come with the largest first, all for one device; `in_flight` batches are at work at a time,
    and take `memory`: by default most of what is free on the device, and half of the host's.
    """
    if not tasks:
        return
    device = parse_device(tasks[0].device)
    in_flight = in_flight or IN_FLIGHT
    memory = memory or Memory.free(device)
    with prepared(device), single_threaded(in_flight * LARGEST, sources.given_up) as pool:
        work = _Batches(pool, batches_of(tasks, memory, in_flight), partial(_calls, sources), in_flight, memory.device)
        try:
            yield from work.outcomes()
        finally:
            for batch in work.at_work:
                batch.lockstep.cancel()


def _calls(sources: Sources, batch: Batch[K]) -> Iterator[tuple[K, Callable[[], Measured]]]:
    return ((task, partial(batch.measured, index, sources)) for index, task in enumerate(batch.tasks))


class _Batches(Work[Batch[K], K]):
    """Batches; what does not fit into one is put into batches of half the size, each to be given all memory."""

    def settled(self, done: list[tuple[Batch[K], K, Outcome]]) -> list[tuple[K, Outcome]]:
        """The outcomes but for what will be tried again."""
        outcomes = []
        for batch, task, outcome in done:
            if isinstance(outcome, NotEnoughMemory) and not batch.again:
                batch.short.append(task)
            else:
                outcomes.append((task, outcome))
        at_work = self.at_work
        for batch in dict.fromkeys(batch for batch, _, _ in done if batch not in at_work):
            size = max(1, len(batch.tasks) // 2)
            parts = [batch.short[start : start + size] for start in range(0, len(batch.short), size)]
            self.waiting += [Batch(part, self.budget, batch.at_once, again=True) for part in parts]
        return outcomes
