"""Measure a run: every request of every weight that the cache does not know the answer to."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence, Set
from contextlib import closing, contextmanager
from dataclasses import replace
from operator import itemgetter
from threading import Timer

from geomcheck._gc import lasting
from geomcheck.checkpoints import BaseWeights, Run
from geomcheck.checkpoints.canonical import is_fp8
from geomcheck.diagnostics import Registry, load_metrics
from geomcheck.diagnostics.formats import FORMATS
from geomcheck.errors import RunError
from geomcheck.files import displayed
from geomcheck.measurement.cache import Cache, Recall
from geomcheck.measurement.content import fingerprint
from geomcheck.measurement.measured import W0, Measured, Snapshot
from geomcheck.measurement.resources import Resources
from geomcheck.measurement.sampler import Sampler
from geomcheck.measurement.soundness import Digests, require_sound
from geomcheck.measurement.task import DigestWeight, MeasureWeight, NotEnoughMemory, Sources
from geomcheck.measurement.watch import Watch
from geomcheck.record import UNKNOWN, Figure, Plan, Point, Record, Request, Row, columns_of, is_trivial
from geomcheck.record.routes import tally
from geomcheck.record.sketches import Sketches

ALWAYS = ("frozen_share", "relative_update_norm")
"""Measured of every weight, requested or not: without them no other figure can be trusted."""

WHERE_INFLATED = "rounding_share"
"""Measured too of a weight of which a figure is requested that rounding inflates."""

BETWEEN_FORMATS = "update_support"
"""Measured too where W0 and the run store a weight in different formats: whether the change is more than that. It is
not recorded then."""

SHARE_OF_ENTRIES = 0.05
"""Share of a weight's time that is spent on metrics which only compare entries, where others are asked for too."""

KEPT = " (what was measured is remembered)"
"""What ends the advice to give more time, where there is a cache."""

Progress = Callable[[int, int], None]
"""Called with (entries measured, entries in all) at the start and whenever a weight is done. One that has a method
`reading` is told of every `Reading`, from the threads that read."""


def measure_record(
    record: Record,
    run: Run,
    base: BaseWeights,
    requests: Plan,
    *,
    reference: Run | None = None,
    resources: Resources | None = None,
    progress: Progress = lambda done, total: None,
    refuse: bool = True,
    sampler: Sampler | None = None,
) -> Digests:
    """Fill `record` (from `survey`) with the requested figures of `run` against `base`.

    Weights are independent: each worker takes one at a time, largest first, reads each of its tensors when it is
    needed and drops it when done. The figures depend neither on the workers nor on the cache. Metrics that only
    compare entries are measured of all weights first, and every other tensor is read, so that a run that cannot be
    what it claims is refused before anything is factorized; at a URL each tensor is read once instead. Ctrl-C leaves
    what was measured in the cache, and the exception with a note that says so.

    Args:
        requests: per weight name, what to measure; what is `beside` it is added.
        reference: a run to compare masks with, at matching progress.
        resources: who works, where, and what is remembered.
        refuse: whether a run that cannot be what it claims raises; else it is measured for a diagnosis, and weights
            that cannot be are `skipped`.
        sampler: who says which weights are measured beyond metrics of entries; by default all are. What was then left
            out of the record is named there.

    Returns:
        The digests of everything that was read; of nothing where nothing was requested.

    Raises:
        RunError: a tensor without requests is not finite, two checkpoints hold the same weights, one is of
            another model than W0, or weights that had moved equal W0 again; or the time was up before the metrics of
            entries were measured.
        UsageError: there is no such device, or no Ray.
    """
    resources = resources or Resources()
    metrics = load_metrics()
    tasks = tasks_of(record, requests, metrics, resources.torch_device)
    if not tasks:
        return {}
    watch = Watch(progress, [point.name for point in record.points], {task.name: task.numel for task in tasks})
    sources = Sources(run, base, reference, resources.cache, reading=watch)
    recall = Recall(resources.cache, sources, metrics, resources.torch_device)
    try:
        with closing(recall):
            if recall.whole(record, tasks):
                total = sum(task.numel for task in tasks)
                progress(total, total)
                _describe(record, {task.name: recall.contents(task.name) for task in tasks}, metrics)
                record.contents = numbered(record, sources, recall.digests)
                record.device = resources.torch_device
                record.notes += require_sound(record, base, recall.digests) if refuse else ()
                _forget_unasked(record, requests, metrics)
                return recall.digests
            remarks: tuple[str, ...] = ()
            find = _find(record, tasks, sources, recall, resources, progress, watch, refuse=refuse, sampler=sampler)
            with _giving_up(sources, sampler), closing(find) as rounds:
                for found in rounds:
                    fill(record, found, metrics, resources.torch_device)
                    remarks = require_sound(record, base, recall.digests) if refuse else ()
            record.notes += remarks
            record.contents = numbered(record, sources, recall.digests)
            record.left_out = _left_out(tasks, found)
            if len(found) == len(tasks) and not record.left_out:
                recall.keep_whole(record)
            _forget_unasked(record, requests, metrics)
            return recall.digests
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(_kept(record.run, tasks, recall, resources.cache))
        raise


