"""Workers that do the tasks: threads of this process, batches on a GPU, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal, TypeVar, cast

from geomcheck.measurement.executors.batches import run_in_batches
from geomcheck.measurement.executors.local import run_locally
from geomcheck.measurement.task import Outcome, Sources, Task

__all__ = ["Workers", "execute"]

Workers = int | Literal["ray"] | None

K = TypeVar("K", bound=Task)


def execute(tasks: Sequence[K], sources: Sources, *, workers: Workers) -> Generator[tuple[K, Outcome], None, None]:
    """Do `tasks`, given the largest first; yields each with its outcome as soon as it is done, in any order.

    Ctrl-C gives up what is at work without waiting for it; threads end with the checkpoint that each is at.

    Args:
        workers: a number of local workers, by default one per processor as memory allows; where a GPU computes, the
            number of batches of weights that are measured at the same time, by default two; or ``ray``.

    Raises:
        UsageError: Ray is not installed.
        RunError: workers elsewhere do not see the files. An error in one weight is its outcome instead.
    """
    if workers == "ray":
        from geomcheck.measurement.executors.ray import run_on_ray

        return run_on_ray(tasks, sources)
    if any(task.device != "cpu" for task in tasks):
        return run_in_batches(cast("Sequence[Any]", tasks), sources, in_flight=workers)  # only weights have a device
    return run_locally(tasks, sources, workers=workers)
