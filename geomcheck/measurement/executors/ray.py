"""Do tasks on a Ray cluster. Workers get paths and names and read the files themselves: weights are never sent."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Sequence
from types import ModuleType
from typing import Any, TypeVar, cast

import torch
from threadpoolctl import threadpool_limits

from geomcheck.errors import GeomcheckError, RunError, UsageError
from geomcheck.measurement.device import parse_device, prepared
from geomcheck.measurement.executors.opening import Opening, opened
from geomcheck.measurement.machine import keep_freed_memory, processors
from geomcheck.measurement.task import Outcome, Sources, Task

RETRIES = 3
"""How often Ray starts a task again whose worker was lost."""

K = TypeVar("K", bound=Task)


def run_on_ray(tasks: Sequence[K], sources: Sources) -> Generator[tuple[K, Outcome], None, None]:
    """Do `tasks` on the user's cluster: the one at ``RAY_ADDRESS``, one that runs here, or else a local one.

    Each task takes one processor, one thread, and the memory that it needs. Raises UsageError where Ray is not
    installed, or the cluster cannot be reached; RunError where a node does not see the files, or the worker of one task
    was lost again and again.
    """
    if not tasks:
        return
    ray = _connected()
    opening = Opening.of(sources)
    work = ray.remote(max_retries=RETRIES)(_work)
    roomiest = max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"])
    ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting, running = iter(tasks), dict[Any, K]()
    try:
        while True:
            while len(running) < ahead and (task := next(waiting, None)) is not None:
                needs: dict[str, float] = {"num_cpus": 1, "memory": min(task.bytes, roomiest)}
                running[work.options(**needs, num_gpus=int(task.device != "cpu")).remote(task, opening)] = task
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            task = running.pop(done)
            yield task, _outcome(ray, done, task)
    finally:
        for reference in running:
            ray.cancel(reference)


def _work(task: Task, opening: Opening) -> Outcome:
    """In a worker: do one task in one thread. Raises RunError where the files are not here."""
    sources = opened(opening)
    keep_freed_memory()
    torch.set_num_threads(1)
    with prepared(parse_device(task.device)), threadpool_limits(limits=1):
        try:
            return task(sources)
        except RunError as error:
            return error


def _outcome(ray: ModuleType, reference: Any, task: Task) -> Outcome:
    try:
        return cast("Outcome", ray.get(reference))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, GeomcheckError):
            raise RunError(str(error.cause)) from None
        raise
    except ray.exceptions.RayError as error:
        raise RunError(f"{task.name}: its Ray worker was lost {RETRIES + 1} times ({error})") from error


def _connected() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed: pip install 'geomcheck[ray]', or give a number of workers") from None
    if not ray.is_initialized():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # Ray announces its own changes
            try:
                ray.init(address="auto", log_to_driver=False)
            except ConnectionError as error:
                if "RAY_ADDRESS" in os.environ:
                    raise UsageError(f"Ray: no cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']}: {error}") from error
                ray.init(num_cpus=processors(), include_dashboard=False, log_to_driver=False)
    return ray
