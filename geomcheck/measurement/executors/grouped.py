"""On a GPU: weights of one shape are measured together, in lockstep, so that their factorizations fill the device.

Two groups are at work at a time: while one computes, the other reads its files and copies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from geomcheck.diagnostics.linalg.lockstep import Lockstep
from geomcheck.errors import RunError
from geomcheck.lazy import cached_property
from geomcheck.measurement.device import free_memory, parse_device, prepared
from geomcheck.measurement.executors.local import MEMORY_SHARE, next_that_fits, single_threaded
from geomcheck.measurement.machine import available_memory, processors
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import MeasureWeight, NotEnoughMemory, Outcome, Sources

K = TypeVar("K", bound=MeasureWeight)

LARGEST = 32
"""Weights in a group: more do not make a device busier."""

IN_FLIGHT = 2
"""Groups at work."""

DEVICE_SHARE = 0.8
"""Share of the device's free memory that weights at work may take."""


@dataclass(frozen=True)
class Memory:
    """Bytes that all groups at work may take together, on the device and on the host."""

    device: int
    host: int

    @classmethod
    def free(cls, device: torch.device) -> Memory:
        """What there is now."""
        return cls(int(DEVICE_SHARE * free_memory(device)), int(MEMORY_SHARE * available_memory()))


@dataclass(frozen=True, eq=False)
class Group(Generic[K]):
    """Weights that are measured together.

    Attributes:
        tasks: of one shape.
        bytes: what they need on the device.
        again: whether they did not fit into a larger group.
    """

    tasks: Sequence[K]
    bytes: int
    again: bool = False

    def __post_init__(self) -> None:
        _ = self.lockstep  # before threads ask for it

    @cached_property
    def lockstep(self) -> Lockstep:
        """What they share while they are at work."""
        return Lockstep(len(self.tasks), at_once=max(1, processors() // IN_FLIGHT))

    def measured(self, index: int, sources: Sources) -> Measured:
        """Do one of the tasks; the others must be done at the same time. Raises RunError."""
        with self.lockstep.member(index):
            return self.tasks[index](sources)


def groups_of(tasks: Iterable[K], memory: Memory, in_flight: int) -> list[Group[K]]:
    """Groups of equal shape and nearly equal size, as few as memory allows, in the order of their first tasks."""
    by_shape: dict[tuple[int, ...], list[K]] = defaultdict(list)
    for task in tasks:
        by_shape[task.shape].append(task)
    return [group for alike in by_shape.values() for group in _split(alike, _most(alike[0], memory, in_flight))]


def _most(task: MeasureWeight, memory: Memory, in_flight: int) -> int:
    """How many such tasks a group may have."""
    fitting = min(memory.device // task.bytes, memory.host // task.host_bytes) // in_flight
    return max(1, min(LARGEST, fitting))


def _split(alike: Sequence[K], most: int) -> Iterator[Group[K]]:
    count = -(-len(alike) // most)
    for index in range(count):
        part = alike[index * len(alike) // count : (index + 1) * len(alike) // count]
        yield Group(part, sum(task.bytes for task in part))


def run_in_groups(
    tasks: Sequence[K], sources: Sources, *, in_flight: int | None = None, memory: Memory | None = None
) -> Iterator[tuple[K, Outcome]]:
    """Do `tasks` in groups of equal shape, each task in a thread of its own.

    Weights for which the device has not enough memory are tried once more, in groups of half the size with nothing
    beside them.

    Args:
        tasks: the largest first, all for one device.
        in_flight: how many groups are at work at a time.
        memory: what they may take. By default most of what is free on the device, and half of the host's.
    """
    if not tasks:
        return
    device = parse_device(tasks[0].device)
    in_flight = in_flight or IN_FLIGHT
    memory = memory or Memory.free(device)
    waiting = groups_of(tasks, memory, in_flight)
    running: dict[Future[Measured], tuple[K, Group[K]]] = {}
    short: dict[Group[K], list[K]] = defaultdict(list)

    def submit() -> None:
        at_work = _groups(running)
        while len(at_work) < in_flight and (index := next_that_fits(waiting, at_work, memory.device)) is not None:
            group = waiting.pop(index)
            at_work.append(group)
            for member, task in enumerate(group.tasks):
                running[pool.submit(group.measured, member, sources)] = task, group

    with prepared(device), single_threaded(in_flight * LARGEST) as pool:
        try:
            submit()
            while running:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                done = [(*running.pop(future), _outcome(future)) for future in finished]
                for task, group, outcome in done:
                    if isinstance(outcome, NotEnoughMemory) and not group.again:
                        short[group].append(task)
                for group in [group for group in short if group not in _groups(running)]:
                    waiting += _halved(group, short.pop(group), memory)
                submit()  # before the outcomes are looked at, so that the device does not wait for that
                for task, group, outcome in done:
                    if group.again or not isinstance(outcome, NotEnoughMemory):
                        yield task, outcome
        finally:
            for group in _groups(running):
                group.lockstep.cancel()


def _groups(running: dict[Future[Measured], tuple[K, Group[K]]]) -> list[Group[K]]:
    return list({id(group): group for _, group in running.values()}.values())


def _halved(group: Group[K], tasks: Sequence[K], memory: Memory) -> list[Group[K]]:
    """What did not fit, in groups of half the size, each of which is given all memory."""
    size = max(1, len(group.tasks) // 2)
    return [Group(tasks[start : start + size], memory.device, again=True) for start in range(0, len(tasks), size)]


def _outcome(future: Future[Measured]) -> Outcome:
    """What came of a task. Raises what is not an error of that weight alone."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RunError):
        return error
    raise error