def _kept(run: str, tasks: Sequence[MeasureWeight], recall: Recall, cache: Cache) -> str:
    """What an interrupted measurement leaves, in words."""
    if cache.directory is None or not cache.keeps:
        return f"nothing that was measured of {run} is kept, as there is no cache"
    known = recall.look_up(tasks)
    whole = sum(task.without(known[task.name].answers) is None for task in tasks)
    place = displayed(cache.directory)
    return f"{whole} of {len(tasks)} weights of {run} are remembered in {place}; run the same command again to go on"


def fill(record: Record, found: Mapping[str, Measured], metrics: Registry, device: str) -> None:
    """Give `record` the figures that were found, in an order that does not depend on who measured when."""
    record.columns = columns_of(row for name in sorted(found) for row in _rows(record, name, found[name], metrics))
    record.routes = tally(routes for name in sorted(found) for _, routes in sorted(found[name].routes.items()))
    record.sketches = Sketches.of(
        {
            (record.points[index].step, name): kept
            for name in sorted(found)
            for index, kept in sorted(found[name].sketches.items())
        }
    )
    record.device = device
    _describe(record, {name: measured.digests for name, measured in found.items()}, metrics)


def _forget_unasked(record: Record, requests: Plan, metrics: Registry) -> None:
    """Leave out of the record what was measured for its soundness alone."""
    request = Request.of(metrics[BETWEEN_FORMATS], {})
    asked = {name for name, wanted in requests.items() if request in wanted}
    columns = {key: c.of_weights(asked) if key[0] == request else c for key, c in record.columns.items()}
    record.columns = {key: column for key, column in columns.items() if len(column.steps)}
    record.versions = {name: version for name, version in record.versions.items() if name in record.measured_metrics()}


def beside(requests: Set[Request], metrics: Registry) -> frozenset[Request]:
    """What is measured of a weight beside what is requested of it, without which that cannot be trusted."""
    inflated = any(metrics[request.metric].inflated_by_rounding for request in requests)
    return frozenset(Request.of(metrics[name], {}) for name in (*ALWAYS, *[WHERE_INFLATED] * inflated))


@lasting()
def tasks_of(record: Record, requests: Plan, metrics: Registry, device: str) -> list[MeasureWeight]:
    """One task per weight, the largest first; what is `beside` is added to what is requested of it."""
    with_all = {each: each | beside(each, metrics) for each in set(map(frozenset, requests.values()))}
    cast = {Request.of(metrics[BETWEEN_FORMATS], {})}
    all_of = {
        name: with_all[frozenset(requests[name])] | (cast if len(record.weights[name].dtypes) > 1 else set())
        for name in requests.keys() - record.skipped.keys()
    }
    by_point = {each: _by_point(each, record.points, metrics) for each in set(all_of.values())}
    tasks = [
        MeasureWeight(name, record.weights[name].shape, record.points, by_point[each], device)
        for name, each in sorted(all_of.items(), key=itemgetter(0))
    ]
    return sorted(tasks, key=lambda task: -task.numel)


def _by_point(requests: Set[Request], points: Sequence[Point], metrics: Registry) -> tuple[frozenset[Request], ...]:
    """What is to be measured at each checkpoint: not what is fixed there by definition."""
    return tuple(
        frozenset(r for r in requests if not is_trivial(metrics[r.metric], r.parameters(), points, index))
        for index in range(len(points))
    )


