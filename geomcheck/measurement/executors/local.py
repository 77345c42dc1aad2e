"""Do tasks in threads of this process, as many at a time as processors and memory allow."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch
from threadpoolctl import threadpool_limits

import geomcheck.measurement.trajectory  # noqa: F401  (what tasks need is imported before threads ask for it)
from geomcheck.errors import RunError
from geomcheck.measurement.device import prepared
from geomcheck.measurement.machine import available_memory, keep_freed_memory, processors
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import Outcome, Sources, Task

K = TypeVar("K", bound=Task)

MEMORY_SHARE = 0.5
"""Share of the available memory that running tasks may take."""


class Needs(Protocol):
    """Something that needs memory while it is done."""

    @property
    def bytes(self) -> int:
        """Bytes at the peak."""
        ...


def run_locally(
    tasks: Sequence[K], sources: Sources, *, workers: int | None = None, budget: int | None = None
) -> Iterator[tuple[K, Outcome]]:
    """Do `tasks` in single-threaded workers.

    Args:
        tasks: the largest first.
        workers: by default one per processor.
        budget: bytes that running tasks may need together; a task that needs more runs alone. By default half of
            what is available.
    """
    budget = int(MEMORY_SHARE * available_memory()) if budget is None else budget
    workers = workers or processors()
    waiting, running = list(tasks), dict[Future[Measured], K]()

    def submit() -> None:
        while len(running) < workers and (index := next_that_fits(waiting, running.values(), budget)) is not None:
            task = waiting.pop(index)
            running[pool.submit(task, sources)] = task

    with prepared(torch.device("cpu")), single_threaded(workers) as pool:
        submit()
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            done = {future: running.pop(future) for future in finished}
            submit()  # before the outcomes are looked at, so that no worker waits for that
            for future, task in done.items():
                error = future.exception()
                if error is not None and not isinstance(error, RunError):
                    raise error
                yield task, error if isinstance(error, RunError) else future.result()


def next_that_fits(waiting: Sequence[Needs], running: Collection[Needs], budget: int) -> int | None:
    """Index of the first of `waiting` that fits in memory beside those that run; if none runs, of the first of all."""
    left = budget - sum(task.bytes for task in running)
    fits = (index for index, task in enumerate(waiting) if task.bytes <= left)
    return next(fits, 0 if waiting and not running else None)


@contextmanager
def single_threaded(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose tensor operations are single-threaded: N of them beat N threads inside one operation, and
    results cannot depend on their number."""
    keep_freed_memory()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "geomcheck", initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(limits=1):
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
