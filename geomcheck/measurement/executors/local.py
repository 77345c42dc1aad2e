"""Do tasks in threads of this process, as many at a time as processors and memory allow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Generic, Protocol, TypeVar

import torch
from threadpoolctl import threadpool_limits

import geomcheck.measurement.trajectory  # noqa: F401  (what tasks need is imported before threads ask for it)
from geomcheck.errors import RunError
from geomcheck.measurement.device import prepared
from geomcheck.measurement.machine import available_memory, keep_freed_memory, processors
from geomcheck.measurement.measured import Measured
from geomcheck.measurement.task import Outcome, Sources, Task

MEMORY_SHARE = 0.5
"""Share of the available memory that running tasks may take."""


class Needs(Protocol):
    """Something that needs memory while it is done."""

    @property
    def bytes(self) -> int:
        """Bytes at the peak."""


U = TypeVar("U", bound=Needs)
K = TypeVar("K", bound=Task)


def run_locally(
    tasks: Sequence[K], sources: Sources, *, workers: int | None = None, budget: int | None = None
) -> Generator[tuple[K, Outcome], None, None]:
    """Do `tasks`, given the largest first, in single-threaded workers, by default one per processor. Running tasks may
    need `budget` bytes together, by default half of what is available; a task that needs more runs alone."""
    budget = int(MEMORY_SHARE * available_memory()) if budget is None else budget
    workers = workers or processors()
    with prepared(torch.device("cpu")), single_threaded(workers, sources.given_up) as pool:
        yield from Work(pool, tasks, lambda task: [(task, partial(task, sources))], workers, budget).outcomes()


class Work(Generic[U, K]):
    """Units that wait, and those at work in the threads of a pool: `most` of them, of `budget` bytes together. A unit
    is a task, or several that go together: `calls` gives its tasks, and what does each of them."""

    def __init__(
        self,
        pool: Executor,
        waiting: Iterable[U],
        calls: Callable[[U], Iterable[tuple[K, Callable[[], Measured]]]],
        most: int,
        budget: int,
    ) -> None:
        self.waiting = list(waiting)
        self.budget = budget
        self._pool, self._calls, self._most = pool, calls, most
        self._running: dict[Future[Measured], tuple[U, K]] = {}

    @property
    def at_work(self) -> list[U]:
        """The units of which some task is not done yet."""
        return list({id(unit): unit for unit, _ in self._running.values()}.values())

    def outcomes(self) -> Iterator[tuple[K, Outcome]]:
        """Each task with its outcome, as soon as it is done. Raises what is no error of one weight."""
        self._submit()
        while self._running:
            futures, _ = wait(self._running, return_when=FIRST_COMPLETED)
            done = self.settled([(*self._running.pop(future), _outcome(future)) for future in futures])
            self._submit()  # before the outcomes are looked at, so that nobody waits for that
            yield from done

    def settled(self, done: list[tuple[U, K, Outcome]]) -> list[tuple[K, Outcome]]:
        """The outcomes that count: here all of them."""
        return [(task, outcome) for _, task, outcome in done]

    def _submit(self) -> None:
        """Start units as long as there are threads and memory."""
        units = self.at_work
        while len(units) < self._most and (index := next_that_fits(self.waiting, units, self.budget)) is not None:
            units.append(self.waiting.pop(index))
            self._running |= {self._pool.submit(call): (units[-1], task) for task, call in self._calls(units[-1])}


def _outcome(future: Future[Measured]) -> Outcome:
    """What came of a task. Raises what is not an error of that weight alone."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, RunError):
        return error
    raise error


def next_that_fits(waiting: Sequence[Needs], running: Collection[Needs], budget: int) -> int | None:
    """Index of the first of `waiting` that fits in memory beside those that run; if none runs, of the first of all."""
    left = budget - sum(task.bytes for task in running)
    fits = (index for index, task in enumerate(waiting) if task.bytes <= left)
    return next(fits, 0 if waiting and not running else None)


@contextmanager
def single_threaded(workers: int, given_up: Event) -> Iterator[ThreadPoolExecutor]:
    """Threads whose tensor operations are single-threaded: N of them beat N threads inside one operation, and
    results cannot depend on their number. An interrupt does not wait for what they are at: it is `given_up`."""
    keep_freed_memory()
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "geomcheck", initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(limits=1):
        try:
            yield pool
        except KeyboardInterrupt:
            given_up.set()
            raise
        finally:
            pool.shutdown(wait=not given_up.is_set(), cancel_futures=True)
            torch.set_num_threads(threads)
