"""Who does the tasks: threads of this process, or the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

from geomcheck.measurement.executors.local import run_locally
from geomcheck.measurement.task import Outcome, Sources, Task

__all__ = ["Workers", "execute"]

Workers = int | Literal["ray"] | None

K = TypeVar("K", bound=Task)


def execute(tasks: Sequence[K], sources: Sources, *, workers: Workers) -> Iterator[tuple[K, Outcome]]:
    """Do `tasks`, given the largest first; yields each with its outcome as soon as it is done, in any order.

    Args:
        workers: a number of local workers, by default one per processor as memory allows; or ``ray``.

    Raises:
        UsageError: Ray is not installed.
        RunError: workers elsewhere do not see the files. An error in one weight is its outcome instead.
    """
    if workers == "ray":
        from geomcheck.measurement.executors.ray import run_on_ray

        return run_on_ray(tasks, sources)
    return run_locally(tasks, sources, workers=workers)
