"""Measuring a run: every requested figure of every weight, streamed through local workers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from statistics import median

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from geomcheck.checkpoints import BaseModel, Change, Run
from geomcheck.diagnostics import Registry, load_metrics
from geomcheck.diagnostics.storage import DTYPE_NAMES
from geomcheck.errors import RunError, Undefined
from geomcheck.measurement.places import matches, nearest
from geomcheck.measurement.record import Record, Row
from geomcheck.measurement.request import Plan, Request
from geomcheck.measurement.trajectory import ANOTHER_MODEL, WeightFiles, measure_weight

ALWAYS = ("frozen_share", "rounding_share", "relative_update_norm")
"""Measured of every weight, asked for or not: without them no other figure can be trusted."""

WORKING_COPIES = 12
"""Float64 copies of a weight that its measurement holds at its peak."""

Measured = tuple[list[Row], list[str]]
Task = Callable[[], Measured]

Progress = Callable[[int, int], None]
"""Called with (entries measured, entries in all) at the start and whenever a weight is done."""


def measure_record(
    record: Record,
    run: Run,
    base: BaseModel,
    requests: Plan,
    *,
    reference: Run | None = None,
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> None:
    """Fill `record` (from `survey`) with the requested figures of `run` against `base`.

    Weights are independent: each worker takes one at a time, largest first, reads each of its tensors when
    it is needed and drops it when done. The figures do not depend on the number of workers.

    Args:
        requests: per weight name, what to measure; `ALWAYS` is added.
        reference: a run to compare masks with, at matching progress.
        workers: single-threaded workers; by default as many as processors and memory allow.

    Raises:
        RunError: two checkpoints hold the same weights, or one is of another model than W0.
    """
    names = sorted(requests.keys() - record.skipped.keys(), key=lambda name: (-record.weights[name].numel, name))
    if not names:
        return
    metrics = load_metrics()
    always = {Request.of(metrics[name], {}) for name in ALWAYS}
    tasks = {
        name: partial(
            measure_weight,
            _files(name, record, run, base, reference),
            record.points,
            requests[name] | always,
            metrics,
        )
        for name in names
    }
    workers = workers or default_workers(record.weights[names[0]].numel)
    digests = _collect(record, tasks, workers, progress)
    _describe(record, digests, metrics)
    _require_distinct(record)
    _require_same_model(record, base)


def _collect(record: Record, tasks: Mapping[str, Task], workers: int, progress: Progress) -> dict[str, list[str]]:
    """Run the tasks and add their rows to `record`; returns the digests of the weights that were measured."""
    total = sum(record.weights[name].numel for name in tasks)
    done, digests = 0, {}
    progress(done, total)
    with _pool(workers) as pool:
        for name, outcome in _completed(pool, tasks, ahead=2 * workers):
            if isinstance(outcome, RunError):
                record.skipped[name] = str(outcome)
            else:
                rows, digests[name] = outcome
                for row in rows:
                    record.add(row)
            done += record.weights[name].numel
            progress(done, total)
    return digests


def default_workers(largest: int) -> int:
    """One worker per processor, as long as half of the free memory holds their largest weights."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 1
    return max(1, min(processors, free // 2 // (WORKING_COPIES * 8 * largest)))


def _files(name: str, record: Record, run: Run, base: BaseModel, reference: Run | None) -> WeightFiles:
    return WeightFiles(
        name,
        base=partial(base.source.read, name),
        checkpoints=[partial(checkpoint.source.read, name) for checkpoint in run.checkpoints],
        reference=partial(_read_reference, name, record, reference) if reference else None,
    )


def _read_reference(name: str, record: Record, reference: Run, index: int) -> Tensor | Change:
    """The reference's weight at the progress nearest to that of checkpoint `index`. Raises Undefined."""
    point = record.points[index]
    match = nearest(reference.checkpoints, point.progress)
    if not matches(match, point.progress):
        raise Undefined(
            f"the reference has no checkpoint near {point.progress:.0%} of training: "
            f"the nearest is {match.name} at {match.progress:.0%}"
        )
    stored = match.source.weights.get(name)
    if stored is None or stored.dtype not in DTYPE_NAMES.values() or stored.shape != record.weights[name].shape:
        raise Undefined(f"the reference's {match.name} has no such weight of shape {record.weights[name].shape}")
    return match.source.read(name)


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose tensor operations are single-threaded: N of them beat N threads inside one operation, and
    results cannot depend on their number."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "geomcheck", initializer=torch.set_num_threads, initargs=(1,))
    with threadpool_limits(limits=1):
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)


def _completed(
    pool: ThreadPoolExecutor, tasks: Mapping[str, Task], *, ahead: int
) -> Iterator[tuple[str, Measured | RunError]]:
    """(name, outcome) as tasks finish; at most `ahead` are submitted at a time."""
    waiting = iter(tasks.items())
    running: dict[Future[Measured], str] = {}
    while True:
        while len(running) < ahead and (task := next(waiting, None)) is not None:
            running[pool.submit(task[1])] = task[0]
        if not running:
            return
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            name = running.pop(future)
            error = future.exception()
            if error is not None and not isinstance(error, RunError):
                raise error
            yield name, error if isinstance(error, RunError) else future.result()


def _describe(record: Record, digests: Mapping[str, list[str]], metrics: Registry) -> None:
    """Note which weights, by content, and which definitions the figures come from."""
    places = ["W0", *(point.name for point in record.points)]
    for index, place in enumerate(places):
        content = hashlib.blake2b(digest_size=16)
        for name in sorted(digests):
            content.update(f"{name}={digests[name][index]}\n".encode())
        record.fingerprints[place] = content.hexdigest()
    record.versions.update({name: metrics[name].version for name in record.measured_metrics()})


def _require_distinct(record: Record) -> None:
    """Refuse checkpoints with the same weights: comparing them says nothing, and one was likely copied."""
    seen: dict[str, str] = {record.fingerprints["W0"]: ""}
    for point in record.points:
        twin = seen.setdefault(record.fingerprints[point.name], point.name)
        if twin not in ("", point.name):
            raise RunError(f"{twin} and {point.name} hold the same weights: one is a copy, or training stood still")


def _require_same_model(record: Record, base: BaseModel) -> None:
    """Refuse a W0, or a checkpoint, that must be of another model."""
    if not record.measured_weights():
        return
    figures = record.figures(Request.of(load_metrics()["relative_update_norm"], {}), "value")
    for point in record.points:
        norms = [f.value for (step, _), f in figures.items() if step == point.step and f.value is not None]
        if norms and median(norms) >= ANOTHER_MODEL:
            raise RunError(
                f"W0 ({base.source.path}, {base.how}) and {point.name} are different models: half of the weights "
                f"differ by {median(norms):.2f} times their own norm or more. Give the model that this run started from"
            )