def _find(
    record: Record,
    tasks: Sequence[MeasureWeight],
    sources: Sources,
    recall: Recall,
    resources: Resources,
    progress: Progress,
    watch: Watch,
    *,
    refuse: bool,
    sampler: Sampler | None,
) -> Generator[dict[str, Measured], None, None]:
    """What is found of each weight, in the cache or by measuring; yielded after the metrics of entries, unless weights
    come from a URL and all are to be measured, and at the end.

    A weight that does not fit in memory is `skipped`. Raises RunError where a tensor of the run or of W0 cannot be
    read or is not finite, requested or not, if such are refused.
    """
    for probe, contents in resources.execute(recall.probe(tasks), sources):
        if isinstance(contents, Measured):  # measuring says why a weight cannot be digested
            recall.learn(probe.name, contents)
    found = recall.look_up(tasks)
    others = _unmeasured(sources, recall, {task.name for task in tasks})
    left = [left for task in tasks if (left := task.without(found[task.name].answers)) is not None]
    entries_first = sampler is not None or not sources.streamed
    factorized = {task.name for task in left if task.of_entries() != task or not entries_first}
    share = SHARE_OF_ENTRIES if factorized else 1.0
    cost = {task.name: task.numel * (1.0 if task.name in factorized else share) for task in tasks}
    total = sum(cost.values()) + share * sum(other.numel for other in others)
    done = sum(cost.values()) - sum(cost[task.name] for task in left)

    def is_over() -> bool:
        return sampler is not None and (sampler.seconds_left <= 0 or sources.given_up.is_set())

    def require_time() -> None:
        if is_over():
            parts = (task.of_entries() for task in tasks if task.name in found)
            known = [part is None or part.without(found[part.name].answers) is None for part in parts]
            raise RunError(
                f"the time was up when the entries of {sum(known)} of {len(known)} weights were compared, and before "
                f"all are there is no verdict; give more time{KEPT if resources.cache.keeps else ''}"
            )

    def measure(some: Sequence[MeasureWeight], share: float, into: Mapping[str, Measured] = found) -> None:
        nonlocal done
        watch.share = share
        with closing(resources.execute(some, sources)) as outcomes:
            for task, outcome in outcomes:
                if isinstance(outcome, RunError) and is_over():
                    break  # it was given up
                if isinstance(outcome, NotEnoughMemory) or (isinstance(outcome, RunError) and not refuse):
                    record.skipped[task.name] = str(outcome)
                    del found[task.name]
                elif isinstance(outcome, RunError):
                    raise RunError(f"{task.name} cannot be measured: {outcome}") from outcome
                else:
                    recall.keep(task, outcome)
                    into[task.name].update(outcome)
                done += share * task.numel
                progress(int(done), int(total))
                if sampler is not None:
                    sampler.look(task.name)
                    if sampler.done or is_over():
                        sources.given_up.set()
                        break
        record.skipped = dict(sorted(record.skipped.items()))

    progress(int(done), int(total))
    if entries_first:
        measure([part for task in left if (part := task.of_entries()) is not None], share)
    for other, outcome in resources.execute(others, sources):
        require_time()
        if isinstance(outcome, Measured):
            recall.learn(other.name, outcome)
        elif refuse:
            raise outcome
        else:
            record.skipped[other.name] = str(outcome)
        done += share * other.numel
        progress(int(done), int(total))
    require_time()
    if entries_first:
        yield found
    if sampler is None:
        rest = (task.without(found[task.name].answers) for task in left if task.name in found)
        measure([task for task in rest if task is not None], 1 - share if entries_first else 1.0)
    else:
        by_name = {task.name: task for task in tasks if task.name in found}
        sampler.begin(record, _content(recall.digests), by_name, found)
        limits: dict[str, Measured] = {}
        while True:
            if limiting := sampler.limiting():
                limited = [
                    replace(by_name[name], requests=_by_point(requests, record.points, load_metrics()))
                    for name, requests in limiting.items()
                ]
                limits = {**recall.look_up(limited), **limits}
                rest = (task.without(limits[task.name].answers) for task in limited)
                measure([task for task in rest if task is not None], 0.0, limits)
                sampler.limited(limits)
            if not (wanted := sampler.wanted()):
                break
            parts = [task.of(wanted[task.name]) for task in tasks if task.name in wanted]
            rest = (part.without(found[part.name].answers) for part in parts if part is not None)
            measure([task for task in rest if task is not None], 1 - share)
    progress(int(total), int(total))
    yield found


