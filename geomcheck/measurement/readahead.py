"""Read the next checkpoint of a weight from disk while the figures of one are computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")

Read = Callable[[], T]


@contextmanager
def reading_ahead(reads: Sequence[Read[T]], order: Sequence[int]) -> Iterator[list[Read[T]]]:
    """`reads`, each of which also starts the one that follows it in `order`, in a thread of its own.

    One is read ahead at most, and raises when its turn comes. What is read out of turn, or once more, is read as it is.
    """
    following = dict(pairwise(order))
    ahead: dict[int, Future[T]] = {}

    def read(index: int) -> T:
        future = ahead.pop(index, None)
        found = reads[index]() if future is None else future.result()
        after = following.pop(index, None)
        if after is not None:
            ahead[after] = pool.submit(reads[after])
        return found

    pool = ThreadPoolExecutor(1, "geomcheck-reads", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield [partial(read, index) for index in range(len(reads))]
    finally:
        pool.shutdown(cancel_futures=True)