def _left_out(tasks: Sequence[MeasureWeight], found: Mapping[str, Measured]) -> tuple[str, ...]:
    """The weights of which something was not measured that was asked for."""
    known = (task for task in tasks if task.name in found)
    return tuple(sorted(task.name for task in known if task.without(found[task.name].answers) is not None))


def _content(digests: Mapping[Snapshot, Mapping[str, str]]) -> str:
    """A digest of every weight of a run and of W0."""
    own = {snapshot: held for snapshot, held in digests.items() if snapshot[0] != "reference"}
    return fingerprint(
        {f"{snapshot} {name}": digest for snapshot, held in own.items() for name, digest in held.items()}
    )


@contextmanager
def _giving_up(sources: Sources, sampler: Sampler | None) -> Iterator[None]:
    """Let tasks at work end at their next checkpoint once the time is up."""
    if sampler is None:
        yield
        return
    timer = Timer(max(0.0, sampler.seconds_left), sources.given_up.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _unmeasured(sources: Sources, recall: Recall, measured: Collection[str]) -> list[DigestWeight]:
    """What is to be read of W0 and of every checkpoint beside the `measured` weights, as each entry must be finite; the
    largest first. What lies in files that have not changed since it was found to be finite is not read again."""
    snapshots: dict[str, list[Snapshot]] = {}
    sizes: dict[str, int] = {}
    for snapshot, weights in sources.stored.items():
        for name, stored in weights.items() if snapshot[0] != "reference" else ():
            floating = stored.dtype in FORMATS or is_fp8(stored)
            lent = snapshot != W0 and stored is sources.stored[W0].get(name)  # an adapter leaves it as it is in W0
            if name not in measured and floating and not lent and not recall.knows(name, snapshot):
                snapshots.setdefault(name, []).append(snapshot)
                sizes[name] = max(math.prod(stored.shape), sizes.get(name, 0))
    tasks = [DigestWeight(name, sizes[name], tuple(held)) for name, held in snapshots.items()]
    return sorted(tasks, key=lambda task: (-task.numel, task.name))


def numbered(
    record: Record, sources: Sources, digests: Mapping[Snapshot, Mapping[str, str]]
) -> dict[str, tuple[int, ...]]:
    """`Record.contents`: the digests as small numbers, but of what an adapter leaves as it is in W0."""
    numbers: dict[str, int] = {}
    contents = {}
    before = sources.stored[W0]
    for where, snapshot in _snapshots(record).items():
        held = sources.stored[snapshot]
        own = {n: d for n, d in digests[snapshot].items() if snapshot == W0 or held.get(n) is not before.get(n)}
        contents[where] = tuple(
            numbers.setdefault(own[name], len(numbers)) if name in own else UNKNOWN for name in record.weights
        )
    return contents


def _snapshots(record: Record) -> dict[str, Snapshot]:
    return {"W0": W0} | {point.name: ("run", i) for i, point in enumerate(record.points)}


def _rows(record: Record, name: str, measured: Measured, metrics: Registry) -> Iterator[Row]:
    """The figures of one weight."""
    for (index, request), answer in sorted(measured.answers.items(), key=lambda item: item[0]):
        if isinstance(answer, str):
            figures = {stat: Figure(undefined=answer) for stat in metrics[request.metric].stats}
        else:
            figures = {stat: Figure(value) for stat, value in answer.items()}
        for stat, figure in figures.items():
            yield Row(record.points[index].step, name, request, stat, figure)


def _describe(record: Record, digests: Mapping[str, Mapping[Snapshot, str]], metrics: Registry) -> None:
    """Note which weights, by content, and which definitions the figures come from."""
    for where, snapshot in _snapshots(record).items():
        record.fingerprints[where] = fingerprint({name: found[snapshot] for name, found in digests.items()})
    record.w0 = {name: found[W0] for name, found in digests.items()}
    record.versions = {name: metrics[name].version for name in sorted(record.measured_metrics())}
